//! The watcher on real folders with real events. Every wait has a deadline and no test sleeps.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use super::{kind::FsKind, watcher::WatchPlatform, *};
use crate::domain::time::Moment;

/// Longer than any healthy machine needs, so that a test reaches it only if there is a real fault.
const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    temp: tempfile::TempDir,
    watcher: Watcher,
    warnings: Vec<WatchWarning>,
    woken: Receiver<ProjectIndex>,
}

fn inputs(root: &Path) -> WatchedInputs {
    WatchedInputs {
        root: root.to_path_buf(),
        prompt: root.join("data/text/prompt.txt"),
        render: root.join("data/camera/render.png"),
    }
}

impl Bench {
    /// Creates `count` projects `0`, `1`, … prepared by `prepare`, and watches them.
    fn new(count: usize, mode: WatchMode, prepare: impl Fn(&Path)) -> Self {
        Self::on(WatchPlatform::CURRENT, count, mode, prepare)
    }

    fn on(machine: WatchPlatform, count: usize, mode: WatchMode, prepare: impl Fn(&Path)) -> Self {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let roots: Vec<PathBuf> = (0..count).map(|n| temp.path().join(n.to_string())).collect();
        for root in &roots {
            prepare(root);
        }
        let (wakes, woken) = channel();
        let (watcher, warnings) = Watcher::with_platform(
            machine,
            roots.iter().map(|root| inputs(root)).collect(),
            mode,
            BTreeSet::new(),
            move |p| {
                let _ = wakes.send(p);
            },
        );
        Self { temp, watcher, warnings, woken }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.temp.path().join(relative)
    }

    fn write(&self, relative: &str) {
        fs::write(self.path(relative), b"new").expect("writes");
    }

    /// Waits for a wake of `project`, as the daemon would, with a `mend` after each wake.
    fn expect_wake(&mut self, project: usize, why: &str) {
        loop {
            let woken = self.woken.recv_timeout(PATIENCE);
            self.watcher.repair();
            if woken.unwrap_or_else(|error| panic!("no wake: {why}: {error}")).0 == project {
                return;
            }
        }
    }

    /// Waits until all earlier events are handled, by writing project 1's prompt and waiting for
    /// its event.
    fn settle(&mut self) -> usize {
        let mut others = 0;
        self.write("1/data/text/prompt.txt");
        loop {
            let project = self.woken.recv_timeout(PATIENCE).expect("the fence is heard");
            self.watcher.repair();
            if project.0 == 1 {
                break;
            }
            others += 1;
        }
        while self.woken.try_recv().is_ok() {}
        others
    }
}

fn whole(root: &Path) {
    fs::create_dir_all(root.join("data/text")).expect("makes");
    fs::create_dir_all(root.join("data/camera")).expect("makes");
    fs::write(root.join("data/text/prompt.txt"), b"old").expect("writes");
    fs::write(root.join("data/camera/render.png"), b"old").expect("writes");
}

fn nothing(_: &Path) {}

#[test]
fn either_input_wakes_its_own_project_however_it_is_written() {
    let mut bench = Bench::new(2, WatchMode::Native, whole);
    assert_eq!(bench.warnings, []);
    bench.write("0/data/text/prompt.txt");
    bench.expect_wake(0, "written in place");
    bench.settle();
    bench.write("0/data/camera/new");
    let (from, to) = (bench.path("0/data/camera/new"), bench.path("0/data/camera/render.png"));
    fs::rename(from, to).expect("renames");
    bench.expect_wake(0, "replaced by a rename");
    bench.settle();
    fs::remove_file(bench.path("0/data/text/prompt.txt")).expect("removes");
    bench.expect_wake(0, "removed");
    bench.settle();
    bench.write("0/data/text/prompt.txt");
    bench.expect_wake(0, "made anew");
}

