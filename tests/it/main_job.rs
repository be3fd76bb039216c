//! The main job: a prompt and a sculpted scene become exactly one paid request, and both
//! files appear.
//!
//! Owns the case in which nothing goes wrong; each kind of problem has its own file.

use std::time::Duration;

use conjured::domain::{fingerprint::Fingerprint, job::JobState};

use crate::support::{
    patience::stays,
    stage::{DemoProject, holds_number},
};

#[test]
fn the_first_start_is_a_baseline_and_spends_nothing() {
    let stage = DemoProject::new();
    let _daemon = stage.start();
    let quiet = || stage.submits() == 0 && stage.jobs().is_empty();
    stays(Duration::from_millis(900), "no job for inputs that were there before", quiet);

    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted), (1, 1));
    assert_eq!(stats.requests[0].prompt, "a clay owl");
}

#[test]
fn a_prompt_and_a_render_saved_together_are_one_post_with_the_right_inputs() {
    let mut stage = DemoProject::new();
    stage.set("generation.steps_flux", "11");
    stage.set("generation.steps_partpacker", "23");
    // "Together" is the prompt's window from the first file to the second: even on a busy machine
    // it must not end between them.
    stage.set("trigger.render_quiet_ms", "10000");
    let _daemon = stage.start();
    let frame = stage.film(5);
    stage.say("\u{feff}  a fox of glazed clay \u{2014} sitting\n");

    let jobs = stage.done(1);
    stays(Duration::from_millis(700), "one post", || stage.submits() == 1);
    let stats = stage.service.stats();
    let [request] = &stats.requests[..] else { unreachable!("one post: {stats:?}") };
    assert_eq!(request.prompt, "a fox of glazed clay \u{2014} sitting");
    let picture = request.picture.as_ref().expect("a picture came along");
    assert_eq!(picture.fingerprint, Fingerprint::of(&frame), "the bytes of the render itself");
    assert_eq!(Some(request.seed), jobs[0].seed);
    assert_eq!(Some(request.mesh_seed), jobs[0].mesh_seed);
    let overrides = &request.overrides;
    assert!(holds_number(overrides, 11) && holds_number(overrides, 23), "{overrides}");
    assert_eq!(jobs[0].request.as_ref().map(ToString::to_string), Some(request.id.clone()));
    assert_eq!(stats.authorization_leaks, 0);

    let kept = stage.state_dir().join("history").join(jobs[0].id.to_string());
    let record = std::fs::read(kept.join("job.json")).expect("the job's record is kept");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["state"], "done");
    let [picture, result, part] = stage.public_bytes();
    assert_eq!(result, part, "both names of the mesh show the same");
    assert!(!picture.is_empty());
}

#[test]
fn the_same_inputs_again_are_placed_from_history_without_a_post() {
    let stage = DemoProject::new();
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let owl = stage.public_bytes();
    stage.say("a clay fox");
    stage.done(2);
    assert_ne!(stage.public_bytes(), owl, "another prompt makes other files");

    stage.say("a clay owl");
    let jobs = stage.done(3);
    assert_eq!(stage.public_bytes(), owl, "the owl is back, byte for byte");
    assert_eq!(stage.submits(), 2, "the third job cost no post");
    assert_eq!(jobs[2].spent().0, 0, "and no money");
}

#[test]
fn once_without_a_daemon_does_one_job_and_names_its_files() {
    let stage = DemoProject::new();
    let output = stage.cli(&["once", "--prompt", "a clay heron", "--seed", "42"]);
    assert_printed_files_exist(&output);
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!(stats.submits, 1);
    assert_eq!((stats.requests[0].prompt.as_str(), stats.requests[0].seed), ("a clay heron", 42));
}

#[test]
fn once_with_a_daemon_hands_the_job_over_and_names_its_files() {
    let stage = DemoProject::new();
    let _daemon = stage.start();
    let out = stage.path("results");
    let folder = out.display().to_string();
    let output = stage.cli(&["once", "--prompt", "a clay stork", "--out", &folder]);
    assert_printed_files_exist(&output);
    let jobs = stage.ended(1);
    assert_eq!(jobs[0].state, JobState::Done);
    assert_eq!(stage.submits(), 1);
    assert_eq!(stage.service.stats().requests[0].prompt, "a clay stork");
    assert!(out.join("flux.png").exists() && out.join("result.glb").exists());
    assert!(!stage.public()[0].exists(), "--out keeps the project's own places untouched");
}

#[track_caller]
fn assert_printed_files_exist(output: &std::process::Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let files: Vec<&str> = printed.lines().collect();
    assert_eq!(files.len(), 2, "the picture and the mesh: {printed}");
    for file in files {
        assert!(std::path::Path::new(file).is_file(), "{file} was printed and is not there");
    }
}
