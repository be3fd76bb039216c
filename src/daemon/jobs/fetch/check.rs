//! The last check before a file gets an artifact's name.
//!
//! Owns the step from a download on the disk to the domain's checks. What a good image or mesh is,
//! [`crate::domain`] decides.

use std::io::{BufReader, Read};

use bytes::Bytes;

use crate::{
    disk::history::Partial,
    domain::{mesh, picture},
};

/// An image is decoded in memory, so it must fit there: the largest that any of CONJURE's workflows
/// makes has 3 MB.
pub(in crate::daemon::jobs) const MAX_IMAGE: u64 = 64 * 1024 * 1024;

/// Why a file did not pass.
pub(in crate::daemon::jobs) enum CheckError {
    Bad(String),
    Unreadable(String),
}

/// Checks an image; `Some` is the PNG to keep instead of the downloaded file.
pub(in crate::daemon::jobs) fn checked_image(
    partial: &Partial,
) -> Result<Option<Bytes>, CheckError> {
    let reader = partial.reader().map_err(|error| CheckError::Unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    reader
        .take(MAX_IMAGE)
        .read_to_end(&mut bytes)
        .map_err(|error| CheckError::Unreadable(error.to_string()))?;
    let bytes = Bytes::from(bytes);
    let png =
        picture::into_png(bytes.clone()).map_err(|fault| CheckError::Bad(fault.to_string()))?;
    Ok((png != bytes).then_some(png))
}

pub(in crate::daemon::jobs) fn checked_mesh(partial: &Partial) -> Result<(), CheckError> {
    let reader = partial.reader().map_err(|error| CheckError::Unreadable(error.to_string()))?;
    mesh::check(&mut BufReader::with_capacity(64 * 1024, reader), partial.len())
        .map(drop)
        .map_err(|fault| CheckError::Bad(fault.to_string()))
}
