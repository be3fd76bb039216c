//! The shell around the pure rules: the only place where time passes and tasks run.
//!
//! Owns one loop (`shell`) that holds the engine, and a task for each job (`run_job`). In reading
//! order: [`start`] puts it together and [`socket`] lets people in, `shell` waits and dispatches,
//! `projects` takes each over, `watching`, `wakes` and `looking` mind the files, `served` keeps a
//! project's rhythm, `look` reads its inputs, `prepare` and `early` do the early work, `perform`
//! turns effects into tasks, `again` does an earlier job's work once more, `commands` answers
//! people, `restore` places what an earlier job made, `retention` keeps history within its bounds,
//! `claims` keeps these apart, `root_locks` keeps other daemons away, `show` makes the status,
//! `manager` tells systemd, `reload` takes a new configuration, [`live`] is the configuration with
//! working parts, `calendar` says when a day of the budget began.

pub mod start;
mod options;
pub mod socket;
pub(crate) mod shell;
mod outcome;
pub(crate) mod wakes;
pub(crate) mod watching;
pub mod projects;
pub(crate) mod looking;
pub(crate) mod served;
pub(crate) mod look;
pub(crate) mod prepare;
pub mod early;
pub(crate) mod perform;
mod new_road;
pub mod again;
pub(crate) mod claims;
pub(crate) mod root_locks;
mod handing;
pub(crate) mod run_job;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod commands;
pub(crate) mod show;
pub(crate) mod reload;
pub mod live;
pub(crate) mod machines;
pub(crate) mod places;
pub(crate) mod recipe;
pub(crate) mod routing;
pub(crate) mod calendar;
pub mod checkup;
pub mod story;
pub(crate) mod store;
pub(crate) mod gate;
pub(crate) mod manager;
pub(crate) mod health;
pub(crate) mod signals;
pub(crate) mod tasks;

pub use outcome::Ended;
