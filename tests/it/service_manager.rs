//! What systemd receives from the whole process: ready, reloading, a status line, the watchdog,
//! stopping, and lines that its journal understands.
//!
//! Owns the service manager's ends of the socket and of standard error. The test with a real
//! systemd is `tests/real/systemd`.

use std::{
    collections::VecDeque,
    os::{linux::fs::MetadataExt as _, unix::net::UnixDatagram},
};

use rustix::process::Signal;

use crate::support::{daemon::TestDaemon, patience::eventually, stage::DemoProject};

/// The service manager's end of the socket.
struct Ear {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Ear {
    fn new(stage: &DemoProject) -> Self {
        let socket = UnixDatagram::bind(stage.path("notify")).expect("binds");
        socket.set_nonblocking(true).expect("a socket of ours");
        Self { socket, heard: VecDeque::new() }
    }

    /// Waits for a message that begins with `start`, and returns it with the earlier ones.
    #[track_caller]
    fn until(&mut self, start: &str) -> Vec<String> {
        let mut all = Vec::new();
        eventually(&format!("the service manager hears {start}"), || {
            let mut bytes = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut bytes) {
                self.heard.push_back(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
            while let Some(message) = self.heard.pop_front() {
                all.push(message);
                if all.last().is_some_and(|message| message.starts_with(start)) {
                    return Some(());
                }
            }
            None
        });
        all
    }
}

fn start(stage: &DemoProject) -> TestDaemon {
    let mut command = stage.command(&["run"]);
    command.env("NOTIFY_SOCKET", stage.path("notify"));
    // One second: it is fed at half of that, so that a test sees it.
    command.env("WATCHDOG_USEC", "1000000");
    TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr"))
}

#[test]
fn a_service_manager_hears_when_it_is_ready_what_it_does_and_that_it_stops() {
    let mut stage = DemoProject::new();
    let mut ear = Ear::new(&stage);
    let daemon = start(&stage);
    ear.until("READY=1");
    let status = daemon.status().expect("the socket listens before it is ready");
    assert_ne!(status.projects[0].prompt.state, "unseen", "it has looked before it is ready");
    ear.until("STATUS=1 project; waiting for a change");
    for _ in 0..3 {
        ear.until("WATCHDOG=1");
    }

    stage.set("generation.steps_flux", "\"many\"");
    let reload = ear.until("RELOADING=1\nMONOTONIC_USEC=");
    assert!(!reload.contains(&"READY=1".to_owned()), "{reload:?}");
    ear.until("READY=1");
    let refused =
        ear.until("STATUS=1 project; waiting for a change; warning: the new configuration");
    assert!(refused.last().is_some_and(|line| line.lines().count() == 1), "{refused:?}");
    stage.set("generation.steps_flux", "21");
    daemon.signal(Signal::HUP);
    ear.until("RELOADING=1");
    ear.until("READY=1");

    daemon.signal(Signal::TERM);
    ear.until("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn in_the_journal_a_line_has_a_priority_and_its_job_and_neither_time_nor_colour() {
    let stage = DemoProject::new();
    let stderr = stage.path("stderr");
    let file = std::fs::File::create(&stderr).expect("creates");
    let metadata = file.metadata().expect("a file");
    let mut command = stage.command(&["run", "--color", "always"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", metadata.st_dev(), metadata.st_ino()));
    let daemon = TestDaemon::spawn(command, stage.state_dir(), stderr).ready();
    stage.say("a clay owl");
    let job = stage.done(1)[0].id.to_string();
    eventually("the log tells of the end", || daemon.stderr_text().contains("done:").then_some(()));
    let text = daemon.stderr_text();
    for line in text.lines() {
        let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        assert!(
            priority.is_some_and(|(number, _)| ["3", "4", "6", "7"].contains(&number)),
            "{line}"
        );
        assert!(!line.contains('\x1b'), "{line:?}");
    }
    let of_job: Vec<&str> =
        text.lines().filter(|line| line.contains("clay owl") || line.contains("done:")).collect();
    assert_eq!(of_job.len(), 2, "{text}");
    assert!(of_job.iter().all(|line| line.starts_with(&format!("<6>job {job}: "))), "{of_job:?}");
    daemon.stop();
}

#[test]
fn a_log_folder_that_cannot_be_written_is_a_warning_and_stops_nothing() {
    let mut stage = DemoProject::new();
    std::fs::write(stage.path("file"), b"").expect("writes");
    let dir = stage.path("file").join("log");
    stage.set("log.dir", &format!("{:?}", dir.display().to_string()));
    let daemon = stage.start();
    let warnings = daemon.status().expect("it runs").warnings;
    assert!(
        warnings.iter().any(|it| it.contains("standard error only") && it.contains("log.dir")),
        "{warnings:?}"
    );
    stage.say("a clay owl");
    stage.done(1);
}
