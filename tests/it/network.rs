//! A service that fails, throttles, sends nonsense, refuses the token, or is not there yet.
//!
//! Owns what happens to jobs then: what was sent is followed to its end, what was not sent waits,
//! and no server is flooded.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use conjured::{
    domain::job::JobState,
    simulator::{
        Settings,
        faults::{Call, Fault, Order},
    },
};
use rustix::process::Signal;

use crate::support::{
    daemon::TestDaemon,
    patience::{eventually, in_the_end, stays},
    service::{TOKEN, quick},
    stage::DemoProject,
    tunnel::{Port, Speaks, Tunnel},
};

fn http(status: u16, retry_after: Option<&str>) -> Order {
    let retry_after = retry_after.map(str::to_owned);
    Fault::Http { status, retry_after, body: None, accepted: false }.into()
}

fn doing(daemon: &TestDaemon) -> Option<String> {
    Some(daemon.status()?.projects.first()?.job.as_ref()?.doing.clone())
}

#[test]
fn a_service_that_failed_three_times_gets_no_job_before_it_answered_a_free_call() {
    let stage = DemoProject::new();
    stage.service.order(http(500, None).times(3));
    let daemon = stage.start();
    for number in 1..=3 {
        stage.say(&format!("a clay owl, number {number}"));
        let jobs = stage.ended(number);
        assert_eq!(
            jobs[number - 1].state,
            JobState::Unknown,
            "a 500 to a submit may be a paid run"
        );
    }
    let health = eventually("the service is left alone", || {
        let health = daemon.status()?.backends.pop()?;
        (health.state == "failing").then_some(health)
    });
    assert!(health.reason.is_some_and(|reason| reason.contains("500")) && health.until.is_some());
    let text = String::from_utf8(stage.cli(&["status"]).stdout).expect("UTF-8");
    assert!(text.contains("serverless is failing") && text.contains("next try in"), "{text}");

    stage.service.order(http(502, None).on(Call::Balance).times(50));
    let free_calls = stage.service.stats().balance_calls;
    stage.say("a clay fox");
    stage.newest_is(JobState::Prepared);
    let said = eventually("the job says why it waits", || {
        doing(&daemon).filter(|doing| doing.contains("nothing was charged"))
    });
    assert!(said.contains("next check in"), "{said}");
    // A newer snapshot replaces a waiting job.
    stage.say("a clay fox with a hat");
    stage.newest_is(JobState::Prepared);
    eventually("the older one has made room", || (stage.jobs().len() == 5).then_some(()));
    assert_eq!(stage.jobs()[3].state, JobState::Replaced);
    eventually("it is probed", || {
        (stage.service.stats().balance_calls > free_calls + 1).then_some(())
    });
    assert_eq!(stage.submits(), 3, "a probe that fails risks no job");
    let mut command = stage.command(&["jobs", "cancel"]);
    command.arg(stage.jobs()[4].id.to_string());
    assert!(command.output().expect("runs").status.success());
    stage.ended(5);
    assert_eq!(stage.submits(), 3);

    let told = daemon.stderr_text().matches("is paused, for longer each time").count();
    assert_eq!(told, 1, "the log is told once, however often it is probed in vain");

    stage.service.clear_faults();
    stage.say("a clay hen");
    in_the_end("the service is asked again and gets the job", || {
        (stage.submits() == 4).then_some(())
    });
    let jobs = stage.ended(6);
    assert_eq!(jobs[5].state, JobState::Done, "{:?}", jobs[5].reason);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted), (4, 1));
    eventually("all is well again", || {
        (daemon.status()?.backends[0].state == "ready").then_some(())
    });
}

