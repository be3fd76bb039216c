//! Looks at the disk for the loop: scans of inputs, the check for hands, the check of the watches.
//!
//! Owns the blocking work. When it is due is decided by [`super::super::state`].

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::super::{
    action::WatchesToCheck,
    event::{TaskOutcome, WatchCheck},
};
use crate::{
    clock::Clock,
    daemon::{
        inputs::scan::{InputReader, StampCheck},
        services::{Services, store::blocking},
    },
    disk::{
        read::{self, ReadOutcome},
        watch::{WatchWarning, Watcher},
    },
    domain::{
        blender::handoff::HANDS_FILE,
        engine::event::ProjectId,
        inputs::{hand_tracking, prompt::IgnorePatterns},
        time::WallTime,
    },
};

/// The watcher; only used on the blocking pool, because its user may wait for a drive.
pub(crate) type SharedWatcher = Arc<Mutex<Option<Watcher>>>;

/// A larger `fingertips.json` is not one: CONJURE's has 2 KB.
const MAX_HANDS: u64 = 1024 * 1024;

/// Scans a project's inputs.
pub(crate) async fn scan(
    mut reader: InputReader,
    ignore: Arc<IgnorePatterns>,
    watcher: SharedWatcher,
) -> TaskOutcome {
    blocking(move || {
        // Repair the watches first: later changes then arrive as events.
        let repaired = repair_watches(&watcher);
        let scan = reader.scan(&ignore, Clock.now().moment);
        let (was_repaired, warnings) = (repaired.is_some(), repaired.unwrap_or_default());
        TaskOutcome::Scanned(Box::new((reader, scan)), warnings, was_repaired)
    })
    .await
}

/// Checks for hands in the picture of the project with this root.
pub(crate) async fn check_hands(root: std::path::PathBuf) -> TaskOutcome {
    let path = root.join(HANDS_FILE);
    blocking(move || {
        let seen = match read::read_complete(&path, MAX_HANDS) {
            Ok(ReadOutcome::Complete { bytes, stamp }) => {
                let millis = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(0);
                let modified = WallTime::from_unix_millis(millis);
                hand_tracking::hand_in_picture(&bytes, modified, Clock.now().wall)
            }
            Ok(ReadOutcome::Changing) => true,
            Ok(ReadOutcome::Missing) | Err(_) => false,
        };
        TaskOutcome::Hands(seen)
    })
    .await
}

/// Checks the watches, and polls where polling is needed. An event can be lost, so the disk is
/// compared. A thousand projects are compared in one task: a scan for each would wake an idle
/// machine a thousand times.
pub(crate) async fn check_watches(
    services: Arc<Services>,
    watcher: SharedWatcher,
    wanted: WatchesToCheck,
) -> TaskOutcome {
    let WatchesToCheck { generation, all, stamp_checks, locks, now } = wanted;
    blocking(move || {
        let mut warnings = Vec::new();
        let mut guard = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = guard.as_mut().map(|watcher| {
            if all {
                warnings = warning_texts(watcher.rebuild());
            }
            if watcher.is_polling() {
                watcher.poll(now);
            }
            watcher.polled()
        });
        drop(guard);
        let differ = |(id, check): &(ProjectId, StampCheck)| check.differs().then_some(*id);
        let changed = stamp_checks.iter().filter_map(differ).collect();
        // A lock that is gone lets a second daemon pay for the same changes.
        let lock_status = |id: ProjectId| Some((id, services.root_locks.check_now(id)?));
        let lock_statuses = locks.into_iter().filter_map(lock_status).collect();
        let polled = polled.unwrap_or_default();
        let checked = WatchCheck { generation, warnings, polled, changed, lock_statuses };
        TaskOutcome::WatchesChecked(Box::new(checked))
    })
    .await
}

/// Repairs the watches. Returns `None` if another task holds the watcher, which may be waiting for
/// a drive.
fn repair_watches(watcher: &Mutex<Option<Watcher>>) -> Option<Vec<String>> {
    let mut guard = match watcher.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(guard.as_mut().map(|watcher| warning_texts(watcher.repair())).unwrap_or_default())
}

fn warning_texts(warnings: Vec<WatchWarning>) -> Vec<String> {
    warnings.into_iter().map(|warning| warning.reason.to_string()).collect()
}
