//! Decides whether debounced inputs may start a job now, and if not, why and until when.
//!
//! Owns the `[trigger]` rules that concern one project. [`crate::engine`] decides how many jobs
//! run at once and what happens to an active one; [`crate::money::budget`] decides whether there
//! is money.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::debounce::{Channel, Quiet, Sight};
use crate::{job::Cause, time::Moment};

/// Which changes may start a job (`trigger.on`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// A change of either input.
    #[default]
    Either,
    /// A change of the prompt.
    Prompt,
    /// A change of the render.
    Render,
    /// Both inputs have changed since the last job.
    Both,
}

/// What happens to an active job when a new snapshot is ready (`trigger.when_busy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// A job in the backend's queue is cancelled; a running one finishes first.
    #[default]
    ReplaceQueued,
    /// No job is ever cancelled.
    Wait,
    /// A running job is cancelled too.
    Cancel,
}

/// What the first scan after a start means (`trigger.at_start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtStart {
    /// It is compared with the last job; for a project that was never seen before it sets
    /// the baseline.
    #[default]
    Changed,
    /// It starts a job.
    Always,
    /// It sets the baseline.
    Never,
}

/// The validated trigger settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which changes may start a job.
    pub on: On,
    /// The debounce window of the prompt.
    pub prompt: Quiet,
    /// The debounce window of the render.
    pub render: Quiet,
    /// The shortest time between two jobs caused by the render alone.
    pub min_interval: Duration,
    /// The maximum number of jobs that start within an hour, across all projects.
    pub max_jobs_per_hour: u32,
    /// Whether a job caused by the render alone waits while hands are in the picture.
    pub hold_while_sculpting: bool,
    /// How long after a placement changed renders count as the effect of our own mesh.
    pub after_result_hold: Duration,
    /// What happens to an active job.
    pub when_busy: WhenBusy,
    /// What the first scan means.
    pub at_start: AtStart,
}

impl Default for Settings {
    /// Returns the defaults of `config.example.toml`.
    fn default() -> Self {
        Self {
            on: On::Either,
            prompt: Quiet {
                quiet: Duration::from_millis(300),
                max_wait: Some(Duration::from_secs(2)),
            },
            render: Quiet { quiet: Duration::from_secs(4), max_wait: None },
            min_interval: Duration::from_secs(30),
            max_jobs_per_hour: 60,
            hold_while_sculpting: true,
            after_result_hold: Duration::from_secs(10),
            when_busy: WhenBusy::ReplaceQueued,
            at_start: AtStart::Changed,
        }
    }
}

/// The longest time that a prompt waits while the render is being written. `prompt_max_wait_ms` is
/// the limit for a prompt that keeps changing while the picture is stable or changes at Blender's
/// normal rate (a tenth of a second every three). If *both* files are rewritten without a pause, a
/// program is writing and not an artist: then one job after the burst is the right result, and this
/// constant limits the wait for it.
pub const STORM_CEILING: Duration = Duration::from_secs(15);

/// Why no job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing has changed since the last job.
    Unchanged,
    /// An input changed and its debounce window is still open.
    Settling(Moment),
    /// The prompt cannot be used for a job, for the given reason.
    NoPrompt(String),
    /// The render cannot be used for a job, for the given reason.
    NoRender(String),
    /// Only the render changed, and the last such job was too recent.
    MinInterval(Moment),
    /// `trigger.on = "both"`, and only one input has changed.
    OtherInput,
}

/// The result of the trigger rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start a job for the newest complete snapshot.
    Release(Cause),
    /// Do not start a job now.
    Wait(Wait),
}

/// Decides whether the two inputs, in their current state, may start a job.
pub fn decide(
    settings: &Settings,
    prompt: &Channel,
    render: &Channel,
    last_render_only: Option<Moment>,
    now: Moment,
) -> Decision {
    let prompt_pending = prompt.ready_at(settings.prompt);
    let render_pending = render.ready_at(settings.render);
    let starts = match settings.on {
        On::Either => prompt_pending.is_some() || render_pending.is_some(),
        On::Prompt => prompt_pending.is_some(),
        On::Render => render_pending.is_some(),
        On::Both => prompt_pending.is_some() && render_pending.is_some(),
    };
    // A missing input is reported before "unchanged": it answers the question "why does
    // nothing happen?".
    if prompt.current().is_none() {
        return Decision::Wait(Wait::NoPrompt(reason(prompt.sight(), "the prompt")));
    }
    if render.current().is_none() {
        return Decision::Wait(Wait::NoRender(reason(render.sight(), "the render")));
    }
    if !starts {
        let half =
            settings.on == On::Both && (prompt_pending.is_some() || render_pending.is_some());
        return Decision::Wait(if half { Wait::OtherInput } else { Wait::Unchanged });
    }

    let by_prompt = prompt_pending.filter(|_| settings.on != On::Render);
    let by_render = render_pending.filter(|_| settings.on != On::Prompt);
    let ready = match (by_prompt, by_render) {
        (Some(prompt_ready), Some(render_ready)) if settings.on == On::Both => {
            prompt_ready.max(render_ready)
        }
        // A changed prompt never waits for the render's long window: both are sent when the prompt
        // is ready.
        (Some(prompt_ready), _) => prompt_ready,
        (None, Some(render_ready)) => render_ready,
        (None, None) => now,
    };
    let ready = ready.max(end_of_flux(prompt, render, now));
    if ready > now {
        return Decision::Wait(Wait::Settling(ready));
    }

    let cause = match (prompt_pending, render_pending) {
        (Some(_), Some(_)) => Cause::Both,
        (Some(_), None) => Cause::Prompt,
        (None, _) => Cause::Render,
    };
    if by_prompt.is_none() {
        let free = last_render_only.map(|last| last.plus(settings.min_interval));
        if let Some(until) = free.filter(|until| *until > now) {
            return Decision::Wait(Wait::MinInterval(until));
        }
    }
    Decision::Release(cause)
}

/// Returns when the render is no longer being written, limited by [`STORM_CEILING`].
fn end_of_flux(prompt: &Channel, render: &Channel, now: Moment) -> Moment {
    let Some(flux) = render.flux_until(now) else { return Moment::default() };
    match prompt.pending_since().or(render.pending_since()) {
        Some(first) => flux.min(first.plus(STORM_CEILING)),
        None => flux,
    }
}

fn reason(sight: Option<&Sight>, what: &str) -> String {
    match sight {
        None => format!("{what} has not been read yet"),
        Some(Sight::Missing) => format!("{what} does not exist yet"),
        Some(Sight::Unfinished { size: 0 }) => format!("{what} is still empty"),
        // The file changed while it was read, so its size is not known.
        Some(Sight::Unfinished { size: u64::MAX }) => format!("{what} is being written"),
        Some(Sight::Unfinished { size }) => {
            format!("{what} is incomplete ({size} bytes so far)")
        }
        Some(Sight::Refused(reason)) => reason.clone(),
        // `Sight::Whole` always sets the content, so this case cannot occur.
        Some(Sight::Whole(_)) => format!("{what} is complete"),
    }
}
