//! The switches: in which habits the look-alike is one version or the other, and what goes wrong at it.
//!
//! Owns data. What a switch does is written where it is asked.

use std::collections::BTreeSet;

/// Whose habits it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 0.3.64, October 2025.
    V03,
    /// 0.33.0, August 2026.
    #[default]
    V33,
}

/// What becomes of a client's `prompt_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// Taken, as both versions do (0.33: in the form of a UUID only).
    #[default]
    Taken,
    /// Refused with `invalid_prompt_id`, whatever it is.
    Refused,
    /// Ignored: the server makes its own.
    Ignored,
}

/// The switches.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Whose habits it has.
    pub version: Version,
    /// Classes and models that are not installed.
    pub lacks: BTreeSet<String>,
    /// What becomes of a client's `prompt_id`.
    pub ids: Ids,
    /// Of how many answers to `POST /prompt` the connection breaks once the job is queued.
    pub lose_answers: u32,
    /// Binary frames with pictures come between the others.
    pub previews: bool,
    /// Sockets open and never say a word.
    pub silent_sockets: bool,
    /// `/ws` is answered with 404.
    pub no_sockets: bool,
    /// Servers too old to know `prompt_id` in an interrupt stop whatever runs.
    pub old_interrupt: bool,
    /// `POST /prompt` is answered with this status instead.
    pub stumble: Option<u16>,
    /// Everything is answered with this status, by something in front of the server.
    pub guarded: Option<u16>,
    /// A deletion from the queue has no effect before the job has begun to run: it is taken in that moment.
    pub races_delete: bool,
}
