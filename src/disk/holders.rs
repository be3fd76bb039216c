//! Finds the programs that have a file open, for messages on Windows when a file cannot
//! be replaced.
//!
//! Owns the call of the Restart Manager, the part of Windows that installers use for the same
//! purpose. On Unix an open file does not block a rename, so the list is empty there.

use std::path::Path;

/// The maximum number of programs that are named.
const MAX_NAMED: usize = 4;

/// Returns the names of the programs that have `path` open, as far as the system reports them.
pub(super) fn of(path: &Path) -> Vec<String> {
    let mut names = imp::of(path);
    names.truncate(MAX_NAMED);
    names
}

#[cfg(unix)]
mod imp {
    use std::path::Path;

    pub(super) fn of(_: &Path) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(windows)]
mod imp {
    #![expect(unsafe_code, reason = "the Restart Manager has no safe name")]

    use std::{os::windows::ffi::OsStrExt, path::Path, ptr};

    use windows_sys::Win32::System::RestartManager::{
        CCH_RM_SESSION_KEY, RM_PROCESS_INFO, RmEndSession, RmGetList, RmRegisterResources,
        RmStartSession,
    };

    use super::MAX_NAMED;

    /// The return value of each function on success.
    const ERROR_SUCCESS: u32 = 0;

    /// `ERROR_MORE_DATA`: there are more programs than the buffer has room for; those that fit
    /// were returned.
    const ERROR_MORE_DATA: u32 = 234;

    struct Session(u32);

    impl Session {
        fn start() -> Option<Self> {
            let (mut handle, mut key) = (0, [0_u16; CCH_RM_SESSION_KEY as usize + 1]);
            // SAFETY: both pointers are to our own variables, and the key has room for its
            // terminating zero.
            let code = unsafe { RmStartSession(&mut handle, 0, key.as_mut_ptr()) };
            (code == ERROR_SUCCESS).then_some(Self(handle))
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            // SAFETY: the session was started and is ended once.
            unsafe { RmEndSession(self.0) };
        }
    }

    pub(super) fn of(path: &Path) -> Vec<String> {
        let Some(session) = Session::start() else { return Vec::new() };
        let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
        let names = [name.as_ptr()];
        // SAFETY: one name, which ends in zero and outlives the call; the two other lists
        // are empty.
        let code = unsafe {
            RmRegisterResources(session.0, 1, names.as_ptr(), 0, ptr::null(), 0, ptr::null())
        };
        if code != ERROR_SUCCESS {
            return Vec::new();
        }
        let mut found = [RM_PROCESS_INFO::default(); MAX_NAMED];
        let room = u32::try_from(found.len()).unwrap_or(0);
        let (mut there, mut length, mut reasons) = (0, room, 0);
        // SAFETY: `length` is the capacity of `found` on input, and the number of entries written
        // to it on output.
        let code = unsafe {
            RmGetList(session.0, &mut there, &mut length, found.as_mut_ptr(), &mut reasons)
        };
        if code != ERROR_SUCCESS && code != ERROR_MORE_DATA {
            return Vec::new();
        }
        let length = usize::try_from(length).unwrap_or(0);
        found.iter().take(length).map(named).collect()
    }

    fn named(process: &RM_PROCESS_INFO) -> String {
        let name = process.strAppName;
        let end = name.iter().position(|unit| *unit == 0).unwrap_or(name.len());
        let name = String::from_utf16_lossy(&name[..end]);
        format!("{name} (process {})", process.Process.dwProcessId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_who_has_a_file_open_is_harmless_and_finds_no_other_program() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(of(&temp.path().join("none")), Vec::<String>::new());
        let path = temp.path().join("mesh.glb");
        let _open = std::fs::File::create(&path).expect("makes");
        // Windows itself names our process; wine's Restart Manager returns no names.
        let ours = format!("(process {})", std::process::id());
        assert!(of(&path).iter().all(|name| name.ends_with(&ours)));
    }
}
