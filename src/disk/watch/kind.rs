//! The kind of drive that a folder is on: does the kernel report every change there?
//!
//! Owns the list of file systems. The numbers are
//! `f_type` of statfs(2), from the kernel's `linux/magic.h` and the file systems' own sources. A
//! remote drive reports only the changes made by this machine. FUSE also includes local file
//! systems, for which polling is merely slower.

use std::path::Path;

/// What is known about a folder's drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FsKind {
    /// Every change is made by this kernel, which reports it.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        expect(dead_code, reason = "elsewhere the probe finds out")
    )]
    Local,
    /// Another machine can change it without an event.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android", windows)),
        expect(dead_code, reason = "elsewhere the probe finds out")
    )]
    Remote(&'static str),
    /// Unknown: it must be probed.
    Unknown,
}

/// The kind of drive that a folder is on, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// The kernel reports every change.
    Local,
    /// Another machine can change it without an event. Contains its usual name.
    Network(&'static str),
    /// Layers over other folders, as in containers: changes in the lower layers cause no event.
    Overlay,
    /// The drive is not in the list.
    Unknown,
}

/// Returns the kind of drive that a folder is on.
pub fn drive_of(folder: &Path) -> Drive {
    match kind_of(folder) {
        FsKind::Local => Drive::Local,
        FsKind::Remote(name) => Drive::Network(name),
        FsKind::Unknown if is_overlay(folder) => Drive::Overlay,
        FsKind::Unknown => Drive::Unknown,
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_overlay(folder: &Path) -> bool {
    // OVERLAYFS_SUPER_MAGIC and AUFS_SUPER_MAGIC.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers have 32 bits; some platforms extend their sign"
    )]
    let number = rustix::fs::statfs(folder).map(|stat| stat.f_type as u32);
    matches!(number, Ok(0x794c_7630 | 0x6175_6673))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_overlay(_: &Path) -> bool {
    false
}

/// Asks the system for the kind of drive.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn kind_of(folder: &Path) -> FsKind {
    crate::disk::drive::reach(folder);
    match rustix::fs::statfs(folder) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the numbers have 32 bits; some platforms extend their sign"
        )]
        Ok(stat) => of_number(stat.f_type as u32),
        Err(_) => FsKind::Unknown,
    }
}

/// Returns the kind of drive. A share is recognised by its path (`\\server\share`); for a drive
/// letter, the probe finds out.
#[cfg(windows)]
pub(super) fn kind_of(folder: &Path) -> FsKind {
    use std::path::{Component, Prefix};
    match folder.components().next() {
        Some(Component::Prefix(prefix))
            if matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..)) =>
        {
            FsKind::Remote("network share")
        }
        _ => FsKind::Unknown,
    }
}

/// There is no list for this platform, so the probe decides.
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
pub(super) fn kind_of(_: &Path) -> FsKind {
    FsKind::Unknown
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn of_number(number: u32) -> FsKind {
    match number {
        0x0000_6969 => FsKind::Remote("NFS"),
        0x0000_517b | 0xfe53_4d42 => FsKind::Remote("SMB"),
        0xff53_4d42 => FsKind::Remote("CIFS"),
        0x6573_5546 => FsKind::Remote("FUSE"),
        0x0102_1997 => FsKind::Remote("9p"),
        0x786f_4256 => FsKind::Remote("VirtualBox shared"),
        0xbacb_acbc => FsKind::Remote("VMware shared"),
        0x7c7c_6673 => FsKind::Remote("Parallels shared"),
        0x00c3_6400 => FsKind::Remote("Ceph"),
        0x0bd0_0bd0 => FsKind::Remote("Lustre"),
        0x5346_414f | 0x6b41_4653 => FsKind::Remote("AFS"),
        0x7375_7245 => FsKind::Remote("Coda"),
        0x0116_1970 => FsKind::Remote("GFS2"),
        0x7461_636f => FsKind::Remote("OCFS2"),
        0x4750_4653 => FsKind::Remote("GPFS"),
        // ext2 to 4, XFS, Btrfs, tmpfs, ramfs, ZFS, F2FS, bcachefs, JFS, ReiserFS, FAT, exFAT,
        // NTFS3, HFS+, UDF, eCryptfs.
        0x0000_ef53 | 0x5846_5342 | 0x9123_683e | 0x0102_1994 | 0x8584_58f6 | 0x2fc1_2fc1
        | 0xf2f5_2010 | 0xca45_1a4e | 0x3153_464a | 0x5265_4973 | 0x0000_4d44 | 0x2011_bab0
        | 0x7366_746e | 0x0000_482b | 0x1501_3346 | 0x0000_f15f => FsKind::Local,
        // Includes overlayfs: it reports what is written through it, but not what is written to the
        // lower layers.
        _ => FsKind::Unknown,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_usual_drives_are_distinguished() {
        assert_eq!(of_number(0xef53), FsKind::Local);
        assert_eq!(of_number(0x6969), FsKind::Remote("NFS"));
        assert_eq!(of_number(0x794c_7630), FsKind::Unknown);
        assert_eq!(kind_of(Path::new("/no/such/folder")), FsKind::Unknown);
        // A number with its highest bit set works on platforms that extend the sign.
        assert_eq!(of_number(0xff53_4d42), FsKind::Remote("CIFS"));
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_remote_by_its_name() {
        let share = FsKind::Remote("network share");
        assert_eq!(kind_of(Path::new(r"\\server\art\CONJURE")), share);
        assert_eq!(kind_of(Path::new(r"\\?\UNC\server\art\CONJURE")), share);
        assert_eq!(kind_of(Path::new(r"C:\art\CONJURE")), FsKind::Unknown);
    }
}
