//! Where the command line finds a daemon: a Unix socket, or a named pipe on Windows, that only its
//! user can open.
//!
//! Owns the address and its privacy. [`crate::daemon::services::command`] serves the API. On both
//! platforms: `address` is where a starting daemon will listen, [`find`] returns where a running
//! one listens, and `listen` serves.

use std::path::{Path, PathBuf};

use crate::daemon::services::errors::StartError;

pub(in crate::daemon) use imp::{address, listen};

/// Returns where the daemon of a state folder listens; `None` if certainly none of ours does.
pub fn find(state_dir: &Path) -> Option<PathBuf> {
    imp::find(state_dir)
}

/// Serves the API to every client; returns why it ended, which it never should.
async fn serve<L>(listener: L, routes: axum::Router) -> String
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    let ended = axum::serve(listener, routes).await;
    format!("the API server on the daemon's socket ended: {ended:?}")
}

fn failed(address: &Path) -> impl Fn(std::io::Error) -> StartError {
    let path = address.display().to_string();
    move |source| StartError::Socket { path: path.clone(), source }
}

#[cfg(unix)]
mod imp {
    use super::{Path, PathBuf, StartError, failed, serve};
    use crate::disk::dirs;

    /// The socket's name in the state folder.
    const SOCKET: &str = "conjured.sock";

    /// The longest path of a Unix socket that every platform accepts (macOS: 104 including
    /// the terminator).
    const MAX_SOCKET_PATH: usize = 100;

    /// Returns a path in the state folder, or in the folder for temporary files if the first is too
    /// long for a socket.
    pub(in crate::daemon) fn address(state_dir: &Path) -> PathBuf {
        let path = state_dir.join(SOCKET);
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return path;
        }
        let digest =
            crate::domain::fingerprint::Fingerprint::of(state_dir.as_os_str().as_encoded_bytes());
        dirs::private_runtime_dir().join(format!("conjured-{}.sock", digest.short()))
    }

    pub(super) fn find(state_dir: &Path) -> Option<PathBuf> {
        // A socket of another user is not our daemon: nothing is sent to it, and nothing from it
        // is trusted.
        Some(address(state_dir)).filter(|socket| dirs::is_ours(socket))
    }

    pub(in crate::daemon) fn listen(
        path: &Path,
        routes: axum::Router,
    ) -> Result<impl Future<Output = String> + use<>, StartError> {
        if let Some(folder) = path.parent() {
            dirs::make_private(folder)?;
            // The user chooses the state folder; any other folder must be private.
            if path.file_name() != Some(std::ffi::OsStr::new(SOCKET)) {
                dirs::check_private(folder)?;
            }
        }
        // The state folder is locked, so an existing socket belongs to a dead process.
        dirs::remove_if_there(path)?;
        // Private from the beginning, not only after a chmod. No other thread creates files yet.
        let bound = dirs::with_private_umask(|| tokio::net::UnixListener::bind(path));
        Ok(serve(bound.map_err(failed(path))?, routes))
    }
}

#[cfg(windows)]
mod imp {
    //! Every user can see the names of all pipes, and the first to create a name owns it. So the
    //! name is random at each start and is written next to the lock of the state folder, where
    //! other users cannot write: a client that finds the lock held finds the holder's own pipe. By
    //! Windows' default only the pipe's user, administrators and the system can write to it, and no
    //! other user can add an instance to it; other machines are refused.

    use std::{io, time::Duration};

    use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

    use super::{Path, PathBuf, StartError, failed, serve};
    use crate::disk::lock::{LockStatus, probe_state_lock};

    /// The delay before a pipe that could not be created is retried.
    const RETRY_DELAY: Duration = Duration::from_millis(100);

    pub(in crate::daemon) fn address(_: &Path) -> PathBuf {
        PathBuf::from(format!(r"\\.\pipe\conjured-{:032x}", rand::random::<u128>()))
    }

    pub(super) fn find(state_dir: &Path) -> Option<PathBuf> {
        match probe_state_lock(state_dir) {
            LockStatus::Held(Some(holder)) => holder.socket.map(PathBuf::from),
            LockStatus::Held(None) | LockStatus::Free => None,
        }
    }

    pub(in crate::daemon) fn listen(
        path: &Path,
        routes: axum::Router,
    ) -> Result<impl Future<Output = String> + use<>, StartError> {
        let waiting = make(path, true).map_err(failed(path))?;
        Ok(serve(Pipe { path: path.to_path_buf(), waiting: Some(waiting) }, routes))
    }

    fn make(path: &Path, first: bool) -> io::Result<NamedPipeServer> {
        ServerOptions::new().first_pipe_instance(first).reject_remote_clients(true).create(path)
    }

    /// A pipe. Each instance serves one client, and one more instance always waits for the
    /// next client.
    struct Pipe {
        path: PathBuf,
        waiting: Option<NamedPipeServer>,
    }

    impl axum::serve::Listener for Pipe {
        type Io = NamedPipeServer;
        type Addr = PathBuf;

        async fn accept(&mut self) -> (NamedPipeServer, PathBuf) {
            loop {
                if self.waiting.is_none() {
                    self.waiting = make(&self.path, false).ok();
                }
                let met = match &self.waiting {
                    Some(waiting) => waiting.connect().await,
                    None => Err(io::ErrorKind::WouldBlock.into()),
                };
                match (met, self.waiting.take()) {
                    (Ok(()), Some(client)) => {
                        // Before this client is served, so that the next one finds an instance.
                        self.waiting = make(&self.path, false).ok();
                        return (client, self.path.clone());
                    }
                    // A client that left before it was accepted leaves an unusable instance.
                    _ => tokio::time::sleep(RETRY_DELAY).await,
                }
            }
        }

        fn local_addr(&self) -> io::Result<PathBuf> {
            Ok(self.path.clone())
        }
    }
}
