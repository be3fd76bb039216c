//! Each planted fault is found, with its fix, and a good setup gets no complaint.
//!
//! A network drive needs a file server: the pure rule is tested next to the code, a real FUSE drive
//! in `tests/real/doctor`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use conjured::domain::money::MicroUsd;
use serde_json::{Value, json};

use super::{apart, as_nobody, said, without_token};
use crate::support::{
    daemon::TestDaemon,
    service::TOKEN,
    stage::{DemoProject, files_below},
};

/// The output of a run of the doctor.
pub(super) struct Report {
    pub(super) code: Option<i32>,
    pub(super) checks: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said(output)));
        assert!(!said(output).contains(TOKEN), "{}", said(output));
        let checks = json["checks"].as_array().expect("a list").clone();
        let failed = checks.iter().any(|check| check["verdict"] == "fail");
        assert_eq!(json["ok"], !failed);
        assert_eq!(output.status.success(), !failed, "{}", said(output));
        Self { code: output.status.code(), checks }
    }

    pub(super) fn by(command: &mut Command) -> Self {
        Self::of(&command.output().expect("the binary starts"))
    }

    /// Returns the complaints: `name: found`.
    pub(super) fn complaints(&self) -> Vec<String> {
        let bad = |check: &&Value| check["verdict"] == "fail" || check["verdict"] == "warn";
        self.checks
            .iter()
            .filter(bad)
            .map(|check| format!("{}: {}", check["name"], check["found"]))
            .collect()
    }

    /// Fails the test unless exactly this check fails, with `found` in its finding and `fix` in
    /// its fix.
    #[track_caller]
    pub(super) fn fails_only(&self, name: &str, found: &str, fix: &str) {
        self.has("fail", name, found, fix);
        let others: Vec<_> = self
            .checks
            .iter()
            .filter(|check| check["verdict"] == "fail" && check["name"] != name)
            .collect();
        assert!(others.is_empty(), "{others:?}");
    }

    #[track_caller]
    pub(super) fn has(&self, verdict: &str, name: &str, found: &str, fix: &str) {
        let says = |check: &&Value, key: &str, part: &str| {
            check[key].as_str().is_some_and(|text| text.contains(part))
        };
        let there = self.checks.iter().find(|check| {
            check["verdict"] == verdict
                && check["name"] == name
                && says(check, "found", found)
                && says(check, "fix", fix)
        });
        assert!(
            there.is_some(),
            "no {verdict} of {name} with {found:?} and {fix:?}: {:#?}",
            self.checks
        );
    }
}

/// Creates a project without any problem.
pub(super) fn good() -> DemoProject {
    let mut stage = DemoProject::new();
    // The stage switches off what most tests do not want; here everything is as usual.
    stage.unset("placement", "handoff");
    stage.unset("page", "listen");
    for path in stage.public() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    }
    stage
}

fn doctor(stage: &DemoProject) -> Report {
    Report::by(&mut stage.command(&["doctor", "--json"]))
}

/// Returns every file with its content and permissions.
fn everything(stage: &DemoProject) -> BTreeMap<String, (Vec<u8>, u32)> {
    files_below(&stage.path(""))
        .into_iter()
        .map(|path| {
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            (path.display().to_string(), (fs::read(&path).unwrap_or_default(), mode))
        })
        .collect()
}

/// Makes a file that was just written older.
fn age(path: &Path, by: Duration) {
    let file = fs::File::options().append(true).open(path).expect("opens");
    let now = file.metadata().and_then(|metadata| metadata.modified()).expect("told");
    file.set_modified(now - by).expect("ours");
}

