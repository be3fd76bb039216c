//! Atomic rename with retries: Windows refuses while another program has the target open.
//!
//! Owns the retries. On Unix an open file does not block a rename, so the first try is the only
//! one. On Windows a program that opened the target without sharing its deletion (Python and most C
//! programs do) blocks it for as long as it reads, and so do scanners that look at every new file;
//! both usually finish within a moment. If the target is still blocked after that, the error is
//! returned and the caller decides.

use std::{fs, io, path::Path, time::Duration};

use tempfile::NamedTempFile;

/// The delays between tries, 1.99 s in all: the first ones for scanners, the last ones for a
/// program that reads a mesh.
const RETRY_WAITS: [Duration; 8] = {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [ms(10), ms(20), ms(40), ms(80), ms(160), ms(320), ms(560), ms(800)]
};

/// Windows' `ERROR_ACCESS_DENIED`. Also returned for a file that is being deleted, or mapped
/// into memory.
const ACCESS_DENIED: i32 = 5;

/// Windows' `ERROR_SHARING_VIOLATION`: another program has the file open and does not share it.
const SHARING_VIOLATION: i32 = 32;

/// Windows' `ERROR_LOCK_VIOLATION`: another program has locked a part of the file.
const LOCK_VIOLATION: i32 = 33;

/// Renames `from` to `to`, replacing a file of that name. Blocks for up to two seconds while
/// another program has it open.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    retry(|| fs::rename(from, to))
}

/// Runs another file operation with the same retries.
pub(super) fn retry<T>(attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry_while(attempt, is_transient)
}

/// Retries an operation, as [`rename`] does, while its error may be temporary.
pub(super) fn retry_while<T, E>(
    attempt: impl FnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    with_retries(attempt, may_pass, wait)
}

/// Renames a temporary file, as [`rename`] does. If that fails, the temporary file is removed.
pub(super) fn persist(file: NamedTempFile, to: &Path) -> io::Result<()> {
    let mut waiting = Some(file);
    retry(|| match waiting.take() {
        Some(file) => file.persist(to).map(drop).map_err(|refused| {
            waiting = Some(refused.file);
            refused.error
        }),
        None => Ok(()),
    })
}

/// Returns whether an error means that another program has the file open, for an unknown time.
pub(super) fn is_held_open(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(SHARING_VIOLATION | LOCK_VIOLATION))
}

/// Returns whether an error may be gone in a moment.
pub(super) fn is_transient(error: &io::Error) -> bool {
    is_held_open(error) || (cfg!(windows) && error.raw_os_error() == Some(ACCESS_DENIED))
}

fn wait(span: Duration) {
    // Threads of the blocking pool are never unparked; an early return would only mean one
    // more try.
    std::thread::park_timeout(span);
}

fn with_retries<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    in_the_way: impl Fn(&E) -> bool,
    mut wait: impl FnMut(Duration),
) -> Result<T, E> {
    for span in RETRY_WAITS {
        match attempt() {
            Err(error) if in_the_way(&error) => wait(span),
            ended => return ended,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with `code` for the first `times` tries. Returns the result, the number of tries, and
    /// the delays.
    fn try_against(code: i32, times: usize) -> (io::Result<()>, usize, Vec<Duration>) {
        let (mut tries, mut waits) = (0, Vec::new());
        let attempt = || {
            tries += 1;
            if tries > times { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
        };
        let in_the_way = |error: &io::Error| error.raw_os_error() == Some(SHARING_VIOLATION);
        let ended = with_retries(attempt, in_the_way, |span| waits.push(span));
        (ended, tries, waits)
    }

    #[test]
    fn a_file_in_use_is_retried_ever_slower_for_two_seconds_and_then_reported() {
        let (ended, tries, waits) = try_against(SHARING_VIOLATION, usize::MAX);
        assert_eq!(ended.expect_err("never").raw_os_error(), Some(SHARING_VIOLATION));
        assert_eq!((tries, waits.len()), (9, 8));
        assert!(waits.is_sorted(), "{waits:?}");
        let whole: Duration = waits.iter().sum();
        assert!((1900..=2100).contains(&whole.as_millis()), "{whole:?}");
    }

    #[test]
    fn who_lets_go_in_time_costs_only_that_time() {
        let (ended, tries, waits) = try_against(SHARING_VIOLATION, 3);
        ended.expect("free by then");
        assert_eq!((tries, waits), (4, RETRY_WAITS[..3].to_vec()));
    }

    #[test]
    fn what_is_not_temporary_is_reported_at_once() {
        let (ended, tries, waits) = try_against(2, usize::MAX);
        assert_eq!(ended.expect_err("no such file").raw_os_error(), Some(2));
        assert_eq!((tries, waits.len()), (1, 0));
    }

    #[test]
    fn a_name_is_replaced_and_what_did_not_get_one_is_removed() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::write(&from, b"new").expect("writes");
        fs::write(&to, b"old").expect("writes");
        rename(&from, &to).expect("renamed");
        assert_eq!(fs::read(&to).expect("reads"), b"new");
        let file = NamedTempFile::new_in(temp.path()).expect("a file");
        persist(file, &temp.path().join("not/there")).expect_err("no such folder");
        assert_eq!(fs::read_dir(temp.path()).expect("lists").count(), 1);
    }

    #[cfg(windows)]
    #[test]
    fn a_reader_that_shares_nothing_is_waited_for() {
        use std::os::windows::fs::OpenOptionsExt;
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::write(&from, b"new").expect("writes");
        fs::write(&to, b"old").expect("writes");
        // FILE_SHARE_READ and FILE_SHARE_WRITE, as a C library opens files: not FILE_SHARE_DELETE.
        let reader = fs::File::options().read(true).share_mode(1 | 2).open(&to).expect("opens");
        let (mut reader, mut waited) = (Some(reader), 0);
        let let_go = |_| {
            waited += 1;
            if waited == 3 {
                drop(reader.take());
            }
        };
        with_retries(|| fs::rename(&from, &to), is_transient, let_go).expect("free by then");
        assert_eq!((waited, fs::read(&to).expect("reads").as_slice()), (3, b"new".as_slice()));
    }
}
