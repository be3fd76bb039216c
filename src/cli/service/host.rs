//! Other programs of this machine: runs them, reads their output, and looks up users.
//!
//! Owns processes. [`super::plan`] decides what is run; arguments are passed one by one, without
//! a shell.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    /// The home folder, if it is known.
    pub home: Option<PathBuf>,
}

/// Runs a program on our own terminal and returns its exit code; `Err` says why it could not
/// be run.
pub(super) fn run(words: &[String]) -> Result<i32, String> {
    let (program, arguments) = words.split_first().ok_or("no command was given")?;
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    match ended {
        Ok(status) => Ok(status.code().unwrap_or(128)),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}

/// Runs a program and returns its output, if it succeeds.
pub(super) fn output_of(words: &[&str]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Looks up a user by name or number.
pub(super) fn user(name_or_id: &str) -> Option<User> {
    // A leading dash would be read as an option.
    if name_or_id.is_empty() || name_or_id.starts_with('-') {
        return None;
    }
    if let Some(line) = output_of(&["getent", "passwd", name_or_id]) {
        return passwd(&line);
    }
    // macOS has no getent.
    let name = output_of(&["id", "-un", name_or_id])?.trim().to_owned();
    Some(User { home: Some(Path::new("/Users").join(&name)), name })
        .filter(|_| cfg!(target_os = "macos"))
}

/// Parses a line of the user database: `name:x:1000:1000:,,,:/people/name:/bin/bash` (`passwd(5)`).
fn passwd(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.lines().next()?.split(':').collect();
    let home = fields.get(5).filter(|home| home.starts_with('/')).map(PathBuf::from);
    Some(User { name: (*fields.first()?).to_owned(), home }).filter(|user| !user.name.is_empty())
}

/// Returns whether systemd runs this machine (`sd_booted(3)`).
pub(super) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_name_and_home_are_read_from_the_user_data_base() {
        let line = "artist:x:1000:1000:An Artist,,,:/people/artist:/bin/bash\n";
        let home = Some(PathBuf::from("/people/artist"));
        assert_eq!(passwd(line), Some(User { name: "artist".to_owned(), home }));
        assert_eq!(passwd("daemon:x:1").map(|user| user.home), Some(None));
        assert_eq!(passwd(""), None);
        assert_eq!(user("--help"), None);
    }
}
