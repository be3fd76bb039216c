//! Detects whether a folder is a CONJURE checkout, from its content.
//!
//! Owns the signs and the folders where people usually keep checkouts. It opens no file and looks
//! at most one level below these folders.

use std::path::{Path, PathBuf};

/// Paths that every branch of CONJURE contains or creates when it runs, the strongest sign first.
const MARKER_PATHS: [&str; 5] = [
    "launcher/main.py",
    "scripts/addons/conjure",
    "data/generated_text",
    "data/generated_images/gestureCamera",
    "data/input/state.json",
];

/// Folders below the home folder in which people keep checkouts. Each is checked itself, and for a
/// folder like `CONJURE` in it.
const USUAL_FOLDERS: [&str; 14] = [
    "",
    "Documents",
    "Documents/GitHub",
    "Desktop",
    "Projects",
    "projects",
    "src",
    "code",
    "dev",
    "git",
    "repos",
    "GitHub",
    "workspace",
    "Downloads",
];

/// The usual names of a checkout. GitHub's archives add the branch.
const USUAL_NAMES: [&str; 4] = ["CONJURE", "conjure", "Conjure", "CONJURE-main"];

/// Returns the signs that a folder shows. Two make a checkout; one alone may be a coincidence.
pub fn found_markers(folder: &Path) -> Vec<&'static str> {
    MARKER_PATHS.into_iter().filter(|sign| folder.join(sign).exists()).collect()
}

/// Returns whether a folder is a checkout.
pub fn is_checkout(folder: &Path) -> bool {
    found_markers(folder).len() >= 2
}

/// Returns the checkout that contains `folder`, or `folder` itself.
pub fn find_enclosing(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| is_checkout(folder)).map(Path::to_path_buf)
}

/// Returns the checkouts in the usual folders, each once, whatever paths lead to it.
pub fn find_usual(home: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for place in USUAL_FOLDERS {
        for name in USUAL_NAMES {
            let folder =
                if place.is_empty() { home.join(name) } else { home.join(place).join(name) };
            // Some systems ignore case, and links lead anywhere.
            let real = super::dirs::canonical(&folder);
            if is_checkout(&folder) && found.iter().all(|(_, other)| *other != real) {
                found.push((folder, real));
            }
        }
    }
    found.into_iter().map(|(folder, _)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signs_make_a_checkout_and_it_is_found_from_within_and_from_home() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let root = home.path().join("src/CONJURE");
        std::fs::create_dir_all(root.join("launcher")).expect("makes");
        std::fs::write(root.join("launcher/main.py"), "").expect("writes");
        assert_eq!(
            (is_checkout(&root), find_enclosing(&root), find_usual(home.path())),
            (false, None, vec![])
        );
        std::fs::create_dir_all(root.join("data/generated_text")).expect("makes");
        assert_eq!(find_enclosing(&root.join("launcher/deep/er")), Some(root.clone()));
        assert_eq!(find_usual(home.path()), [root]);
    }
}
