//! Every mode runs jobs in the same way, and when one backend is unavailable another one is used:
//! which, how soon, and at what cost.
//!
//! Owns what is visible from outside. The rule itself is tested as a table in `domain::route`, and
//! the protocols of the backends next to their adapters.

use std::time::Duration;

use conjured::{
    domain::job::{JobState, choose_backend::BackendKind},
    simulator::{
        Settings,
        comfyui::Comfy,
        faults::{Fault, Order},
        gradio::Gradio,
    },
};

use crate::support::{
    patience::{eventually, in_the_end, stays},
    service::{Far, comfyui, quick, spaces},
    stage::DemoProject,
    tunnel::Port,
};

/// How long a run takes on the local servers.
const RUN: Duration = Duration::from_millis(300);

/// A stage with every backend: RunComfy's queue, a ComfyUI, two Spaces.
struct Town {
    stage: DemoProject,
    comfyui: Far<Comfy>,
    spaces: Far<Gradio>,
    /// Where nothing listens.
    closed: Port,
}

impl Town {
    fn new(mode: &'static str, providers: &str) -> Self {
        let settings = Settings {
            machine_start: Duration::from_millis(300),
            machine_unknown: Duration::from_millis(100),
            ..quick()
        };
        let user = format!("{:?}", settings.user);
        let mut stage = DemoProject::with(settings);
        stage.set("cloud.user_id", &user);
        stage.set("cloud.workflow_version_id", "\"simulated-version\"");
        stage.set("cloud.idle_stop_s", "60");
        let (comfyui, spaces) = (comfyui(RUN), spaces(RUN));
        stage.set("local.providers", providers);
        stage.set("local.comfyui_url", &format!("{:?}", comfyui.url()));
        stage.set("local.flux_space", &format!("{:?}", spaces.url()));
        stage.set("local.mesh_space", &format!("{:?}", spaces.url()));
        stage.set_mode(mode);
        Self { stage, comfyui, spaces, closed: Port::closed() }
    }

    /// How many runs each backend was asked for: serverless, ComfyUI, Spaces.
    fn asked(&self) -> (u64, u64, u64) {
        let prompts = self.comfyui.prompts();
        let calls = self.spaces.state().calls.clone();
        let pictures = calls.iter().filter(|(name, _)| *name == "infer").count();
        (self.stage.submits(), prompts, pictures as u64)
    }

    /// Returns the total number of runs, after checking that all of them were on this backend.
    /// Renting a machine calls no other one.
    fn runs(&self, backend: BackendKind) -> u64 {
        let (serverless, comfyui, spaces) = self.asked();
        let rented =
            self.stage.service.stats().machines.iter().map(|machine| machine.prompts).sum();
        let all = [serverless, comfyui, spaces, rented];
        let at = BackendKind::ALL.iter().position(|other| *other == backend).expect("a place");
        assert_eq!(all.iter().sum::<u64>(), all[at], "{backend}: {all:?}");
        all[at]
    }

    /// Writes a prompt and waits for the job to be done; returns the backend that ran it.
    fn made_at(&self, message: &str, count: usize) -> BackendKind {
        self.stage.say(message);
        let jobs = self.stage.done(count);
        self.stage.assert_public_whole();
        BackendKind::from_name(&jobs[count - 1].backend).expect("a place")
    }
}

