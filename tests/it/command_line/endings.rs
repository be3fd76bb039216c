//! How commands end: each exit code that can be reached without a daemon or a service, and
//! its message.

use std::fs;

use super::{TOKEN, Terminal};

#[test]
fn wrong_usage_ends_with_64_and_names_the_slip() {
    let terminal = Terminal::new();
    for (line, message) in [
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
        terminal.refused(line, 64, message);
    }
    // On other systems a service belongs to the user's own account.
    #[cfg(unix)]
    terminal.refused(
        "service install --system --as no-such-user --root {}/proj --dry-run",
        64,
        "no user",
    );
}

#[test]
fn a_job_that_nobody_knows_is_wrong_usage() {
    let terminal = Terminal::new();
    for line in ["jobs show 01K7Z0000000000000000000AB", "jobs cancel 01K7Z0000000000000000000AB"] {
        terminal.refused(line, 64, "no job has been run yet");
    }
}

#[test]
fn a_workflow_that_cannot_be_used_ends_with_65() {
    let terminal = Terminal::new();
    terminal.write("broken.json", "{\"1\": ");
    terminal.write("editor.json", r#"{"nodes": [], "links": []}"#);
    terminal
        .write("poor.json", r#"{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}"#);
    terminal
        .write("cut.json", r#"{"1": {"class_type": "SaveImage", "inputs": {"images": ["9", 0]}}}"#);
    terminal.refused("workflow validate {}/broken.json", 65, "not valid JSON");
    terminal.refused("workflow inspect {}/broken.json", 65, "not valid JSON");
    terminal.refused("workflow validate {}/editor.json", 65, "Export (API)");
    for file in ["poor.json", "cut.json"] {
        let said = terminal.run(&format!("workflow validate {{}}/{file}"));
        assert_eq!(said.code, 65, "{file}: {said:?}");
    }
}

#[test]
fn a_prompt_or_a_render_that_cannot_be_sent_ends_with_65() {
    let terminal = Terminal::new().with_deployment();
    terminal.write("a.png", "no picture");
    let render = "--root {}/proj --render {}/a.png";
    terminal.check_once(&format!("{render} --prompt owl"), 65, "is not a PNG");
    terminal.check_once(&format!("{render} --prompt null"), 65, "`^null$`");
    terminal.refused("once --root {}/proj --prompt=", 64, "--prompt");
}

#[test]
fn an_input_that_is_not_there_ends_with_66() {
    let terminal = Terminal::new().with_deployment();
    terminal.refused("once --root {}/proj --prompt owl --render {}/none.png", 66, "none.png");
    terminal.check_once("--root {}/proj", 66, "userPrompt.txt");
    terminal.check_once("--root {}/proj --prompt owl", 66, "render.png");
    terminal.refused("workflow inspect none.json", 66, "neither a file nor a built-in workflow");
}

impl Terminal {
    /// Runs `once`, which refuses to send: nothing was sent, and no artifact is reported.
    #[track_caller]
    fn check_once(&self, options: &str, code: i32, message: &str) {
        self.refused(&format!("once {options}"), code, message);
        self.refused(&format!("once {options}"), code, "nothing was sent");
    }
}

#[test]
fn without_a_daemon_status_ends_with_69_and_says_how_to_start_one() {
    let terminal = Terminal::new();
    for line in ["status", "status --json", "status --watch", "status --json --watch"] {
        terminal.refused(line, 69, "conjured run");
    }
}

#[test]
fn a_folder_that_cannot_be_written_ends_with_73_before_anything_is_sent() {
    let terminal = Terminal::new().with_deployment();
    terminal.write("file", "");
    let once = "once --root {}/proj --prompt owl --out {}/file/results";
    terminal.refused(once, 73, "nothing was sent");
    terminal.refused("man --dir {}/file/man", 73, "make the folder");
    terminal.refused("run --root {}/proj --state-dir {}/file/state", 73, "make the folder");
}

#[test]
fn without_a_token_a_job_ends_with_77() {
    let terminal = Terminal::new().without_token().with_deployment();
    terminal.refused("once --root {}/proj --prompt owl", 77, "RUNCOMFY_API_TOKEN");
}

#[test]
fn what_is_no_token_ends_with_77_and_is_not_repeated() {
    let terminal = Terminal::new().without_token().with_deployment();
    let file = terminal.write("token", format!("{TOKEN} and more"));
    let terminal = terminal.with("CONJURED__SERVERLESS__TOKEN_FILE", file);
    for command in ["run", "once"] {
        terminal.refused(&format!("{command} --root {{}}/proj"), 77, "does not contain a token");
    }
    fs::remove_file(terminal.path("token")).expect("removes");
    terminal.refused("run --root {}/proj", 77, "write the token into it");
}

#[test]
fn without_a_deployment_or_a_project_there_is_something_to_configure() {
    let terminal = Terminal::new();
    terminal.refused("once --root {}/proj --prompt owl", 78, "serverless.deployment_id");
    for command in ["run", "once"] {
        terminal.refused(command, 78, "--root DIR");
    }
}
