//! Handles the watcher's events: maps each to "wake that project", "something about its folders
//! changed", or nothing.
//!
//! Runs on the watcher's own thread, up to 10 000 times a second. It never waits, never touches the
//! disk, and never holds a lock during a call: a thread that changes the routes may be waiting for
//! this one.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::ProjectIndex;
use crate::domain::job::placement::{TEMPORARY_PREFIX, is_temporary};

/// The part of a probe file's name that follows [`TEMPORARY_PREFIX`].
pub(super) const PROBE_PREFIX: &str = "probe-";

/// A name in a watched folder, and the project that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct WatchRoute {
    pub(super) name: OsString,
    pub(super) project: ProjectIndex,
    /// Whether the name is the input itself (or the first missing part of its path) rather than a
    /// parent folder.
    pub(super) is_endpoint: bool,
}

/// The relevant names in each watched folder.
pub(super) type WatchRoutes = HashMap<PathBuf, Vec<WatchRoute>>;

/// What the events since the last call say about the watches themselves.
#[derive(Debug, Default)]
pub(super) struct RepairMarks {
    /// Projects whose inputs may now have another path.
    pub(super) suspects: BTreeSet<ProjectIndex>,
    /// Watched folders that were removed or renamed: their watch is void.
    pub(super) lost: BTreeSet<PathBuf>,
    /// Events were lost, so anything may have changed.
    pub(super) everything: bool,
}

pub(super) struct Hub {
    projects: usize,
    wake: Box<dyn Fn(ProjectIndex) + Send + Sync>,
    probe: SyncSender<()>,
    no_native_events: bool,
    routes: Mutex<Arc<WatchRoutes>>,
    marks: Mutex<RepairMarks>,
    marked: AtomicBool,
}

impl Hub {
    pub(super) fn new(
        projects: usize,
        wake: impl Fn(ProjectIndex) + Send + Sync + 'static,
        probe: SyncSender<()>,
        deaf: bool,
    ) -> Self {
        Self {
            projects,
            wake: Box::new(wake),
            probe,
            no_native_events: deaf,
            routes: Mutex::default(),
            marks: Mutex::default(),
            marked: AtomicBool::new(false),
        }
    }

