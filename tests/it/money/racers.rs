//! Several jobs compete for the same last cents: projects of one daemon and a person, and whole
//! processes on one ledger.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use conjured::{
    clock::Clock,
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        job::{Cause, Inputs, JobId, JobState},
        money::{
            MicroUsd,
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::WallTime,
    },
    ledger::{
        FILE, Ledger,
        error::{LedgerError, ReleaseError, StoreError},
        rows::{NewJob, ReleaseMode, SessionId},
    },
    simulator::faults::{Fault, Order},
};

use super::HOUR;
use crate::support::{
    patience::eventually,
    service::quick,
    stage::{DemoProject, files_below},
};

/// A first job on a sleeping machine is estimated at 0.3542 USD, and one after it at 0.1458 USD:
/// there is room for one, whichever comes first.
const ROOM_FOR_ONE: &str = "0.40";

#[test]
fn two_projects_and_once_racing_for_the_last_cents_never_cross_the_limit() {
    let mut settings = quick();
    settings.run = HOUR;
    let mut stage = DemoProject::with(settings);
    stage.set("budget.per_session_usd", ROOM_FOR_ONE);
    let text = std::fs::read_to_string(stage.config()).expect("reads");
    let mut text = format!("max_in_flight = 3\n{text}");
    for name in ["second", "third"] {
        copy(&stage.root(), &stage.path(name));
        let root = stage.path(name).display().to_string();
        text.push_str(&format!("\n[[project]]\nname = \"{name}\"\nroot = '{root}'\n"));
    }
    std::fs::write(stage.config(), text).expect("writes");
    let daemon = stage.start();
    eventually("every project is looked at", || {
        let projects = daemon.status()?.projects;
        (projects.len() == 3 && projects.iter().all(|p| p.render.state == "whole")).then_some(())
    });

    let second = stage.path("second").join("data/generated_text/userPrompt.txt");
    let once = stage
        .command(&["once", "--project", "third", "--prompt", "a clay heron"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    stage.say("a clay owl");
    conjured::simulator::gesture_camera::say(&second, "a clay fox").expect("writes");

    let refused = || {
        let status = daemon.status()?;
        let told = status.projects.iter().filter(|p| p.waiting.contains("over budget")).count();
        Some((told, status))
    };
    // A person who is refused is informed and that is all; a project that is refused says so until
    // there is room.
    eventually("one has started and the projects that have not are over budget", || {
        let (told, _) = refused()?;
        let winner = stage.jobs().pop()?;
        let by_person = winner.cause == Cause::Person;
        (told == if by_person { 2 } else { 1 }).then_some(())
    });
    eventually("the winner is sent", || (stage.accepted() == 1).then_some(()));
    let jobs = stage.jobs();
    assert_eq!((jobs.len(), stage.submits()), (1, 1), "{jobs:#?}");
    let (_, status) = refused().expect("it answers");
    assert!(Some(status.budget.session) <= status.budget.session_limit, "{:?}", status.budget);

    if jobs[0].cause == Cause::Person {
        stage.service.advance(HOUR);
    }
    let once = once.wait_with_output().expect("waits");
    let said = String::from_utf8_lossy(&once.stderr);
    match once.status.code() {
        Some(0) => assert_eq!(jobs[0].cause, Cause::Person),
        Some(75) => {
            assert!(said.contains("over budget") && said.contains("nothing was sent"), "{said}");
        }
        other => panic!("{other:?}: {said}"),
    }
    assert!(stage.jobs().iter().filter(|job| job.state != JobState::Done).count() <= 1);
}

#[test]
fn jobs_of_an_earlier_session_keep_the_limit_of_jobs_at_once() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    copy(&stage.root(), &stage.path("second"));
    let root = stage.path("second").display().to_string();
    let text = std::fs::read_to_string(stage.config()).expect("reads");
    let second = format!("\n[[project]]\nname = \"second\"\nroot = '{root}'\n");
    let with_limit = |most: u32| format!("max_in_flight = {most}\n{text}{second}");
    std::fs::write(stage.config(), with_limit(2)).expect("writes");
    // Nothing is accepted: both jobs wait, prepared.
    let busy = Fault::Http {
        status: 503,
        retry_after: Some("600".to_owned()),
        body: None,
        accepted: false,
    };
    stage.service.order(Order::from(busy).times(2));
    let daemon = stage.start();
    eventually("both projects are looked at", || {
        let projects = daemon.status()?.projects;
        (projects.len() == 2 && projects.iter().all(|p| p.render.state == "whole")).then_some(())
    });
    stage.say("a clay owl");
    let prompt = stage.path("second").join("data/generated_text/userPrompt.txt");
    conjured::simulator::gesture_camera::say(&prompt, "a clay fox").expect("writes");
    eventually("both have tried, and know that nothing arrived", || {
        let jobs = stage.jobs();
        let waits = jobs.len() == 2 && jobs.iter().all(|job| job.state == JobState::Prepared);
        (stage.submits() == 2 && waits).then_some(())
    });
    daemon.kill();

    std::fs::write(stage.config(), with_limit(1)).expect("writes");
    let daemon = stage.start();
    eventually("one of them is sent, and the other says what it waits for", || {
        let status = daemon.status()?;
        let waits = |p: &conjured::domain::status::Project| {
            p.job.as_ref().is_some_and(|job| job.doing.contains("max_in_flight"))
        };
        (stage.accepted() == 1 && status.projects.iter().any(waits)).then_some(())
    });
    stage.service.advance(HOUR);
    eventually("then the other one", || (stage.accepted() == 2).then_some(()));
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let name = file.strip_prefix(from).expect("below");
        if !name.to_string_lossy().starts_with('.') {
            let target = to.join(name);
            std::fs::create_dir_all(target.parent().expect("a folder")).expect("makes");
            std::fs::copy(&file, target).expect("copies");
        }
    }
}

