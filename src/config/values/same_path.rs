//! Whether two paths, as text, surely name the same file; and names that a platform does not allow.
//!
//! Owns the rules of Windows and macOS for names: they keep the case but ignore it in comparisons,
//! and Windows has device names in every folder. Only text is compared: the disk is not accessed,
//! so links and short names (`PROGRA~1`) are not recognized here; the project's lock notices those.

use std::path::{Component, Path, PathBuf};

/// Whether this platform's file systems usually treat `Render.PNG` and `render.png` as one file.
const IGNORES_CASE: bool = cfg!(any(windows, target_os = "macos"));

/// Names of devices on Windows, with any extension (Microsoft: "Naming Files, Paths,
/// and Namespaces").
const DEVICE_NAMES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Returns a key that is the same for two paths of the same file.
pub(in crate::config) fn key(path: &Path) -> PathBuf {
    key_on(path, IGNORES_CASE)
}

fn key_on(path: &Path, one_case: bool) -> PathBuf {
    match path.to_str() {
        // Not exactly the table that NTFS uses, but as close as text comparison gets.
        Some(text) if one_case => PathBuf::from(text.to_lowercase()),
        _ => path.to_path_buf(),
    }
}

/// Returns why no file can have this path here, as the rest of a sentence about the key.
pub(in crate::config) fn fault(path: &Path) -> Option<String> {
    if !cfg!(windows) {
        return None;
    }
    path.components().find_map(|part| match part {
        Component::Normal(name) => fault_of(&name.to_string_lossy()),
        _ => None,
    })
}

/// Returns why Windows does not allow this name for a file or folder.
fn fault_of(name: &str) -> Option<String> {
    if let Some(bad) = name.chars().find(|c| c.is_control() || "<>:\"|?*".contains(*c)) {
        return Some(format!("contains {bad:?}, which Windows does not allow in a name"));
    }
    if name.ends_with(['.', ' ']) {
        return Some(format!(
            "contains {name:?}: Windows drops a dot or a space at the end of a name"
        ));
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_lowercase();
    let numbered = ["com", "lpt"].iter().any(|port| {
        stem.strip_prefix(port).is_some_and(|number| {
            let mut digits = number.chars();
            matches!((digits.next(), digits.next()), (Some('1'..='9' | '¹' | '²' | '³'), None))
        })
    });
    let device = numbered || DEVICE_NAMES.contains(&stem.as_str());
    device.then(|| format!("contains {name:?}, which is a device on Windows, with any extension"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_two_files_of_one_name_only_where_it_does() {
        let (upper, lower) =
            (Path::new("/Art/CONJURÉ/Flux.PNG"), Path::new("/art/conjuré/flux.png"));
        assert_eq!(key_on(upper, true), key_on(lower, true));
        assert_ne!(key_on(upper, false), key_on(lower, false));
        assert_eq!(key(upper) == key(lower), cfg!(any(windows, target_os = "macos")));
    }

    #[test]
    fn names_that_windows_keeps_for_itself_are_told_from_those_that_only_look_so() {
        for bad in [
            "CON",
            "nul.png",
            "Aux.tar.gz",
            "com1",
            "LPT9.glb",
            "COM².png",
            "con .png",
            "a.",
            "a ",
            "a:b",
            "what?",
            "tab\t",
        ] {
            assert!(fault_of(bad).is_some(), "{bad}");
        }
        for good in [
            "console.png",
            "com",
            "com0",
            "com10.png",
            "null.png",
            ".conjured",
            "a b.png",
            "flux.png",
        ] {
            assert_eq!(fault_of(good), None, "{good}");
        }
        assert_eq!(fault(Path::new("data/aux.png")).is_some(), cfg!(windows));
    }
}
