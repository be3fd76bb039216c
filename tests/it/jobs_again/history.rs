//! `history.keep_jobs` and `history.keep_mb`: what is removed, what stays, and that the ledger
//! keeps everything.

use std::{fs, time::Duration};

use conjured::domain::{job::JobId, time::WallTime};

use super::{audit, lost, once, said};
use crate::support::{
    patience::{eventually, stays},
    stage::DemoProject,
};

/// Returns the jobs that have a folder.
fn folders(stage: &DemoProject) -> Vec<String> {
    let entries = fs::read_dir(stage.state_dir().join("history")).expect("lists");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn the_oldest_go_and_what_is_gone_is_told_by_whoever_would_need_it() {
    let mut stage = DemoProject::new();
    let ids: Vec<String> =
        ["an owl", "a fox", "a bat"].map(|message| once(&stage, message).id.to_string()).to_vec();
    stage.set("history.keep_jobs", "2");
    let _daemon = stage.start();
    eventually("the oldest is gone", || (folders(&stage) == ids[1..]).then_some(()));
    assert_eq!(stage.jobs().len(), 3, "the ledger keeps its rows");
    let shown = stage.json(&["jobs", "show", &ids[0], "--json"]);
    assert_eq!(shown["artifacts"][0]["in_history"], false, "{shown}");
    for verb in ["restore", "rerun"] {
        let output = stage.cli(&["jobs", verb, &ids[0]]);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(said(&output).contains("no longer in"), "{output:?}");
    }
    assert_eq!(folders(&stage), ids[1..], "and asking makes no folder");
    let rows: Vec<_> = audit(&stage).into_iter().filter(|(what, _)| what == "retention").collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].1.contains(&ids[0]), "{rows:?}");

    let output = stage.cli(&["once", "--prompt", "an owl"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stage.submits(), 4, "what is gone cannot serve the same work");
    eventually("after each job it is looked at again", || {
        let left = folders(&stage);
        (left.len() == 2 && left[0] == ids[2]).then_some(())
    });
    stage.assert_public_whole();
}

#[test]
fn the_newest_success_and_what_is_not_settled_stay_whatever_the_limit() {
    let mut stage = DemoProject::new();
    let done = once(&stage, "a clay owl").id.to_string();
    let unknown = lost(&stage, "a clay fox").id.to_string();
    stage.json(&["jobs", "rate", &done, "1", "--json"]);
    // Jobs that exist only as a folder, one older and one newer, and folders that are not jobs.
    let history = stage.state_dir().join("history");
    let strangers = [1, 4_000_000_000_000]
        .map(|millis| JobId::from_parts(WallTime::from_unix_millis(millis), 1).to_string());
    for name in &strangers {
        fs::create_dir(history.join(name)).expect("makes");
        fs::write(history.join(name).join("mesh.glb"), vec![0; 2_000_000]).expect("writes");
    }
    let outside = stage.path("outside");
    fs::create_dir(&outside).expect("makes");
    fs::write(outside.join("precious"), b"precious").expect("writes");
    let mut left = vec![done, unknown];
    // On Windows only an administrator may create one.
    #[cfg(unix)]
    {
        let link = JobId::from_parts(WallTime::from_unix_millis(2), 2).to_string();
        std::os::unix::fs::symlink(&outside, history.join(&link)).expect("links");
        left.push(link);
    }

    stage.set("history.keep_jobs", "1");
    stage.set("history.keep_mb", "1");
    let daemon = stage.start();
    left.sort();
    eventually("the others are gone", || (folders(&stage) == left).then_some(()));
    stays(Duration::from_millis(300), "and no more", || folders(&stage) == left);
    assert!(outside.join("precious").exists());
    assert!(daemon.status().is_some());
}

#[test]
fn a_history_that_vanishes_is_a_warning_and_the_daemon_lives() {
    let stage = DemoProject::new();
    once(&stage, "a clay owl");
    let daemon = stage.start();
    fs::rename(stage.state_dir().join("history"), stage.path("gone")).expect("renames");
    stage.say("a clay fox");
    eventually("a warning", || {
        let status = daemon.status()?;
        status.warnings.iter().any(|warning| warning.contains("history")).then_some(())
    });
    fs::rename(stage.path("gone"), stage.state_dir().join("history")).expect("renames");
    assert!(daemon.status().is_some());
}
