//! A new configuration while the daemon runs: a valid one takes effect, an invalid one is reported
//! and changes nothing.
//!
//! Owns the saved file and SIGHUP as the two ways to request it.

use std::time::Duration;

use conjured::domain::job::JobState;

use crate::support::{
    daemon::TestDaemon,
    patience::{eventually, stays},
    service::quick,
    stage::{DemoProject, holds_number},
};

const HOUR: Duration = Duration::from_secs(3600);

const REFUSED: &str = "the new configuration was refused";

#[test]
fn a_bad_reload_keeps_the_old_configuration_and_a_good_one_takes_effect() {
    let mut stage = DemoProject::new();
    stage.set("generation.steps_flux", "11");
    let daemon = stage.start();
    let refusal = |daemon: &TestDaemon| {
        let warnings = daemon.status()?.warnings;
        Some(warnings.into_iter().find(|warning| warning.contains(REFUSED)))
    };
    assert_eq!(refusal(&daemon), Some(None));

    stage.set("generation.steps_flx", "12");
    let said = eventually("status tells of the refusal", || refusal(&daemon)?);
    assert!(said.contains("steps_flx") && said.contains("steps_flux"), "with a suggestion: {said}");
    stage.say("a clay owl");
    stage.done(1);
    let overrides = &stage.service.stats().requests[0].overrides;
    assert!(holds_number(overrides, 11), "the old configuration serves: {overrides}");

    stage.unset("generation", "steps_flx");
    stage.set("generation.steps_flux", "13");
    eventually("the refusal is taken back", || refusal(&daemon)?.is_none().then_some(()));
    stage.say("a clay fox");
    let jobs = stage.done(2);
    assert_eq!(jobs[1].state, JobState::Done);
    let overrides = &stage.service.stats().requests[1].overrides;
    assert!(holds_number(overrides, 13) && !holds_number(overrides, 11), "{overrides}");
}

#[test]
fn a_configuration_that_is_being_saved_is_not_taken_for_an_empty_one() {
    let stage = DemoProject::new();
    let daemon = stage.start();
    let whole = std::fs::read(stage.config()).expect("reads");
    // Empty, then complete, as an editor does it, with a moment in between.
    std::fs::write(stage.config(), b"").expect("writes");
    stays(Duration::from_millis(20), "the project is still served", || serves(&daemon));
    std::fs::write(stage.config(), whole).expect("writes");
    stays(Duration::from_millis(700), "the project is still served", || serves(&daemon));
    stage.say("a clay owl");
    stage.done(1);
}

#[test]
fn a_lower_budget_lets_the_running_job_finish_and_refuses_the_next_one() {
    let mut settings = quick();
    settings.run = HOUR;
    let mut stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    let limit = |daemon: &TestDaemon| Some(daemon.status()?.budget.session_limit);
    let before = limit(&daemon);
    stage.set("budget.per_session_usd", "0.01");
    eventually("the new limit is in effect", || (limit(&daemon) != before).then_some(()));
    stage.service.advance(HOUR);
    stage.done(1);
    assert_eq!(stage.service.stats().cancel_calls, 0, "a running job is never killed for it");

    stage.say("a clay fox");
    eventually("status says why nothing starts", || {
        daemon.status()?.projects[0].waiting.contains("over budget").then_some(())
    });
    assert_eq!(stage.submits(), 1, "nothing was sent");

    stage.set("budget.per_session_usd", "0");
    eventually("a higher limit is enough, nobody has to change the scene again", || {
        (stage.accepted() == 2).then_some(())
    });
}

#[test]
fn paths_that_change_during_a_job_take_effect_when_it_has_ended() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    let spoken = stage.root().join("spoken.txt");
    // The active job's prompt: another one would be a change when the path takes effect, and might
    // be sent before the fox.
    std::fs::write(&spoken, "a clay owl").expect("writes");
    let text = std::fs::read_to_string(stage.config()).expect("reads");
    let text = text.replacen("name = \"test\"", "name = \"test\"\nprompt = \"spoken.txt\"", 1);
    std::fs::write(stage.config(), text).expect("writes");
    stays(Duration::from_millis(700), "the job at work is let alone", || {
        let stats = stage.service.stats();
        (stats.submits, stats.cancel_calls) == (1, 0)
    });
    stage.service.advance(HOUR);
    stage.done(1);
    eventually("the new prompt is watched", || {
        let path = daemon.status()?.projects.first()?.prompt.path.clone();
        path.ends_with("spoken.txt").then_some(())
    });
    std::fs::write(&spoken, "a clay fox").expect("writes");
    eventually("what is written there is sent", || (stage.accepted() >= 2).then_some(()));
    let sent = stage.service.stats().requests;
    assert_eq!(sent.last().map(|request| request.prompt.as_str()), Some("a clay fox"));
}

fn serves(daemon: &TestDaemon) -> bool {
    daemon.status().is_some_and(|status| status.projects.iter().any(|it| it.name == "test"))
}

#[cfg(unix)]
#[test]
fn a_hang_up_signal_reads_the_token_again() {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::process::Signal;

    use crate::support::service::TOKEN;

    let stage = DemoProject::new();
    let mut command = stage.command(&["run"]);
    command.env_remove("RUNCOMFY_API_TOKEN");
    let daemon = TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr")).ready();
    let state = || daemon.status().map(|status| status.backends[0].state.clone());
    assert_eq!(state().as_deref(), Some("unconfigured"));

    let file = stage.state_dir().join("runcomfy_token");
    std::fs::write(&file, TOKEN).expect("writes");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("is ours");
    daemon.signal(Signal::HUP);
    eventually("the backend is ready", || (state()? == "ready").then_some(()));
    stage.say("a clay owl");
    stage.done(1);
}
