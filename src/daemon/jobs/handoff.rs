//! One handoff from its beginning to its end: the only code that gives a mesh to CONJURE.
//!
//! Owns the time between two steps, the job's notes, and the sentences for `status`. What a step
//! does belongs to [`crate::handoff`]. A handoff ends in bounded time, whatever CONJURE does,
//! because a job must not block the next one. The mesh is already placed, so a handoff that fails
//! does not fail its job: it becomes a warning and an event of the job.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    backend::http,
    config::{enums::Handoff, settings::PlacementConfig},
    daemon::services::{
        Services,
        messages::{Control, JobReport},
        runtime_config::RuntimeConfig,
        store::blocking,
    },
    domain::{
        blender::handoff::{
            SPLIT_MARKER, STATE_FILE,
            decide::{HandoffRules, HandoffWait, StateRead},
        },
        engine::event::ProjectId,
        job::{
            JobId,
            artifact::ArtifactKind,
            placement::{PlacementPlan, Targets},
        },
        time::{Moment, WallTime},
    },
    handoff::{HandoffProgress, HandoffRequest, HandoffRunner, import_call, state_file},
};

/// The folder of the job's own copy if the project has no public mesh.
const USUAL_FOLDER: &str = "data/generated_models/partpacker_results";

/// The age given to the file of a handed-over mesh: older than the launcher's last trigger, which
/// comes every half minute, or after a pipeline of at most ten minutes.
const FILE_AGE: Duration = Duration::from_secs(15 * 60);

/// How long a handoff continues when something newer is ready: enough to stage the mesh, to send
/// the request, and to send it once more. The mesh was paid for, and without this the artist would
/// see nothing of it.
const YIELD_AFTER: Duration = Duration::from_secs(5);

/// The same once CONJURE has the request: a running Blender takes it at once, and otherwise the
/// request stays.
const YIELD_AFTER_REQUEST: Duration = Duration::from_secs(1);

