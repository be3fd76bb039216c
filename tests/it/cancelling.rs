//! A person's cancel is final until the placement begins, whatever happens afterwards, and refused
//! from then on.
//!
//! Owns what a cancel means for what the artist sees. That it is sent at all, and how, is tested in
//! `network` and `stopping`.

use std::{fs, time::Duration};

use conjured::{
    domain::job::JobState,
    simulator::{
        behaviour::RunningCancel,
        faults::{Call, Fault, Order},
    },
};

use crate::support::{
    patience::eventually,
    service::quick,
    stage::{DemoProject, holds_number},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Creates a stage whose runs take an hour, and continue when they are cancelled.
fn stubborn(cancel: RunningCancel) -> DemoProject {
    let mut settings = quick();
    settings.run = HOUR;
    settings.behaviour.running_cancel = cancel;
    DemoProject::with(settings)
}

/// Cancels the newest job; returns its id.
fn cancel(stage: &DemoProject) -> String {
    let id = stage.jobs().pop().expect("a job").id.to_string();
    let output = stage.cli(&["jobs", "cancel", &id]);
    assert!(output.status.success(), "{output:?}");
    id
}

/// Waits until this many cancels have arrived at the service.
fn arrives(stage: &DemoProject, count: u64) {
    eventually("the cancel arrives", || {
        (stage.service.stats().cancel_calls >= count).then_some(())
    });
}

#[test]
fn a_cancelled_job_that_the_service_completes_is_kept_and_never_placed_whatever_comes_after_it() {
    for cancel in [RunningCancel::CompletesAnyway, RunningCancel::Refused] {
        completes(cancel);
    }
}

fn completes(how: RunningCancel) {
    let mut stage = stubborn(how);
    stage.set("trigger.when_busy", "\"cancel\"");
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    cancel(&stage);
    arrives(&stage, 1);
    let before = daemon.status().expect("it answers").projects[0].prompt.fingerprint.clone();
    // A newer change wants to replace the job, which has a lower priority.
    stage.say("a clay fox");
    eventually("the change is seen", || {
        let status = daemon.status()?;
        (status.projects[0].prompt.fingerprint != before).then_some(())
    });
    stage.service.advance(HOUR);
    let owl =
        eventually("it ends", || stage.jobs().first().filter(|job| job.state.is_final()).cloned());
    assert_eq!(owl.state, JobState::Cancelled, "{:?}", owl.reason);
    assert!(owl.spent().0 > 0, "its run was charged");
    assert!(stage.public().iter().all(|path| !path.exists()), "nothing of it is placed");
    let folder = stage.state_dir().join("history").join(owl.id.to_string());
    for name in ["image.png", "mesh.glb"] {
        assert!(folder.join(name).is_file(), "{name} was paid for");
    }
    eventually("the newer change is a job", || (stage.accepted() == 2).then_some(()));
    stage.service.advance(HOUR);
    assert_eq!(stage.ended(2)[1].state, JobState::Done);
    stage.assert_public_whole();
}

#[test]
fn a_cancel_survives_a_kill_and_its_job_is_not_placed_by_the_next_start() {
    let stage = stubborn(RunningCancel::Refused);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    let id = cancel(&stage);
    daemon.kill();
    stage.service.advance(HOUR);
    let _daemon = stage.start();
    let job = stage.ended(1).remove(0);
    assert_eq!(job.state, JobState::Cancelled, "{:?}", job.reason);
    assert!(stage.public().iter().all(|path| !path.exists()), "nothing of it is placed");
    // It can be restored all the same.
    let output = stage.cli(&["jobs", "restore", &id]);
    assert!(output.status.success(), "{output:?}");
    stage.assert_public_whole();
}

#[test]
fn a_cancel_while_a_result_is_placed_is_refused_and_changes_nothing() {
    let stage = DemoProject::new();
    let folder = stage.public()[0].parent().expect("a folder").to_path_buf();
    fs::create_dir_all(&folder).expect("makes");
    // It blocks root, too, which ignores permissions.
    fs::create_dir(stage.public()[0].clone()).expect("makes");
    let _daemon = stage.start();
    stage.say("a clay owl");
    let job = stage.newest_is(JobState::Placing);
    let output = stage.cli(&["jobs", "cancel", &job.id.to_string()]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("being placed"), "{said}");
    fs::remove_dir(&stage.public()[0]).expect("removes");
    stage.done(1);
}

#[test]
fn a_cancel_during_the_download_keeps_what_was_paid_for() {
    let stage = DemoProject::new();
    stage
        .service
        .order(Order::from(Fault::SlowStream { bytes_per_second: 20_000 }).on(Call::Download));
    let _daemon = stage.start();
    stage.say("a clay owl");
    eventually("it downloads", || (stage.service.stats().downloads == 1).then_some(()));
    cancel(&stage);
    stage.service.clear_faults();
    let job = stage.ended(1).remove(0);
    assert_eq!(job.state, JobState::Cancelled);
    assert!(job.spent().0 > 0);
    assert!(stage.public().iter().all(|path| !path.exists()), "nothing of it is placed");
    let shown = stage.json(&["jobs", "show", &job.id.to_string(), "--json"]);
    assert!(holds_number(&shown, u64::try_from(job.spent().0).expect("positive")), "{shown}");
}
