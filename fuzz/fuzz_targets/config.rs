//! A configuration file with any content.
//!
//! Besides "no panic": every complaint has a text, and what is accepted is accepted again with the
//! same result.

#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use conjured::config::{load, sources::Sources};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|data: &[u8]| {
    let file = FOLDER.path().join("config.toml");
    std::fs::write(&file, data).expect("writes");
    let mut sources = Sources { explicit: Some(file), ..Sources::default() };
    sources.folders.current = FOLDER.path().to_path_buf();
    sources.folders.home = Some(FOLDER.path().to_path_buf());
    sources.default_state_dir = Some(PathBuf::from(FOLDER.path()));
    match load(&sources) {
        Ok(loaded) => assert_eq!(load(&sources).expect("as before"), loaded),
        Err(errors) => assert!(!errors.to_string().trim().is_empty()),
    }
});
