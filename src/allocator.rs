//! How much freed memory the C library may keep for itself.
//!
//! Owns glibc's settings, the same for every command and however it is started (a variable in a unit would leave out whoever types
//! `conjured run`). Nothing else of memory: what is allocated, and when it is let go, is each part's own. Other C libraries are left
//! as they are.
//!
//! # Why
//! It read like a leak, and counting every allocation showed none. Measured with renders of 1024²: with glibc's own settings 39 to 43 MB
//! of the process's own after eight jobs, 11 to 17 with one arena, 10 with both settings; and it no longer rises by the job.
//! - glibc gives threads arenas of their own (up to 8 for each core), and each keeps the holes of the largest work it ever saw. Ours
//!   take turns: the blocking pool's threads wait for files and for the ledger. One arena serves them all.
//! - Once a large buffer was freed (a picture, a body, a mesh's document), glibc takes the next ones from the heap instead of from the
//!   system, and lets twice that size of free memory stand at the heap's end, up to 64 MB (`M_MMAP_THRESHOLD` in mallopt(3)). A
//!   threshold that is set stays where it is, and large buffers go back at once.

/// From this size on, a buffer is the system's and goes back to it when freed: glibc's own value at start, 128 KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 * 1024;

/// Sets the bounds. Called before there is a second thread: an arena that is in use stays.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's settings have no safe name")]
pub fn keep_little() {
    // A setting that is refused (it answers 0) leaves the program as it was: larger, not wrong.
    // SAFETY: mallopt takes two numbers and no pointers; it locks the arena itself, and no memory changes its owner.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Leaves an allocator alone that is not glibc's.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn keep_little() {}
