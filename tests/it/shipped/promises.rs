//! The table of promises: every proof that `docs/reliability.md` names exists.
//!
//! Owns the comparison of names. Whether a test proves what its row says is for the reader of both
//! to judge.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{root, text};

/// The page.
const PAGE: &str = "docs/reliability.md";

/// The least number of scenarios on the page.
const LEAST: usize = 25;

#[test]
fn every_proof_that_the_table_of_promises_names_exists() {
    let (mut names, mut files, mut all) = (BTreeSet::new(), Vec::new(), String::new());
    for folder in ["src", "crates", "tests"] {
        collect(&root().join(folder), &mut files);
    }
    for file in &files {
        let content = fs::read_to_string(file).unwrap_or_default();
        names.extend(definitions(&content));
        if file.starts_with(root().join("tests/real")) {
            all.push_str(&content);
        }
    }
    let page = text(PAGE);
    let rows: Vec<&str> = page.lines().filter(|line| is_row(line)).collect();
    assert!(rows.len() >= LEAST, "{} scenarios", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let cells = cells(row);
        assert_eq!(cells.len(), 4, "four columns: {row}");
        let proofs = quoted(cells[2]);
        if proofs.is_empty() {
            missing.push(format!("no proof of: {}", cells[0]));
        }
        for proof in proofs {
            if !exists(&proof, &names, &all) {
                missing.push(format!("{proof}, for: {}", cells[0]));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn is_row(line: &str) -> bool {
    line.starts_with("| ") && !line.starts_with("| scenario") && !line.starts_with("|--")
}

/// Returns the cells of a row; a bar in code is written as `\|`.
fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split(" |").map(str::trim).collect()
}

/// Returns the texts between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns whether a proof is a file, a test, a case, or the beginning of names (`clocks::*`),
/// which exist only in the text of the `scripts` if cases are made in a loop.
fn exists(proof: &str, names: &BTreeSet<String>, scripts: &str) -> bool {
    let proof = proof.trim_start_matches("faults ");
    let file = proof.split(' ').next().unwrap_or_default();
    if file.contains('/') {
        return ["", "src/"].iter().any(|folder| root().join(folder).join(file).exists());
    }
    let name = proof.rsplit("::").next().unwrap_or_default();
    // `submit.answer:before` is one side of the failpoint `submit.answer`.
    let name = name.split(':').next().unwrap_or_default();
    match name.strip_suffix('*') {
        Some("") => proof.contains("::"),
        Some(beginning) => {
            names.iter().any(|known| known.starts_with(beginning)) || scripts.contains(beginning)
        }
        None => names.contains(name),
    }
}

/// Returns the names of functions, including Python's, and of failpoints.
fn definitions(content: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in content.lines() {
        let line = line.trim_start();
        for word in ["fn ", "async fn ", "pub fn ", "def "] {
            if let Some(rest) = line.strip_prefix(word) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                found.push(rest[..end.unwrap_or(rest.len())].to_owned());
            }
        }
        // `Release = "ledger.release",`
        if let Some((_, rest)) = line.split_once(" = \"")
            && let Some(name) = rest.strip_suffix("\",")
        {
            found.push(name.to_owned());
        }
        // `"broken_pipe": …`, and cases that are made from the rows of a table.
        found.extend(
            line.split('"').skip(1).step_by(2).filter(|text| is_name(text)).map(str::to_owned),
        );
    }
    found
}

fn is_name(text: &str) -> bool {
    text.len() > 3
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
