//! `conjured demo`: the whole system in one process, on its own project: no account, no network,
//! no cost.
//!
//! Owns the start of the parts: the RunComfy simulator, a stand-in for GestureCamera, and the real
//! daemon with its real configuration. [`story`] decides what happens, [`stage`] where, and
//! [`report`] summarizes it.

pub(crate) mod simulator;
mod report;
mod stage;
mod story;

use std::{sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};

use self::stage::Stage;
use super::{
    args::DemoArgs,
    context::Context,
    exit::{BUG, Failure, JOB_FAILED, UNAVAILABLE},
};
use crate::{
    config,
    daemon::{
        DaemonEnd,
        event_loop::start::{self, Options, Purpose},
        services::runtime_config::RuntimeConfig,
    },
    domain::status::Status,
    simulator::{Settings, Simulator},
};

/// A machine's cold start in the demo; a real one takes 3 to 5 minutes.
const COLD_START: Duration = Duration::from_secs(4);

/// A run in the demo; a real one takes some minutes.
const RUN: Duration = Duration::from_secs(5);

/// Runs the demo. Returns when it is over, or, with `--keep`, on a signal.
pub(super) async fn demo(context: &Context, args: &DemoArgs) -> Result<(), Failure> {
    let _log = context.quiet_log();
    let settings = Settings { cold_start: COLD_START, run: RUN, ..Settings::default() };
    let mut simulator = Simulator::start(settings.clone()).await.map_err(|error| {
        Failure::new(UNAVAILABLE, format!("the simulator cannot listen on this machine: {error}"))
    })?;
    let stage = Stage::build(context, &simulator, &settings, args.seed)?;
    let loaded = config::load(&stage.sources)?;
    let config = RuntimeConfig::new(loaded.config.clone(), &stage.sources)?;

    let (status, statuses) = watch::channel(Arc::new(Status::starting()));
    let (stop, stopped) = oneshot::channel();
    let daemon = start::run(Options {
        loaded,
        sources: stage.sources.clone(),
        runtime_config: config,
        log: None,
        purpose: Purpose::Serve,
        signals: true,
        stop: Some(stopped),
        status,
    });
    let (scene, scenes) = watch::channel(1);
    let camera = stage.film(scenes);
    let play = async {
        let result = story::play_story(context, &stage, &simulator, statuses, scene).await?;
        report::show(context, &stage, &result)?;
        Ok::<_, Failure>(())
    };
    tokio::pin!(daemon, camera);
    let played = tokio::select! {
        played = play => played,
        ended = &mut daemon => return Err(ended_early(ended?)),
        broken = &mut camera => Err(broken),
    };
    if played.is_ok() && args.keep {
        keep(context, &stage, &simulator);
        tokio::select! {
            ended = &mut daemon => return finish(ended?),
            broken = &mut camera => return Err(broken),
            () = simulator.run() => {}
        }
    }
    // The daemon closes its ledger before the process ends.
    let _ = stop.send(());
    daemon.await?;
    played
}

/// Returns the failure for a daemon that ended before the story did.
fn ended_early(ended: DaemonEnd) -> Failure {
    match ended {
        DaemonEnd::Stopped | DaemonEnd::OneJob(_) => {
            Failure::new(JOB_FAILED, "the demo was stopped early")
        }
        DaemonEnd::Broken(reason) => Failure::new(BUG, reason),
    }
}

fn finish(ended: DaemonEnd) -> Result<(), Failure> {
    match ended {
        DaemonEnd::Stopped | DaemonEnd::OneJob(_) => Ok(()),
        DaemonEnd::Broken(reason) => Err(Failure::new(BUG, reason)),
    }
}

/// Explains how to try out what keeps running.
fn keep(context: &Context, stage: &Stage, simulator: &Simulator) {
    context.out.data(format!(
        "\nEverything keeps running until Ctrl-C. Try it out:\n  write a prompt     echo 'a brass \
         teapot' > {prompt}\n  watch the daemon   conjured --state-dir {state} status --watch\n  \
         order a fault      curl -s -X POST {api}/_control/faults -H 'Content-Type: \
         application/json' -d '{{\"fault\":\"accept_then_drop\"}}'\n  see the bill       curl -s \
         {api}/_control/stats",
        prompt = stage.prompt.display(),
        state = stage.state_dir.display(),
        api = simulator.api_url(),
    ));
}
