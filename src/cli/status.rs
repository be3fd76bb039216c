//! `conjured status`: what the daemon is doing, for people and for programs.
//!
//! Owns the text form; the JSON form is [`crate::domain::status`], exactly as the daemon returns
//! it. Exit code 0 if a daemon answers, 69 if none is running.

use std::time::Duration;

use super::{
    args::StatusArgs,
    context::Context,
    daemon_client::DaemonClient,
    exit::{Failure, UNAVAILABLE},
    out::{Out, plain, span, time},
};
use crate::domain::{
    status::{Budget, Input, Job, Machine, Project, Status},
    time::WallTime,
};

/// Prints the status once, or after every change.
pub(super) async fn status(context: &Context, args: StatusArgs) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let Some((client, mut status)) = DaemonClient::find(&state_dir).await else {
        return Err(Failure::new(
            UNAVAILABLE,
            format!(
                "no daemon is running for the state folder {}: start one with `conjured run`",
                state_dir.display()
            ),
        ));
    };
    loop {
        show(&context.out, &status, args)?;
        if !args.watch {
            return Ok(());
        }
        let newer = client.newer(status.revision).await;
        status = match newer {
            Ok(newer) => newer,
            Err(failure) => {
                context.out.info("the daemon has ended");
                return Err(Failure { message: String::new(), ..failure });
            }
        };
    }
}

fn show(out: &Out, status: &Status, args: StatusArgs) -> Result<(), Failure> {
    if args.json {
        let value = serde_json::to_value(status)
            .map_err(|error| Failure::new(super::exit::BUG, error.to_string()))?;
        if args.watch {
            // One line each, so that a program can read them as they arrive.
            out.data(value.to_string());
        } else {
            out.json(&value);
        }
        return Ok(());
    }
    let mut text = text(out, status);
    if args.watch && out.colour {
        // Clear the screen first: the previous text may have been longer.
        text = format!("\x1b[H\x1b[2J{text}");
    }
    out.data(text);
    Ok(())
}

fn text(out: &Out, status: &Status) -> String {
    let daemon = &status.daemon;
    let mut lines = vec![format!(
        "{} {} · process {} · since {}{}",
        out.bold("conjured"),
        daemon.version,
        daemon.pid,
        time(daemon.since),
        if daemon.stopping { " · stopping" } else { "" }
    )];
    for project in &status.projects {
        lines.push(String::new());
        lines.extend(project_lines(out, project, status.at));
    }
    lines.push(String::new());
    lines.push(format!("{}   {}", out.bold("budget"), budget(&status.budget)));
    for backend in &status.backends {
        let mut line = format!("{}  {} is {}", out.bold("backend"), backend.name, backend.state);
        if let Some(reason) = &backend.reason {
            line.push_str(&format!(": {}", plain(reason)));
        }
        if let Some(until) = backend.until {
            line.push_str(&format!(" (next try in {})", span(until.since(status.at))));
        }
        if let Some(from) = &backend.token_from {
            line.push_str(&out.dim(&format!(" (token from {})", plain(from))));
        }
        lines.push(line);
    }
    for machine in &status.machines {
        lines.push(machine_line(out, machine));
    }
    for warning in &status.warnings {
        let warning = warning.lines().map(plain).collect::<Vec<_>>().join("\n         ");
        lines.push(format!("{}  {warning}", out.bold("warning")));
    }
    lines.join("\n")
}

fn project_lines(out: &Out, project: &Project, now: WallTime) -> Vec<String> {
    let mut lines =
        vec![format!("{}  {}", out.bold(&plain(&project.name)), out.dim(&plain(&project.root)))];
    lines.push(format!("  prompt   {}", input(&project.prompt)));
    lines.push(format!("  render   {}", input(&project.render)));
    if let Some(job) = &project.job {
        lines.extend(job_lines(out, job));
    } else {
        let until = project
            .waiting_until
            .map(|until| format!(" ({} to go)", span(until.since(now))))
            .unwrap_or_default();
        lines.push(format!("  next     {}{until}", plain(&project.waiting)));
    }
    if let Some(last) = &project.last_job {
        let when = last.ended_at.map(|at| format!(", {}", time(at))).unwrap_or_default();
        lines.push(format!(
            "  last     {} {}{when}, {}",
            last.id,
            out.state(last.state),
            last.cost
        ));
        if let Some(reason) = &last.reason {
            lines.push(format!("           {}", plain(reason)));
        }
    }
    if !project.unknown.is_empty() {
        let ids: Vec<String> = project.unknown.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "  unknown  {}: may have been charged; not submitted again automatically",
            ids.join(", ")
        ));
    }
    lines
}

