//! A token is entered, checked, stored and removed again; and where it must not appear meanwhile.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use conjured::simulator::faults::{Call, Fault, Order};

use super::{said, without_token};
use crate::support::{
    daemon::TestDaemon,
    patience::eventually,
    service::TOKEN,
    stage::{DemoProject, files_below},
    tunnel::Port,
};

/// Where `login` stores it.
fn stored(stage: &DemoProject) -> PathBuf {
    stage.path("home/.config/conjured/runcomfy_token")
}

/// Runs `conjured login` with this on its standard input.
fn login(stage: &DemoProject, options: &[&str], input: &[u8]) -> Output {
    let mut command = without_token(stage, &["login"]);
    command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // The program may end before it has read everything.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// Points a stage at an address where nothing listens, for as long as what is returned lives.
fn unreachable(stage: &mut DemoProject) -> Port {
    let port = Port::closed();
    stage.set("serverless.api_url", &port.url());
    port
}

#[test]
fn a_good_token_is_stored_for_its_owner_alone_and_the_balance_is_told() {
    let stage = DemoProject::new();
    let output = login(&stage, &["--token-stdin"], format!("\u{feff}  {TOKEN}\r\n").as_bytes());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("The token is valid. Balance: 1000.0000 USD"), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
    let file = stored(&stage);
    assert_eq!(fs::read_to_string(&file).expect("stored"), format!("{TOKEN}\n"));
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o7777, 0o600);
    let folder = file.parent().expect("a folder");
    assert_eq!(fs::metadata(folder).expect("there").permissions().mode() & 0o7777, 0o700);
    assert_eq!(stage.service.stats().submits, 0, "the trial costs nothing");

    let output = without_token(&stage, &["doctor", "--json"]).output().expect("starts");
    assert!(said(&output).contains(&format!("from file {}", file.display())), "{}", said(&output));

    let output = without_token(&stage, &["logout"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(!file.exists());
    let again = without_token(&stage, &["logout", "--json"]).output().expect("starts");
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(json, serde_json::json!({"removed": [], "remarks": []}));
}

#[test]
fn the_json_of_a_login_says_what_happened_and_never_the_token() {
    let stage = DemoProject::new();
    let output = login(&stage, &["--json"], TOKEN.as_bytes());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["checked"], true);
    assert_eq!(json["balance_micro_usd"], 1_000_000_000);
    assert_eq!(json["stored"], stored(&stage).display().to_string());
    assert!(!said(&output).contains(TOKEN));
}

#[test]
fn a_token_that_is_refused_is_not_stored_and_the_old_one_stays() {
    let stage = DemoProject::new();
    assert_eq!(login(&stage, &[], TOKEN.as_bytes()).status.code(), Some(0));
    let output = login(&stage, &[], b"a-wrong-token\n");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(
        said(&output).contains("Nothing was stored") && !said(&output).contains("a-wrong-token")
    );
    assert_eq!(fs::read_to_string(stored(&stage)).expect("the old one"), format!("{TOKEN}\n"));
}

#[test]
fn without_a_network_nothing_is_stored_unless_that_is_asked_for() {
    let mut stage = DemoProject::new();
    let _closed = unreachable(&mut stage);
    let output = login(&stage, &[], TOKEN.as_bytes());
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("--no-check"), "{}", said(&output));
    assert!(!stored(&stage).exists());
    let output = login(&stage, &["--no-check"], TOKEN.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(stored(&stage).exists());
}

#[test]
fn an_answer_that_is_not_the_services_proves_nothing_about_a_token() {
    let stage = DemoProject::new();
    let at_balance = |fault| Order { on: Call::Balance, ..Order::from(fault) };
    for fault in [Fault::InvalidJson, Fault::EmptyObject, Fault::AcceptThenDrop] {
        stage.service.order(at_balance(fault.clone()));
        let output = login(&stage, &[], TOKEN.as_bytes());
        assert_eq!(output.status.code(), Some(69), "{fault:?}: {}", said(&output));
        assert!(!stored(&stage).exists(), "{fault:?}");
    }
}

#[test]
fn rubbish_is_no_token_and_is_not_repeated() {
    let stage = DemoProject::new();
    let huge = vec![b'x'; 70_000];
    let long = vec![b'x'; 5_000];
    let table: [(&[u8], &str); 6] = [
        (b"", "it is empty"),
        (b" \r\n\t", "it is empty"),
        (b"two words", "white space"),
        (b"bin\x00\xff\xfe\x1b[2J", "beyond ASCII"),
        (&long, "it must contain only the token"),
        (&huge, "larger than 64 KB"),
    ];
    for (input, why) in table {
        let output = login(&stage, &["--token-stdin"], input);
        assert_eq!(output.status.code(), Some(77), "{}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
        assert!(!said(&output).contains('\u{1b}') && !said(&output).contains("two words"));
        assert!(!stored(&stage).exists());
    }
    assert_eq!(stage.service.stats().balance_calls, 0, "nobody was asked");
}

#[test]
fn a_token_in_the_arguments_is_refused_with_the_reason_and_not_repeated() {
    let stage = DemoProject::new();
    for arguments in [
        &[TOKEN][..],
        &["--token", TOKEN],
        &["--token=the-token-that-must-not-be-seen"],
        &[TOKEN, TOKEN],
    ] {
        let output = login(&stage, arguments, b"");
        assert_eq!(output.status.code(), Some(64), "{}", said(&output));
        assert!(said(&output).contains("never an argument"), "{}", said(&output));
        assert!(!said(&output).contains(TOKEN) && !stored(&stage).exists());
    }
}

#[test]
fn without_a_terminal_and_without_input_it_says_how_to_hand_it_over() {
    let stage = DemoProject::new();
    let output = without_token(&stage, &["login"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(77));
    assert!(said(&output).contains("--token-stdin"), "{}", said(&output));
}

#[test]
fn another_token_that_is_looked_at_first_is_told_of() {
    let stage = DemoProject::new();
    let mut command = stage.command(&["login"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(TOKEN.as_bytes()).expect("taken");
    let output = child.wait_with_output().expect("ends");
    assert!(
        said(&output).contains("used instead: environment RUNCOMFY_API_TOKEN"),
        "{}",
        said(&output)
    );
    let output = stage.cli(&["logout"]);
    assert!(
        said(&output).contains("can still be found: environment RUNCOMFY_API_TOKEN"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_running_daemon_takes_a_new_token_over() {
    let stage = DemoProject::new();
    let run = without_token(&stage, &["run"]);
    let daemon = TestDaemon::spawn(run, stage.state_dir(), stage.path("stderr")).ready();
    let state = || Some(daemon.status()?.backends.first()?.state.clone());
    eventually("the daemon has no token", || state().filter(|state| state != "ready"));
    let output = login(&stage, &[], TOKEN.as_bytes());
    assert!(said(&output).contains("the running daemon"), "{}", said(&output));
    eventually("the daemon has the token", || state().filter(|state| state == "ready"));
    stage.say("a clay owl");
    stage.done(1);
}

#[test]
fn a_login_that_is_killed_leaves_the_old_token_or_the_new_one_whole() {
    let stage = DemoProject::new();
    let one = "a".repeat(4000);
    assert_eq!(login(&stage, &["--no-check"], one.as_bytes()).status.code(), Some(0));
    let mut seen = Vec::new();
    for at in 0..40 {
        let text = char::from(b'b' + at % 2).to_string().repeat(4000);
        let mut command = without_token(&stage, &["login", "--no-check"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
        // From before it has read anything until after it is done.
        std::thread::park_timeout(Duration::from_micros(700 * u64::from(at)));
        child.kill().expect("ours");
        child.wait().expect("ends");
        let now = fs::read_to_string(stored(&stage)).expect("one is there");
        let whole = now.trim_end();
        assert!(whole.len() == 4000 && whole.chars().all(|c| whole.starts_with(c)), "{now:?}");
        assert_eq!(fs::metadata(stored(&stage)).expect("there").permissions().mode() & 0o77, 0);
        seen.push(now);
    }
    // The next login removes what a killed one left.
    assert_eq!(login(&stage, &["--no-check"], one.as_bytes()).status.code(), Some(0));
    let folder = stored(&stage).parent().expect("a folder").to_path_buf();
    assert_eq!(files_below(&folder), [stored(&stage)]);
}
