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
    daemon::inputs::scan::Eyes,
    disk::probe,
    domain::{
        inputs::{debounce::Sight, prompt::IgnorePatterns},
        time::{Now, WallTime},
    },
};

/// CONJURE in Blender renders every three seconds, so a picture older than a day does not belong to
/// current work.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Checks a project's two inputs.
pub(super) fn inputs(project: &ProjectConfig, ignore: &IgnorePatterns, now: Now) -> Vec<Check> {
    const NAME: &str = "inputs";
    if !project.root.is_dir() {
        return vec![Check::fail(
            NAME,
            MISSING_INPUT,
            format!("there is no folder {}", project.root.display()),
            "correct `root` of this [[project]], or write a new configuration with `conjured init`",
        )];
    }
    let look =
        Eyes::new(project.prompt.clone(), project.render.clone(), 0).look(ignore, now.moment);
    let mut checks = Vec::new();
    for (what, key, path, sight, writer) in [
        (
            "prompt",
            "prompt",
            &project.prompt,
            &look.prompt.sight,
            "CONJURE's launcher writes it when you speak",
        ),
        (
            "render",
            "render",
            &project.render,
            &look.render.sight,
            "CONJURE in Blender writes it every 3 seconds",
        ),
    ] {
        let folder = path.parent().unwrap_or(path);
        if !folder.is_dir() {
            checks.push(Check::fail(
                NAME,
                MISSING_INPUT,
                format!("the {what}'s folder {} is missing", folder.display()),
                format!("start CONJURE once ({writer}), or correct `{key}` of this [[project]]"),
            ));
            continue;
        }
        if let Some(check) = input(NAME, what, path, sight, writer, age(path, now.wall)) {
            checks.push(check);
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "the prompt and the render are whole"));
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
    sight: &Sight,
    writer: &str,
    age: Option<Duration>,
) -> Option<Check> {
    let shown = path.display();
    match sight {
        Sight::Missing => Some(Check::warn(
            name,
            format!("there is no {what} yet ({shown})"),
            format!("{writer}: start it, and no job can start before"),
        )),
        Sight::Refused(reason) => Some(Check::warn(
            name,
            format!("no job can be made of the {what}: {reason}"),
            format!("{writer}: let it write a real one"),
        )),
        Sight::Unfinished { .. } => Some(Check::warn(
            name,
            format!("the {what} is not whole ({shown}): it is being written, or was cut off"),
            "run this again in a moment; if it stays so, let CONJURE write it again",
        )),
        Sight::Whole(_) => age.filter(|age| what == "render" && *age > STALE).map(|age| {
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
        let there = probe::nearest(folder);
        if let Err(error) = probe::may_write(&there) {
            checks.push(Check::fail(
                NAME,
                CANNOT_WRITE,
                format!("results cannot be written to {}: {error}", there.display()),
                if cfg!(windows) {
                    "give the account that conjured runs as the right to write there".to_owned()
                } else {
                    format!(
                        "give the user that conjured runs as the right to write there (chmod u+w {}), or make a read-only drive writable",
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
            format!("missing: {}", coming.join(", ")),
            "nothing needs to be done if the names are right: the first result makes it; else correct `image` and `mesh`",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "results can be written"));
    }
    checks
}

/// Checks the state folder, which holds the ledger, the history and perhaps the token.
pub(super) fn state(folder: &Path) -> Check {
    const NAME: &str = "state folder";
    let there = probe::nearest(folder);
    let shown = folder.display();
    if let Err(error) = probe::may_write(&there) {
        return Check::fail(
            NAME,
            CANNOT_WRITE,
            format!("{} cannot be written: {error}", there.display()),
            "give the user that conjured runs as the right to write there, or choose another with --state-dir or `state_dir`",
        );
    }
    match probe::mode(folder) {
        Some(mode) if there == folder && mode & 0o077 != 0 => Check::warn(
            NAME,
            format!("{shown} can be entered by others (permissions {mode:04o})"),
            format!("chmod 700 {shown}"),
        ),
        _ if there == folder => Check::ok(NAME, shown.to_string()),
        _ => Check::ok(NAME, format!("{shown}; the first start makes it")),
    }
}
