//! `jobs restore`: complete, checked, free of charge, and never partial.

use std::{fs, path::PathBuf, time::Duration};

use conjured::domain::job::JobState;

use super::{audit, once, said};
use crate::support::{
    daemon::TestDaemon,
    media,
    patience::{eventually, stays},
    service::quick,
    stage::DemoProject,
};

fn artifact(stage: &DemoProject, job: &str, name: &str) -> PathBuf {
    stage.state_dir().join("history").join(job).join(name)
}

#[test]
fn an_old_success_is_placed_again_for_nothing_with_a_daemon_and_without() {
    let stage = DemoProject::new();
    let first = once(&stage, "a clay owl").id.to_string();
    let owl = stage.public_bytes();
    once(&stage, "a clay fox");
    assert_ne!(stage.public_bytes(), owl);

    let restored = stage.json(&["jobs", "restore", &first, "--json"]);
    assert_eq!(restored["files"].as_array().map(Vec::len), Some(3), "{restored}");
    assert_eq!(stage.public_bytes(), owl);

    once(&stage, "a clay bat");
    let _daemon = stage.start();
    let output = stage.cli(&["jobs", "restore", &first]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stage.public_bytes(), owl);
    stage.assert_public_whole();
    assert_eq!(stage.submits(), 3, "nothing was sent");
    assert_eq!(stage.jobs().len(), 3, "and no job was made");
    let restores = audit(&stage).into_iter().filter(|(what, _)| what == "restore");
    let outcomes: Vec<_> = restores.map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["begun", "placed", "begun", "placed"]);
    let shown = stage.json(&["jobs", "show", &first, "--json"]);
    assert_eq!(
        shown["events"].as_array().and_then(|all| all.last()).expect("one")["kind"],
        "restored"
    );
}

#[test]
fn a_flipped_bit_in_history_is_refused_and_never_shown() {
    let stage = DemoProject::new();
    let old = once(&stage, "a clay owl").id.to_string();
    once(&stage, "a clay fox");
    let fox = stage.public_bytes();
    for (name, with_daemon) in [("mesh.glb", false), ("image.png", true)] {
        let path = artifact(&stage, &old, name);
        let good = fs::read(&path).expect("reads");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, &bad).expect("writes");
        let _daemon = with_daemon.then(|| stage.start());
        let output = stage.cli(&["jobs", "restore", &old]);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(said(&output).contains("damaged"), "{output:?}");
        assert_eq!(stage.public_bytes(), fox);
        fs::write(&path, &good).expect("writes");
    }
    fs::remove_file(artifact(&stage, &old, "mesh.glb")).expect("removes");
    let output = stage.cli(&["jobs", "restore", &old]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(said(&output).contains("no longer in the history"), "{output:?}");
    assert_eq!(stage.public_bytes(), fox);
}

#[test]
fn a_damaged_artifact_does_not_serve_the_same_work_either() {
    let stage = DemoProject::new();
    let old = once(&stage, "a clay owl").id.to_string();
    let path = artifact(&stage, &old, "mesh.glb");
    let mut bytes = fs::read(&path).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    once(&stage, "a clay owl");
    assert_eq!(stage.submits(), 2, "it is made anew");
    stage.assert_public_whole();
    assert_ne!(stage.public_bytes()[1], bytes);
}

#[test]
fn a_public_folder_that_cannot_be_written_leaves_everything_as_it_was() {
    let stage = DemoProject::new();
    let old = once(&stage, "a clay owl").id.to_string();
    once(&stage, "a clay fox");
    let [picture, mesh, _] = stage.public();
    let fox = fs::read(&picture).expect("reads");
    let folder = mesh.parent().expect("a folder");
    let aside = stage.path("aside");
    fs::rename(folder, &aside).expect("renames");
    fs::write(folder, b"a file where the folder should be").expect("writes");
    for with_daemon in [false, true] {
        let _daemon = with_daemon.then(|| stage.start());
        let output = stage.cli(&["jobs", "restore", &old]);
        assert_eq!(output.status.code(), Some(73), "{output:?}");
        assert!(said(&output).contains("nothing was charged"), "{output:?}");
        assert_eq!(fs::read(&picture).expect("reads"), fox, "no half of a pair");
    }
    fs::remove_file(folder).expect("removes");
    let output = stage.cli(&["jobs", "restore", &old]);
    assert!(output.status.success(), "{output:?}");
    stage.assert_public_whole();
}

#[test]
fn a_restore_killed_in_the_middle_leaves_whole_files_and_the_next_start_tidies_up() {
    let stage = DemoProject::with(conjured::simulator::Settings { mesh_grid: 160, ..quick() });
    let old = once(&stage, "a clay owl").id.to_string();
    let owl = stage.public_bytes();
    once(&stage, "a clay fox");
    for round in 0..6_u64 {
        let command = stage.command(&["jobs", "restore", &old]);
        let restoring = TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr"));
        stays(Duration::from_millis(15 + 12 * round), "whole at every moment", || {
            stage.public().iter().all(|path| media::fault(path).is_none())
        });
        restoring.kill();
        assert!(stage.public().iter().all(|path| media::fault(path).is_none()), "round {round}");
    }
    let daemon = stage.start();
    assert_eq!(stage.leftovers(), Vec::<PathBuf>::new());
    daemon.stop();
    assert!(stage.cli(&["jobs", "restore", &old]).status.success());
    assert_eq!(stage.public_bytes(), owl);
}

#[test]
fn what_a_restored_mesh_does_to_the_render_is_no_news() {
    let mut stage = DemoProject::new();
    let old = once(&stage, "a clay owl").id.to_string();
    once(&stage, "a clay fox");
    stage.set("trigger.after_result_hold_s", "30");
    let _daemon = stage.start();
    let before = stage.jobs().len();
    assert!(stage.cli(&["jobs", "restore", &old]).status.success());
    // Blender imports the mesh, so the picture changes.
    stage.film(9);
    stays(Duration::from_millis(1500), "no job", || stage.jobs().len() == before);
    stage.say("a clay bat");
    eventually("a prompt is news all the same", || {
        stage
            .jobs()
            .pop()
            .filter(|job| job.state == JobState::Done && job.prompt_excerpt == "a clay bat")
    });
}
