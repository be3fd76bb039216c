//! A drive that does not answer, for tests: every call about a file under one root waits.
//!
//! Owns `reach`, through which each call of this module goes that could be about a project's
//! files. With the cargo feature `failpoints`, `CONJURED_DEAD_DRIVE=/path` makes it wait for as
//! long as there is a file `/path.dead` beside that folder, as a network drive does whose server is
//! gone. Without the feature, which is how the program ships, it is an empty function.

#[cfg(feature = "failpoints")]
pub use armed::{VARIABLE, reach};

/// Does nothing: the program that ships knows no such order.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) const fn reach(_: &std::path::Path) {}

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        path::{Path, PathBuf},
        sync::OnceLock,
        time::Duration,
    };

    /// The environment variable that names the root.
    pub const VARIABLE: &str = "CONJURED_DEAD_DRIVE";

    /// How often it is looked whether the drive is back.
    const PACE: Duration = Duration::from_millis(5);

    static ROOT: OnceLock<Option<(PathBuf, PathBuf)>> = OnceLock::new();

    /// Waits while `path` is on the drive that does not answer.
    pub fn reach(path: &Path) {
        let Some((root, dead)) = ROOT.get_or_init(read) else { return };
        while path.starts_with(root) && dead.exists() {
            std::thread::park_timeout(PACE);
        }
    }

    fn read() -> Option<(PathBuf, PathBuf)> {
        let root = PathBuf::from(std::env::var_os(VARIABLE)?);
        let mut dead = root.clone().into_os_string();
        dead.push(".dead");
        Some((root, dead.into()))
    }
}
