//! Checks whether a daemon is running, whether it is the only one, and what it reports.
//!
//! Owns the judgement of the locks and of a running daemon's status, which is the best source for
//! why the next job does not start.

use std::path::PathBuf;

use super::check::Check;
use crate::{
    cli::{
        exit::TRY_AGAIN,
        out::{plain, time},
    },
    config::{
        enums::Watch,
        settings::{ProjectConfig, TriggerConfig},
        sources::Sources,
    },
    disk::lock::LockStatus,
    domain::status::{Budget, Status},
};

/// Finds the file of an installed service: where systemd and launchd keep theirs. No program is
/// run.
pub(super) fn installed_unit(sources: &Sources) -> Option<String> {
    let user = sources.user_config_dir.iter().map(|dir| dir.join("systemd/user/conjured.service"));
    let agents = sources
        .folders
        .home
        .iter()
        .map(|home| home.join("Library/LaunchAgents/org.conjured.daemon.plist"));
    let system = ["conjured.service", "conjured-system.service"]
        .map(|name| PathBuf::from("/etc/systemd/system").join(name));
    let places = user.chain(agents).chain(system);
    places.into_iter().find(|path| path.exists()).map(|path| path.display().to_string())
}

/// Compares the lock of the state folder with whether a daemon answers.
pub(super) fn daemon(held: &LockStatus, status: Option<&Status>, unit: Option<&str>) -> Check {
    const NAME: &str = "daemon";
    match (status, held) {
        (Some(status), _) if status.daemon.stopping => Check::warn(
            NAME,
            format!("process {} is stopping", status.daemon.pid),
            "wait a few seconds, then start it again with `conjured run`",
        ),
        (Some(status), _) => {
            let daemon = &status.daemon;
            let found = format!("process {}, since {}", daemon.pid, time(daemon.since));
            if daemon.version == env!("CARGO_PKG_VERSION") {
                Check::ok(NAME, found)
            } else {
                Check::warn(
                    NAME,
                    format!(
                        "{found}, version {}, but this program is version {}",
                        plain(&daemon.version),
                        env!("CARGO_PKG_VERSION")
                    ),
                    "restart the daemon, so that it runs the installed version",
                )
            }
        }
        (None, LockStatus::Held(holder)) => {
            let who = holder
                .as_ref()
                .map_or_else(|| "an unknown process".to_owned(), ToString::to_string);
            Check::fail(
                NAME,
                TRY_AGAIN,
                format!("the state folder is locked by {who}, but no daemon answers"),
                "wait for a running `conjured once` to end; if a daemon hangs, end it by its \
                 process id (no job is lost)",
            )
        }
        (None, LockStatus::Free) => match unit {
            Some(unit) => Check::warn(
                NAME,
                format!("not running, although the service {unit} is installed"),
                "find out why: `systemctl --user status conjured` (or without --user), and \
                 `journalctl --user -u conjured`",
            ),
            None => Check::warn(
                NAME,
                "not running, so no job starts automatically",
                "start it with `conjured run`",
            ),
        },
    }
}

/// Checks a project's lock: a second daemon on the same checkout would pay for the same changes.
pub(super) fn check_second_daemon(
    project: &ProjectConfig,
    held: &LockStatus,
    status: Option<&Status>,
) -> Option<Check> {
    const NAME: &str = "second daemon";
    let LockStatus::Held(holder) = held else { return None };
    let ours = status.map(|status| status.daemon.pid);
    if ours.is_some() && holder.as_ref().is_none_or(|holder| Some(holder.pid) == ours) {
        return None;
    }
    let who = holder.as_ref().map_or_else(|| "an unknown process".to_owned(), ToString::to_string);
    Some(Check::fail(
        NAME,
        TRY_AGAIN,
        format!(
            "{} is also served by another daemon with a different state folder: {who}",
            project.root.display()
        ),
        "stop one of them; `conjured run` refuses to start while the other one runs",
    ))
}

/// Passes on what a running daemon reports about a project.
pub(super) fn project(
    project: &ProjectConfig,
    trigger: &TriggerConfig,
    status: &Status,
) -> Vec<Check> {
    const NAME: &str = "next job";
    let Some(served) = status.projects.iter().find(|served| served.name == project.name) else {
        return vec![Check::warn(
            NAME,
            "the running daemon does not serve this project",
            "it uses another configuration: restart it, or use the same --config and --root here",
        )];
    };
    let mut checks = Vec::new();
    for job in &served.unknown {
        checks.push(Check::warn(
            NAME,
            format!("job {job} is `unknown`: its answer was lost, and it may have been charged"),
            format!("see `conjured jobs show {job}`, and check on RunComfy's page whether it ran"),
        ));
    }
    if served.watching == "poll" && trigger.watch != Watch::Poll {
        checks.push(Check::warn(
            NAME,
            "the daemon polls this project instead of watching it",
            "`conjured status` gives the reason in its warnings",
        ));
    }
    if checks.is_empty() {
        let says = match &served.job {
            Some(job) => format!("job {} is `{}`: {}", job.id, job.state, plain(&job.doing)),
            None => plain(&served.waiting),
        };
        checks.push(Check::ok(NAME, says));
    }
    checks
}

/// Passes on a running daemon's warnings, except those in `said`, which this run of the doctor
/// found itself.
pub(super) fn warnings(status: &Status, said: &[String]) -> Vec<Check> {
    const NAME: &str = "daemon";
    let backends =
        status.backends.iter().filter(|backend| backend.state != "ready").map(|backend| {
            Check::warn(
                NAME,
                format!(
                    "backend {} is {}: {}",
                    backend.name,
                    backend.state,
                    backend.reason.as_deref().unwrap_or("no reason given")
                ),
                "fix the problem it names; the daemon notices that automatically",
            )
        });
    let news = |warning: &&String| {
        !said.contains(warning) && !warning.starts_with("set, but not supported")
    };
    let warnings = status.warnings.iter().filter(news).map(|warning| {
        Check::warn(
            NAME,
            format!("warning: {warning}"),
            "`conjured status` shows whether this is still true",
        )
    });
    backends.chain(warnings).collect()
}

/// Checks what is left of the budget limits.
pub(super) fn budget(budget: &Budget) -> Check {
    const NAME: &str = "budget";
    let limits = [
        ("session", budget.session, budget.session_limit),
        ("day", budget.day, budget.day_limit),
        ("month", budget.month, budget.month_limit),
    ];
    let limited = || {
        limits.iter().filter_map(|(what, spent, limit)| limit.map(|limit| (*what, *spent, limit)))
    };
    if let Some((what, spent, limit)) = limited().find(|(_, spent, limit)| spent >= limit) {
        return Check::fail(
            NAME,
            TRY_AGAIN,
            format!("the limit of this {what} is used up: {spent} of {limit}"),
            format!(
                "raise budget.per_{what}_usd{}",
                if what == "session" {
                    ", or restart the daemon to begin a new session"
                } else {
                    ", or wait until the limit resets"
                }
            ),
        );
    }
    // 80 %: where the daemon gives its last warning before the limit.
    let near =
        limited().find(|(_, spent, limit)| spent.0.saturating_mul(10) >= limit.0.saturating_mul(8));
    match near {
        Some((what, spent, limit)) => Check::warn(
            NAME,
            format!("{spent} of this {what}'s {limit} is spent"),
            format!("raise budget.per_{what}_usd in time if you want more jobs"),
        ),
        None => Check::ok(NAME, format!("{} spent in this session", budget.session)),
    }
}
