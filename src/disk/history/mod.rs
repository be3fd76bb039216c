//! History: a folder for each job, and quarantine beside it.
//!
//! ```text
//! <state>/history/<job id>/prompt.txt  render.png      what was sent, written before the submit
//!                          image.png   mesh.glb        checked artifacts; they never change again
//!                          job.json                    the record, always rewritten as a whole
//!                          .conjured-mesh-….part       a download in progress
//! <state>/history/.staging-…/                          inputs of a job that has no id yet
//! <state>/history/.dropped-…/                          a folder that is being removed
//! <state>/quarantine/<job id>-mesh-1.bad  ….txt        what failed its checks, and why
//! ```
//! The rule: a file under its final name is complete and was checked; there is no other record of
//! that. Folders are 0700, files 0600. The ledger owns the meaning of a job's states, and the
//! caller decides which jobs may be removed.

mod partial;
mod quarantine;
mod retention;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use partial::{Partial, PartialError};
pub use retention::{RetentionLimits, StoredJob, overdue};

use super::{
    DiskError,
    dirs::{
        make_private, private_builder, remove_if_there, restrict_dir, sync_folder, write_private,
    },
    place::sweep,
    rename::rename,
};
use crate::{
    domain::{
        fingerprint::Fingerprint,
        job::{JobId, artifact::ArtifactKind, placement::is_temporary},
    },
    failpoint::{self, Point},
};

const PROMPT: &str = "prompt.txt";
const RENDER: &str = "render.png";
const RECORD: &str = "job.json";
const STAGING: &str = ".staging-";
const DROPPED: &str = ".dropped-";

/// Returns the name of an artifact in its job's folder.
pub const fn artifact_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Image => "image.png",
        ArtifactKind::Mesh => "mesh.glb",
    }
}

/// The history of one state folder.
#[derive(Clone, Debug)]
pub struct History {
    root: PathBuf,
    quarantine: PathBuf,
}

impl History {
    /// Opens the history in a state folder, and creates what is missing.
    pub fn open(state_dir: &Path) -> Result<Self, DiskError> {
        let history =
            Self { root: state_dir.join("history"), quarantine: state_dir.join("quarantine") };
        for folder in [&history.root, &history.quarantine] {
            make_private(folder)?;
            restrict_dir(folder)?;
        }
        Ok(history)
    }

    /// Returns the folder that contains a folder for each job.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what a crash left half-created or half-removed. Called at start by the holder of the
    /// state folder's lock.
    pub fn sweep(&self) -> Result<usize, DiskError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root).map_err(DiskError::at("list", &self.root))? {
            let entry = entry.map_err(DiskError::at("list", &self.root))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(STAGING) || name.starts_with(DROPPED) {
                let path = entry.path();
                failpoint::around(Point::HistorySweep, || fs::remove_dir_all(&path))
                    .map_err(DiskError::at("remove", &path))?;
                removed += 1;
            }
        }
        let swept = sweep::sweep(std::slice::from_ref(&self.quarantine), |_| false);
        match swept.faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(removed + swept.removed.len()),
        }
    }

    /// Writes a snapshot's inputs durably before it is known whether they become a job. Meant for
    /// the debounce window.
    pub fn stage(&self, prompt: &[u8], render: &[u8]) -> Result<Staged, DiskError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(STAGING);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder
            .tempdir_in(&self.root)
            .map_err(DiskError::at("make a folder in", &self.root))?;
        for (name, bytes) in [(PROMPT, prompt), (RENDER, render)] {
            let path = folder.path().join(name);
            write_new(&path, bytes).map_err(DiskError::at("write", &path))?;
        }
        failpoint::around(Point::HistoryStage, || sync_folder(folder.path()))?;
        Ok(Staged { folder, root: self.root.clone() })
    }

    /// Makes the folder names of new jobs durable, which [`Staged::commit`] leaves for later.
    pub fn sync(&self) -> Result<(), DiskError> {
        failpoint::around(Point::HistorySync, || sync_folder(&self.root))
    }

    /// Returns a job's folder. It is created if it is missing: a rerun or a restored ledger may
    /// have none.
    pub fn job(&self, job: JobId) -> Result<JobFolder, DiskError> {
        let path = self.root.join(job.to_string());
        match private_builder().create(&path) {
            Ok(()) => sync_folder(&self.root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(DiskError::at("make the folder", &path)(error)),
        }
        Ok(JobFolder { path })
    }

    /// Returns a job's folder, if it has one.
    pub fn job_if_there(&self, job: JobId) -> Option<JobFolder> {
        let path = self.root.join(job.to_string());
        path.is_dir().then_some(JobFolder { path })
    }

    /// Returns the path of a job's folder without creating it, for reading a folder that may
    /// be gone.
    pub fn past(&self, job: JobId) -> JobFolder {
        JobFolder { path: self.root.join(job.to_string()) }
    }

    /// Lists the jobs that have a folder, oldest first, with the disk space of each.
    pub fn jobs(&self) -> Result<Vec<StoredJob>, DiskError> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(DiskError::at("list", &self.root))? {
            let entry = entry.map_err(DiskError::at("list", &self.root))?;
            let Some(job) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A link could lead anywhere, and its target is not ours to measure or remove.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            kept.push(StoredJob { job, bytes: size_of_files(&entry.path()) });
        }
        kept.sort_unstable_by_key(|kept: &StoredJob| kept.job);
        Ok(kept)
    }

    /// Removes a job's folder. A missing folder is not an error. After a crash in the middle,
    /// [`Self::sweep`] removes the rest.
    pub fn remove(&self, job: JobId) -> Result<(), DiskError> {
        self.detach(job)?.map_or(Ok(()), DetachedFolder::remove)
    }

    /// Moves a job's folder out of history in one step, to be removed later. Returns `None` if
    /// there is none.
    pub fn detach(&self, job: JobId) -> Result<Option<DetachedFolder>, DiskError> {
        let path = self.root.join(job.to_string());
        let dropped = self.root.join(format!("{DROPPED}{job}"));
        match rename(&path, &dropped) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => {
                renamed.map_err(DiskError::at("remove", &path))?;
                Ok(Some(DetachedFolder(dropped)))
            }
        }
    }

    /// Moves a download that failed its checks into quarantine, with the reason, and returns its
    /// new path. The oldest files are removed if there are too many.
    pub fn quarantine(
        &self,
        job: JobId,
        partial: Partial,
        reason: &str,
    ) -> Result<PathBuf, DiskError> {
        quarantine::put(&self.quarantine, job, partial, reason)
    }
}

