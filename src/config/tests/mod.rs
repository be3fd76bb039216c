//! Checks what a written configuration results in; one file per topic.

mod complaints;
mod defaults;
mod hostile;
mod layers;
mod legacy;
mod projects;

use std::path::{MAIN_SEPARATOR, PathBuf};

use super::{Loaded, errors::ConfigErrors, load, sources::Sources, values::folders::Folders};

/// A separate folder for every test, and sources that know nothing else: no environment, no
/// real home.
pub(super) struct ConfigFixture {
    /// The folder; it is removed when the value is dropped.
    pub dir: tempfile::TempDir,
    /// The sources to load from.
    pub sources: Sources,
}

impl ConfigFixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folders = Folders { home: Some("/home/ada".into()), current: dir.path().to_path_buf() };
        let default_state_dir = Some("/home/ada/.local/state/conjured".into());
        let sources = Sources { folders, default_state_dir, ..Sources::default() };
        Self { dir, sources }
    }

    /// Starts with a `config.toml`, given with `--config`.
    pub(super) fn with(text: &str) -> Self {
        let mut fixture = Self::new();
        fixture.sources.explicit = Some(fixture.write("config.toml", text.as_bytes()));
        fixture
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }

    pub(super) fn set(mut self, name: &str, text: &str) -> Self {
        self.sources.env.insert(name.to_owned(), text.to_owned());
        self
    }

    pub(super) fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.sources)
    }

    pub(super) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Returns the errors, without the temporary folder's name.
    pub(super) fn complaints(&self) -> String {
        let errors = self.load().expect_err("something is wrong");
        self.without_folder(&errors.to_string())
    }

    pub(super) fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}{MAIN_SEPARATOR}", self.dir.path().display()), "")
    }
}
