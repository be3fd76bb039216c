//! Decides whether debounced inputs may start a job now, and if not, why and until when.
//!
//! Owns the `[trigger]` rules that concern one project. [`crate::engine`] decides how many jobs
//! run at once and what happens to an active one; [`crate::money::budget`] decides whether there
//! is money.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::debounce::{DebouncedInput, InputState, Window};
use crate::{job::Cause, time::Moment};

/// Which changes may start a job (`trigger.on`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerOn {
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
    pub on: TriggerOn,
    /// The debounce window of the prompt.
    pub prompt: Window,
    /// The debounce window of the render.
    pub render: Window,
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
            on: TriggerOn::Either,
            prompt: Window {
                quiet: Duration::from_millis(300),
                max_wait: Some(Duration::from_secs(2)),
            },
            render: Window { quiet: Duration::from_secs(4), max_wait: None },
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
pub const MAX_DEFER: Duration = Duration::from_secs(15);

/// Why no job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Nothing has changed since the last job.
    Unchanged,
    /// An input changed and its debounce window is still open.
    Debouncing(Moment),
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
    Wait(WaitReason),
}

/// Decides whether the two inputs, in their current state, may start a job.
pub fn decide(
    settings: &Settings,
    prompt: &DebouncedInput,
    render: &DebouncedInput,
    last_render_only: Option<Moment>,
    now: Moment,
) -> Decision {
    let prompt_pending = prompt.ready_at(settings.prompt);
    let render_pending = render.ready_at(settings.render);
    let starts = match settings.on {
        TriggerOn::Either => prompt_pending.is_some() || render_pending.is_some(),
        TriggerOn::Prompt => prompt_pending.is_some(),
        TriggerOn::Render => render_pending.is_some(),
        TriggerOn::Both => prompt_pending.is_some() && render_pending.is_some(),
    };
    // A missing input is reported before "unchanged": it answers the question "why does
    // nothing happen?".
    if prompt.current().is_none() {
        return Decision::Wait(WaitReason::NoPrompt(reason(prompt.state(), "the prompt")));
    }
    if render.current().is_none() {
        return Decision::Wait(WaitReason::NoRender(reason(render.state(), "the render")));
    }
    if !starts {
        let half = settings.on == TriggerOn::Both
            && (prompt_pending.is_some() || render_pending.is_some());
        return Decision::Wait(if half { WaitReason::OtherInput } else { WaitReason::Unchanged });
    }

    let by_prompt = prompt_pending.filter(|_| settings.on != TriggerOn::Render);
    let by_render = render_pending.filter(|_| settings.on != TriggerOn::Prompt);
    let ready = match (by_prompt, by_render) {
        (Some(prompt_ready), Some(render_ready)) if settings.on == TriggerOn::Both => {
            prompt_ready.max(render_ready)
        }
        // A changed prompt never waits for the render's long window: both are sent when the prompt
        // is ready.
        (Some(prompt_ready), _) => prompt_ready,
        (None, Some(render_ready)) => render_ready,
        (None, None) => now,
    };
    let ready = ready.max(end_of_write_burst(prompt, render, now));
    if ready > now {
        return Decision::Wait(WaitReason::Debouncing(ready));
    }

    let cause = match (prompt_pending, render_pending) {
        (Some(_), Some(_)) => Cause::Both,
        (Some(_), None) => Cause::Prompt,
        (None, _) => Cause::Render,
    };
    if by_prompt.is_none() {
        let free = last_render_only.map(|last| last.plus(settings.min_interval));
        if let Some(until) = free.filter(|until| *until > now) {
            return Decision::Wait(WaitReason::MinInterval(until));
        }
    }
    Decision::Release(cause)
}

/// Returns when the render is no longer being written, limited by [`MAX_DEFER`].
fn end_of_write_burst(prompt: &DebouncedInput, render: &DebouncedInput, now: Moment) -> Moment {
    let Some(flux) = render.write_burst_until(now) else { return Moment::default() };
    match prompt.pending_since().or(render.pending_since()) {
        Some(first) => flux.min(first.plus(MAX_DEFER)),
        None => flux,
    }
}

fn reason(state: Option<&InputState>, what: &str) -> String {
    match state {
        None => format!("{what} has not been read yet"),
        Some(InputState::Missing) => format!("{what} does not exist yet"),
        Some(InputState::Incomplete { size: 0 }) => format!("{what} is still empty"),
        // The file changed while it was read, so its size is not known.
        Some(InputState::Incomplete { size: u64::MAX }) => format!("{what} is being written"),
        Some(InputState::Incomplete { size }) => {
            format!("{what} is incomplete ({size} bytes so far)")
        }
        Some(InputState::Refused(reason)) => reason.clone(),
        // `InputState::Complete` always sets the content, so this case cannot occur.
        Some(InputState::Complete(_)) => format!("{what} is complete"),
    }
}
