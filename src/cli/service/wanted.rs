//! The wanted service: program, arguments, user and writable folders, the same for every platform.
//!
//! Owns the values that the service files are made from. [`super::facts`] determines them; each
//! platform's file writes them as a unit, a property list or a task.

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One user's service, running from login to logout.
    User,
    /// The machine's service, running from boot.
    System,
}

/// A service. Every path is absolute, UTF-8 and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceSpec {
    /// Whose service it is.
    pub scope: Scope,
    /// The program's path.
    pub program: String,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Variables of this shell that decide where files are.
    pub environment: Vec<(String, String)>,
    /// The user that the machine's service runs as.
    pub user: Option<String>,
    /// That user's home folder.
    pub home: Option<String>,
    /// Writable folders besides its own.
    pub writable: Vec<String>,
    /// Whether any of its paths is below the home folders.
    pub in_homes: bool,
    /// The file that systemd passes on as a credential.
    pub token_file: Option<String>,
    /// The folder of the daemon's own log files.
    pub log_dir: Option<String>,
}