fn job_lines(out: &Out, job: &Job) -> Vec<String> {
    let elapsed = span(Duration::from_millis(job.elapsed_ms));
    let mut first = format!("  job      {} {} for {elapsed}", job.id, out.state(job.state));
    if let Some(eta) = job.eta {
        let (low, high) = (Duration::from_millis(eta.p10_ms), Duration::from_millis(eta.p90_ms));
        let from = match eta.samples {
            0 => "estimate; no job timed yet".to_owned(),
            samples => format!("from {samples} past jobs"),
        };
        first.push_str(&format!(", usually {} ({from})", range(low, high)));
    }
    let cold = match job.cold {
        Some(true) => "; cold start: a machine has to start first",
        Some(false) => "; warm machine",
        None => "",
    };
    let why = job.why.as_ref().map(|why| format!(", because {why}")).unwrap_or_default();
    vec![
        first,
        format!("           {}", plain(&job.doing)),
        format!("           by {}{}", plain(&job.backend), plain(&why)),
        format!("           estimated {}{cold}", job.estimate),
    ]
}

/// Returns a range of durations, rounded: `20 to 40 s`, `40 s to 3 min`, `4 to 15 min`.
fn range(low: Duration, high: Duration) -> String {
    let seconds = |duration: Duration| duration.as_millis().div_ceil(1000);
    let minutes = |duration: Duration| (seconds(duration) + 30) / 60;
    let (from, to) = match (seconds(low) < 60, seconds(high) < 60) {
        (true, true) => (seconds(low).to_string(), format!("{} s", seconds(high))),
        (true, false) => (format!("{} s", seconds(low)), format!("{} min", minutes(high))),
        (false, _) => (minutes(low).to_string(), format!("{} min", minutes(high))),
    };
    if to.strip_suffix(" min").or(to.strip_suffix(" s")) == Some(&from) {
        return to;
    }
    format!("{from} to {to}")
}

fn input(input: &Input) -> String {
    let mut line = input.state.clone();
    if let Some(fingerprint) = &input.fingerprint {
        line.push_str(&format!(" {fingerprint}"));
    }
    if let Some(detail) = &input.detail {
        line.push_str(&format!(": {}", plain(detail)));
    }
    line
}

fn budget(budget: &Budget) -> String {
    let mut parts = Vec::new();
    for (span, spent, limit) in [
        ("session", budget.session, budget.session_limit),
        ("day", budget.day, budget.day_limit),
        ("month", budget.month, budget.month_limit),
    ] {
        match limit {
            Some(limit) => parts.push(format!("{span} {spent} of {limit}")),
            None => parts.push(format!("{span} {spent}")),
        }
    }
    if let Some(balance) = budget.balance {
        parts.push(format!("balance {balance}"));
    }
    let hardware =
        budget.hardware.as_ref().map(|name| format!("{} ", plain(name))).unwrap_or_default();
    parts.push(format!(
        "{hardware}{} an hour (from {})",
        budget.hourly,
        plain(&budget.hourly_from)
    ));
    parts.push(if budget.never_sleeps {
        "at least one machine never sleeps; its standing cost is not included".to_owned()
    } else {
        let keep_warm = span(Duration::from_millis(budget.keep_warm_ms));
        format!("keep-warm {keep_warm} (from {})", plain(&budget.keep_warm_from))
    });
    parts.join(", ")
}

fn machine_line(out: &Out, machine: &Machine) -> String {
    let server = machine.server.as_ref().map(|id| format!(" {}", plain(id))).unwrap_or_default();
    let mut line = format!(
        "{}  {}{server}, {} an hour, {}, since {}",
        out.bold("machine"),
        plain(&machine.server_type),
        machine.hourly,
        machine.doing,
        time(machine.since)
    );
    if let Some(at) = machine.stops_at {
        line.push_str(&format!(", stops at {} if no other job comes", time(at)));
    }
    if let Some(alarm) = &machine.alarm {
        line.push_str(&format!("\n         {}", out.bold_red(&plain(alarm))));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_rounded_and_name_their_unit_once() {
        let of = |low, high| range(Duration::from_secs(low), Duration::from_secs(high));
        assert_eq!(of(20, 40), "20 to 40 s");
        assert_eq!(of(40, 40), "40 s");
        assert_eq!(of(40, 170), "40 s to 3 min");
        assert_eq!(of(225, 900), "4 to 15 min");
        assert_eq!(of(230, 250), "4 min");
    }
}
