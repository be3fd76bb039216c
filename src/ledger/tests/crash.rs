//! Kills at any point: what was announced is there, what was half written is not.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::job::JobState,
    ledger::rows::{Booking, JobFilter, Reason},
};

/// Returns every step of a job, each with the state that must be found after a kill right after it.
fn steps() -> Vec<(JobState, Step)> {
    vec![
        (JobState::Submitting, |l, job| l.leaves(job, at(2)).expect("submitting")),
        (JobState::Submitted, |l, job| l.submitted(job, &request(1), at(3)).expect("submitted")),
        (JobState::Running, |l, job| {
            l.running(job, Some("machine-a"), None, at(4)).expect("running");
        }),
        (JobState::Running, |l, job| {
            l.outputs_known(job, &[remote_file()], at(5), at(5)).expect("outputs");
        }),
        (JobState::Fetched, |l, job| l.fetched(job, &artifacts(job), at(6)).expect("fetched")),
        (JobState::Placing, |l, job| l.placing(job, at(7)).expect("placing")),
        (JobState::Placed, |l, job| l.placed(job, at(8)).expect("placed")),
        (JobState::HandingOver, |l, job| l.handing_over(job, "marker", at(9)).expect("handing")),
        (JobState::Done, |l, job| {
            l.done(job, cents(3), duration_of(1, 2, false), at(10)).expect("done");
        }),
    ]
}

type Step = fn(&mut Ledger, JobId);

#[test]
fn each_step_is_found_again_after_a_kill_right_behind_it() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::PreparedOnly);
    let elsewhere = tempfile::tempdir().expect("a folder");
    for (number, (state, step)) in steps().into_iter().enumerate() {
        step(&mut fixture.ledger, job);
        let expected = fixture.ledger.details(job).expect("a story");
        let left = elsewhere.path().join(format!("{number}.sqlite"));
        copy_as_after_a_kill(&fixture.path(), &left, None);
        let found = Ledger::open(&left).expect("the ledger opens again");
        assert_eq!(found.details(job).expect("a story"), expected);
        assert_eq!(found.job(job).expect("a row").state, state);
        let open = found.unfinished().expect("rows");
        assert_eq!(open.len(), usize::from(!state.is_final()));
        if state == JobState::Running {
            assert_eq!(open[0].request, Some(request(1)), "it can be followed");
        }
        assert_eq!(
            found.outputs(job).expect("no error"),
            fixture.ledger.outputs(job).expect("same")
        );
    }
}

#[test]
fn a_lost_answer_becomes_unknown_once_and_keeps_its_money() {
    let mut fixture = LedgerFixture::new();
    let prepared = fixture.release(1, ReleaseMode::PreparedOnly);
    let lost = fixture.release(2, ReleaseMode::Submitting);
    let followed = fixture.release(3, ReleaseMode::Submitting);
    fixture.ledger.submitted(followed, &request(3), at(3)).expect("submitted");
    let LedgerFixture { folder, ledger, session, .. } = fixture;
    drop(ledger);
    let mut again = Ledger::open(&folder.path().join("ledger.sqlite")).expect("opens");
    assert_eq!(again.mark_lost_answers(at(9)).expect("marked"), [lost]);
    assert_eq!(again.mark_lost_answers(at(10)).expect("marked"), []);
    let open: Vec<_> = again.unfinished().expect("rows").into_iter().map(|row| row.id).collect();
    assert_eq!(open, [prepared, followed]);
    let row = again.job(lost).expect("a row");
    assert_eq!((row.state, row.booked, row.ended_at), (JobState::Unknown, None, Some(at(9))));
    assert_eq!(row.reason.expect("a reason").code, "lost_answer");
    assert_eq!(again.spent(session, &windows()).expect("sums").session, cents(30));
    assert!(again.leaves(lost, at(11)).is_err(), "never sent again by itself");
}

#[test]
fn a_commit_is_on_the_disk_before_its_step_goes_on() {
    let fixture = LedgerFixture::new();
    let setting = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        fixture.ledger.connection.query_row(&sql, [], |row| row.get(0)).expect("a setting")
    };
    assert_eq!(setting("journal_mode"), "wal");
    assert_eq!(setting("synchronous"), "2", "FULL: the log is synced at each commit");
    assert_eq!(setting("foreign_keys"), "1");
}

#[test]
fn the_log_is_emptied_while_a_machine_works() {
    let mut fixture = LedgerFixture::new();
    let log = fixture.path().with_extension("sqlite-wal");
    for number in 1..=40 {
        fixture.finish(number, duration_of(1, 2, false));
    }
    let bytes = fs::metadata(log).expect("the log is there").len();
    assert!(bytes < 1_000_000, "{bytes} bytes after 40 jobs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A power failure in the middle of a write: the log ends at any byte. The job is then
    /// completely in some earlier state.
    #[test]
    fn a_log_that_was_cut_anywhere_gives_an_earlier_state_whole(cut in 0.0_f64..1.0) {
        let mut fixture = LedgerFixture::new();
        fixture.ledger.checkpoint().expect("the beginning is in the file");
        let job = fixture.release(1, ReleaseMode::Submitting);
        fixture.ledger.submitted(job, &request(1), at(2)).expect("submitted");
        let reason = Reason::new("x", "y");
        fixture.ledger.failed(job, &reason, Booking::Cost(cents(4)), at(3)).expect("failed");
        let log = fs::metadata(fixture.path().with_extension("sqlite-wal")).expect("a log").len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a share of a small file")]
        let keep = (log as f64 * cut) as usize;
        let left = fixture.folder.path().join("left.sqlite");
        copy_as_after_a_kill(&fixture.path(), &left, Some(keep));
        let found = Ledger::open(&left).expect("opens");
        found.check().expect("nothing is torn");
        match found.details(job) {
            Err(_) => prop_assert!(found.jobs(&JobFilter::default()).expect("rows").is_empty()),
            Ok(details) => {
                let last = details.events.last().expect("a story has an end");
                prop_assert_eq!(&*last.kind, details.job.state.name());
                prop_assert_eq!(details.attempts.len(), 1);
                prop_assert_eq!(details.job.booked.is_some(), details.job.state == JobState::Failed);
            }
        }
    }
}
