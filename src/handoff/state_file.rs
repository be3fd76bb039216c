//! CONJURE's `state.json` on disk: read as a whole, and replaced as a whole or not at all.
//!
//! Owns the reading and the one write. The file has no lock and no version, so a writer can only be
//! quick and careful: the new text is complete and synced under a temporary name before the file is
//! read once more, and replaces it only if nothing changed in between. The rename follows that read
//! within microseconds.

use std::path::Path;

use serde_json::Value;

use crate::{
    disk::{
        place::{self, PlaceFault},
        read::{self, ReadOutcome},
    },
    domain::blender::handoff::{decide::StateRead, document::StateDocument},
};

/// A larger file is not a state: CONJURE's has 1 KB.
const MAX_STATE: u64 = 1024 * 1024;

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceOutcome {
    /// The file now has our content.
    Written,
    /// Another program changed it in between; nothing was written.
    Changed,
}

/// Why the state could not be written. The file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    /// The file is not a valid state; such a file is never overwritten.
    #[error("state.json is not a valid state")]
    NoState,
    /// A disk error.
    #[error(transparent)]
    Place(#[from] PlaceFault),
}

/// Reads the file. Also returns its bytes, the base of a write.
pub fn read_state(path: &Path) -> (StateRead, Vec<u8>) {
    let unreadable = |why: String| (StateRead::Unreadable(why), Vec::new());
    match read::read_complete(path, MAX_STATE) {
        Ok(ReadOutcome::Complete { bytes, .. }) => match StateDocument::parse(&bytes) {
            Ok(document) => (StateRead::State(document.conjure_state()), bytes),
            Err(why) => unreadable(why.to_string()),
        },
        Ok(ReadOutcome::Changing) => unreadable("it is being written".to_owned()),
        Ok(ReadOutcome::Missing) => (StateRead::Missing, Vec::new()),
        Err(error) => unreadable(error.to_string()),
    }
}

/// Puts `changes` into the file of the checkout in `root`, if it still holds `base`. Every other
/// member stays as it stands. `unique` becomes part of the temporary name, which must not be
/// CONJURE's own (`state.tmp`, used by two of its processes).
pub fn replace(
    path: &Path,
    root: &Path,
    base: &[u8],
    changes: &[(&str, Value)],
    unique: &str,
) -> Result<ReplaceOutcome, StateFault> {
    let document = StateDocument::parse(base).map_err(|_| StateFault::NoState)?;
    let still = || matches!(read::read_complete(path, MAX_STATE), Ok(ReadOutcome::Complete { bytes, .. }) if bytes == base);
    let unique = format!("state-{unique}");
    let written = place::replace_if(path, root, &document.with(changes), &unique, still)?;
    Ok(if written { ReplaceOutcome::Written } else { ReplaceOutcome::Changed })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_that_changed_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        fs::write(&path, r#"{"command": "fuse_mesh"}"#).expect("writes");
        let old = br#"{"command": null}"#;
        let written =
            replace(&path, folder.path(), old, &[("a", json!(1))], "x").expect("no fault");
        assert_eq!(written, ReplaceOutcome::Changed);
        assert_eq!(fs::read(&path).expect("reads"), br#"{"command": "fuse_mesh"}"#);
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1, "nothing is left over");
    }

    #[test]
    fn nothing_is_written_over_what_is_no_state() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        for torn in ["", "{", "[]"] {
            fs::write(&path, torn).expect("writes");
            assert!(
                replace(&path, folder.path(), torn.as_bytes(), &[("a", json!(1))], "x").is_err()
            );
            assert_eq!(fs::read_to_string(&path).expect("reads"), torn);
            assert!(matches!(read_state(&path).0, StateRead::Unreadable(_)));
        }
        fs::remove_file(&path).expect("removes");
        assert_eq!(read_state(&path).0, StateRead::Missing);
        assert_eq!(
            replace(&path, folder.path(), b"{}", &[("a", json!(1))], "x").expect("no fault"),
            ReplaceOutcome::Changed
        );
        assert!(!path.exists(), "a state that is gone is not made");
    }
}