#[test]
fn status_calls_that_fail_or_talk_nonsense_cost_patience_and_nothing_else() {
    let stage = DemoProject::new();
    let word = |word: &str| Fault::StatusWord(word.to_owned());
    // An answer in between resets the back-off, so that the test is fast.
    for fault in [
        Fault::Http { status: 500, retry_after: None, body: None, accepted: false },
        Fault::HtmlBody,
        word("Reticulating"),
        Fault::InvalidJson,
        Fault::EmptyObject,
        word("IN_PROGRESS"),
        Fault::OkWithErrorCode { code: 10_007 },
    ] {
        stage.service.order(Order::from(fault).on(Call::Status));
    }
    for fault in [Fault::HtmlBody, Fault::InvalidJson, Fault::OkWithErrorCode { code: 10_006 }] {
        stage.service.order(Order::from(fault).on(Call::Result));
    }
    let _daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.done(1);
    assert_eq!(jobs[0].state, JobState::Done);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted, stats.cancel_calls), (1, 1, 0));
    assert!(stats.status_calls <= 40, "{} status calls", stats.status_calls);
}

#[test]
fn a_wait_that_the_service_asks_for_is_kept_at_every_call_and_shown() {
    let stage = DemoProject::new();
    for call in [Call::Status, Call::Result, Call::Download] {
        stage.service.order(http(429, Some("2")).on(call));
    }
    let daemon = stage.start();
    stage.say("a clay owl");
    for message in ["status call in 2 s, as requested", "in 2 s, as the storage requested"] {
        eventually(message, || doing(&daemon).filter(|doing| doing.contains(message)));
    }
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.downloads), (1, 3));
}

#[test]
fn a_token_refused_in_mid_flight_parks_the_job_and_a_new_one_lets_it_go_on() {
    let (stage, daemon, file) = with_token_file(long());
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    stage.service.order(Fault::TokenRevoked);
    let said = eventually("the job is suspended", || {
        doing(&daemon).filter(|doing| doing.starts_with("suspended"))
    });
    assert!(said.contains("token from") && !said.contains(TOKEN), "{said}");
    assert_eq!(stage.submits(), 1);

    stage.service.set_token("a-fresh-token-of-the-test");
    fs::write(&file, "a-fresh-token-of-the-test").expect("writes");
    daemon.signal(Signal::HUP);
    eventually("it is followed again", || {
        doing(&daemon).filter(|doing| !doing.starts_with("suspended"))
    });
    stage.service.advance(RUN);
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted, stats.cancel_calls), (1, 1, 0));
}

#[test]
fn a_token_refused_at_a_submit_fails_that_job_and_holds_the_next_until_there_is_another() {
    let (stage, daemon, file) = with_token_file(quick());
    stage.service.set_token("a-fresh-token-of-the-test");
    stage.say("a clay owl");
    let jobs = stage.ended(1);
    assert_eq!(jobs[0].state, JobState::Failed);
    assert_eq!(jobs[0].booked.map_or(0, |cost| cost.0), 0, "nothing is charged for a refusal");
    let health = eventually("status says so", || {
        daemon.status()?.backends.pop().filter(|health| health.state == "failing")
    });
    let reason = health.reason.unwrap_or_default();
    assert!(reason.contains("was refused") && !reason.contains(TOKEN), "{reason}");

    stage.say("a clay fox");
    stage.newest_is(JobState::Prepared);
    stays(Duration::from_millis(1500), "no second submit with it", || stage.submits() == 1);
    fs::write(&file, "a-fresh-token-of-the-test").expect("writes");
    daemon.signal(Signal::HUP);
    let jobs = stage.ended(2);
    assert_eq!(jobs[1].state, JobState::Done, "{:?}", jobs[1].reason);
    assert_eq!(stage.submits(), 2);
}

/// How long a run of [`long`] takes, unless it is advanced.
const RUN: Duration = Duration::from_secs(600);

/// Returns a service whose runs end when the test says so.
fn long() -> Settings {
    Settings { run: RUN, ..quick() }
}

fn with_token_file(settings: Settings) -> (DemoProject, TestDaemon, std::path::PathBuf) {
    let stage = DemoProject::with(settings);
    let file = stage.state_dir().join("runcomfy_token");
    fs::create_dir_all(stage.state_dir()).expect("makes");
    fs::write(&file, TOKEN).expect("writes");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("is ours");
    let mut command = stage.command(&["run"]);
    command.env_remove("RUNCOMFY_API_TOKEN");
    let daemon = TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr")).ready();
    (stage, daemon, file)
}

