//! The command line: one file per command, and one exit code for each way to end.
//!
//! Owns the dispatch. [`args`] is the grammar, [`out`] prints, [`exit`] defines the endings,
//! [`context`] is what most commands start with, [`daemon_client`] talks to a running daemon,
//! [`crate::cli::jobs::follow`] shows a job's progress.

pub mod args;
pub mod exit;
pub mod out;
pub mod context;
pub mod daemon_client;
mod run;
mod status;
pub mod jobs;
mod workflow;
mod setup;
mod doctor;
#[cfg(feature = "simulator")]
mod demo;
mod service;

use std::{ffi::OsString, process::ExitCode};

use self::{
    args::{Cli, Command, JobsCommand},
    context::Context,
    exit::{BUG, Failure},
};
use crate::{allocator, daemon::services::command::RatingRequest};

/// Runs the program: parses, dispatches, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Must come first, before there is a second thread: an arena that is in use stays.
    allocator::limit_retained_memory();
    let cli = match args::parse(args) {
        Ok(cli) => cli,
        Err(exit) => {
            exit.print();
            return ExitCode::from(exit.code());
        }
    };
    install_panic_message();
    let context = Context::new(&cli.globals);
    let out = context.out;
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(&cli, &context))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            if !failure.message.is_empty() {
                out.error(format!("conjured: {}", failure.message));
            }
            ExitCode::from(failure.code)
        }
        Err(_) => ExitCode::from(BUG),
    }
}

/// Logs a panic as a bug in conjured, before the default hook prints it.
fn install_panic_message() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("a bug in conjured: {panic}");
        default(panic);
    }));
}

fn dispatch(cli: &Cli, context: &Context) -> Result<(), Failure> {
    match &cli.command {
        Command::Run => on_runtime(run::run(context)),
        #[cfg(feature = "simulator")]
        Command::Demo(args) => on_runtime(demo::demo(context, args)),
        #[cfg(feature = "simulator")]
        Command::Simulator(args) => on_runtime(demo::simulator::simulator(context, args)),
        Command::Once(args) => on_runtime(jobs::once::once(context, args)),
        Command::Status(args) => on_runtime(status::status(context, *args)),
        Command::Jobs(args) => match &args.command {
            JobsCommand::List { limit, states, project, json } => {
                jobs::list(context, *limit, states, project.as_deref(), *json)
            }
            JobsCommand::Show { id, json } => jobs::show(context, id, *json),
            JobsCommand::Retry { again, yes } => {
                on_runtime(jobs::rerun::retry(context, again, *yes))
            }
            JobsCommand::Rerun { again } => on_runtime(jobs::rerun::rerun(context, again)),
            JobsCommand::Restore { id, json } => {
                on_runtime(jobs::restore::restore(context, id, *json))
            }
            JobsCommand::Rate { id, stars, note, json } => {
                let rate = RatingRequest { stars: *stars, note: note.join(" ") };
                on_runtime(jobs::restore::rate(context, id, rate, *json))
            }
            JobsCommand::Audit { limit, json } => jobs::audit(context, *limit, *json),
            JobsCommand::Cancel { id, json } => on_runtime(jobs::cancel(context, id, *json)),
        },
        Command::Cost(args) => jobs::cost::print_cost_report(context, args),
        Command::Workflow(args) => workflow::workflow(context, &args.command),
        Command::Login(args) => setup::login::login(context, args),
        Command::Logout(args) => on_runtime(setup::login::logout(context, *args)),
        Command::Init(args) => setup::init::init(context, args),
        Command::Doctor(args) => on_runtime(doctor::doctor(context, *args)),
        Command::Service(args) => service::service(context, &args.command),
        Command::Completions { shell } => {
            setup::shells::completions(context, *shell);
            Ok(())
        }
        Command::Man { dir } => setup::shells::man(context, dir.as_deref()),
    }
}

/// How long an idle thread of the blocking pool is kept: longer than the minute between two
/// periodic scans, so that one thread always exists. If the system refuses more threads (a
/// container's limit), work then waits its turn; with no thread at all, Tokio panics.
const THREAD_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(150);

/// Runs a future on a single-threaded runtime with a small blocking pool: measured, it takes 9 MB,
/// where a multi-threaded runtime takes 15.
fn on_runtime<F: Future<Output = Result<(), Failure>>>(future: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(64)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_name("conjured-blocking")
        .build()
        .map_err(|error| Failure::new(BUG, format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // Blocking work that hangs (a network drive) must not keep the process alive; everything
    // important is in the ledger.
    runtime.shutdown_timeout(std::time::Duration::from_millis(300));
    result
}
