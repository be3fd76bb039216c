//! The watcher: which folders are watched, which should be, and which projects are polled instead.
//!
//! Owns the native watcher and the repair of its watches; [`super::hub`] owns the meaning
//! of events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{
    PollReason, ProjectIndex, WatchMode, WatchWarning, WatchedInputs,
    hub::{self, Hub, WatchRoute, WatchRoutes},
    identity::{Identity, identity},
    kind::{self, FsKind},
    poll::PollState,
    watch_points::{WatchPoint, watch_points},
};
use crate::{
    disk::drive::reach,
    domain::{
        job::placement::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX},
        time::Moment,
    },
};

/// How long the probe waits for the event of its own file. A native event comes within
/// a millisecond.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// How often folders may appear or vanish while they are being watched before the rest is left to
/// the next call.
const MAX_PASSES: usize = 8;

/// The properties of this machine, replaceable so that a test can have a machine without watches or
/// with a network drive.
#[derive(Clone, Copy)]
pub(super) struct WatchPlatform {
    pub(super) kind_of: fn(&Path) -> FsKind,
    pub(super) watch_limit: usize,
    pub(super) no_native_events: bool,
}

impl WatchPlatform {
    pub(super) const CURRENT: Self =
        Self { kind_of: kind::kind_of, watch_limit: usize::MAX, no_native_events: false };
}

/// Watches the inputs of all projects.
pub struct Watcher {
    hub: Arc<Hub>,
    native: Option<RecommendedWatcher>,
    unavailable: Option<PollReason>,
    probed: mpsc::Receiver<()>,
    /// The result of the probe for each device.
    probe_results: HashMap<u64, bool>,
    mode: WatchMode,
    platform: WatchPlatform,
    /// Projects whose drives do not answer.
    unresponsive: BTreeSet<ProjectIndex>,
    projects: Vec<WatchedProject>,
    folders: HashMap<PathBuf, WatchedFolder>,
    /// The next folder for [`Self::refresh_one`].
    next_refresh: usize,
}

struct WatchedProject {
    inputs: WatchedInputs,
    watch_points: Vec<WatchPoint>,
    /// Why its drive cannot be watched, if so.
    drive: Option<PollReason>,
    polled: Option<PolledProject>,
}

struct PolledProject {
    /// `None` if polling is configured.
    reason: Option<PollReason>,
    state: PollState,
}

/// A folder that is watched, or should be.
#[derive(Default)]
struct WatchedFolder {
    /// Whether it contains an input or the first missing part of a path. Otherwise it is a parent
    /// folder, which is less important.
    is_endpoint: bool,
    /// The identity of the folder when it was watched; `None` while it is not.
    watched: Option<Identity>,
    problem: Option<PollReason>,
}

impl Watcher {
    /// Watches `projects`, and calls `wake` from the watcher's thread or from [`Self::poll`]
    /// whenever an input may have changed. `wake` must be fast (it may be called 10 000 times a
    /// second), must not wait and must not call the watcher.
    ///
    /// It never fails: what cannot be watched is polled, and the warnings say what and why.
    ///
    /// The projects `aside` are left alone: their drives do not answer, and whoever asked them
    /// would wait for ever.
    pub fn new(
        projects: Vec<WatchedInputs>,
        mode: WatchMode,
        unresponsive: BTreeSet<ProjectIndex>,
        wake: impl Fn(ProjectIndex) + Send + Sync + 'static,
    ) -> (Self, Vec<WatchWarning>) {
        Self::with_platform(WatchPlatform::CURRENT, projects, mode, unresponsive, wake)
    }

