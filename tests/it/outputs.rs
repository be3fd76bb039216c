//! What appears under the public names: only complete and checked files, whenever they are read.
//!
//! Owns bad products, broken downloads, and a reader that never stops reading.

#[cfg(unix)]
use std::process::Stdio;
use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use conjured::{
    clock::Clock,
    disk::place::{PlaceOutcome, place},
    domain::job::{
        JobId, JobState,
        artifact::ArtifactKind,
        placement::{self, Artifact, Targets},
    },
    simulator::{
        faults::{Call, Fault, Order},
        gesture_camera::GestureCamera,
        produce::{Product, Spoiled},
    },
};

#[cfg(unix)]
use crate::support::service::quick;
use crate::support::{
    media,
    patience::eventually,
    stage::{DemoProject, files_below},
    tunnel::{Port, Speaks, Tunnel},
};

#[cfg(unix)]
const HOUR: Duration = Duration::from_secs(3600);

fn spoiled(product: Product, content: Spoiled) -> Order {
    Fault::File { product, content }.into()
}

fn download(fault: Fault) -> Order {
    Order::from(fault).on(Call::Download).only(Product::Mesh).always()
}

#[test]
fn a_mesh_that_blender_could_not_read_never_gets_to_a_public_name() {
    refuses_all(&[
        ("a mesh cut in the middle", spoiled(Product::Mesh, Spoiled::Cut), true),
        ("a mesh of no bytes", spoiled(Product::Mesh, Spoiled::ZeroBytes), true),
        ("a web page instead of a mesh", spoiled(Product::Mesh, Spoiled::Html), true),
        ("a mesh whose coordinates are no numbers", spoiled(Product::Mesh, Spoiled::Nan), true),
    ]);
}

#[test]
fn a_picture_that_is_none_or_a_bomb_never_gets_to_a_public_name() {
    refuses_all(&[
        ("half a picture", spoiled(Product::Image, Spoiled::Cut), true),
        ("a picture of no bytes", spoiled(Product::Image, Spoiled::ZeroBytes), true),
        ("a web page instead of a picture", spoiled(Product::Image, Spoiled::Html), true),
        ("a picture of 400 million pixels", spoiled(Product::Image, Spoiled::Bomb), true),
    ]);
}

#[test]
fn files_from_elsewhere_and_files_without_end_are_not_fetched() {
    let at = |url: &str| -> Order {
        Fault::ProductUrl { product: Product::Mesh, url: url.to_owned() }.into()
    };
    let redirect = |url: &str| download(Fault::Redirect { url: url.to_owned() });
    refuses_all(&[
        ("a mesh on a foreign host", at("https://files.example.com/mesh.glb"), false),
        ("a mesh behind a name", at("https://127.0.0.1@files.example.com/mesh.glb"), false),
        ("a mesh behind a backslash", at("https://files.example.com\\@127.0.0.1/m.glb"), false),
        ("a mesh on this machine's disk", at("file:///etc/passwd"), false),
        ("a mesh in its own address", at("data:model/gltf-binary;base64,Z2xURg=="), false),
        ("a redirect to a foreign host", redirect("https://files.example.com/mesh.glb"), false),
        ("a redirect to a cloud's metadata", redirect("http://169.254.169.254/latest"), false),
        ("a redirect to this machine", redirect("http://localhost:9/mesh.glb"), false),
        (
            "a mesh that claims ten gigabytes",
            download(Fault::ContentLength { claimed: 10_000_000_000 }),
            false,
        ),
    ]);
}

/// After one good job, lets each of the faults spoil one job.
#[track_caller]
fn refuses_all(cases: &[(&str, Order, bool)]) {
    let stage = DemoProject::new();
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let good = stage.public_bytes();
    let quarantine = || files_below(&stage.state_dir().join("quarantine")).len();

    for (number, (name, order, kept)) in cases.iter().enumerate() {
        let before = quarantine();
        stage.service.order(order.clone());
        stage.say(&format!("make me {name}"));
        let jobs = stage.ended(number + 2);
        let job = jobs.last().expect("a job");
        assert_eq!(job.state, JobState::Failed, "{name}");
        let reason = job.reason.as_ref().map(|reason| reason.text.as_str()).unwrap_or_default();
        assert!(reason.len() > 20, "{name}: a person is told why: {reason:?}");
        assert!(stage.public_bytes() == good, "{name}: the public files are not what they were");
        assert_eq!(stage.leftovers(), Vec::<std::path::PathBuf>::new(), "{name}");
        assert_eq!(quarantine() > before, *kept, "{name}: quarantine, {reason}");
        stage.service.clear_faults();
    }
    let stats = stage.service.stats();
    assert_eq!(stats.submits, cases.len() as u64 + 1, "nothing was sent again");
    assert_eq!(stats.authorization_leaks, 0);
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let stage = DemoProject::new();
    let cut = Order::from(Fault::CutAt { fraction: 0.5 });
    stage.service.order(cut.on(Call::Download).only(Product::Mesh));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    let [picture, mesh, _] = stage.public_bytes();
    assert_eq!(stats.downloads, 3, "the picture, half of the mesh, the other half");
    let whole = (picture.len() + mesh.len()) as u64;
    assert_eq!(stats.bytes_downloaded, whole, "no byte came twice");
    assert_eq!(stats.authorization_leaks, 0);
}

