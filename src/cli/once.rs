//! `conjured once`: one job now, through a running daemon or without one.
//!
//! Owns what a person sees of it: progress, where the artifacts are, and the exit code. The job itself goes the same road as
//! every other one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::{
    args::OnceArgs,
    context::Context,
    daemon_client::DaemonClient,
    exit::{BUG, CANNOT_WRITE, Failure, JOB_FAILED, MISSING_INPUT, TRY_AGAIN, code_of_reason},
    follow::{self, Over, Source},
    out::span,
};
use crate::{
    clock::Clock,
    daemon::{
        Ended,
        live::Live,
        start::{self, Options, Purpose},
    },
    disk::{dirs, history::artifact_name},
    domain::{
        job::{Cause, JobId, State},
        moment::WallTime,
        product::Kind,
        status::{Job, Status},
    },
    ledger::{FILE, Ledger},
    web::OnceRequest,
};

/// Runs one job and returns when it is over.
pub(super) async fn once(context: &Context, args: &OnceArgs) -> Result<(), Failure> {
    let request = request(args)?;
    let loaded = context.load_to_serve()?;
    let state_dir = loaded.config.state_dir.clone();
    let live = Live::new(loaded.config.clone(), &context.sources)?;
    let out = &context.out;
    if let Some((client, _)) = DaemonClient::find(&state_dir).await {
        let _log = context.quiet_log();
        out.say("a daemon is running; it takes the job");
        let job = client.once(&request).await?;
        let mut source = Source::Remote(client);
        let over = follow::follow(&mut source, job, out).await?;
        return tell(context, &state_dir, job, over);
    }
    let _log = context.quiet_log();
    // Said now and not after half a second of preparation.
    if let Err(unready) = live.ready() {
        return Err(Failure::new(super::exit::code_of(unready.kind), unready.reason.clone()));
    }
    let (status, statuses) = watch::channel(Arc::new(Status::starting()));
    let options = Options {
        loaded,
        sources: context.sources.clone(),
        live,
        log: None,
        purpose: Purpose::OneJob(request),
        signals: true,
        stop: None,
        status,
    };
    let running = start::run(options);
    let watching = watch_local(statuses, context, Clock.now().wall);
    tokio::pin!(running, watching);
    let mut stuck = None;
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended?,
            over = &mut watching, if stuck.is_none() => {
                if let Ok((job, Over::StuckPlacing(reason))) = over {
                    return tell(context, &state_dir, job, Over::StuckPlacing(reason));
                }
                stuck = Some(());
            }
        }
    };
    match ended {
        Ended::OneJob(Ok(job)) => tell(context, &state_dir, job, Over::Ended),
        Ended::OneJob(Err(refused)) => Err(refused.into()),
        Ended::Stopped => Err(Failure::new(
            JOB_FAILED,
            "stopped; a job that was sent goes on remotely and is finished by the next `conjured run` or `once`",
        )),
        Ended::Broken(reason) => Err(Failure::new(BUG, reason)),
    }
}

fn request(args: &OnceArgs) -> Result<OnceRequest, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            Failure::new(super::exit::USAGE, format!("{}: {error}", path.display()))
        })
    };
    let render = args.render.as_ref().map(absolute).transpose()?;
    if let Some(render) = &render
        && !render.exists()
    {
        let message = format!("there is no {}; nothing was sent", render.display());
        return Err(Failure::new(MISSING_INPUT, message));
    }
    let out = args.out.as_ref().map(absolute).transpose()?;
    if let Some(folder) = &out {
        // Found out before money is spent.
        dirs::try_to_write(folder)
            .map_err(|error| Failure::new(CANNOT_WRITE, format!("{error}; nothing was sent")))?;
    }
    Ok(OnceRequest {
        project: args.project.clone(),
        prompt: args.prompt.clone(),
        render,
        seed: args.seed,
        out,
    })
}

/// Shows the progress of the one job of a daemon in this process.
async fn watch_local(
    statuses: watch::Receiver<Arc<Status>>,
    context: &Context,
    since: WallTime,
) -> Result<(JobId, Over), Failure> {
    let mut statuses = statuses;
    let job = loop {
        let found = {
            let status = statuses.borrow_and_update();
            // An unfinished job of an earlier session may go first; it is not the one that was asked for.
            let ours = |job: &&Job| job.cause == Cause::Person && job.since >= since;
            status
                .projects
                .iter()
                .filter_map(|project| project.job.as_ref())
                .find(ours)
                .map(|job| job.id)
        };
        if let Some(job) = found {
            break job;
        }
        if statuses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut source = Source::Local(statuses);
    let over = follow::follow(&mut source, job, &context.out).await?;
    Ok((job, over))
}

/// Says how the job ended, and where its artifacts are.
fn tell(context: &Context, state_dir: &Path, job: JobId, over: Over) -> Result<(), Failure> {
    let out = &context.out;
    let row = Ledger::open_read_only(&state_dir.join(FILE))?.job(job)?;
    if let Over::StuckPlacing(reason) = over {
        return Err(Failure::new(
            CANNOT_WRITE,
            format!(
                "{reason}. Job {job} stays `placing`; `conjured run` finishes it once the folder can be written"
            ),
        ));
    }
    match row.state {
        State::Done => {
            let took =
                row.ended_at.map(|ended| span(ended.since(row.created_at))).unwrap_or_default();
            out.say(format!("job {job} is done after {took}; it cost about {}", row.spent()));
            let folder = state_dir.join("history").join(job.to_string());
            for kind in Kind::ALL {
                let path = match &row.out {
                    Some(shown) => placed_in(Path::new(shown), context, kind)?,
                    None => Some(folder.join(artifact_name(kind))),
                };
                if let Some(path) = path.filter(|path| path.exists()) {
                    out.data(path.display().to_string());
                }
            }
            Ok(())
        }
        State::Failed => {
            let (code, text) = row.reason.map_or_else(
                || (JOB_FAILED, "for no recorded reason".to_owned()),
                |reason| (code_of_reason(&reason.code), reason.text),
            );
            Err(Failure::new(code, format!("job {job} failed: {text}")))
        }
        State::Unknown => {
            let text = row.reason.map(|reason| reason.text).unwrap_or_default();
            Err(Failure::new(JOB_FAILED, format!("job {job} is `unknown`: {text}")))
        }
        State::Cancelled | State::Replaced => {
            Err(Failure::new(JOB_FAILED, format!("job {job} was {}", row.state)))
        }
        state => Err(Failure::new(
            TRY_AGAIN,
            format!("job {job} is `{state}`; `conjured jobs show {job}` tells more"),
        )),
    }
}

fn placed_in(folder: &Path, context: &Context, kind: Kind) -> Result<Option<PathBuf>, Failure> {
    let config = context.load()?.config;
    let names = config.projects.first().map(|project| match kind {
        Kind::Image => &project.image,
        Kind::Mesh => &project.mesh,
    });
    let name = names.and_then(|names| names.first()?.file_name());
    Ok(name.map(|name| folder.join(name)))
}
