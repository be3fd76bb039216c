//! Reads the configuration again, and takes over the projects that are new in it.
//!
//! Owns the reading: completely or not at all. What takes effect is decided by
//! [`super::super::state`].

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use super::{
    super::event::{Replies, TaskOutcome},
    projects::{LockAttempt, silent_roots, take_projects},
};
use crate::{
    config::{self, Loaded, settings::ProjectConfig, sources::Sources},
    daemon::services::{Services, runtime_config::RuntimeConfig, store::blocking},
    disk::{dirs, lock::Holder},
    domain::time::WallTime,
};

/// A valid configuration.
pub(crate) struct Reloaded {
    pub(crate) loaded: Loaded,
    pub(crate) runtime_config: RuntimeConfig,
    /// Its projects that were not served before.
    pub(crate) attempts: Vec<(ProjectConfig, LockAttempt)>,
}

/// Reads the configuration and brings it to life. A project whose drive does not answer is not
/// asked for a token.
async fn read(
    mut sources: Sources,
    old: Arc<RuntimeConfig>,
) -> Result<(Loaded, RuntimeConfig), String> {
    let own = sources.clone();
    let loaded = blocking(move || config::load(&own)).await.map_err(|errors| errors.to_string())?;
    sources.silent_roots = silent_roots(&loaded.config.projects).await;
    blocking(move || {
        // What `run` refuses at its start must not come in by the back door.
        let lost = |project: &&ProjectConfig| {
            loaded.default_project
                && !sources.silent_roots.contains(&project.root)
                && !dirs::is_dir(&project.root)
        };
        if let Some(project) = loaded.config.projects.first().filter(lost) {
            let root = project.root.display();
            return Err(format!("no project is configured any more, and {root} does not exist"));
        }
        let config = RuntimeConfig::new(loaded.config.clone(), &sources)
            .map_err(|error| error.to_string())?
            .reuse(&old);
        Ok((loaded, config))
    })
    .await
}

/// Reads the configuration and takes over its projects that are not in `known_roots`.
pub(crate) async fn reload(
    services: Arc<Services>,
    sources: Sources,
    old: Arc<RuntimeConfig>,
    known_roots: BTreeSet<PathBuf>,
    holder: Holder,
    now: WallTime,
    replies: Replies,
) -> TaskOutcome {
    let result = match read(sources, old).await {
        Ok((loaded, config)) => {
            let is_new = |project: &&ProjectConfig| !known_roots.contains(&project.root);
            let new = loaded.config.projects.iter().filter(is_new).cloned().collect();
            let attempts = take_projects(&services, new, &holder, now).await;
            Ok(Reloaded { loaded, runtime_config: config, attempts })
        }
        Err(errors) => Err(errors),
    };
    TaskOutcome::Reloaded(Box::new(result), replies)
}
