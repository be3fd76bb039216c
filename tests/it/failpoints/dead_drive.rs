//! One project's drive stops to answer: its project waits, and everything else goes on.
//!
//! Owns the world with two projects, one of them on a drive whose every file call waits for as long
//! as the test says. Nothing here is proved by how long it took, but for the stop, which a service
//! manager counts.

use std::{fs, path::PathBuf, time::Duration};

use conjured::{
    clock::Clock,
    disk::drive::VARIABLE,
    domain::{job::JobState, money::MicroUsd, status::Project},
};
use rustix::process::Signal;

use crate::support::{
    daemon::TestDaemon,
    patience::{eventually, patience},
    stage::DemoProject,
};

/// How often the status is asked for while the drive is dead.
const ASKED: usize = 200;

/// A project on a drive of its own.
struct Drive {
    root: PathBuf,
}

impl Drive {
    /// Makes a project with inputs, and lists it in the configuration.
    fn new(stage: &DemoProject) -> Self {
        let drive = Self { root: stage.path("drive") };
        for (own, other) in
            [(stage.prompt(), drive.prompt()), (stage.render(), drive.render(stage))]
        {
            fs::create_dir_all(other.parent().expect("a folder")).expect("makes");
            fs::copy(own, other).expect("copies");
        }
        drive.list(stage);
        drive
    }

    /// Lists the project behind the one that is always there; a saved stage has forgotten it.
    fn list(&self, stage: &DemoProject) {
        let text = fs::read_to_string(stage.config()).expect("reads");
        let own = format!(
            "\n[[project]]\nname = \"drive\"\nroot = {:?}\n",
            self.root.display().to_string()
        );
        fs::write(stage.config(), text + &own).expect("writes");
    }

    fn prompt(&self) -> PathBuf {
        self.root.join("data/generated_text/userPrompt.txt")
    }

    fn render(&self, stage: &DemoProject) -> PathBuf {
        self.root.join(stage.render().strip_prefix(stage.root()).expect("below the root"))
    }

    fn flag(&self) -> PathBuf {
        self.root.with_extension("dead")
    }

    fn dies(&self) {
        fs::write(self.flag(), b"").expect("writes");
    }

    fn is_back(&self) {
        fs::remove_file(self.flag()).expect("removes");
    }

    fn start(&self, stage: &DemoProject) -> TestDaemon {
        let mut command = stage.command(&["run"]);
        command.env(VARIABLE, &self.root);
        TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr"))
    }
}

fn project(daemon: &TestDaemon, name: &str) -> Option<Project> {
    daemon.status()?.projects.into_iter().find(|project| project.name == name)
}

fn is_looked_at(daemon: &TestDaemon, name: &str) -> Option<()> {
    let project = project(daemon, name)?;
    (project.prompt.state == "whole" && project.render.state == "whole").then_some(())
}

fn is_told(daemon: &TestDaemon) -> Option<()> {
    let warnings = daemon.status()?.warnings;
    warnings.iter().any(|warning| warning.contains("`drive` does not answer")).then_some(())
}

/// Waits for the end of a daemon that was told to stop, which takes at most five seconds on a
/// machine that is not busy.
#[track_caller]
fn ends_in_time(daemon: TestDaemon) {
    let before = Clock.now().moment;
    assert_eq!(daemon.stop().code(), Some(0));
    let took = Clock.now().moment.since(before);
    let bound = Duration::from_secs(5).max(patience() / 12);
    assert!(took < bound, "it took {took:?} to stop");
}

/// Asks for the status again and again; each answer comes while the drive is dead.
#[expect(clippy::print_stderr, reason = "how long it took is worth a look, and no proof")]
#[track_caller]
fn status_answers(daemon: &TestDaemon) {
    let mut took: Vec<Duration> = (0..ASKED)
        .map(|_| {
            let before = Clock.now().moment;
            assert!(daemon.status().is_some(), "it answers");
            Clock.now().moment.since(before)
        })
        .collect();
    took.sort_unstable();
    let (median, longest) = (took[ASKED / 2], took[ASKED - 1]);
    eprintln!("status answered {ASKED} times: median {median:?}, longest {longest:?}");
    assert!(median < Duration::from_millis(500), "half of {ASKED} answers took {median:?}");
}