/// A backend, the mode that selects it, and its providers.
const PLACES: [(BackendKind, &str, &str); 4] = [
    (BackendKind::Serverless, "serverless", "[]"),
    (BackendKind::Comfyui, "local", r#"["comfyui"]"#),
    (BackendKind::Huggingface, "local", r#"["huggingface"]"#),
    (BackendKind::Cloud, "cloud", "[]"),
];

#[test]
fn every_place_takes_one_save_to_placed_files_and_a_complete_ledger() {
    for (backend, mode, providers) in PLACES {
        let town = Town::new(mode, providers);
        let _daemon = town.stage.start();
        assert_eq!(town.made_at("a clay owl", 1), backend);
        let job = town.stage.jobs().remove(0);
        assert_eq!(
            (job.state, job.basis.is_some(), job.booked.is_some()),
            (JobState::Done, true, true)
        );
        // A rented machine is paid as a machine, not per job.
        assert_eq!(
            job.spent().0 > 0,
            backend == BackendKind::Serverless,
            "{backend}: {}",
            job.spent()
        );
        let launches = town.stage.service.stats().launches;
        assert_eq!(launches, u64::from(backend == BackendKind::Cloud), "{backend}");
        assert!(job.timing.run.is_some(), "{backend}: there is something to learn");
        assert_eq!(town.runs(backend), 1, "{backend}");
        // The same inputs are the same work: no backend is called.
        town.stage.say("a clay fox");
        town.stage.done(2);
        town.stage.say("a clay owl");
        town.stage.done(3);
        assert_eq!(town.runs(backend), 2, "{backend}");
    }
}

#[test]
fn a_job_at_every_place_survives_kill_9_in_mid_run_and_is_made_once_where_that_can_be_known() {
    for (backend, mode, providers) in PLACES {
        let town = Town::new(mode, providers);
        let daemon = town.stage.start();
        town.stage.say("a clay owl");
        town.stage.newest_is(JobState::Running);
        daemon.kill();
        let _daemon = town.stage.start();
        let job = town.stage.done(1).remove(0);
        town.stage.assert_public_whole();
        assert_eq!(job.backend, backend.name());
        let (serverless, comfyui, spaces) = town.asked();
        match backend {
            BackendKind::Serverless => assert_eq!(serverless, 1, "followed by its id"),
            BackendKind::Comfyui => assert_eq!(comfyui, 1, "found under the id that is ours"),
            // A Space's result can be fetched only once, so it is made again; that costs nothing.
            BackendKind::Huggingface => assert_eq!(spaces, 2),
            BackendKind::Cloud => assert_eq!(town.runs(backend), 1, "on the same machine"),
        }
        assert_eq!(town.stage.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

/// Returns the answer "try again in a second", which says that nothing was accepted.
fn unavailable() -> Order {
    let retry_after = Some("1".to_owned());
    Fault::Http { status: 503, retry_after, body: None, accepted: false }.into()
}

/// Causes a problem in RunComfy's queue because of which another backend must be used.
fn trouble(town: &mut Town, what: &str) {
    match what {
        "refused" => {
            town.stage.set("serverless.api_url", &town.closed.url());
        }
        "503" => town.stage.service.order(unavailable().times(50)),
        "401" => town.stage.service.set_token("another one"),
        "over budget" => town.stage.set("budget.per_session_usd", "0.000001"),
        "no deployment" => town.stage.set("serverless.deployment_id", "\"\""),
        other => unreachable!("{other}"),
    }
}

#[test]
fn when_serverless_cannot_serve_the_next_place_does_at_once_and_says_why() {
    for what in ["refused", "503", "401", "over budget", "no deployment"] {
        let mut town = Town::new("auto", r#"["comfyui", "huggingface"]"#);
        trouble(&mut town, what);
        let _daemon = town.stage.start();
        assert_eq!(town.made_at("a clay owl", 1), BackendKind::Comfyui, "{what}");
        let job = town.stage.jobs().remove(0);
        assert_eq!(job.spent().0, 0, "{what}");
        let story = town.stage.json(&["jobs", "show", &job.id.to_string(), "--json"]);
        let text = story.to_string();
        assert!(text.contains("goes to") && text.contains("serverless: "), "{what}: {text}");
        assert_eq!(town.stage.accepted(), 0, "{what}");
    }
}

#[test]
fn where_the_first_local_provider_is_not_there_the_second_serves() {
    let mut town = Town::new("local", r#"["comfyui", "huggingface"]"#);
    town.stage.set("local.comfyui_url", "\"http://127.0.0.1:9\"");
    let _daemon = town.stage.start();
    assert_eq!(town.made_at("a clay owl", 1), BackendKind::Huggingface);
    assert_eq!(town.asked(), (0, 0, 1));
}

#[test]
fn a_server_of_ones_own_that_is_closed_in_mid_run_is_given_up_and_another_place_makes_the_job() {
    let mut town = Town::new("local", r#"["comfyui", "huggingface"]"#);
    let closing = comfyui(Duration::from_secs(600));
    town.stage.set("local.comfyui_url", &format!("{:?}", closing.url()));
    let _daemon = town.stage.start();
    town.stage.say("a clay owl");
    town.stage.newest_is(JobState::Running);
    drop(closing);
    let job = town.stage.done(1).remove(0);
    assert_eq!((job.backend.as_str(), town.asked()), ("huggingface", (0, 0, 1)));
}

#[test]
fn a_free_run_that_is_lost_is_made_where_it_is_paid_once_that_is_well_again() {
    let mut town = Town::new("auto", r#"["comfyui"]"#);
    let closing = comfyui(Duration::from_secs(600));
    town.stage.set("local.comfyui_url", &format!("{:?}", closing.url()));
    town.stage.service.order(unavailable().times(50));
    let _daemon = town.stage.start();
    town.stage.say("a clay owl");
    town.stage.newest_is(JobState::Running);
    town.stage.service.clear_faults();
    drop(closing);
    let job = town.stage.done(1).remove(0);
    assert_eq!((job.backend.as_str(), town.stage.accepted()), ("serverless", 1));
    assert!(job.spent().0 > 0, "it was paid for there");
}

#[test]
fn what_was_charged_once_is_not_charged_again_after_a_restart() {
    let mut town = Town::new("auto", r#"["comfyui"]"#);
    town.stage.set("local.comfyui_url", &town.closed.url());
    town.stage.service.order(Fault::RunFails { code: 10012, shape: None });
    let daemon = town.stage.start();
    town.stage.say("a clay owl");
    // While it waits it is tried again and again: `submitting` for a moment, then `prepared`.
    let waits = |town: &Town| {
        let job = town.stage.jobs().pop()?;
        let unsent = matches!(job.state, JobState::Prepared | JobState::Submitting);
        (unsent && job.backend == "comfyui").then_some(job)
    };
    let job = eventually("it waits for the free place", || waits(&town));
    assert!(job.spent().0 > 0, "the run that failed was charged");
    daemon.kill();
    let tries = |town: &Town| {
        let shown = town.stage.json(&["jobs", "show", &job.id.to_string(), "--json"]);
        let events = shown["events"].as_array().expect("a list").clone();
        events.iter().filter(|event| event["kind"] == "submitting").count()
    };
    let before = tries(&town);
    let _daemon = town.stage.start();
    // No second paid request, however often the free place refuses it.
    eventually("it is tried there twice more", || (tries(&town) >= before + 2).then_some(()));
    assert_eq!(town.stage.submits(), 1, "no second paid request");
    let later = waits(&town).expect("it still waits");
    assert_eq!(later.spent(), job.spent(), "and what was paid stays booked");
    let free = comfyui(RUN);
    town.stage.set("local.comfyui_url", &format!("{:?}", free.url()));
    let done = town.stage.done(1).remove(0);
    assert_eq!((done.spent(), town.stage.submits()), (job.spent(), 1));
}

#[test]
fn what_was_sent_is_followed_to_its_end_when_the_mode_names_another_place() {
    let mut settings = quick();
    settings.run = Duration::from_secs(3600);
    let mut stage = DemoProject::with(settings);
    stage.set("local.providers", r#"["comfyui"]"#);
    stage.set("local.comfyui_url", "\"http://127.0.0.1:9\"");
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    stage.set_mode("local");
    eventually("the mode is in effect", || {
        daemon.stderr_text().contains("is in effect").then_some(())
    });
    stage.service.advance(Duration::from_secs(3600));
    let job = stage.done(1).remove(0);
    assert_eq!((job.backend.as_str(), stage.accepted()), ("serverless", 1));
}

#[test]
fn a_mesh_that_fails_leaves_its_image_in_history_and_nothing_to_see() {
    let town = Town::new("local", r#"["huggingface"]"#);
    town.spaces.state().errors.insert("process_3d", "CUDA out of memory".to_owned());
    let _daemon = town.stage.start();
    town.stage.say("a clay owl");
    let job = town.stage.ended(1).remove(0);
    assert_eq!(job.state, JobState::Failed);
    let folder = town.stage.state_dir().join("history").join(job.id.to_string());
    let image = std::fs::read(folder.join("image.png")).expect("it was made before");
    assert!(image.starts_with(b"\x89PNG"), "{} bytes", image.len());
    let shown = town.stage.json(&["jobs", "show", &job.id.to_string(), "--json"]);
    let kinds: Vec<_> = shown["artifacts"].as_array().expect("a list").iter().collect();
    assert!(kinds.len() == 1 && kinds[0]["kind"] == "image", "{shown}");
    assert!(town.stage.public().iter().all(|path| !path.exists()), "a pair or nothing");
}

#[test]
fn serverless_is_used_again_after_one_good_probe() {
    let town = Town::new("auto", r#"["comfyui"]"#);
    town.stage.service.order(unavailable().times(50));
    let _daemon = town.stage.start();
    for (number, message) in ["an owl", "a fox", "a hare", "a bear"].into_iter().enumerate() {
        assert_eq!(town.made_at(message, number + 1), BackendKind::Comfyui);
    }
    town.stage.service.clear_faults();
    let (mut number, mut backend) = (4, BackendKind::Comfyui);
    in_the_end("serverless serves again", || {
        number += 1;
        backend = town.made_at(&format!("figure {number}"), number);
        (backend == BackendKind::Serverless).then_some(())
    });
}

#[test]
fn a_paid_answer_that_is_lost_is_not_made_for_free_unless_that_is_asked_for() {
    for (asked, expected) in [(false, (1, 0)), (true, (1, 1))] {
        let mut town = Town::new("auto", r#"["comfyui"]"#);
        town.stage.set("local.after_unknown", if asked { "true" } else { "false" });
        town.stage.service.order(Fault::AcceptThenDrop);
        let _daemon = town.stage.start();
        town.stage.say("a clay owl");
        let count = if asked { 2 } else { 1 };
        let jobs = town.stage.ended(count);
        assert_eq!(jobs[0].state, JobState::Unknown);
        if let Some(second) = jobs.get(1) {
            assert_eq!((second.state, second.backend.as_str()), (JobState::Done, "comfyui"));
        }
        stays(Duration::from_millis(800), "no second paid submit", || {
            let (serverless, comfyui, _) = town.asked();
            (serverless, comfyui) == expected
        });
    }
}
