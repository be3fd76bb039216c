//! CONJURE is asked to import each mesh exactly once: with a CONJURE that has all its races, and
//! with the real program.
//!
//! Owns what is promised about `state.json`, about the picture after an import, and about hands in
//! it. The rules without time and files are cases next to `domain/handoff` and in
//! `cases/engine.toml`. `CONJURED_HANDOFF_JOBS` sets how many meshes the long test hands over
//! (500), and `CONJURED_TEST_SEED` seeds its random numbers.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use conjured::{
    backend::http,
    clock::Clock,
    domain::{
        blender::handoff::decide::HandoffRules,
        job::{JobId, JobState},
        time::WallTime,
    },
    handoff::{HandoffProgress, HandoffRequest, HandoffRunner},
};
use serde_json::{Value, json};

use crate::support::{
    fake_conjure::{Api, FakeConjure, Manners},
    media,
    patience::{eventually, stays},
    stage::DemoProject,
};

/// The limits of a test: shorter than in real use, and still longer than what [`deliver`] waits for
/// in any case.
fn quick(api: bool) -> HandoffRules {
    HandoffRules {
        api,
        staging_time: Duration::from_millis(100),
        api_lag: Duration::from_millis(300),
        missing_for: Duration::from_millis(100),
        max_requests: 20,
        ..HandoffRules::default()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn delivery(root: &Path, job: u64, rules: HandoffRules) -> HandoffRequest {
    let mesh = root.join(format!("history-{job}.glb"));
    fs::write(&mesh, media::mesh(u16::try_from(job).expect("small"))).expect("writes");
    HandoffRequest {
        job: JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), u128::from(job)),
        sequence: 0,
        root: root.to_path_buf(),
        mesh,
        folder: root.join("data/generated_models/partpacker_results"),
        min_volume_threshold: 0.001,
        rules,
    }
}

/// Hands a mesh over to the end, as the daemon does; `Ok` when it was taken. What CONJURE does
/// during a wait is finished when the wait is over, so the speed of this machine does not matter.
fn deliver(request: HandoffRequest, fake: &FakeConjure) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = http::plain_client().build().expect("a client");
    let url = fake.url().parse().expect("a URL");
    let mut runner = HandoffRunner::new(request).expect("a good folder");
    let mut notes = Vec::new();
    loop {
        let mut step = runner.step(Clock.now().moment);
        if let HandoffProgress::Call(call) = step {
            let outcome = runtime.block_on(call.send(&client, &url));
            step = runner.record_call(Clock.now().moment, &call, outcome);
        }
        notes.extend(runner.take_notes());
        match step {
            HandoffProgress::Taken => return Ok(notes),
            HandoffProgress::GivenUp { waiting, .. } => return Err(waiting.to_string()),
            HandoffProgress::Wait(wait, _) if wait.is_zero() => {}
            HandoffProgress::Wait(wait, _) => {
                std::thread::park_timeout(wait);
                fake.catch_up();
            }
            HandoffProgress::Call(_) => {}
        }
    }
}

/// Fails unless the meshes of these jobs were imported, each once, in this order.
#[track_caller]
fn assert_imported(fake: FakeConjure, jobs: &[u64]) {
    let imports = fake.finish();
    let expected: Vec<Vec<u8>> =
        jobs.iter().map(|job| media::mesh(u16::try_from(*job).expect("small"))).collect();
    let seen: Vec<&Vec<u8>> = imports.iter().map(|import| &import.bytes).collect();
    let missing: Vec<u64> = jobs
        .iter()
        .zip(&expected)
        .filter(|(_, mesh)| !seen.contains(mesh))
        .map(|(job, _)| *job)
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {} meshes were never imported", expected.len());
    assert!(seen.into_iter().eq(expected.iter()), "each once, in order");
}

