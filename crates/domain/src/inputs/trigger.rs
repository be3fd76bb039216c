//! Whether what has settled may start a job now, and if not, why and until when.
//!
//! Owns the rules of `[trigger]` that concern one project. How many jobs run at once and what becomes of a running one
//! is decided in [`crate::engine`]; whether there is money, in [`crate::money::budget`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::debounce::{Channel, Quiet, Sight};
use crate::{job::Cause, time::Moment};

/// What may start a job (`trigger.on`).
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
    /// Each has changed since the last job.
    Both,
}

/// What becomes of a job at work when a new snapshot is ready (`trigger.when_busy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// One that still waits in the backend's queue is cancelled; a running one finishes first.
    #[default]
    ReplaceQueued,
    /// Nothing is ever cancelled.
    Wait,
    /// A running one is cancelled too.
    Cancel,
}

/// What the first look after a start means (`trigger.at_start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtStart {
    /// It is compared with the last job; a project never seen before is a baseline.
    #[default]
    Changed,
    /// It starts a job.
    Always,
    /// It is the baseline.
    Never,
}

/// The rules, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What may start a job.
    pub on: On,
    /// The prompt's window.
    pub prompt: Quiet,
    /// The render's window.
    pub render: Quiet,
    /// The least time between two jobs that only a render started.
    pub min_interval: Duration,
    /// The most jobs that start within an hour, over all projects.
    pub max_jobs_per_hour: u32,
    /// Whether a job that only a render started waits while hands are in the picture.
    pub hold_while_sculpting: bool,
    /// For how long after a placement changed renders are taken as the effect of our own mesh.
    pub after_result_hold: Duration,
    /// What becomes of a job at work.
    pub when_busy: WhenBusy,
    /// What the first look means.
    pub at_start: AtStart,
}

impl Default for Settings {
    /// The defaults of `config.example.toml`.
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

/// The longest that a prompt waits for a render in flux. `prompt_max_wait_ms` is the ceiling for words that keep changing
/// over a picture that stands still or changes as Blender changes it (a tenth of a second every three). When *both*
/// files are rewritten without a pause, a program is at work and not an artist: then one job after the storm is what
/// a person wants, and this is the end of patience with it.
pub const STORM_CEILING: Duration = Duration::from_secs(15);

/// Why no job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing has changed since the last job.
    Unchanged,
    /// Something changed and is not quiet yet.
    Settling(Moment),
    /// No job can be made of the prompt, for the reason given.
    NoPrompt(String),
    /// No job can be made of the render, for the reason given.
    NoRender(String),
    /// Only the render changed, and the last such job is too young.
    MinInterval(Moment),
    /// `trigger.on = "both"`, and only one has changed.
    OtherInput,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start a job for the newest whole snapshot.
    Release(Cause),
    /// Not now.
    Wait(Wait),
}

/// Decides whether the two inputs, as they are now, may start a job.
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
    // What is missing is told before "unchanged": it is the answer to "why does nothing happen?".
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
        // A changed prompt never waits for the render's long window: both go together when the words are ready.
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

/// Returns when nobody is writing the render any more, within the bounds of patience.
fn end_of_flux(prompt: &Channel, render: &Channel, now: Moment) -> Moment {
    let Some(flux) = render.flux_until(now) else { return Moment::default() };
    match prompt.pending_since().or(render.pending_since()) {
        Some(first) => flux.min(first.plus(STORM_CEILING)),
        None => flux,
    }
}

fn reason(sight: Option<&Sight>, what: &str) -> String {
    match sight {
        None => format!("{what} has not been looked at yet"),
        Some(Sight::Missing) => format!("{what} is not there yet"),
        Some(Sight::Unfinished { size: 0 }) => format!("{what} is empty so far"),
        Some(Sight::Unfinished { size }) => {
            format!("{what} is not whole yet ({size} bytes so far)")
        }
        Some(Sight::Refused(reason)) => reason.clone(),
        // A whole sight always sets the content.
        Some(Sight::Whole(_)) => format!("{what} is whole"),
    }
}
