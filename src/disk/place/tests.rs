//! Placements into real folders: what a reader sees at every moment, and the error for
//! each obstacle.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::domain::job::{
    JobId,
    artifact::ArtifactKind,
    placement::{self, Artifact, Targets, is_temporary},
};

/// A history with one image and one mesh, and an empty project.
struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { temp: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(bench.path("history")).expect("makes");
        fs::create_dir(bench.path("project")).expect("makes");
        bench.artifacts(b"image", b"mesh");
        bench
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.temp.path().join(relative)
    }

    fn artifacts(&self, image: &[u8], mesh: &[u8]) {
        fs::write(self.path("history/image.png"), image).expect("writes");
        fs::write(self.path("history/mesh.glb"), mesh).expect("writes");
    }

    fn plan(&self, image: &[&str], mesh: &[&str]) -> PlacementPlan {
        let artifacts = [
            Artifact { kind: ArtifactKind::Image, path: self.path("history/image.png") },
            Artifact { kind: ArtifactKind::Mesh, path: self.path("history/mesh.glb") },
        ];
        let paths = |names: &[&str]| names.iter().map(|name| self.path(name)).collect();
        let targets = Targets { image: paths(image), mesh: paths(mesh) };
        let job = JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), 1);
        placement::plan(job, &artifacts, &targets).expect("the names are good")
    }

    fn place(&self, image: &[&str], mesh: &[&str]) -> Result<PlaceOutcome, PlaceFault> {
        place(&self.plan(image, mesh), &self.path("project"), &mut |_| ControlFlow::Continue(()))
    }

    fn read(&self, relative: &str) -> Vec<u8> {
        fs::read(self.path(relative)).expect("it exists")
    }

    fn temporaries(&self, folder: &str) -> usize {
        let entries = fs::read_dir(self.path(folder)).expect("lists");
        entries
            .filter(|e| is_temporary(&e.as_ref().expect("an entry").file_name().to_string_lossy()))
            .count()
    }
}

#[test]
fn missing_folders_are_made_and_every_name_shows_its_artifact() {
    let bench = Bench::new();
    let placed = bench.place(&["project/a/b/flux.png"], &["project/m/0.glb", "project/m/1.glb"]);
    let expected = ["project/a/b/flux.png", "project/m/0.glb", "project/m/1.glb"];
    assert_eq!(
        placed.expect("placed"),
        PlaceOutcome::All(expected.iter().map(|name| bench.path(name)).collect())
    );
    assert_eq!(bench.read("project/a/b/flux.png"), b"image");
    assert_eq!(bench.read("project/m/0.glb"), b"mesh");
    assert_eq!(bench.read("project/m/1.glb"), b"mesh");
    assert_eq!(bench.temporaries("project/m") + bench.temporaries("project/a/b"), 0);
}

