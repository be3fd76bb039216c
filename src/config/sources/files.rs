//! The few small files that are read before anything else is set up: configuration and token files.
//!
//! Owns bounded reading, and the only use of `std::fs` in this layer: `disk` serves the daemon's
//! data, and the configuration must be readable before there is a daemon. Nothing is ever
//! written here.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Why a small file could not be read.
#[derive(Debug)]
pub(in crate::config) enum ReadError {
    /// The file does not exist.
    Missing(io::Error),
    /// The system reported an error.
    Io(io::Error),
    /// The file is larger than the limit.
    TooLarge,
}

/// Reads a file of at most `limit` bytes.
pub(in crate::config) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let sorted = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Missing(error),
        _ => ReadError::Io(error),
    };
    let file = File::open(path).map_err(sorted)?;
    let mut bytes = Vec::new();
    // The length reported by the system is not used: a pipe and `/proc` have none, and a file may
    // grow in the meantime.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge) } else { Ok(bytes) }
}

/// Returns whether others than the owner may read a file; false on systems without such modes.
#[cfg(unix)]
pub(in crate::config) fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Returns whether others than the owner may read a file; false on systems without such modes.
#[cfg(not(unix))]
pub(in crate::config) fn is_readable_by_others(_path: &Path) -> bool {
    false
}