#[test]
fn a_url_that_ran_out_is_replaced_by_asking_for_the_result_again() {
    let stage = DemoProject::new();
    for status in [403, 404] {
        let gone = Fault::Http { status, retry_after: None, body: None, accepted: false };
        stage.service.order(Order::from(gone).on(Call::Download).only(Product::Mesh));
    }
    // While the service does not answer, nothing is known about the file.
    let silence = Fault::Http { status: 502, retry_after: None, body: None, accepted: false };
    stage.service.order(Order::from(silence).on(Call::Result).after(1));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.downloads, stats.result_calls), (1, 4, 3));
}

#[test]
fn a_mesh_that_flows_without_end_stops_at_the_limit_and_leaves_the_disk_as_it_was() {
    let mut stage = DemoProject::new();
    stage.set("placement.max_artifact_mb", "1");
    let mut flood = b"HTTP/1.1 200 OK\r\ncontent-type: model/gltf-binary\r\n\r\n".to_vec();
    flood.resize(32 << 20, b'g');
    // Its target does not exist: these bytes are its own.
    let nowhere = Port::closed();
    let tunnel = Tunnel::open(Port::closed(), nowhere.address, Speaks::Bytes(flood.leak()));
    let url = format!("http://{}/mesh.glb", tunnel.address);
    stage.service.order(Fault::ProductUrl { product: Product::Mesh, url });
    let _daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.ended(1);
    let reason = jobs[0].reason.as_ref().map(|reason| reason.text.as_str()).unwrap_or_default();
    assert_eq!(jobs[0].state, JobState::Failed, "{reason}");
    assert!(reason.contains("1 MB"), "{reason}");
    let kept: u64 = files_below(&stage.state_dir().join("history"))
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|data| data.len())
        .sum();
    assert!(kept < 200_000, "{kept} bytes are left in history");
}

// Windows does not rename or remove a folder in which files are open.
#[cfg(unix)]
#[test]
fn a_root_that_is_gone_is_not_made_anew_and_the_result_is_placed_when_it_is_back() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    let elsewhere = stage.path("renamed");
    fs::rename(stage.root(), &elsewhere).expect("renames");
    stage.service.advance(HOUR);
    let said = eventually("the job says what it waits for", || {
        let doing = daemon.status()?.projects.first()?.job.as_ref()?.doing.clone();
        doing.contains("does not exist").then_some(doing)
    });
    assert!(said.contains("root") && said.contains("safe in history"), "{said}");
    stage.newest_is(JobState::Placing);
    assert!(!stage.root().exists(), "nothing stands in for the root");

    fs::rename(&elsewhere, stage.root()).expect("renames back");
    stage.done(1);
    assert_eq!(stage.submits(), 1);
}

// Windows does not rename or remove a folder in which files are open.
#[cfg(unix)]
#[test]
fn a_folder_of_ones_own_below_a_root_that_is_gone_is_refused_before_anything_is_sent() {
    let stage = DemoProject::new();
    fs::rename(stage.root(), stage.path("renamed")).expect("renames");
    let out = stage.root().join("mine").display().to_string();
    let output = stage.cli(&["once", "--prompt", "a clay owl", "--out", &out]);
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"), "{output:?}");
    assert!(!stage.root().exists(), "the root was not made");
    assert_eq!(stage.submits(), 0);
}