#[test]
fn stopped_between_any_two_steps_names_show_old_or_new_and_a_repeat_completes() {
    let names = ["project/flux.png", "project/0.glb", "project/1.glb"];
    let steps = Bench::new().plan(&names[..1], &names[1..]).steps.len();
    for stop_after in 0..steps {
        let bench = Bench::new();
        for name in names {
            fs::write(bench.path(name), b"old").expect("writes");
        }
        let plan = bench.plan(&names[..1], &names[1..]);
        let mut done = 0;
        let stopped = place(&plan, &bench.path("project"), &mut |_| {
            done += 1;
            if done > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped.expect("no fault"), PlaceOutcome::Stopped);
        let shown: Vec<bool> = names
            .iter()
            .map(|name| match bench.read(name).as_slice() {
                b"old" => false,
                b"image" | b"mesh" => true,
                other => panic!("{name} shows {other:?} after step {stop_after}"),
            })
            .collect();
        // The names change from left to right, and only after everything is written.
        assert!(shown.is_sorted_by(|left, right| left >= right), "{shown:?}");
        assert_eq!(shown.iter().filter(|new| **new).count(), (done - 1).clamp(2, 5) - 2);

        let repeated = place(&plan, &bench.path("project"), &mut |_| ControlFlow::Continue(()));
        assert!(matches!(repeated, Ok(PlaceOutcome::All(_))), "{repeated:?}");
        assert_eq!(bench.read(names[0]), b"image");
        assert_eq!(bench.read(names[2]), b"mesh");
        assert_eq!(bench.temporaries("project"), 0);
    }
}

/// Stops a reader when it is dropped.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reader_in_a_tight_loop_never_sees_anything_but_a_whole_file() {
    const ROUNDS: u8 = 200;
    let bench = Bench::new();
    let content = |round: u8, size: usize| vec![round; size + usize::from(round) * 7];
    bench.artifacts(&content(0, 9000), &content(0, 40_000));
    bench.place(&["project/flux.png"], &["project/0.glb"]).expect("the first is placed");
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Also if a placement fails: the scope waits for the reader.
        let stopping = Stopping(&stop);
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                for (name, size) in [("project/flux.png", 9000), ("project/0.glb", 40_000)] {
                    let bytes = fs::read(bench.path(name)).expect("a public name never vanishes");
                    let round = bytes.first().copied().expect("never empty");
                    assert_eq!(bytes.len(), size + usize::from(round) * 7, "never short");
                    assert!(bytes.iter().all(|byte| *byte == round), "never mixed");
                    seen.insert(round);
                }
                looks.fetch_add(1, Ordering::Relaxed);
                // On Windows a file that is open is not replaced: a loop without a pause would
                // block it for ever.
                #[cfg(windows)]
                std::thread::park_timeout(Duration::from_millis(1));
            }
            seen.len()
        });
        for round in 1..=ROUNDS {
            bench.artifacts(&content(round, 9000), &content(round, 40_000));
            let looked = looks.load(Ordering::Relaxed);
            bench.place(&["project/flux.png"], &["project/0.glb"]).expect("placed");
            // Makes sure that the reader runs between the placements, however few cores there are.
            while looks.load(Ordering::Relaxed) == looked && !reader.is_finished() {
                std::thread::yield_now();
            }
        }
        drop(stopping);
        assert!(reader.join().expect("the reader saw whole files only") > 100);
    });
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_symlink_stays_one_and_what_it_points_to_is_replaced() {
        let bench = Bench::new();
        fs::create_dir(bench.path("elsewhere")).expect("makes");
        fs::write(bench.path("elsewhere/real.png"), b"old").expect("writes");
        symlink("../elsewhere/real.png", bench.path("project/flux.png")).expect("links");
        symlink(bench.path("elsewhere/new/dangling.glb"), bench.path("project/0.glb"))
            .expect("links");
        bench.place(&["project/flux.png"], &["project/0.glb"]).expect("placed");
        assert!(bench.path("project/flux.png").is_symlink());
        assert!(bench.path("project/0.glb").is_symlink());
        assert_eq!(bench.read("elsewhere/real.png"), b"image");
        assert_eq!(bench.read("elsewhere/new/dangling.glb"), b"mesh");
    }

    #[test]
    fn a_circle_of_symlinks_is_named() {
        let bench = Bench::new();
        symlink("b.png", bench.path("project/a.png")).expect("links");
        symlink("a.png", bench.path("project/b.png")).expect("links");
        let fault = bench.place(&["project/a.png"], &[]).expect_err("a circle");
        assert!(matches!(fault, PlaceFault::Unplaceable { .. }), "{fault}");
        assert!(fault.to_string().contains("circle"), "{fault}");
    }

    #[test]
    fn two_names_of_one_file_are_no_trouble() {
        let bench = Bench::new();
        symlink("0.glb", bench.path("project/result.glb")).expect("links");
        bench.place(&[], &["project/0.glb", "project/result.glb"]).expect("placed");
        assert_eq!(bench.read("project/0.glb"), b"mesh");
        assert_eq!(bench.temporaries("project"), 0);
    }

    #[test]
    fn the_permissions_of_a_replaced_file_are_kept_and_a_new_one_can_be_read_by_others() {
        let bench = Bench::new();
        let history = fs::Permissions::from_mode(0o600);
        fs::set_permissions(bench.path("history/mesh.glb"), history).expect("chmod");
        for name in ["project/0.glb", "project/1.glb"] {
            fs::write(bench.path(name), b"old").expect("writes");
        }
        let chmod = |name: &str, mode| {
            fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).expect("chmod");
        };
        chmod("project/0.glb", 0o664);
        chmod("project/1.glb", 0o440);
        bench.place(&[], &["project/0.glb", "project/1.glb", "project/2.glb"]).expect("placed");
        let mode = |name: &str| fs::metadata(bench.path(name)).expect("exists").mode() & 0o777;
        assert_eq!((mode("project/0.glb"), mode("project/1.glb")), (0o664, 0o440));
        assert_eq!(mode("project/2.glb") & !0o644, 0);
        assert_eq!(mode("project/2.glb") & 0o600, 0o600);
    }

    #[test]
    fn a_planted_symlink_under_our_temporary_name_is_not_written_through() {
        let bench = Bench::new();
        let plan = bench.plan(&["project/flux.png"], &[]);
        fs::write(bench.path("victim"), b"precious").expect("writes");
        symlink(bench.path("victim"), bench.path("project").join(&plan.names[0].temporary))
            .expect("links");
        place(&plan, &bench.path("project"), &mut |_| ControlFlow::Continue(())).expect("placed");
        assert_eq!(bench.read("victim"), b"precious");
        assert_eq!(bench.read("project/flux.png"), b"image");
    }

    #[test]
    fn a_folder_without_write_permission_suspends_the_job() {
        let bench = Bench::new();
        let mut plan = bench.plan(&["project/flux.png"], &["project/0.glb"]);
        plan.names[1].target = "/proc/self/0.glb".into();
        let fault = place(&plan, &bench.path("project"), &mut |_| ControlFlow::Continue(()))
            .expect_err("not in /proc");
        assert!(fault.is_transient(), "{fault}");
        assert!(!bench.path("project/flux.png").exists(), "nothing is shown before all is written");
        assert_eq!(bench.temporaries("project"), 0, "and nothing is left behind");
    }

    #[test]
    fn a_device_is_not_replaced() {
        let mut plan = Bench::new().plan(&["project/flux.png"], &[]);
        plan.names[0].target = "/dev/null".into();
        let bench = Bench::new();
        plan.names[0].source = bench.path("history/image.png");
        let fault = place(&plan, &bench.path("project"), &mut |_| ControlFlow::Continue(()))
            .expect_err("a device");
        assert!(matches!(fault, PlaceFault::Unplaceable { .. }), "{fault}");
    }
}

