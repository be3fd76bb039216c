//! A download into history: appended to, continued after a cut or a crash, and renamed once it
//! was checked.
//!
//! The file is `.conjured-<kind>-<origin>-<boot>.part`. After the process dies, the kernel still
//! has everything that was appended. After the *machine* dies, the length of the file cannot be
//! trusted (a GLB whose tail is zeros imports silently wrong). So the data is synced at every
//! multiple of [`SYNC_EVERY`], and the name identifies the boot of the machine in which it was
//! written: in another boot, the part after the last multiple is downloaded again. A separate file
//! with the synced length was considered; it needs its own syncs and can itself be lost.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{DiskError, artifact_name, rename, sync_folder, write_private};
use crate::{
    domain::{
        fingerprint::Fingerprint,
        job::{
            artifact::ArtifactKind,
            placement::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX},
        },
    },
    failpoint::{self, Point},
};

/// How much may have to be downloaded twice after a power failure. Rare enough to cost no time on a
/// disk, and a small part of a large mesh.
pub(super) const SYNC_EVERY: u64 = 4 << 20;

/// Why a download cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// More bytes arrived than a file may have; those that fit are kept.
    #[error("the {kind} is larger than the {limit} bytes that `placement.max_artifact_mb` allows")]
    TooLarge {
        /// The kind of artifact.
        kind: ArtifactKind,
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk failed; what was appended before is kept.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A download in progress. When dropped, it stays on the disk and can be continued.
#[derive(Debug)]
pub struct Partial {
    pub(super) file: File,
    path: PathBuf,
    folder: PathBuf,
    kind: ArtifactKind,
    len: u64,
    limit: u64,
}

impl Partial {
    pub(super) fn open(
        folder: &Path,
        kind: ArtifactKind,
        origin: &Fingerprint,
        limit: u64,
        boot: &str,
    ) -> Result<Self, DiskError> {
        let ours = format!("{TEMPORARY_PREFIX}{kind}-{}-", origin.short());
        let path = folder.join(format!("{ours}{boot}{TEMPORARY_SUFFIX}"));
        if let Some(earlier) = clear_others(folder, kind, &ours, &path)? {
            // Cut before it gets the new name: a crash in between must not make it
            // look trustworthy.
            let cut = || {
                let file = File::options().write(true).open(&earlier)?;
                let synced = file.metadata()?.len() / SYNC_EVERY * SYNC_EVERY;
                file.set_len(synced)
            };
            cut().map_err(DiskError::at("shorten", &earlier))?;
            rename(&earlier, &path).map_err(DiskError::at("rename", &earlier))?;
        }
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = failpoint::around(Point::PartialCreate, || options.open(&path))
            .map_err(DiskError::at("open", &path))?;
        let len = file.seek(SeekFrom::End(0)).map_err(DiskError::at("read", &path))?;
        let mut partial = Self { file, path, folder: folder.to_path_buf(), kind, len, limit };
        if len > limit {
            partial.restart()?;
        }
        Ok(partial)
    }

    /// Returns how many bytes are there: where the download continues.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether nothing was downloaded yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the kind of artifact.
    pub const fn kind(&self) -> ArtifactKind {
        self.kind
    }

    /// Returns its path while it is not finished.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends downloaded bytes. After an error the file has the length [`Self::len`], and
    /// appending may continue.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PartialError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.limit - self.len;
            if room == 0 {
                return Err(PartialError::TooLarge { kind: self.kind, limit: self.limit });
            }
            let to_sync = SYNC_EVERY - self.len % SYNC_EVERY;
            let take = usize::try_from(room.min(to_sync)).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(take);
            self.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes within one section between two syncs.
    fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let len = self.len + u64::try_from(bytes.len()).unwrap_or(0);
        let wrote = failpoint::around(Point::PartialAppend, || self.file.write_all(bytes));
        let written = wrote.and_then(|()| {
            if len.is_multiple_of(SYNC_EVERY) { self.file.sync_data() } else { Ok(()) }
        });
        if let Err(cause) = written {
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(DiskError::at("write", &self.path)(cause));
        }
        self.len = len;
        Ok(())
    }

    /// Discards the bytes so far: the storage starts at the first byte again.
    pub fn restart(&mut self) -> Result<(), DiskError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(DiskError::at("empty", &self.path))?;
        self.len = 0;
        Ok(())
    }

    /// Opens the file for the checks, at its first byte. A large mesh is checked without
    /// being loaded.
    pub fn reader(&self) -> Result<File, DiskError> {
        File::open(&self.path).map_err(DiskError::at("open", &self.path))
    }

    /// Makes it the artifact, durably; the caller has checked that it is valid. An
    /// existing artifact stays, because artifacts never change; then this returns an error
    /// of kind [`io::ErrorKind::AlreadyExists`].
    pub fn finish(self) -> Result<PathBuf, DiskError> {
        let path = self.free_name()?;
        failpoint::around(Point::FinishSync, || self.file.sync_all())
            .map_err(DiskError::at("sync", &self.path))?;
        failpoint::around(Point::FinishRename, || rename(&self.path, &path))
            .map_err(DiskError::at("rename", &self.path))?;
        failpoint::around(Point::FinishFolder, || sync_folder(&self.folder))?;
        Ok(path)
    }

    /// Makes `bytes` the artifact instead of the downloaded file: the same picture as a PNG.
    pub fn finish_as(self, bytes: &[u8]) -> Result<PathBuf, DiskError> {
        let path = self.free_name()?;
        failpoint::around(Point::FinishAs, || write_private(&path, bytes))?;
        self.discard()?;
        Ok(path)
    }

    /// Removes it.
    pub fn discard(self) -> Result<(), DiskError> {
        failpoint::around(Point::PartialDiscard, || fs::remove_file(&self.path))
            .map_err(DiskError::at("remove", &self.path))
    }

    fn free_name(&self) -> Result<PathBuf, DiskError> {
        let path = self.folder.join(artifact_name(self.kind));
        if fs::symlink_metadata(&path).is_ok() {
            let there = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(DiskError::at("replace the finished artifact", &path)(there));
        }
        Ok(path)
    }
}

/// Returns whether a name belongs to a download of this kind.
pub(super) fn is_download(name: &str, kind: ArtifactKind) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX)
        .and_then(|rest| rest.strip_prefix(&kind.to_string()))
        .is_some_and(|rest| rest.starts_with('-'))
}

/// Removes partial downloads of other origins and returns the one that an earlier boot left of
/// this origin.
fn clear_others(
    folder: &Path,
    kind: ArtifactKind,
    ours: &str,
    current: &Path,
) -> Result<Option<PathBuf>, DiskError> {
    let any = format!("{TEMPORARY_PREFIX}{kind}-");
    let mut earlier = None;
    for entry in fs::read_dir(folder).map_err(DiskError::at("list", folder))? {
        let path = entry.map_err(DiskError::at("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with(&any) && name.ends_with(TEMPORARY_SUFFIX)) || path == current {
            continue;
        }
        if name.starts_with(ours) && earlier.is_none() && !current.exists() {
            earlier = Some(path);
        } else {
            fs::remove_file(&path).map_err(DiskError::at("remove", &path))?;
        }
    }
    Ok(earlier)
}

/// Returns a short name of this boot of the machine. If the platform does not provide one, every
/// process counts as its own boot.
pub(super) fn boot_name() -> String {
    // random(4): a new UUID at every boot, the same for every process and container.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    if id.is_empty() { format!("p{}", std::process::id()) } else { id }
}
