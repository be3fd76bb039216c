//! Where the command line finds a daemon: a Unix socket that only its user can open.
//!
//! Owns the socket's place and its privacy. What is served there is [`crate::web`]'s.

use std::path::{Path, PathBuf};

use super::{
    outcome::{Outcome, TaskName},
    start::StartError,
    tasks::Tasks,
};
use crate::disk::dirs;

/// The socket's name in the state folder.
const SOCKET: &str = "conjured.sock";

/// The longest path of a Unix socket that every platform takes (macOS: 104 with its end).
const MAX_SOCKET_PATH: usize = 100;

/// Where the socket is: in the state folder, or, where that path is too long for a socket, in the folder for temporary files.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    let path = state_dir.join(SOCKET);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return path;
    }
    let digest =
        crate::domain::fingerprint::Fingerprint::of(state_dir.as_os_str().as_encoded_bytes());
    dirs::private_runtime_dir().join(format!("conjured-{}.sock", digest.short()))
}

/// Serves the API on the socket.
#[cfg(unix)]
pub(super) fn listen(
    tasks: &mut Tasks<TaskName, Outcome>,
    path: &Path,
    routes: axum::Router,
) -> Result<(), StartError> {
    let failed = |source| StartError::Socket { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        dirs::make_private(folder)?;
        // The state folder may be anybody's choice; any other place must be ours alone.
        if path.file_name() != Some(std::ffi::OsStr::new(SOCKET)) {
            dirs::check_private(folder)?;
        }
    }
    // The state folder is locked, so a socket that is there belongs to a dead process.
    dirs::remove_if_there(path)?;
    // Private from its first moment on, not only after a chmod. No other thread makes files yet.
    let bound = dirs::privately(|| tokio::net::UnixListener::bind(path));
    let listener = bound.map_err(failed)?;
    tasks.spawn(TaskName::Api, async move {
        let ended = axum::serve(listener, routes).await;
        Outcome::Stopped(format!("the socket's server ended: {ended:?}"))
    });
    Ok(())
}

/// Says that there is no socket here.
#[cfg(not(unix))]
pub(super) fn listen(
    _tasks: &mut Tasks<TaskName, Outcome>,
    _path: &Path,
    _routes: axum::Router,
) -> Result<(), StartError> {
    // Without Unix sockets the command line has no way to a running daemon yet; it reads the ledger itself.
    tracing::warn!("this platform has no socket for the command line yet");
    Ok(())
}