#[test]
fn reading_the_inputs_and_writing_beside_them_wakes_no_project() {
    let mut bench = Bench::new(2, WatchMode::Native, whole);
    bench.settle();
    for _ in 0..20 {
        fs::read(bench.path("0/data/text/prompt.txt")).expect("reads");
        bench.write("0/data/text/transcript.txt");
        bench.write("0/data/camera/.conjured-x-0.part");
        fs::read_dir(bench.path("0/data/text")).expect("lists").for_each(drop);
    }
    assert_eq!(bench.settle(), 0);
}

#[test]
fn folders_that_do_not_exist_yet_are_waited_for() {
    let mut bench = Bench::new(2, WatchMode::Native, |root| {
        if root.ends_with("1") {
            whole(root);
        }
    });
    for folder in ["0", "0/data", "0/data/text"] {
        fs::create_dir(bench.path(folder)).expect("makes");
        bench.expect_wake(0, folder);
        bench.settle();
    }
    bench.write("0/data/text/prompt.txt");
    bench.expect_wake(0, "the input itself");
    bench.settle();
    // Everything at once: when the first event is handled, the rest already exists.
    fs::create_dir_all(bench.path("0/data/camera")).expect("makes");
    bench.expect_wake(0, "the other folder");
    bench.settle();
    bench.write("0/data/camera/render.png");
    bench.expect_wake(0, "the other input");
}

#[test]
fn a_whole_tree_that_appears_at_once_is_watched_to_its_end() {
    let mut bench = Bench::new(2, WatchMode::Native, |root| {
        if root.ends_with("1") {
            whole(root);
        }
    });
    whole(&bench.path("ready"));
    fs::rename(bench.path("ready"), bench.path("0")).expect("renames");
    bench.expect_wake(0, "the root came");
    bench.settle();
    bench.write("0/data/camera/render.png");
    bench.expect_wake(0, "written in the tree that came");
}

#[test]
fn a_folder_that_is_deleted_and_made_anew_is_watched_again() {
    let mut bench = Bench::new(2, WatchMode::Native, whole);
    for round in 0..3 {
        fs::remove_dir_all(bench.path("0/data/text")).expect("removes");
        fs::create_dir(bench.path("0/data/text")).expect("makes");
        bench.expect_wake(0, "it went and came");
        bench.settle();
        bench.write("0/data/text/prompt.txt");
        bench.expect_wake(0, &format!("written after round {round}"));
        bench.settle();
    }
}

#[test]
fn a_folder_on_the_way_that_is_swapped_takes_its_watches_along() {
    let mut bench = Bench::new(2, WatchMode::Native, whole);
    for old in ["0/data", "0"] {
        whole(&bench.path("new"));
        let spare = format!("old of {}", old.replace('/', "-"));
        fs::rename(bench.path(old), bench.path(&spare)).expect("renames");
        let fresh = if old == "0" { "new" } else { "new/data" };
        fs::rename(bench.path(fresh), bench.path(old)).expect("renames");
        bench.expect_wake(0, "a folder was swapped");
        bench.settle();
        bench.write("0/data/text/prompt.txt");
        bench.expect_wake(0, &format!("written after {old} was swapped"));
        bench.settle();
        // The folder that was moved away no longer belongs to a project.
        let moved = if old == "0" { "data/text/prompt.txt" } else { "text/prompt.txt" };
        bench.write(&format!("{spare}/{moved}"));
        assert_eq!(bench.settle(), 0, "{spare}");
    }
}

#[test]
fn what_no_event_tells_of_is_found_when_everything_is_checked() {
    let mut bench = Bench::new(0, WatchMode::Native, nothing);
    let root = bench.path("above/root");
    whole(&root);
    let (wakes, woken) = channel();
    let (mut watcher, _) =
        Watcher::new(vec![inputs(&root)], WatchMode::Native, BTreeSet::new(), move |project| {
            let _ = wakes.send(project);
        });
    fs::rename(bench.path("above"), bench.path("gone")).expect("renames");
    whole(&root);
    assert_eq!(watcher.rebuild(), []);
    bench.watcher = watcher;
    bench.woken = woken;
    bench.write("above/root/data/camera/render.png");
    bench.expect_wake(0, "written where nothing was watched before");
}

