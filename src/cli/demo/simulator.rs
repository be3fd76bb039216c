//! `conjured simulator`: the RunComfy simulator on a port, for CONJURE developers and for scripts.
//!
//! Owns its start and the instructions for pointing a daemon at it.

use crate::{
    cli::{
        args::SimulatorArgs,
        context::Context,
        exit::{BUG, Failure, UNAVAILABLE},
    },
    daemon::event_loop::signals::SignalStream,
    simulator::{Settings, Simulator},
};

/// Serves until a signal arrives.
pub(in crate::cli) async fn simulator(
    context: &Context,
    args: &SimulatorArgs,
) -> Result<(), Failure> {
    let settings = Settings {
        listen: args.listen,
        storage_listen: std::net::SocketAddr::new(args.listen.ip(), 0),
        deployment: args.deployment.clone(),
        token: args.token.clone(),
        user: args.user.clone(),
        machine_start: args.machine_start_s,
        cold_start: args.cold_start_s,
        run: args.run_s,
        keep_warm: args.keep_warm_s,
        max_instances: args.max_instances,
        ..Settings::default()
    };
    let mut simulator = Simulator::start(settings).await.map_err(|error| {
        Failure::new(UNAVAILABLE, format!("cannot listen on {}: {error}", args.listen))
    })?;
    let out = &context.out;
    out.data(simulator.api_url());
    out.info(format!(
        "The simulator listens at {api} and serves files from {storage}.\n\
         Point a daemon at it:\n  \
         CONJURED__SERVERLESS__API_URL={api} CONJURED__SERVERLESS__DOWNLOAD_HOSTS={host} \\\n  \
         RUNCOMFY_DEPLOYMENT_ID={deployment} RUNCOMFY_API_TOKEN={token} conjured run --root DIR\n\
         For rented machines add CONJURED__MODE=cloud RUNCOMFY_USER_ID={user} CONJURED__CLOUD__WORKFLOW_VERSION_ID=simulated-version.\n\
         Faults are ordered below {api}/_control; Ctrl-C ends it.",
        api = simulator.api_url(),
        storage = simulator.storage_url(),
        host = args.listen.ip(),
        user = args.user,
        deployment = args.deployment,
        token = args.token,
    ));
    let mut signals = SignalStream::new().map_err(|error| {
        Failure::new(BUG, format!("cannot install the signal handlers: {error}"))
    })?;
    tokio::select! {
        () = simulator.run() => {}
        () = signals.stop() => {}
    }
    Ok(())
}
