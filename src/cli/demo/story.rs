//! The demo's script: the artist's actions, and the explanations for a newcomer.
//!
//! Owns the order of events and the waiting for them; every reported number is read from the daemon
//! or the simulator.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::stage::Stage;
use crate::{
    cli::{
        context::Context,
        exit::{Failure, JOB_FAILED, TRY_AGAIN},
        out::{plain, span},
    },
    domain::{
        job::{JobId, JobState},
        status::Status,
    },
    simulator::{Simulator, gesture_camera},
};

/// The longest that any step of the demo may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(25);

/// How long the camera renders an unchanged scene before anything happens: two renders.
const IDLE_TIME: Duration = Duration::from_millis(6500);

/// What happened during the demo.
pub(super) struct DemoResult {
    /// The jobs, in order.
    pub(super) jobs: Vec<JobId>,
    /// How many requests the simulator received.
    pub(super) submits: u64,
    /// The simulated cost.
    pub(super) cost: crate::domain::money::MicroUsd,
}

/// Runs the script.
pub(super) async fn play_story(
    context: &Context,
    stage: &Stage,
    simulator: &Simulator,
    mut statuses: watch::Receiver<Arc<Status>>,
    scene: watch::Sender<u32>,
) -> Result<DemoResult, Failure> {
    let out = context.out;
    out.data(format!(
        "{}\nA simulated RunComfy, a stand-in for Blender's camera, and the real daemon, on a project in\n  {}\n",
        out.bold("The demo of conjured: no account, no network, no cost"),
        stage.root.display()
    ));
    out.data("1. Blender renders the scene every three seconds, with new bytes each time.");
    wait_until(&mut statuses, "the first scan", |status| {
        status.projects.iter().any(|project| project.render.state == "whole")
    })
    .await?;
    tokio::time::sleep(IDLE_TIME).await;
    let submits = simulator.stats().submits;
    out.data(format!("   No pixel changed, so nothing is sent: {submits} requests so far.\n"));
    if submits != 0 {
        return Err(Failure::new(JOB_FAILED, "the demo sent an unchanged scene"));
    }

    let mut jobs = Vec::new();
    out.data("2. The artist sculpts something new and says: \"an owl\".");
    let before = render_fingerprint(&statuses.borrow());
    scene.send_replace(2);
    // The render changes before the prompt, so that the new prompt is sent with the new picture.
    wait_until(&mut statuses, "the new picture", |status| render_fingerprint(status) != before)
        .await?;
    let owl = gesture_camera::prompt("a clay owl", "big eyes, ruffled feathers and a crooked beak");
    stage.write_prompt(&owl)?;
    jobs.push(watch_job(context, &mut statuses, &jobs).await?);
    out.data("   That was a cold start: a machine had to start first, and its start is billed.\n");

    out.data("3. The artist says: \"make it brass\". The machine is still warm.");
    let brass =
        gesture_camera::prompt("a brass owl", "polished rivets, gears for eyes, warm metal");
    stage.write_prompt(&brass)?;
    jobs.push(watch_job(context, &mut statuses, &jobs).await?);

    let stats = simulator.stats();
    Ok(DemoResult { jobs, submits: stats.submits, cost: stats.bill })
}

/// Follows the next job and reports each of its steps once.
async fn watch_job(
    context: &Context,
    statuses: &mut watch::Receiver<Arc<Status>>,
    before: &[JobId],
) -> Result<JobId, Failure> {
    let out = context.out;
    let status =
        wait_until(statuses, "a job", |status| current_job(status, before).is_some()).await?;
    let job =
        current_job(&status, before).ok_or_else(|| Failure::new(JOB_FAILED, "no job started"))?;
    let mut last = String::new();
    loop {
        let status = Arc::clone(&statuses.borrow_and_update());
        let at_work = status.projects.iter().find_map(|project| project.job.as_ref());
        if let Some(at_work) = at_work.filter(|at_work| at_work.id == job) {
            let message = format!("{}: {}", at_work.state, plain(&at_work.doing));
            if message != last {
                let elapsed = span(Duration::from_millis(at_work.elapsed_ms));
                out.data(format!("   {elapsed:>6}  {message}"));
                last = message;
            }
        } else {
            let ended = status
                .projects
                .iter()
                .find_map(|project| project.last_job.as_ref())
                .filter(|ended| ended.id == job);
            match ended {
                Some(ended) if ended.state == JobState::Done => return Ok(job),
                Some(ended) => {
                    let reason = ended.reason.clone().unwrap_or_default();
                    return Err(Failure::new(
                        JOB_FAILED,
                        format!("job {job} ended as `{}`: {reason}", ended.state),
                    ));
                }
                // The status loop knows that the job ended; the ledger's answer is about to arrive.
                None => {}
            }
        }
        let changed = tokio::time::timeout(STEP_TIMEOUT, statuses.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Err(timed_out("the end of the job"));
        }
    }
}

/// Returns the fingerprint of the last render that was seen.
fn render_fingerprint(status: &Status) -> Option<String> {
    status.projects.iter().find_map(|project| project.render.fingerprint.clone())
}

fn current_job(status: &Status, before: &[JobId]) -> Option<JobId> {
    let job = status.projects.iter().find_map(|project| project.job.as_ref())?;
    (!before.contains(&job.id)).then_some(job.id)
}

async fn wait_until(
    statuses: &mut watch::Receiver<Arc<Status>>,
    what: &str,
    done: impl Fn(&Status) -> bool,
) -> Result<Arc<Status>, Failure> {
    match tokio::time::timeout(STEP_TIMEOUT, statuses.wait_for(|status| done(status))).await {
        Ok(Ok(status)) => Ok(Arc::clone(&status)),
        Ok(Err(_)) | Err(_) => Err(timed_out(what)),
    }
}

fn timed_out(what: &str) -> Failure {
    Failure::new(
        TRY_AGAIN,
        format!(
            "the demo gave up after waiting {} for {what}; this machine may be very busy",
            span(STEP_TIMEOUT)
        ),
    )
}
