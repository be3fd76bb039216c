//! Damaged and foreign files, and readers that must leave no trace.

use std::{collections::BTreeMap, sync::LazyLock};

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::ledger::{
    Reader,
    error::{OpenError, StoreError},
    open::VERSION,
    rows::JobFilter,
};

/// Calls every query. Answers and errors are both fine; a panic is not.
fn ask_everything(reader: &Reader, session: SessionId, job: JobId) {
    let graph = Fingerprint::of(b"graph");
    drop(reader.check());
    drop(reader.unfinished());
    drop(reader.jobs(&JobFilter::default()));
    drop(reader.details(job));
    drop(reader.find("01"));
    drop(reader.outputs(job));
    drop(reader.projects());
    drop(reader.audits(10));
    drop(reader.spent(session, &windows()));
    drop(reader.learned("serverless", &graph));
    drop(reader.last_activity("deployment-a"));
    drop(reader.find_same_work(&graph, &graph));
}

/// The result of [`sound_bytes`], computed once for all cases.
static SOUND: LazyLock<(Vec<u8>, SessionId, JobId)> = LazyLock::new(sound_bytes);

/// Returns a closed ledger with one finished and one unfinished job, as bytes.
fn sound_bytes() -> (Vec<u8>, SessionId, JobId) {
    let mut fixture = LedgerFixture::new();
    let job = fixture.finish(1, duration_of(1, 2, true));
    fixture.release(2, ReleaseMode::Submitting);
    let LedgerFixture { folder, ledger, session, .. } = fixture;
    drop(ledger);
    let bytes = fs::read(folder.path().join("ledger.sqlite")).expect("a file");
    (bytes, session, job)
}

fn with_file<T>(bytes: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    fs::write(&path, bytes).expect("written");
    look(&path)
}

#[test]
fn what_is_no_database_is_called_damaged_and_left_as_it_is() {
    let letter = b"this is a letter, not a ledger. ".repeat(64);
    // SQLite itself takes a file of one byte for an empty one.
    for rubbish in [letter, b"x".to_vec(), b"xy".to_vec()] {
        with_file(&rubbish, |path| {
            let write = Ledger::open(path).map(drop);
            let read = Ledger::open_read_only(path).map(drop);
            for result in [write, read] {
                let error = result.expect_err("it is no ledger");
                assert!(matches!(error, OpenError::Store(StoreError::Corrupt { .. })), "{error:?}");
                assert!(error.to_string().contains("move it"), "{error}");
            }
            assert_eq!(fs::read(path).expect("still there"), rubbish);
        });
    }
}

#[test]
fn a_newer_ledger_is_refused_with_both_versions_and_left_as_it_is() {
    let (bytes, ..) = &*SOUND;
    with_file(bytes, |path| {
        let raw = Connection::open(path).expect("opens");
        raw.pragma_update(None, "user_version", 99).expect("set");
        drop(raw);
        let before = fs::read(path).expect("bytes");
        let write = Ledger::open(path).map(drop);
        let read = Ledger::open_read_only(path).map(drop);
        for result in [write, read] {
            let error = result.expect_err("too new");
            assert!(
                matches!(error, OpenError::Newer { found: 99, known: VERSION, .. }),
                "{error:?}"
            );
        }
        assert_eq!(fs::read(path).expect("bytes"), before);
    });
}

#[test]
fn a_ledger_from_before_the_first_release_is_refused_with_a_way_on_and_left_as_it_is() {
    let (bytes, ..) = &*SOUND;
    for found in 1..VERSION {
        with_file(bytes, |path| {
            let raw = Connection::open(path).expect("opens");
            raw.pragma_update(None, "user_version", found).expect("set");
            drop(raw);
            let before = fs::read(path).expect("bytes");
            let write = Ledger::open(path).map(drop);
            let read = Ledger::open_read_only(path).map(drop);
            for result in [write, read] {
                let error = result.expect_err("too old");
                assert!(matches!(error, OpenError::Older { known: VERSION, .. }), "{error:?}");
                let text = error.to_string();
                let says = |part: &str| assert!(text.contains(part), "{text}");
                says(&path.display().to_string());
                says("nothing was changed or sent");
                says("to begin anew, move it");
            }
            assert_eq!(fs::read(path).expect("bytes"), before);
        });
    }
}

