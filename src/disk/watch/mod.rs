//! Watching: reports that something may have happened to an input of project N, but never what or
//! how often.
//!
//! Events are only hints. The parent folders of the two inputs are watched (files are replaced,
//! deleted, recreated), and so is each folder below the project's root on the path to them, for the
//! next name, so that a renamed or new folder is noticed at once. A symlink's target is watched
//! like the input itself. Inputs that cannot be watched natively are polled.
//!
//! Alternatives considered: notify's own `PollWatcher` walks folders and misses fast rewrites, so
//! we have our own polling ([`poll`]); notify-debouncer wakes up all day without a reason. One
//! native watcher serves all projects and adds the only thread.
//!
//! How the daemon uses it: after every wake it calls [`Watcher::repair`] and *then* looks at the
//! inputs; it calls [`Watcher::rebuild`] about once a minute and after sleep, and [`Watcher::poll`]
//! on its timer while [`Watcher::is_polling`]. All three block for a short time, so they belong on
//! the blocking pool.
//!
//! Limit: changes made by another machine on a drive that looks local, and renamed folders above a
//! project's root, cause no event. `rearm` and the look at the inputs every minute cover these.

mod hub;
mod identity;
pub(super) mod kind;
pub mod poll;
mod watch_points;
mod watcher;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf, absolute};

pub use watcher::Watcher;

use super::stamp::Stamp;

/// The index of a project in the list given to [`Watcher::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectIndex(pub usize);

/// The inputs of one project. Relative paths start at the working folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedInputs {
    /// The project's root. Below it every folder on the path to an input is watched.
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
    /// Native even on drives that are known to report no changes; polling only if the system
    /// refuses to watch.
    Native,
    /// Polling only.
    Poll,
}

/// Why projects are polled although polling is not configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PollReason {
    /// The drive does not report changes of other machines, or of the host.
    #[error("{} is on a {kind} drive, which does not report changes made by other machines: polling it", folder.display())]
    RemoteDrive {
        /// The input's folder.
        folder: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// A probe file that we created there caused no event.
    #[error("{} does not report changes (a test file caused no event): polling it", folder.display())]
    NoEvents {
        /// The input's folder.
        folder: PathBuf,
    },
    /// The system has no more watches for our user.
    #[error(
        "the system's limit on watched folders is reached: polling instead; raise fs.inotify.max_user_watches to use native watching again"
    )]
    LimitReached,
    /// The system refuses to watch this folder.
    #[error("{} cannot be watched ({reason}): polling it", folder.display())]
    Refused {
        /// The input's folder.
        folder: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// The system refuses to watch anything.
    #[error(
        "native watching is not available ({reason}): polling instead; if this is a limit, raise fs.inotify.max_user_instances"
    )]
    Unavailable {
        /// The error of the system.
        reason: String,
    },
}

/// Projects that are now polled, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchWarning {
    /// The projects.
    pub projects: Vec<ProjectIndex>,
    /// The reason, with its remedy.
    pub reason: PollReason,
}
