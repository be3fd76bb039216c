//! What is watched: every project's inputs, and the files of the configuration.
//!
//! Owns the list and what an event for its entries means. How folders are watched belongs
//! to [`crate::disk::watch`].

use std::{collections::BTreeMap, sync::Arc};

use super::{project_state::Served, wake_queue::Wakes};
use crate::{
    config::{Loaded, enums::Watch},
    disk::watch::{ProjectIndex, WatchMode, WatchedInputs, Watcher},
    domain::engine::event::ProjectId,
};

/// What is watched: the projects in order, then the configuration's files.
pub(crate) struct Watched {
    inputs: Vec<WatchedInputs>,
    ids: Vec<ProjectId>,
}

pub(crate) fn watched(served: &BTreeMap<ProjectId, Served>, loaded: &Loaded) -> Watched {
    let (mut inputs, mut ids) = (Vec::new(), Vec::new());
    for (id, project) in served {
        ids.push(*id);
        inputs.push(WatchedInputs {
            root: project.config.root.clone(),
            prompt: project.config.prompt.clone(),
            render: project.config.render.clone(),
        });
    }
    for file in loaded.files.iter().chain(&loaded.absent) {
        // A missing folder is not watched for a configuration that may never be created.
        let Some(root) = file.parent().filter(|root| root.is_dir()) else { continue };
        inputs.push(WatchedInputs {
            root: root.to_path_buf(),
            prompt: file.clone(),
            render: file.clone(),
        });
    }
    Watched { inputs, ids }
}

/// Starts watching; returns the warnings as sentences.
pub(crate) fn watch(
    watched: Watched,
    mode: WatchMode,
    wakes: &Arc<Wakes>,
) -> (Watcher, Vec<String>) {
    let Watched { inputs, ids } = watched;
    let wakes = Arc::clone(wakes);
    let (watcher, warnings) =
        Watcher::new(inputs, mode, move |ProjectIndex(index)| match ids.get(index) {
            Some(id) => wakes.project(*id),
            None => wakes.config(),
        });
    (watcher, warnings.into_iter().map(|warning| warning.reason.to_string()).collect())
}

pub(crate) const fn watch_mode(watch: Watch) -> WatchMode {
    match watch {
        Watch::Auto => WatchMode::Auto,
        Watch::Native => WatchMode::Native,
        Watch::Poll => WatchMode::Poll,
    }
}