#[test]
fn five_hundred_meshes_are_imported_once_each_whatever_the_launcher_rewrites() {
    let all = number("CONJURED_HANDOFF_JOBS", 500);
    let seed = number("CONJURED_TEST_SEED", 20_250_913);
    let lanes = 5;
    let lane = |lane: u64| {
        let folder = tempfile::tempdir().expect("a folder");
        let own_api = lane == 1;
        let manners = Manners {
            seed: seed + lane,
            api: if own_api { Api::Own } else { Api::None },
            ..Manners::default()
        };
        let fake = FakeConjure::start(folder.path(), manners);
        let jobs: Vec<u64> = (1..=all.div_ceil(lanes)).collect();
        for job in &jobs {
            let told = deliver(delivery(folder.path(), *job, quick(own_api)), &fake);
            assert!(told.is_ok(), "lane {lane}, seed {seed}, mesh {job}: {told:?}");
        }
        assert_imported(fake, &jobs);
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..lanes).map(|at| scope.spawn(move || lane(at))).collect();
        for thread in started {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn an_api_of_another_checkout_is_not_told_to_import() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake =
        FakeConjure::start(folder.path(), Manners { api: Api::Another, ..Manners::default() });
    let notes = deliver(delivery(folder.path(), 1, quick(true)), &fake).expect("taken");
    assert!(notes.iter().any(|note| note.contains("another checkout")), "{notes:?}");
    assert_imported(fake, &[1]);
}

#[test]
fn an_api_that_carries_out_late_what_it_was_told_imports_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let manners = Manners { api: Api::Late, launcher: None, ..Manners::default() };
    let fake = FakeConjure::start(folder.path(), manners);
    let notes = deliver(delivery(folder.path(), 1, quick(true)), &fake).expect("taken");
    assert!(notes.iter().any(|note| note.contains("state.json")), "{notes:?}");
    eventually("the late call is carried out", || {
        let mark = fake.state()["daemon_import_id"].as_str()?.ends_with("staged");
        mark.then_some(())
    });
    stays(Duration::from_millis(300), "one import", || fake.imports().len() == 1);
    assert_imported(fake, &[1]);
}

// With the real program.

/// Creates a project with a CONJURE around it.
fn stage(manners: Manners, way: &str) -> (DemoProject, FakeConjure) {
    let mut stage = DemoProject::new();
    let fake = FakeConjure::start(&stage.root(), manners);
    stage.set("placement.handoff", &format!("\"{way}\""));
    stage.set("placement.conjure_url", &format!("\"{}\"", fake.url()));
    (stage, fake)
}

/// Fails unless the meshes of these jobs were imported, each once.
#[track_caller]
fn assert_jobs_imported(stage: &DemoProject, fake: FakeConjure, jobs: &[JobId]) {
    let mut imported: Vec<Vec<u8>> = fake.finish().into_iter().map(|import| import.bytes).collect();
    for job in jobs {
        let kept = stage.state_dir().join("history").join(job.to_string()).join("mesh.glb");
        let mesh = fs::read(kept).expect("its mesh is in history");
        let at = imported.iter().position(|bytes| *bytes == mesh);
        imported.remove(at.unwrap_or_else(|| panic!("the mesh of {job} was not imported")));
    }
    assert_eq!(imported.len(), 0, "and nothing else");
}

