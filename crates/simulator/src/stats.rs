//! The simulator's counters and records: for tests, for the crash harness and for people who want
//! to see what their client does.
//!
//! Owns the shapes of the report (`GET /_control/stats`), not the counting.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use conjured_domain::{fingerprint::Fingerprint, money::MicroUsd};

/// Everything that was counted since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// POSTs to `inference` that arrived, whatever happened to them.
    pub submits: u64,
    /// Submits that created a request: each of them would be billed.
    pub accepted: u64,
    /// Status calls.
    pub status_calls: u64,
    /// Result calls.
    pub result_calls: u64,
    /// Cancel calls.
    pub cancel_calls: u64,
    /// Balance calls.
    pub balance_calls: u64,
    /// Requests to the storage, answered or refused.
    pub downloads: u64,
    /// Calls of the API refused with 401.
    pub unauthorized: u64,
    /// Requests to the storage that carried an `Authorization` header: the token leaked.
    pub authorization_leaks: u64,
    /// Requests to the storage refused because of their User-Agent.
    pub agents_refused: u64,
    /// Rented machines that were launched, whether or not the client got the answer.
    #[serde(default)]
    pub launches: u64,
    /// Calls of the Server API refused by the rate limit.
    #[serde(default)]
    pub server_calls_refused: u64,
    /// Every rented machine, oldest first.
    #[serde(default)]
    pub machines: Vec<MachineRecord>,
    /// Bytes handed to the network by the storage.
    pub bytes_downloaded: u64,
    /// Machines awake now.
    pub instances_awake: usize,
    /// The bill so far, in micro-dollars.
    pub bill: MicroUsd,
    /// The remaining balance, in micro-dollars; may be negative.
    pub balance: MicroUsd,
    /// Whether the deployment accepts work.
    pub enabled: bool,
    /// Every accepted request, oldest first.
    pub requests: Vec<RequestRecord>,
}

/// One rented machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Its id.
    pub id: String,
    /// Its type.
    pub server_type: String,
    /// Whether it is ready, and billed, now.
    pub runs: bool,
    /// Whether it has ended.
    pub over: bool,
    /// From ready until its end or until now, in milliseconds.
    pub billed_ms: u64,
    /// What that cost, in micro-dollars.
    pub billed: MicroUsd,
    /// Runs that its ComfyUI was asked for; 0 once it is over.
    #[serde(default)]
    pub prompts: u64,
    /// When it was launched, in milliseconds of Unix time by the simulator's clock.
    pub launched_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
}

/// One accepted request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Its id.
    pub id: String,
    /// Its state: `in_queue`, `in_progress`, `succeeded`, `failed` or `canceled`.
    pub phase: String,
    /// The overrides as received; data URIs are cut and carry a digest instead.
    pub overrides: Value,
    /// The prompt that reached the text encoder.
    pub prompt: String,
    /// The image seed that reached the sampler.
    pub seed: u64,
    /// The mesh seed that reached the sampler.
    pub mesh_seed: u64,
    /// The picture, if one was sent as a data URI.
    pub picture: Option<PictureRecord>,
    /// The code with which the run fails or failed.
    pub failure: Option<u32>,
    /// When it was accepted, RFC 3339.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The machine time of its cold start, in milliseconds; 0 on a warm machine.
    #[serde(default)]
    pub billed_cold_ms: u64,
    /// The machine time of its run, in milliseconds.
    #[serde(default)]
    pub billed_run_ms: u64,
    /// The cost of both at the machine's rate, in micro-dollars. The cost of idle machines is only
    /// in [`Stats::bill`].
    #[serde(default)]
    pub billed: MicroUsd,
    /// Status calls for it.
    pub status_calls: u64,
    /// Result calls for it.
    pub result_calls: u64,
    /// Cancel calls for it.
    pub cancel_calls: u64,
    /// Downloads of its files.
    pub downloads: u64,
}

/// A submitted picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRecord {
    /// The MIME type that the data URI claims.
    pub mime: String,
    /// The length of its Base64.
    pub base64_chars: usize,
    /// Its size in bytes.
    pub bytes: usize,
    /// The BLAKE3 digest of its bytes as received (not of its pixels).
    pub fingerprint: Fingerprint,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}
