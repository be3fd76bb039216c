//! The demo's summary: how long each step took, what it would have cost, where the files are.
//!
//! Owns the table. Before it reports files, it opens and checks them as the daemon did.

use std::{io::BufReader, path::Path};

use comfy_table::{CellAlignment, Table, presets};

use super::{stage::Stage, story::DemoResult};
use crate::{
    cli::{
        context::Context,
        exit::{BUG, Failure, JOB_FAILED},
        out::span,
    },
    disk::{
        dirs,
        read::{self, ReadOutcome},
    },
    domain::{job::JobState, mesh, picture},
    ledger::{FILE, Ledger, rows::JobDetails},
};

/// Far above the demo's images, which have a few hundred kilobytes.
const MAX_IMAGE: u64 = 16 * 1024 * 1024;

/// Prints the table and the files.
pub(super) fn show(context: &Context, stage: &Stage, result: &DemoResult) -> Result<(), Failure> {
    let ledger = Ledger::open_read_only(&stage.state_dir.join(FILE))?;
    let stories =
        result.jobs.iter().map(|job| ledger.details(*job)).collect::<Result<Vec<_>, _>>()?;
    let out = context.out;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["", "first, cold", "second, warm"]);
    for (name, from, to) in [
        ("from the change to the submit", None, JobState::Submitted),
        ("queue and cold start", Some(JobState::Submitted), JobState::Running),
        ("run and download", Some(JobState::Running), JobState::Fetched),
        ("check and placement", Some(JobState::Fetched), JobState::Placed),
    ] {
        let cells = stories.iter().map(|details| duration_of(details, from, to));
        table.add_row(std::iter::once(format!("   {name}")).chain(cells));
    }
    let costs = stories.iter().map(|details| details.job.spent().to_string());
    table.add_row(std::iter::once("   booked (X-Large, pay as you go)".to_owned()).chain(costs));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out.data("\n4. How long it took:");
    out.data(table.trim_fmt());
    out.data(format!(
        "   {} requests were sent for {} changes; the simulated bill so far is {}, including \
         keep-warm time.\n   On the real service a cold start takes 3 to 5 minutes, and a run \
         takes some minutes more.\n",
        result.submits,
        result.jobs.len(),
        result.cost
    ));
    if result.submits != result.jobs.len() as u64 {
        return Err(Failure::new(
            JOB_FAILED,
            "the demo did not send exactly one request for each change",
        ));
    }

    out.data("5. The files, where CONJURE and Blender look:");
    let image = check_image(&stage.image)?;
    out.data(format!("   {}  ({image})", stage.image.display()));
    for mesh in &stage.mesh {
        let facts = check_mesh(mesh)?;
        out.data(format!("   {}  ({facts})", mesh.display()));
    }
    out.data(format!("   history: {}", stage.state_dir.join("history").display()));
    Ok(())
}

/// Returns how long one part of a job took, from the ledger; the first part counts from the
/// trigger's release.
fn duration_of(details: &JobDetails, from: Option<JobState>, to: JobState) -> String {
    let at = |state: JobState| {
        details.events.iter().find(|event| event.kind == state.name()).map(|event| event.at)
    };
    let begin = from.map_or(Some(details.job.created_at), at);
    match (begin, at(to)) {
        (Some(begin), Some(end)) => span(end.since(begin)),
        _ => "?".to_owned(),
    }
}

fn check_image(path: &Path) -> Result<String, Failure> {
    match read::read_complete(path, MAX_IMAGE) {
        Ok(ReadOutcome::Complete { bytes, .. }) => {
            let facts =
                picture::check_image(&bytes).map_err(|fault| bad(path, &fault.to_string()))?;
            Ok(format!("{} × {} pixels, {} KB", facts.width, facts.height, bytes.len() / 1024))
        }
        Ok(ReadOutcome::Changing | ReadOutcome::Missing) => Err(bad(path, "it does not exist")),
        Err(error) => Err(bad(path, &error.to_string())),
    }
}

fn check_mesh(path: &Path) -> Result<String, Failure> {
    let file = dirs::open(path).map_err(|error| bad(path, &error.to_string()))?;
    let length = file.metadata().map_err(|error| bad(path, &error.to_string()))?.len();
    let facts = mesh::check(&mut BufReader::new(file), length)
        .map_err(|fault| bad(path, &fault.to_string()))?;
    Ok(format!("{} vertices, {} KB", facts.vertices, length / 1024))
}

fn bad(path: &Path, why: &str) -> Failure {
    Failure::new(BUG, format!("{} is invalid: {why}", path.display()))
}
