//! The shell around the pure rules: the only place where time passes and tasks run.
//!
//! Owns one loop (`shell`) that holds the engine, and a task for each job (`run_job`). In reading order: [`start`] puts it
//! together and [`socket`] lets people in, `shell` waits and dispatches, `watching`, `wakes` and `looking` mind the files, `served` keeps a project's
//! rhythm, `look` reads its inputs, `prepare` and `early` do the early work, `perform` turns effects into tasks, `commands`
//! answers people, `show` makes the status, `manager` tells systemd, `reload` takes a new configuration, [`live`] is the configuration with working parts.

pub mod start;
pub mod socket;
pub(crate) mod shell;
pub(crate) mod wakes;
pub(crate) mod watching;
pub(crate) mod looking;
pub(crate) mod served;
pub(crate) mod look;
pub(crate) mod prepare;
pub(crate) mod early;
pub(crate) mod perform;
pub(crate) mod run_job;
pub(crate) mod commands;
pub(crate) mod show;
pub(crate) mod reload;
pub mod live;
pub mod story;
pub(crate) mod store;
pub(crate) mod gate;
pub(crate) mod manager;
pub(crate) mod signals;
pub(crate) mod tasks;

pub use shell::Ended;
