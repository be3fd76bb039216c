//! What the file system reports about a file without reading it, and how far that can be trusted.
//!
//! Owns [`Stamp`] and [`ReadMemory`]. An equal stamp does *not* prove equal content: file times are
//! coarse (a kernel tick of 1 to 10 ms, 2 s on FAT, an unknown value on a server), so a second
//! write in the same tick changes nothing in the stamp. A stamp is trusted only for a read that
//! happened [`GRANULARITY`] after the stamp was first seen: a later write gets another time. Only
//! our own clock measures this, so a server's wrong clock does no harm.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
    time::Duration,
};

use super::drive::reach;
use crate::domain::time::Moment;

/// The coarsest file time in use: FAT's two seconds.
pub const GRANULARITY: Duration = Duration::from_secs(2);

/// A file's identity and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The device that holds it; 0 if the platform does not report it.
    pub device: u64,
    /// Its inode number; 0 if the platform does not report it.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// When its content or metadata was last changed, in nanoseconds since 1970; 0 if the platform
    /// does not report it.
    pub changed_ns: i128,
}

impl Stamp {
    /// Returns the stamp of an open file; `metadata` is the file's own.
    pub fn of(file: &File, metadata: &Metadata) -> io::Result<Self> {
        imp::stamp(file, metadata)
    }

    /// Returns the stamp of the file or folder that a path leads to.
    pub fn at(path: &Path) -> io::Result<Self> {
        reach(path);
        imp::stamp_at(path, true)
    }

    /// Returns the stamp of the path itself, even if it is a symlink.
    pub fn named(path: &Path) -> io::Result<Self> {
        reach(path);
        imp::stamp_at(path, false)
    }

    /// Returns whether both are the same file, whatever its content.
    pub fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Opens a file only for reading, without ever waiting: a FIFO without a writer would block a
/// plain open.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    reach(path);
    let mut options = File::options();
    options.read(true);
    imp::set_nonblocking(&mut options);
    options.open(path)
}

/// The last complete read of one input. It shows when another read cannot find anything new.
#[derive(Clone, Copy, Debug)]
pub struct ReadMemory {
    stamp: Stamp,
    since: Moment,
    read_at: Moment,
}

impl ReadMemory {
    /// Records a complete read that *began* at `began` and found `stamp`, combined with an
    /// earlier read.
    pub fn after(earlier: Option<Self>, stamp: Stamp, began: Moment) -> Self {
        let since = earlier.filter(|seen| seen.stamp == stamp).map_or(began, |seen| seen.since);
        Self { stamp, since, read_at: began }
    }

    /// Returns whether a file with this stamp must still have the content that was read.
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp && self.read_at.since(self.since) >= GRANULARITY
    }
}

#[cfg(unix)]
mod imp {
    use std::{
        fs::{self, File, Metadata, OpenOptions},
        io,
        os::unix::fs::{MetadataExt, OpenOptionsExt},
        path::Path,
    };

    use super::Stamp;

    /// The metadata contains everything here.
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as where the file is asked again")]
    pub(super) fn stamp(_: &File, metadata: &Metadata) -> io::Result<Stamp> {
        Ok(of(metadata))
    }

    pub(super) fn stamp_at(path: &Path, follow: bool) -> io::Result<Stamp> {
        let metadata = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        Ok(of(&metadata?))
    }

    fn of(metadata: &Metadata) -> Stamp {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(super) fn set_nonblocking(options: &mut OpenOptions) {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
}

#[cfg(windows)]
mod imp {
    //! On Windows only an open file reports its number, so the path is opened without any access
    //! rights, which blocks no other program.

    use std::{
        fs::{File, Metadata, OpenOptions},
        io,
        os::windows::fs::OpenOptionsExt,
        path::Path,
    };

    use super::Stamp;

    /// `FILE_FLAG_BACKUP_SEMANTICS`: allows opening folders.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;

    /// `FILE_FLAG_OPEN_REPARSE_POINT`: opens the link itself, not its target.
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;

    /// The time between 1601, the start of Windows' times, and 1970, in units of 100 ns.
    const UNIX_EPOCH_TICKS: i128 = 116_444_736_000_000_000;

    pub(super) fn stamp(file: &File, _: &Metadata) -> io::Result<Stamp> {
        let about = winapi_util::file::information(file)?;
        Ok(Stamp {
            device: about.volume_serial_number(),
            inode: about.file_index(),
            size: about.file_size(),
            modified_ns: about
                .last_write_time()
                .map_or(0, |time| (i128::from(time) - UNIX_EPOCH_TICKS) * 100),
            changed_ns: 0,
        })
    }

    pub(super) fn stamp_at(path: &Path, follow: bool) -> io::Result<Stamp> {
        let flags = if follow {
            FILE_FLAG_BACKUP_SEMANTICS
        } else {
            FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT
        };
        let file = File::options().access_mode(0).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        stamp(&file, &metadata)
    }

    /// Opening never blocks on Windows, and std shares a file with programs that want to read,
    /// write or replace it.
    pub(super) fn set_nonblocking(_: &mut OpenOptions) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { device: 1, inode: 2, size, modified_ns: 3, changed_ns: 4 }
    }

    #[test]
    fn a_fresh_stamp_is_not_believed_until_a_read_two_seconds_later() {
        let first = ReadMemory::after(None, stamp(5), Moment::from_millis(1000));
        assert!(!first.is_current(&stamp(5)), "a second write may hide in the same tick");
        let early = ReadMemory::after(Some(first), stamp(5), Moment::from_millis(2999));
        assert!(!early.is_current(&stamp(5)));
        let late = ReadMemory::after(Some(early), stamp(5), Moment::from_millis(3000));
        assert!(late.is_current(&stamp(5)));
        assert!(!late.is_current(&stamp(6)));
    }

    #[test]
    fn another_stamp_begins_the_wait_anew() {
        let first = ReadMemory::after(None, stamp(5), Moment::from_millis(0));
        let other = ReadMemory::after(Some(first), stamp(6), Moment::from_millis(9000));
        assert!(!other.is_current(&stamp(6)));
    }
}