    pub(super) fn with_platform(
        machine: WatchPlatform,
        projects: Vec<WatchedInputs>,
        mode: WatchMode,
        unresponsive: BTreeSet<ProjectIndex>,
        wake: impl Fn(ProjectIndex) + Send + Sync + 'static,
    ) -> (Self, Vec<WatchWarning>) {
        let (probe, probed) = mpsc::sync_channel(1);
        let hub = Arc::new(Hub::new(projects.len(), wake, probe, machine.no_native_events));
        let projects = projects
            .into_iter()
            .map(|inputs| WatchedProject {
                inputs: inputs.absolute(),
                watch_points: Vec::new(),
                drive: None,
                polled: None,
            })
            .collect();
        let mut watcher = Self {
            hub,
            native: None,
            unavailable: None,
            probed,
            probe_results: HashMap::new(),
            mode,
            platform: machine,
            unresponsive,
            projects,
            folders: HashMap::new(),
            next_refresh: 0,
        };
        let warnings = watcher.rebuild();
        (watcher, warnings)
    }

    /// Repairs what the events since the last call broke: folders that were created, removed or
    /// renamed. Costs almost nothing if there is nothing to repair. Must be called after each wake,
    /// *before* the inputs are read.
    pub fn repair(&mut self) -> Vec<WatchWarning> {
        let Some(marks) = self.hub.take_marks() else { return Vec::new() };
        if marks.everything {
            return self.rebuild();
        }
        for lost in &marks.lost {
            self.drop_watches(lost);
        }
        self.add_watches(&marks.suspects)
    }

    /// Checks and repairs everything, including what causes no event: an unmounted drive, a renamed
    /// root, a raised watch limit.
    pub fn rebuild(&mut self) -> Vec<WatchWarning> {
        let lost = self.hub.take_marks().map(|marks| marks.lost).unwrap_or_default();
        for folder in &lost {
            self.drop_watches(folder);
        }
        self.start_native();
        for (path, folder) in &mut self.folders {
            // What was refused before is tried again.
            folder.problem = None;
            if folder.watched.is_some() && folder.watched != identity(path) {
                Self::unwatch(self.native.as_mut(), path);
                folder.watched = None;
            }
        }
        self.refresh_one();
        let all = (0..self.projects.len()).map(ProjectIndex).collect();
        self.add_watches(&all)
    }

    /// Returns whether any project needs [`Self::poll`].
    pub fn is_polling(&self) -> bool {
        self.projects.iter().any(|project| project.polled.is_some())
    }

    /// Returns for each project, in the given order, whether it is polled.
    pub fn polled(&self) -> Vec<bool> {
        self.projects.iter().map(|project| project.polled.is_some()).collect()
    }

    /// Checks the inputs of every polled project and wakes those that changed.
    pub fn poll(&mut self, now: Moment) {
        for (index, project) in self.projects.iter_mut().enumerate() {
            let aside = self.unresponsive.contains(&ProjectIndex(index));
            if !aside && project.polled.as_mut().is_some_and(|polled| polled.state.check(now)) {
                self.hub.wake(ProjectIndex(index));
            }
        }
    }

    /// Starts the native watcher if it is wanted and not running: the system's limit may have
    /// been raised.
    fn start_native(&mut self) {
        if self.native.is_some() || self.mode == WatchMode::Poll {
            return;
        }
        let ears = Arc::clone(&self.hub);
        match notify::recommended_watcher(move |event| ears.on_event(event)) {
            Ok(native) => {
                self.native = Some(native);
                self.unavailable = None;
            }
            Err(error) => {
                self.unavailable = Some(PollReason::Unavailable { reason: error.to_string() });
            }
        }
    }

    /// Renews one watch. A watch can be lost without an event and without a trace (a drive that was
    /// unmounted and mounted again, on a kernel that reuses mount numbers). inotify treats a second
    /// watch of the same folder as the first one, so on Linux one folder per call is watched again;
    /// renewing all at once would wake the watcher's thread a thousand times for nothing.
    fn refresh_one(&mut self) {
        let Some(native) = self.native.as_mut().filter(|_| cfg!(target_os = "linux")) else {
            return;
        };
        let armed = self.folders.values().filter(|folder| folder.watched.is_some()).count();
        let turn = self.next_refresh.checked_rem(armed).unwrap_or(0);
        self.next_refresh = turn + 1;
        let next = self.folders.iter_mut().filter(|(_, folder)| folder.watched.is_some()).nth(turn);
        if let Some((path, folder)) = next
            && watch(native, path).is_err()
        {
            folder.watched = None;
        }
    }