/// A folder that is no longer in history. If it is not removed, the sweep at the next start
/// removes it.
#[derive(Debug)]
#[must_use = "it stays on the disk until it is removed"]
pub struct DetachedFolder(PathBuf);

impl DetachedFolder {
    /// Removes the folder with its content.
    pub fn remove(self) -> Result<(), DiskError> {
        fs::remove_dir_all(&self.0).map_err(DiskError::at("remove", &self.0))
    }
}

/// Inputs on the disk without a job. They are removed when this is dropped.
#[derive(Debug)]
pub struct Staged {
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Staged {
    /// Assigns the inputs to a job: one rename. The files are already durable; the new name of the
    /// folder becomes durable with [`History::sync`], which can wait until the submit is sent,
    /// because the inputs are only copies.
    pub fn commit(self, job: JobId) -> Result<JobFolder, DiskError> {
        let path = self.root.join(job.to_string());
        failpoint::around(Point::HistoryCommit, || rename(self.folder.path(), &path))
            .map_err(DiskError::at("make the folder", &path))?;
        // It has another name now, so nothing is left to remove.
        let _ = self.folder.keep();
        Ok(JobFolder { path })
    }
}

/// One job's folder.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the prompt that was sent.
    pub fn prompt(&self) -> PathBuf {
        self.path.join(PROMPT)
    }

    /// Returns the path of the render that was sent.
    pub fn render(&self) -> PathBuf {
        self.path.join(RENDER)
    }

    /// Returns the path of an artifact, if it exists. Then it is complete and was checked.
    pub fn artifact(&self, kind: ArtifactKind) -> Option<PathBuf> {
        let path = self.path.join(artifact_name(kind));
        fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()).then_some(path)
    }

    /// Returns whether an artifact exists. Fails if the disk does not say so.
    pub fn has_artifact(&self, kind: ArtifactKind) -> io::Result<bool> {
        match fs::symlink_metadata(self.path.join(artifact_name(kind))) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the artifacts, so that those of another attempt can replace them.
    pub fn clear_artifacts(&self) -> Result<(), DiskError> {
        ArtifactKind::ALL
            .into_iter()
            .try_for_each(|kind| remove_if_there(&self.path.join(artifact_name(kind))))
    }

    /// Takes over the artifacts of another job. They never change, so a hard link is enough if the
    /// file system supports it. Existing artifacts stay.
    pub fn copy_from(&self, other: &Self) -> Result<(), DiskError> {
        for kind in ArtifactKind::ALL {
            let Some(source) = other.artifact(kind) else { continue };
            let target = self.path.join(artifact_name(kind));
            match failpoint::around(Point::TakeOver, || fs::hard_link(&source, &target)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => {
                    let bytes = fs::read(&source).map_err(DiskError::at("read", &source))?;
                    write_private(&target, &bytes)?;
                }
            }
        }
        sync_folder(&self.path)
    }

    /// Removes unfinished files from this folder that are no longer needed: small files that a
    /// crash left unfinished, and downloads whose artifact exists.
    pub fn prune(&self) -> Result<(), DiskError> {
        for entry in fs::read_dir(&self.path).map_err(DiskError::at("list", &self.path))? {
            let path = entry.map_err(DiskError::at("list", &self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let wanted = |kind| partial::is_download(&name, kind) && self.artifact(kind).is_none();
            if is_temporary(&name) && !ArtifactKind::ALL.into_iter().any(wanted) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Returns whether `job.json` exists.
    pub fn has_record(&self) -> bool {
        self.path.join(RECORD).exists()
    }

    /// Writes `job.json`. Readers see either the complete old file or the complete new one.
    pub fn write_record(&self, json: &[u8]) -> Result<(), DiskError> {
        failpoint::around(Point::Record, || write_private(&self.path.join(RECORD), json))
    }

    /// Opens the download of an artifact, continuing an earlier one of the same `origin`. `origin`
    /// identifies the request and the remote file; partial downloads of other origins are removed.
    /// The file can have at most `limit` bytes.
    pub fn download(
        &self,
        kind: ArtifactKind,
        origin: &Fingerprint,
        limit: u64,
    ) -> Result<Partial, DiskError> {
        Partial::open(&self.path, kind, origin, limit, &partial::boot_name())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Returns the total size of the files. Unreadable entries count as nothing, because the number is
/// only used for cleaning up.
fn size_of_files(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}