#[test]
fn a_good_setup_gets_no_complaint_and_nothing_is_changed() {
    let stage = good();
    let daemon = stage.start();
    let report = doctor(&stage);
    assert_eq!(report.complaints(), Vec::<String>::new());
    assert_eq!(report.code, Some(0));
    daemon.stop();
    let before = everything(&stage);
    let report = doctor(&stage);
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
    report.has("warn", "daemon", "not running", "conjured run");
    assert_eq!(report.complaints().len(), 1, "{:?}", report.complaints());
    assert_eq!(everything(&stage), before);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.cancel_calls), (0, 0));
}

#[test]
fn a_wrong_token_is_found() {
    let stage = good();
    stage.service.set_token("another");
    let report = doctor(&stage);
    report.fails_only("token", "rejected", "conjured login");
    assert_eq!(report.code, Some(77));
}

#[test]
fn a_missing_token_is_found() {
    let stage = good();
    let report = Report::by(&mut without_token(&stage, &["doctor", "--json"]));
    report.fails_only("token", "no token was found", "docs/runcomfy.md");
    assert_eq!(report.code, Some(77));
}

#[test]
fn an_unknown_deployment_is_found_and_somebody_elses_too() {
    let mut stage = good();
    stage.set("serverless.deployment_id", "\"no-such-deployment\"");
    doctor(&stage).fails_only("deployment", "no-such-deployment", "dashboard");
    stage.set("serverless.deployment_id", "\"someone-elses-deployment\"");
    doctor(&stage).fails_only("deployment", "no access to", "account that owns");
    stage.set("serverless.deployment_id", "\"\"");
    doctor(&stage).fails_only("deployment", "no deployment is configured", "docs/runcomfy.md");
}

#[test]
fn a_disabled_deployment_is_found() {
    let stage = good();
    stage.service.set_enabled(false);
    doctor(&stage).fails_only("deployment", "is disabled", "enable it");
}

#[test]
fn an_empty_balance_is_found_below_nothing_too() {
    let stage = good();
    for left in [0, -250_000] {
        stage.service.set_balance(MicroUsd(left));
        doctor(&stage).fails_only("balance", &MicroUsd(left).to_string(), "top up");
    }
}

#[test]
fn a_binding_that_the_workflow_does_not_have_is_found() {
    let mut stage = good();
    stage.set("generation.bind", "{ prompt = \"999.value\" }");
    let report = doctor(&stage);
    report.fails_only("workflow", "999", "workflow validate");
    assert_eq!(report.code, Some(65));
}

#[test]
fn a_binding_that_the_deployments_own_graph_does_not_have_is_found() {
    let stage = good();
    stage.service.behave(|behaviour| behaviour.payload_lacks = vec!["41".to_owned()]);
    doctor(&stage).fails_only("workflow", "node 41 (prompt)", "workflow inspect");
    // If the deployment does not report its graph, only the built-in one can be compared.
    stage.service.behave(|behaviour| behaviour.tell_payload = false);
    assert_eq!(doctor(&stage).code, Some(0));
}

#[test]
fn an_output_folder_that_cannot_be_written_is_found() {
    let stage = good();
    let folder = stage.public()[0].parent().expect("a folder").to_path_buf();
    let Some(mut command) = as_nobody(&stage, &["doctor", "--json"]) else { return };
    command.env("RUNCOMFY_API_TOKEN", TOKEN);
    assert_eq!(Report::by(&mut command).code, Some(0), "as it is it can be written");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("ours");
    let report = Report::by(&mut command);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
    report.fails_only("outputs", "cannot be written", "chmod u+w");
    assert_eq!(report.code, Some(73));
}

#[test]
fn a_drive_that_is_mounted_read_only_is_found_even_by_root() {
    let stage = good();
    let folder = stage.public()[0].parent().expect("a folder").display().to_string();
    let script = format!("mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'");
    let Some(output) = apart(&script, &stage.command(&["doctor", "--json"])) else { return };
    Report::of(&output).fails_only("outputs", "Read-only", "writable");
}

