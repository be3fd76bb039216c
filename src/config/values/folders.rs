//! What `~` and relative paths resolve to, and the folders that the platform and systemd provide.
//!
//! Owns paths as text: nothing here accesses a disk. The folders are passed in
//! ([`crate::config::Sources`]), so that tests can use their own.

use std::path::{Component, Path, PathBuf};

/// The folders that `~` and relative paths resolve to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// The home folder, if there is one.
    pub home: Option<PathBuf>,
    /// The working folder.
    pub current: PathBuf,
}

impl Folders {
    /// Makes a written path absolute: `~` is the home folder, and a relative path starts at `base`,
    /// or else at the working folder. The error is the rest of a sentence about the key.
    pub(in crate::config) fn resolve(
        &self,
        text: &str,
        base: Option<&Path>,
    ) -> Result<PathBuf, String> {
        let text = text.trim();
        let path = match text.strip_prefix('~') {
            None => base.unwrap_or(&self.current).join(text),
            Some(rest) if rest.is_empty() || rest.starts_with(std::path::is_separator) => {
                let home = self.home.as_ref().ok_or(
                    "begins with `~`, but there is no home folder (HOME is not set); write the \
                     full path",
                )?;
                home.join(rest.trim_start_matches(std::path::is_separator))
            }
            Some(_) => {
                return Err("names another user's home folder; write the full path".to_owned());
            }
        };
        Ok(normalize(&self.current.join(path)))
    }

    /// Makes a path from the command line absolute. A shell has already replaced `~`.
    pub(in crate::config) fn on_command_line(&self, path: &Path) -> PathBuf {
        normalize(&self.current.join(path))
    }
}

/// Removes the parts without effect: `.`, doubled and trailing separators. `..` is kept, because
/// after a symbolic link it leads to a different folder.
fn normalize(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}