    pub(super) fn publish(&self, routes: WatchRoutes) {
        *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Returns the marks since the last call, if there are any.
    pub(super) fn take_marks(&self) -> Option<RepairMarks> {
        self.marked.swap(false, Ordering::AcqRel).then(|| {
            std::mem::take(&mut *self.marks.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    pub(super) fn wake(&self, project: ProjectIndex) {
        (self.wake)(project);
    }

    /// Handles one event, or an error of the watcher.
    pub(super) fn on_event(&self, event: notify::Result<Event>) {
        if self.no_native_events {
            return;
        }
        match event {
            Ok(event) if !event.need_rescan() => {
                if is_relevant(event.kind) {
                    for path in &event.paths {
                        self.route_event(path, event.kind);
                    }
                }
            }
            // An overflow or an error: it is unknown what was missed.
            Ok(_) | Err(_) => {
                self.mark(|marks| marks.everything = true);
                self.wake_all();
            }
        }
    }

    fn route_event(&self, path: &Path, kind: EventKind) {
        let name = path.file_name().unwrap_or_default();
        if let Some(ours) = name.to_str().filter(|name| is_temporary(name)) {
            if ours
                .strip_prefix(TEMPORARY_PREFIX)
                .is_some_and(|rest| rest.starts_with(PROBE_PREFIX))
            {
                // If the channel is full, it already contains this message.
                let _ = self.probe.try_send(());
            }
            return;
        }
        let routes = Arc::clone(&self.routes.lock().unwrap_or_else(PoisonError::into_inner));
        let itself = routes.get(path);
        if let Some(all) = itself {
            self.mark(|marks| {
                marks.suspects.extend(all.iter().map(|route| route.project));
                if !is_content(kind) {
                    marks.lost.insert(path.to_path_buf());
                }
            });
            for route in all {
                self.wake(route.project);
            }
        }
        let beside = path.parent().and_then(|folder| routes.get(folder));
        for route in beside.into_iter().flatten().filter(|route| names_match(&route.name, name)) {
            // New content of the input itself does not change its path. Everything else may: a
            // folder was created, or a file became a symlink.
            if !(route.is_endpoint && is_content(kind)) {
                self.mark(|marks| {
                    marks.suspects.insert(route.project);
                });
            }
            self.wake(route.project);
        }
        if itself.is_none() && beside.is_none() {
            // An event of a folder that was just unwatched, or with an unexpected path.
            self.wake_all();
        }
    }

    fn mark(&self, change: impl FnOnce(&mut RepairMarks)) {
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
        self.marked.store(true, Ordering::Release);
    }

    fn wake_all(&self) {
        (0..self.projects).for_each(|index| self.wake(ProjectIndex(index)));
    }
}

/// Returns whether an event may mean a change. Our own reading opens and closes files; if that
/// counted, it would wake us for ever.
fn is_relevant(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Returns whether only the content or the permissions are new: the path still leads to the
/// same file.
fn is_content(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
    )
}

/// Compares names loosely, because an unnecessary look costs little. If file names ignore case or
/// are normalised (macOS, Windows), an event may contain another spelling of the name.
fn names_match(wanted: &OsStr, name: &OsStr) -> bool {
    wanted.eq_ignore_ascii_case(name)
        || (cfg!(not(target_os = "linux")) && !(wanted.is_ascii() && name.is_ascii()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel, sync_channel};

    use notify::event::{CreateKind, DataChange, Flag, RemoveKind, RenameMode};

    use super::*;

    fn hub() -> (Hub, Receiver<ProjectIndex>, Receiver<()>) {
        let (wakes, woken) = channel();
        let (probe, probed) = sync_channel(1);
        let wake = move |project| wakes.send(project).expect("the test listens");
        let hub = Hub::new(2, wake, probe, false);
        let route = |name: &str, project, end| WatchRoute {
            name: name.into(),
            project: ProjectIndex(project),
            is_endpoint: end,
        };
        hub.publish(WatchRoutes::from([
            ("/p/data".into(), vec![route("text", 0, false)]),
            ("/p/data/text".into(), vec![route("prompt.txt", 0, true)]),
            ("/q".into(), vec![route("prompt.txt", 1, true)]),
        ]));
        (hub, woken, probed)
    }

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[test]
    fn an_event_wakes_exactly_the_project_whose_name_it_bears() {
        let (hub, woken, _probed) = hub();
        hub.on_event(Ok(event(WRITTEN, "/p/data/text/prompt.txt")));
        hub.on_event(Ok(event(WRITTEN, "/p/data/text/transcript.txt")));
        hub.on_event(Ok(event(WRITTEN, "/p/data/other")));
        hub.on_event(Ok(event(WRITTEN, "/q/prompt.txt")));
        assert_eq!(woken.try_iter().collect::<Vec<_>>(), [ProjectIndex(0), ProjectIndex(1)]);
        assert!(hub.take_marks().is_none(), "new content says nothing about the folders");
    }

    #[test]
    fn our_own_reading_wakes_no_project_and_a_closed_writer_does() {
        let (hub, woken, _probed) = hub();
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
            AccessKind::Any,
        ] {
            hub.on_event(Ok(event(EventKind::Access(access), "/q/prompt.txt")));
        }
        assert_eq!(woken.try_iter().count(), 0);
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        hub.on_event(Ok(event(closed, "/q/prompt.txt")));
        assert_eq!(woken.try_iter().count(), 1);
    }

    #[test]
    fn an_overflow_or_an_error_wakes_everybody_and_doubts_everything() {
        let overflow = Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan));
        for trouble in [overflow, Err(notify::Error::generic("lost"))] {
            let (hub, woken, _probed) = hub();
            hub.on_event(trouble);
            assert_eq!(woken.try_iter().count(), 2);
            assert!(hub.take_marks().is_some_and(|marks| marks.everything));
        }
    }

    #[test]
    fn a_folder_that_goes_or_comes_makes_its_project_suspect() {
        let (hub, woken, _probed) = hub();
        hub.on_event(Ok(event(EventKind::Remove(RemoveKind::Folder), "/p/data/text")));
        let marks = hub.take_marks().expect("marked");
        assert!(marks.lost.contains(Path::new("/p/data/text")));
        assert!(marks.suspects.contains(&ProjectIndex(0)));
        assert!(woken.try_iter().count() > 0);

        hub.on_event(Ok(event(EventKind::Create(CreateKind::File), "/q/prompt.txt")));
        let marks = hub.take_marks().expect("it may have become a symlink");
        assert_eq!(marks.suspects, BTreeSet::from([ProjectIndex(1)]));
        assert!(marks.lost.is_empty());
    }

    #[test]
    fn an_unknown_path_wakes_everybody() {
        let (hub, woken, _probed) = hub();
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Any));
        hub.on_event(Ok(event(renamed, "/somewhere/else")));
        assert_eq!(woken.try_iter().count(), 2);
    }

    #[test]
    fn our_temporary_files_wake_no_project_and_a_probe_is_reported() {
        let (hub, woken, probed) = hub();
        hub.on_event(Ok(event(EventKind::Create(CreateKind::File), "/q/.conjured-x-0.part")));
        assert!(probed.try_recv().is_err());
        hub.on_event(Ok(event(EventKind::Create(CreateKind::File), "/q/.conjured-probe-x.part")));
        hub.on_event(Ok(event(EventKind::Remove(RemoveKind::File), "/q/.conjured-probe-x.part")));
        assert!(probed.try_recv().is_ok());
        assert_eq!(woken.try_iter().count(), 0);
    }
}
