//! The identity of the folder at a path: without an event, another folder may take its place.

use std::path::Path;

use crate::disk::stamp::Stamp;

/// A folder's device, its inode number, and its mount if the platform reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    inode: u64,
    mount: u64,
}

/// Returns the identity of `folder`, or `None` if it does not exist.
pub(super) fn identity(folder: &Path) -> Option<Identity> {
    let stamp = Stamp::at(folder).ok()?;
    Some(Identity { device: stamp.device, inode: stamp.inode, mount: mount(folder) })
}

/// Returns the mount of a folder. A drive that was unmounted and mounted again has the same device
/// and the same numbers, but is another mount.
#[cfg(target_os = "linux")]
fn mount(folder: &Path) -> u64 {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    // STATX_MNT_ID_UNIQUE (Linux 6.8), which rustix does not name. Older kernels return a number
    // that they may reuse; even older ones and some sandboxes return nothing.
    let unique = StatxFlags::from_bits_retain(0x4000);
    statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID | unique)
        .map_or(0, |stat| stat.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount(_: &Path) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_under_the_same_name_is_another_folder() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        assert_eq!(identity(&one), None);
        std::fs::create_dir(&one).expect("makes");
        std::fs::create_dir(&two).expect("makes");
        let first = identity(&one);
        assert_eq!(first, identity(&one));
        std::fs::remove_dir(&one).expect("removes");
        std::fs::rename(&two, &one).expect("renames");
        assert_ne!(first, identity(&one));
    }
}
