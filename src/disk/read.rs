//! Reads an input completely while another program may be writing it: never locks, never writes,
//! never waits.
//!
//! Owns the guarantee that [`ReadOutcome::Complete`] contains the bytes of one file that was not
//! changed meanwhile, as far as the file system shows. The domain decides whether they are a
//! complete picture or a valid prompt: a half-written file may stay unchanged for a while.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    drive::reach,
    rename::is_held_open,
    stamp::{Stamp, open_to_read},
};

/// The result of reading an input.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// All of it.
    Complete {
        /// The content.
        bytes: Vec<u8>,
        /// The file's stamp, equal before and after the read.
        stamp: Stamp,
    },
    /// The file was written or replaced while it was read: read it again.
    Changing,
    /// There is no such file (yet).
    Missing,
}

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The path leads to something that cannot be read completely.
    #[error("{} is {what}, not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What the path leads to.
        what: &'static str,
    },
    /// The file is larger than any valid input. Nothing was read.
    #[error("{} has {size} bytes, more than the limit of {limit} bytes for an input", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The given limit.
        limit: u64,
    },
    /// Our user may not read it.
    #[error("conjured has no permission to read {}: {}", path.display(), GRANT_READ)]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// The system failed to read it.
    #[error("could not read {}: {cause}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

const GRANT_READ: &str = if cfg!(windows) {
    "give its account read permission, or close the program that has it open"
} else {
    "give its user read permission (chmod, or the folder's owner)"
};

/// Reads a complete file of at most `limit` bytes.
pub fn read_complete(path: &Path, limit: u64) -> Result<ReadOutcome, ReadError> {
    read_around(path, limit, || {})
}

/// Returns a file's stamp without reading it, or `None` if there is no such file.
pub fn stamp(path: &Path) -> Result<Option<Stamp>, ReadError> {
    let about =
        |(file, metadata)| Stamp::of(&file, &metadata).map_err(|cause| failure(path, cause));
    open_regular(path)?.map(about).transpose()
}

/// Reads a file. `meanwhile` runs after the bytes are read and before they are checked, so that a
/// test can change the file.
fn read_around(
    path: &Path,
    limit: u64,
    meanwhile: impl FnOnce(),
) -> Result<ReadOutcome, ReadError> {
    let (mut file, before) = match open_regular(path) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(ReadOutcome::Missing),
        // On Windows another program may have exclusive access, which a writer is entitled to.
        Err(ReadError::Failed { cause, .. }) if is_held_open(&cause) => {
            return Ok(ReadOutcome::Changing);
        }
        Err(error) => return Err(error),
    };
    let size = before.len();
    if size > limit {
        return Err(ReadError::TooLarge { path: path.to_path_buf(), size, limit });
    }
    let failed = |cause| failure(path, cause);
    let stamp = Stamp::of(&file, &before).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    // One byte more than announced is enough to detect that it grew, and limits the memory in
    // any case.
    (&mut file).take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    meanwhile();
    let after = file.metadata().and_then(|after| Stamp::of(&file, &after)).map_err(failed)?;
    let named = match Stamp::at(path) {
        Ok(named) => named,
        Err(error) if is_missing(&error) => return Ok(ReadOutcome::Changing),
        Err(error) => return Err(failed(error)),
    };
    let still = u64::try_from(bytes.len()).is_ok_and(|read| read == size);
    if still && after == stamp && named.same_file(&stamp) {
        Ok(ReadOutcome::Complete { bytes, stamp })
    } else {
        Ok(ReadOutcome::Changing)
    }
}

/// Opens a regular file. Returns `None` if there is none.
fn open_regular(path: &Path) -> Result<Option<(File, Metadata)>, ReadError> {
    reach(path);
    // Also checked before opening, because opening a device can already have an effect.
    let opened = fs::metadata(path)
        .and_then(|metadata| {
            if other_file_kind(&metadata).is_some() {
                Ok(None)
            } else {
                open_to_read(path).map(Some)
            }
        })
        .and_then(|file| match file {
            Some(file) => file.metadata().map(|metadata| (Some(file), metadata)),
            None => fs::metadata(path).map(|metadata| (None, metadata)),
        });
    match opened {
        Ok((Some(file), metadata)) if other_file_kind(&metadata).is_none() => {
            Ok(Some((file, metadata)))
        }
        Ok((_, metadata)) => {
            let what = other_file_kind(&metadata).unwrap_or("something that keeps changing");
            Err(ReadError::NotAFile { path: path.to_path_buf(), what })
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failure(path, error)),
    }
}

