//! `conjured service`: lets the system start conjured automatically, and shows how that goes.
//!
//! Owns the order of checks: nothing is written before it is clear that the service would start and
//! that no foreign file would be overwritten. [`facts`] determines what is wanted, [`systemd`],
//! [`launchd`] and [`task_scheduler`] write it as text, [`plan`] lists the steps, [`host`] carries
//! them out.

mod facts;
mod host;
mod launchd;
mod plan;
mod systemd;
mod task_scheduler;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use self::{
    facts::{Scope, ServiceOptions},
    plan::{Platform, ServiceLocation, ServiceStep, display_command},
};
use super::{
    args::{InstallArgs, ScopeArgs, ServiceCommand},
    context::Context,
    daemon_client::DaemonClient,
    exit::{CANNOT_WRITE, CONFIGURATION, Failure, UNAVAILABLE, USAGE},
};
use crate::{
    clock::Clock,
    disk::{
        DiskError, dirs,
        lock::{self, LockStatus},
    },
};

/// How long a daemon may take to end when asked to: its own limit for work that must not be
/// interrupted, plus a margin.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// How often to check whether the daemon has ended.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn service(context: &Context, command: &ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Install(args) => install(context, args),
        ServiceCommand::Uninstall { scope, dry_run, force } => {
            uninstall(context, *scope, *dry_run, *force)
        }
        ServiceCommand::Start { scope, dry_run } => {
            run_action(context, *scope, *dry_run, ServiceLocation::start)
        }
        ServiceCommand::Stop { scope, dry_run } => {
            run_action(context, *scope, *dry_run, ServiceLocation::stop)?;
            // The Task Scheduler's answer is in the language of the machine; the lock works in
            // every language.
            if *dry_run || Platform::current() != Platform::TaskScheduler {
                return Ok(());
            }
            super::on_runtime(wait_until_stopped(context))
        }
        ServiceCommand::Restart { scope, dry_run } => {
            run_action(context, *scope, *dry_run, ServiceLocation::restart)
        }
        ServiceCommand::Status { scope } => status(context, *scope),
        ServiceCommand::Logs { scope, follow, lines } => logs(context, *scope, *follow, *lines),
    }
}

fn install(context: &Context, args: &InstallArgs) -> Result<(), Failure> {
    let place = service_location(context, args.scope)?;
    let asked = ServiceOptions {
        scope: place.scope,
        user: args.as_user.as_deref(),
        token_file: args.token_file.as_deref(),
    };
    let facts = facts::find(context, &asked)?;
    let version = host::output_of(&["systemctl", "--version"]);
    let text = place.text(&facts.spec, version.as_deref().and_then(systemd::version));
    let before = map_disk_error(dirs::read_if_there(&place.file))?;
    let steps = place.install(text, before.is_some());
    if args.dry_run {
        show(context, &place, &steps);
        print_remarks(context, &facts.remarks);
        return Ok(());
    }
    check_permission(&place)?;
    if let Some(before) = &before
        && !args.force
    {
        check_ours(&place, before, "replace")?;
    }
    run_steps(context, &place, &steps)?;
    print_remarks(context, &facts.remarks);
    context.out.info(
        "conjured is installed and starts automatically. The service: conjured service status; \
         its work: conjured status",
    );
    if place.platform == Platform::Systemd && place.scope == Scope::User {
        context.out.info(
            "It runs while you are logged in. To keep it running after logout: loginctl \
             enable-linger",
        );
    }
    Ok(())
}

fn uninstall(
    context: &Context,
    scope: ScopeArgs,
    dry_run: bool,
    force: bool,
) -> Result<(), Failure> {
    let place = service_location(context, scope)?;
    let before = map_disk_error(dirs::read_if_there(&place.file))?;
    if dry_run {
        show(context, &place, &place.uninstall());
        return Ok(());
    }
    let Some(before) = before else {
        context.out.info(format!("{} does not exist: nothing to do.", place.file.display()));
        return Ok(());
    };
    check_permission(&place)?;
    if !force {
        check_ours(&place, &before, "remove")?;
    }
    run_steps(context, &place, &place.uninstall())?;
    context.out.info(
        "The service was removed. The ledger, history, logs, configuration and token are kept, \
         and jobs at RunComfy continue.",
    );
    let own = place.file.with_extension("service.d");
    if place.platform == Platform::Systemd && own.is_dir() {
        context.out.info(format!("Your own changes are kept in {}.", own.display()));
    }
    Ok(())
}

fn run_action(
    context: &Context,
    scope: ScopeArgs,
    dry_run: bool,
    steps: impl Fn(&ServiceLocation) -> Vec<ServiceStep>,
) -> Result<(), Failure> {
    let place = service_location(context, scope)?;
    if dry_run {
        show(context, &place, &steps(&place));
        return Ok(());
    }
    check_permission(&place)?;
    check_installed(&place)?;
    run_steps(context, &place, &steps(&place))
}

