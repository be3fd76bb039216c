//! Removes what a crash left in folders that are not ours: our temporary files, and nothing else.
//!
//! Owns the removal of `.conjured-*.part` files directly in the given folders, and of files whose
//! names the caller recognises. Our own folders (history, quarantine) have their own cleanup.
//! Called at start, by the holder of the project's lock, before anything is placed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{DiskError, drive::reach},
    domain::job::placement::is_temporary,
    failpoint::{self, Point},
};

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct SweepResult {
    /// The files that were removed.
    pub removed: Vec<PathBuf>,
    /// What could not be read or removed. Harmless: it is tried again at the next start.
    pub faults: Vec<DiskError>,
}

/// Removes our temporary files from `folders`, except those whose name `keep` accepts. Never
/// removes a folder, the target of a symlink, or a file with another name.
pub fn sweep(folders: &[PathBuf], keep: impl Fn(&str) -> bool) -> SweepResult {
    let mut swept = SweepResult::default();
    for folder in folders {
        if let Err(fault) = sweep_one(folder, &keep, &mut swept) {
            swept.faults.push(fault);
        }
    }
    swept
}

/// Removes the regular files directly in `folder` whose names `ours` accepts. Files that cannot be
/// removed stay; a missing folder is not an error.
pub fn remove(folder: &Path, ours: impl Fn(&str) -> bool) {
    reach(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let claimed = entry.file_name().to_str().is_some_and(&ours);
        if claimed && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            // The caller accepts that the file may stay.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sweep_one(
    folder: &Path,
    keep: &impl Fn(&str) -> bool,
    swept: &mut SweepResult,
) -> Result<(), DiskError> {
    reach(folder);
    let entries = match fs::read_dir(folder) {
        Err(error)
            // Wine returns the last one if the folder is a file.
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(());
        }
        entries => entries.map_err(DiskError::at("list", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(DiskError::at("list", folder))?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| is_temporary(name) && !keep(name));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        match failpoint::around(Point::Sweep, || fs::remove_file(&path)) {
            Ok(()) => swept.removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                swept.faults.push(DiskError::at("remove the temporary file", &path)(error));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_left_overs_go() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| temp.path().join(name);
        let strangers = [
            "a.glb",
            ".conjured-x.glb",
            ".part",
            "x.part",
            ".conjured-keep.part",
            ".conjured.lock",
        ];
        for name in strangers.iter().chain(&[".conjured-a-0.part", ".conjured-b-1.part"]) {
            fs::write(path(name), b"").expect("writes");
        }
        fs::create_dir(path(".conjured-folder.part")).expect("makes");
        #[cfg(unix)]
        std::os::unix::fs::symlink(path("a.glb"), path(".conjured-link.part")).expect("links");

        let folders = [temp.path().to_path_buf(), path("none"), path("a.glb")];
        let mut swept = sweep(&folders, |name| name == ".conjured-keep.part");
        swept.removed.sort();
        assert_eq!(swept.removed, [path(".conjured-a-0.part"), path(".conjured-b-1.part")]);
        assert!(swept.faults.is_empty(), "{:?}", swept.faults);
        assert!(strangers.iter().all(|name| path(name).exists()));
        assert!(path(".conjured-folder.part").is_dir());
        #[cfg(unix)]
        assert!(path(".conjured-link.part").is_symlink());
    }
}
