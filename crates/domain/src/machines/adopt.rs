//! Identifies our machine in an account after the answer to a launch was lost.
//!
//! Owns this one comparison. A person may have other machines in the same account, and may have
//! started one in the same minute: if the match is not certain, no machine is touched and the doubt
//! is reported.

use super::ServerId;

/// A machine in the account's list, with the facts used for the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMachine {
    /// Its id.
    pub id: ServerId,
    /// Its type, if the list contains it.
    pub server_type: Option<String>,
    /// The workflow version that it was launched with, if the list contains it.
    pub workflow_version: Option<String>,
    /// Whether it is being stopped: it no longer costs anything.
    pub is_ending: bool,
}

/// The result of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchSearch {
    /// No machine can be ours.
    NotFound,
    /// Exactly this machine can be ours.
    Found(ServerId),
    /// Each of these may be ours; the list does not allow a decision.
    Ambiguous(Vec<ServerId>),
}

/// Finds the machine of a launch: one that is not in `before` and has the requested type
/// and version.
///
/// A value that the list does not contain counts as a match, because it cannot rule the machine
/// out. `before` must include the ids of our other launches.
pub fn find_launched_machine(
    listed: &[ListedMachine],
    before: &[ServerId],
    server_type: &str,
    workflow_version: &str,
) -> LaunchSearch {
    let same = |reported: &Option<String>, wanted: &str| {
        reported.as_deref().is_none_or(|reported| reported.trim().eq_ignore_ascii_case(wanted))
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
        0 => LaunchSearch::NotFound,
        1 => LaunchSearch::Found(fitting.swap_remove(0)),
        _ => LaunchSearch::Ambiguous(fitting),
    }
}
