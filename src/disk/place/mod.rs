//! Placement: executes a [`PlacementPlan`] so that a reader of a public name sees either the
//! complete old file or the complete new one.
//!
//! Each temporary file is in the folder of its target, so that a rename is one step within one file
//! system. A target that is a symlink stays one: the file it points to is replaced. The permissions
//! of a replaced file are kept, and its owner if we may set it; extended attributes and access
//! lists are not. Every step can be repeated, so an interrupted placement is simply done again.
//! Limit: two *different* names do not change at the same instant.

pub mod sweep;
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
use target::{ResolvedTarget, resolve};

use super::{dirs::sync_folder, drive::reach, rename::retry};
use crate::{
    domain::{
        job::{
            artifact::ArtifactKind,
            placement::{
                PlacementPlan, PlacementStep, PublicName, TEMPORARY_PREFIX, TEMPORARY_SUFFIX,
            },
        },
        time::WallTime,
    },
    failpoint::{self, Point},
};

/// The result of a placement.
#[derive(Debug, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// Every name shows its artifact, durably. These are the files behind the names, in the
    /// plan's order.
    All(Vec<PathBuf>),
    /// The observer stopped it; the temporary files are left as after a crash.
    Stopped,
}

/// Executes a plan of the project in `root`, whose folder must be there: what lies below it is made
/// where it is missing, the root itself never. `observer` hears of each step when it is done and
/// may stop the placement there, as a crash would. After a fault no temporary file is left, and
/// names that were shown already stay.
pub fn place(
    plan: &PlacementPlan,
    root: &Path,
    observer: &mut dyn FnMut(PlacementStep) -> ControlFlow<()>,
) -> Result<PlaceOutcome, PlaceFault> {
    let mut work = PlacementRun { root, written: Vec::new() };
    for step in &plan.steps {
        work.perform(plan, *step)?;
        if observer(*step).is_break() {
            work.written.clear();
            return Ok(PlaceOutcome::Stopped);
        }
    }
    Ok(PlaceOutcome::All(work.written.iter().map(|written| written.resolved.path()).collect()))
}

/// Replaces one public file by `bytes` with the same guarantees: complete, durable, permissions
/// kept, symlinks followed. `path` is absolute; `unique` distinguishes writers of the same file and
/// becomes part of the temporary name. `still` must return true when everything but the rename is
/// done: the last check of a writer that shares the file with others. Returns whether it was
/// replaced.
pub fn replace_if(
    path: &Path,
    root: &Path,
    bytes: &[u8],
    unique: &str,
    still: impl FnMut() -> bool,
) -> Result<bool, PlaceFault> {
    let resolved = resolve(path, root)?;
    let temporary = format!("{TEMPORARY_PREFIX}{unique}{TEMPORARY_SUFFIX}");
    let mut written = TemporaryFile::begin(resolved, &temporary)?;
    let finished = io::Write::write_all(&mut written.file, bytes)
        .map_err(written.fault())
        .and_then(|()| written.sync_content(None))
        .and_then(|()| written.publish_if(still));
    if !matches!(finished, Ok(true)) {
        written.discard();
    }
    if finished? {
        sync(&written.resolved.folder)?;
        return Ok(true);
    }
    Ok(false)
}

/// The temporary files so far, in the plan's order. Those that were not renamed are removed
/// on drop.
struct PlacementRun<'a> {
    root: &'a Path,
    written: Vec<TemporaryFile>,
}