#[test]
fn a_drive_that_stops_to_answer_holds_up_its_own_project_only() {
    let mut stage = DemoProject::new();
    let drive = Drive::new(&stage);
    let daemon = drive.start(&stage);
    for name in ["test", "drive"] {
        eventually("both are looked at", || is_looked_at(&daemon, name));
    }
    drive.dies();
    fs::write(drive.prompt(), "a clay heron").expect("the server of the drive still can");
    stage.say("a clay owl");
    stage.done(1);
    status_answers(&daemon);
    eventually("status tells whose drive it is", || is_told(&daemon));

    // A reload in that state.
    stage.set("budget.per_session_usd", "7");
    drive.list(&stage);
    daemon.signal(Signal::HUP);
    eventually("the new configuration is in effect", || {
        (daemon.status()?.budget.session_limit == Some(MicroUsd::from_cents(700))).then_some(())
    });
    status_answers(&daemon);
    stage.say("a clay fox");
    stage.done(2);
    eventually("status still tells", || is_told(&daemon));

    drive.is_back();
    eventually("what changed on the drive is sent", || (stage.accepted() == 3).then_some(()));
    eventually("and placed there", || {
        drive.root.join("data/generated_images/flux/flux.png").exists().then_some(())
    });
    eventually("it is told no more", || is_told(&daemon).is_none().then_some(()));

    drive.dies();
    fs::write(drive.prompt(), "a clay crane").expect("writes");
    eventually("status tells again", || is_told(&daemon));
    ends_in_time(daemon);
}

#[test]
fn a_drive_that_does_not_answer_from_the_start_holds_up_nobody_else() {
    let stage = DemoProject::new();
    let drive = Drive::new(&stage);
    drive.dies();
    let daemon = drive.start(&stage);
    eventually("the other one is looked at", || is_looked_at(&daemon, "test"));
    eventually("status tells whose drive it is", || is_told(&daemon));
    stage.say("a clay owl");
    stage.done(1);
    status_answers(&daemon);
    drive.is_back();
    eventually("it is served", || is_looked_at(&daemon, "drive"));
    fs::write(drive.prompt(), "a clay heron").expect("writes");
    eventually("and its changes are sent", || (stage.accepted() == 2).then_some(()));
    ends_in_time(daemon);
}

#[test]
fn a_new_project_on_a_drive_that_does_not_answer_is_served_when_it_does() {
    let stage = DemoProject::new();
    let before = fs::read_to_string(stage.config()).expect("reads");
    let drive = Drive::new(&stage);
    fs::write(stage.config(), before).expect("writes");
    drive.dies();
    let daemon = drive.start(&stage).ready();
    drive.list(&stage);
    daemon.signal(Signal::HUP);
    eventually("status tells whose drive it is", || is_told(&daemon));
    stage.say("a clay owl");
    stage.done(1);
    status_answers(&daemon);
    drive.is_back();
    eventually("it is served", || is_looked_at(&daemon, "drive"));
    ends_in_time(daemon);
}

#[test]
fn a_placement_on_a_drive_that_does_not_answer_keeps_no_daemon_from_ending() {
    let mut settings = crate::support::service::quick();
    settings.run = Duration::from_secs(3600);
    let stage = DemoProject::with(settings);
    let drive = Drive::new(&stage);
    let daemon = drive.start(&stage);
    eventually("it is looked at", || is_looked_at(&daemon, "drive"));
    fs::write(drive.prompt(), "a clay heron").expect("writes");
    stage.newest_is(JobState::Running);
    drive.dies();
    stage.service.advance(Duration::from_secs(3600));
    stage.newest_is(JobState::Placing);
    status_answers(&daemon);
    ends_in_time(daemon);
    drive.is_back();
    let _daemon = drive.start(&stage);
    eventually("the next start places it", || {
        drive.root.join("data/generated_images/flux/flux.png").exists().then_some(())
    });
    assert_eq!(stage.submits(), 1);
}
