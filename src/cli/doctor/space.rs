//! Checks whether there is disk space for results.
//!
//! Owns two thresholds. One result at CONJURE's largest (a mesh of 29 MB) is stored in the history,
//! under two public names and in a temporary file next to them: 120 MB. With less, the next result
//! may not fit. The history grows by one such result per job, so a gigabyte is an evening's work.

use std::path::{Path, PathBuf};

use super::check::Check;
use crate::{
    cli::exit::CANNOT_WRITE,
    config::settings::Config,
    disk::{dirs, probe},
};

const NAME: &str = "disk space";

/// With less than this, the next result may not fit.
const FAIL_BYTES: u64 = 120 << 20;

/// With less than this, one evening's results may not fit.
const WARN_BYTES: u64 = 1 << 30;

/// Checks every folder that is written to.
pub(super) fn inspect(config: &Config) -> Vec<Check> {
    let public =
        config.projects.iter().flat_map(|project| project.image.iter().chain(&project.mesh));
    let folders = public.filter_map(|name| name.parent()).chain([config.state_dir.as_path()]);
    let mut places: Vec<(PathBuf, u64)> = Vec::new();
    for folder in folders.map(probe::nearest_existing) {
        match dirs::free_space(&folder) {
            // Folders with almost the same free space are on the same drive; other programs write
            // in the meantime.
            Ok(Some(free)) if !places.iter().any(|(_, other)| other.abs_diff(free) < 1 << 16) => {
                places.push((folder, free));
            }
            _ => {}
        }
    }
    if places.is_empty() {
        return vec![Check::skipped(NAME, "not checked: this system does not report free space")];
    }
    let mut checks: Vec<Check> =
        places.iter().filter_map(|(folder, free)| check_space(folder, *free)).collect();
    if checks.is_empty() {
        let least = places.iter().map(|(_, free)| *free).min().unwrap_or(0);
        checks.push(Check::ok(NAME, format!("{} free", format_bytes(least))));
    }
    checks
}

fn check_space(folder: &Path, free: u64) -> Option<Check> {
    let found = format!("{} free on the drive of {}", format_bytes(free), folder.display());
    match free {
        0..FAIL_BYTES => Some(Check::fail(
            NAME,
            CANNOT_WRITE,
            format!("{found}, and one result takes up to 120 MB"),
            "free some space: on a full disk no new job starts, and a finished result waits until \
             it can be written",
        )),
        FAIL_BYTES..WARN_BYTES => Some(Check::warn(
            NAME,
            found,
            "free some space, or lower history.keep_mb and history.keep_jobs",
        )),
        WARN_BYTES.. => None,
    }
}

fn format_bytes(bytes: u64) -> String {
    match bytes >> 20 {
        mb @ 0..1024 => format!("{mb} MB"),
        mb => format!("{} GB", mb / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::CheckStatus, *};

    #[test]
    fn room_is_judged_by_what_a_result_takes() {
        let of = |free| check_space(Path::new("/x"), free).map(|check| check.status);
        assert_eq!(of(0), Some(CheckStatus::Fail));
        assert_eq!(of(FAIL_BYTES), Some(CheckStatus::Warn));
        assert_eq!(of(WARN_BYTES), None);
    }
}
