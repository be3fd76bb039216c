//! `kill -9` at every step of a job: nothing is paid twice, and no file is ever incomplete.
//!
//! Owns the moments. If a step lasts (the queue, a run, a download, a blocked placement), the test
//! waits until the job is there; the moments in between are drawn from a seed.

use std::{fs, time::Duration};

use conjured::{
    domain::job::JobState,
    simulator::{
        Settings,
        faults::{Call, Fault, Order},
        produce::Product,
    },
};

use crate::support::{
    media,
    patience::{eventually, stays},
    service::quick,
    stage::{DemoProject, files_below},
};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_job_killed_in_the_queue_is_followed_to_its_end() {
    let mut settings = quick();
    settings.cold_start = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Submitted);
    daemon.kill();
    follow_after_a_crash(&stage, HOUR);
}

#[test]
fn a_job_killed_while_it_runs_is_followed_to_its_end() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    daemon.kill();
    follow_after_a_crash(&stage, HOUR);
}

/// Restarts the daemon, checks that it asks about the same request, lets the job end, and counts.
#[track_caller]
fn follow_after_a_crash(stage: &DemoProject, skip: Duration) {
    let asked = stage.service.stats().requests[0].status_calls;
    // What a crash during a placement would have left.
    let public = &stage.public()[1];
    let folder = public.parent().expect("a folder");
    fs::create_dir_all(folder).expect("makes");
    fs::write(folder.join(".conjured-left-0.part"), b"half").expect("writes");

    let _daemon = stage.start();
    eventually("the same request is asked about", || {
        (stage.service.stats().requests[0].status_calls > asked).then_some(())
    });
    stage.service.advance(skip);
    stage.done(1);
    stays(Duration::from_millis(500), "one submit", || stage.submits() == 1);
    let stats = stage.service.stats();
    assert_eq!((stats.accepted, stats.cancel_calls), (1, 0));
}

#[test]
fn a_download_that_was_killed_goes_on_and_a_finished_one_is_not_repeated() {
    // Large enough that a download is written in several pieces.
    let stage = DemoProject::with(Settings { mesh_grid: 160, ..quick() });
    let slow = Order::from(Fault::SlowStream { bytes_per_second: 500_000 });
    stage.service.order(slow.on(Call::Download).only(Product::Mesh));
    let daemon = stage.start();
    stage.say("a clay owl");
    let history = stage.state_dir().join("history");
    eventually("some of the mesh has come in", || {
        files_below(&history)
            .into_iter()
            .filter(|path| path.display().to_string().contains(".conjured-mesh-"))
            .find(|path| fs::metadata(path).is_ok_and(|about| about.len() > 0))
    });
    daemon.kill();
    assert_eq!(stage.service.stats().downloads, 2, "the picture, and the mesh in part");

    let _daemon = stage.start();
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted), (1, 1));
    assert_eq!(stats.downloads, 3, "only the rest of the mesh was asked for again");
    assert_eq!(stats.authorization_leaks, 0);
}

#[test]
fn a_parked_placement_survives_a_kill_and_is_placed_when_the_way_is_free() {
    let stage = DemoProject::new();
    let folder = stage.public()[1].parent().expect("a folder").to_path_buf();
    fs::create_dir_all(folder.parent().expect("a folder")).expect("makes");
    fs::write(&folder, b"a file where the folder should be").expect("writes");
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Placing);
    eventually("status says what is in the way", || {
        let status = daemon.status()?;
        let doing = &status.projects[0].job.as_ref()?.doing;
        doing.contains("partpacker_results").then_some(())
    });
    daemon.kill();
    assert_eq!(stage.leftovers(), Vec::<std::path::PathBuf>::new(), "nothing half is public");

    let daemon = stage.start();
    stage.newest_is(JobState::Placing);
    fs::remove_file(&folder).expect("removes");
    drop(daemon);
    let _daemon = stage.start();
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.downloads), (1, 2), "nothing was fetched again");
}

#[test]
fn killed_when_the_picture_appears_the_mesh_is_whole_before_and_after() {
    let stage = DemoProject::new();
    let [picture, ..] = stage.public();
    for round in 1..=3 {
        let daemon = stage.start();
        let before = fs::read(&picture).unwrap_or_default();
        stage.say(&format!("a clay owl, number {round}"));
        eventually("the picture appears", || {
            (fs::read(&picture).unwrap_or_default() != before).then_some(())
        });
        daemon.kill();
        assert_eq!(media::fault(&picture), None);
        if round > 1 {
            assert_eq!(media::fault(&stage.public()[1]), None);
            assert_eq!(media::fault(&stage.public()[2]), None);
        }
        let daemon = stage.start();
        stage.done(round);
        assert_eq!(stage.accepted(), round as u64);
        daemon.kill();
    }
}

#[test]
fn killed_at_drawn_moments_each_job_is_paid_once_first_seed() {
    killed_at_drawn_moments(0x5EED_0001);
}

