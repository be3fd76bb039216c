//! How commands end: each exit code that can be reached without a daemon or a service, and
//! its message.

use std::fs;

use super::{Desk, TOKEN};

#[test]
fn wrong_usage_ends_with_64_and_names_the_slip() {
    let desk = Desk::new();
    for (line, words) in [
        ("", "Usage: conjured"),
        ("stauts", "'status'"),
        ("run --rot x", "'--root'"),
        ("service", "Usage: conjured service"),
        ("service install --system --user", "cannot be used with"),
        ("service install --as artist", "--system"),
        ("run more", "unexpected argument 'more'"),
        ("run --root", "value is required"),
        ("-v -q run", "cannot be used with"),
        ("jobs", "Usage: conjured jobs"),
        ("jobs list --limit many", "invalid value 'many'"),
        ("jobs list --state fialed", "the states are prepared"),
        ("once --seed=-1", "whole number"),
        ("once --seed 9007199254740992", "9007199254740991"),
        ("completions tcsh", "possible values"),
        ("simulator --listen 127.0.0.1:8000", "CONJURE's own"),
    ] {
        desk.refused(line, 64, words);
    }
    // On other systems a service belongs to the user's own account.
    #[cfg(unix)]
    desk.refused(
        "service install --system --as no-such-user --root {}/proj --dry-run",
        64,
        "no user",
    );
}

#[test]
fn a_job_that_nobody_knows_is_wrong_usage() {
    let desk = Desk::new();
    for line in ["jobs show 01K7Z0000000000000000000AB", "jobs cancel 01K7Z0000000000000000000AB"] {
        desk.refused(line, 64, "no job has been run yet");
    }
}

#[test]
fn a_workflow_that_cannot_be_used_ends_with_65() {
    let desk = Desk::new();
    desk.write("broken.json", "{\"1\": ");
    desk.write("editor.json", r#"{"nodes": [], "links": []}"#);
    desk.write("poor.json", r#"{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}"#);
    desk.write("cut.json", r#"{"1": {"class_type": "SaveImage", "inputs": {"images": ["9", 0]}}}"#);
    desk.refused("workflow validate {}/broken.json", 65, "not valid JSON");
    desk.refused("workflow inspect {}/broken.json", 65, "not valid JSON");
    desk.refused("workflow validate {}/editor.json", 65, "Export (API)");
    for file in ["poor.json", "cut.json"] {
        let said = desk.run(&format!("workflow validate {{}}/{file}"));
        assert_eq!(said.code, 65, "{file}: {said:?}");
    }
}

#[test]
fn a_prompt_or_a_render_that_cannot_be_sent_ends_with_65() {
    let desk = Desk::new().with_deployment();
    desk.write("a.png", "no picture");
    let render = "--root {}/proj --render {}/a.png";
    desk.check_once(&format!("{render} --prompt owl"), 65, "is not a PNG");
    desk.check_once(&format!("{render} --prompt null"), 65, "`^null$`");
    desk.refused("once --root {}/proj --prompt=", 64, "--prompt");
}

#[test]
fn an_input_that_is_not_there_ends_with_66() {
    let desk = Desk::new().with_deployment();
    desk.refused("once --root {}/proj --prompt owl --render {}/none.png", 66, "none.png");
    desk.check_once("--root {}/proj", 66, "userPrompt.txt");
    desk.check_once("--root {}/proj --prompt owl", 66, "render.png");
    desk.refused("workflow inspect none.json", 66, "neither a file nor a built-in workflow");
}

impl Desk {
    /// Runs `once`, which refuses to send: nothing was sent, and no artifact is reported.
    #[track_caller]
    fn check_once(&self, options: &str, code: i32, words: &str) {
        self.refused(&format!("once {options}"), code, words);
        self.refused(&format!("once {options}"), code, "nothing was sent");
    }
}

#[test]
fn without_a_daemon_status_ends_with_69_and_says_how_to_start_one() {
    let desk = Desk::new();
    for line in ["status", "status --json", "status --watch", "status --json --watch"] {
        desk.refused(line, 69, "conjured run");
    }
}

#[test]
fn a_folder_that_cannot_be_written_ends_with_73_before_anything_is_sent() {
    let desk = Desk::new().with_deployment();
    desk.write("file", "");
    let once = "once --root {}/proj --prompt owl --out {}/file/results";
    desk.refused(once, 73, "nothing was sent");
    desk.refused("man --dir {}/file/man", 73, "make the folder");
    desk.refused("run --root {}/proj --state-dir {}/file/state", 73, "make the folder");
}

#[test]
fn without_a_token_a_job_ends_with_77() {
    let desk = Desk::new().without_token().with_deployment();
    desk.refused("once --root {}/proj --prompt owl", 77, "RUNCOMFY_API_TOKEN");
}

#[test]
fn what_is_no_token_ends_with_77_and_is_not_repeated() {
    let desk = Desk::new().without_token().with_deployment();
    let file = desk.write("token", format!("{TOKEN} and more"));
    let desk = desk.with("CONJURED__SERVERLESS__TOKEN_FILE", file);
    for command in ["run", "once"] {
        desk.refused(&format!("{command} --root {{}}/proj"), 77, "does not contain a token");
    }
    fs::remove_file(desk.path("token")).expect("removes");
    desk.refused("run --root {}/proj", 77, "write the token into it");
}

#[test]
fn without_a_deployment_or_a_project_there_is_something_to_configure() {
    let desk = Desk::new();
    desk.refused("once --root {}/proj --prompt owl", 78, "serverless.deployment_id");
    for command in ["run", "once"] {
        desk.refused(command, 78, "--root DIR");
    }
}
