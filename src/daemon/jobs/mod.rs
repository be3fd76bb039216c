//! One job, from its release to its end, and what a person may ask of it afterwards.
//!
//! Owns how the steps of a job are performed. What the next step is, the domain decides
//! ([`crate::domain::job::flow`]); nothing in here concerns other jobs. In the order of a job:
//!
//! - [`setup`], [`early_work`], [`release`]: the request, its backend and its row;
//! - [`driver`]: the job's task, which asks the flow for each step; [`world`]: what is true today;
//! - [`steps`]: how each step is performed; [`routing`]: the backends as candidates;
//! - [`handoff`]: one handoff to CONJURE; [`job_json`]: the record beside the artifacts;
//! - [`details`], [`texts`]: what people are told;
//! - [`rerun`], [`restore`]: an earlier job again.

pub(crate) mod setup;
pub(crate) mod early_work;
mod release;
pub(crate) mod driver;
mod world;
pub(crate) mod routing;
mod steps;
pub(crate) mod handoff;
mod details;
mod texts;
pub(crate) mod rerun;
pub(crate) mod restore;
pub(crate) mod job_json;

pub(crate) use self::texts::OUT_FOLDER;
