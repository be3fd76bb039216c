//! Limits how much freed memory the C library keeps.
//!
//! Owns glibc's settings, the same for every command and however it is started (a variable in a
//! systemd unit would not cover a manual `conjured run`). It controls no other use of memory: each
//! part decides what it allocates and when it frees it. Other C libraries keep their settings.
//!
//! # Why
//! The growth looked like a leak, but counting every allocation showed none. Measured with renders
//! of 1024²: with glibc's own settings the process had 39 to 43 MB of its own memory after eight
//! jobs, with one arena 11 to 17, with both settings 10; and it no longer grows with each job.
//! - glibc gives threads their own arenas (up to 8 per core), and each keeps the free space of the
//!   largest work it ever had. Our threads take turns: those of the blocking pool wait for files
//!   and for the ledger. One arena is enough for them all.
//! - After a large buffer was freed (a picture, a body, a mesh's document), glibc takes the next
//!   ones from the heap instead of from the system, and keeps twice that size of free memory at the
//!   heap's end, up to 64 MB (`M_MMAP_THRESHOLD` in mallopt(3)). A threshold that is set explicitly
//!   stays constant, and large buffers are returned at once.

/// From this size on, a buffer comes from the system and returns to it when freed: glibc's own
/// initial value, 128 KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MMAP_THRESHOLD: libc::c_int = 128 * 1024;

/// Sets the limits. Must be called before there is a second thread, because an arena that is in
/// use stays.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's settings have no safe name")]
pub fn limit_retained_memory() {
    // SAFETY: mallopt takes two numbers and no pointers; it locks the arena itself, and no memory
    // changes its owner. A rejected setting (result 0) leaves the program as it was: larger, but
    // not wrong.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}

/// Does nothing for an allocator other than glibc's.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn limit_retained_memory() {}
