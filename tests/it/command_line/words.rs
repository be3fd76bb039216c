//! The output: help, manual, completions, workflows and jobs; data on standard output, and only
//! JSON where JSON is requested.

use std::{fs, io::Read as _, path::Path, process::Stdio};

use clap::{CommandFactory as _, ValueEnum as _};
use conjured::{cli::args::Cli, domain::request::workflow::built_in};
use serde_json::json;

use super::Terminal;

const BUILT_IN: &str = include_str!("../../../workflows/conjure_flux_mesh.json");

/// Lists every command as it is typed: `jobs list`.
fn commands() -> Vec<String> {
    fn below(command: &clap::Command, stem: &str, list: &mut Vec<String>) {
        for command in command.get_subcommands() {
            let line = format!("{stem}{}", command.get_name());
            below(command, &format!("{line} "), list);
            list.push(line);
        }
    }
    let mut list = Vec::new();
    below(&Cli::command(), "", &mut list);
    list
}

#[test]
fn help_is_data_for_every_command_and_so_is_the_version() {
    let terminal = Terminal::new();
    let version = terminal.run("--version");
    assert_eq!(version.stdout, format!("conjured {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((version.code, version.stderr.as_str()), (0, ""));
    for line in commands() {
        let said = terminal.run(&format!("{line} --help"));
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{line}");
        assert!(said.stdout.contains(&format!("Usage: conjured {line}")), "{said:?}");
    }
    assert!(terminal.done("--help").contains("78  configuration"));
}

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    let terminal = Terminal::new();
    for shell in clap_complete::Shell::value_variants() {
        let script = terminal.done(&format!("completions {shell}"));
        for word in ["conjured", "simulator", "completions", "state-dir"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let terminal = Terminal::new();
    let page = terminal.done("man");
    assert!(page.contains(".TH conjured 1") && page.contains("Exit codes"), "{page}");
    let named = terminal.done("man --dir {}/deep/man");
    assert_eq!(Path::new(named.trim_end()), terminal.path("deep/man"));
    for line in commands() {
        let page = terminal.path("deep/man").join(format!("conjured-{}.1", line.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{line}: {text}");
    }
}

#[test]
fn workflows_are_listed_and_the_one_in_use_is_marked() {
    let terminal = Terminal::new();
    let text = terminal.done("workflow list");
    assert!(text.contains("* conjure_flux_mesh "), "{text}");
    let list = terminal.json("workflow list --json");
    let names: Vec<&str> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, built_in::NAMES);
    assert_eq!(list[0]["in_use"], true);
    let copy = terminal.write("copy.json", BUILT_IN);
    let terminal = terminal.with("CONJURED__GENERATION__WORKFLOW", copy);
    let list = terminal.json("workflow list --json");
    let file = built_in::NAMES.len();
    assert_eq!(list[0]["version"], list[file]["version"], "the file is a copy of the built-in one");
    assert_eq!((&list[0]["in_use"], &list[file]["in_use"]), (&json!(false), &json!(true)));
}

#[test]
fn an_inspection_finds_every_role_of_the_built_in_workflow() {
    let terminal = Terminal::new();
    let found = terminal.json("workflow inspect conjure_flux_mesh --json");
    let bound = terminal.json("workflow validate conjure_flux_mesh --json")["bindings"].clone();
    for (role, place) in bound.as_object().expect("bindings") {
        let best = found["candidates"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|candidate| candidate["role"] == role.as_str() && candidate["best"] == true);
        assert_eq!(best.map(|best| &best["place"]), Some(place), "{role}");
    }
    let text = terminal.done("workflow inspect conjure_flux_mesh");
    assert!(text.contains("[generation.bind]"), "{text}");
}

#[test]
fn a_validation_says_what_is_bound_and_what_is_wrong() {
    let terminal = Terminal::new();
    assert!(terminal.done("workflow validate").contains("conjure_flux_mesh is valid"));
    let good = terminal.json("workflow validate --json");
    assert_eq!((&good["ok"], &good["bindings"]["prompt"]), (&json!(true), &json!("41.value")));
    let mut graph: serde_json::Value = serde_json::from_str(BUILT_IN).expect("JSON");
    graph["24"]["inputs"]["images"] = json!(["999", 0]);
    terminal.write("cut.json", graph.to_string());
    let binding = "[generation.bind]\nimage = \"16.image\"\nprompt = \"41.value\"\nflux = \"24\"\nmesh = \"33\"\n";
    terminal.write("bind.toml", binding);
    let said = terminal.run("workflow validate {}/cut.json --config bind.toml --json");
    assert_eq!(said.code, 65, "{said:?}");
    let bad: serde_json::Value = serde_json::from_str(&said.stdout).expect("pure JSON");
    assert_eq!(bad["ok"], false);
    let told = bad["findings"].as_array().expect("a list").iter().any(|finding| {
        finding["severity"] == "error"
            && finding["message"].as_str().is_some_and(|text| text.contains("999"))
    });
    assert!(told, "{bad}");
}

#[test]
fn where_no_job_was_ever_run_the_list_is_empty_and_nothing_is_made() {
    let terminal = Terminal::new();
    assert_eq!(terminal.json("jobs list --json --state-dir {}/state"), json!([]));
    let said = terminal.run("jobs list --state-dir {}/state");
    assert_eq!((said.code, said.stdout.as_str()), (0, ""));
    assert!(said.stderr.contains("no job has been run yet"), "{said:?}");
    assert_eq!(terminal.run("-q jobs list --state-dir {}/state").stderr, "");
    assert!(!terminal.path("state").exists(), "reading makes no folder");
}

#[test]
fn colour_is_there_when_asked_for_and_only_then() {
    let bare = Terminal::new();
    for options in ["", "--color never", "--color auto"] {
        bare.done(&format!("{options} workflow list"));
        assert!(!bare.run(&format!("{options} --help")).stdout.contains('\x1b'));
    }
    let painted = bare.run("--color=always --help");
    assert!(painted.stdout.contains('\x1b'), "{painted:?}");
    // `run` itself checks for escape sequences: no variable that requests colours may produce
    // any here.
    let asked = Terminal::new()
        .with("NO_COLOR", "1")
        .with("CLICOLOR_FORCE", "1")
        .with("FORCE_COLOR", "1")
        .with("TERM", "xterm-256color");
    for line in ["--help", "stauts", "workflow list", "workflow validate", "status", "jobs list"] {
        asked.run(line);
    }
}

#[test]
fn a_reader_that_went_away_is_no_fault() {
    let terminal = Terminal::new();
    for line in ["man", "completions bash", "--help", "workflow inspect conjure_flux_mesh"] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_conjured"))
            .args(line.split(' '))
            .env_clear()
            .envs(terminal.environment())
            .current_dir(terminal.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stdout.take());
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("UTF-8");
        let status = child.wait().expect("it ends");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}
