//! The sources of settings: files, environment and flags, as values that a test can choose.
//!
//! Owns the only access to the process itself ([`Sources::from_process`]). All other code gets a
//! [`Sources`] and never asks the process, so that tests can run in parallel.
//!
//! Also owns how layers of settings are merged, which the `config` crate does: tables are merged
//! key by key; everything else, including lists, is replaced by the later layer.
//! [`crate::config::load`] decides which layers there are, and their order.

pub mod origin;
pub mod dotenv;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod toml_source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use ::config::{ConfigError as MergeError, Map, Source, Value};
use directories::{BaseDirs, ProjectDirs};

use self::toml_source::{Table, table_of};
use super::values::folders::Folders;

/// Everything in which settings and tokens are looked for.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config FILE`; must exist.
    pub explicit: Option<PathBuf>,
    /// `--root DIR`: serve only this checkout.
    pub root: Option<PathBuf>,
    /// `--state-dir DIR`.
    pub state_dir: Option<PathBuf>,
    /// The environment variables.
    pub env: BTreeMap<String, String>,
    /// The machine's file; optional.
    pub system_file: Option<PathBuf>,
    /// The user's file; optional.
    pub user_file: Option<PathBuf>,
    /// The folders that `~` and relative paths resolve to.
    pub folders: Folders,
    /// The folder in which all programs keep their configuration; needed for the token of the
    /// official RunComfy command line.
    pub user_config_dir: Option<PathBuf>,
    /// The platform's state folder for conjured.
    pub default_state_dir: Option<PathBuf>,
    /// The platform's log folder for conjured, if it is not below the state folder.
    pub default_log_dir: Option<PathBuf>,
    /// Roots whose drives do not answer: nothing is looked for there.
    pub silent_roots: BTreeSet<PathBuf>,
    /// The path of this program, for a service to start.
    pub program: Option<PathBuf>,
}

impl fmt::Debug for Sources {
    /// Shows the variables' names without their values, because some are tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("explicit", &self.explicit)
            .field("root", &self.root)
            .field("state_dir", &self.state_dir)
            .field("env", &self.env.keys())
            .field("system_file", &self.system_file)
            .field("user_file", &self.user_file)
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Reads the process's environment, folders and user. The three arguments come from the
    /// command line.
    pub fn from_process(
        explicit: Option<PathBuf>,
        root: Option<PathBuf>,
        state_dir: Option<PathBuf>,
    ) -> Self {
        let env = std::env::vars_os()
            .map(|(name, value)| {
                // Windows ignores the case of these names, but keeps it as written.
                let name = name.to_string_lossy();
                let name = if cfg!(windows) { name.to_uppercase() } else { name.into_owned() };
                (name, value.to_string_lossy().into_owned())
            })
            .collect();
        let ours = ProjectDirs::from("", "", "conjured");
        let ours = ours.as_ref();
        let base = BaseDirs::new();
        let base = base.as_ref();
        let home = base.map(|base| base.home_dir().to_path_buf());
        let state = ours
            .map(|ours| ours.state_dir().unwrap_or_else(|| ours.data_local_dir()).to_path_buf());
        let logs = home.as_deref().filter(|_| cfg!(target_os = "macos"));
        Self {
            explicit,
            root,
            state_dir,
            env,
            system_file: cfg!(unix).then(|| PathBuf::from("/etc/conjured/config.toml")),
            user_file: ours.map(|ours| ours.config_dir().join("config.toml")),
            folders: Folders {
                // Without a working folder (it may have been deleted) relative paths stay relative.
                current: std::env::current_dir().unwrap_or_default(),
                home: home.clone(),
            },
            user_config_dir: base.map(|base| base.config_dir().to_path_buf()),
            default_state_dir: state,
            default_log_dir: logs.map(|home| home.join("Library/Logs/conjured")),
            silent_roots: BTreeSet::new(),
            program: std::env::current_exe().ok(),
        }
    }

    /// Returns a variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// Returns the path at which systemd puts a credential of this name, if it passes any.
    pub(super) fn credential(&self, name: &str) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join(name))
    }

    /// Returns the first folder in a variable that systemd may fill with several.
    pub(super) fn systemd_folder(&self, name: &str) -> Option<&Path> {
        self.variable(name)?.split(':').find(|folder| !folder.is_empty()).map(Path::new)
    }

    /// Lists the files to read, earlier layers first, and whether each must exist.
    pub(super) fn files(&self) -> Vec<(PathBuf, bool)> {
        let optional = [&self.system_file, &self.user_file].into_iter().flatten();
        let mut files: Vec<_> =
            optional.map(|file| (self.folders.on_command_line(file), false)).collect();
        if let Some(file) = &self.explicit {
            let file = self.folders.on_command_line(file);
            // If `--config` names it again, it is read once, as the last one.
            files.retain(|(other, _)| *other != file);
            files.push((file, true));
        }
        files
    }
}

/// One layer of settings: a table from one file or from the environment.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Layer {
    /// The settings, each with its origin.
    pub table: Table,
    /// Whether the user wrote it; false for the built-in defaults.
    pub by_user: bool,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, MergeError> {
        Ok(self.table.clone())
    }
}

/// Merges `layers`; later ones override earlier ones. Their keys were checked before, so that none
/// is an expression in the `config` crate's own language (`a.b`, `a[0]`).
pub(in crate::config) fn merge(layers: &[Layer]) -> Result<Table, MergeError> {
    let mut builder = ::config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    Ok(table_of(&builder.build()?.cache).cloned().unwrap_or_default())
}
