//! The one integration binary. A line for each file on what belongs there:
//!
//! - `engine_cases`: settle, trigger and engine as data (`cases/*.toml`).
//! - `architecture`: the layers of `src/`, and the rules that hold for every file.
//! - `shipped`: what is handed out beside the program: licences, lock file, documents' commands, workflows, units.
//! - `command_line`: the real program without a daemon: exit codes, output, help.

#![expect(clippy::panic, reason = "a test complains by panicking, in what it calls, too")]

mod engine_cases;
mod architecture;
mod shipped;
mod command_line;