/// The input of a handoff.
#[derive(Clone, Debug)]
pub(crate) struct HandoffJob {
    pub(crate) project: ProjectId,
    /// The job whose mesh it is.
    pub(crate) job: JobId,
    /// 0 for the job's own handoff; a different number for each later one, such as the time
    /// in milliseconds.
    pub(crate) sequence: u64,
    pub(crate) root: PathBuf,
    /// The mesh in history.
    pub(crate) mesh: PathBuf,
    /// The project's public names.
    pub(crate) targets: Targets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandoffOutcome {
    /// Blender has taken the mesh.
    Taken,
    /// The mesh is placed and the handoff was given up, for this reason.
    GivenUp(String),
    /// The daemon stops; the next session continues.
    Stopped,
}

/// Returns whether CONJURE is to be told of meshes. With `auto` it is if a launcher says that it is
/// running, or if that cannot be read at this moment; otherwise a mesh is only placed.
pub(crate) async fn should_hand_over(config: &RuntimeConfig, root: &Path) -> bool {
    match config.settings.placement.handoff {
        Handoff::Off => false,
        Handoff::Api | Handoff::State => true,
        Handoff::Auto => {
            let state = root.join(STATE_FILE);
            match blocking(move || state_file::read_state(&state).0).await {
                StateRead::Missing => false,
                StateRead::Unreadable(_) => true,
                StateRead::State(conjure_state) => {
                    conjure_state.is_running() || conjure_state.is_starting()
                }
            }
        }
    }
}

/// Gives the public mesh an old file time if CONJURE is told of it: its launcher
/// automatically imports a mesh that is younger than its last trigger, and a second import
/// would remove the first.
pub(crate) fn with_old_mesh_time(plan: PlacementPlan, now: WallTime) -> PlacementPlan {
    plan.with_file_time(ArtifactKind::Mesh, now.minus(FILE_AGE))
}

fn rules(way: Handoff) -> HandoffRules {
    let usual = HandoffRules::default();
    match way {
        Handoff::Auto | Handoff::Off => usual,
        Handoff::Api => HandoffRules { force: true, file: false, ..usual },
        Handoff::State => HandoffRules { force: true, api: false, ..usual },
    }
}

/// Describes the handoff to its runner.
fn request(handoff: HandoffJob, folder: PathBuf, placement: &PlacementConfig) -> HandoffRequest {
    HandoffRequest {
        job: handoff.job,
        sequence: handoff.sequence,
        root: handoff.root,
        mesh: handoff.mesh,
        folder,
        min_volume_threshold: placement.min_volume_threshold,
        rules: rules(placement.handoff),
    }
}

/// Hands a mesh over. `doing` is called with what it waits for; `wish` may end it: to stop, or,
/// within a few seconds, because something newer is ready. A project's handoffs run one after
/// another, and a later one ends the one before.
pub(crate) async fn hand_over(
    services: &Services,
    handoff: HandoffJob,
    control: &mut watch::Receiver<Control>,
    doing: &mut (dyn FnMut(String) + Send),
) -> HandoffOutcome {
    let config = services.config.borrow().clone();
    let placement = &config.settings.placement;
    let (project, job) = (handoff.project, handoff.job);
    let name = handoff.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = folder_of(services, &handoff.targets, &handoff.root).await;
    let mut runner = match HandoffRunner::new(request(handoff, folder, placement)) {
        Ok(runner) => runner,
        Err(why) => {
            return end_waiting(services, job, &format!("the handoff cannot start: {why}"), false)
                .await;
        }
    };
    let client =
        blocking(|| http::plain_client().connect_timeout(import_call::CONNECT_TIMEOUT).build())
            .await;
    let turn = services.locks.queue_handoff(project);
    let _alone = tokio::select! {
        alone = turn.wait_turn() => alone,
        () = wait_for_stop(control) => return HandoffOutcome::Stopped,
    };
    let (mut imported, mut hurries): (bool, Option<Moment>) = (false, None);
    // The control came before the handoff began, and will not be signalled again.
    if *control.borrow_and_update() == Control::Supersede {
        hurries = Some(services.clock.now().moment);
    }
    loop {
        let now = services.clock.now().moment;
        let (back, mut step) = blocking(move || {
            let step = runner.step(now);
            (runner, step)
        })
        .await;
        runner = back;
        if let Some(competitor) = runner.take_competing_launcher() {
            warn(services, competitor.message(&name)).await;
        }
        if let HandoffProgress::Call(call) = step {
            let outcome = match &client {
                Ok(client) => tokio::select! {
                    outcome = call.send(client, &placement.conjure_url) => outcome,
                    () = wait_for_stop(control) => return HandoffOutcome::Stopped,
                },
                Err(error) => import_call::ImportOutcome::Refused(error.to_string()),
            };
            step = runner.record_call(services.clock.now().moment, &call, outcome);
        }
        for note in runner.take_notes() {
            tracing::info!(job = %job, "{note}");
            append_note(services, job, note).await;
        }
        match step {
            HandoffProgress::Taken => {
                report_import(services, project).await;
                return HandoffOutcome::Taken;
            }
            HandoffProgress::GivenUp { waiting, requested: asked } => {
                return end_waiting(services, job, &waiting.to_string(), asked).await;
            }
            // It was replaced by the outcome above.
            HandoffProgress::Call(_) => {}
            HandoffProgress::Wait(wait, waiting) => {
                if waiting == HandoffWait::Untaken && !imported {
                    // From now on Blender may import at any moment, and its next picture shows our
                    // own change.
                    imported = true;
                    report_import(services, project).await;
                }
                doing(waiting.to_string());
                let asked = waiting == HandoffWait::Untaken;
                if turn.is_superseded() {
                    return end_waiting(
                        services,
                        job,
                        "a later mesh is handed over instead",
                        asked,
                    )
                    .await;
                }
                let enough = if asked { YIELD_AFTER_REQUEST } else { YIELD_AFTER };
                if hurries.is_some_and(|since| now.since(since) >= enough) {
                    return end_waiting(services, job, &waiting.to_string(), asked).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    changed = control.changed() => {
                        let control = changed.map_or(Control::Stop, |()| *control.borrow_and_update());
                        match control {
                            Control::Stop => return HandoffOutcome::Stopped,
                            Control::Continue => {}
                            Control::Supersede => {
                                hurries.get_or_insert(now);
                            }
                            Control::Cancel => {
                                return end_waiting(services, job, &waiting.to_string(), asked).await;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the folder for the job's own copy of the mesh, and warns if CONJURE treats that path in
/// a special way.
async fn folder_of(services: &Services, targets: &Targets, root: &Path) -> PathBuf {
    let folder = targets.mesh.first().and_then(|name| name.parent().map(Path::to_path_buf));
    let folder = folder.unwrap_or_else(|| root.join(USUAL_FOLDER));
    if folder.display().to_string().contains(SPLIT_MARKER) {
        let message = format!(
            "the path {} contains `{SPLIT_MARKER}`: CONJURE will split a mesh of one part into its loose \
             pieces; rename the folder if you do not want that",
            folder.display()
        );
        warn(services, message).await;
    }
    folder
}

/// Hands over what a person has restored. No job waits for it: it ends with the daemon, and the
/// next one does not resume it.
pub(crate) async fn hand_over_again(
    services: &Services,
    project: ProjectId,
    job: JobId,
    root: PathBuf,
    targets: Targets,
) {
    let history = Arc::clone(&services.history);
    let mesh = blocking(move || history.past(job).artifact(ArtifactKind::Mesh)).await;
    let Some(mesh) = mesh else { return };
    // The job's own handoff was turn 0; each later one has its own number.
    let turn = services.clock.now().wall.unix_millis().unsigned_abs().max(1);
    let handoff = HandoffJob { project, job, sequence: turn, root, mesh, targets };
    let (_go, mut control) = watch::channel(Control::Continue);
    hand_over(services, handoff, &mut control, &mut |_| {}).await;
}

/// Waits for the daemon to stop; every other control is read later.
async fn wait_for_stop(control: &mut watch::Receiver<Control>) {
    // An error means that the loop is gone.
    let _ = control.wait_for(|control| *control == Control::Stop).await;
}

async fn report_import(services: &Services, project: ProjectId) {
    drop(services.reports.send(JobReport::Imported { project }).await);
}

async fn warn(services: &Services, message: String) {
    drop(services.reports.send(JobReport::Warning(message)).await);
}

async fn end_waiting(services: &Services, job: JobId, why: &str, asked: bool) -> HandoffOutcome {
    let message = if asked {
        format!("placed; {why} (the request stays in CONJURE's state.json)")
    } else {
        format!(
            "placed, but not handed over to CONJURE: {why}; import it with \"Force Import Last \
             Mesh\" in Blender"
        )
    };
    append_note(services, job, message.clone()).await;
    // Without the job's id: the same problem with ten jobs is one warning.
    warn(services, format!("the newest mesh is {message}")).await;
    HandoffOutcome::GivenUp(message)
}

/// Adds a line to the job's events. It decides nothing, so a ledger that cannot be written now does
/// not stop a handoff.
async fn append_note(services: &Services, job: JobId, note: String) {
    let now = services.clock.now().wall;
    let noted = services.store.with(move |ledger| ledger.note(job, "handoff", &note, now)).await;
    if let Err(error) = noted {
        tracing::warn!(job = %job, %error, "could not record a step of the handoff");
    }
}
