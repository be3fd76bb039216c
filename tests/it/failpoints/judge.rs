//! What must be true after a death and the restart, whatever the point: requests, money, files, the
//! ledger itself.
//!
//! Owns the verdict. It knows what the README promises, not how that is implemented.

use std::collections::BTreeSet;

use conjured::{
    domain::{
        job::{JobState, placement::is_temporary},
        money::MicroUsd,
    },
    ledger::{FILE, Ledger},
};

use super::{Case, Play, Step, Weather};
use crate::support::stage::{DemoProject, files_below};

/// A machine's last second is billed in full, and its first and last moments are between two polls:
/// two seconds of a machine that costs less than 2.50 USD per hour.
const UNSEEN: MicroUsd = MicroUsd(1400);

/// Fails the test with the first broken promise.
#[track_caller]
pub(super) fn judge(stage: &DemoProject, case: Case) {
    let stats = stage.service.stats();
    let jobs = stage.jobs();

    // Nothing is paid twice: no prompt reached the service in two requests.
    let mut said = BTreeSet::new();
    for request in &stats.requests {
        assert!(said.insert(&request.prompt), "`{}` was taken in twice", request.prompt);
    }
    assert_eq!(stats.authorization_leaks, 0);

    // No paid result is lost: every job with a request id has ended as it should, with
    // its artifacts.
    let expected = |message: &str| {
        case.steps().into_iter().find_map(|step| match step {
            Step::Say(said, state) | Step::Ends(said, state) if said == message => Some(state),
            Step::Cancel(said) if said == message => Some(JobState::Cancelled),
            _ => None,
        })
    };
    let mut unknown = 0;
    for job in &jobs {
        let message = job.prompt_excerpt.as_str();
        let same: Vec<_> = stats.requests.iter().filter(|r| r.prompt == message).collect();
        if job.state == JobState::Unknown {
            unknown += 1;
            assert_eq!(job.request, None, "`{message}` is unknown although its id was stored");
            assert!(job.reserved > MicroUsd::ZERO, "the money of `{message}` was not reserved");
            assert_eq!(job.booked, None, "the money of `{message}` does not count as spent");
            continue;
        }
        // The reason for a cancel is known to the session that sent it; the next one only sees that
        // the job was cancelled.
        let replaced =
            job.state == JobState::Cancelled && expected(message) == Some(JobState::Replaced);
        assert!(
            replaced || Some(job.state) == expected(message),
            "`{message}` is `{}`: {:?}",
            job.state,
            job.reason
        );
        let id = job.request.as_ref().map(ToString::to_string);
        let paid = job.backend == "serverless";
        if let Some(id) = id.as_ref().filter(|_| paid) {
            assert!(same.iter().any(|request| request.id == *id), "`{message}` has another's id");
        }
        let spent = job.booked.unwrap_or(job.reserved);
        match job.state {
            JobState::Done if !paid => assert_eq!(spent, MicroUsd::ZERO, "`{message}` was refused"),
            JobState::Done if id.is_some() => {
                assert!(spent > MicroUsd::ZERO, "`{message}` was free");
            }
            JobState::Done => assert_eq!(spent, MicroUsd::ZERO, "`{message}` came from the cache"),
            JobState::Failed => assert!(spent > MicroUsd::ZERO, "`{message}` ran and was free"),
            // No machine ever ran them. If the end was not observed, that is unknown, and an upper
            // bound stays booked.
            JobState::Cancelled | JobState::Replaced => {}
            other => assert!(!other.is_final(), "`{message}` is `{other}`"),
        }
        // The booked amount is never below the service's bill, except for the seconds that polling
        // cannot observe.
        let billed: MicroUsd = same.iter().map(|request| request.billed).sum();
        assert!(spent + UNSEEN >= billed, "`{message}` cost {billed} and {spent} is on the books");
        if job.state == JobState::Done {
            for name in ["prompt.txt", "render.png", "image.png", "mesh.glb", "job.json"] {
                let path = stage.state_dir().join("history").join(job.id.to_string()).join(name);
                assert!(path.is_file(), "{name} of `{message}` is not in history");
            }
        }
    }
    let lost = usize::from(case.weather == Weather::AnswerLost)
        + usize::from(case.play() == Play::AnswerLost);
    let most = lost + usize::from(case.in_the_hole());
    assert!(unknown <= most, "{unknown} jobs are unknown, at most {most} may be");

    // Every sum of money in the ledger is the sum of its jobs, and SQLite finds no damage.
    let reader = Ledger::open_read_only(&stage.state_dir().join(FILE)).expect("opens");
    reader.check().expect("the ledger is sound");

    // Files: complete, and without leftovers.
    if jobs.iter().any(|job| job.state == JobState::Done) {
        stage.assert_public_whole();
    }
    assert_eq!(stage.leftovers(), Vec::<std::path::PathBuf>::new());
    let left: Vec<_> = files_below(&stage.state_dir())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| is_temporary(&name.to_string_lossy())))
        .collect();
    assert!(left.is_empty(), "left in the state folder: {left:?}");
}