#[test]
fn missing_folders_are_found() {
    let stage = good();
    let outputs = stage.public()[0].parent().expect("a folder").to_path_buf();
    fs::remove_dir(&outputs).expect("empty");
    let report = doctor(&stage);
    report.has("warn", "outputs", &outputs.display().to_string(), "created with the first result");
    assert_eq!(report.code, Some(0), "the first result makes it");
    let inputs = stage.prompt().parent().expect("a folder").to_path_buf();
    fs::remove_dir_all(&inputs).expect("ours");
    let report = doctor(&stage);
    report.fails_only("inputs", &inputs.display().to_string(), "start CONJURE");
    assert_eq!(report.code, Some(66));
    fs::remove_dir_all(stage.root()).expect("ours");
    doctor(&stage).fails_only("inputs", "does not exist", "conjured init");
}

#[test]
fn a_watch_limit_that_is_reached_is_found() {
    let mut stage = good();
    let limits = [
        ("max_inotify_watches", "max_user_watches"),
        ("max_inotify_instances", "max_user_instances"),
    ];
    for (limit, named) in limits {
        let script = format!("echo 0 > /proc/sys/user/{limit}");
        let Some(output) = apart(&script, &stage.command(&["doctor", "--json"])) else { return };
        Report::of(&output).has("warn", "watching", named, "sysctl");
    }
    stage.set("trigger.watch", "\"native\"");
    let script = "echo 0 > /proc/sys/user/max_inotify_watches";
    let Some(output) = apart(script, &stage.command(&["doctor", "--json"])) else { return };
    Report::of(&output).fails_only("watching", "max_user_watches", "sysctl");
}

#[test]
fn a_full_disk_is_found() {
    let stage = good();
    let state = stage.state_dir().display().to_string();
    let script = format!("mkdir -p '{state}'; mount -t tmpfs -o size=1m,mode=700 none '{state}'");
    let Some(output) = apart(&script, &stage.command(&["doctor", "--json"])) else { return };
    let report = Report::of(&output);
    report.fails_only("disk space", "1 MB free", "free some space");
    assert_eq!(report.code, Some(73));
}

#[test]
fn a_second_daemon_is_found_and_ones_own_is_none() {
    let stage = good();
    let other = stage.path("another-state");
    let command = stage.command_with(&other, &["run"]);
    let second = TestDaemon::spawn(command, other, stage.path("stderr")).ready();
    let pid = format!("process {}", second.pid());
    let report = doctor(&stage);
    report.fails_only("second daemon", &pid, "stop one");
    assert_eq!(report.code, Some(75));
}

#[test]
fn conjures_launcher_in_a_paid_mode_is_found_with_the_way_to_switch_it_off() {
    let stage = good();
    let state = stage.root().join("data/input/state.json");
    fs::create_dir_all(state.parent().expect("a folder")).expect("makes");
    let write = |mode: &str, status: &str, request: Value| {
        let json = json!({"app_status": status, "generation_mode": mode, "flux_pipeline_request": request});
        fs::write(&state, json.to_string()).expect("writes");
    };
    for mode in ["serverless", "cloud_legacy", "local"] {
        write(mode, "running", json!("new"));
        doctor(&stage).fails_only("CONJURE", mode, "mode 5");
        write(mode, "running", Value::Null);
        doctor(&stage).fails_only("CONJURE", mode, "mode 5");
        write(mode, "shutting_down", json!("new"));
        assert_eq!(doctor(&stage).code, Some(0), "{mode}");
    }
    write("local_comfyui", "running", json!("new"));
    assert_eq!(doctor(&stage).code, Some(0));
    // A launcher that ended abnormally leaves its file behind.
    write("serverless", "running", json!("new"));
    age(&state, Duration::from_secs(3600));
    assert_eq!(doctor(&stage).code, Some(0));
    fs::write(&state, "{\"app_status\": \"runn").expect("writes");
    doctor(&stage).has("warn", "CONJURE", "incomplete", "run this again");
}