#[test]
fn a_daemon_starts_without_a_network_and_sends_once_it_is_there() {
    let mut stage = DemoProject::new();
    let port = Port::closed();
    stage.set("serverless.api_url", &port.url());
    let daemon = stage.start();
    stage.say("a clay owl");
    let said = eventually("it says that nothing was sent", || {
        doing(&daemon).filter(|doing| doing.contains("nothing was charged"))
    });
    assert!(said.contains("connection"), "{said}");
    let service = stage.service.api_url().replace("http://", "").parse().expect("an address");
    let _tunnel = Tunnel::open(port, service, Speaks::Plain);
    stage.done(1);
    assert_eq!((stage.submits(), stage.accepted()), (1, 1));
}

#[test]
fn four_500s_in_a_row_to_status_calls_are_few_calls_no_cancel_and_no_second_submit() {
    let stage = DemoProject::new();
    stage.service.order(http(500, None).on(Call::Status).times(4));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted, stats.cancel_calls), (1, 1, 0));
    assert!(stats.status_calls <= 12, "{} status calls", stats.status_calls);
}

#[test]
fn a_result_that_is_denied_missing_or_not_ready_is_asked_for_again() {
    let stage = DemoProject::new();
    let not_ready = Fault::Http {
        status: 400,
        retry_after: None,
        body: Some(r#"{"error_code":400005,"message":"not ready"}"#.to_owned()),
        accepted: false,
    };
    for order in [http(403, None), http(404, None), not_ready.into()] {
        stage.service.order(order.on(Call::Result));
    }
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.result_calls, stats.cancel_calls), (1, 4, 0));
}

#[test]
fn once_with_a_refused_token_ends_at_once_with_77_also_when_it_is_known_to_be_refused() {
    let stage = DemoProject::new();
    stage.service.set_token("a-fresh-token-of-the-test");
    let once = || {
        let mut command = stage.command(&["once", "--prompt", "a clay owl"]);
        let stderr = stage.path("once-stderr");
        command.stdout(Stdio::null()).stderr(fs::File::create(&stderr).expect("a file"));
        let mut child = command.spawn().expect("starts");
        let code = eventually("it does not wait", || child.try_wait().expect("our child"));
        let said = fs::read_to_string(stderr).expect("reads");
        assert_eq!(code.code(), Some(77), "{said}");
        assert!(said.contains("token") && !said.contains(TOKEN), "{said}");
    };
    once();
    let daemon = stage.start();
    once();
    once();
    assert!(daemon.status().is_some());
    assert_eq!(stage.accepted(), 0);
    assert_eq!(stage.jobs().iter().filter_map(|job| job.booked).map(|cost| cost.0).sum::<i64>(), 0);
}

#[test]
fn a_person_can_cancel_while_the_daemon_has_no_usable_configuration() {
    let mut stage = DemoProject::with(long());
    // The reload must be done before the wait is over, also where it takes seconds.
    stage.service.order(http(429, Some("10")));
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Prepared);
    let unusable = |doing: &String| doing.contains("`serverless.enabled` is false");
    let cancel = |stage: &DemoProject| {
        let id = stage.jobs().pop().expect("a job").id.to_string();
        let output = stage.cli(&["jobs", "cancel", &id]);
        assert!(output.status.success(), "{output:?}");
    };
    stage.set("serverless.enabled", "false");
    eventually("the unsent job waits", || doing(&daemon).filter(unusable));
    cancel(&stage);
    stage.newest_is(JobState::Cancelled);
    assert_eq!(stage.accepted(), 0);

    stage.set("serverless.enabled", "true");
    stage.say("a clay fox");
    stage.newest_is(JobState::Running);
    stage.set("serverless.enabled", "false");
    eventually("the job that runs waits", || doing(&daemon).filter(unusable));
    cancel(&stage);
    eventually("it says what becomes of the wish", || {
        doing(&daemon).filter(|doing| doing.starts_with("will be cancelled at the service once"))
    });
    stage.set("serverless.enabled", "true");
    stage.newest_is(JobState::Cancelled);
    assert_eq!(stage.service.stats().cancel_calls, 1);
}