impl PlacementRun<'_> {
    fn perform(&mut self, plan: &PlacementPlan, step: PlacementStep) -> Result<(), PlaceFault> {
        match step {
            PlacementStep::Write(number) => {
                if let Some(name) = plan.names.get(number) {
                    let written = failpoint::around(Point::PlaceWrite, || write(name, self.root))?;
                    self.written.push(written);
                }
            }
            // `plan` writes the names in order, so the numbers are the same.
            PlacementStep::Publish(number) => {
                let kind = plan.names.get(number).map(|name| name.kind);
                let point = match kind {
                    Some(ArtifactKind::Image) => Point::PlaceImage,
                    Some(ArtifactKind::Mesh) | None => Point::PlaceMesh,
                };
                if let Some(written) = self.written.get_mut(number) {
                    failpoint::around(point, || written.publish())?;
                }
            }
            PlacementStep::SyncFolders => {
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

impl Drop for PlacementRun<'_> {
    fn drop(&mut self) {
        self.written.iter_mut().for_each(TemporaryFile::discard);
    }
}

/// A temporary file beside its target.
struct TemporaryFile {
    file: File,
    temporary: PathBuf,
    resolved: ResolvedTarget,
    published: bool,
}

impl TemporaryFile {
    fn begin(resolved: ResolvedTarget, temporary: &str) -> Result<Self, PlaceFault> {
        let temporary = resolved.folder.join(temporary);
        let fault = |error| PlaceFault::of_target(&temporary, error);
        reach(&temporary);
        // A file that a crash left under this name is ours. `create_new` refuses anything else with
        // that name, above all a symlink.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
        let file = options.open(&temporary).map_err(fault)?;
        Ok(Self { file, temporary, resolved, published: false })
    }

    /// Returns a closure that maps errors of this file to the public name, which a person knows.
    fn fault(&self) -> impl Fn(io::Error) -> PlaceFault + use<> {
        let public = self.resolved.path();
        move |error| PlaceFault::of_target(&public, error)
    }

    /// Sets the file's permissions and time, and makes its content durable.
    fn sync_content(&self, modified: Option<WallTime>) -> Result<(), PlaceFault> {
        let (file, fault) = (&self.file, self.fault());
        if let Some(replaced) = &self.resolved.replaced {
            imp::keep_owner(file, replaced);
        }
        if let Some(time) = modified.and_then(system_time) {
            file.set_times(FileTimes::new().set_modified(time)).map_err(&fault)?;
        }
        failpoint::around(Point::PlaceSync, || file.sync_all()).map_err(&fault)
    }

    fn publish(&mut self) -> Result<(), PlaceFault> {
        self.publish_if(|| true).map(drop)
    }

    /// Calls `still` directly before each try: the program that made the first try fail may have
    /// written the file.
    fn publish_if(&mut self, mut still: impl FnMut() -> bool) -> Result<bool, PlaceFault> {
        let public = self.resolved.path();
        let replaced = self.resolved.replaced.as_ref();
        reach(&public);
        imp::clear_read_only(&public, replaced);
        let renamed = retry(|| {
            if still() { fs::rename(&self.temporary, &public).map(|()| true) } else { Ok(false) }
        });
        imp::restore_read_only(&public, replaced);
        self.published = renamed.map_err(|error| PlaceFault::of_target(&public, error))?;
        Ok(self.published)
    }

    fn discard(&mut self) {
        if !self.published {
            // Best effort: the sweep at the next start removes what is left.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes one name's temporary file: everything but the rename.
fn write(name: &PublicName, root: &Path) -> Result<TemporaryFile, PlaceFault> {
    let lost = |reason| PlaceFault::SourceLost { path: name.source.clone(), reason };
    let mut source = File::open(&name.source).map_err(lost)?;
    let size = source.metadata().map_err(lost)?.len();
    let mut written = TemporaryFile::begin(resolve(&name.target, root)?, &name.temporary)?;
    let finished = copy(&mut source, &mut written, name, size);
    if finished.is_err() {
        written.discard();
    }
    finished.map(|()| written)
}

fn copy(
    source: &mut File,
    written: &mut TemporaryFile,
    name: &PublicName,
    size: u64,
) -> Result<(), PlaceFault> {
    let fault = written.fault();
    // The standard library lets the kernel copy from file to file, or share the blocks if it can.
    let copied = io::copy(source, &mut written.file).map_err(&fault)?;
    let there = written.file.metadata().map_err(&fault)?.len();
    if (copied, there) != (size, size) {
        let reason = io::Error::other(format!("expected {size} bytes, but the file has {there}"));
        return Err(PlaceFault::of_target(&name.target, reason));
    }
    written.sync_content(name.modified)
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
    //! On Unix, permissions belong to the file and do not block a rename.

    use std::{
        fs::{File, Metadata},
        os::unix::fs::MetadataExt,
        path::Path,
    };

    /// A system daemon must not take the artist's file away from the artist. If we may not set the
    /// owner, group and others keep their permissions, which is all that a reader needs.
    pub(super) fn keep_owner(file: &File, replaced: &Metadata) {
        if let Ok(ours) = file.metadata()
            && (ours.uid(), ours.gid()) != (replaced.uid(), replaced.gid())
        {
            let _ = std::os::unix::fs::fchown(file, Some(replaced.uid()), Some(replaced.gid()));
        }
        // Not every file system has permissions to keep (FAT, some network drives): the file is
        // more important.
        let _ = file.set_permissions(replaced.permissions());
    }

    pub(super) fn clear_read_only(_: &Path, _: Option<&Metadata>) {}

    pub(super) fn restore_read_only(_: &Path, _: Option<&Metadata>) {}
}

#[cfg(windows)]
mod imp {
    //! On Windows the folder's permissions decide who can read a file. The read-only attribute
    //! belongs to the file, and a file with it can be neither replaced nor, as a temporary file,
    //! removed: it is removed from the old file and set on the new one.

    use std::{
        fs::{self, File, Metadata},
        path::Path,
    };

    pub(super) fn keep_owner(_: &File, _: &Metadata) {}

    pub(super) fn clear_read_only(public: &Path, replaced: Option<&Metadata>) {
        set_read_only(public, replaced, false);
    }

    pub(super) fn restore_read_only(public: &Path, replaced: Option<&Metadata>) {
        set_read_only(public, replaced, true);
    }

    fn set_read_only(public: &Path, replaced: Option<&Metadata>, read_only: bool) {
        let Some(mut permissions) = replaced.map(Metadata::permissions) else { return };
        if permissions.readonly() {
            permissions.set_readonly(read_only);
            // If this fails, the rename returns the reason.
            let _ = fs::set_permissions(public, permissions);
        }
    }
}
