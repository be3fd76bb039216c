//! Where the command line finds a daemon: a Unix socket, or a named pipe on Windows, that only its user can open.
//!
//! Owns the address and its privacy. What is served there is [`crate::daemon::services::command`]'s. On both sides: `address` is what a daemon that
//! starts will listen on, [`find`] where one that runs is listening, `listen` serves.

use std::path::{Path, PathBuf};

use crate::daemon::services::errors::StartError;

pub(in crate::daemon) use imp::{address, listen};

/// Returns where the daemon of a state folder listens; `None` where surely none of ours does.
pub fn find(state_dir: &Path) -> Option<PathBuf> {
    imp::find(state_dir)
}

/// Serves the API to whoever comes; returns why it ended, which it never should.
async fn serve<L>(listener: L, routes: axum::Router) -> String
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    let ended = axum::serve(listener, routes).await;
    format!("the server of the command line's socket ended: {ended:?}")
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

    /// The longest path of a Unix socket that every platform takes (macOS: 104 with its end).
    const MAX_SOCKET_PATH: usize = 100;

    /// In the state folder, or, where that path is too long for a socket, in the folder for temporary files.
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
        // A socket of another user's is no daemon of ours: it is told nothing and believed nothing.
        Some(address(state_dir)).filter(|socket| dirs::is_ours(socket))
    }

    pub(in crate::daemon) fn listen(
        path: &Path,
        routes: axum::Router,
    ) -> Result<impl Future<Output = String> + use<>, StartError> {
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
        Ok(serve(bound.map_err(failed(path))?, routes))
    }
}

#[cfg(windows)]
mod imp {
    //! Every user sees the names of all pipes, and whoever makes one first has it. So the name is drawn anew at each start and
    //! stands beside the lock of the state folder, which others cannot write to: a client that finds the lock held finds the
    //! holder's own pipe. Windows' default lets only the pipe's user, administrators and the system write to it, and no other
    //! user add an instance to it; other machines are refused.

    use std::{io, time::Duration};

    use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

    use super::{Path, PathBuf, StartError, failed, serve};
    use crate::disk::lock::{Held, held_state};

    /// How soon a pipe that cannot be made is tried again.
    const AGAIN: Duration = Duration::from_millis(100);

    pub(in crate::daemon) fn address(_: &Path) -> PathBuf {
        PathBuf::from(format!(r"\\.\pipe\conjured-{:032x}", rand::random::<u128>()))
    }

    pub(super) fn find(state_dir: &Path) -> Option<PathBuf> {
        match held_state(state_dir) {
            Held::By(Some(holder)) => holder.socket.map(PathBuf::from),
            Held::By(None) | Held::Free => None,
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

    /// A pipe serves one client an instance; there is always one more instance, which waits for the next one.
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
                        // Before this client is served, so that the next one finds somebody.
                        self.waiting = make(&self.path, false).ok();
                        return (client, self.path.clone());
                    }
                    // A client that left before it was met leaves an instance that is no good any more.
                    _ => tokio::time::sleep(AGAIN).await,
                }
            }
        }

        fn local_addr(&self) -> io::Result<PathBuf> {
            Ok(self.path.clone())
        }
    }
}
