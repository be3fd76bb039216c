//! Where a change to an input can be noticed: pairs of an existing folder and a name in it.
//!
//! Owns the selection of the names on the path: all below the project's root, each symlink, and the
//! end. The end is the input itself, or the first part of the path that does not exist yet.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::disk::walk::{EntryKind, Walk};

/// A name to watch, in a folder that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchPoint {
    /// The folder, without symlinks.
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
    /// Whether the path ends here, so that changes to this name matter most.
    pub(super) is_endpoint: bool,
    /// Whether the name is the input's own, so that this is its folder.
    pub(super) is_input: bool,
}

/// Returns the spots of one input; both paths are absolute.
pub(super) fn watch_points(root: &Path, input: &Path) -> Vec<WatchPoint> {
    let below = input.starts_with(root).then(|| root.components().count());
    let mut walk = Walk::new(input);
    let mut watch_points = Vec::new();
    while let Some(sight) = walk.next() {
        let (end, link) = match sight.kind {
            EntryKind::Folder => (sight.last, false),
            EntryKind::Link => (false, true),
            EntryKind::File(_) | EntryKind::Missing | EntryKind::Refused(_) => (true, false),
        };
        let inside = matches!((sight.position, below), (Some(at), Some(root)) if at >= root);
        if end || link || inside {
            watch_points.push(WatchPoint {
                folder: walk.folder().to_path_buf(),
                name: sight.name,
                is_endpoint: end,
                is_input: sight.last,
            });
        }
    }
    watch_points
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn check(temp: &Path, input: &str, expected: &[(&str, &str, bool)]) {
        let found = watch_points(&temp.join("root"), &temp.join(input));
        let found: Vec<_> =
            found.into_iter().map(|point| (point.folder, point.name, point.is_endpoint)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(folder, name, end)| (temp.join(folder), OsString::from(name), *end))
            .collect();
        // `join("")` leaves a slash at the end, which does not count when paths are compared.
        assert_eq!(found, expected, "{input}");
    }

    #[test]
    fn every_name_below_the_root_counts_and_a_missing_one_ends_the_way() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let temp = temp.path().canonicalize().expect("it exists");
        check(&temp, "root/data/text/prompt.txt", &[("", "root", true)]);
        fs::create_dir_all(temp.join("root/data")).expect("makes");
        let way = ("root", "data", false);
        check(&temp, "root/data/text/prompt.txt", &[way, ("root/data", "text", true)]);
        fs::create_dir(temp.join("root/data/text")).expect("makes");
        let whole = [way, ("root/data", "text", false), ("root/data/text", "prompt.txt", true)];
        check(&temp, "root/data/text/prompt.txt", &whole);
        fs::write(temp.join("root/data/text/prompt.txt"), b"").expect("writes");
        check(&temp, "root/data/text/prompt.txt", &whole);
        // An input outside the root: only its own folder.
        fs::create_dir(temp.join("out")).expect("makes");
        check(&temp, "out/render.png", &[("out", "render.png", true)]);
    }

    #[test]
    fn a_symlink_and_its_target_are_both_watched_wherever_they_are() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let temp = temp.path().canonicalize().expect("it exists");
        fs::create_dir_all(temp.join("root")).expect("makes");
        fs::create_dir_all(temp.join("far/away")).expect("makes");
        symlink("../far/away", temp.join("root/data")).expect("links");
        symlink(temp.join("far/real.txt"), temp.join("far/away/prompt.txt")).expect("links");
        check(
            &temp,
            "root/data/prompt.txt",
            &[
                ("root", "data", false),
                ("far/away", "prompt.txt", false),
                ("far", "real.txt", true),
            ],
        );
    }

    #[test]
    fn a_circle_ends() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(temp.path().join("root")).expect("makes");
        symlink("a", temp.path().join("root/a")).expect("links");
        let found = watch_points(&temp.path().join("root"), &temp.path().join("root/a"));
        assert!(found.last().is_some_and(|point| point.is_endpoint));
        assert!(found.len() < 50);
    }
}
