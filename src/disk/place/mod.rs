//! Placement: executes a [`Plan`] so that a reader of a public name sees the old file or the new one, whole.
//!
//! Each temporary file lies in the folder of its target, so a rename is one step of one file system. A target that is
//! a symlink stays one: what it points to is replaced. The permissions of a replaced file are kept, its owner too
//! where we may; extended attributes and access lists are not. Every step can be repeated, so a placement that was
//! stopped anywhere is simply done again. Not promised: that two *different* names change in the same instant.

mod target;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, FileTimes},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub use target::PlaceFault;
use target::{Resolved, resolve};

use super::{dirs::sync_folder, drive::reach, rename::insist};
use crate::{
    domain::{
        moment::WallTime,
        placement::{Plan, PublicName, Step, TEMPORARY_PREFIX, TEMPORARY_SUFFIX},
        product::Kind,
    },
    failpoint::{self, Point},
};

/// How a placement went.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed {
    /// Every name shows its artifact, durably. These are the files behind the names, in the plan's order.
    All(Vec<PathBuf>),
    /// The observer stopped it; temporary files lie where a crash would leave them.
    Stopped,
}

/// Executes a plan of the project in `root`, whose folder must be there: what lies below it is made
/// where it is missing, the root itself never. `observer` hears of each step when it is done and
/// may stop the placement there, as a crash would. After a fault no temporary file is left, and
/// names that were shown already stay.
pub fn place(
    plan: &Plan,
    root: &Path,
    observer: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Placed, PlaceFault> {
    let mut work = Work { root, written: Vec::new() };
    for step in &plan.steps {
        work.perform(plan, *step)?;
        if observer(*step).is_break() {
            work.written.clear();
            return Ok(Placed::Stopped);
        }
    }
    Ok(Placed::All(work.written.iter().map(|written| written.resolved.path()).collect()))
}

/// Replaces one public file by `bytes` under the same promises: whole, durable, permissions kept, symlinks followed.
/// `path` is absolute; `unique` tells writers of the same file apart and becomes part of the temporary name.
pub fn replace(path: &Path, root: &Path, bytes: &[u8], unique: &str) -> Result<(), PlaceFault> {
    replace_if(path, root, bytes, unique, || true).map(drop)
}

/// Replaces one public file as [`replace`] does, if `still` agrees when everything but the rename is done: the last look of a
/// writer who shares the file with others. Returns whether it was replaced.
pub fn replace_if(
    path: &Path,
    root: &Path,
    bytes: &[u8],
    unique: &str,
    still: impl FnMut() -> bool,
) -> Result<bool, PlaceFault> {
    let resolved = resolve(path, root)?;
    let temporary = format!("{TEMPORARY_PREFIX}{unique}{TEMPORARY_SUFFIX}");
    let mut written = Written::begin(resolved, &temporary)?;
    let finished = io::Write::write_all(&mut written.file, bytes)
        .map_err(written.fault())
        .and_then(|()| written.settle(None))
        .and_then(|()| written.show_if(still));
    if !matches!(finished, Ok(true)) {
        written.discard();
    }
    if finished? {
        sync(&written.resolved.folder)?;
        return Ok(true);
    }
    Ok(false)
}

/// The temporary files so far, in the plan's order. Those that were not shown are removed when it is dropped.
struct Work<'a> {
    root: &'a Path,
    written: Vec<Written>,
}

impl Work<'_> {
    fn perform(&mut self, plan: &Plan, step: Step) -> Result<(), PlaceFault> {
        match step {
            Step::Write(number) => {
                if let Some(name) = plan.names.get(number) {
                    let written = failpoint::around(Point::PlaceWrite, || write(name, self.root))?;
                    self.written.push(written);
                }
            }
            // `plan` writes the names in order, so the numbers are the same.
            Step::Show(number) => {
                let kind = plan.names.get(number).map(|name| name.kind);
                let point = match kind {
                    Some(Kind::Image) => Point::PlaceImage,
                    Some(Kind::Mesh) | None => Point::PlaceMesh,
                };
                if let Some(written) = self.written.get_mut(number) {
                    failpoint::around(point, || written.show())?;
                }
            }
            Step::SyncFolders => {
                let mut folders: Vec<_> =
                    self.written.iter().map(|written| &written.resolved.folder).collect();
                folders.sort_unstable();
                folders.dedup();
                folders.into_iter().try_for_each(|folder| {
                    failpoint::around(Point::PlaceFolder, || sync(folder))
                })?;
            }
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.written.iter_mut().for_each(Written::discard);
    }
}

/// A temporary file beside its target.
struct Written {
    file: File,
    temporary: PathBuf,
    resolved: Resolved,
    shown: bool,
}

impl Written {
    fn begin(resolved: Resolved, temporary: &str) -> Result<Self, PlaceFault> {
        let temporary = resolved.folder.join(temporary);
        let fault = |error| PlaceFault::of_target(&temporary, error);
        reach(&temporary);
        // What a crash left under this name is ours. `create_new` refuses everything else that may stand there,
        // a symlink above all.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
        let file = options.open(&temporary).map_err(fault)?;
        Ok(Self { file, temporary, resolved, shown: false })
    }