#[test]
fn a_token_file_that_cannot_be_read_and_is_open_to_others_is_found() {
    let mut stage = good();
    let file = stage.path("token");
    fs::write(&file, TOKEN).expect("writes");
    stage.set("serverless.token_file", &format!("\"{}\"", file.display()));
    let Some(mut command) = as_nobody(&stage, &["doctor", "--json"]) else { return };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o044)).expect("ours");
    let report = Report::by(&mut command);
    report.fails_only("token", "0044, so other users can read", "chmod 600");
    assert_eq!(report.code, Some(77));
    // Readable by us and by everyone: it works, but the user should know.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
    let report = Report::by(&mut command);
    report.has("warn", "token", "can be read by others", "chmod 600");
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
}

#[test]
fn a_clock_that_is_off_by_a_day_is_found_either_way() {
    let stage = good();
    for (ahead, way) in [(86_400, "behind"), (-86_400, "ahead of")] {
        stage.service.behave(|behaviour| behaviour.clock_ahead_s = ahead);
        doctor(&stage).fails_only("clock", way, "set the clock");
    }
}

#[test]
fn a_wrong_configuration_is_the_first_thing_said_with_file_and_line() {
    let stage = good();
    fs::write(stage.config(), "mode = \"serverless\"\n[trigger]\nprompt_quiet = 3\n")
        .expect("writes");
    let report = doctor(&stage);
    report.fails_only("configuration", "conjured.toml:3", "correct");
    assert_eq!((report.code, &report.checks[0]["name"]), (Some(78), &json!("configuration")));
    let mut command = stage.command(&["doctor", "--json"]);
    command.env_clear();
    let output = command.env("PATH", "/usr/bin").output().expect("starts");
    assert_eq!(output.status.code(), Some(78), "without a home folder, too: {}", said(&output));
}

#[test]
fn a_service_that_cannot_be_reached_is_found_and_offline_asks_nobody() {
    let mut stage = good();
    stage.set("serverless.api_url", "\"http://127.0.0.1:1\"");
    let report = doctor(&stage);
    report.fails_only("api", "http://127.0.0.1:1 cannot be reached", "network");
    assert_eq!(report.code, Some(69));
    let report = Report::by(&mut stage.command(&["doctor", "--json", "--offline"]));
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
}

#[test]
fn inputs_that_no_job_can_be_made_of_and_a_machine_with_another_price_are_remarked() {
    let mut stage = good();
    fs::write(stage.prompt(), "").expect("writes");
    stage.set("budget.hardware", "\"medium\"");
    let report = doctor(&stage);
    report.has("warn", "inputs", "the prompt", "when you speak");
    report.has("warn", "hardware", "AMPERE_48", "budget.hardware = \"x-large\"");
    assert_eq!(report.code, Some(0));
    age(&stage.render(), Duration::from_secs(30 * 3600));
    doctor(&stage).has("warn", "inputs", "last written 30 h", "Blender");
}

#[test]
fn a_damaged_ledger_and_an_open_state_folder_are_found() {
    let stage = good();
    stage.start().stop();
    fs::set_permissions(stage.state_dir(), fs::Permissions::from_mode(0o755)).expect("ours");
    doctor(&stage).has("warn", "state folder", "0755", "chmod 700");
    let ledger = stage.state_dir().join(conjured::ledger::FILE);
    let mut bytes = fs::read(&ledger).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    fs::write(&ledger, bytes).expect("writes");
    doctor(&stage).fails_only("ledger", "", "to another place");
}

#[test]
fn a_person_reads_each_finding_in_a_line_and_its_fix_in_the_next() {
    let stage = good();
    stage.service.set_enabled(false);
    let output = stage.cli(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\nFAIL  deployment"), "{text}");
    assert!(text.contains("→ enable it on RunComfy's deployment page"), "{text}");
    assert!(text.ends_with("1 check failed, 1 warning.\n"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}
