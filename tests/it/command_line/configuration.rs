//! Each kind of invalid configuration, as the program reports it: file and line, key, what is
//! wrong, what to write instead, 78.
//!
//! The exact texts are checked by `config`'s own tests; here they must be printed completely and
//! with the right exit code.

use super::Terminal;

/// Checks that a configuration file is rejected with its origin and each of `words`.
#[track_caller]
fn check(text: impl AsRef<[u8]>, place: &str, words: &[&str]) {
    let terminal = Terminal::new();
    terminal.write("bad.toml", text);
    let said = terminal.run("workflow validate --config bad.toml");
    assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{said:?}");
    let begins = format!("{}{place}: ", terminal.path("bad.toml").display());
    assert!(said.stderr.contains(&begins), "no {begins:?} in {said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "no {word:?} in {said:?}");
    }
}

#[test]
fn slips_in_names_are_told_with_the_name_that_was_meant() {
    let slip = "[trigger]\n\nrender_quite_ms = 3";
    check(slip, ":3", &["`render_quite_ms` in [trigger]", "did you mean `render_quiet_ms`?"]);
    check("[triger]", ":1", &["did you mean `[trigger]`?"]);
    check("[log]\nmode = \"auto\"", ":2", &["`mode`", "the top of the file"]);
    check("mode = \"severless\"", ":1", &["`mode`", "did you mean `serverless`?"]);
}

#[test]
fn wrong_values_are_told_with_what_is_allowed() {
    check("max_in_flight = \"2\"", ":1", &["`max_in_flight` must be", "the text \"2\""]);
    check("max_in_flight = 0", ":1", &["`max_in_flight` is 0", "between 1 and 16"]);
    check("[page]\nlisten = \"0.0.0.0:80\"", ":2", &["`page.listen`", "this machine only"]);
    check("[serverless]\napi_url = \"http://example.com\"", ":2", &["https://"]);
    let pace = "[serverless]\npoll_max_ms = 100";
    check(pace, ":2", &["`serverless.poll_min_ms`", "`serverless.poll_max_ms`"]);
    let twice =
        "[[project]]\nname = \"a\"\nroot = \"/a\"\n[[project]]\nname = \"a\"\nroot = \"/b\"";
    check(twice, ":4", &["two projects have the name \"a\"", "bad.toml:1"]);
}

#[test]
fn what_is_no_configuration_at_all_is_told() {
    check("mode = \"auto\"\n[trigger]\non = either\n", ":3", &["column 6", "on = either"]);
    check(b"# one\nmode = \"\xfc\"\n", ":2", &["UTF-8"]);
    check(vec![b'#'; 1024 * 1024 + 1], "", &["larger than 1024 KB"]);
    Terminal::new().refused(
        "workflow validate --config none.toml",
        78,
        "none.toml: cannot be read",
    );
}

#[test]
fn a_pattern_that_is_none_is_a_fault_of_the_configuration() {
    let terminal = Terminal::new().with_deployment();
    terminal.write("bad.toml", "[trigger]\nignore_prompts = [\"(\"]");
    terminal.refused("run --root {}/proj --config bad.toml", 78, "trigger.ignore_prompts");
}

#[test]
fn a_secret_in_a_file_is_refused_and_not_repeated() {
    let secret = "not-a-real-secret-1234567890";
    let terminal = Terminal::new();
    terminal.write("bad.toml", format!("[serverless]\ntoken = \"{secret}\""));
    let said = terminal.run("workflow validate --config bad.toml");
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("bad.toml:2: `serverless.token`"), "{said:?}");
    assert!(!said.stderr.contains(secret), "{said:?}");
}

#[test]
fn all_faults_of_all_places_are_told_at_once() {
    let terminal = Terminal::new()
        .with("CONJURED__LOG__LEVLE", "info")
        .with("RUNCOMFY_DEFAULT_STEPS_FLUX", "none");
    terminal.write("bad.toml", "mode = 1\n[log]\nkeep_days = 0\n");
    for command in ["workflow validate", "status", "jobs list", "run", "once"] {
        let said = terminal.run(&format!("{command} --config bad.toml"));
        assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{command}: {said:?}");
        for part in [
            "bad.toml:1: `mode`",
            "bad.toml:3: `log.keep_days`",
            "CONJURED__LOG__LEVLE",
            "`CONJURED__LOG__LEVEL`",
            "RUNCOMFY_DEFAULT_STEPS_FLUX",
        ] {
            assert!(said.stderr.contains(part), "{command}: no {part:?} in {said:?}");
        }
    }
}

#[test]
fn what_needs_no_configuration_works_with_a_bad_one() {
    let terminal = Terminal::new();
    terminal.write("bad.toml", "mode = 1");
    terminal.done("workflow list --config bad.toml");
    terminal.done("workflow validate conjure_flux_mesh --config bad.toml");
    terminal.done("completions bash --config bad.toml");
    let jobs = terminal.json("jobs list --json --config bad.toml --state-dir {}/state");
    assert_eq!(jobs, serde_json::json!([]));
}

#[test]
fn the_environment_wins_over_a_file() {
    let terminal = Terminal::new();
    terminal.write("good.toml", "[generation]\nworkflow = \"poor.json\"");
    terminal
        .write("poor.json", r#"{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}"#);
    assert_eq!(terminal.run("workflow validate --config good.toml").code, 65);
    let terminal = terminal.with("CONJURED__GENERATION__WORKFLOW", "conjure_flux_mesh");
    terminal.done("workflow validate --config good.toml");
}
