//! `conjured` as a child process: a test's daemon, and the commands that a person would type next
//! to it.
//!
//! Owns the child: its own handle ends it when the test is over, whatever the result. What the
//! daemon did can be asked of the [`super::stage::DemoProject`].

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use conjured::{daemon::api::socket, domain::status::Status};
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};

use super::patience::eventually;

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
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).spawn();
        Self { child: child.expect("the binary starts"), state_dir, stderr }
    }

    /// Waits until it has scanned its project's inputs.
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

    /// Asks for its status, over its socket; `None` while it does not answer.
    pub(crate) fn status(&self) -> Option<Status> {
        let answer = self.ask("GET /v1/status")?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Sends it a request over its socket; `None` if no complete answer arrives.
    pub(crate) fn ask(&self, what: &str) -> Option<String> {
        self.exchange(what, "", "")
    }

    /// Posts JSON to it over its socket; `None` if no complete answer arrives.
    pub(crate) fn post(&self, path: &str, body: &str) -> Option<String> {
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.exchange(&format!("POST {path}"), &headers, body)
    }

    fn exchange(&self, what: &str, headers: &str, body: &str) -> Option<String> {
        let mut stream = connect(&socket::find(&self.state_dir)?)?;
        let request = format!(
            "{what} HTTP/1.1\r\nHost: conjured\r\nConnection: close\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Returns its output on standard error.
    pub(crate) fn stderr_text(&self) -> String {
        let bytes = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child and not reaped");
    }

    /// Returns its exit status, if it has ended.
    #[cfg(feature = "failpoints")]
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waits")
    }

    /// Waits until it ends without being asked to.
    #[track_caller]
    pub(crate) fn ended(mut self) -> ExitStatus {
        eventually("the daemon ends", || self.child.try_wait().expect("waits"))
    }

    /// Stops it as a service manager does.
    #[track_caller]
    pub(crate) fn stop(self) -> ExitStatus {
        #[cfg(unix)]
        self.signal(Signal::TERM);
        // Windows cannot send a signal to another process, and a test may have no console
        // for Ctrl-Break.
        #[cfg(windows)]
        self.ask("POST /v1/stop");
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
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    // A daemon that answers no more must fail its test and not hang it.
    stream.set_read_timeout(Some(super::patience::patience())).ok()?;
    Some(stream)
}

/// A pipe is opened like a file.
#[cfg(windows)]
fn connect(pipe: &Path) -> Option<File> {
    File::options().read(true).write(true).open(pipe).ok()
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
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
