//! The architecture, checked: `src/` and `crates/` against the table of layers and rooms, and every
//! file against the rules that apply to all of them.
//!
//! Owns the rules and their error messages: with file and line, all at once. The table is in
//! [`table`]; [`source`] and [`paths`] read the source code.

mod paths;
mod shapes;
mod source;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    paths::names,
    source::{Source, children_of, files_below, sources_below},
    table::{EXCEPTIONS, LAYERS, Layer, NEVER_IN_THE_DOMAIN, STAIRS, WATCHED, WITHOUT_CIRCLES},
};

/// The most files and folders in one folder of the code: more of them are hard to survey.
const MOST_ENTRIES: usize = 16;

/// Where the code is.
const CODE: [&str; 2] = ["src", "crates"];

/// Fails with all complaints.
#[track_caller]
fn nothing_in(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Returns a file's path within the code: below `src/`, or below a crate's name.
fn in_the_house(path: &str) -> String {
    let crates = path.strip_prefix("crates/").map(|path| path.replacen("/src/", "/", 1));
    crates.unwrap_or_else(|| path.strip_prefix("src/").expect("it is below src").to_owned())
}

/// Returns the layer that a file is in: a crate, a folder, or a file directly below `src/`.
fn layer_of(path: &str) -> String {
    let path = in_the_house(path);
    path.split_once('/')
        .map_or_else(|| path.trim_end_matches(".rs").to_owned(), |(folder, _)| folder.to_owned())
}

/// Returns a file's module path.
fn module_of(path: &str) -> Vec<String> {
    let path = in_the_house(path);
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|word| !matches!(*word, "lib" | "main")).map(str::to_owned).collect()
}

/// Returns the paths that the shipped code of a file uses, resolved to their origin.
fn names_of(source: &Source) -> Vec<paths::Name> {
    names(
        &source.shipped,
        &module_of(&source.path),
        usize::from(source.path.starts_with("crates/")),
    )
}

