//! `conjured cost`: what was spent, and what other settings would have cost.
//!
//! Owns the grouping and the three output formats. It reads the ledger directly, so it works with
//! or without a running daemon; numbers go to standard output only. [`crate::domain::cost_report`]
//! computes the sums, [`crate::domain::cost_report::what_if`] the advice.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::{By, CostArgs, Since},
        context::Context,
        exit::{Failure, USAGE},
        out::{Out, plain, span},
    },
    clock::Clock,
    domain::{
        cost_report::{
            CostSummary, PastJob, PastServer, summarize,
            what_if::{DeploymentHistory, WhatIf},
        },
        machines::MachineId,
        money::MicroUsd,
        time::WallTime,
    },
    ledger::{FILE, Ledger, error::OpenError},
};

/// The header of `--csv`. New columns are only ever added at the end.
const CSV: &str = "key,jobs,done,failed,cancelled,unknown,open,success_rate,booked_usd,bounded_usd,reserved_usd,\
                   cost_per_result_usd,median_cold_s,median_warm_s,mean_rating,rated,machines,machines_usd";

pub(in crate::cli) fn print_cost_report(context: &Context, args: &CostArgs) -> Result<(), Failure> {
    let path = context.state_dir()?.join(FILE);
    let (past, machines) = match Ledger::open_read_only(&path) {
        Ok(reader) => {
            let since = begin(args.since)?;
            (reader.past_jobs(since)?, reader.past_servers(since)?)
        }
        Err(OpenError::Missing { .. }) => (Vec::new(), Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut groups: BTreeMap<String, (Vec<&PastJob>, Vec<&PastServer>)> = BTreeMap::new();
    for job in &past {
        groups.entry(key(args.by, job)).or_default().0.push(job);
    }
    for machine in &machines {
        groups.entry(machine_key(args.by, machine)).or_default().1.push(machine);
    }
    let sum = |(jobs, machines): (Vec<&PastJob>, Vec<&PastServer>)| {
        let mut summary = summarize(jobs);
        summary.add_servers(machines);
        summary
    };
    let mut rows: Vec<(String, CostSummary)> =
        groups.into_iter().map(|(key, group)| (key, sum(group))).collect();
    if args.by == By::Session {
        rows.sort_by_key(|(key, _)| key.parse::<i64>().unwrap_or_default());
    }
    let mut total = summarize(&past);
    total.add_servers(&machines);
    let out = &context.out;
    if args.csv {
        let lines = rows.iter().map(|(key, summary)| csv(key, summary));
        let lines: Vec<String> = std::iter::once(CSV.to_owned()).chain(lines).collect();
        // RFC 4180 ends every line with CR LF; the printer adds the last LF.
        out.data(lines.join("\r\n") + "\r");
        return Ok(());
    }
    let what_if = advice(&past);
    if args.json {
        out.json(&as_json(args.by, &rows, &total, &what_if));
        return Ok(());
    }
    if past.is_empty() && machines.is_empty() {
        out.info("no job has been run yet, or none in this period: nothing was spent");
        return Ok(());
    }
    out.data(text(out, args.by, &rows, &total));
    for (deployment, record, what_if) in &what_if {
        out.data(advice_text(out, deployment, record, what_if));
    }
    Ok(())
}

fn begin(since: Option<Since>) -> Result<WallTime, Failure> {
    match since {
        None => Ok(WallTime::from_unix_millis(i64::MIN)),
        Some(Since::Hours(hours)) => {
            Ok(Clock.now().wall.minus(Duration::from_secs(u64::from(hours) * 3600)))
        }
        Some(Since::Day(day)) => day
            .to_zoned(jiff::tz::TimeZone::system())
            .map(|at| WallTime::from_unix_millis(at.timestamp().as_millisecond()))
            .map_err(|error| Failure::new(USAGE, format!("`--since`: {error}"))),
    }
}

/// The row for machines that belong to no single project or workflow.
const MACHINES: &str = "(rented machines)";

fn civil(at: WallTime, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at.unix_millis()).map_or_else(
        |_| "unknown date".to_owned(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string(),
    )
}

fn machine_key(by: By, machine: &PastServer) -> String {
    match by {
        By::Session => machine.session.to_string(),
        By::Day => civil(machine.launched, "%Y-%m-%d"),
        By::Month => civil(machine.launched, "%Y-%m"),
        By::Mode => "cloud".to_owned(),
        By::Project | By::Deployment | By::Workflow => MACHINES.to_owned(),
    }
}

fn key(by: By, job: &PastJob) -> String {
    let civil = |format: &str| civil(job.released, format);
    match by {
        By::Session => job.session.to_string(),
        By::Day => civil("%Y-%m-%d"),
        By::Month => civil("%Y-%m"),
        By::Project => job.project.clone(),
        By::Deployment => match &job.deployment {
            Some(deployment) if deployment.parse::<MachineId>().is_ok() => MACHINES.to_owned(),
            Some(deployment) => deployment.clone(),
            None => "none".to_owned(),
        },
        By::Mode => job.mode.clone(),
        By::Workflow => job.workflow.clone(),
    }
}

const fn name_of(by: By) -> &'static str {
    match by {
        By::Session => "session",
        By::Day => "day",
        By::Month => "month",
        By::Project => "project",
        By::Deployment => "deployment",
        By::Mode => "mode",
        By::Workflow => "workflow",
    }
}

type Advised = (String, DeploymentHistory, WhatIf);

fn advice(past: &[PastJob]) -> Vec<Advised> {
    let mut deployments: BTreeMap<&str, Vec<&PastJob>> = BTreeMap::new();
    for job in past {
        // A rented machine is not a deployment: it has no settings to advise on.
        if let Some(deployment) = &job.deployment
            && deployment.parse::<MachineId>().is_err()
        {
            deployments.entry(deployment).or_default().push(job);
        }
    }
    deployments
        .into_iter()
        .filter_map(|(deployment, jobs)| {
            let record = DeploymentHistory::of(&jobs)?;
            let what_if = record.what_if();
            Some((deployment.to_owned(), record, what_if))
        })
        .collect()
}

fn as_json(
    by: By,
    rows: &[(String, CostSummary)],
    total: &CostSummary,
    what_if: &[Advised],
) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(key, summary)| {
            let mut value = json!(summary);
            value["key"] = json!(key);
            value
        })
        .collect();
    let advice: Vec<Value> = what_if
        .iter()
        .map(|(deployment, record, what_if)| {
            let mut value = json!(what_if);
            value["deployment"] = json!(deployment);
            value["jobs"] = json!(record.jobs.len());
            value["cold_start_ms"] = json!(millis(record.cold_start));
            value["cold_samples"] = json!(record.cold_samples);
            value["run_samples"] = json!(record.run_samples);
            value["hourly_microusd"] = json!(record.hourly);
            value
        })
        .collect();
    json!({ "schema": 1, "by": name_of(by), "rows": rows, "total": total, "advice": advice })
}

