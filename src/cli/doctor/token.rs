//! Checks whether there is a token, whether it can be read, and whether other users can read it.
//!
//! Owns what can be seen on this machine. Whether RunComfy accepts the token is checked
//! in [`super::service`].

use std::path::Path;

use super::check::Check;
use crate::{
    cli::exit::TOKEN,
    config::secrets::{SecretError, TokenSearch},
    disk::probe,
};

pub(super) const NAME: &str = "token";

/// Judges the result of the search for a token.
pub(super) fn check_token(search: Result<&TokenSearch, &SecretError>, needed: bool) -> Vec<Check> {
    match search {
        Err(error) => vec![unusable(error)],
        Ok(search) => {
            let mut checks: Vec<Check> = search
                .warnings
                .iter()
                .map(|warning| {
                    // The search's own warnings end with the fix.
                    let (found, fix) =
                        warning.split_once("; ").unwrap_or((warning, "check that file"));
                    Check::warn(NAME, found, fix)
                })
                .collect();
            match &search.token {
                Some(token) => checks.insert(0, Check::ok(NAME, format!("from {}", token.source))),
                None if needed => checks.push(Check::missing(
                    NAME,
                    TOKEN,
                    "no token was found",
                    "copy it from RunComfy's profile page and store it with `conjured login` (see docs/runcomfy.md)",
                )),
                None => {
                    checks.push(Check::skipped(NAME, "none found, and this mode needs none"));
                }
            }
            checks
        }
    }
}

fn unusable(error: &SecretError) -> Check {
    match error {
        SecretError::Unreadable { what, path, cause, .. } => {
            let (shown, permissions) = (path.display(), permissions_note(path));
            Check::fail(
                NAME,
                TOKEN,
                format!("{what} {shown} cannot be read: {cause}{permissions}"),
                if cfg!(windows) {
                    format!(
                        "let the account that conjured runs as read it: icacls \"{shown}\" /grant %USERNAME%:R, or `conjured login`"
                    )
                } else {
                    format!(
                        "give it to the user that conjured runs as: chown that user {shown} && chmod 600 {shown}, or `conjured login`"
                    )
                },
            )
        }
        SecretError::NotAToken { .. } => Check::fail(
            NAME,
            TOKEN,
            error.to_string(),
            "make it contain only the token, or remove it and use `conjured login`",
        ),
    }
}

/// Returns a remark on the permissions of a token file that we cannot read.
fn permissions_note(path: &Path) -> String {
    match probe::mode(path) {
        Some(mode) if mode & 0o077 != 0 => format!(
            "; its permissions are {mode:04o}, so other users can read the token but conjured \
             cannot"
        ),
        Some(mode) => format!("; its permissions are {mode:04o}"),
        None => String::new(),
    }
}
