//! The only integration test binary. One line for each file on what belongs there:
//!
//! - `engine_cases`: debouncing, triggers and engine as data (`cases/*.toml`).
//! - `job_flow`: the flow of one job as data (`cases/job.toml`), and what holds for every sequence
//!   of answers, losses, deaths and controls.
//! - `main_job`: one prompt and one render become one request and complete files; `once`;
//!   the cache.
//! - `inputs`: what starts a job and what does not: re-renders, half pictures, storms, changes at
//!   bad times.
//! - `comfyui`: the adapter for a ComfyUI server against the simulated one, one test for each
//!   pitfall of the protocol.
//! - `cancelling`: a cancel is final before the placement, and refused from then on.
//! - `crash`: `kill -9` at every step of a job.
//! - `failpoints`: with the feature of that name, death at every durable step under three
//!   service conditions, and a drive that stops answering.
//! - `jobs_again`: `jobs retry`, `rerun`, `restore`, `rate`, the audit, what stays in the history,
//!   the automatic resubmit after a lost answer.
//! - `cloud`: a job on a rented machine, and every way in which the machine's life can be cut
//!   short: what is charged afterwards.
//! - `lost_answer`: submits whose answer is lost, refused or late.
//! - `network`: a service that fails, throttles, refuses the token, or is not there yet.
//! - `tls`: servers that must not be trusted, the one that a bundle makes trusted, and the proxy on
//!   the way to one.
//! - `money`: limits that several jobs reach at once, prices that change, the deployment's own
//!   price, and `cost`.
//! - `routes`: every mode runs jobs in the same way; which backend is used when another
//!   is unavailable.
//! - `outputs`: bad products, cut downloads, readers of the public names.
//! - `handoff`: CONJURE is asked to import each mesh exactly once; its scene afterwards, and hands
//!   in it, start nothing.
//! - `stopping`: signals, locks, and where the token must not appear.
//! - `two_daemons`: a lock that is removed under a running daemon (on Windows an open file cannot
//!   be removed), and which daemon pays then.
//! - `memory`: the daemon's own memory, at rest and after work.
//! - `service_manager`: what systemd receives from the process, and lines for its journal.
//! - `reload`: a new configuration, valid or invalid, while the daemon runs.
//! - `setup`: `init`, `login`, `logout` and `doctor`, with every fault that a doctor must find.
//! - `support`: shared code. These tests run a real process, on every platform; those that need a
//!   signal, a file mode or a symlink are only for Unix: `failpoints` (it dies by a signal),
//!   `network` and `setup` (permissions), `tls` (bundles by variable).
//! - `architecture`: the layers of `src/`, and the rules for every file.
//! - `shipped`: what is distributed with the program: licences, lock file, commands in documents,
//!   workflows, units.
//! - `interfaces`: the members of every JSON output and the exit codes, which programs rely on.
//! - `command_line`: the real program without a daemon: exit codes, output, help.

#![expect(clippy::panic, reason = "a test complains by panicking, in what it calls, too")]

mod engine_cases;
mod job_flow;
mod comfyui;
mod routes;
mod cloud;
#[cfg(unix)]
mod cancelling;
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
#[cfg(unix)]
mod two_daemons;
mod support;
mod architecture;
mod shipped;
mod interfaces;
mod command_line;
