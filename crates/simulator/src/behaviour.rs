//! Switches for behaviour on which the sources about the real service disagree.
//!
//! Owns the switches, one for each disagreement, and their defaults (what was observed in real runs
//! takes precedence). Something that happens once or a few times is a fault ([`super::faults`]),
//! not a switch.

use serde::{Deserialize, Serialize};

/// The switches. `GET` and `PATCH /_control/behaviour` read and change them while the
/// simulator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// How a cancelled request is spelt in status and result.
    pub cancelled_word: CancelledWord,
    /// The shape of the answer to a cancel.
    pub cancel_shape: CancelShape,
    /// What a cancel does to a run in progress.
    pub running_cancel: RunningCancel,
    /// Whether the status call already reports a failed run as `failed`; otherwise it
    /// says `completed`.
    pub failed_on_status: bool,
    /// How `created_at` and `finished_at` are written.
    pub timestamps: Timestamps,
    /// Whether an override of an unknown node or key is refused with 422001; otherwise it is
    /// silently ignored.
    pub refuse_unknown_overrides: bool,
    /// Whether a submit of `{}` runs the saved defaults; otherwise it is refused with 422001.
    pub accept_empty_body: bool,
    /// Whether the status call names the instance (as in 2026) or not (as in 2025).
    pub tell_instance: bool,
    /// Whether the status call includes a `log_url`.
    pub tell_log: bool,
    /// The channel of `SaveGLB`: `3d` in ComfyUI itself; CONJURE's clients expect `files`
    /// or `mesh`.
    pub mesh_channel: String,
    /// Whether every run also lists previews of type `temp` beside its outputs.
    pub previews: bool,
    /// The shape of `error` in the result of a failed run.
    pub error_shape: ErrorShape,
    /// The HTTP status of refusals 10001 to 10003; the real one is unpublished. 200 puts the code
    /// into the body of a 200.
    pub gate_status: u16,
    /// The HTTP status of files past their retention: 403, 404 or 410.
    pub expired_status: u16,
    /// How far the service's `Date` is ahead of this machine's clock, in seconds; negative: behind.
    pub clock_ahead_s: i64,
    /// Nodes missing from the deployment's saved graph as `includes=payload` shows it, as if
    /// another workflow had been saved.
    pub payload_lacks: Vec<String>,
    /// Whether `includes=payload` is honoured; otherwise the record comes without it.
    pub tell_payload: bool,
    /// Whether the Server API answers 429 to more than about one call per second.
    pub limit_server_calls: bool,
    /// Whether the storage serves ranges.
    pub ranges: bool,
    /// Whether the storage refuses requests without a User-Agent or with Python urllib's own.
    pub refuse_library_agents: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            cancelled_word: CancelledWord::Canceled,
            cancel_shape: CancelShape::A,
            running_cancel: RunningCancel::EndsAfter { ms: 1000 },
            failed_on_status: false,
            timestamps: Timestamps::Naive,
            refuse_unknown_overrides: true,
            accept_empty_body: true,
            tell_instance: true,
            tell_log: false,
            mesh_channel: "3d".to_owned(),
            previews: false,
            error_shape: ErrorShape::List,
            gate_status: 403,
            expired_status: 403,
            clock_ahead_s: 0,
            payload_lacks: Vec::new(),
            tell_payload: true,
            limit_server_calls: true,
            ranges: true,
            refuse_library_agents: true,
        }
    }
}

/// How a cancelled request is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelledWord {
    /// `canceled` (2025 docs, real runs).
    Canceled,
    /// `cancelled` (newer docs).
    Cancelled,
}

impl CancelledWord {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The shape of the answer to a cancel call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelShape {
    /// `status` is `cancellation_requested` or `not_cancellable`.
    A,
    /// `status` is `completed`, `outcome` is `cancelled` or `not_cancellable`.
    B,
}

/// What a cancel does to a run in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunningCancel {
    /// The cancel is accepted, and the run ends as cancelled this much later (or completes, if that
    /// comes first).
    EndsAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// The cancel is accepted, but the run completes anyway.
    CompletesAnyway,
    /// Only queued requests can be cancelled.
    Refused,
}

/// How timestamps are written; all of them with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// `2026-01-02T03:04:05.123456`: UTC, without saying so.
    Naive,
    /// `…+02:00`: the same point in time with another offset.
    Offset,
    /// `…Z`.
    Zulu,
}

/// The shapes in which a failed run reports its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorShape {
    /// `[{"errorCode":…,"error":…,"debugInfo":…}]`.
    List,
    /// `{"type":…,"message":…}`.
    Object,
    /// A sentence.
    Text,
    /// `[{"message":…,"details":…}]`, without a code.
    Messages,
}
