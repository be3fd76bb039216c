//! Watching: something may have happened to an input of project N. Never what, never how often.
//!
//! Events are hints. The parent folders of the two inputs are watched (files are replaced, deleted, made anew),
//! and on the way down from the project's root each folder for the next name, so that a renamed or a new folder
//! is noticed at once. A symlink's target is watched like the input itself. What cannot be watched natively is
//! polled.
//!
//! Weighed: notify's own `PollWatcher` walks folders and misses fast rewrites, so polling is ours ([`poll`]);
//! notify-debouncer wakes up by itself all day. One native watcher serves all projects; it brings the only thread.
//!
//! How the daemon uses it: after every wake [`Watcher::mend`], *then* look at the inputs; [`Watcher::rearm`]
//! about once a minute and after sleep; [`Watcher::poll`] on its timer while [`Watcher::is_polling`]. All three
//! block (a little): the blocking pool is the place for them.
//!
//! What can't be promised: changes made by another machine on a drive that looks local, and folders above a project's
//! root that are renamed. The minute's `rearm` and look are for those.

mod hub;
mod identity;
pub(super) mod kind;
pub mod poll;
mod spots;
mod watcher;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf, absolute};

pub use watcher::Watcher;

use super::stamp::Stamp;

/// Which project of the list given to [`Watcher::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectIndex(pub usize);

/// The inputs of one project. Relative paths count from the working folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedInputs {
    /// The project's root. Below it every folder on the way to an input is watched.
    pub root: PathBuf,
    /// The prompt's file.
    pub prompt: PathBuf,
    /// The render's file.
    pub render: PathBuf,
}

impl WatchedInputs {
    fn absolute(self) -> Self {
        let [root, prompt, render] =
            [self.root, self.prompt, self.render].map(|path| absolute(&path).unwrap_or(path));
        Self { root, prompt, render }
    }

    /// Asks for the root and both files, and returns when the drive has answered, whatever it said.
    pub fn reach(&self) {
        for path in [&self.root, &self.prompt, &self.render] {
            drop(Stamp::at(path));
        }
    }

    fn files(&self) -> [&Path; 2] {
        [&self.prompt, &self.render]
    }
}

/// `trigger.watch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchMode {
    /// Native, except where that cannot work.
    #[default]
    Auto,
    /// Native even on drives that are known for not telling; polling only where the system refuses to watch.
    Native,
    /// Polling only.
    Poll,
}

/// Why projects are polled although nobody asked for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PollReason {
    /// The drive shows changes of other machines, or of the host, without telling.
    #[error("{} is on a {kind} drive, which does not tell of changes made elsewhere: polling it", folder.display())]
    RemoteDrive {
        /// The input's folder.
        folder: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// A file we made there for a try raised no event.
    #[error("{} does not tell of changes (tried it): polling it", folder.display())]
    NoEvents {
        /// The input's folder.
        folder: PathBuf,
    },
    /// The system has no more watches for our user.
    #[error(
        "the system's limit on watched folders is reached: polling instead; raise fs.inotify.max_user_watches to watch again"
    )]
    LimitReached,
    /// The system refuses to watch this folder.
    #[error("{} cannot be watched ({reason}): polling it", folder.display())]
    Refused {
        /// The input's folder.
        folder: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The system refuses to watch anything.
    #[error(
        "native watching is not available ({reason}): polling instead; if this is a limit, raise fs.inotify.max_user_instances"
    )]
    Unavailable {
        /// What the system said.
        reason: String,
    },
}

/// Projects that began to be polled, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchWarning {
    /// The projects.
    pub projects: Vec<ProjectIndex>,
    /// The reason, with its remedy.
    pub reason: PollReason,
}