    /// Drops the watches of a folder and of all folders below it: if a folder is renamed, their
    /// watches are lost, too, without an event.
    fn drop_watches(&mut self, lost: &Path) {
        for (path, folder) in self.folders.iter_mut().filter(|(path, _)| path.starts_with(lost)) {
            folder.watched = None;
            Self::unwatch(self.native.as_mut(), path);
        }
    }

    /// Removes a watch. An error means that the watch is already gone, which is what was wanted.
    fn unwatch(native: Option<&mut RecommendedWatcher>, path: &Path) {
        if let Some(native) = native {
            let _ = native.unwatch(path);
        }
    }

    /// Finds out where `projects` must be watched and watches there, until nothing
    /// changes meanwhile.
    fn add_watches(&mut self, projects: &BTreeSet<ProjectIndex>) -> Vec<WatchWarning> {
        if self.native.is_some() {
            for _ in 0..MAX_PASSES {
                let moved = self.find_watch_points(projects);
                let waiting =
                    self.folders.values().any(|f| f.watched.is_none() && f.problem.is_none());
                if !moved && !waiting {
                    break;
                }
                // Routes first, so that an event between the two is not lost.
                self.publish();
                self.watch_folders();
            }
        }
        self.choose_polling()
    }

    /// Updates where the inputs of `projects` can be noticed. Returns whether anything changed.
    fn find_watch_points(&mut self, projects: &BTreeSet<ProjectIndex>) -> bool {
        let mut moved = false;
        for ProjectIndex(index) in projects.difference(&self.unresponsive.clone()) {
            let Some(inputs) = self.projects.get(*index).map(|project| &project.inputs) else {
                continue;
            };
            let mut found: Vec<WatchPoint> =
                inputs.files().iter().flat_map(|file| watch_points(&inputs.root, file)).collect();
            found.sort_unstable();
            found.dedup();
            if found != self.projects[*index].watch_points {
                self.projects[*index].drive = self.unwatchable_reason(&found);
                self.projects[*index].watch_points = found;
                moved = true;
            }
        }
        moved
    }

    /// Returns why the drives of an input cannot be watched, if so.
    fn unwatchable_reason(&mut self, watch_points: &[WatchPoint]) -> Option<PollReason> {
        if self.mode != WatchMode::Auto {
            return None;
        }
        watch_points.iter().filter(|point| point.is_endpoint).find_map(|point| {
            let folder = point.folder.clone();
            match (self.platform.kind_of)(&folder) {
                FsKind::Local => None,
                FsKind::Remote(kind) => Some(PollReason::RemoteDrive { folder, kind }),
                // Probe files are created only in the input's own folder, never in a parent folder
                // of a missing path.
                FsKind::Unknown => (point.is_input && !self.probe(&folder))
                    .then_some(PollReason::NoEvents { folder }),
            }
        })
    }

    /// Tests whether a file created in `folder` causes an event. If we may not write there, it is
    /// assumed to.
    fn probe(&mut self, folder: &Path) -> bool {
        let device = identity(folder).map(|identity| identity.device);
        if let Some(verdict) = device.and_then(|device| self.probe_results.get(&device)) {
            return *verdict;
        }
        let Some(native) = self.native.as_mut() else { return true };
        if native.watch(folder, RecursiveMode::NonRecursive).is_err() {
            // It is watched again later, where the error is handled.
            return true;
        }
        while self.probed.try_recv().is_ok() {}
        let made = tempfile::Builder::new()
            .prefix(&format!("{TEMPORARY_PREFIX}{}", hub::PROBE_PREFIX))
            .suffix(TEMPORARY_SUFFIX)
            .tempfile_in(folder);
        let Ok(file) = made else { return true };
        drop(file);
        let heard = self.probed.recv_timeout(PROBE_TIMEOUT).is_ok();
        if !heard && !self.folders.contains_key(folder) {
            Self::unwatch(self.native.as_mut(), folder);
        }
        if let Some(device) = device {
            self.probe_results.insert(device, heard);
        }
        heard
    }

