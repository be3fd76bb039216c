//! The documents: their links lead somewhere, and their prose is wrapped at 100 columns.
//!
//! Owns the form. Whether a document is true is for the reader to judge; the commands in it are
//! tested in `commands`.

use std::{collections::BTreeSet, fs, path::Path};

use super::{root, text};

/// The widest line of prose; tables, code and links cannot be broken.
const COLUMNS: usize = 100;

/// Lists the documents that are handed out, as paths from the repository's root.
pub(super) fn documents() -> Vec<String> {
    let mut found: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
            .map(str::to_owned)
            .into();
    for entry in fs::read_dir(root().join("docs")).expect("the folder of documents") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if Path::new(&name).extension().is_some_and(|ending| ending == "md") {
            found.push(format!("docs/{name}"));
        }
    }
    found.sort();
    found
}

/// Returns the lines of a document that are not within a code block.
fn prose(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut within = false;
    markdown.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        within ^= is_fence;
        !within && !is_fence
    })
}

/// Returns the name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let lower = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Lists the targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut missing = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let markdown = text(&document);
        let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
        for (number, line) in prose(&markdown) {
            for link in links(line).into_iter().filter(|link| !link.starts_with("http")) {
                checked += 1;
                let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target = root().join(folder).join(path);
                let found = match (path.is_empty(), fragment.is_empty()) {
                    (false, true) => target.exists(),
                    (is_here, _) => {
                        let read = if is_here {
                            Ok(markdown.clone())
                        } else {
                            fs::read_to_string(&target)
                        };
                        read.is_ok_and(|markdown| {
                            let mut lines =
                                prose(&markdown).filter(|(_, line)| line.starts_with('#'));
                            lines.any(|(_, heading)| anchor(heading) == fragment)
                        })
                    }
                };
                if !found {
                    missing.push(format!("{document}:{}: {link}", number + 1));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(checked >= 40, "only {checked} links were found");
}

#[test]
fn every_document_that_the_program_names_exists() {
    let mut named = BTreeSet::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => collect(&fs::read_to_string(path).unwrap_or_default(), &mut named),
            }
        }
    }
    collect(&text("config.example.toml"), &mut named);
    for document in &named {
        assert!(root().join(document).is_file(), "{document} is named and does not exist");
    }
    assert!(named.contains("docs/runcomfy.md"), "init and doctor name it: {named:?}");
}

fn collect(text: &str, named: &mut BTreeSet<String>) {
    for rest in text.split("docs/").skip(1) {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '.')).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches('.');
        if let Some(stem) = name.strip_suffix(".md").filter(|stem| !stem.is_empty()) {
            named.insert(format!("docs/{stem}.md"));
        }
    }
}

#[test]
fn prose_is_wrapped() {
    let mut wide = Vec::new();
    for document in documents() {
        for (number, line) in prose(&text(&document)) {
            let is_table = line.trim_start().starts_with('|');
            if !is_table && !line.contains("](") && line.chars().count() > COLUMNS {
                wide.push(format!("{document}:{}", number + 1));
            }
        }
    }
    assert_eq!(wide, Vec::<String>::new());
}
