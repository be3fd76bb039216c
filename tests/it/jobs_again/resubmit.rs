//! `serverless.resubmit_unknown`: a job with a lost answer is automatically submitted again, once,
//! if that is configured.

use std::time::Duration;

use conjured::{domain::job::JobState, simulator::faults::Fault};

use crate::support::{
    patience::{eventually, stays},
    stage::DemoProject,
};

#[test]
fn a_lost_answer_is_sent_again_once_with_a_warning_and_no_second_time() {
    let mut stage = DemoProject::new();
    stage.set("serverless.resubmit_unknown", "true");
    stage.service.order(Fault::AcceptThenDrop);
    let daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.ended(2);
    assert_eq!((jobs[0].state, jobs[1].state), (JobState::Cancelled, JobState::Done));
    assert_eq!((jobs[0].booked, jobs[0].replaced_by), (None, Some(jobs[1].id)));
    assert_eq!((jobs[1].retry_of, jobs[1].cause), (Some(jobs[0].id), jobs[0].cause));
    assert_eq!(stage.accepted(), 2);
    let warned = |warning: &String| warning.contains("charged TWICE");
    assert!(daemon.status().expect("it answers").warnings.iter().any(warned));
    assert!(
        daemon.stderr_text().contains("charged TWICE") || log(&stage).contains("charged TWICE")
    );

    for _ in 0..3 {
        stage.service.order(Fault::AcceptThenDrop);
    }
    stage.say("a clay fox");
    let jobs = stage.ended(4);
    assert_eq!((jobs[2].state, jobs[3].state), (JobState::Cancelled, JobState::Unknown));
    stays(Duration::from_secs(1), "not a third time", || stage.submits() == 4);
    stage.say("a clay owl, again");
    eventually("another snapshot has its own chance", || {
        stage
            .jobs()
            .pop()
            .filter(|job| job.prompt_excerpt == "a clay owl, again" && job.state == JobState::Done)
    });
}

#[test]
fn an_answer_lost_by_a_crash_is_sent_again_at_the_next_start_unless_something_newer_is_there() {
    for newer in [false, true] {
        let mut stage = DemoProject::new();
        stage.set("serverless.resubmit_unknown", "true");
        stage.service.order(Fault::Hang { ms: None });
        let daemon = stage.start();
        stage.say("a clay owl");
        stage.newest_is(JobState::Submitting);
        eventually("it arrived", || (stage.submits() == 1).then_some(()));
        daemon.kill();
        if newer {
            stage.say("a clay fox");
        }
        let _daemon = stage.start();
        let jobs = stage.ended(2);
        assert_eq!(jobs[1].state, JobState::Done);
        if newer {
            assert_eq!((jobs[0].state, jobs[1].retry_of), (JobState::Unknown, None));
            stays(Duration::from_millis(500), "the newest alone", || stage.jobs().len() == 2);
        } else {
            assert_eq!((jobs[0].state, jobs[1].retry_of), (JobState::Cancelled, Some(jobs[0].id)));
        }
    }
}

fn log(stage: &DemoProject) -> String {
    let mut text = String::new();
    for path in crate::support::stage::files_below(&stage.path("log")) {
        text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
    }
    text
}
