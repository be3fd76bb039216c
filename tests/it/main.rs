//! The one integration binary. A line for each file on what belongs there:
//!
//! - `engine_cases`: settle, trigger and engine as data (`cases/*.toml`).
//! - `main_job`: one prompt and one render become one request and whole files; `once`; the cache.
//! - `inputs`: what starts a job and what does not: re-renders, half pictures, storms, changes at bad times.
//! - `crash`: `kill -9` at every place of the road.
//! - `lost_answer`: submits whose answer is lost, refused or late.
//! - `outputs`: bad products, cut downloads, readers of the public names.
//! - `stopping`: signals, locks, and where the token must not be.
//! - `reload`: a new configuration, good or bad, while the daemon runs.
//! - `support`: what these share. The promise tests drive a real process, so they are for Unix.

mod engine_cases;
#[cfg(unix)]
mod crash;
#[cfg(unix)]
mod inputs;
#[cfg(unix)]
mod lost_answer;
#[cfg(unix)]
mod main_job;
#[cfg(unix)]
mod outputs;
#[cfg(unix)]
mod reload;
#[cfg(unix)]
mod stopping;
#[cfg(unix)]
mod support;
