//! How much memory a daemon keeps for itself: at rest, and after work.
//!
//! Owns limits that are far above the measured values and below the values of earlier versions, in
//! the process's own memory (`RssAnon`; the system may reclaim the pages of the program file).
//! `tests/real/soak` covers many hours, and `benches/` the total memory of a release build.

use std::fs;

use conjured::simulator::gesture_camera::GestureCamera;

use crate::support::{daemon::TestDaemon, patience::eventually, stage::DemoProject};

/// Measured: 2.9 MB. The log's queue alone used to be 4.
const AT_REST_KB: u64 = 5 * 1024;

/// Measured: 6.5 MB, half of it the picture itself. With glibc's defaults it was 39 after some
/// eight jobs.
const AFTER_WORK_KB: u64 = 12 * 1024;

/// glibc reserves this much address space for each arena after the first, aligned to that
/// size (`HEAP_MAX_SIZE`).
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
const ARENA: u64 = 64 << 20;

fn own_kb(daemon: &TestDaemon) -> u64 {
    let path = format!("/proc/{}/status", daemon.pid());
    let status = fs::read_to_string(path).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux 4.5");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Returns how many arenas the process has besides the main one.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
fn arenas(daemon: &TestDaemon) -> usize {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).expect("it runs");
    let mut starts = Vec::new();
    let mut reserved = 0;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').expect("a range");
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).expect("hex"));
        let nameless = words.len() < 6;
        if nameless && words[1].starts_with("rw") && start % ARENA == 0 {
            starts.push(end);
        } else if nameless && words[1].starts_with("---") && starts.last() == Some(&start) {
            reserved += usize::from(end % ARENA == 0);
        }
    }
    reserved
}

#[test]
fn a_daemon_at_rest_keeps_little_memory_of_its_own() {
    let stage = DemoProject::new();
    let daemon = stage.start();
    let kept = own_kb(&daemon);
    assert!(kept <= AT_REST_KB, "{kept} KB");
}

#[test]
fn memory_that_work_took_is_given_back() {
    let stage = DemoProject::new();
    let mut camera = GestureCamera::with_side(1024);
    let daemon = stage.start();
    for number in 1..=2 {
        fs::write(stage.render(), camera.frame(number)).expect("writes");
        stage.done(usize::try_from(number).expect("small"));
    }
    #[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
    assert_eq!(arenas(&daemon), 0, "its threads take turns, one arena serves them all");
    // The last job's own buffers are freed a moment after it is done.
    eventually("what the jobs took is given back", || {
        (own_kb(&daemon) <= AFTER_WORK_KB).then_some(())
    });
}