#[cfg(unix)]
#[test]
fn what_a_symlink_points_to_is_watched_and_so_is_the_symlink() {
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new(2, WatchMode::Native, |root| {
        whole(root);
        fs::remove_file(root.join("data/text/prompt.txt")).expect("removes");
        let far = root.with_extension("far");
        fs::create_dir(&far).expect("makes");
        fs::write(far.join("real.txt"), b"old").expect("writes");
        symlink(far.join("real.txt"), root.join("data/text/prompt.txt")).expect("links");
    });
    bench.write("0.far/real.txt");
    bench.expect_wake(0, "the target was written");
    bench.settle();
    fs::create_dir(bench.path("farther")).expect("makes");
    bench.write("farther/other.txt");
    let (spare, link) = (bench.path("0/data/text/spare"), bench.path("0/data/text/prompt.txt"));
    symlink(bench.path("farther/other.txt"), &spare).expect("links");
    fs::rename(spare, link).expect("renames");
    bench.expect_wake(0, "the link points elsewhere");
    bench.settle();
    bench.write("farther/other.txt");
    bench.expect_wake(0, "the new target was written");
    bench.settle();
    bench.write("0.far/real.txt");
    assert_eq!(bench.settle(), 0, "the old target is nobody's any more");
}

#[test]
fn two_projects_that_share_a_folder_both_hear_of_it() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    whole(temp.path());
    let (wakes, woken) = channel();
    let both = vec![inputs(temp.path()), inputs(temp.path())];
    let (_watcher, _) = Watcher::new(both, WatchMode::Native, BTreeSet::new(), move |project| {
        let _ = wakes.send(project);
    });
    fs::write(temp.path().join("data/text/prompt.txt"), b"new").expect("writes");
    let mut missing = vec![ProjectIndex(0), ProjectIndex(1)];
    while !missing.is_empty() {
        let project = woken.recv_timeout(PATIENCE).expect("both are woken");
        missing.retain(|other| *other != project);
    }
}

#[test]
fn a_project_that_is_left_aside_is_neither_watched_nor_polled() {
    for mode in [WatchMode::Native, WatchMode::Poll] {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let roots = [temp.path().join("0"), temp.path().join("1")];
        for root in &roots {
            whole(root);
        }
        let (wakes, woken) = channel();
        let both = roots.iter().map(|root| inputs(root)).collect();
        let unresponsive = BTreeSet::from([ProjectIndex(0)]);
        let (mut watcher, _) = Watcher::new(both, mode, unresponsive, move |project| {
            let _ = wakes.send(project);
        });
        watcher.rebuild();
        for root in &roots {
            fs::write(root.join("data/text/prompt.txt"), b"new").expect("writes");
        }
        watcher.poll(Moment::from_millis(0));
        // Both were written before the other one is heard.
        assert_eq!(woken.recv_timeout(PATIENCE), Ok(ProjectIndex(1)), "{mode:?}");
        assert!(woken.try_iter().all(|project| project == ProjectIndex(1)), "{mode:?}");
    }
}

#[test]
fn when_the_watches_run_out_the_rest_is_polled_with_a_warning() {
    let machine = WatchPlatform { watch_limit: 3, ..WatchPlatform::CURRENT };
    let mut bench = Bench::on(machine, 3, WatchMode::Auto, whole);
    let [warning] = bench.warnings.as_slice() else { panic!("one warning: {:?}", bench.warnings) };
    assert_eq!(warning.reason, PollReason::LimitReached);
    assert_eq!(warning.projects, [ProjectIndex(1), ProjectIndex(2)]);
    assert!(warning.reason.to_string().contains("max_user_watches"));
    assert!(bench.watcher.is_polling());
    bench.write("0/data/text/prompt.txt");
    bench.expect_wake(0, "the first is still watched");

    bench.watcher.poll(Moment::from_millis(0));
    bench.watcher.poll(Moment::from_millis(5000));
    while bench.woken.try_recv().is_ok() {}
    bench.write("2/data/camera/render.png");
    bench.watcher.poll(Moment::from_millis(6000));
    assert_eq!(bench.woken.recv_timeout(PATIENCE), Ok(ProjectIndex(2)));
    assert_eq!(bench.watcher.rebuild(), [], "what is known is not said again");
    assert!(bench.watcher.is_polling());
}

