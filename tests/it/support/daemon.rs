//! `conjured` as a child process: the daemon of a test, and the commands a person would type beside it.
//!
//! Owns the child: it is ended by its own handle when the test is over, however that ends. What the daemon did is asked of
//! the [`super::stage::Stage`].

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use conjured::{daemon::socket, domain::status::Status};
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};

use super::patience::eventually;

/// Ctrl-Break goes to a whole group of processes; a test must not be in it.
#[cfg(windows)]
const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;

/// The daemon.
pub(crate) struct TestDaemon {
    child: Child,
    state_dir: PathBuf,
    /// Where its standard error goes.
    pub(crate) stderr: PathBuf,
}

impl TestDaemon {
    /// Starts `command`, whose state is in `state_dir`. It may still be starting when this returns.
    pub(crate) fn spawn(mut command: Command, state_dir: PathBuf, stderr: PathBuf) -> Self {
        let to = File::options().create(true).append(true).open(&stderr).expect("opens");
        #[cfg(windows)]
        std::os::windows::process::CommandExt::creation_flags(
            &mut command,
            CREATE_NEW_PROCESS_GROUP,
        );
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).spawn();
        Self { child: child.expect("the binary starts"), state_dir, stderr }
    }

    /// Waits until it has looked at its project's inputs.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        eventually("the daemon looks at its inputs", || {
            let ended = self.child.try_wait().expect("waits");
            assert!(ended.is_none(), "the daemon ended by itself: {}", self.stderr_text());
            let status = self.status()?;
            let project = status.projects.first()?;
            (project.prompt.state != "unseen" && project.render.state != "unseen").then_some(())
        });
        self
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it how it is, over its socket; `None` while it does not answer.
    pub(crate) fn status(&self) -> Option<Status> {
        let mut stream = connect(&socket::find(&self.state_dir)?)?;
        let request = b"GET /v1/status HTTP/1.1\r\nHost: conjured\r\nConnection: close\r\n\r\n";
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Returns what it has said on standard error.
    pub(crate) fn stderr_text(&self) -> String {
        let bytes = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child and not reaped");
    }

    /// Tells how it ended, if it has.
    #[cfg(feature = "failpoints")]
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waits")
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn ended(mut self) -> ExitStatus {
        eventually("the daemon ends", || self.child.try_wait().expect("waits"))
    }

    /// Stops it as a service manager does.
    #[track_caller]
    pub(crate) fn stop(self) -> ExitStatus {
        #[cfg(unix)]
        self.signal(Signal::TERM);
        #[cfg(windows)]
        break_off(&self.child);
        self.ended()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is our child and not reaped");
        self.child.wait().expect("waits");
    }
}

#[cfg(unix)]
fn connect(socket: &Path) -> Option<std::os::unix::net::UnixStream> {
    std::os::unix::net::UnixStream::connect(socket).ok()
}

/// A pipe is opened like a file.
#[cfg(windows)]
fn connect(pipe: &Path) -> Option<File> {
    File::options().read(true).write(true).open(pipe).ok()
}

/// Presses Ctrl-Break in a process group that the child is alone in.
#[cfg(windows)]
fn break_off(child: &Child) {
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
    #[expect(unsafe_code, reason = "std has no word for it; both arguments are numbers")]
    // SAFETY: the call takes no memory of ours.
    let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, child.id()) };
    assert_ne!(sent, 0, "{}", std::io::Error::last_os_error());
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.stderr_text();
        if std::thread::panicking() {
            show(&said);
        } else {
            assert!(!said.contains("panicked at"), "the daemon panicked: {said}");
        }
    }
}

#[expect(clippy::print_stderr, reason = "the log of a test that failed is what its reader wants")]
fn show(said: &str) {
    eprintln!("--- the daemon said:\n{said}---");
}
