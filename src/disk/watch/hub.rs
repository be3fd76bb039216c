//! The watcher's ear: sorts each event into "wake that project", "something about its folders changed", or nothing.
//!
//! Runs on the watcher's own thread, up to 10 000 times a second. It never waits, never touches the disk, and
//! never holds a lock while it calls anybody: the one who changes the routes may be waiting for this very
//! thread.

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

/// How the name of a probe file goes on after [`TEMPORARY_PREFIX`].
pub(super) const PROBE: &str = "probe-";

/// A name in a watched folder, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: OsString,
    pub(super) project: ProjectIndex,
    /// Whether the name is the input itself (or what it waits for) rather than a folder on the way.
    pub(super) end: bool,
}

/// What is of interest in each watched folder.
pub(super) type Routes = HashMap<PathBuf, Vec<Route>>;

/// What the events since the last look say about the watches themselves.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Projects whose inputs may be reached on another way now.
    pub(super) suspects: BTreeSet<ProjectIndex>,
    /// Watched folders that were removed or renamed: their watch is void.
    pub(super) lost: BTreeSet<PathBuf>,
    /// Events were lost: nothing is sure.
    pub(super) everything: bool,
}

/// The place where events arrive.
pub(super) struct Hub {
    projects: usize,
    wake: Box<dyn Fn(ProjectIndex) + Send + Sync>,
    probe: SyncSender<()>,
    deaf: bool,
    routes: Mutex<Arc<Routes>>,
    marks: Mutex<Marks>,
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
            deaf,
            routes: Mutex::default(),
            marks: Mutex::default(),
            marked: AtomicBool::new(false),
        }
    }

    /// Replaces what is of interest.
    pub(super) fn publish(&self, routes: Routes) {
        *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Returns what was marked since the last call, if anything.
    pub(super) fn take_marks(&self) -> Option<Marks> {
        self.marked.swap(false, Ordering::AcqRel).then(|| {
            std::mem::take(&mut *self.marks.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Wakes one project.
    pub(super) fn wake(&self, project: ProjectIndex) {
        (self.wake)(project);
    }

    /// Takes in one event, or the watcher's own trouble.
    pub(super) fn hear(&self, event: notify::Result<Event>) {
        if self.deaf {
            return;
        }
        match event {
            Ok(event) if !event.need_rescan() => {
                if may_matter(event.kind) {
                    for path in &event.paths {
                        self.sort(path, event.kind);
                    }
                }
            }
            // An overflow or an error: nobody knows what was missed.
            Ok(_) | Err(_) => {
                self.mark(|marks| marks.everything = true);
                self.wake_all();
            }
        }
    }

    fn sort(&self, path: &Path, kind: EventKind) {
        let name = path.file_name().unwrap_or_default();
        if let Some(ours) = name.to_str().filter(|name| is_temporary(name)) {
            if ours.strip_prefix(TEMPORARY_PREFIX).is_some_and(|rest| rest.starts_with(PROBE)) {
                // A full channel has the news already.
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
        for route in beside.into_iter().flatten().filter(|route| may_be(&route.name, name)) {
            // New content of the input itself leads nowhere else. All the rest may: a folder came, a file
            // became a symlink.
            if !(route.end && is_content(kind)) {
                self.mark(|marks| {
                    marks.suspects.insert(route.project);
                });
            }
            self.wake(route.project);
        }
        if itself.is_none() && beside.is_none() {
            // From a folder whose watch was just taken back, or named in a way we did not expect.
            self.wake_all();
        }
    }

    fn mark(&self, change: impl FnOnce(&mut Marks)) {
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
        self.marked.store(true, Ordering::Release);
    }

    fn wake_all(&self) {
        (0..self.projects).for_each(|index| self.wake(ProjectIndex(index)));
    }
}

/// Our own reading opens and closes files; taking that for news would wake us for ever.
fn may_matter(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// New content, new permissions: the name still stands for the same thing.
fn is_content(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
    )
}

/// Compares generously: a needless look costs little. Where file names ignore case or are normalised (macOS,
/// Windows), an event may bear the name in another spelling.
fn may_be(wanted: &OsStr, name: &OsStr) -> bool {
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
        let route = |name: &str, project, end| Route {
            name: name.into(),
            project: ProjectIndex(project),
            end,
        };
        hub.publish(Routes::from([
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
        hub.hear(Ok(event(WRITTEN, "/p/data/text/prompt.txt")));
        hub.hear(Ok(event(WRITTEN, "/p/data/text/transcript.txt")));
        hub.hear(Ok(event(WRITTEN, "/p/data/other")));
        hub.hear(Ok(event(WRITTEN, "/q/prompt.txt")));
        assert_eq!(woken.try_iter().collect::<Vec<_>>(), [ProjectIndex(0), ProjectIndex(1)]);
        assert!(hub.take_marks().is_none(), "new content says nothing about the folders");
    }

    #[test]
    fn our_own_reading_wakes_nobody_and_a_closed_writer_does() {
        let (hub, woken, _probed) = hub();
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Read,
            AccessKind::Close(AccessMode::Read),
            AccessKind::Any,
        ] {
            hub.hear(Ok(event(EventKind::Access(access), "/q/prompt.txt")));
        }
        assert_eq!(woken.try_iter().count(), 0);
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        hub.hear(Ok(event(closed, "/q/prompt.txt")));
        assert_eq!(woken.try_iter().count(), 1);
    }

    #[test]
    fn an_overflow_or_an_error_wakes_everybody_and_doubts_everything() {
        let overflow = Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan));
        for trouble in [overflow, Err(notify::Error::generic("lost"))] {
            let (hub, woken, _probed) = hub();
            hub.hear(trouble);
            assert_eq!(woken.try_iter().count(), 2);
            assert!(hub.take_marks().is_some_and(|marks| marks.everything));
        }
    }

    #[test]
    fn a_folder_that_goes_or_comes_makes_its_project_suspect() {
        let (hub, woken, _probed) = hub();
        hub.hear(Ok(event(EventKind::Remove(RemoveKind::Folder), "/p/data/text")));
        let marks = hub.take_marks().expect("marked");
        assert!(marks.lost.contains(Path::new("/p/data/text")));
        assert!(marks.suspects.contains(&ProjectIndex(0)));
        assert!(woken.try_iter().count() > 0);

        hub.hear(Ok(event(EventKind::Create(CreateKind::File), "/q/prompt.txt")));
        let marks = hub.take_marks().expect("it may have become a symlink");
        assert_eq!(marks.suspects, BTreeSet::from([ProjectIndex(1)]));
        assert!(marks.lost.is_empty());
    }

    #[test]
    fn an_unknown_path_wakes_everybody() {
        let (hub, woken, _probed) = hub();
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::Any));
        hub.hear(Ok(event(renamed, "/somewhere/else")));
        assert_eq!(woken.try_iter().count(), 2);
    }

    #[test]
    fn our_temporary_files_wake_nobody_and_a_probe_is_reported() {
        let (hub, woken, probed) = hub();
        hub.hear(Ok(event(EventKind::Create(CreateKind::File), "/q/.conjured-x-0.part")));
        assert!(probed.try_recv().is_err());
        hub.hear(Ok(event(EventKind::Create(CreateKind::File), "/q/.conjured-probe-x.part")));
        hub.hear(Ok(event(EventKind::Remove(RemoveKind::File), "/q/.conjured-probe-x.part")));
        assert!(probed.try_recv().is_ok());
        assert_eq!(woken.try_iter().count(), 0);
    }
}
