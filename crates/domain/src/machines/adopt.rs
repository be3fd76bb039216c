//! Which machine of an account is ours, after the answer to a launch was lost.
//!
//! Owns the one comparison. A person may have machines of their own in the same account, and may have started one in the same
//! minute: what is not certain is left alone and said aloud.

use super::ServerId;

/// A machine in the account's list, as far as it can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: ServerId,
    /// Its type, where the list tells.
    pub server_type: Option<String>,
    /// The workflow version that it was launched with, where the list tells.
    pub workflow_version: Option<String>,
    /// Whether it is on its way out: it costs nothing any more.
    pub is_ending: bool,
}

/// What the list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None can be ours.
    None,
    /// This one and no other can be.
    Ours(ServerId),
    /// These may be, and it cannot be told.
    Unclear(Vec<ServerId>),
}

/// Finds the machine of a launch: one that was not there `before` and is of the type and version that were asked for.
///
/// What the list does not tell counts as a match, as it cannot speak against one. Ids that other launches of ours have are
/// to be among `before`.
pub fn which_is_ours(
    listed: &[Seen],
    before: &[ServerId],
    server_type: &str,
    workflow_version: &str,
) -> Found {
    let same = |told: &Option<String>, wanted: &str| {
        told.as_deref().is_none_or(|told| told.trim().eq_ignore_ascii_case(wanted))
    };
    let mut fitting: Vec<ServerId> = listed
        .iter()
        .filter(|seen| !seen.is_ending && !before.contains(&seen.id))
        .filter(|seen| same(&seen.server_type, server_type))
        .filter(|seen| same(&seen.workflow_version, workflow_version))
        .map(|seen| seen.id.clone())
        .collect();
    fitting.sort();
    fitting.dedup();
    match fitting.len() {
        0 => Found::None,
        1 => Found::Ours(fitting.swap_remove(0)),
        _ => Found::Unclear(fitting),
    }
}
