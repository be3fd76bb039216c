//! History in a temporary state folder: staging, downloads across crashes, quarantine, removal.

use std::io::Read;

use super::{partial::SYNC_EVERY, quarantine::prune, *};
use crate::domain::time::WallTime;

fn open() -> (tempfile::TempDir, History) {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let history = History::open(temp.path()).expect("opens");
    (temp, history)
}

fn job(number: u128) -> JobId {
    JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), number)
}

fn origin() -> Fingerprint {
    Fingerprint::of(b"request 1, node 33")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn staged_inputs_become_a_jobs_or_vanish() {
    let (temp, history) = open();
    let root = temp.path().join("history");
    drop(history.stage(b"a carrot", b"png").expect("stages"));
    assert!(names(&root).is_empty());
    let folder = history.stage(b"a carrot", b"png").expect("stages").commit(job(1)).expect("one");
    history.sync().expect("syncs");
    assert_eq!(names(&root), [job(1).to_string()]);
    assert_eq!(fs::read(folder.prompt()).expect("reads"), b"a carrot");
    assert_eq!(fs::read(folder.render()).expect("reads"), b"png");
    assert_eq!(history.sweep().expect("sweeps"), 0);
}

#[cfg(unix)]
#[test]
fn everything_in_history_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (temp, history) = open();
    let root = temp.path().join("history");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
    History::open(temp.path()).expect("opens again");
    let folder = history.stage(b"a", b"b").expect("stages").commit(job(1)).expect("commits");
    folder.write_record(b"{}").expect("writes");
    let partial = folder.download(ArtifactKind::Mesh, &origin(), 9).expect("opens");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!((mode(&root), mode(folder.path())), (0o700, 0o700));
    for file in [folder.prompt(), folder.path().join(RECORD), partial.path().to_path_buf()] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn what_a_crash_left_half_made_or_half_removed_is_swept() {
    let (temp, history) = open();
    let staged = history.stage(b"a", b"b").expect("stages");
    let _crashed = staged.folder.keep();
    fs::create_dir(temp.path().join("history").join(format!("{DROPPED}{}", job(2)))).expect("made");
    history.job(job(1)).expect("a folder");
    assert_eq!(history.sweep().expect("sweeps"), 2);
    assert_eq!(names(&temp.path().join("history")), [job(1).to_string()]);
}

#[test]
fn a_download_goes_on_where_it_was_cut_and_becomes_the_artifact() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens");
    partial.append(b"glTF").expect("appends");
    drop(partial);
    let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens again");
    assert_eq!(partial.len(), 4);
    partial.append(b" mesh").expect("appends");
    let mut checked = String::new();
    partial.reader().expect("opens").read_to_string(&mut checked).expect("reads");
    assert_eq!(checked, "glTF mesh");
    assert_eq!(folder.artifact(ArtifactKind::Mesh), None, "not before it is finished");
    let path = partial.finish().expect("finishes");
    assert_eq!(folder.artifact(ArtifactKind::Mesh), Some(path.clone()));
    assert_eq!(fs::read(path).expect("reads"), b"glTF mesh");
    assert_eq!(names(folder.path()), ["mesh.glb"]);
}

#[test]
fn another_origin_begins_from_nothing() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens");
    partial.append(b"old").expect("appends");
    drop(partial);
    let image = folder.download(ArtifactKind::Image, &origin(), 100).expect("the other kind");
    let other = folder.download(ArtifactKind::Mesh, &Fingerprint::of(b"2"), 100).expect("opens");
    assert!(other.is_empty());
    assert!(image.path().exists(), "the other kind is left alone");
    assert_eq!(names(folder.path()).len(), 2, "the old remains are gone");
}

#[test]
fn after_a_loss_of_power_only_what_was_synced_is_believed() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let boot = |boot| Partial::open(folder.path(), ArtifactKind::Mesh, &origin(), u64::MAX, boot);
    let mut partial = boot("one").expect("opens");
    let chunk = vec![1_u8; 3 << 20];
    partial.append(&chunk).expect("appends");
    partial.append(&chunk).expect("appends across the sync");
    drop(partial);
    assert_eq!(boot("one").expect("the same boot").len(), 6 << 20);
    let mut next = boot("two").expect("the next boot");
    assert_eq!(next.len(), SYNC_EVERY);
    next.append(b"x").expect("appends");
    assert_eq!(fs::metadata(next.path()).expect("exists").len(), SYNC_EVERY + 1);
    drop(next);
    assert_eq!(boot("two").expect("again").len(), SYNC_EVERY + 1);
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn a_download_beyond_the_limit_is_cut_off() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Image, &origin(), 5).expect("opens");
    let error = partial.append(b"123456").expect_err("too large");
    assert!(matches!(error, PartialError::TooLarge { limit: 5, .. }), "{error}");
    assert_eq!(fs::metadata(partial.path()).expect("exists").len(), 5);
    drop(partial);
    let smaller = folder.download(ArtifactKind::Image, &origin(), 4).expect("opens");
    assert!(smaller.is_empty(), "what cannot be right is not continued");
}