fn csv(key: &str, summary: &CostSummary) -> String {
    let quoted = if key.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", key.replace('"', "\"\""))
    } else {
        key.to_owned()
    };
    let usd = |amount: MicroUsd| format!("{}.{:06}", amount.0 / 1_000_000, amount.0 % 1_000_000);
    let number = |number: Option<f64>| number.map(|n| format!("{n:.4}")).unwrap_or_default();
    let seconds = |millis: Option<u64>| {
        millis.map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000)).unwrap_or_default()
    };
    [
        quoted,
        summary.jobs.to_string(),
        summary.done.to_string(),
        summary.failed.to_string(),
        summary.cancelled.to_string(),
        summary.unknown.to_string(),
        summary.open.to_string(),
        number(summary.success_rate),
        usd(summary.booked_microusd),
        usd(summary.bounded_microusd),
        usd(summary.reserved_microusd),
        summary.cost_per_result_microusd.map(usd).unwrap_or_default(),
        seconds(summary.median_cold_ms),
        seconds(summary.median_warm_ms),
        number(summary.mean_rating),
        summary.rated.to_string(),
        summary.machines.to_string(),
        usd(summary.machines_microusd),
    ]
    .join(",")
}

fn text(out: &Out, by: By, rows: &[(String, CostSummary)], total: &CostSummary) -> String {
    let mut table = new_table();
    table.set_header([
        name_of(by),
        "jobs",
        "done",
        "failed",
        "unknown",
        "success",
        "USD booked",
        "reserved",
        "per result",
        "cold",
        "warm",
        "rating",
    ]);
    for (key, summary) in
        rows.iter().map(|(key, summary)| (cut(key), summary)).chain([("total".to_owned(), total)])
    {
        let time = |millis: Option<u64>| {
            millis.map_or_else(|| "-".to_owned(), |millis| span(Duration::from_millis(millis)))
        };
        let bound = if summary.bounded_microusd > MicroUsd::ZERO { "≤ " } else { "" };
        table.add_row([
            key,
            summary.jobs.to_string(),
            summary.done.to_string(),
            summary.failed.to_string(),
            summary.unknown.to_string(),
            summary
                .success_rate
                .map_or_else(|| "-".to_owned(), |rate| format!("{:.0} %", rate * 100.0)),
            format!("{bound}{}", dollars(summary.booked_microusd)),
            dollars(summary.reserved_microusd),
            summary.cost_per_result_microusd.map_or_else(|| "-".to_owned(), dollars),
            time(summary.median_cold_ms),
            time(summary.median_warm_ms),
            summary.mean_rating.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}")),
        ]);
    }
    let lines = numbers_to_the_right(&mut table);
    // The last line is the sum of the lines above it.
    let (above, sum) = lines.rsplit_once('\n').unwrap_or(("", lines.as_str()));
    let mut text = format!("{above}\n{}", out.bold(sum));
    if total.machines > 0 {
        let (count, cost) = (total.machines, total.machines_microusd);
        text.push_str(&format!(
            "\n{count} rented machines cost {cost} of the total; jobs on them are not charged \
             separately"
        ));
    }
    if total.bounded_microusd > MicroUsd::ZERO {
        text.push_str("\n≤: some runs could not be observed; they cost this or less");
    }
    text
}