#[test]
fn a_reader_during_sixty_placements_never_sees_a_missing_or_broken_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let targets = Targets {
        image: vec![path("flux/flux.png")],
        mesh: vec![path("models/result.glb"), path("models/partpacker_result_0.glb")],
    };
    let artifacts = [(ArtifactKind::Image, "image.png"), (ArtifactKind::Mesh, "mesh.glb")]
        .map(|(kind, name)| Artifact { kind, path: path(name) });
    let mut camera = GestureCamera::with_side(96);
    let mut placement = |number: u16| {
        fs::write(path("image.png"), camera.frame(number.into())).expect("writes");
        fs::write(path("mesh.glb"), media::mesh(1 + number % 7 * 40)).expect("writes");
        let id = JobId::from_parts(Clock.now().wall, number.into());
        let plan = placement::plan(id, &artifacts, &targets).expect("good names");
        let placed = place(&plan, folder.path(), &mut |_| ControlFlow::Continue(()));
        assert!(matches!(placed, Ok(PlaceOutcome::All(_))), "{placed:?}");
    };
    placement(0);
    let names: Vec<&Path> = targets.image.iter().chain(&targets.mesh).map(AsRef::as_ref).collect();
    let faults = while_reading(&names, || (1..=60).for_each(&mut placement));
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn a_reader_sees_whole_files_while_the_daemon_places_new_ones() {
    let stage = DemoProject::new();
    let _daemon = stage.start();
    stage.say("a clay owl, number 0");
    stage.done(1);
    let public = stage.public();
    let names: Vec<&Path> = public.iter().map(AsRef::as_ref).collect();
    let faults = while_reading(&names, || {
        for round in 1..=2 {
            let before = stage.public_bytes();
            stage.say(&format!("a clay owl, number {round}"));
            stage.done(round + 1);
            assert!(stage.public_bytes() != before, "new files were placed");
        }
    });
    assert_eq!(faults, Vec::<String>::new());
}

/// Ends the reader, also if the work fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads the files in a tight loop during `work`; returns what was wrong with them.
fn while_reading(names: &[&Path], work: impl FnOnce()) -> Vec<String> {
    let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut faults = Vec::new();
            while !over.load(Ordering::Relaxed) {
                faults.extend(names.iter().filter_map(|path| media::fault(path)));
                looks.fetch_add(1, Ordering::Relaxed);
            }
            faults
        });
        {
            let _over = Over(&over);
            let begun = || (looks.load(Ordering::Relaxed) > 0).then_some(());
            eventually("the reader has begun", begun);
            work();
        }
        let faults = reader.join().expect("the reader does not panic");
        assert!(looks.load(Ordering::Relaxed) > 1, "the reader has read beside the work");
        faults
    })
}

#[test]
fn a_folder_of_ones_own_that_cannot_take_the_result_is_refused_before_anything_is_paid() {
    let stage = DemoProject::new();
    fs::write(stage.path("a file"), b"").expect("writes");
    let daemon = stage.start();
    let file = stage.path("a file/results").display().to_string();
    for (out, kind) in [("relative/x", "usage"), (file.as_str(), "cannot_write")] {
        let body = serde_json::json!({ "prompt": "a clay owl", "out": out }).to_string();
        let answer = daemon.post("/v1/once", &body).expect("an answer");
        assert!(answer.contains(kind) && answer.contains("nothing was sent"), "{out}: {answer}");
    }
    assert_eq!((stage.submits(), stage.jobs().len()), (0, 0));
}

// Windows does not rename or remove a folder in which files are open.
#[cfg(unix)]
#[test]
fn a_folder_of_ones_own_that_goes_bad_during_the_run_does_not_hold_up_the_artist() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let _daemon = stage.start();
    let folder = stage.path("results");
    let out = folder.display().to_string();
    let mut once = stage.command(&["once", "--prompt", "a clay stork", "--out", &out]);
    let once = once.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut once = once.expect("the binary starts");
    stage.newest_is(JobState::Running);
    fs::remove_dir(&folder).expect("it is empty");
    fs::write(&folder, b"in the way").expect("writes");
    stage.service.advance(HOUR);
    assert_eq!(once.wait().expect("it ends").code(), Some(73));
    let job = stage.ended(1).remove(0);
    assert_eq!(job.state, JobState::Failed);
    assert!(job.spent().0 > 0, "it was charged, and is on the books");
    let kept = stage.state_dir().join("history").join(job.id.to_string()).join("mesh.glb");
    assert!(kept.is_file(), "what was paid for is in history");
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    stage.service.advance(HOUR);
    assert_eq!(stage.ended(2)[1].state, JobState::Done);
}