/// Reads all of the code.
fn code() -> Vec<Source> {
    CODE.into_iter().flat_map(sources_below).collect()
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

/// Returns the packages that a manifest asks for, as code spells them.
fn packages(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = source::text_of(manifest).parse().expect("TOML");
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
    let packages: BTreeSet<String> =
        ["Cargo.toml", "crates/domain/Cargo.toml", "crates/simulator/Cargo.toml"]
            .into_iter()
            .flat_map(packages)
            .collect();
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for source in code() {
        let Source { path, .. } = &source;
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == layer_of(path)) else {
            complaints.push(format!("{path}:1: `{}` is not in the table", layer_of(path)));
            continue;
        };
        for name in names_of(&source) {
            let Some(why) = against(layer, &packages, &name.path) else { continue };
            let exception = EXCEPTIONS
                .iter()
                .position(|one| one.file == *path && is_below(&name.path, one.name));
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
    for folder in ["src", "crates", "tests", "benches"] {
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
fn a_room_of_the_daemon_names_only_those_before_it() {
    let mut complaints = Vec::new();
    for source in sources_below("src/daemon") {
        let module = module_of(&source.path);
        // A file that only lists the rooms is in none of them.
        let Some(room) = module.get(1) else { continue };
        let Some((_, before)) = STAIRS.iter().find(|(name, _)| name == room) else {
            complaints.push(format!("{}:1: `{room}` is no room of the daemon", source.path));
            continue;
        };
        for name in names_of(&source) {
            let other =
                name.path.strip_prefix("crate::daemon::").map(|rest| rest.split("::").next());
            let Some(Some(other)) = other else { continue };
            let is_room = STAIRS.iter().any(|(name, _)| *name == other);
            if is_room && other != room && !before.contains(&other) {
                complaints.push(format!(
                    "{}:{}: {}: `{room}` comes before `{other}`",
                    source.path, name.line, name.path
                ));
            }
        }
    }
    nothing_in(&complaints);
}

#[test]
fn rooms_name_each_other_in_no_circle() {
    let mut complaints = Vec::new();
    for folder in WITHOUT_CIRCLES {
        let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let house = module_of(&format!("{folder}/mod.rs"));
        let stem = house.iter().fold("crate".to_owned(), |stem, word| format!("{stem}::{word}"));
        let rooms: BTreeSet<String> = sources_below(folder)
            .iter()
            .filter_map(|source| module_of(&source.path).get(house.len()).cloned())
            .collect();
        for source in sources_below(folder) {
            let module = module_of(&source.path);
            let Some(room) = module.get(house.len()) else { continue };
            for name in names_of(&source) {
                let Some(rest) = name.path.strip_prefix(&format!("{stem}::")) else { continue };
                let other = rest.split("::").next().unwrap_or_default().to_owned();
                if rooms.contains(&other) && other != *room {
                    let place = format!("{}:{}: {}", source.path, name.line, name.path);
                    arrows.entry(room.clone()).or_default().entry(other).or_insert(place);
                }
            }
        }
        for (from, others) in &arrows {
            for (to, place) in others {
                if reaches(&arrows, to, from) {
                    complaints.push(format!("{place}: a circle, `{to}` leads back to `{from}`"));
                }
            }
        }
    }
    nothing_in(&complaints);
}

/// Returns whether arrows lead from one room to another.
fn reaches(arrows: &BTreeMap<String, BTreeMap<String, String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(room) = open.pop() {
        if room == to {
            return true;
        }
        if seen.insert(room.clone()) {
            open.extend(arrows.get(&room).into_iter().flat_map(BTreeMap::keys).cloned());
        }
    }
    false
}

#[test]
fn the_domain_depends_on_nothing_that_acts_and_the_simulator_on_the_domain_alone() {
    let domain = packages("crates/domain/Cargo.toml");
    let mut complaints: Vec<String> = NEVER_IN_THE_DOMAIN
        .iter()
        .filter(|name| domain.contains(**name))
        .map(|name| format!("crates/domain/Cargo.toml: `{name}` is not for the domain"))
        .collect();
    let ours = |manifest: &str| -> Vec<String> {
        packages(manifest).into_iter().filter(|name| name.starts_with("conjured")).collect()
    };
    for (manifest, may) in [
        ("crates/domain/Cargo.toml", vec![]),
        ("crates/simulator/Cargo.toml", vec!["conjured_domain"]),
    ] {
        let found = ours(manifest);
        if found != may {
            complaints.push(format!("{manifest}: it depends on {found:?} and may on {may:?}"));
        }
    }
    nothing_in(&complaints);
}

#[test]
fn no_folder_of_the_code_holds_more_than_a_reader_can_look_over() {
    let mut entries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in CODE.into_iter().flat_map(files_below) {
        let words: Vec<&str> = path.split('/').collect();
        for depth in 1..words.len() {
            entries.entry(words[..depth].join("/")).or_default().insert(words[depth].to_owned());
        }
    }
    let full = entries.iter().filter(|(_, entries)| entries.len() > MOST_ENTRIES);
    let complaints: Vec<String> = full
        .map(|(folder, entries)| {
            format!("{folder}: {} files and folders, more than {MOST_ENTRIES}", entries.len())
        })
        .collect();
    nothing_in(&complaints);
}

/// What decides about a job takes no text that was made for people: a word that somebody rewrites
/// must not change what is paid for.
#[test]
fn no_decision_about_a_job_reads_a_text() {
    let mut complaints = Vec::new();
    for Source { path, shipped, .. } in sources_below("crates/domain/src/job/flow") {
        for (number, line) in shipped.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric());
            if words.into_iter().any(|word| matches!(word, "String" | "str" | "Cow")) {
                complaints.push(format!("{path}:{}: the flow takes a text", number + 1));
            }
        }
    }
    // Where steps are performed, texts are made, and none is compared or searched.
    let readings = [
        "==\"",
        "!=\"",
        "\"=>",
        "\"|",
        "contains(\"",
        "_with(\"",
        "find(\"",
        "matches!(self.details",
    ];
    for Source { path, shipped, .. } in sources_below("src/daemon/jobs") {
        for (number, line) in shipped.lines().enumerate() {
            let tight: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            for reading in readings.into_iter().filter(|reading| tight.contains(reading)) {
                complaints.push(format!("{path}:{}: `{reading}` reads a text", number + 1));
            }
        }
    }
    let query = source::text_of("src/ledger/record.rs");
    let code = query.lines().filter(|line| !line.trim_start().starts_with("//"));
    for word in code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')) {
        if matches!(word, "note" | "reason" | "event" | "events") {
            complaints.push(format!("src/ledger/record.rs: `{word}` is for people"));
        }
    }
    nothing_in(&complaints);
}

/// Cargo is silent about a file that no `mod` leads to: its tests would never run.
#[test]
fn every_file_is_declared_by_the_file_above_it() {
    let mut complaints = Vec::new();
    for (folder, roots) in [
        ("src", ["src/lib.rs", "src/main.rs"]),
        ("crates/domain/src", ["crates/domain/src/lib.rs"; 2]),
        ("crates/simulator/src", ["crates/simulator/src/lib.rs"; 2]),
        ("tests/it", ["tests/it/main.rs"; 2]),
    ] {
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
    for folder in ["src", "crates", "tests", "benches"] {
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
    let folders =
        ["src", "crates", "workflows", "systemd", "launchd", "docs", "benches", "tests", ".ci"];
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