#[test]
fn neither_the_projects_root_nor_what_is_above_it_is_ever_made() {
    let bench = Bench::new();
    fs::rename(bench.path("project"), bench.path("moved")).expect("renames");
    for gone in ["project", "drive/project"] {
        let target = bench.path(gone).join("data/flux.png");
        let root = bench.path(gone);
        let fault = replace_if(&target, &root, b"{}", "x", || true).expect_err("it is gone");
        assert!(fault.is_transient(), "{fault}");
        assert!(fault.to_string().contains("does not exist"), "{fault}");
        assert!(!root.exists());
    }
    assert!(!bench.path("drive").exists());
}

#[cfg(unix)]
#[test]
fn a_root_behind_a_symlink_that_leads_nowhere_is_not_made() {
    let bench = Bench::new();
    std::os::unix::fs::symlink(bench.path("drive/art"), bench.path("linked")).expect("links");
    let (root, target) = (bench.path("linked"), bench.path("linked/data/flux.png"));
    let fault = replace_if(&target, &root, b"{}", "x", || true).expect_err("it is gone");
    assert!(fault.is_transient() && !bench.path("drive").exists(), "{fault}");
    fs::create_dir_all(bench.path("drive/art")).expect("makes");
    replace_if(&target, &root, b"{}", "x", || true).expect("it is there");
    assert_eq!(bench.read("drive/art/data/flux.png"), b"{}");
}

#[test]
fn a_file_time_can_be_given() {
    let bench = Bench::new();
    let when = WallTime::from_unix_millis(1_234_567_000);
    let plan = bench
        .plan(&["project/flux.png"], &["project/0.glb"])
        .with_file_time(ArtifactKind::Mesh, when);
    place(&plan, &bench.path("project"), &mut |_| ControlFlow::Continue(())).expect("placed");
    let modified = |name: &str| fs::metadata(bench.path(name)).and_then(|m| m.modified());
    assert_eq!(modified("project/0.glb").ok(), system_time(when));
    assert_ne!(modified("project/flux.png").ok(), system_time(when));
}

