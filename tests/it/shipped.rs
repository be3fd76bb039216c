//! What is distributed with the program: licences of everything in it, the lock file, the example
//! configuration, the commands in documents, workflows and units.
//!
//! Owns checks that need the whole repository. What one file says about itself is tested next to
//! the code that reads it.

mod commands;
mod documents;
mod licences;
mod migrating;
mod promises;

use std::{collections::BTreeSet, fs, path::Path};

use conjured::domain::request::workflow::{
    Workflow,
    bind::bind,
    built_in,
    validate::{Severity, validate},
};

/// Files without which a clone is incomplete.
const REQUIRED: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "clippy.toml",
    "config.example.toml",
    "README.md",
    "deny.toml",
    "launchd/org.conjured.daemon.plist",
    "systemd/conjured.service",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn nothing_that_belongs_to_a_clone_is_missing() {
    for path in REQUIRED {
        assert!(root().join(path).is_file(), "{path} is missing");
    }
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    assert!(!ignored.contains("Cargo.lock"), "the lock file is committed");
}

#[test]
fn everything_in_the_lock_file_comes_from_the_public_registry() {
    let lock: toml::Table = text("Cargo.lock").parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let source = package.get("source").and_then(toml::Value::as_str);
        let expected = (!name.starts_with("conjured"))
            .then_some("registry+https://github.com/rust-lang/crates.io-index");
        assert_eq!(source, expected, "{name}");
    }
}

/// The variables are listed once in the code and once for users.
#[test]
fn the_example_names_every_variable_of_conjure_that_the_code_reads() {
    fn variables(text: &str) -> BTreeSet<&str> {
        text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .filter(|word| word.starts_with("RUNCOMFY_"))
            .collect()
    }
    let example = text("config.example.toml");
    let told = variables(&example);
    let environment = text("src/config/sources/environment.rs");
    let quoted = |name: &str| environment.contains(&format!("\"{name}\""));
    let tokens = conjured::config::secrets::TOKEN_VARIABLES;
    for name in variables(&environment) {
        assert!(told.contains(name), "config.example.toml does not tell of {name}");
    }
    for name in told {
        assert!(quoted(name) || tokens.contains(&name), "the code does not read {name}");
    }
}

#[test]
fn every_workflow_file_is_built_in_and_can_be_run() {
    let files = fs::read_dir(root().join("workflows")).expect("the folder of workflows");
    let mut seen = 0;
    for file in files {
        let path = file.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let bytes = fs::read(&path).expect("reads");
        let read = Workflow::parse(&name, &bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let workflow =
            Workflow::find_built_in(&name).unwrap_or_else(|| panic!("{name} is not built in"));
        assert_eq!(read.version(), workflow.version(), "{name}");
        let bindings = bind(&workflow, &std::collections::BTreeMap::new())
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let findings = validate(&workflow, &bindings);
        let errors = findings.iter().filter(|finding| finding.severity() == Severity::Error);
        assert_eq!(errors.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        seen += 1;
    }
    assert_eq!(seen, built_in::NAMES.len());
}