fn status(context: &Context, scope: ScopeArgs) -> Result<(), Failure> {
    let place = service_location(context, scope)?;
    check_service_manager(&place)?;
    check_installed(&place)?;
    match host::run(&place.status()) {
        // For an installed service that is not running, these managers only print a text, in the
        // language of the machine.
        Ok(0) if place.platform != Platform::Systemd && !is_held(context) => Err(Failure::new(
            UNAVAILABLE,
            "no daemon is running: start it with `conjured service start`",
        )),
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::new(
            UNAVAILABLE,
            "the service is not running; start it with `conjured service start`",
        )),
        Err(error) => Err(Failure::new(UNAVAILABLE, error)),
    }
}

fn logs(context: &Context, scope: ScopeArgs, follow: bool, lines: u32) -> Result<(), Failure> {
    let place = service_location(context, scope)?;
    let own = context.load().ok().and_then(|loaded| loaded.config.log.dir);
    let own = own.filter(|_| place.scope == Scope::User);
    let hint = match &own {
        Some(dir) => format!("The daemon's own log files: {}", dir.display()),
        None => "The daemon's own log files are in the folder set with `log.dir`".to_owned(),
    };
    let Some(command) = place.logs(follow, lines) else {
        return files(context, own.as_deref(), follow, lines);
    };
    check_service_manager(&place)
        .map_err(|failure| Failure::new(failure.code, format!("{}. {hint}", failure.message)))?;
    match host::run(&command) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Failure::new(UNAVAILABLE, format!("the journal cannot be read. {hint}"))),
        Err(error) => Err(Failure::new(UNAVAILABLE, format!("{error}. {hint}"))),
    }
}

/// Shows the daemon's own log files, where no journal collects the output of services.
fn files(context: &Context, dir: Option<&Path>, follow: bool, lines: u32) -> Result<(), Failure> {
    let newest = dir.and_then(|dir| dirs::newest_file(dir, ".log"));
    let Some(newest) = newest else {
        return Err(Failure::new(
            UNAVAILABLE,
            "there are no log files: the daemon has not written any yet, or `log.dir` is \"-\"",
        ));
    };
    context.out.info(format!("{}:", newest.display()));
    if follow && cfg!(unix) {
        let newest = newest.to_string_lossy().into_owned();
        let command = ["tail", "-n", &lines.to_string(), "-F", &newest].map(ToOwned::to_owned);
        return host::run(&command).map(drop).map_err(|error| Failure::new(UNAVAILABLE, error));
    }
    let bytes = map_disk_error(dirs::read_if_there(&newest))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
    for line in &all[from..] {
        context.out.data(super::out::plain(line));
    }
    Ok(())
}

/// Returns whether a daemon holds the configured state folder. Without a configuration that is
/// unknown, so the service manager's answer counts.
fn is_held(context: &Context) -> bool {
    context
        .load()
        .map_or(true, |loaded| lock::probe_state_lock(&loaded.config.state_dir) != LockStatus::Free)
}

/// Asks a running daemon to stop, and waits for it. Failure is acceptable: the next step ends the
/// daemon in any case.
fn request_stop(context: &Context) {
    let Ok(loaded) = context.load() else { return };
    let asked = super::on_runtime(async {
        let Some((client, _)) = DaemonClient::find(&loaded.config.state_dir).await else {
            return Ok(());
        };
        // The daemon may be gone before its answer arrives.
        if let Ok(said) = client.stop().await {
            context.out.info(said);
        }
        wait_until_stopped(context).await
    });
    if let Err(failure) = asked {
        tracing::debug!(failure.message, "the daemon was asked to stop");
    }
}

/// Waits until no daemon holds the state folder. Without a configuration the folder is unknown, so
/// there is nothing to wait for.
async fn wait_until_stopped(context: &Context) -> Result<(), Failure> {
    let Ok(loaded) = context.load() else { return Ok(()) };
    let until = Clock.now().moment.plus(STOP_TIMEOUT);
    while lock::probe_state_lock(&loaded.config.state_dir) != LockStatus::Free {
        if Clock.now().moment >= until {
            return Err(Failure::new(
                UNAVAILABLE,
                "a daemon is still running: it was not started by the service, or could not be \
                 ended",
            ));
        }
        tokio::time::sleep(STOP_POLL_INTERVAL).await;
    }
    Ok(())
}

/// Determines where the service's file is.
fn service_location(context: &Context, scope: ScopeArgs) -> Result<ServiceLocation, Failure> {
    let scope = if scope.system { Scope::System } else { Scope::User };
    let sources = &context.sources;
    ServiceLocation::new(
        Platform::current(),
        scope,
        sources.user_config_dir.as_deref(),
        sources.folders.home.as_deref(),
        sources.default_state_dir.as_deref(),
        dirs::user_id().unwrap_or_default(),
    )
    .ok_or_else(|| {
        Failure::new(
            CONFIGURATION,
            "there is no home folder (HOME is not set), so a user's service cannot be installed",
        )
    })
}

