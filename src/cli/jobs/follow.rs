//! Shows a job's progress: a bar on a terminal, plain lines otherwise.
//!
//! Owns only the display. Statuses come from a running daemon or from one in this process; it
//! returns when the job is over or stuck. How the job ended is read from the ledger.

use std::{sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::{
    cli::{
        daemon_client::DaemonClient,
        exit::Failure,
        out::{Out, plain, span},
    },
    domain::{
        job::{JobId, JobState},
        status::{Job, Status},
    },
};

/// How long a job may wait for a folder that cannot be written before the command reports it
/// and returns.
const STUCK_PLACING_MS: u64 = 8_000;

/// Where statuses come from.
#[derive(Debug)]
pub enum StatusSource {
    /// A daemon, through its socket.
    Remote(DaemonClient),
    /// A daemon in this process.
    Local(watch::Receiver<Arc<Status>>),
}

impl StatusSource {
    /// Waits for a status newer than `revision`.
    pub async fn newer(&mut self, revision: u64) -> Result<Arc<Status>, Failure> {
        match self {
            Self::Remote(client) => client.newer(revision).await.map(Arc::new),
            Self::Local(receiver) => {
                // If the sender is gone, the last status is final.
                drop(receiver.wait_for(|status| status.revision > revision).await);
                Ok(Arc::clone(&receiver.borrow()))
            }
        }
    }
}

/// How following ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowEnd {
    /// The job is no longer active.
    Ended,
    /// Its artifacts wait until a folder can be written; contains the reason.
    StuckPlacing(String),
}

/// Shows a job's progress until it is over.
pub async fn follow(
    source: &mut StatusSource,
    job: JobId,
    out: &Out,
) -> Result<FollowEnd, Failure> {
    let mut display = Display::new(out);
    let mut revision = 0;
    let mut placing_since = None;
    let mut seen = false;
    loop {
        let status = source.newer(revision).await?;
        if status.revision == revision && status.daemon.stopping {
            display.finish();
            return Ok(FollowEnd::Ended);
        }
        revision = status.revision;
        let at_work = status
            .projects
            .iter()
            .filter_map(|project| project.job.as_ref())
            .find(|at| at.id == job);
        let Some(at_work) = at_work else {
            // The daemon returns a job's id before its status shows the job, so a job that was
            // never seen is not over yet.
            if !seen && !has_ended(&status, job) {
                continue;
            }
            display.finish();
            return Ok(FollowEnd::Ended);
        };
        seen = true;
        display.show(at_work);
        if at_work.state == JobState::Placing && at_work.doing.starts_with("cannot place") {
            let since = *placing_since.get_or_insert(at_work.elapsed_ms);
            if at_work.elapsed_ms.saturating_sub(since) >= STUCK_PLACING_MS {
                display.finish();
                return Ok(FollowEnd::StuckPlacing(at_work.doing.clone()));
            }
        }
    }
}

/// Returns whether a status shows that this job ended, or shows a later job: ids sort by time.
fn has_ended(status: &Status, job: JobId) -> bool {
    status.projects.iter().any(|project| {
        project.last_job.as_ref().is_some_and(|last| last.id >= job)
            || project.job.as_ref().is_some_and(|at_work| at_work.id > job)
            || project.unknown.contains(&job)
    })
}

struct Display {
    out: Out,
    bar: Option<ProgressBar>,
    last: String,
}

impl Display {
    fn new(out: &Out) -> Self {
        let bar = out.bars.then(|| {
            let bar = ProgressBar::new(1000);
            // The template is constant and used by every run on a terminal; on an error the default
            // bar is good enough.
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { out: *out, bar, last: String::new() }
    }

    fn show(&mut self, job: &Job) {
        let line = line(job);
        if let Some(bar) = &self.bar {
            bar.set_position(progress_permille(job));
            bar.set_message(line);
        } else {
            let message = format!("{}: {}", job.state, plain(&job.doing));
            if message != self.last {
                self.out
                    .info(format!("{:>8}  {message}", span(Duration::from_millis(job.elapsed_ms))));
                self.last = message;
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(job: &Job) -> String {
    let elapsed = span(Duration::from_millis(job.elapsed_ms));
    let mut line = format!("{} · {} · {elapsed}", job.state, plain(&job.doing));
    if let Some(eta) = job.eta
        && job.elapsed_ms < eta.p90_ms
        && !matches!(job.state, JobState::Placing | JobState::Placed | JobState::Done)
    {
        let left = Duration::from_millis(eta.median_ms.saturating_sub(job.elapsed_ms));
        let known = if eta.samples == 0 { "estimate" } else { "from past jobs" };
        line.push_str(&format!(", about {} left ({known})", span(left)));
    }
    if let Some(received) = job.received {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let mb = |bytes: u64| bytes as f64 / 1_000_000.0;
        match received.total {
            Some(total) => {
                line.push_str(&format!(", {:.1} of {:.1} MB", mb(received.bytes), mb(total)));
            }
            None => line.push_str(&format!(", {:.1} MB", mb(received.bytes))),
        }
    }
    line
}

/// Returns the progress in thousandths, from the expected duration; it never reaches the end before
/// the job does.
fn progress_permille(job: &Job) -> u64 {
    let by_time = job
        .eta
        .filter(|eta| eta.median_ms > 0)
        .map_or(0, |eta| job.elapsed_ms.saturating_mul(900) / eta.median_ms)
        .min(900);
    match job.state {
        JobState::Done => 1000,
        JobState::Placed | JobState::HandingOver => 990,
        JobState::Fetched | JobState::Placing => 960,
        _ => by_time,
    }
}
