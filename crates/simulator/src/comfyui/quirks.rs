//! The switches: which version the simulated ComfyUI behaves like, and which faults it has.
//!
//! Owns data. What a switch does is described where it is used.

use std::collections::BTreeSet;

/// The version that it behaves like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 0.3.64, October 2025.
    V03,
    /// 0.33.0, August 2026.
    #[default]
    V33,
}

/// What happens to a client's `prompt_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// Accepted, as in both versions (0.33: only in the form of a UUID).
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
    /// The version that it behaves like.
    pub version: Version,
    /// Classes and models that are not installed.
    pub lacks: BTreeSet<String>,
    /// What happens to a client's `prompt_id`.
    pub ids: Ids,
    /// For how many answers to `POST /prompt` the connection breaks after the job was queued.
    pub lose_answers: u32,
    /// Binary frames with pictures are sent between the others.
    pub previews: bool,
    /// Sockets open but never send a message.
    pub silent_sockets: bool,
    /// `/ws` is answered with 404.
    pub no_sockets: bool,
    /// As in servers too old to know `prompt_id` in an interrupt, an interrupt stops whichever
    /// job runs.
    pub old_interrupt: bool,
    /// `POST /prompt` is answered with this status instead.
    pub stumble: Option<u16>,
    /// Every call is answered with this status, as by a proxy in front of the server.
    pub guarded: Option<u16>,
    /// A deletion from the queue comes too late: the job starts to run at that moment.
    pub races_delete: bool,
}
