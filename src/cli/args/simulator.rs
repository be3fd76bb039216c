//! Arguments of `conjured simulator …`: how the simulated RunComfy behaves.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

/// Options of `simulator`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  conjured simulator
  conjured simulator --listen 127.0.0.1:0 --cold-start-s 0 --run-s 0.5
  CONJURED__SERVERLESS__API_URL=http://127.0.0.1:7718 \\
  CONJURED__SERVERLESS__DOWNLOAD_HOSTS=127.0.0.1 \\
  RUNCOMFY_DEPLOYMENT_ID=simulated RUNCOMFY_API_TOKEN=simulated conjured run --root ~/CONJURE

While it runs, faults are ordered over HTTP, below /_control.")]
pub struct SimulatorArgs {
    /// Listen on this address; port 0 takes any free port. The address is printed on
    /// standard output.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7718", value_parser = listen)]
    pub listen: SocketAddr,
    /// Accept only this bearer token. It is invented: never give a real one.
    #[arg(long, value_name = "TEXT", default_value = "simulated")]
    pub token: String,
    /// The id of the only deployment.
    #[arg(long, value_name = "ID", default_value = "simulated")]
    pub deployment: String,
    /// How long a sleeping machine takes to wake.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub cold_start_s: Duration,
    /// How long a run takes.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub run_s: Duration,
    /// How long an idle machine stays awake.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub keep_warm_s: Duration,
    /// The account's user id, used for rented machines.
    #[arg(long, value_name = "ID", default_value = "simulated")]
    pub user: String,
    /// How long a rented machine takes to start.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub machine_start_s: Duration,
    /// Run at most this many machines.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub max_instances: u32,
}

/// Parses a number of seconds, at most one day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds =
        text.trim().parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a number of seconds from 0 to 86400, such as 0.5".to_owned())
}

/// Parses an address to listen on. CONJURE's own port is refused, because CONJURE ends any program
/// that listens there.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .trim()
        .replace("localhost:", "127.0.0.1:")
        .parse()
        .map_err(|_| "expected an address and a port, such as 127.0.0.1:7718".to_owned())?;
    if address.port() == 8000 {
        return Err(
            "port 8000 is CONJURE's own: CONJURE ends any program that listens there".to_owned()
        );
    }
    Ok(address)
}