#[test]
fn killed_at_drawn_moments_each_job_is_paid_once_second_seed() {
    killed_at_drawn_moments(0x5EED_0002);
}

#[test]
fn killed_at_drawn_moments_each_job_is_paid_once_third_seed() {
    killed_at_drawn_moments(0x5EED_0003);
}

/// Runs four jobs and kills each once, some time between the saved prompt and the end.
fn killed_at_drawn_moments(seed: u64) {
    let stage = DemoProject::new();
    let mut draw = seed;
    let (mut expected, mut unknown) = (0, 0);
    for round in 1..=4 {
        let daemon = stage.start();
        let message = format!("a clay owl, number {round}");
        stage.say(&message);
        // Knuth's generator; its high bits are the good ones.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis(100 + (draw >> 33) % 800);
        stays(moment, "the public files are whole or not there yet", || {
            stage.public().iter().all(|path| !path.exists() || media::fault(path).is_none())
        });
        daemon.kill();
        let there = stage.jobs();
        let lost = there.last().is_some_and(|job| job.state == JobState::Submitting);

        let daemon = stage.start();
        let jobs = stage.ended(round);
        let newest = jobs.last().expect("a job");
        if lost {
            // The only gap that is allowed: killed between the submit and its answer.
            assert_eq!(newest.state, JobState::Unknown);
            unknown += 1;
        } else {
            assert_eq!(
                newest.state,
                JobState::Done,
                "killed after {moment:?}: {:?}",
                newest.reason
            );
            expected += 1;
            stage.assert_public_whole();
        }
        assert_eq!(stage.leftovers(), Vec::<std::path::PathBuf>::new());
        let sent = stage.service.stats().requests;
        let same = sent.iter().filter(|request| request.prompt == message).count();
        assert!(same == 1 || (lost && same == 0), "{message} was sent {same} times");
        daemon.kill();
    }
    let accepted = stage.accepted();
    assert!((expected..=expected + unknown).contains(&accepted), "{accepted} were paid");
}

// Two processes that write to one ledger are tried where SQLite is at home.
#[cfg(unix)]
#[test]
fn a_ledger_that_refuses_a_step_does_not_leave_a_paid_job_to_the_next_start() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let _daemon = stage.start();
    stage.say("a clay owl");
    let job = stage.newest_is(JobState::Running);
    // Simulates another writer: the next step does not follow from the state that the ledger holds.
    let ledger =
        rusqlite::Connection::open(stage.state_dir().join(conjured::ledger::FILE)).expect("opens");
    ledger.busy_timeout(Duration::from_secs(5)).expect("waits");
    let changed = ledger.execute("UPDATE job SET state = 'submitting'", []).expect("writes");
    assert_eq!(changed, 1);
    stage.service.advance(HOUR);
    let done = stage.done(1).remove(0);
    assert_eq!((done.id, done.request), (job.id, job.request), "it is the run that was paid for");
    assert_eq!(stage.submits(), 1);
}

// Two processes that write to one ledger are tried where SQLite is at home.
#[cfg(unix)]
#[test]
fn a_result_that_an_older_job_follows_is_expected_in_the_picture_like_any_other() {
    let mut stage = DemoProject::new();
    stage.set("trigger.after_result_hold_s", "3600");
    let in_the_way = stage.public()[0].clone();
    fs::create_dir_all(&in_the_way).expect("makes");
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Placing);
    daemon.kill();
    // A second unfinished job of the same project, whose artifacts are gone: it fails as soon as
    // its turn comes.
    let ledger =
        rusqlite::Connection::open(stage.state_dir().join(conjured::ledger::FILE)).expect("opens");
    let columns = ledger
        .prepare("SELECT group_concat(name) FROM pragma_table_info('job') WHERE name <> 'id'")
        .expect("columns")
        .query_row([], |row| row.get::<_, String>(0))
        .expect("columns");
    let copy = format!(
        "INSERT INTO job (id, {columns}) SELECT substr(id, 1, 25) || CASE substr(id, 26) WHEN 'Z' THEN 'Y' ELSE 'Z' END, {columns} FROM job"
    );
    ledger.execute(&copy, []).expect("a second job");
    drop(ledger);
    let daemon = stage.start();
    fs::remove_dir(&in_the_way).expect("removes");
    let states: Vec<_> = stage.ended(2).iter().map(|job| job.state).collect();
    assert!(states.contains(&JobState::Done) && states.contains(&JobState::Failed), "{states:?}");
    let before = daemon.status().expect("it answers").projects[0].render.fingerprint.clone();
    stage.film(7);
    eventually("the changed picture is seen", || {
        let status = daemon.status()?;
        (status.projects[0].render.fingerprint != before).then_some(())
    });
    stays(Duration::from_millis(1200), "no job of our own doing", || stage.jobs().len() == 2);
}