/// Tells a process of [`whole_processes_racing_on_one_ledger_never_cross_a_limit`] that it is a
/// racer, and which ledger to use.
const RACE: &str = "CONJURED_TEST_RACE";

const RACERS: usize = 3;

/// How much may be spent: a hundred cents, and a remainder that is too small for anything.
const LIMIT: MicroUsd = MicroUsd(1_000_003);

/// The racer: this test binary, started again by the test below. Without a race it has nothing
/// to do.
#[test]
fn a_racer_spends_until_it_is_refused() {
    let Some(path) = std::env::var_os(RACE).map(PathBuf::from) else { return };
    let mut ledger = Ledger::open(&path).expect("opens");
    let session = ledger.begin_session("test", WallTime::from_unix_millis(1)).expect("begins");
    let project = ledger.touch_project("/art", "art", WallTime::from_unix_millis(1)).expect("it");
    let limits = BudgetLimits { per_day: Some(LIMIT), ..BudgetLimits::default() };
    // All racers start when all are ready.
    let here = path.with_extension(format!("here-{}", std::process::id()));
    std::fs::write(here, b"").expect("writes");
    let folder = path.parent().expect("a folder");
    eventually("all racers are there", || {
        let names = files_below(folder).into_iter().map(|file| file.display().to_string());
        (names.filter(|name| name.contains("here-")).count() == RACERS).then_some(())
    });
    let mut cost = MicroUsd::from_cents(7);
    while cost >= MicroUsd::from_cents(1) {
        match ledger.release(
            &job(session, project.id, cost),
            &limits,
            &ALWAYS,
            ReleaseMode::Submitting,
        ) {
            Ok(released) => assert!(released.spent.day <= LIMIT, "{}", released.spent.day),
            Err(ReleaseError::Budget(_)) => cost = MicroUsd(cost.0 - 20_000),
            Err(ReleaseError::Ledger(LedgerError::Store(StoreError::Locked { .. }))) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

const ALWAYS: BudgetWindows = BudgetWindows {
    day_start: WallTime::from_unix_millis(0),
    month_start: WallTime::from_unix_millis(0),
};

#[test]
fn whole_processes_racing_on_one_ledger_never_cross_a_limit() {
    let program = std::env::current_exe().expect("this program");
    for _ in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut ledger = Ledger::open(&path).expect("a new ledger");
        let session = ledger.begin_session("test", WallTime::from_unix_millis(1)).expect("begins");
        let racer = || {
            let mut racer = Command::new(&program);
            racer.args(["--exact", "money::racers::a_racer_spends_until_it_is_refused"]);
            racer.env(RACE, &path).stdout(Stdio::null()).stderr(Stdio::piped());
            racer.spawn().expect("it starts")
        };
        let racers: Vec<_> = (0..RACERS).map(|_| racer()).collect();
        for racer in racers {
            let output = racer.wait_with_output().expect("waits");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let spent = ledger.spent(session, &ALWAYS).expect("sums").day;
        assert_eq!(spent, MicroUsd::from_cents(100), "to the last cent, and not one more");
        ledger.check().expect("sound");
    }
}

fn job(session: SessionId, project: ProjectId, reserve: MicroUsd) -> NewJob {
    let at = Clock.now().wall;
    let id = JobId::from_parts(at, rand());
    let fingerprint = Fingerprint::of(id.to_string().as_bytes());
    NewJob {
        id,
        project,
        session,
        cause: Cause::Prompt,
        inputs: Inputs { prompt: fingerprint, render: fingerprint },
        prompt: "a carrot that is a chair".into(),
        workflow: "conjure_flux_mesh".into(),
        workflow_version: fingerprint,
        body_digest: fingerprint,
        body_bytes: 1,
        seed: None,
        mesh_seed: None,
        summary: serde_json::json!({}),
        mode: "auto".into(),
        backend: "serverless".into(),
        deployment: None,
        retry_of: None,
        stands_in_for: None,
        cached_from: None,
        why: None,
        out: None,
        moves_baseline: false,
        reserve,
        terms: PriceTerms::default(),
        at,
    }
}

/// Returns numbers that differ between processes and calls.
fn rand() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    (u128::from(std::process::id()) << 32) | u128::from(call)
}
