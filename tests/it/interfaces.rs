//! What programs read stays what it is: the members of every JSON output, and the exit codes.
//!
//! Owns the list of both (`golden/interfaces.txt`), which grows with a new member and never loses
//! one while `schema` is 1 (`docs/status.md`). What the values mean is tested where they are made.
//! Configuration keys have a list of their own in `src/config/tests/defaults.rs`.

use std::{collections::BTreeSet, fs};

use conjured::{cli::exit, domain::job::JobState};
use serde_json::Value;

use crate::support::stage::DemoProject;

/// Every member, a line each: the command, then the path. `[]` stands for an array's elements.
const GOLDEN: &str = include_str!("golden/interfaces.txt");

/// Adds the path of every member of `value` that holds no others.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                members(value, &format!("{path} {key}"), found);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                members(element, &format!("{path}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn json_outputs_keep_every_member_and_the_list_is_complete() {
    let stage = DemoProject::new();
    let daemon = stage.start();
    stage.say("a clay owl");
    let id = stage.done(1)[0].id.to_string();
    let kept = stage.state_dir().join("history").join(&id).join("job.json");
    let record = fs::read(kept).expect("the record of the job");
    let mut found = BTreeSet::new();
    members(&serde_json::from_slice(&record).expect("JSON"), "job.json", &mut found);
    for (name, arguments) in [
        ("status", &["status", "--json"][..]),
        ("jobs list", &["jobs", "list", "--json"]),
        ("jobs show", &["jobs", "show", &id, "--json"]),
        ("jobs audit", &["jobs", "audit", "--json"]),
        ("cost", &["cost", "--json"]),
        ("doctor", &["doctor", "--offline", "--json"]),
    ] {
        // `doctor` ends with a code of its own where something is wrong.
        let output = stage.cli(arguments);
        let json = serde_json::from_slice(&output.stdout);
        members(&json.unwrap_or_else(|_| panic!("{name}: {output:?}")), name, &mut found);
    }
    assert!(daemon.stop().success());
    assert_eq!(stage.jobs()[0].state, JobState::Done);
    let listed: BTreeSet<String> = GOLDEN.lines().map(str::to_owned).collect();
    let lost: Vec<_> = listed.difference(&found).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(lost.is_empty(), "programs may read these, and they are gone: {lost:#?}");
    assert!(new.is_empty(), "list these in golden/interfaces.txt and docs/status.md: {new:#?}");
}

#[test]
fn exit_codes_stay_what_scripts_rely_on() {
    let codes = [
        exit::JOB_FAILED,
        exit::USAGE,
        exit::BAD_INPUT,
        exit::MISSING_INPUT,
        exit::UNAVAILABLE,
        exit::BUG,
        exit::CANNOT_WRITE,
        exit::TRY_AGAIN,
        exit::TOKEN,
        exit::CONFIGURATION,
    ];
    assert_eq!(codes, [1, 64, 65, 66, 69, 70, 73, 75, 77, 78]);
}
