//! What starts a job and what does not: every habit of the programs that write the inputs, and
//! every bad moment.
//!
//! Owns the inputs as files on a real disk, with real watching. The rules in virtual time are
//! in `engine_cases`.

use std::{fs, time::Duration};

use conjured::domain::{fingerprint::Fingerprint, job::JobState};

use crate::support::{
    patience::{eventually, stays},
    service::quick,
    stage::DemoProject,
};

/// Longer than a render's window and the time in which a file counts as being written.
const LONG_ENOUGH: Duration = Duration::from_millis(900);

#[test]
fn sixty_identical_renders_with_new_text_chunks_start_nothing_and_a_new_scene_does() {
    let mut stage = DemoProject::new();
    let _daemon = stage.start();
    let baseline = stage.frame(0);
    for _ in 0..60 {
        let again = stage.film(0);
        assert_ne!(again, baseline, "date and render time are new");
        stays(Duration::from_millis(15), "no post", || stage.submits() == 0);
    }
    stays(LONG_ENOUGH, "no post for an unchanged scene", || stage.submits() == 0);

    let frame = stage.film(1);
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!(stats.submits, 1);
    let picture = stats.requests[0].picture.as_ref().expect("a picture");
    assert_eq!(picture.fingerprint, Fingerprint::of(&frame));
}

#[test]
fn a_half_written_picture_is_never_sent_and_is_sent_once_when_it_is_whole() {
    let mut stage = DemoProject::new();
    let daemon = stage.start();
    let frame = stage.frame(3);
    fs::write(stage.render(), &frame[..frame.len() / 2]).expect("writes");
    eventually("the half picture is seen", || {
        (daemon.status()?.projects[0].render.state == "unfinished").then_some(())
    });
    stays(Duration::from_millis(1500), "no post of half a picture", || stage.submits() == 0);

    fs::write(stage.render(), &frame).expect("writes");
    stage.done(1);
    stays(LONG_ENOUGH, "one post", || stage.submits() == 1);
    let stats = stage.service.stats();
    let picture = stats.requests[0].picture.as_ref().expect("a picture");
    assert_eq!(picture.fingerprint, Fingerprint::of(&frame));
}

#[test]
fn a_storm_of_two_thousand_writes_is_one_job_with_the_last_content() {
    let mut stage = DemoProject::new();
    // On a busy machine the writer itself may be delayed, and must not look as if it had finished.
    stage.set("trigger.prompt_quiet_ms", "3000");
    stage.set("trigger.prompt_max_wait_ms", "60000");
    stage.set("trigger.render_quiet_ms", "3000");
    let _daemon = stage.start();
    let frames: Vec<_> = (1..=20).map(|scene| stage.frame(scene)).collect();
    for round in 0..1000 {
        stage.say(&format!("a clay owl with {round} feathers"));
        fs::write(stage.render(), &frames[round % frames.len()]).expect("writes");
    }
    stage.say("a clay owl, and that is all");
    let last = stage.film(99);

    stage.done(1);
    stays(LONG_ENOUGH, "one job", || stage.submits() == 1);
    let request = &stage.service.stats().requests[0];
    assert_eq!(request.prompt, "a clay owl, and that is all");
    let picture = request.picture.as_ref().expect("a picture");
    assert_eq!(picture.fingerprint, Fingerprint::of(&last));
}

#[test]
fn a_prompt_changed_three_times_during_a_run_is_one_more_job_with_the_last_words() {
    let mut settings = quick();
    settings.run = Duration::from_secs(600);
    let run = settings.run;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);

    let mut before = daemon.status().expect("it answers").projects[0].prompt.fingerprint.clone();
    for message in ["a clay fox", "a clay hen", "a clay elk"] {
        stage.say(message);
        before = eventually("the new words are seen", || {
            let prompt = daemon.status()?.projects[0].prompt.clone();
            (prompt.state == "whole" && prompt.fingerprint != before).then_some(prompt.fingerprint)
        });
    }
    stays(Duration::from_millis(500), "the running job is let run", || {
        let stats = stage.service.stats();
        (stats.submits, stats.cancel_calls) == (1, 0)
    });
    stage.service.advance(run);
    eventually("the second job is sent", || (stage.accepted() == 2).then_some(()));
    eventually("the second job runs", || {
        let newest = stage.jobs().pop()?;
        (stage.jobs().len() == 2 && newest.state == JobState::Running).then_some(())
    });
    stage.service.advance(run);
    stage.done(2);
    stays(LONG_ENOUGH, "two jobs in all", || stage.submits() == 2);
    assert_eq!(stage.service.stats().requests[1].prompt, "a clay elk");
}

#[test]
fn fifty_prompts_and_ever_new_renders_during_a_run_are_one_more_job_with_the_last_of_both() {
    let mut settings = quick();
    settings.run = Duration::from_secs(600);
    let run = settings.run;
    let mut stage = DemoProject::with(settings);
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);

    // CONJURE renders about every three seconds, and people do not speak faster; here everything is
    // sixty times as fast.
    let mut last = stage.film(1);
    for number in 0..50 {
        stage.say(&format!("a clay owl with {number} feathers"));
        if number % 5 == 4 {
            last = stage.film(2 + number / 5);
        }
        stays(Duration::from_millis(50), "the running job is let run", || stage.submits() == 1);
    }
    stage.service.advance(run);
    eventually("the second job is sent", || (stage.accepted() == 2).then_some(()));
    stage.newest_is(JobState::Running);
    stage.service.advance(run);
    stage.done(2);
    stays(LONG_ENOUGH, "two jobs in all", || stage.submits() == 2);
    let stats = stage.service.stats();
    assert_eq!(stats.requests[1].prompt, "a clay owl with 49 feathers");
    let picture = stats.requests[1].picture.as_ref().expect("a picture");
    assert_eq!((picture.fingerprint, stats.cancel_calls), (Fingerprint::of(&last), 0));
}

#[test]
fn a_change_while_the_daemon_is_down_is_noticed_at_the_next_start() {
    let mut stage = DemoProject::new();
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(daemon.stop().code(), Some(0));

    let daemon = stage.start();
    stays(LONG_ENOUGH, "nothing changed meanwhile", || stage.submits() == 1);
    assert_eq!(daemon.stop().code(), Some(0));

    stage.say("a clay fox");
    let frame = stage.film(8);
    let _daemon = stage.start();
    stage.done(2);
    let request = &stage.service.stats().requests[1];
    assert_eq!(request.prompt, "a clay fox");
    let picture = request.picture.as_ref().expect("a picture");
    assert_eq!(picture.fingerprint, Fingerprint::of(&frame));
}

#[test]
fn folders_that_go_and_come_back_are_watched_again() {
    let mut stage = DemoProject::new();
    let daemon = stage.start();
    fs::remove_dir_all(stage.root().join("data")).expect("removes");
    eventually("the loss is seen", || {
        (daemon.status()?.projects[0].prompt.state == "missing").then_some(())
    });
    for path in [stage.prompt(), stage.render()] {
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    }
    stage.film(4);
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(stage.service.stats().requests[0].prompt, "a clay owl");
}
