//! Commands that documents, help and units tell people and machines to run: the program must accept
//! each of them.

use std::{ffi::OsString, fs};

use clap::CommandFactory as _;
use conjured::cli::args::{Cli, parse};

use super::{documents::documents, root, text};

/// The two commands that a newcomer types; `.ci/run` runs the same.
const NEWCOMERS: [&str; 2] = ["cargo run --release -- demo", "cargo test"];

/// Lists the lines of a document's code blocks, without prompts.
fn code_lines(markdown: &str) -> Vec<&str> {
    let mut within = false;
    let mut lines = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            within = !within;
        } else if within {
            lines.push(line.trim().trim_start_matches("$ "));
        }
    }
    lines
}

#[test]
fn ci_runs_the_commands_that_the_readme_tells_newcomers_to_type() {
    let readme = text("README.md");
    let ci = text(".ci/run");
    for command in NEWCOMERS {
        let said = code_lines(&readme).iter().any(|line| {
            line.strip_prefix(command)
                .is_some_and(|rest| rest.trim().is_empty() || rest.contains('#'))
        });
        assert!(said, "README.md does not tell to type `{command}`");
        let runs = ci.lines().any(|line| !line.trim().starts_with('#') && line.contains(command));
        assert!(runs, ".ci/run does not run `{command}`");
    }
}

/// Finds the arguments of `conjured` in a shell line, up to a redirection or a pipe.
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut words = words(line).into_iter().skip_while(|word| {
        word == "sudo" || word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'))
    });
    let program = words.next()?;
    (program == "conjured" || program.ends_with("/conjured")).then(|| {
        let ends = |word: &String| {
            ["|", ">", ">>", "2>", "&", "&&", ";", "#", "<"].contains(&word.as_str())
        };
        words.take_while(|word| !ends(word)).collect()
    })
}

/// Splits a line as a shell does, as far as quotes are concerned.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[track_caller]
fn check(place: &str, line: &str) -> bool {
    let Some(arguments) = arguments(line) else { return false };
    let typed = std::iter::once("conjured".to_owned()).chain(arguments).map(OsString::from);
    if let Err(exit) = parse(typed) {
        assert_eq!(exit.code(), 0, "{place}: `{line}`: {}", exit.text());
    }
    true
}

#[test]
fn every_example_of_the_help_is_understood() {
    fn below(command: &clap::Command, checked: &mut usize) {
        for help in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten()
        {
            let help = help.to_string().replace("\\\n", " ");
            for line in help.lines() {
                // Text after two spaces is an explanation.
                let line = line.trim();
                let line = line.split_once("   ").map_or(line, |(typed, _)| typed);
                *checked += usize::from(check(command.get_name(), line));
            }
        }
        command.get_subcommands().for_each(|command| below(command, checked));
    }
    let mut checked = 0;
    below(&Cli::command(), &mut checked);
    assert!(checked >= 20, "only {checked} examples were found");
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut checked = 0;
    for path in documents() {
        let text = text(&path);
        for line in code_lines(&text.replace("\\\n", " ")) {
            // A synopsis with placeholders is not a command.
            if !line.contains(['[', '…', '◀', '─', '│']) && !line.contains("...") {
                checked += usize::from(check(&path, line));
            }
        }
    }
    assert!(checked >= 40, "only {checked} commands were found");
}

#[test]
fn every_unit_starts_what_the_program_understands() {
    for (folder, ending) in [("systemd", "service"), ("launchd", "plist")] {
        let Ok(files) = fs::read_dir(root().join(folder)) else { continue };
        let mut units = 0;
        for file in files {
            let path = file.expect("an entry").path();
            if path.extension().is_none_or(|found| found != ending) {
                continue;
            }
            let text = fs::read_to_string(&path).expect("reads");
            let place = path.display().to_string();
            let line = match ending {
                "service" => {
                    let starts = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
                    starts.unwrap_or_else(|| panic!("{place} has no ExecStart")).to_owned()
                }
                _ => {
                    let list = text.split("<key>ProgramArguments</key>").nth(1);
                    let list = list.and_then(|rest| rest.split("</array>").next());
                    let list = list.unwrap_or_else(|| panic!("{place} has no ProgramArguments"));
                    let strings = list.split("<string>").skip(1);
                    let strings = strings.filter_map(|rest| rest.split("</string>").next());
                    strings.collect::<Vec<_>>().join(" ")
                }
            };
            assert!(check(&place, &line), "{place} does not start conjured: {line}");
            units += 1;
        }
        assert!(units > 0, "no .{ending} in {folder}");
    }
}