#[test]
fn a_network_drive_is_polled_in_auto_and_watched_when_asked_for() {
    let machine = WatchPlatform { kind_of: |_| FsKind::Remote("NFS"), ..WatchPlatform::CURRENT };
    let bench = Bench::on(machine, 1, WatchMode::Auto, whole);
    let [warning] = bench.warnings.as_slice() else { panic!("one warning: {:?}", bench.warnings) };
    assert!(matches!(warning.reason, PollReason::RemoteDrive { kind: "NFS", .. }));
    assert!(bench.watcher.is_polling());

    let mut bench = Bench::on(machine, 2, WatchMode::Native, whole);
    assert_eq!(bench.warnings, []);
    bench.write("0/data/text/prompt.txt");
    bench.expect_wake(0, "native was asked for");
    assert!(!bench.watcher.is_polling());
}

#[test]
fn an_unknown_drive_is_tried_and_the_try_leaves_nothing_behind() {
    let hearing = WatchPlatform { kind_of: |_| FsKind::Unknown, ..WatchPlatform::CURRENT };
    let mut bench = Bench::on(hearing, 2, WatchMode::Auto, whole);
    assert_eq!(bench.warnings, []);
    assert!(!bench.watcher.is_polling());
    bench.write("0/data/camera/render.png");
    bench.expect_wake(0, "it tells of changes");

    let deaf = WatchPlatform { no_native_events: true, ..hearing };
    let bench = Bench::on(deaf, 1, WatchMode::Auto, whole);
    let [warning] = bench.warnings.as_slice() else { panic!("one warning: {:?}", bench.warnings) };
    assert!(matches!(warning.reason, PollReason::NoEvents { .. }));
    assert!(bench.watcher.is_polling());
    for folder in ["0/data/text", "0/data/camera"] {
        assert_eq!(fs::read_dir(bench.path(folder)).expect("lists").count(), 1);
    }
}

#[test]
fn a_folder_above_a_missing_project_is_never_written_to() {
    let deaf = WatchPlatform {
        kind_of: |_| FsKind::Unknown,
        no_native_events: true,
        ..WatchPlatform::CURRENT
    };
    let bench = Bench::on(deaf, 1, WatchMode::Auto, nothing);
    assert_eq!(bench.warnings, [], "nothing was tried");
}

#[test]
fn polling_by_choice_needs_no_warning_and_no_event() {
    let mut bench = Bench::new(1, WatchMode::Poll, whole);
    assert_eq!(bench.warnings, []);
    assert!(bench.watcher.is_polling());
    bench.watcher.poll(Moment::from_millis(0));
    bench.watcher.poll(Moment::from_millis(5000));
    while bench.woken.try_recv().is_ok() {}
    bench.watcher.poll(Moment::from_millis(6000));
    assert_eq!(bench.woken.try_recv().ok(), None, "nothing changed");
    bench.write("0/data/text/prompt.txt");
    assert_eq!(
        bench.woken.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Timeout),
        "nobody looks by himself"
    );
    bench.watcher.poll(Moment::from_millis(7000));
    assert_eq!(bench.woken.try_recv().ok(), Some(ProjectIndex(0)));
}

#[test]
fn a_storm_of_writes_is_heard_to_its_end() {
    let mut bench = Bench::new(2, WatchMode::Native, whole);
    // Neither truncated nor closed: that would measure the disk.
    let mut files = ["prompt.txt", "render.png"].map(|name| {
        let folder = if name == "prompt.txt" { "0/data/text" } else { "0/data/camera" };
        fs::File::options().write(true).open(bench.path(folder).join(name)).expect("opens")
    });
    for _ in 0..20_000 {
        for file in &mut files {
            file.write_all(b"x").expect("writes");
        }
    }
    bench.settle();
    files[1].write_all(b"the last").expect("writes");
    bench.expect_wake(0, "after the storm, and whatever overflowed");
}
