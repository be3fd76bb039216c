//! What a service is to be: program, arguments, user, and what it may write; the same for every platform.
//!
//! Owns the values that the texts are made from. Where they come from is [`super::facts`]'s, what they look like as a
//! unit, a property list or a task is each platform's file's.

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One user's, from login to logout.
    User,
    /// The machine's, from boot on.
    System,
}

/// A service. Every path is absolute, UTF-8 and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whose it is.
    pub scope: Scope,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables of this shell that decide where files are.
    pub environment: Vec<(String, String)>,
    /// The user it runs as, for the machine's service.
    pub user: Option<String>,
    /// The home folder of that user.
    pub home: Option<String>,
    /// Folders besides its own that it writes.
    pub writable: Vec<String>,
    /// Whether something of it is beneath the home folders.
    pub in_homes: bool,
    /// The file that systemd hands over as a credential.
    pub token_file: Option<String>,
    /// The folder of the daemon's own log files.
    pub log_dir: Option<String>,
}
