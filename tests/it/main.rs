//! The one integration binary. A line for each file on what belongs there:
//!
//! - `engine_cases`: settle, trigger and engine as data (`cases/*.toml`).
//! - `main_job`: one prompt and one render become one request and whole files; `once`; the cache.
//! - `inputs`: what starts a job and what does not: re-renders, half pictures, storms, changes at bad times.
//! - `comfyui`: the adapter for a ComfyUI server against its look-alike, a test for each trap of the wire.
//! - `crash`: `kill -9` at every place of the road.
//! - `failpoints`: with the feature of that name, death at every durable step in three kinds of
//!   weather, and a drive that stops to answer.
//! - `jobs_again`: `jobs retry`, `rerun`, `restore`, `rate`, the audit, what stays in history, a lost answer sent again by itself.
//! - `cloud`: a job on a rented machine, and every way in which its life can be cut short: what the meter shows afterwards.
//! - `lost_answer`: submits whose answer is lost, refused or late.
//! - `network`: a service that fails, throttles, refuses the token, or is not there yet.
//! - `tls`: servers that must not be trusted, the one that a bundle makes trusted, and the proxy on the way to one.
//! - `money`: limits that several want to reach at once, prices that change, the deployment's own, and `cost`.
//! - `routes`: every mode with the same road, and who serves when somebody cannot.
//! - `outputs`: bad products, cut downloads, readers of the public names.
//! - `handoff`: CONJURE is told of each mesh exactly once; what its scene shows then, and hands in it, start nothing.
//! - `stopping`: signals, locks, and where the token must not be.
//! - `two_daemons`: a lock that is removed under a running daemon, and who pays then.
//! - `memory`: what a daemon keeps for itself, at rest and after work.
//! - `service_manager`: what systemd hears of the process, and lines for its journal.
//! - `reload`: a new configuration, good or bad, while the daemon runs.
//! - `setup`: `init`, `login`, `logout` and `doctor`, with every fault that a doctor must find.
//! - `support`: what these share. The promise tests drive a real process, on every platform; what needs a signal, a mode or a
//!   symlink is for Unix alone: `failpoints` (it dies by a signal), `network` and `setup` (permissions), `tls` (bundles by variable).
//! - `architecture`: the layers of `src/`, and the rules that hold for every file.
//! - `shipped`: what is handed out beside the program: licences, lock file, documents' commands, workflows, units.
//! - `command_line`: the real program without a daemon: exit codes, output, help.

#![expect(clippy::panic, reason = "a test complains by panicking, in what it calls, too")]

mod engine_cases;
mod comfyui;
mod routes;
mod cloud;
mod crash;
#[cfg(all(unix, feature = "failpoints"))]
mod failpoints;
mod handoff;
mod inputs;
mod jobs_again;
mod lost_answer;
mod main_job;
mod money;
mod outputs;
#[cfg(unix)]
mod network;
#[cfg(unix)]
mod tls;
mod reload;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod service_manager;
#[cfg(unix)]
mod setup;
mod stopping;
mod two_daemons;
mod support;
mod architecture;
mod shipped;
mod command_line;
