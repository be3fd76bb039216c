//! Builds a watcher from a list of projects and files, without the drives that do not answer.
//!
//! Owns this step only. What is watched is decided by [`super::super::state`], how folders are
//! watched by [`crate::disk::watch`].

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use crate::{
    daemon::{
        inputs::wake_queue::WakeQueue,
        services::{
            drives::{ANSWER_TIMEOUT, ask_all},
            store::{PendingWork, blocking, blocking_within},
        },
    },
    disk::{
        dirs,
        watch::{ProjectIndex, WatchMode, WatchedInputs, Watcher},
    },
    domain::engine::event::ProjectId,
};

/// A watcher to build.
#[derive(Debug)]
pub(crate) struct WatchRequest {
    /// Its number.
    pub(crate) generation: u64,
    /// The projects, and whether the drive of each is known not to answer.
    pub(crate) projects: Vec<(ProjectId, WatchedInputs, bool)>,
    /// The files of the configuration.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) mode: WatchMode,
}

/// The result of a [`WatchRequest`].
pub(crate) struct BuiltWatcher {
    pub(crate) generation: u64,
    pub(crate) watcher: Watcher,
    /// Which of the watched are polled; the projects come first, in their order.
    pub(crate) polled: Vec<bool>,
    pub(crate) warnings: Vec<String>,
    /// Projects whose drives do not answer.
    pub(crate) silent: Vec<(ProjectId, PendingWork<()>)>,
}

/// Builds a watcher of the projects whose drives answer.
pub(crate) async fn build_watcher(
    request: WatchRequest,
    wake_queue: Arc<WakeQueue>,
) -> BuiltWatcher {
    let WatchRequest { generation, projects, files, mode } = request;
    let mut asked = Vec::new();
    for (id, inputs, is_silent) in &projects {
        let (id, inputs) = (*id, inputs.clone());
        if !is_silent {
            asked.push(async move {
                let answer = blocking_within(ANSWER_TIMEOUT, move || inputs.reach()).await;
                answer.err().map(|late| (id, late))
            });
        }
    }
    let silent: Vec<_> = ask_all(asked).await.into_iter().flatten().collect();
    let aside: BTreeSet<ProjectIndex> = projects
        .iter()
        .enumerate()
        .filter(|(_, (id, _, known))| *known || silent.iter().any(|(silent, _)| silent == id))
        .map(|(index, _)| ProjectIndex(index))
        .collect();
    let ids: Vec<ProjectId> = projects.iter().map(|(id, _, _)| *id).collect();
    let mut inputs: Vec<_> = projects.into_iter().map(|(_, inputs, _)| inputs).collect();
    let made = blocking(move || {
        // A missing folder is not watched for a configuration that may never be created.
        let there = files.into_iter().filter_map(|file| {
            let root = file.parent().filter(|root| dirs::is_dir(root))?.to_path_buf();
            Some(WatchedInputs { root, prompt: file.clone(), render: file })
        });
        inputs.extend(there);
        Watcher::new(inputs, mode, aside, move |ProjectIndex(index)| match ids.get(index) {
            Some(id) => wake_queue.project(*id),
            None => wake_queue.config(),
        })
    });
    let (watcher, warnings) = made.await;
    let polled = watcher.polled();
    let warnings = warnings.into_iter().map(|warning| warning.reason.to_string()).collect();
    BuiltWatcher { generation, watcher, polled, warnings, silent }
}
