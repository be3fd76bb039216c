//! The flow of a run that succeeded: from its files to history, the public names and CONJURE.
//!
//! Owns the promises that what was paid for is kept, that nothing of a cancelled job is placed, and
//! that a job without a usable mesh places nothing. What a usable file is, [`crate::mesh`] and
//! [`crate::picture`] decide.

use std::time::Duration;

use super::{
    Do, End, EndReason, JobRecord, World, control, reach, retry_wait,
    world::{Access, PlaceFault, WaitFor, Whereabouts},
};
use crate::{
    job::{JobState, artifact::ArtifactKind, control::JobControl},
    time::Moment,
};

/// When a disk that does not answer is asked again.
const DISK_RECHECK: Duration = Duration::from_secs(10);

/// Decides about a run whose files are known.
pub(super) fn fetch(now: Moment, record: &JobRecord, world: &World) -> Do {
    if world.stopping {
        return Do::Suspend;
    }
    let is_cancelled = control(record, world) == JobControl::Cancel;
    let (mut bad_image, mut is_incomplete) = (None, false);
    for kind in ArtifactKind::ALL {
        let tries = world.seen.fetch(kind);
        match (world.artifacts.at(kind), tries.given_up) {
            (Whereabouts::InHistory, _) => continue,
            (Whereabouts::Unreadable, _) => return wait_for_disk(now),
            (_, Some(fault)) if kind == ArtifactKind::Image => {
                // The mesh was paid for too: it is kept in history before the job ends without
                // being shown.
                bad_image = Some(EndReason::Artifact(kind, fault));
                continue;
            }
            (_, Some(fault)) => {
                let reason = bad_image.unwrap_or(EndReason::Artifact(kind, fault));
                return End::failed(reason, record.booking_of_run());
            }
            // Only the mesh is placed then.
            (Whereabouts::Nowhere, None) if kind == ArtifactKind::Image => continue,
            (Whereabouts::Nowhere, None) if !tries.stale_url => {
                let reason = bad_image.unwrap_or(EndReason::NoMesh);
                return End::failed(reason, record.booking_of_run());
            }
            (Whereabouts::Nowhere | Whereabouts::Listed, None) => {}
        }
        // The result of a cancelled job is fetched all the same, because it was paid for, but with
        // one try for each file, and without waiting for a configuration.
        if is_cancelled && world.access == Access::Unconfigured {
            return cancelled_too_late(record);
        }
        if is_cancelled && tries.failures + tries.invalid > 0 {
            is_incomplete = true;
            continue;
        }
        if let Some(first) = reach(now, world) {
            return first;
        }
        if let Some(wait) = retry_wait(now, world) {
            return wait;
        }
        return if tries.stale_url { Do::AskResult } else { Do::Fetch(kind) };
    }
    match bad_image {
        _ if is_incomplete => cancelled_too_late(record),
        Some(reason) => End::failed(reason, record.booking_of_run()),
        None => retry_wait(now, world).unwrap_or(Do::RecordFetched),
    }
}

/// Decides about artifacts in history that are not visible yet.
pub(super) fn place(now: Moment, record: &JobRecord, world: &World) -> Do {
    let there = world.artifacts;
    if there.image == Whereabouts::Unreadable || there.mesh == Whereabouts::Unreadable {
        return if world.stopping { Do::Suspend } else { wait_for_disk(now) };
    }
    if there.mesh != Whereabouts::InHistory {
        return End::failed(EndReason::HistoryLost, record.booking_of_run());
    }
    if let Some(fault) = world.seen.place {
        let reason = match fault {
            PlaceFault::SourceLost => EndReason::HistoryLost,
            PlaceFault::OwnFolder | PlaceFault::Targets => EndReason::Place(fault),
        };
        return End::failed(reason, record.booking_of_run());
    }
    // A cancel is final before `placing`, whatever comes after it.
    if record.state == JobState::Fetched {
        return if control(record, world) == JobControl::Cancel {
            cancelled_too_late(record)
        } else {
            Do::MarkPlacing
        };
    }
    match retry_wait(now, world) {
        // The result is safe in history; the next session places it.
        Some(_) if world.stopping => Do::Suspend,
        Some(wait) => wait,
        None => Do::Place,
    }
}

/// Decides about artifacts that every public name shows.
pub(super) fn hand_over(record: &JobRecord, world: &World) -> Do {
    let is_wanted = record.state == JobState::HandingOver || world.hands_over;
    if record.own_folder || world.seen.handed_over || !is_wanted {
        let booking = record.booking_of_run();
        return Do::End(End { state: JobState::Done, reason: None, booking });
    }
    if world.stopping { Do::Suspend } else { Do::HandOff }
}

/// Waits until the disk answers again: what is in history was paid for.
fn wait_for_disk(now: Moment) -> Do {
    Do::Wait(Some(now.plus(DISK_RECHECK)), WaitFor::Disk)
}

/// Ends a job that a person cancelled before its result was placed, although the run had finished:
/// it was paid for, so it is kept and booked, and never shown.
fn cancelled_too_late(record: &JobRecord) -> Do {
    End::cancelled(EndReason::CancelledTooLate, record.booking_of_run())
}
