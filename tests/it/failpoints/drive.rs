//! One case: a world, a daemon that is ordered to die, and everything until the scenario is over.
//!
//! Owns the order of events: only the first daemon is ordered to die; wherever it dies, the next
//! one is started at once and the scenario continues. [`super::judge`] checks what must be true at
//! the end.

use std::{cell::RefCell, fs, os::unix::process::ExitStatusExt as _, time::Duration};

use conjured::{
    clock::Clock,
    domain::{
        inputs::{
            png,
            prompt::{self, IgnorePatterns},
        },
        job::JobState,
    },
    failpoint::{Side, VARIABLE},
    ledger::{FILE, Ledger, rows::JobRow},
};
use rustix::process::Signal;

use super::{Case, Play, Step, judge};
use crate::support::{
    daemon::TestDaemon,
    fake_conjure::{FakeConjure, Manners},
    patience::eventually,
    service::comfyui,
    stage::DemoProject,
};

/// The number of `SIGKILL`.
const KILLED: i32 = 9;

/// A world in which a daemon is going to die.
struct World {
    stage: DemoProject,
    daemon: RefCell<Option<TestDaemon>>,
    died: RefCell<bool>,
}

/// Runs a case to its end and judges it.
pub(super) fn play(case: Case) {
    let mut stage = DemoProject::new();
    prepare(&stage, case);
    let conjure = (case.play() == Play::HandedOver).then(|| {
        stage.set("placement.handoff", "\"state\"");
        FakeConjure::start(&stage.root(), Manners { launcher: None, ..Manners::default() })
    });
    let comfyui = (case.play() == Play::Elsewhere).then(|| {
        let comfyui = comfyui(Duration::from_millis(100));
        stage.set("local.providers", r#"["comfyui"]"#);
        stage.set("local.comfyui_url", &format!("{:?}", comfyui.url()));
        stage.set_mode("auto");
        comfyui
    });
    let side = if case.side == Side::Before { "before" } else { "after" };
    let order = format!("{}:{side}:{}", case.point.name(), case.nth);
    let mut command = stage.command(&["run"]);
    command.env(VARIABLE, order);
    let daemon = TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr"));
    let world = World { stage, daemon: RefCell::new(Some(daemon)), died: RefCell::new(false) };
    for step in case.steps() {
        world.go(&step);
    }
    eventually("the daemon dies at the point, which it must reach", || {
        world.look();
        world.died.borrow().then_some(())
    });
    // The scenario is over, so the last start only has to clean up what the death left.
    let submits = world.stage.submits();
    let daemon = world.daemon.take().expect("a daemon runs").ready();
    eventually("each job that is done has its record", || {
        let done = world.stage.jobs().into_iter().filter(|job| job.state == JobState::Done);
        let history = world.stage.state_dir().join("history");
        done.map(|job| history.join(job.id.to_string()).join("job.json"))
            .all(|record| record.is_file())
            .then_some(())
    });
    assert!(daemon.stop().success(), "it stops in good order");
    assert_eq!(world.stage.submits(), submits, "nothing is sent at the end");
    judge::judge(&world.stage, case);
    if let Some(comfyui) = comfyui {
        let runs = comfyui.calls().iter().filter(|call| *call == "POST /prompt").count();
        assert!(runs <= 1, "a free run is made once, too");
    }
    if let Some(conjure) = conjure {
        let done = world.stage.jobs().iter().filter(|job| job.state == JobState::Done).count();
        assert_eq!(conjure.finish().len(), done, "each mesh is imported, once");
    }
}

/// Creates what existed before the daemon that dies.
fn prepare(stage: &DemoProject, case: Case) {
    if case.play() == Play::FirstStart {
        return;
    }
    // A known project whose present inputs are its baseline, so that the next prompt is a change.
    let state = stage.state_dir();
    conjured::disk::dirs::make_private(&state).expect("makes");
    let mut ledger = Ledger::open(&state.join(FILE)).expect("opens");
    let root = conjured::disk::dirs::canonical(&stage.root()).display().to_string();
    let now = Clock.now().wall;
    let project = ledger.touch_project(&root, "test", now).expect("writes");
    let prompt = fs::read(stage.prompt()).expect("reads");
    let prompt = prompt::read(&prompt, &IgnorePatterns::new(&[]).expect("none")).expect("text");
    let render = png::check(&fs::read(stage.render()).expect("reads")).expect("a picture");
    ledger
        .set_baseline(project.id, Some(prompt.fingerprint), Some(render.fingerprint), now)
        .expect("writes");
    drop(ledger);
    if case.play() == Play::LeftOvers {
        let left = state.join("history/.staging-left");
        fs::create_dir_all(&left).expect("makes");
        fs::write(left.join("prompt.txt"), b"half").expect("writes");
        let folder = stage.public()[1].parent().expect("a folder").to_path_buf();
        fs::create_dir_all(&folder).expect("makes");
        fs::write(folder.join(".conjured-left-0.part"), b"half").expect("writes");
    }
}

impl World {
    /// Checks whether the daemon has died, and starts the next one if so.
    fn look(&self) {
        let mut daemon = self.daemon.borrow_mut();
        let Some(ended) = daemon.as_mut().expect("a daemon runs").has_ended() else { return };
        assert_eq!(ended.signal(), Some(KILLED), "it ended, and not at the point: {ended}");
        assert!(!self.died.replace(true), "it died a second time");
        *daemon = Some(self.stage.start());
    }

    /// Waits for a condition while the daemon may die.
    #[track_caller]
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        eventually(what, || {
            self.look();
            look()
        })
    }

    fn job(&self, message: &str) -> Option<JobRow> {
        self.stage.jobs().into_iter().rfind(|job| job.prompt_excerpt == message)
    }

    #[track_caller]
    fn ends(&self, message: &str, state: JobState, known: usize) {
        let job = self.until(&format!("the job of `{message}` ends"), || {
            let same = self.stage.jobs().iter().filter(|job| job.prompt_excerpt == message).count();
            self.job(message).filter(|job| job.state.is_final() && same > known)
        });
        let ends_so = [state, JobState::Unknown].contains(&job.state)
            || (state, job.state) == (JobState::Replaced, JobState::Cancelled);
        assert!(ends_so, "`{message}` ended as `{}`: {:?}", job.state, job.reason);
    }

    fn go(&self, step: &Step) {
        match step {
            Step::Baseline => self.until("the first baseline", || {
                let reader = Ledger::open_read_only(&self.stage.state_dir().join(FILE)).ok()?;
                let project = reader.projects().ok()?.pop()?;
                (project.baseline_prompt.is_some() && project.baseline_render.is_some())
                    .then_some(())
            }),
            Step::Order(order) => self.stage.service.order(order.clone()),
            Step::Clear => self.stage.service.clear_faults(),
            Step::Say(message, state) => {
                let before = self.stage.jobs();
                let known = before.iter().filter(|job| job.prompt_excerpt == *message).count();
                self.stage.say(message);
                self.ends(message, *state, known);
            }
            Step::Begin(message) => {
                self.stage.say(message);
                self.until(&format!("the job of `{message}` is at the service"), || {
                    self.job(message).filter(|job| job.request.is_some() || job.state.is_final())
                });
            }
            Step::Cancel(message) => {
                let mut asked = None;
                self.until(&format!("the job of `{message}` is cancelled"), || {
                    let job = self.job(message)?;
                    let generation = *self.died.borrow();
                    if !job.state.is_final() && asked != Some(generation) {
                        asked = Some(generation);
                        drop(self.stage.cli(&["jobs", "cancel", &job.id.to_string()]));
                    }
                    job.state.is_final().then_some(())
                });
                self.ends(message, JobState::Cancelled, 0);
            }
            Step::Ends(message, state) => self.ends(message, *state, 0),
            Step::Rate(message) => {
                let job = self.job(message).expect("it has ended");
                self.until("the rating is kept", || {
                    // A daemon that is still starting does not answer yet.
                    drop(self.stage.cli(&["jobs", "rate", &job.id.to_string(), "4"]));
                    self.job(message)?.rating.map(drop)
                });
            }
            Step::Stop => {
                let daemon = self.daemon.take().expect("a daemon runs");
                daemon.signal(Signal::TERM);
                let ended = daemon.ended();
                if ended.signal() == Some(KILLED) {
                    assert!(!self.died.replace(true), "it died a second time");
                } else {
                    assert!(ended.success(), "{ended}");
                }
                *self.daemon.borrow_mut() = Some(self.stage.start());
            }
        }
    }
}
