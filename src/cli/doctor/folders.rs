//! Checks a project's folders and files, and the daemon's own: whether they exist and can be read
//! or written.
//!
//! Owns the judgement of inputs, outputs and the state folder. It reads the inputs as the daemon
//! does and creates nothing.

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::check::Check;
use crate::{
    cli::{
        exit::{CANNOT_WRITE, MISSING_INPUT},
        out::span,
    },
    config::settings::ProjectConfig,
    daemon::inputs::scan::InputReader,
    disk::probe,
    domain::{
        inputs::{debounce::InputState, prompt::IgnorePatterns},
        time::{Now, WallTime},
    },
};

/// CONJURE in Blender renders every three seconds, so a picture older than a day does not belong to
/// current work.
const STALE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn inputs(project: &ProjectConfig, ignore: &IgnorePatterns, now: Now) -> Vec<Check> {
    const NAME: &str = "inputs";
    if !project.root.is_dir() {
        return vec![Check::fail(
            NAME,
            MISSING_INPUT,
            format!("the folder {} does not exist", project.root.display()),
            "correct `root` in this [[project]], or write a new configuration with `conjured init`",
        )];
    }
    let scan = InputReader::new(project.prompt.clone(), project.render.clone(), 0)
        .scan(ignore, now.moment);
    let mut checks = Vec::new();
    for (what, key, path, state, writer) in [
        (
            "prompt",
            "prompt",
            &project.prompt,
            &scan.prompt.state,
            "CONJURE's launcher writes it when you speak",
        ),
        (
            "render",
            "render",
            &project.render,
            &scan.render.state,
            "CONJURE in Blender writes it every 3 seconds",
        ),
    ] {
        let folder = path.parent().unwrap_or(path);
        if !folder.is_dir() {
            checks.push(Check::fail(
                NAME,
                MISSING_INPUT,
                format!("the {what}'s folder {} does not exist", folder.display()),
                format!("start CONJURE once ({writer}), or correct `{key}` in this [[project]]"),
            ));
            continue;
        }
        if let Some(check) = input(NAME, what, path, state, writer, age(path, now.wall)) {
            checks.push(check);
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "the prompt and the render are complete"));
    }
    checks
}

fn age(path: &Path, now: WallTime) -> Option<Duration> {
    probe::changed_at(path).map(|at| now.since(at))
}

fn input(
    name: &'static str,
    what: &str,
    path: &Path,
    state: &InputState,
    writer: &str,
    age: Option<Duration>,
) -> Option<Check> {
    let shown = path.display();
    match state {
        InputState::Missing => Some(Check::warn(
            name,
            format!("there is no {what} yet ({shown})"),
            format!("{writer}: start it; until then no job can start"),
        )),
        InputState::Refused(reason) => Some(Check::warn(
            name,
            format!("the {what} cannot be used: {reason}"),
            format!("{writer}: let it write a new one"),
        )),
        InputState::Incomplete { .. } => Some(Check::warn(
            name,
            format!("the {what} is incomplete ({shown}): it is being written, or was cut off"),
            "run this again in a moment; if that does not help, let CONJURE write the file again",
        )),
        InputState::Complete(_) => age.filter(|age| what == "render" && *age > STALE).map(|age| {
            Check::warn(
                name,
                format!("the {what} was last written {} ago", span(age)),
                format!("{writer}: is Blender running with CONJURE's add-on?"),
            )
        }),
    }
}

/// Checks the folders in which a project's results appear.
pub(super) fn outputs(project: &ProjectConfig) -> Vec<Check> {
    const NAME: &str = "outputs";
    let folders: BTreeSet<&Path> =
        project.image.iter().chain(&project.mesh).filter_map(|name| name.parent()).collect();
    let mut checks = Vec::new();
    let mut coming = Vec::new();
    for folder in folders {
        let there = probe::nearest_existing(folder);
        if let Err(error) = probe::check_writable(&there) {
            checks.push(Check::fail(
                NAME,
                CANNOT_WRITE,
                format!("results cannot be written to {}: {error}", there.display()),
                if cfg!(windows) {
                    "give write permission there to the account that conjured runs as".to_owned()
                } else {
                    format!(
                        "give write permission there to the user that conjured runs as (chmod u+w \
                         {}), or remount a read-only drive as writable",
                        there.display()
                    )
                },
            ));
        } else if there != folder {
            coming.push(folder.display().to_string());
        }
    }
    if checks.is_empty() && !coming.is_empty() && project.root.is_dir() {
        checks.push(Check::warn(
            NAME,
            format!("not there yet: {}", coming.join(", ")),
            "will be created with the first result; if the path is wrong, fix `image` and `mesh`",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "the folders for results are writable"));
    }
    checks
}

/// Checks the state folder, which holds the ledger, the history and perhaps the token.
pub(super) fn state(folder: &Path) -> Check {
    const NAME: &str = "state folder";
    let there = probe::nearest_existing(folder);
    let shown = folder.display();
    if let Err(error) = probe::check_writable(&there) {
        return Check::fail(
            NAME,
            CANNOT_WRITE,
            format!("{} cannot be written: {error}", there.display()),
            "give write permission there to the user that conjured runs as, or choose another \
             folder with --state-dir or `state_dir`",
        );
    }
    match probe::mode(folder) {
        Some(mode) if there == folder && mode & 0o077 != 0 => Check::warn(
            NAME,
            format!("other users can open {shown} (permissions {mode:04o})"),
            format!("chmod 700 {shown}"),
        ),
        _ if there == folder => Check::ok(NAME, shown.to_string()),
        _ => Check::ok(NAME, format!("{shown}; will be created at the first start")),
    }
}
