//! When the status is published, what it warns of, and when the daemon is ready.

use super::*;

/// Returns whether the event leads to a publication.
fn publishes(fixture: &mut Fixture, event: LoopEvent) -> bool {
    let actions = fixture.state.handle(event, fixture.now);
    actions.iter().any(|action| matches!(action, Action::PublishStatus))
}

fn warning(text: &str) -> LoopEvent {
    LoopEvent::Reported(JobReport::Warning(text.to_owned()))
}

#[test]
fn the_status_is_published_at_most_every_50_ms_and_only_if_it_changed() {
    let mut fixture = Fixture::new(1);
    fixture.pass(Duration::from_secs(1));
    assert!(publishes(&mut fixture, warning("one")), "the last one is old enough");
    let published = fixture.now.moment;
    fixture.pass(Duration::from_millis(1));
    assert!(!publishes(&mut fixture, warning("two")));
    let due = published.plus(Duration::from_millis(50));
    assert_eq!(fixture.state.deadline(fixture.now.moment), Some(due));
    fixture.pass(Duration::from_millis(48));
    assert!(!publishes(&mut fixture, warning("three")));
    fixture.pass(Duration::from_millis(1));
    assert!(publishes(&mut fixture, warning("three")), "for what came meanwhile");
    fixture.pass(Duration::from_secs(1));
    assert!(!publishes(&mut fixture, warning("one")), "nothing changed");
}

#[test]
fn a_warning_is_kept_once_and_the_oldest_make_room() {
    let mut fixture = Fixture::new(1);
    for number in 0..25 {
        fixture.handle(warning(&format!("number {number}")));
        fixture.handle(warning("number 24"));
    }
    let kept = fixture.state.warnings.kept();
    assert_eq!(kept.len(), 20);
    assert_eq!(kept.iter().filter(|text| *text == "number 24").count(), 1);
    assert_eq!(kept.last().map(String::as_str), Some("number 23"));
}

#[test]
fn a_pending_write_is_shown_until_it_is_written() {
    let mut fixture = Fixture::new(1);
    let what = "the baseline";
    fixture.report(JobReport::Unwritten { what, problem: Some("a full disk".to_owned()) });
    assert_eq!(fixture.state.warnings.unwritten().len(), 1);
    fixture.report(JobReport::Unwritten { what, problem: None });
    assert!(fixture.state.warnings.unwritten().is_empty());
}

#[test]
fn the_daemon_is_ready_when_every_input_was_scanned_and_that_is_published() {
    let mut fixture = Fixture::unscanned(2, false, |_| {});
    let actions = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&actions), ["scan 1", "scan 2"]);
    assert!(!fixture.state.is_ready());
    fixture.scans(actions);
    assert!(!fixture.state.is_ready(), "the status does not show it yet");
    fixture.pass(Duration::from_millis(50));
    fixture.handle(LoopEvent::Timer);
    // That event changed the status once more.
    fixture.pass(Duration::from_millis(50));
    fixture.state.publish_if_due(fixture.now.moment);
    assert!(fixture.state.is_ready());
}

#[test]
fn the_figures_of_jobs_machines_and_money_reach_the_status() {
    let mut fixture = Fixture::new(1);
    let actions = fixture.report(JobReport::MachineMoney);
    assert_eq!(labels(&actions), ["refresh"]);
    let fresh = crate::daemon::event_loop::event::Refreshed {
        last_job: None,
        unknown: vec![JobId::from_parts(fixture.now.wall, 1)],
        spent: Spent { day: crate::domain::money::MicroUsd(5), ..Spent::default() },
    };
    fixture.returned(TaskName::Refresh(FIRST), TaskOutcome::Refreshed(Box::new(fresh)));
    fixture.report(JobReport::Balance(crate::domain::money::MicroUsd(9)));
    let health = crate::daemon::services::health::HealthRegistry::default();
    let view = fixture.state.status_view(&health);
    assert_eq!(view.spent.day, crate::domain::money::MicroUsd(5));
    assert_eq!(view.balance, Some(crate::domain::money::MicroUsd(9)));
    assert_eq!(view.projects[&FIRST].past_jobs().1.len(), 1);
}
