//! Rust source for these checks: the files of the repository, with comments and strings blanked and
//! test code removed.
//!
//! Owns lexing, and no rule. Blanked text becomes spaces, so that line numbers stay correct. It is
//! not a parser: macros are read as plain tokens.

use std::{collections::BTreeSet, fs, path::Path};

/// One `.rs` file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path from the repository's root, with `/`.
    pub path: String,
    /// Its unchanged text.
    pub text: String,
    /// The text without comments and without the content of quotes.
    pub code: String,
    /// The code without test code; empty if the whole file is test code.
    pub shipped: String,
}

/// Returns the repository's root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lists the files below a folder of the repository, as paths from its root in a stable order. A
/// missing folder has no files.
pub(super) fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return files };
    for entry in entries {
        let entry = entry.expect("the folder is read");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("names are UTF-8"));
        if entry.file_type().expect("it has a type").is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Reads a file of the repository.
pub(super) fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads every Rust file below a folder. A module declared by `#[cfg(test)] mod name;` is test code
/// whatever its name.
pub(super) fn sources_below(folder: &str) -> Vec<Source> {
    let rust = |path: &String| Path::new(path).extension().is_some_and(|found| found == "rs");
    let paths = files_below(folder).into_iter().filter(rust);
    let mut sources: Vec<Source> = Vec::new();
    let mut test_places = BTreeSet::new();
    for path in paths {
        let text = text_of(&path);
        let code = code_only(&text);
        let (shipped, modules) = without_tests(&code);
        test_places.extend(modules.iter().map(|name| format!("{}/{name}", children_of(&path))));
        sources.push(Source { path, text, code, shipped });
    }
    for source in &mut sources {
        let module = source.path.trim_end_matches(".rs");
        let within = |place: &String| {
            module.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if test_places.iter().any(within) {
            source.shipped.clear();
        }
    }
    sources
}

/// Returns the folder of a file's child modules.
pub(super) fn children_of(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').expect("a file is in a folder");
    match name {
        "mod.rs" | "lib.rs" | "main.rs" | "bars.rs" => folder.to_owned(),
        name => format!("{folder}/{}", name.trim_end_matches(".rs")),
    }
}

/// Blanks comments, strings and characters.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_word);
        let skipped = comment(rest).or_else(|| quoted(rest, after_word));
        match skipped {
            Some(length) => {
                let (blank, tail) = rest.split_at(length);
                code.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = tail;
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

fn quoted(rest: &str, after_word: bool) -> Option<usize> {
    if let Some(inside) = rest.strip_prefix('"') {
        return Some(1 + end_of(inside, '"'));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut chars = inside.chars();
        let (first, second) = (chars.next()?, chars.next());
        // Anything else after a quote is a lifetime.
        return match (first, second) {
            ('\\', _) => Some(1 + end_of(inside, '\'')),
            (_, Some('\'')) => Some(2 + first.len_utf8()),
            _ => None,
        };
    }
    if after_word {
        return None;
    }
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|tail| tail.trim_start_matches('#').starts_with('"'))
    })?;
    let tail = &rest[prefix.len()..];
    let fence = tail.len() - tail.trim_start_matches('#').len();
    let open = prefix.len() + fence + 1;
    let close = format!("\"{}", "#".repeat(fence));
    Some(rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len()))
}

/// Returns the length up to and including an unescaped `quote`.
fn end_of(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    inside.len()
}

/// Blanks every item under `#[cfg(test)]` or `#[cfg(all(test, …))]`; returns the names of modules
/// declared that way.
pub(super) fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut shipped = code.to_owned();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(found) = shipped[from..].find("#[cfg(") {
        let start = from + found;
        let condition = &shipped[start + "#[cfg(".len()..];
        from = start + "#[cfg(".len();
        if !["test)", "all(test,"].iter().any(|of_tests| condition.starts_with(of_tests)) {
            continue;
        }
        let end = end_of_item(&shipped, start);
        let item = &shipped[start..end];
        let words: Vec<&str> = item.split(|c| !is_word(c)).filter(|w| !w.is_empty()).collect();
        if item.ends_with(';')
            && let Some(at) = words.iter().position(|word| *word == "mod")
        {
            modules.extend(words.get(at + 1).map(|name| (*name).to_owned()));
        }
        let blank: String = item.chars().map(|c| if c == '\n' { "\n" } else { " " }).collect();
        shipped.replace_range(start..end, &blank);
    }
    (shipped, modules)
}

/// Finds the end of the item whose attributes begin at `start`: its `;`, or the brace that closes
/// its body.
fn end_of_item(code: &str, start: usize) -> usize {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' => curly -= 1,
            _ => {}
        }
        if (c == '}' || c == ';') && round == 0 && curly == 0 {
            return start + at + 1;
        }
    }
    code.len()
}

/// Lists the modules that a file declares with `mod name;` and that have their own file.
pub(super) fn modules(code: &str) -> Vec<String> {
    let words =
        code.split_inclusive(|c| !is_word(c)).map(str::trim).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let declared = words.windows(2).filter(|pair| pair[0] == "mod" && pair[1].ends_with(';'));
    declared.map(|pair| pair[1].trim_end_matches(';').to_owned()).collect()
}
