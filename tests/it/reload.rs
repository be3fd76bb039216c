//! A new configuration while the daemon runs: a good one takes effect, a bad one changes nothing and is told.
//!
//! Owns the saved file and SIGHUP as the two ways to ask for it.

use conjured::domain::job::State;
use rustix::process::Signal;

use crate::support::{patience::eventually, stage::Stage};

const REFUSED: &str = "the new configuration was refused";

#[test]
fn a_bad_reload_keeps_the_old_configuration_and_a_good_one_takes_effect() {
    let mut stage = Stage::new();
    stage.set("generation.steps_flux", "11");
    let daemon = stage.start();
    let refusal = |daemon: &crate::support::daemon::TestDaemon| {
        let warnings = daemon.status()?.warnings;
        Some(warnings.into_iter().find(|warning| warning.contains(REFUSED)))
    };
    assert_eq!(refusal(&daemon), Some(None));

    stage.set("generation.steps_flx", "12");
    let said = eventually("status tells of the refusal", || refusal(&daemon)?);
    assert!(said.contains("steps_flx") && said.contains("steps_flux"), "with a suggestion: {said}");
    stage.say("a clay owl");
    stage.done(1);
    let overrides = stage.service.stats().requests[0].overrides.to_string();
    assert!(overrides.contains("11"), "the old configuration serves: {overrides}");

    stage.unset("generation", "steps_flx");
    stage.set("generation.steps_flux", "13");
    eventually("the refusal is taken back", || refusal(&daemon)?.is_none().then_some(()));
    stage.say("a clay fox");
    let jobs = stage.done(2);
    assert_eq!(jobs[1].state, State::Done);
    let overrides = stage.service.stats().requests[1].overrides.to_string();
    assert!(overrides.contains("13") && !overrides.contains("11"), "the new one: {overrides}");
}

#[test]
fn a_hang_up_signal_reads_the_configuration_again() {
    let stage = Stage::new();
    let daemon = stage.start();
    let again = "the configuration was read again";
    let unchanged = || daemon.stderr_text().contains(again);
    assert!(!unchanged());
    std::fs::write(stage.config(), "mode = 7").expect("writes");
    daemon.signal(Signal::HUP);
    eventually("status tells of the refusal", || {
        let warnings = daemon.status()?.warnings;
        warnings.into_iter().find(|warning| warning.contains(REFUSED))
    });
    stage.say("a clay owl");
    stage.done(1);
}
