//! The event loop's state in readable form: builds [`Status`] from the engine and the
//! served projects.
//!
//! Owns the texts of `status`, and the single line for a service manager. It changes nothing.

use std::collections::BTreeMap;

use crate::{
    config::settings::ProjectConfig,
    daemon::{
        inputs::project_state::ProjectState,
        services::{
            drives::no_answer_message,
            health::{HealthProblem, HealthRegistry},
            runtime_config::RuntimeConfig,
        },
    },
    domain::{
        engine::{
            Engine,
            event::{HoldReason, ProjectId},
        },
        inputs::{debounce::InputState, trigger::WaitReason},
        job::choose_backend::BackendKind,
        money::{MicroUsd, budget::Spent},
        status::{BackendHealth, Budget, Daemon, Input, Machine, Project, SCHEMA, Status},
        time::{Moment, Now, WallTime},
    },
};

/// What the status is built from.
pub(crate) struct StatusView<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) projects: &'a BTreeMap<ProjectId, ProjectState>,
    pub(crate) config: &'a RuntimeConfig,
    pub(crate) daemon: &'a Daemon,
    /// Projects whose drives have not answered since the start.
    pub(crate) unresponsive_projects: &'a [ProjectConfig],
    pub(crate) spent: Spent,
    pub(crate) balance: Option<MicroUsd>,
    pub(crate) health: &'a HealthRegistry,
    pub(crate) warnings: &'a [String],
    pub(crate) machines: &'a [Machine],
    pub(crate) unwritten: &'a BTreeMap<&'static str, String>,
    pub(crate) revision: u64,
}

pub(crate) fn status(view: &StatusView<'_>, now: Now) -> Status {
    let limits = view.config.limits;
    let rate = view.config.rate();
    Status {
        schema: SCHEMA,
        revision: view.revision,
        at: now.wall,
        daemon: view.daemon.clone(),
        projects: view
            .projects
            .iter()
            .map(|(id, project_state)| project(view.engine, *id, project_state, now))
            .collect(),
        budget: Budget {
            session: view.spent.session,
            day: view.spent.day,
            month: view.spent.month,
            session_limit: limits.per_session,
            day_limit: limits.per_day,
            month_limit: limits.per_month,
            balance: view.balance,
            hourly: rate.hourly,
            hourly_from: rate.hourly_from.label().to_owned(),
            hardware: rate.hardware.map(|tier| tier.name.to_owned()),
            keep_warm_ms: u64::try_from(rate.keep_warm.as_millis()).unwrap_or(u64::MAX),
            keep_warm_from: rate.keep_warm_from.label().to_owned(),
            never_sleeps: rate.never_sleeps,
        },
        backends: view
            .config
            .order
            .iter()
            .map(|backend_kind| {
                let problem = view.health.at(*backend_kind).problem(view.config);
                backend(view.config, *backend_kind, problem.as_ref(), now)
            })
            .collect(),
        machines: view.machines.to_vec(),
        warnings: view
            .unwritten
            .values()
            .chain(view.warnings)
            .cloned()
            .chain(view.projects.values().filter_map(withheld))
            .chain(view.unresponsive_projects.iter().map(no_answer_message))
            .collect(),
    }
}

fn project(engine: &Engine, id: ProjectId, project: &ProjectState, now: Now) -> Project {
    let (prompt_sight, render_sight) = engine.input_states(id).unwrap_or_default();
    let (waiting, until) = match project.withheld() {
        _ if project.is_unresponsive() && project.is_idle() => {
            ("no job: the project's drive does not answer".to_owned(), None)
        }
        Some(reason) if project.is_idle() => (format!("no job: {reason}"), None),
        _ => waiting(engine.hold_reason(id, now.moment), now),
    };
    let mut job = project.job_status().cloned();
    if let Some(job) = &mut job {
        job.elapsed_ms = u64::try_from(now.wall.since(job.since).as_millis()).unwrap_or(u64::MAX);
    }
    let config = project.config();
    let (last_job, unknown) = project.past_jobs();
    Project {
        name: config.name.clone(),
        root: config.root.display().to_string(),
        watching: if project.is_polled() { "poll" } else { "native" }.to_owned(),
        prompt: input(&config.prompt.display().to_string(), prompt_sight),
        render: input(&config.render.display().to_string(), render_sight),
        waiting,
        waiting_until: until,
        job,
        last_job: last_job.cloned(),
        unknown: unknown.to_vec(),
    }
}

/// Says for which project nothing is released because it is not ours.
fn withheld(project: &ProjectState) -> Option<String> {
    if project.is_unresponsive() {
        return Some(no_answer_message(project.config()));
    }
    let reason = project.withheld()?;
    Some(format!("project `{}`: {reason}", project.config().name))
}

fn input(path: &str, input_state: Option<&InputState>) -> Input {
    let (state, detail, fingerprint) = match input_state {
        None => ("unseen", None, None),
        Some(InputState::Complete(fingerprint)) => ("whole", None, Some(fingerprint.short())),
        Some(InputState::Incomplete { size: u64::MAX }) => {
            ("unfinished", Some("being written".to_owned()), None)
        }
        Some(InputState::Incomplete { size }) => {
            ("unfinished", Some(format!("{size} bytes so far")), None)
        }
        Some(InputState::Missing) => ("missing", None, None),
        Some(InputState::Refused(reason)) => ("refused", Some(reason.clone()), None),
    };
    Input { path: path.to_owned(), state: state.to_owned(), detail, fingerprint }
}