/// Refuses what this user is not allowed to do here, before anything is written.
fn check_permission(place: &ServiceLocation) -> Result<(), Failure> {
    if place.scope == Scope::System && dirs::user_id().is_some_and(|id| id != 0) {
        return Err(Failure::new(
            USAGE,
            "the machine's service needs root: sudo conjured service … --system",
        ));
    }
    check_service_manager(place)
}

/// Fails if there is no service manager to talk to.
fn check_service_manager(place: &ServiceLocation) -> Result<(), Failure> {
    if place.platform != Platform::Systemd || host::has_systemd() {
        return Ok(());
    }
    Err(Failure::new(
        UNAVAILABLE,
        "systemd is not running on this machine (there is no /run/systemd/system); let your \
         service manager start `conjured run`",
    ))
}

/// Refuses a command about a service that is not installed.
fn check_installed(place: &ServiceLocation) -> Result<(), Failure> {
    if map_disk_error(dirs::read_if_there(&place.file))?.is_some() {
        return Ok(());
    }
    let other = match place.scope {
        Scope::User => "; for the machine's service add --system",
        Scope::System => "",
    };
    Err(Failure::new(
        UNAVAILABLE,
        format!(
            "the service is not installed ({} does not exist): conjured service install{other}",
            place.file.display()
        ),
    ))
}

/// Refuses to change a file that conjured did not write.
fn check_ours(place: &ServiceLocation, bytes: &[u8], verb: &str) -> Result<(), Failure> {
    let text = match place.platform {
        // The task's file is UTF-16.
        Platform::TaskScheduler => {
            bytes.iter().filter(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    if text.contains(place.platform.marker()) {
        return Ok(());
    }
    Err(Failure::new(
        CANNOT_WRITE,
        format!(
            "{} was not written by `conjured service install`; add --force to {verb} it anyway",
            place.file.display()
        ),
    ))
}

fn map_disk_error<T>(result: Result<T, DiskError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))
}

/// Prints what would be done. The file comes first, and everything else is a comment in the file's
/// syntax, so that the whole output is a valid service file.
fn show(context: &Context, place: &ServiceLocation, steps: &[ServiceStep]) {
    let mut notes = Vec::new();
    for step in steps {
        match step {
            ServiceStep::Write(path, text) => {
                context.out.data(text.trim_end());
                notes.push(format!("write the above to {}", path.display()));
            }
            ServiceStep::Remove(path) => notes.push(format!("remove {}", path.display())),
            ServiceStep::RequestStop => notes.push(format!(
                "ask the daemon to stop, and wait up to {} s",
                STOP_TIMEOUT.as_secs()
            )),
            ServiceStep::Run(command) | ServiceStep::Try(command) => {
                notes.push(format!("run {}", display_command(command)));
            }
        }
    }
    let (open, close) = match place.platform {
        Platform::Systemd => ("# ", ""),
        Platform::Launchd | Platform::TaskScheduler => ("<!-- ", " -->"),
    };
    context.out.data(format!("{open}Nothing was done. These steps would be taken:{close}"));
    for note in notes {
        context.out.data(format!("{open}{}{close}", super::out::plain(&note)));
    }
}

fn print_remarks(context: &Context, remarks: &[String]) {
    for remark in remarks {
        context.out.info(format!("Note: {remark}."));
    }
}

fn run_steps(
    context: &Context,
    place: &ServiceLocation,
    steps: &[ServiceStep],
) -> Result<(), Failure> {
    for step in steps {
        match step {
            ServiceStep::Write(path, text) => {
                let bytes = match place.platform {
                    Platform::TaskScheduler => task_scheduler::bytes(text),
                    _ => text.clone().into_bytes(),
                };
                map_disk_error(dirs::write_public(path, &bytes))?;
                context.out.info(format!("wrote {}", path.display()));
            }
            ServiceStep::Remove(path) => {
                if path.symlink_metadata().is_ok() {
                    map_disk_error(dirs::remove_if_there(path))?;
                    context.out.info(format!("removed {}", path.display()));
                }
            }
            ServiceStep::RequestStop => request_stop(context),
            ServiceStep::Run(command) => {
                context.out.info(display_command(command));
                match host::run(command) {
                    Ok(0) => {}
                    Ok(code) => {
                        return Err(manager_failure(place, command, &format!("ended with {code}")));
                    }
                    Err(error) => return Err(manager_failure(place, command, &error)),
                }
            }
            ServiceStep::Try(command) => {
                context.out.info(display_command(command));
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                // This fails if there is nothing to do.
                drop(host::output_of(&words));
            }
        }
    }
    Ok(())
}

fn manager_failure(place: &ServiceLocation, command: &[String], why: &str) -> Failure {
    let hint = match (place.platform, place.scope) {
        (Platform::Systemd, Scope::User) => {
            ". See `conjured service logs`. If it says that there is no bus: log in as that user \
             instead of using su or sudo"
        }
        (Platform::Systemd, Scope::System) => ". See `conjured service logs --system`",
        _ => "",
    };
    Failure::new(UNAVAILABLE, format!("{}: {why}{hint}", display_command(command)))
}
