//! One download into history: continued from where an earlier try stopped, written in pieces,
//! checked before the file gets its name.
//!
//! Owns a single try. What a failed one means for the job belongs to
//! [`crate::daemon::jobs::steps::fetch`].

use std::{
    io::{BufReader, Read},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::{
    backend::FetchError,
    daemon::{
        jobs::driver::JobRun,
        services::{messages::Control, store::blocking},
    },
    disk::{
        DiskError,
        history::{JobFolder, Partial, PartialError},
    },
    domain::{
        fingerprint::Fingerprint,
        job::artifact::{ArtifactKind, RemoteFile},
        mesh, picture,
        status::Received,
    },
};

/// Received bytes are written to the disk in pieces of this size.
const PIECE: usize = 256 * 1024;

/// Why one download ended without an artifact.
pub(super) enum DownloadError {
    /// Worth continuing.
    Interrupted {
        reason: String,
        /// The wait that the storage asks for.
        retry_after: Option<Duration>,
    },
    /// The disk takes no more data. The received part is kept; the download continues when there
    /// is room.
    Disk(String),
    /// The URL has expired.
    Gone(String),
    /// The file fails its checks, and is in quarantine.
    Invalid(String),
    /// Another try cannot help.
    Permanent(String),
}

impl DownloadError {
    /// Returns the reason, as the beginning of a sentence.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Interrupted { reason, .. }
            | Self::Disk(reason)
            | Self::Gone(reason)
            | Self::Invalid(reason)
            | Self::Permanent(reason) => reason,
        }
    }
}

impl JobRun {
    /// Downloads one file into history, continuing an earlier try, and checks it. Returns `None` if
    /// it was not tried: the daemon stops, or the backend cannot be called.
    pub(super) async fn download(
        &mut self,
        kind: ArtifactKind,
        folder: &JobFolder,
        file: &RemoteFile,
    ) -> Option<Result<(), DownloadError>> {
        let request = self.record.request()?.clone();
        // Not the URL: a new one for the same file is the same file.
        let origin = format!("{request}\n{}\n{}\n{}", file.node, file.channel, file.filename);
        let origin = Fingerprint::of(origin.as_bytes());
        let limit = self.limit(kind);
        let own = folder.clone();
        let partial = match blocking(move || own.download(kind, &origin, limit)).await {
            Ok(partial) => partial,
            Err(error) => return Some(Err(disk(&error))),
        };
        let backend = self.client().ok()?;
        let from = partial.len();
        let download = match backend.open(file, from).await {
            Ok(download) => download,
            Err(error) => return Some(Err(download_error(&error))),
        };
        self.set_activity(format!("downloading the {kind}")).await;
        let (mut partial, mut chunks, total) = (partial, download.chunks, download.total);
        if download.start != from {
            partial = match blocking(move || partial.restart().map(|()| partial)).await {
                Ok(partial) => partial,
                Err(error) => return Some(Err(disk(&error))),
            };
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                changed = self.task.control.changed() => {
                    self.note_control(changed.is_err());
                    if *self.task.control.borrow_and_update() == Control::Stop {
                        return None;
                    }
                    continue;
                }
            };
            let (over, error) = match chunk {
                Some(Ok(bytes)) => {
                    self.received += u64::try_from(bytes.len()).unwrap_or(0);
                    piece.extend_from_slice(&bytes);
                    (false, None)
                }
                Some(Err(error)) => (true, Some(error)),
                None => (true, None),
            };
            if piece.len() >= PIECE || over && !piece.is_empty() {
                let full = std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE)).freeze();
                partial = match append(partial, full).await {
                    Ok(partial) => partial,
                    Err(broken) => return Some(Err(broken)),
                };
                // A storage that always interrupts at the same byte makes no progress, however
                // often the download starts again.
                let now = self.now().moment;
                let tries = self.seen.fetch_mut(kind);
                if partial.len() > tries.farthest {
                    tries.farthest = partial.len();
                    tries.progress_at = Some(now);
                }
                self.task.status.received = Some(Received { bytes: partial.len(), total });
                self.show().await;
            }
            match error {
                Some(error @ FetchError::TooLarge { .. }) => {
                    // As below: what can never be used must not fill the disk.
                    blocking(move || drop(partial.discard())).await;
                    return Some(Err(download_error(&error)));
                }
                Some(error) => return Some(Err(download_error(&error))),
                None if over => break,
                None => {}
            }
        }
        if let Some(total) = total.filter(|total| *total != partial.len()) {
            let got = partial.len();
            if got < total {
                let reason = format!("received only {got} of {total} bytes");
                return Some(Err(DownloadError::Interrupted { reason, retry_after: None }));
            }
        }
        Some(self.check(kind, partial).await)
    }

    /// Checks the downloaded file; only a good file gets an artifact's name.
    async fn check(&self, kind: ArtifactKind, partial: Partial) -> Result<(), DownloadError> {
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        blocking(move || {
            let verdict = match kind {
                ArtifactKind::Image => checked_image(&partial),
                ArtifactKind::Mesh => checked_mesh(&partial).map(|()| None),
            };
            match verdict {
                Ok(Some(png)) => partial.finish_as(&png).map(drop).map_err(|error| disk(&error)),
                Ok(None) => partial.finish().map(drop).map_err(|error| disk(&error)),
                Err(CheckError::Invalid(reason)) => {
                    match history.quarantine(id, partial, &reason) {
                        Ok(_) => Err(DownloadError::Invalid(reason)),
                        Err(error) => Err(DownloadError::Invalid(format!(
                            "{reason} (and it could not be moved into quarantine: {error})"
                        ))),
                    }
                }
                Err(CheckError::Unreadable(reason)) => Err(DownloadError::Disk(reason)),
            }
        })
        .await
    }
}

