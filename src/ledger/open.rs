//! Opening the file: permissions, durability, versions, and reading beside a running daemon.
//!
//! Owns every PRAGMA and the migrations. This is the one place of the ledger that touches the file system itself: SQLite
//! would create the file with the umask's permissions, and only a look at its neighbours tells how to read without
//! creating anything. It never repairs, moves or deletes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{
    Ledger, Reader,
    error::{Fault, LedgerError, MAX_PATH, OpenError, StoreError, store_error},
    money::disagreement,
};
use crate::failpoint::{self, Point};

/// The file's steps from an empty one to today's. Never edited once released: a change is a new step.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_bill.sql"),
    include_str!("migrations/0003_bytes.sql"),
    include_str!("migrations/0004_machine.sql"),
    include_str!("migrations/0005_stands_in_for.sql"),
];

/// The version after all steps; SQLite's `user_version`.
pub(super) const VERSION: i32 = 5;

/// SQLite's `application_id`: the letters CJRD, for `file` and for us.
const APPLICATION: i32 = i32::from_be_bytes(*b"CJRD");

/// How long a write waits for another process. Longer than any of ours holds the file, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// More statements than the ledger has, so that each is parsed once.
const STATEMENTS: usize = 64;

/// `synchronous = FULL`: in WAL mode anything less may forget the last commits when the power goes, and with them the
/// mark that a request may have left. `fullfsync` asks the same of macOS, whose plain fsync stops at the drive's cache.
/// The log is moved into the file by [`Ledger::checkpoint`] in quiet moments; 1000 pages (4 MB) is the ceiling
/// where none came, and a longer log (a reader held it) is cut back to that size afterwards.
/// `cache_size` in KiB: SQLite's own 2000 fill up with pages of past jobs in the first few hundred and stay, in a daemon whose every
/// step touches a handful of pages. The rest is in the system's cache.
const SETTINGS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_autocheckpoint = 1000;
    PRAGMA journal_size_limit = 4096000;
    PRAGMA cache_size = -512;
    PRAGMA trusted_schema = OFF;
";

impl Ledger {
    /// Opens the ledger for the daemon, creates it (for this user only) where there is none, and brings an older one up to
    /// date. Does not look through the whole file: [`Reader::check`] does.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unreachable = |source| OpenError::Unreachable { path: path.to_owned(), source };
        if cfg!(unix) && path.as_os_str().len() > MAX_PATH {
            return Err(OpenError::TooLong { path: path.to_owned() });
        }
        create_private(path).map_err(unreachable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(path, flags).map_err(|error| store_error(path, error))?;
        prepare(&mut connection, path)?;
        let files = Files::at(path).map_err(unreachable)?;
        Ok(Self { reader: Reader { connection, path: path.to_owned() }, files })
    }

    /// Tells whether what is written now will be found again. A file that was deleted or moved away takes every write all the same, and
    /// forgets it with the process: what was sent would be paid for once more. Asked before anything may be sent; what was
    /// sent already is written to wherever it can be.
    pub(super) fn still_there(&self) -> Result<(), LedgerError> {
        match Files::at(&self.path) {
            Ok(files) if files == self.files => Ok(()),
            _ => Err(StoreError::Gone { path: self.path.clone() }.into()),
        }
    }

    /// Opens the ledger for questions beside a daemon that may run. Creates no file: not the ledger, and not its log.
    pub fn open_read_only(path: &Path) -> Result<Reader, OpenError> {
        let exists = |path: &Path| {
            path.try_exists()
                .map_err(|source| OpenError::Unreachable { path: path.to_owned(), source })
        };
        if !exists(path)? {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let failed = |error| store_error(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // A ledger that was closed has no log, and SQLite would make an empty one (and leave it behind) even to read.
        // `immutable` makes it not look for one. If a daemon starts in this very moment we miss what it adds.
        let connection = if exists(&beside(path, "-wal"))? {
            Connection::open_with_flags(path, flags)
        } else {
            Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)
        }
        .map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let found = version(&connection, path)?;
        if found < VERSION {
            return Err(OpenError::Older { path: path.to_owned(), found, known: VERSION });
        }
        Ok(Reader { connection, path: path.to_owned() })
    }
}

impl Reader {
    /// Looks through the whole file and says what is wrong with it. Takes a while for a large one: for `doctor`.
    pub fn check(&self) -> Result<(), LedgerError> {
        self.read(|connection| {
            let verdict: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(Fault::Garbled(verdict));
            }
            disagreement(connection)?.map_or(Ok(()), |words| Err(Fault::Garbled(words)))
        })
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| store_error(path, error);
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before anything is changed: is it ours, and do we know its version?
    version(connection, path)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.execute_batch(SETTINGS).map_err(failed)?;
    migrate(connection, path)
}

/// Applies the steps that are missing, all of them or none.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    if version(connection, path)? == VERSION {
        return Ok(());
    }
    let failed = |error| store_error(path, error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Again, now that nobody else can write: another process may have just done it.
    let found = version(&transaction, path)?;
    let missing = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    for step in missing {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    failpoint::around(Point::Migrate, || transaction.commit()).map_err(failed)?;
    Ok(())
}

/// Returns the file's version, 0 for an empty one, if the file is ours and not too new.
fn version(connection: &Connection, path: &Path) -> Result<i32, OpenError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| store_error(path, error))
    };
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    if application != i64::from(APPLICATION) {
        let empty = found == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
        return if application == 0 && empty {
            Ok(0)
        } else {
            Err(OpenError::Foreign { path: path.to_owned() })
        };
    }
    match i32::try_from(found) {
        Ok(found) if found > VERSION => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: VERSION })
        }
        Ok(found @ 0..) => Ok(found),
        Ok(_) | Err(_) => {
            let detail = format!("its version is {found}");
            Err(StoreError::Corrupt { path: path.to_owned(), detail }.into())
        }
    }
}

/// Which files the ledger and its log are, whatever their names stand for later. The log is there from the first read until the last
/// connection closes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files([(u64, u64); 2]);

impl Files {
    #[cfg(unix)]
    fn at(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let which = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
        Ok(Self([which(path)?, which(&beside(path, "-wal"))?]))
    }

    /// Elsewhere an open file cannot be moved or deleted.
    #[cfg(not(unix))]
    fn at(_path: &Path) -> io::Result<Self> {
        Ok(Self([(0, 0); 2]))
    }
}

/// Makes the file for this user only, and takes the others' permissions from an existing one. SQLite gives its log the same.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(0o600);
        let file = options.open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
    }
    #[cfg(not(unix))]
    options.open(path)?;
    Ok(())
}

/// Returns the path of one of SQLite's own files next to the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the path as SQLite's URI, every byte escaped that could mean something else there.
fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    if cfg!(windows) {
        uri.push_str("///");
    }
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                uri.push(char::from(byte));
            }
            b'\\' if cfg!(windows) => uri.push('/'),
            // Writing to a `String` cannot fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_counts_the_steps() {
        assert_eq!(i32::try_from(MIGRATIONS.len()), Ok(VERSION));
    }

    // A path on Windows begins with a drive's letter.
    #[cfg(unix)]
    #[test]
    fn a_path_cannot_bend_the_uri() {
        assert_eq!(
            immutable_uri(Path::new("/a b/50%?#é/x.sqlite")),
            "file:/a%20b/50%25%3F%23%C3%A9/x.sqlite?immutable=1"
        );
    }
}
