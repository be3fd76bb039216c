//! Checks the architecture: compares `src/` with the table of layers, and every file with the rules
//! for all files.
//!
//! Owns the rules and their error messages: with file and line, all at once. The table is
//! [`table`]; [`source`] and [`paths`] read the source code.

mod paths;
mod shapes;
mod source;
mod table;

use std::collections::BTreeSet;

use self::{
    paths::names,
    source::{Source, children_of, files_below, sources_below},
    table::{EXCEPTIONS, LAYERS, LONG, Layer, WATCHED},
};

/// The longest a file may be. A file of 400 lines usually contains a second subject that should be
/// split off.
const CEILING: usize = 450;

/// Fails with all complaints.
#[track_caller]
fn nothing_in(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Returns the layer of a file in `src/`: a folder, or a file directly in it.
fn layer_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").expect("it is below src");
    path.split_once('/').map_or_else(|| path.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// Returns the path of a file's module.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").expect("it is below src").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|word| !matches!(*word, "lib" | "main")).map(str::to_owned).collect()
}

fn is_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns why a layer may not name this path; `None` if it may.
fn against(layer: &Layer, packages: &BTreeSet<String>, path: &str) -> Option<String> {
    let first = path.split("::").next().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("crate::") {
        let other = rest.split("::").next().unwrap_or_default();
        let known = LAYERS.iter().any(|layer| layer.name == other);
        let may = other == layer.name || layer.ours.contains(&other);
        return (known && !may).then(|| format!("`{}` does not look at `{other}`", layer.name));
    }
    if let Some((name, why)) = WATCHED.iter().find(|(name, _)| is_below(path, name)) {
        // A permission applies to a watched name only if it is equally specific.
        let may =
            layer.watched.iter().any(|allowed| is_below(path, allowed) && is_below(allowed, name));
        return (!may).then(|| format!("`{name}` is not for `{}`: {why}", layer.name));
    }
    let may = !packages.contains(first) || layer.packages.contains(&first);
    (!may).then(|| format!("`{first}` is not among the packages of `{}`", layer.name))
}

/// Returns the packages in the manifest, as code spells them.
fn packages() -> BTreeSet<String> {
    let manifest: toml::Table = source::text_of("Cargo.toml").parse().expect("TOML");
    let mut packages = BTreeSet::new();
    let mut add = |table: &toml::Table| {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            if let Some(list) = table.get(section).and_then(toml::Value::as_table) {
                packages.extend(list.keys().map(|name| name.replace('-', "_")));
            }
        }
    };
    add(&manifest);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(toml::Table::values) {
        add(target.as_table().expect("a target is a table"));
    }
    packages
}

#[test]
fn every_layer_names_only_what_the_table_lets_it_name() {
    let packages = packages();
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for Source { path, shipped, .. } in sources_below("src") {
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == layer_of(&path)) else {
            complaints.push(format!("{path}:1: `{}` is not in the table", layer_of(&path)));
            continue;
        };
        for name in names(&shipped, &module_of(&path)) {
            let Some(why) = against(layer, &packages, &name.path) else { continue };
            let exception = EXCEPTIONS
                .iter()
                .position(|one| one.file == path && is_below(&name.path, one.name));
            match exception {
                Some(at) => drop(used.insert(at)),
                None => complaints.push(format!("{path}:{}: {}: {why}", name.line, name.path)),
            }
        }
    }
    for (at, one) in EXCEPTIONS.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        complaints.push(format!(
            "exception {at} ({} may name {}: {}) is no longer needed",
            one.file, one.name, one.reason
        ));
    }
    nothing_in(&complaints);
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for Source { path, text, .. } in sources_below(folder) {
            let says = text.strip_prefix("//! ").and_then(|rest| rest.lines().next());
            if says.is_none_or(|line| line.trim().is_empty()) {
                complaints.push(format!("{path}:1: it does not open with `//!` and a sentence"));
            }
        }
    }
    nothing_in(&complaints);
}

#[test]
fn no_file_holds_more_than_a_reader_can() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for Source { path, text, .. } in sources_below(folder) {
            let lines = text.lines().count();
            let excused = LONG.iter().any(|(long, _)| *long == path);
            if lines > CEILING && !excused {
                complaints.push(format!("{path}:{lines}: more than {CEILING} lines"));
            }
            if lines <= CEILING && excused {
                complaints.push(format!("{path}: no longer too long; take it out of the table"));
            }
        }
    }
    nothing_in(&complaints);
}

/// Cargo does not report a file that no `mod` refers to, and its tests would never run.
#[test]
fn every_file_is_declared_by_the_file_above_it() {
    let mut complaints = Vec::new();
    for (folder, roots) in
        [("src", ["src/lib.rs", "src/main.rs"]), ("tests/it", ["tests/it/main.rs"; 2])]
    {
        let sources = sources_below(folder);
        let mut declared: BTreeSet<String> = roots.map(str::to_owned).into();
        for source in &sources {
            let children = children_of(&source.path);
            for name in source::modules(&source.code) {
                declared.insert(format!("{children}/{name}.rs"));
                declared.insert(format!("{children}/{name}/mod.rs"));
            }
        }
        let forgotten = sources.iter().filter(|source| !declared.contains(&source.path));
        complaints
            .extend(forgotten.map(|source| format!("{}:1: no `mod` leads here", source.path)));
    }
    nothing_in(&complaints);
}

#[test]
fn the_list_in_main_says_what_belongs_in_each_file() {
    let main = source::text_of("tests/it/main.rs");
    let code = source::code_only(&main);
    let listed = |name: &String| main.contains(&format!("//! - `{name}`: "));
    let missing = source::modules(&code).into_iter().filter(|name| !listed(name));
    let complaints: Vec<String> =
        missing.map(|name| format!("tests/it/main.rs: no line for `{name}`")).collect();
    nothing_in(&complaints);
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for Source { path, code, .. } in sources_below(folder) {
            for (number, line) in code.lines().enumerate() {
                let tight: String = line.chars().filter(|c| !c.is_whitespace()).collect();
                let banned = [
                    "#[ignore",
                    "#[should_panic",
                    "todo!(",
                    "unimplemented!(",
                    "#[allow(",
                    "#![allow(",
                ];
                for word in banned.into_iter().filter(|word| tight.contains(word)) {
                    complaints.push(format!("{path}:{}: `{word}`", number + 1));
                }
            }
        }
    }
    nothing_in(&complaints);
}

#[test]
fn nothing_that_ships_holds_a_secret_an_id_or_a_path_of_somebodys_machine() {
    let single = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "config.example.toml",
        "Cargo.toml",
        "clippy.toml",
        "deny.toml",
    ];
    let single = single.into_iter().filter(|path| source::root().join(path).exists());
    let folders = ["src", "workflows", "systemd", "launchd", "docs", "benches", "tests", ".ci"];
    let below = folders.into_iter().flat_map(files_below);
    let mut complaints = Vec::new();
    for path in single.map(str::to_owned).chain(below) {
        // A picture in the documentation is not text.
        let Ok(text) = std::fs::read_to_string(source::root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(why) = shapes::suspicious(line) {
                complaints.push(format!("{path}:{}: {why}", number + 1));
            }
        }
    }
    nothing_in(&complaints);
}