    fn watched(&self) -> impl Iterator<Item = (ProjectIndex, &WatchedProject)> {
        let projects = self.projects.iter().enumerate();
        projects
            .filter(|(_, project)| project.drive.is_none())
            .map(|(index, project)| (ProjectIndex(index), project))
    }

    fn publish(&self) {
        let mut routes = WatchRoutes::new();
        for (project, point) in self
            .watched()
            .flat_map(|(index, project)| project.watch_points.iter().map(move |s| (index, s)))
        {
            let route =
                WatchRoute { name: point.name.clone(), project, is_endpoint: point.is_endpoint };
            routes.entry(point.folder.clone()).or_default().push(route);
        }
        self.hub.publish(routes);
    }

    /// Makes the set of watched folders match the spots. The inputs' own folders come first,
    /// because they matter most if watches are scarce.
    fn watch_folders(&mut self) {
        let mut wanted: BTreeMap<&Path, bool> = BTreeMap::new();
        for point in self.watched().flat_map(|(_, project)| &project.watch_points) {
            *wanted.entry(&point.folder).or_default() |= point.is_endpoint;
        }
        let wanted: Vec<(PathBuf, bool)> =
            wanted.into_iter().map(|(folder, end)| (folder.to_path_buf(), end)).collect();
        let keep: BTreeSet<&Path> = wanted.iter().map(|(folder, _)| folder.as_path()).collect();
        let native = &mut self.native;
        self.folders.retain(|path, folder| {
            let kept = keep.contains(path.as_path());
            if !kept && folder.watched.is_some() {
                Self::unwatch(native.as_mut(), path);
            }
            kept
        });
        let mut armed = self.folders.values().filter(|folder| folder.watched.is_some()).count();
        let (ends, ways): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, end)| *end);
        for (path, end) in ends.into_iter().chain(ways) {
            let folder = self.folders.entry(path.clone()).or_default();
            folder.is_endpoint = end;
            if folder.watched.is_some() || folder.problem.is_some() {
                continue;
            }
            // The identity from before the watch: a folder swapped in between is found at the
            // next check.
            let there = identity(&path);
            let tried = match self.native.as_mut() {
                Some(native) if armed < self.platform.watch_limit => watch(native, &path),
                Some(_) => Err(PollReason::LimitReached),
                None => continue,
            };
            match tried {
                Ok(()) => folder.watched = there,
                Err(trouble) => folder.problem = Some(trouble),
            }
            armed += usize::from(folder.watched.is_some());
        }
    }

    /// Decides for each project whether it is polled, and reports those whose polling starts for a
    /// reason other than the configuration.
    fn choose_polling(&mut self) -> Vec<WatchWarning> {
        let mut warnings: BTreeMap<PollReason, Vec<ProjectIndex>> = BTreeMap::new();
        for (index, project) in self.projects.iter_mut().enumerate() {
            let trouble = project
                .watch_points
                .iter()
                .filter(|point| point.is_endpoint)
                .find_map(|point| self.folders.get(&point.folder)?.problem.clone());
            let reason = self.unavailable.clone().or_else(|| project.drive.clone()).or(trouble);
            if reason.is_none() && self.mode != WatchMode::Poll {
                project.polled = None;
                continue;
            }
            let known = project.polled.as_ref().is_some_and(|polled| polled.reason == reason);
            if let Some(reason) = reason.clone().filter(|_| !known) {
                warnings.entry(reason).or_default().push(ProjectIndex(index));
            }
            let state = match project.polled.take() {
                Some(polled) => polled.state,
                None => PollState::new(&project.inputs),
            };
            project.polled = Some(PolledProject { reason, state });
        }
        let warning = |(reason, projects)| WatchWarning { projects, reason };
        warnings.into_iter().map(warning).collect()
    }
}

fn watch(native: &mut RecommendedWatcher, folder: &Path) -> Result<(), PollReason> {
    reach(folder);
    native.watch(folder, RecursiveMode::NonRecursive).map_err(|error| match error.kind {
        notify::ErrorKind::MaxFilesWatch => PollReason::LimitReached,
        _ => PollReason::Refused { folder: folder.to_path_buf(), reason: error.to_string() },
    })
}