    /// Returns how errors of this file are told: by the name that a person knows.
    fn fault(&self) -> impl Fn(io::Error) -> PlaceFault + use<> {
        let public = self.resolved.path();
        move |error| PlaceFault::of_target(&public, error)
    }

    /// Gives the file its permissions and time, and makes its content durable.
    fn settle(&self, modified: Option<WallTime>) -> Result<(), PlaceFault> {
        let (file, fault) = (&self.file, self.fault());
        if let Some(replaced) = &self.resolved.replaced {
            imp::before(file, replaced);
        }
        if let Some(time) = modified.and_then(system_time) {
            file.set_times(FileTimes::new().set_modified(time)).map_err(&fault)?;
        }
        failpoint::around(Point::PlaceSync, || file.sync_all()).map_err(&fault)
    }

    fn show(&mut self) -> Result<(), PlaceFault> {
        self.show_if(|| true).map(drop)
    }

    /// Asks `still` right before each try: whoever made the first one fail may have written.
    fn show_if(&mut self, mut still: impl FnMut() -> bool) -> Result<bool, PlaceFault> {
        let public = self.resolved.path();
        let replaced = self.resolved.replaced.as_ref();
        reach(&public);
        imp::make_way(&public, replaced);
        let renamed = insist(|| {
            if still() { fs::rename(&self.temporary, &public).map(|()| true) } else { Ok(false) }
        });
        imp::after(&public, replaced);
        self.shown = renamed.map_err(|error| PlaceFault::of_target(&public, error))?;
        Ok(self.shown)
    }

    fn discard(&mut self) {
        if !self.shown {
            // Best effort: the sweep at the next start takes what stays.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes one name's temporary file: everything but the rename.
fn write(name: &PublicName, root: &Path) -> Result<Written, PlaceFault> {
    let lost = |reason| PlaceFault::SourceLost { path: name.source.clone(), reason };
    let mut source = File::open(&name.source).map_err(lost)?;
    let size = source.metadata().map_err(lost)?.len();
    let mut written = Written::begin(resolve(&name.target, root)?, &name.temporary)?;
    let finished = copy(&mut source, &mut written, name, size);
    if finished.is_err() {
        written.discard();
    }
    finished.map(|()| written)
}

fn copy(
    source: &mut File,
    written: &mut Written,
    name: &PublicName,
    size: u64,
) -> Result<(), PlaceFault> {
    let fault = written.fault();
    // From file to file the standard library lets the kernel copy, or share the blocks where it can.
    let copied = io::copy(source, &mut written.file).map_err(&fault)?;
    let there = written.file.metadata().map_err(&fault)?.len();
    if (copied, there) != (size, size) {
        let reason = io::Error::other(format!("{size} bytes became {there} on the way"));
        return Err(PlaceFault::of_target(&name.target, reason));
    }
    written.settle(name.modified)
}

fn sync(folder: &Path) -> Result<(), PlaceFault> {
    sync_folder(folder).map_err(|error| PlaceFault::of_target(&error.path, error.cause))
}

fn system_time(wall: WallTime) -> Option<SystemTime> {
    let millis = Duration::from_millis(u64::try_from(wall.unix_millis()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(millis)
}

#[cfg(unix)]
mod imp {
    //! Permissions are the file's own and do not hinder a rename.

    use std::{
        fs::{File, Metadata},
        os::unix::fs::MetadataExt,
        path::Path,
    };

    /// A daemon of the system must not take the artist's file away from the artist. Where we may not give it back,
    /// group and others keep their rights, which is all a reader needs.
    pub(super) fn before(file: &File, replaced: &Metadata) {
        if let Ok(ours) = file.metadata()
            && (ours.uid(), ours.gid()) != (replaced.uid(), replaced.gid())
        {
            let _ = std::os::unix::fs::fchown(file, Some(replaced.uid()), Some(replaced.gid()));
        }
        // Not every file system has permissions to keep (FAT, some network drives): the file counts for more.
        let _ = file.set_permissions(replaced.permissions());
    }

    pub(super) fn make_way(_: &Path, _: Option<&Metadata>) {}

    pub(super) fn after(_: &Path, _: Option<&Metadata>) {}
}

#[cfg(windows)]
mod imp {
    //! Who may read a file is its folder's matter. The read-only attribute is the file's own, and with it a file can be neither
    //! replaced nor, as a temporary one, removed: it is taken off the old file and put on the new one.

    use std::{
        fs::{self, File, Metadata},
        path::Path,
    };

    pub(super) fn before(_: &File, _: &Metadata) {}

    pub(super) fn make_way(public: &Path, replaced: Option<&Metadata>) {
        set_read_only(public, replaced, false);
    }

    pub(super) fn after(public: &Path, replaced: Option<&Metadata>) {
        set_read_only(public, replaced, true);
    }

    fn set_read_only(public: &Path, replaced: Option<&Metadata>, read_only: bool) {
        let Some(mut permissions) = replaced.map(Metadata::permissions) else { return };
        if permissions.readonly() {
            permissions.set_readonly(read_only);
            // Where it cannot be done the rename says why.
            let _ = fs::set_permissions(public, permissions);
        }
    }
}