fn other_file_kind(metadata: &Metadata) -> Option<&'static str> {
    if metadata.is_file() {
        None
    } else if metadata.is_dir() {
        Some("a folder")
    } else {
        Some("a device, a pipe or a socket")
    }
}

/// Returns whether the file is missing. A parent that is a file means the same as no parent: there
/// is no input.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failure(path: &Path, cause: io::Error) -> ReadError {
    let path = path.to_path_buf();
    if cause.kind() == io::ErrorKind::PermissionDenied {
        ReadError::Denied { path }
    } else {
        ReadError::Failed { path, cause }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn input(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("render.png");
        fs::write(&path, content).expect("writes");
        (temp, path)
    }

    #[test]
    fn a_quiet_file_is_read_whole_with_its_stamp() {
        let (_temp, path) = input(b"a carrot");
        let expected = stamp(&path).expect("no error").expect("it exists");
        let reading = read_complete(&path, 8).expect("no error");
        assert_eq!(reading, ReadOutcome::Complete { bytes: b"a carrot".to_vec(), stamp: expected });
        assert_eq!(expected.size, 8);
    }

    #[test]
    fn an_empty_file_is_whole() {
        let (_temp, path) = input(b"");
        let reading = read_complete(&path, 8).expect("no error");
        assert!(matches!(reading, ReadOutcome::Complete { bytes, .. } if bytes.is_empty()));
    }

    #[test]
    fn a_missing_file_or_folder_is_no_error() {
        let (temp, path) = input(b"x");
        for missing in [temp.path().join("none"), temp.path().join("a/b"), path.join("below")] {
            assert_eq!(read_complete(&missing, 8).expect("no error"), ReadOutcome::Missing);
            assert_eq!(stamp(&missing).expect("no error"), None);
        }
    }

    #[test]
    fn a_file_that_grows_shrinks_is_replaced_or_vanishes_while_it_is_read_is_changing() {
        type Meddle = fn(&Path);
        let meddlers: &[(&str, Meddle)] = &[
            ("grows", |path| {
                let mut file = File::options().append(true).open(path).expect("opens");
                file.write_all(b"!").expect("appends");
            }),
            ("shrinks", |path| {
                File::options().write(true).open(path).and_then(|f| f.set_len(1)).expect("cuts");
            }),
            // Wine 8 does not replace a file that any program has open; Windows does, if it is
            // opened as we open it.
            #[cfg(unix)]
            ("is replaced", |path| {
                let other = path.with_extension("new");
                fs::write(&other, b"a turnip").expect("writes");
                fs::rename(&other, path).expect("renames");
            }),
            // An open file may keep its name on Windows until it is closed.
            #[cfg(unix)]
            ("vanishes", |path| fs::remove_file(path).expect("removes")),
        ];
        for (what, meddle) in meddlers {
            let (_temp, path) = input(b"a carrot");
            let reading = read_around(&path, 100, || meddle(&path)).expect("no error");
            assert_eq!(reading, ReadOutcome::Changing, "{what}");
        }
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let (_temp, path) = input(b"");
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_len(1 << 40).expect("a sparse file");
        let error = read_complete(&path, 1000).expect_err("a terabyte");
        assert!(matches!(error, ReadError::TooLarge { limit: 1000, .. }), "{error}");
    }

    #[test]
    fn a_folder_is_no_input() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let error = read_complete(temp.path(), 10).expect_err("a folder");
        assert!(matches!(error, ReadError::NotAFile { what: "a folder", .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("pipe");
        #[cfg(target_os = "linux")]
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a pipe");
        #[cfg(target_os = "linux")]
        assert!(matches!(read_complete(&path, 10), Err(ReadError::NotAFile { .. })));
        assert!(matches!(
            read_complete(Path::new("/dev/null"), 10),
            Err(ReadError::NotAFile { .. })
        ));
        // Opened past the first check (a race), it must still not hang.
        #[cfg(target_os = "linux")]
        assert!(open_to_read(&path).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_is_read_through_and_a_circle_is_an_error() {
        let (temp, path) = input(b"x");
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("links");
        assert!(matches!(read_complete(&link, 10), Ok(ReadOutcome::Complete { .. })));
        let circle = temp.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).expect("links");
        assert!(matches!(read_complete(&circle, 10), Err(ReadError::Failed { .. })));
    }
}
