//! Checks whether the ledger is intact.
//!
//! Owns the judgement of [`crate::ledger::Reader::check`], which reads the whole file and
//! changes nothing.

use std::path::Path;

use super::check::Check;
use crate::{
    cli::exit::{CONFIGURATION, TRY_AGAIN},
    ledger::{FILE, Ledger, error::OpenError},
};

const NAME: &str = "ledger";

pub(super) fn inspect(state_dir: &Path) -> Check {
    let path = state_dir.join(FILE);
    match Ledger::open_read_only(&path) {
        Err(OpenError::Missing { .. }) => {
            Check::ok(NAME, "does not exist yet; will be created at the first start")
        }
        Err(error @ OpenError::Older { .. }) => Check::fail(
            NAME,
            CONFIGURATION,
            error.to_string(),
            "move the ledger away, or use another state folder with --state-dir",
        ),
        Err(error @ (OpenError::Newer { .. } | OpenError::Foreign { .. })) => Check::fail(
            NAME,
            CONFIGURATION,
            error.to_string(),
            "use the newer program version, or another state folder with --state-dir",
        ),
        Err(error) => Check::fail(
            NAME,
            TRY_AGAIN,
            error.to_string(),
            "check the permissions and the drive of the state folder",
        ),
        Ok(reader) => match reader.check() {
            Ok(()) => Check::ok(NAME, "sound"),
            Err(error) => Check::fail(
                NAME,
                TRY_AGAIN,
                error.to_string(),
                format!(
                    "stop the daemon and move {} to another place: the next start creates a new \
                     one, and results stay in the history",
                    path.display()
                ),
            ),
        },
    }
}
