//! Opens the file: permissions, durability, versions, and reading while a daemon runs.
//!
//! Owns every PRAGMA and the version of the schema. Only this part of the ledger uses the file
//! system itself: SQLite would create the file with the umask's permissions, and only the files
//! beside it tell how to read without creating anything. It never repairs, moves or deletes a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{
    Ledger, Reader,
    error::{LedgerError, MAX_PATH, OpenError, SqlFault, StoreError, store_error},
    money::find_mismatch,
};
use crate::failpoint::{self, Point};

/// The tables, for an empty file.
const SCHEMA: &str = include_str!("schema.sql");

/// The version of [`SCHEMA`]; SQLite's `user_version`. Versions 1 to 6 were written by development
/// versions before the first release, whose jobs lack facts that are columns now.
pub(super) const VERSION: i32 = 7;

/// SQLite's `application_id`: the letters CJRD, which `file` and this program recognise.
const APPLICATION: i32 = i32::from_be_bytes(*b"CJRD");

/// How long a write waits for another process. Longer than any of our processes holds the file,
/// shorter than a person waits.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// More statements than the ledger has, so that each is parsed once.
const STATEMENTS: usize = 64;

/// The settings of a connection.
///
/// `synchronous = FULL`: in WAL mode, any weaker setting may lose the last commits in a power
/// failure, and with them the record that a request may have been sent. `fullfsync` requests the
/// same from macOS, whose plain fsync stops at the drive's cache.
///
/// [`Ledger::checkpoint`] moves the log into the file while the daemon is idle. Without it, the
/// limit is 1000 pages (4 MB). A longer log (a reader held it) is cut back to that size afterwards.
///
/// `cache_size` is in KiB. SQLite's default of 2000 fills with pages of past jobs within the first
/// few hundred jobs and never shrinks, while each step of the daemon uses a handful of pages. The
/// other pages are in the system's cache.
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
    /// Opens the ledger for the daemon. Creates it (for this user only) if there is none, and
    /// refuses one of another version. Does not check the whole file; [`Reader::check`] does that.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unreachable = |source| OpenError::Unreachable { path: path.to_owned(), source };
        if cfg!(unix) && path.as_os_str().len() > MAX_PATH {
            return Err(OpenError::TooLong { path: path.to_owned() });
        }
        create_private(path).map_err(unreachable)?;
        refuse_one_byte(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(path, flags).map_err(|error| store_error(path, error))?;
        prepare(&mut connection, path)?;
        let files = FileIdentity::at(path).map_err(unreachable)?;
        Ok(Self { reader: Reader { connection, path: path.to_owned() }, files })
    }

    /// Checks that the path still leads to the open file. A file that was deleted or moved away
    /// still accepts every write, but loses it when the process ends, and then the same work would
    /// be paid for again. Called before anything may be sent. Records of requests that were already
    /// sent are written to the open file in any case.
    pub(super) fn verify_in_place(&self) -> Result<(), LedgerError> {
        match FileIdentity::at(&self.path) {
            Ok(files) if files == self.files => Ok(()),
            _ => Err(StoreError::Gone { path: self.path.clone() }.into()),
        }
    }

    /// Opens the ledger for reading while a daemon may be running. Creates no file: neither the
    /// ledger nor its log.
    pub fn open_read_only(path: &Path) -> Result<Reader, OpenError> {
        let exists = |path: &Path| {
            path.try_exists()
                .map_err(|source| OpenError::Unreachable { path: path.to_owned(), source })
        };
        if !exists(path)? {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        refuse_one_byte(path)?;
        let failed = |error| store_error(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // A ledger that was closed has no log, and SQLite would create an empty one (and leave it
        // behind) even for reading. `immutable` prevents that. If a daemon starts at this moment,
        // its changes are not seen.
        let connection = if exists(&sibling(path, "-wal"))? {
            Connection::open_with_flags(path, flags)
        } else {
            Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)
        }
        .map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // An empty file is a ledger that a daemon is creating at this moment.
        if version(&connection, path)? != VERSION {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        Ok(Reader { connection, path: path.to_owned() })
    }
}

impl Reader {
    /// Checks the whole file and returns what is wrong with it. Takes a while for a large file;
    /// used by `doctor`.
    pub fn check(&self) -> Result<(), LedgerError> {
        self.read(|connection| {
            let verdict: String =
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(SqlFault::Malformed(verdict));
            }
            find_mismatch(connection)?.map_or(Ok(()), |message| Err(SqlFault::Malformed(message)))
        })
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| store_error(path, error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before any change: checks that the file is ours and that its version is known.
    version(connection, path)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.execute_batch(SETTINGS).map_err(failed)?;
    create_tables(connection, path)
}

/// Creates the tables of an empty file.
fn create_tables(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    if version(connection, path)? == VERSION {
        return Ok(());
    }
    let failed = |error| store_error(path, error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Checked again, now that no other process can write: another one may have just created them.
    if version(&transaction, path)? == VERSION {
        return Ok(());
    }
    transaction.execute_batch(SCHEMA).map_err(failed)?;
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    failpoint::around(Point::CreateTables, || transaction.commit()).map_err(failed)?;
    Ok(())
}

/// Returns the file's version (0 for an empty file) if the file is ours and of this version.
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
        Ok(found @ 1..VERSION) => {
            Err(OpenError::Older { path: path.to_owned(), found, known: VERSION })
        }
        Ok(found @ (0 | VERSION)) => Ok(found),
        Ok(_) | Err(_) => {
            let detail = format!("its version is {found}");
            Err(StoreError::Corrupt { path: path.to_owned(), detail }.into())
        }
    }
}

/// The identities of the ledger and its log, whatever their paths lead to later. The log exists
/// from the first read until the last connection closes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileIdentity([(u64, u64); 2]);

impl FileIdentity {
    #[cfg(unix)]
    fn at(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let which = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
        Ok(Self([which(path)?, which(&sibling(path, "-wal"))?]))
    }

    /// On other systems an open file cannot be moved or deleted.
    #[cfg(not(unix))]
    fn at(_path: &Path) -> io::Result<Self> {
        Ok(Self([(0, 0); 2]))
    }
}

/// Creates the file for this user only, and removes other users' permissions from an existing one.
/// SQLite gives its log the same permissions.
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

/// Refuses a file of exactly one byte: SQLite takes it for an empty one on Unix (`unixFileSize`), and
/// would overwrite it.
fn refuse_one_byte(path: &Path) -> Result<(), OpenError> {
    let metadata = fs::metadata(path)
        .map_err(|source| OpenError::Unreachable { path: path.to_owned(), source })?;
    if metadata.len() != 1 {
        return Ok(());
    }
    let detail = "the file has a single byte".to_owned();
    Err(StoreError::Corrupt { path: path.to_owned(), detail }.into())
}

/// Returns the path of one of SQLite's own files next to the database.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the path as an SQLite URI, with every byte escaped that has a special meaning there.
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

// A path on Windows starts with a drive letter.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_bend_the_uri() {
        assert_eq!(
            immutable_uri(Path::new("/a b/50%?#é/x.sqlite")),
            "file:/a%20b/50%25%3F%23%C3%A9/x.sqlite?immutable=1"
        );
    }
}