fn ids(jobs: &[conjured::ledger::rows::JobRow]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Enough jobs to show that one leaves nothing behind that would disturb the next.
const JOBS: usize = 6;

#[test]
fn job_after_job_of_the_real_program_is_imported_once_each() {
    let manners = Manners { detector: true, api: Api::Own, ..Manners::default() };
    let (stage, fake) = stage(manners, "auto");
    let daemon = stage.start();
    let mut jobs = Vec::new();
    // Each is a placement while the launcher watches; the races of many are in the test above.
    for job in 1..=JOBS {
        stage.say(&format!("a clay owl, number {job}"));
        jobs = stage.done(job);
    }
    stays(Duration::from_millis(600), "no import by file time", || fake.imports().len() == JOBS);
    let notes = stage.json(&["jobs", "show", &jobs[0].id.to_string(), "--json"]).to_string();
    assert!(notes.contains("handing over") && notes.contains("Blender has taken"), "{notes}");
    let warnings = daemon.status().expect("it answers").warnings;
    assert!(!warnings.iter().any(|message| message.contains("CONJURE")), "{warnings:?}");
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[test]
fn a_mesh_is_imported_although_something_newer_waits_for_its_end() {
    let mut settings = crate::support::service::quick();
    settings.run = Duration::from_secs(3600);
    let mut stage = DemoProject::with(settings);
    let fake = FakeConjure::start(&stage.root(), Manners { launcher: None, ..Manners::default() });
    stage.set("placement.handoff", "\"state\"");
    stage.set("placement.conjure_url", &format!("\"{}\"", fake.url()));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    stage.say("a clay fox");
    stays(Duration::from_millis(700), "a running job is not replaced", || stage.submits() == 1);
    stage.service.advance(Duration::from_secs(3600));
    eventually("the newer one runs", || (stage.accepted() == 2).then_some(()));
    stage.newest_is(JobState::Running);
    stage.service.advance(Duration::from_secs(3600));
    let jobs = stage.done(2);
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[test]
fn a_mesh_that_is_restored_is_imported_once() {
    let manners = Manners { detector: true, api: Api::Own, ..Manners::default() };
    let (stage, fake) = stage(manners, "auto");
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    stage.say("a clay fox");
    let jobs = stage.done(2);
    fake.forget_imports();
    let restored = stage.cli(&["jobs", "restore", &jobs[0].id.to_string()]);
    assert!(restored.status.success(), "{restored:?}");
    eventually("it is imported again", || (fake.imports().len() == 1).then_some(()));
    stays(Duration::from_millis(1500), "and not by file time too", || fake.imports().len() == 1);
    assert_jobs_imported(&stage, fake, &[jobs[0].id]);
}

#[test]
fn where_conjure_does_not_run_a_mesh_is_just_placed_and_nothing_is_written() {
    let (stage, fake) = stage(Manners { launcher: None, ..Manners::default() }, "auto");
    fake.change(&[("app_status", json!("shutting_down"))]);
    let path = stage.root().join("data/input/state.json");
    let before = fs::read(&path).expect("reads");
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(fs::read(&path).expect("reads"), before);
    let age = fs::metadata(&stage.public()[2]).and_then(|data| data.modified()).expect("a time");
    assert!(age.elapsed().is_ok_and(|age| age < Duration::from_secs(60)), "its own time");

    fs::remove_file(&path).expect("removes");
    stage.say("a clay fox");
    stage.done(2);
    assert!(!path.exists(), "a state that is not there is not made");
}

#[test]
fn off_tells_nobody() {
    let (stage, fake) = stage(Manners { launcher: None, ..Manners::default() }, "off");
    let path = stage.root().join("data/input/state.json");
    let before = fs::read(&path).expect("reads");
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(fs::read(&path).expect("reads"), before);
    assert_jobs_imported(&stage, fake, &[]);
}

#[test]
fn a_torn_state_is_left_alone_until_it_is_whole() {
    let (stage, fake) =
        stage(Manners { launcher: None, blender: false, ..Manners::default() }, "auto");
    let path = stage.root().join("data/input/state.json");
    let whole = fs::read(&path).expect("reads");
    let torn = &whole[..whole.len() / 2];
    fake.tear(torn);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::HandingOver);
    eventually("the status says what it waits for", || {
        let job = daemon.status()?.projects.first()?.job.clone()?;
        job.doing.contains("cannot be used at the moment").then_some(())
    });
    assert_eq!(fs::read(&path).expect("reads"), torn);
    fake.tear(&whole);
    fake.blender(true);
    let jobs = stage.done(1);
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[test]
fn a_killed_handover_goes_on_and_imports_once() {
    let (stage, fake) =
        stage(Manners { blender: false, launcher: None, ..Manners::default() }, "auto");
    let pending = |fake: &FakeConjure| fake.state()["command"] == "import_and_process_mesh";
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::HandingOver);
    // Killed once before the import was certainly requested, once while the request is pending,
    // once while it is carried out.
    daemon.kill();
    let daemon = stage.start();
    eventually("it is asked", || pending(&fake).then_some(()));
    eventually("and said", || {
        let job = daemon.status()?.projects.first()?.job.clone()?;
        job.doing.contains("Blender is not running CONJURE yet").then_some(())
    });
    daemon.kill();
    let daemon = stage.start();
    fake.blender(true);
    eventually("it is taken", || (!fake.imports().is_empty()).then_some(()));
    daemon.kill();
    let _daemon = stage.start();
    let jobs = stage.done(1);
    stays(Duration::from_millis(400), "once", || fake.imports().len() == 1);
    assert_eq!(stage.accepted(), 1);
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[test]
fn a_newer_job_does_not_wait_for_a_blender_that_is_closed() {
    let (stage, fake) =
        stage(Manners { blender: false, launcher: None, ..Manners::default() }, "state");
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::HandingOver);
    eventually("it is asked", || {
        (fake.state()["command"] == "import_and_process_mesh").then_some(())
    });
    stage.say("a clay fox");
    eventually("the newer one goes its way", || {
        let jobs = stage.jobs();
        (jobs.len() == 2
            && jobs[0].state == JobState::Done
            && jobs[1].state == JobState::HandingOver)
            .then_some(())
    });
    let fox = stage.jobs()[1].id;
    eventually("and takes the place of the older", || {
        let path = fake.state()["mesh_path"].as_str()?.to_owned();
        path.contains(&fox.to_string()).then_some(())
    });
    fake.blender(true);
    stage.done(2);
    assert_jobs_imported(&stage, fake, &[fox]);
}

#[test]
fn a_rival_that_pays_for_the_same_is_told() {
    let (stage, fake) = stage(Manners { launcher: None, ..Manners::default() }, "auto");
    fake.change(&[
        ("generation_mode", json!("serverless")),
        ("flux_pipeline_request", json!("new")),
    ]);
    let daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.done(1);
    let warnings = daemon.status().expect("it answers").warnings;
    assert!(warnings.iter().any(|message| message.contains("generates too")), "{warnings:?}");
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[test]
fn the_picture_that_our_own_mesh_changed_starts_nothing_and_a_new_prompt_starts_one_job() {
    let (mut stage, fake) = stage(Manners { launcher: None, ..Manners::default() }, "auto");
    let daemon = stage.start();
    // Auto-refresh, at the speed of this test.
    let same = |stage: &mut DemoProject, scene: u32| {
        for _ in 0..5 {
            stage.film(scene);
            stays(Duration::from_millis(120), "no other job", || stage.submits() <= 1);
        }
    };
    same(&mut stage, 0);
    assert_eq!(stage.submits(), 0, "an identical scene costs nothing");
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(fake.imports().len(), 1);
    same(&mut stage, 0);
    same(&mut stage, 7);
    stays(Duration::from_millis(900), "no job for our own mesh", || stage.submits() == 1);

    stage.say("a clay fox");
    let jobs = stage.done(2);
    same_count(&stage, 2);
    drop(daemon);
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}

#[track_caller]
fn same_count(stage: &DemoProject, count: u64) {
    stays(Duration::from_millis(700), "one job for a prompt", || stage.submits() == count);
}

#[test]
fn a_render_alone_waits_while_hands_are_in_the_picture() {
    let mut stage = DemoProject::new();
    let path = stage.root().join("data/input/fingertips.json");
    fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    let daemon = stage.start();
    // The tracker writes with every frame; here with every check of the test.
    let frame = |hand: Value| {
        let file = json!({"command": "none", "left_hand": hand, "right_hand": null});
        fs::write(&path, file.to_string()).expect("writes");
    };
    frame(json!({"fingertips": [[0.5, 0.5, 0.0]]}));
    stage.film(3);
    stays(Duration::from_millis(1500), "no job while hands are there", || {
        frame(json!({"fingertips": [[0.5, 0.5, 0.0]]}));
        stage.submits() == 0
    });
    let waiting = daemon.status().expect("it answers").projects[0].waiting.clone();
    assert!(waiting.contains("hands are in the picture"), "{waiting}");
    frame(Value::Null);
    let jobs = stage.done(1);
    assert_eq!(jobs[0].cause.name(), "render");
}

/// Limits the copies in the folder, for a person who opens it.
#[test]
fn copies_of_earlier_jobs_do_not_pile_up() {
    let (stage, fake) = stage(Manners { launcher: None, ..Manners::default() }, "state");
    let _daemon = stage.start();
    for job in 1..=3 {
        stage.say(&format!("a clay owl, number {job}"));
        stage.done(job);
    }
    let folder: PathBuf = stage.public()[2].parent().expect("a folder").to_path_buf();
    let names = fs::read_dir(folder).expect("lists").flatten().map(|entry| entry.file_name());
    assert_eq!(names.count(), 3, "the two public names and the newest copy");
    let jobs = stage.jobs();
    assert_jobs_imported(&stage, fake, &ids(&jobs));
}
