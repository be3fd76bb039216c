//! Checks how command lines are parsed.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::CommandFactory;
use proptest::prelude::*;

use super::{Cli, Color, Command, Exit, JobsCommand, WorkflowCommand, parse};
use crate::domain::job::JobState;

fn typed(line: &str) -> Result<Cli, Exit> {
    parse(std::iter::once("conjured").chain(line.split_whitespace()).map(OsString::from))
}

fn accepted(line: &str) -> Cli {
    typed(line).unwrap_or_else(|exit| panic!("{line}: {}", exit.text()))
}

fn refused(line: &str) -> String {
    let exit = typed(line).expect_err(line);
    assert_eq!(exit.code(), 64, "{line}");
    exit.text()
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let before = accepted("--config a.toml --root /r --state-dir /s -vv --color never jobs list");
    let after = accepted("jobs list --config a.toml --root /r --state-dir /s -vv --color never");
    let between = accepted("--root /r jobs --config a.toml -vv --state-dir /s list --color=never");
    assert_eq!(before, after);
    assert_eq!(before, between);
    assert_eq!(before.globals.config, Some(PathBuf::from("a.toml")));
    assert_eq!(before.globals.root, Some(PathBuf::from("/r")));
    assert_eq!(before.globals.state_dir, Some(PathBuf::from("/s")));
    assert_eq!((before.globals.verbose, before.globals.color), (2, Color::Never));
}

#[test]
fn every_command_of_this_milestone_is_there() {
    assert_eq!(accepted("run").command, Command::Run);
    assert!(
        matches!(accepted("status --json --watch").command, Command::Status(status) if status.json && status.watch)
    );
    assert!(matches!(accepted("completions zsh").command, Command::Completions { .. }));
    assert!(matches!(accepted("man --dir m").command, Command::Man { dir: Some(_) }));
    let Command::Once(once) =
        accepted("once --prompt owl --render r.png --seed 0 --out o --project p").command
    else {
        panic!("once is once");
    };
    assert_eq!((once.prompt.as_deref(), once.seed), (Some("owl"), Some(0)));
    let Command::Workflow(workflow) = accepted("workflow validate").command else {
        panic!("a workflow is a workflow");
    };
    assert_eq!(workflow.command, WorkflowCommand::Validate { workflow: None, json: false });
}

#[cfg(feature = "simulator")]
#[test]
fn so_are_the_commands_that_need_a_simulator() {
    assert!(
        matches!(accepted("demo --keep --seed 7").command, Command::Demo(demo) if demo.keep && demo.seed == Some(7))
    );
    let Command::Simulator(simulator) =
        accepted("simulator --listen localhost:0 --cold-start-s 0 --run-s 0.5").command
    else {
        panic!("a simulator is a simulator");
    };
    assert_eq!(simulator.listen, "127.0.0.1:0".parse().expect("an address"));
    assert_eq!(
        (simulator.cold_start_s, simulator.run_s),
        (Duration::ZERO, Duration::from_millis(500))
    );
    assert!(refused("simulator --listen 127.0.0.1:8000").contains("CONJURE's own"));
    assert!(refused("simulator --run-s NaN").contains("number of seconds"));
}

#[test]
fn states_are_typed_as_they_are_shown_or_with_a_dash() {
    let Command::Jobs(jobs) = accepted("jobs list --state failed --state Handing-Over").command
    else {
        panic!("jobs are jobs");
    };
    let JobsCommand::List { states, limit, .. } = jobs.command else { panic!("a list is a list") };
    assert_eq!((states, limit), (vec![JobState::Failed, JobState::HandingOver], 20));
    assert!(refused("jobs list --state fialed").contains("the states are prepared, submitting"));
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_is_wrong() {
    assert!(refused("").contains("Usage: conjured"), "no command at all");
    assert!(refused("stauts").contains("'status'"), "a slip is corrected");
    assert!(refused("run --rot /r").contains("'--root'"));
    assert!(refused("-v -q run").contains("cannot be used with"));
    assert!(refused("once --seed 9007199254740992").contains("9007199254740991"));
    assert!(refused("run --color sometimes").contains("auto, always, never"));
}

#[test]
fn help_and_version_are_no_fault() {
    for line in ["--help", "-h", "help", "help jobs", "jobs list --help", "--version", "-V"] {
        let exit = typed(line).expect_err(line);
        assert_eq!(exit.code(), 0, "{line}");
    }
    assert!(typed("--help").expect_err("help").text().contains("69  backend unavailable"));
}

#[test]
fn every_command_has_an_about_and_every_argument_a_help() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    let mut command = Cli::command();
    command.build();
    check(&command);
}

proptest! {
    #[test]
    fn any_words_are_understood_or_refused(words in prop::collection::vec("\\PC{0,12}|--?[a-z-]{1,12}", 0..6)) {
        let words = std::iter::once("conjured".to_owned()).chain(words).map(OsString::from);
        if let Err(exit) = parse(words) {
            prop_assert!(matches!(exit.code(), 0 | 64));
        }
    }
}