#[test]
fn what_a_person_must_change_is_distinguished_from_what_is_temporary() {
    let bench = Bench::new();
    fs::write(bench.path("project/file"), b"").expect("writes");
    fs::create_dir(bench.path("project/folder.glb")).expect("makes");
    for (target, message) in [
        ("project/file/0.glb", "a file stands where a folder should be"),
        ("project/folder.glb", "a folder has that name"),
    ] {
        let fault = bench.place(&["project/flux.png"], &[target]).expect_err(target);
        assert!(!fault.is_transient(), "{fault}");
        assert!(fault.to_string().contains(message), "{fault}");
        assert!(!bench.path("project/flux.png").exists(), "{target}: nothing was shown");
        assert_eq!(bench.temporaries("project"), 0, "{target}");
    }
    for (kind, parked) in [
        (io::ErrorKind::StorageFull, true),
        (io::ErrorKind::QuotaExceeded, true),
        (io::ErrorKind::ReadOnlyFilesystem, true),
        (io::ErrorKind::PermissionDenied, true),
        (io::ErrorKind::NotADirectory, false),
        (io::ErrorKind::InvalidFilename, false),
    ] {
        let fault = PlaceFault::of_target(Path::new("/x"), kind.into());
        assert_eq!(fault.is_transient(), parked, "{fault}");
    }
}

#[test]
fn a_file_that_another_program_holds_parks_the_job_and_says_who_and_what_to_do() {
    let refusal = io::Error::from(io::ErrorKind::PermissionDenied);
    let fault =
        PlaceFault::held_open(Path::new("/m/0.glb"), refusal, &["Blender (process 7)".into()]);
    let said = fault.to_string();
    assert!(fault.is_transient(), "{said}");
    assert!(said.contains("Blender (process 7) has it open; close it"), "{said}");
    assert!(said.contains("safe in history"), "{said}");
}

/// A program that opened a public name as the C library does is waited for, then reported; nothing
/// is lost, and the next try works.
#[cfg(windows)]
#[test]
fn a_name_in_use_on_windows_parks_the_job_until_it_is_let_go() {
    use std::os::windows::fs::OpenOptionsExt;
    let bench = Bench::new();
    fs::write(bench.path("project/0.glb"), b"old").expect("writes");
    let open = File::options().read(true).share_mode(1 | 2).open(bench.path("project/0.glb"));
    let reader = open.expect("opens");
    let fault = bench.place(&["project/flux.png"], &["project/0.glb"]).expect_err("in use");
    assert!(fault.is_transient(), "{fault}");
    assert!(fault.to_string().contains("close"), "{fault}");
    assert_eq!((bench.read("project/0.glb"), bench.temporaries("project")), (b"old".to_vec(), 0));
    drop(reader);
    bench.place(&["project/flux.png"], &["project/0.glb"]).expect("free again");
    assert_eq!(bench.read("project/0.glb"), b"mesh");
}

#[cfg(windows)]
#[test]
fn a_read_only_name_is_replaced_and_stays_read_only() {
    let bench = Bench::new();
    let name = bench.path("project/0.glb");
    fs::write(&name, b"old").expect("writes");
    let read_only = |on: bool| {
        let mut permissions = fs::metadata(&name).expect("it is there").permissions();
        let before = permissions.readonly();
        permissions.set_readonly(on);
        fs::set_permissions(&name, permissions).expect("may");
        before
    };
    read_only(true);
    bench.place(&[], &["project/0.glb"]).expect("placed");
    assert_eq!(bench.read("project/0.glb"), b"mesh");
    assert!(read_only(false), "the attribute is kept");
}

#[test]
fn a_lost_artifact_changes_nothing_public() {
    let bench = Bench::new();
    fs::remove_file(bench.path("history/mesh.glb")).expect("removes");
    let fault = bench.place(&["project/flux.png"], &["project/0.glb"]).expect_err("no mesh");
    assert!(matches!(fault, PlaceFault::SourceLost { .. }), "{fault}");
    assert!(!bench.path("project/flux.png").exists());
    assert_eq!(bench.temporaries("project"), 0);
}

#[test]
fn a_single_public_file_is_replaced_whole() {
    let bench = Bench::new();
    let path = bench.path("project/data/state.json");
    replace_if(&path, bench.temp.path(), b"{}", "state-1", || true).expect("made");
    replace_if(&path, bench.temp.path(), b"{\"a\":1}", "state-2", || true).expect("replaced");
    assert_eq!(bench.read("project/data/state.json"), b"{\"a\":1}");
    assert_eq!(bench.temporaries("project/data"), 0);
}
