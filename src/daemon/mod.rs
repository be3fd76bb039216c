//! The daemon: the only code in which time passes and tasks run. All decisions belong to the pure
//! rules of [`crate::domain`].
//!
//! Owns one loop (`shell`) that holds the engine, and a task for each job (`run_job`). In reading
//! order: [`crate::daemon::event_loop::start`] puts it together and [`crate::daemon::api::socket`] lets people in, `shell` waits and dispatches,
//! `projects` takes each over, `watching`, `wakes` and `looking` mind the files, `served` keeps a
//! project's rhythm, `look` reads its inputs, `prepare` and `early` do the early work, `perform`
//! turns effects into tasks, `again` does an earlier job's work once more, `commands` answers
//! people, `restore` places what an earlier job made, `retention` keeps history within its bounds,
//! `claims` keeps these apart, `root_locks` keeps other daemons away, `show` makes the status,
//! `manager` tells systemd, `reload` takes a new configuration, [`crate::daemon::services::runtime_config`] is the configuration with
//! working parts, `calendar` says when a day of the budget began.

pub mod services;
pub(crate) mod inputs;
pub(crate) mod servers;
pub(crate) mod jobs;
pub mod api;
pub mod event_loop;

pub use event_loop::outcomes::Ended;
