//! The file system and nothing else: what the daemon sees of the inputs, keeps in its history and shows to CONJURE.
//!
//! Owns every call of `std::fs` outside the ledger's own file. All calls block: the daemon runs them on the blocking
//! pool. Nothing in here decides when to look or what a file means; no part knows a backend, a ledger or a clock
//! (times are arguments).
//!
//! - [`watch`]: an event, an overflow or a poll becomes "look at this project", nothing more;
//! - [`stamp`], [`read`]: a whole input in memory, or the reason why not yet;
//! - [`history`]: a folder for each job, downloads that survive a crash, quarantine;
//! - `rename`, `holders`: a name that changes hands, with patience where another program is in the way, and who that is;
//! - [`place`]: a plan of [`crate::domain::placement`] becomes public files, atomically;
//! - [`sweep`]: what a crash left behind;
//! - [`lock`], [`project_lock`]: one daemon for each state folder and for each project, also when
//!   the file is removed;
//! - [`checkout`]: is this folder CONJURE's;
//! - [`probe`]: questions about a folder that change nothing;
//! - [`daily`]: the files of the log;
//! - [`drive`]: one that does not answer, for tests;
//! - [`dirs`]: private folders, atomic private files, syncing, free space.

mod error;
pub mod drive;
mod holders;
mod rename;
pub mod daily;
mod walk;
pub mod dirs;
pub mod checkout;
pub mod probe;
pub mod stamp;
pub mod read;
pub mod watch;
pub mod history;
pub mod place;
pub mod sweep;
pub mod lock;
pub mod project_lock;

pub use error::DiskError;
