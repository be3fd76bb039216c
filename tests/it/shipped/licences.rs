//! The licence of every package in the lock file, compared with the list in `deny.toml`, so that a
//! machine without `cargo-deny` also notices a new licence.
//!
//! Owns the evaluation of SPDX expressions as far as packages use them: `AND`, `OR`, `WITH`,
//! parentheses, and the old `/` for `OR`.

use std::{collections::BTreeSet, process::Command};

use super::{root, text};

/// Asks cargo about every package; `--locked` fails if the lock file does not match the manifest.
fn metadata() -> serde_json::Value {
    let ask = |more: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--locked"])
            .args(more)
            .current_dir(root())
            .output()
            .expect("cargo runs")
    };
    let mut output = ask(&[]);
    if !output.status.success() {
        // Packages of other platforms need not have been downloaded.
        let version = Command::new(env!("CARGO")).arg("-vV").output().expect("cargo runs");
        let version = String::from_utf8(version.stdout).expect("UTF-8");
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        output = ask(&["--filter-platform", host.expect("cargo knows its host")]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_package_has_a_licence_that_is_allowed_and_the_lock_file_is_in_step() {
    let deny: toml::Table = text("deny.toml").parse().expect("TOML");
    let allowed: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|licence| licence.as_str().expect("a text"))
        .collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "only {} packages were looked at", packages.len());
    let mut complaints = Vec::new();
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str());
        match licence {
            Some(licence) if is_allowed(licence, &allowed) => {}
            licence => complaints.push(format!("{name} {}: {licence:?}", package["version"])),
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Evaluates an SPDX expression; one that cannot be parsed is not allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, allowed).is_some_and(|fits| fits && rest.is_empty())
}

fn either(words: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut fits = both(words, allowed)?;
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        fits |= both(words, allowed)?;
    }
    Some(fits)
}

fn both(words: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut fits = one(words, allowed)?;
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        fits &= one(words, allowed)?;
    }
    Some(fits)
}

fn one(words: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    match *first {
        "(" => {
            let fits = either(words, allowed)?;
            *words = words.strip_prefix(&[")"])?;
            Some(fits)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence => match words {
            ["WITH", exception, rest @ ..] => {
                let whole = format!("{licence} WITH {exception}");
                *words = rest;
                Some(allowed.contains(whole.as_str()))
            }
            _ => Some(allowed.contains(licence)),
        },
    }
}

#[test]
fn expressions_mean_what_spdx_says() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "MIT AND ISC",
        "GPL-3.0 AND ISC OR MIT",
        "(GPL-3.0 OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND (GPL-3.0 OR LGPL-3.0)",
        "Apache-2.0",
        "MIT WITH LLVM-exception",
        "(MIT",
        "MIT ISC",
        "MIT OR",
    ] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