/// Returns an empty table without borders. It never breaks a line: a terminal wraps long lines
/// better than a table splits numbers.
fn new_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

/// Returns the table's text, with every column but the first aligned to the right.
fn numbers_to_the_right(table: &mut Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// Returns an amount without its unit, which is in the header.
fn dollars(amount: MicroUsd) -> String {
    amount.to_string().trim_end_matches(" USD").to_owned()
}

/// Returns a name on one line, shortened if it is long.
fn cut(name: &str) -> String {
    let name = plain(name);
    match name.char_indices().nth(32) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

fn advice_text(
    out: &Out,
    deployment: &str,
    record: &DeploymentHistory,
    what_if: &WhatIf,
) -> String {
    let title = format!("what {} jobs on {} would have cost", record.jobs.len(), plain(deployment));
    let mut table = new_table();
    table.set_header(["setting", "USD", "total wait", "cold starts"]);
    for one in &what_if.settings {
        let name = match one.min_instances {
            0 => format!("keep-warm {} s", one.keep_warm_s),
            _ => "never sleeps".to_owned(),
        };
        let name = if one.current { format!("{name}  <- now") } else { name };
        table.add_row([
            name,
            dollars(one.cost_microusd),
            span(Duration::from_secs(one.waited_s)),
            one.cold_starts.to_string(),
        ]);
    }
    let mut machines = new_table();
    machines.set_header(["same speed on", "USD hobby", "USD pro"]);
    for pair in what_if.machines.chunks(2) {
        let costs = pair.iter().map(|one| dollars(one.cost_microusd));
        machines.add_row(pair.first().map(|one| one.tier.to_owned()).into_iter().chain(costs));
    }
    let assumed: Vec<String> =
        what_if.assumed.iter().map(|line| format!("assumed: {line}")).collect();
    format!(
        "\n{}\n{}\n\n{}\n\n{}\n{}",
        out.bold(&title),
        numbers_to_the_right(&mut table),
        numbers_to_the_right(&mut machines),
        out.dim(&assumed.join("\n")),
        what_if.sentence
    )
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_break_its_line() {
        let line = csv("a \"b\", c\nd", &CostSummary::default());
        assert!(line.starts_with("\"a \"\"b\"\", c\nd\",0,0,"), "{line}");
        assert_eq!(csv("x", &CostSummary::default()).split(',').count(), CSV.split(',').count());
    }
}