async fn append(partial: Partial, bytes: Bytes) -> Result<Partial, DownloadError> {
    blocking(move || {
        let mut partial = partial;
        match partial.append(&bytes) {
            Ok(()) => Ok(partial),
            Err(error @ PartialError::TooLarge { .. }) => {
                // None of it can be used, so it is not kept for a later try.
                drop(partial.discard());
                Err(DownloadError::Permanent(error.to_string()))
            }
            Err(PartialError::Disk(error)) => Err(disk(&error)),
        }
    })
    .await
}

fn download_error(error: &FetchError) -> DownloadError {
    let reason = error.to_string();
    match error {
        FetchError::Forbidden { .. } | FetchError::TooLarge { .. } => {
            DownloadError::Permanent(reason)
        }
        FetchError::Gone { .. } => DownloadError::Gone(reason),
        FetchError::Busy { retry_after, .. } => {
            DownloadError::Interrupted { reason, retry_after: Some(*retry_after) }
        }
        FetchError::Transient { .. } => DownloadError::Interrupted { reason, retry_after: None },
    }
}

fn disk(error: &DiskError) -> DownloadError {
    DownloadError::Disk(error.to_string())
}

/// An image is decoded in memory, so it must fit there: the largest that any of CONJURE's workflows
/// makes has 3 MB.
pub(super) const MAX_IMAGE: u64 = 64 * 1024 * 1024;

/// Why a file did not pass.
enum CheckError {
    Invalid(String),
    Unreadable(String),
}

/// Checks an image; `Some` is the PNG to keep instead of the downloaded file.
fn checked_image(partial: &Partial) -> Result<Option<Bytes>, CheckError> {
    let reader = partial.reader().map_err(|error| CheckError::Unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    reader
        .take(MAX_IMAGE)
        .read_to_end(&mut bytes)
        .map_err(|error| CheckError::Unreadable(error.to_string()))?;
    let bytes = Bytes::from(bytes);
    let png =
        picture::into_png(bytes.clone()).map_err(|fault| CheckError::Invalid(fault.to_string()))?;
    Ok((png != bytes).then_some(png))
}

fn checked_mesh(partial: &Partial) -> Result<(), CheckError> {
    let reader = partial.reader().map_err(|error| CheckError::Unreadable(error.to_string()))?;
    mesh::check(&mut BufReader::with_capacity(64 * 1024, reader), partial.len())
        .map(drop)
        .map_err(|fault| CheckError::Invalid(fault.to_string()))
}