/// Returns why no job starts, and when that may change automatically.
fn waiting(held: Option<HoldReason>, now: Now) -> (String, Option<WallTime>) {
    let at = |moment: Moment| Some(now.wall.plus(moment.since(now.moment)));
    let Some(held) = held else { return ("not served".to_owned(), None) };
    match held {
        HoldReason::Trigger(WaitReason::Unchanged) => ("waiting for a change".to_owned(), None),
        HoldReason::Trigger(WaitReason::Debouncing(until)) => {
            ("something changed; waiting until it stops changing".to_owned(), at(until))
        }
        HoldReason::Trigger(WaitReason::NoPrompt(reason) | WaitReason::NoRender(reason)) => {
            (format!("no job: {reason}"), None)
        }
        HoldReason::Trigger(WaitReason::MinInterval(until)) => (
            "the render changed; waiting for the minimum interval between such jobs \
             (`trigger.min_interval_s`)"
                .to_owned(),
            at(until),
        ),
        HoldReason::Trigger(WaitReason::OtherInput) => (
            "one input changed; waiting for the other one (`trigger.on = \"both\"`)".to_owned(),
            None,
        ),
        HoldReason::HandsInPicture => (
            "the render changed; waiting while hands are in the picture \
             (`trigger.hold_while_sculpting`)"
                .to_owned(),
            None,
        ),
        HoldReason::JobRunning => ("a job is running; the newest change is next".to_owned(), None),
        HoldReason::Superseding => {
            ("a queued job is being cancelled for a newer change".to_owned(), None)
        }
        HoldReason::NoFreeSlot => {
            ("waiting for another project's job (`max_in_flight`)".to_owned(), None)
        }
        HoldReason::HourlyLimit(until) => {
            ("the limit `trigger.max_jobs_per_hour` is reached".to_owned(), at(until))
        }
        HoldReason::NotStarted(reason) => (format!("no job: {reason}"), None),
        HoldReason::Stopping => ("the daemon is stopping".to_owned(), None),
    }
}

fn backend(
    config: &RuntimeConfig,
    backend: BackendKind,
    problem: Option<&HealthProblem>,
    now: Now,
) -> BackendHealth {
    let until = |at: Moment| now.wall.plus(at.since(now.moment));
    match config.at(backend) {
        Ok(configured) => BackendHealth {
            name: backend.name().to_owned(),
            state: if problem.is_some() { "failing" } else { "ready" }.to_owned(),
            reason: problem.map(|problem| problem.reason.clone()),
            until: problem.and_then(|problem| problem.until).map(until),
            token_from: configured.token_from.clone(),
        },
        Err(unavailable) => BackendHealth {
            name: backend.name().to_owned(),
            state: "unconfigured".to_owned(),
            reason: Some(unavailable.reason.clone()),
            until: None,
            token_from: None,
        },
    }
}

/// Returns one line for `systemctl status`: how many projects, what the job does or why there
/// is none, what is wrong. No number in it changes with time alone, so that an idle daemon
/// sends nothing.
pub(crate) fn one_line(status: &Status) -> String {
    if status.daemon.stopping {
        return "stopping; jobs at the service continue, and the next start picks them up"
            .to_owned();
    }
    let several = status.projects.len() > 1;
    let mut parts = vec![match status.projects.len() {
        1 => "1 project".to_owned(),
        number => format!("{number} projects"),
    }];
    for project in &status.projects {
        let Some(job) = &project.job else { continue };
        let of = if several { format!(" of {}", project.name) } else { String::new() };
        parts.push(format!("job {}{of}: {}", job.id, job.doing));
    }
    if parts.len() == 1 {
        parts.push(match status.projects.first() {
            Some(project) if !several => project.waiting.clone(),
            _ => "no job is running".to_owned(),
        });
    }
    for backend in status.backends.iter().filter(|backend| backend.state != "ready") {
        let reason = backend.reason.as_deref().unwrap_or("see `conjured status`");
        parts.push(format!("{} is {}: {reason}", backend.name, backend.state));
    }
    for machine in &status.machines {
        parts.push(match &machine.alarm {
            Some(alarm) => format!("RunComfy machine {}: {alarm}", machine.server_type),
            None => format!("a RunComfy machine ({}) {}", machine.server_type, machine.doing),
        });
    }
    match status.projects.iter().map(|project| project.unknown.len()).sum() {
        0 => {}
        1 => parts.push("1 job with a lost answer needs your decision".to_owned()),
        number => {
            parts.push(format!("{number} jobs with a lost answer need your decision"));
        }
    }
    match status.warnings.as_slice() {
        [] => {}
        [.., newest] => {
            let newest = newest.lines().next().unwrap_or_default();
            let more = status.warnings.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            parts.push(format!("warning: {newest}{more}"));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Status {
        let project = Project {
            name: "owl".to_owned(),
            root: "/CONJURE".to_owned(),
            watching: "native".to_owned(),
            prompt: input("/p", None),
            render: input("/r", None),
            waiting: "waiting for a change".to_owned(),
            waiting_until: None,
            job: None,
            last_job: None,
            unknown: Vec::new(),
        };
        Status { projects: vec![project], ..Status::starting() }
    }

    #[test]
    fn the_line_says_what_is_done_and_what_is_wrong() {
        let mut status = idle();
        assert_eq!(one_line(&status), "1 project; waiting for a change");

        status.warnings = vec!["old".to_owned(), "refused:\nline 3".to_owned()];
        status.backends = vec![BackendHealth {
            name: "serverless".to_owned(),
            state: "unconfigured".to_owned(),
            reason: Some("there is no token".to_owned()),
            until: None,
            token_from: None,
        }];
        assert_eq!(
            one_line(&status),
            "1 project; waiting for a change; serverless is unconfigured: there is no token; \
             warning: refused: (and 1 more)"
        );
        status.projects.push(status.projects[0].clone());
        assert!(one_line(&status).starts_with("2 projects; no job is running"));
        status.daemon.stopping = true;
        assert!(one_line(&status).starts_with("stopping"));
    }
}