#[test]
fn an_artifact_never_changes() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Image, &origin(), 100).expect("opens");
    partial.append(b"webp").expect("appends");
    partial.finish_as(b"png").expect("finishes");
    assert_eq!(names(folder.path()), ["image.png"]);
    let again = folder.download(ArtifactKind::Image, &origin(), 100).expect("opens");
    let error = again.finish().expect_err("it is there");
    assert_eq!(error.cause.kind(), io::ErrorKind::AlreadyExists);
    let image = folder.artifact(ArtifactKind::Image).expect("it stays");
    assert_eq!(fs::read(image).expect("reads"), b"png");
}

#[test]
fn a_restarted_download_is_empty() {
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens");
    partial.append(b"something longer").expect("appends");
    partial.restart().expect("restarts");
    partial.append(b"short").expect("appends");
    assert_eq!(fs::read(partial.path()).expect("reads"), b"short");
}

#[test]
fn a_bad_file_goes_into_quarantine_with_its_reason_and_never_as_a_mesh() {
    let (temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    for number in 1..=2 {
        let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens");
        partial.append(b"<html>").expect("appends");
        let bad = history.quarantine(job(1), partial, "not a GLB").expect("moves");
        assert_eq!(bad, temp.path().join(format!("quarantine/{}-mesh-{number}.bad", job(1))));
        assert_eq!(fs::read(&bad).expect("reads"), b"<html>");
        assert_eq!(fs::read(bad.with_extension("txt")).expect("reads"), b"not a GLB");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn quarantine_is_bounded_and_keeps_the_newest() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = |number: u64| temp.path().join(format!("{number}.bad"));
    for number in 0..6 {
        fs::write(path(number), vec![0; 10]).expect("writes");
        fs::write(path(number).with_extension("txt"), b"why").expect("writes");
        let age = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
        File::options()
            .write(true)
            .open(path(number))
            .and_then(|f| f.set_modified(age))
            .expect("age");
    }
    prune(temp.path(), &path(0), 4, 1000).expect("prunes by count");
    assert_eq!(names(temp.path()).len(), 8);
    assert!(path(0).exists() && !path(1).exists() && !path(2).exists());
    prune(temp.path(), &path(0), 4, 20).expect("prunes by size");
    assert!(path(0).exists() && path(5).exists() && !path(3).exists() && !path(4).exists());
    prune(temp.path(), &path(0), 4, 1).expect("prunes");
    assert_eq!(names(temp.path()), ["0.bad", "0.txt"]);
}

#[test]
fn jobs_are_listed_by_age_with_their_weight_and_removed_whole() {
    let (temp, history) = open();
    for number in [2, 1] {
        history.stage(b"12345", b"123").expect("stages").commit(job(number)).expect("commits");
    }
    fs::write(temp.path().join("history/a stranger"), b"").expect("writes");
    let expected = [1, 2].map(|number| StoredJob { job: job(number), bytes: 8 });
    assert_eq!(history.jobs().expect("lists"), expected);
    history.remove(job(1)).expect("removes");
    history.remove(job(1)).expect("gone already");
    assert_eq!(history.jobs().expect("lists"), expected[1..]);
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_download_as_long_as_it_says() {
    // A file that cannot grow is the closest that an unprivileged test gets to a full disk.
    let (_temp, history) = open();
    let folder = history.job(job(1)).expect("a folder");
    let mut partial = folder.download(ArtifactKind::Mesh, &origin(), 100).expect("opens");
    partial.append(b"good").expect("appends");
    partial.file = File::open(partial.path()).expect("read-only");
    assert!(partial.append(b"lost").is_err());
    assert_eq!((partial.len(), fs::metadata(partial.path()).expect("exists").len()), (4, 4));
}