#[test]
fn another_program_s_database_is_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    let raw = Connection::open(&path).expect("opens");
    raw.execute_batch("CREATE TABLE job (mine)").expect("made");
    drop(raw);
    let error = Ledger::open(&path).expect_err("not ours");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_held_ledger_is_called_locked() {
    let mut fixture = LedgerFixture::new();
    let other = Connection::open(fixture.path()).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("held");
    fixture.ledger.connection.busy_timeout(Duration::ZERO).expect("set");
    let error = fixture.ledger.begin_session("test", at(1)).expect_err("locked");
    assert!(error.to_string().contains("locked by another process"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_ledger_that_was_moved_away_releases_nothing_until_it_is_back() {
    for suffix in ["sqlite", "sqlite-wal"] {
        let mut fixture = LedgerFixture::new();
        let sent = fixture.release(1, ReleaseMode::Submitting);
        let path = fixture.path().with_extension(suffix);
        let away = path.with_extension("away");
        fs::rename(&path, &away).expect("moved");
        let windows = windows();
        let refused = fixture
            .ledger
            .release(
                &fixture.new_job(2),
                &BudgetLimits::default(),
                &windows,
                ReleaseMode::Submitting,
            )
            .expect_err("it would be forgotten");
        assert!(refused.to_string().contains("put it back"), "{suffix}: {refused}");
        // A request that was sent is recorded in the open file in any case: the job is finished in
        // this session.
        fixture.ledger.submitted(sent, &request(1), at(2)).expect("the open file takes it");

        fs::rename(&away, &path).expect("moved back");
        fixture.release(2, ReleaseMode::PreparedOnly);
        drop(fixture.ledger);
        let reader = Ledger::open(&fixture.folder.path().join("ledger.sqlite")).expect("opens");
        assert_eq!(reader.unfinished().expect("rows").len(), 2, "{suffix}: both are in the file");
    }
}

#[cfg(unix)]
#[test]
fn a_path_longer_than_sqlite_takes_is_called_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x".repeat(200)).join("y".repeat(200)).join("z".repeat(100));
    let error = Ledger::open(&path).expect_err("too long");
    assert!(matches!(error, OpenError::TooLong { .. }), "{error:?}");
}

#[test]
fn opening_again_changes_nothing() {
    let (bytes, ..) = &*SOUND;
    with_file(bytes, |path| {
        drop(Ledger::open(path).expect("opens"));
        assert_eq!(fs::read(path).expect("bytes"), *bytes);
    });
}

#[cfg(unix)]
#[test]
fn the_ledger_and_its_log_are_for_this_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = LedgerFixture::new();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    for suffix in ["sqlite", "sqlite-wal", "sqlite-shm"] {
        assert_eq!(mode(&fixture.path().with_extension(suffix)), 0o600, "{suffix}");
    }
    let path = fixture.path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("loosened");
    drop(Ledger::open(&path).expect("opens"));
    assert_eq!(mode(&path), 0o600, "tightened again");
}

/// Returns every file of a folder with its content, except for SQLite's lock table, which every
/// reader writes to.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    let bytes = |path: &Path| match path.extension() {
        Some(extension) if extension == "sqlite-shm" => Vec::new(),
        _ => fs::read(path).expect("readable"),
    };
    entries.map(|path| (path.clone(), bytes(&path))).collect()
}

#[test]
fn a_reader_leaves_no_trace_with_and_without_a_daemon() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.finish(1, duration_of(1, 2, true));
    let folder = fixture.folder.path().to_owned();
    let look = |when: &str| {
        let before = contents(&folder);
        let reader = Ledger::open_read_only(&folder.join("ledger.sqlite")).expect("opens");
        assert_eq!(reader.details(job).expect("a story").artifacts.len(), 2);
        drop(reader);
        assert_eq!(contents(&folder), before, "{when}");
    };
    look("beside a daemon");
    fixture.release(2, ReleaseMode::PreparedOnly);
    let LedgerFixture { folder: _keep, ledger, .. } = fixture;
    look("beside a daemon that has written");
    drop(ledger);
    look("after the daemon");
}

#[test]
fn a_reader_sees_what_a_running_daemon_has_just_written() {
    let mut fixture = LedgerFixture::new();
    let reader = Ledger::open_read_only(&fixture.path()).expect("opens");
    let job = fixture.release(1, ReleaseMode::Submitting);
    assert_eq!(reader.unfinished().expect("rows").len(), 1);
    assert_eq!(reader.job(job).expect("a row"), fixture.ledger.job(job).expect("a row"));
}

#[test]
fn a_reader_of_nothing_says_so_and_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Ledger::open_read_only(&folder.path().join("ledger.sqlite")).expect_err("nothing");
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    assert_eq!(contents(folder.path()).len(), 0);
    let error = Ledger::open(&folder.path().join("no/ledger.sqlite")).expect_err("no folder");
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
}

// No name on Windows may contain a question mark.
#[cfg(unix)]
#[test]
fn a_strange_folder_name_is_only_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let strange = folder.path().join("50% off? #1 é");
    fs::create_dir(&strange).expect("made");
    let path = strange.join("ledger.sqlite");
    drop(Ledger::open(&path).expect("opens"));
    assert_eq!(Ledger::open_read_only(&path).expect("opens").unfinished().expect("rows"), []);
    assert_eq!(contents(&strange).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_bytes_are_an_error_or_an_answer_and_never_a_panic(
        flips in prop::collection::vec((0.0_f64..1.0, any::<u8>()), 1..40), keep in 0.3_f64..1.3,
    ) {
        let (mut bytes, session, job) = SOUND.clone();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a share of a small file")]
        let share = |of: usize, part: f64| (of as f64 * part) as usize;
        bytes.truncate(share(bytes.len(), keep));
        for (place, value) in flips {
            let index = share(bytes.len(), place);
            bytes[index] = value;
        }
        with_file(&bytes, |path| {
            if let Ok(reader) = Ledger::open_read_only(path) {
                ask_everything(&reader, session, job);
            }
            if let Ok(mut ledger) = Ledger::open(path) {
                ask_everything(&ledger, session, job);
                drop(ledger.mark_lost_answers(at(9)));
                drop(ledger.rate(job, 3, "", at(9)));
            }
        });
    }

    #[test]
    fn arbitrary_bytes_are_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        with_file(&bytes, |path| {
            drop(Ledger::open_read_only(path));
            let opened = Ledger::open(path).is_ok();
            // An empty file is an empty ledger; random bytes are not.
            assert_eq!(opened, bytes.is_empty());
        });
    }
}
