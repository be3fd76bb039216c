//! A simulated RunComfy on the loopback interface: for `conjured demo` and `conjured simulator`,
//! for CONJURE's developers, and for tests that count what would have been paid.
//!
//! It speaks the Serverless queue (`/prod/v1` and `/prod/v2`), the balance, the deployment's record
//! and a little of the instance proxy. It keeps a queue, machines that start cold and stay warm, a
//! bill and a balance; it makes real pictures and meshes from what is submitted; and it fails on
//! demand. It deliberately shares no type with our own client, because both could be wrong
//! together. Rented machines (the Server API) are billed separately and each have an origin of
//! their own. Webhooks are not simulated: they answer 404.
//!
//! The parts: [`behaviour`] (switches), [`faults`] (faults on demand), `queue` and `billing`
//! (pure), `graph` and `intake` (what a submit means), `request` and `state` (what is remembered),
//! `replies` (what is answered), `server`, `storage`, `deployments`, `servers` and `control` (the
//! origins), `machines` (rented ones), `wire` (what happens on the way), [`produce`] (the files),
//! [`stats`]. [`gesture_camera`] is the other end: a stand-in for the Blender side of CONJURE. Two
//! more services: [`comfyui`], a ComfyUI server, which also runs behind each rented machine, and
//! [`gradio`], a server with the functions of both Spaces.
//!
//! Time is Tokio's, and nothing runs in the background: a request's phase is computed when a caller
//! asks. Under a paused clock on the same runtime an hour passes instantly.
//!
//! # The control path
//!
//! ```text
//! curl $API/_control/stats
//! curl $API/_control/faults -d '{"fault":"accept_then_drop"}'
//! curl $API/_control/faults \
//!      -d '{"fault":{"http":{"status":503,"retry_after":"2"}},"on":"status","times":3}'
//! curl $API/_control/faults -d '[{"fault":"colon_ids","times":"all"},
//!      {"fault":{"cut_at":{"fraction":0.5}},"only":"mesh"}]'
//! curl $API/_control/faults \
//!      -d '{"fault":{"file":{"product":"mesh","content":{"huge":{"megabytes":200}}}}}'
//! curl $API/_control/faults \
//!      -d '{"fault":{"run_fails":{"code":10011,"shape":"object"}},"after":1}'
//! curl -X DELETE $API/_control/faults
//! curl -X PATCH $API/_control/behaviour -d '{"cancel_shape":"b","timestamps":"offset"}'
//! curl $API/_control/advance -d '{"ms":300000}'
//! curl -X PATCH $API/_control/behaviour -d '{"clock_ahead_s":86400,"payload_lacks":["41"]}'
//! curl -X PATCH -H "Authorization: Bearer $TOKEN" $API/prod/v2/deployments/$ID \
//!      -d '{"name":"x","is_enabled":false}'
//! curl $API/_control/balance -d '{"micro_usd":0}'
//! curl $API/_control/token -d '{"token":"another"}'
//! curl $API/_control/faults -d '[{"fault":"accept_then_drop","on":"launch"},
//!      {"fault":"never_ready"},{"fault":{"http":{"status":503}},"on":"stop","times":2}]'
//! curl -X POST $API/_control/reset
//! ```

mod wire;
mod runcomfy;
pub mod behaviour;
pub mod faults;
pub mod stats;
pub mod comfyui;
pub mod gradio;
pub mod produce;
pub mod gesture_camera;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::connect_info::IntoMakeServiceWithConnectInfo};
use tokio::{net::TcpListener, task::JoinSet};

use conjured_domain::money::{BillingPlan, MicroUsd, Tier};

use behaviour::Behaviour;
use faults::Order;
use runcomfy::state::Shared;
use stats::Stats;
use wire::{ConnectionHandle, Connections, FaultyListener};

/// The settings of a simulator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the storage listens: another origin.
    pub storage_listen: SocketAddr,
    /// The account's own deployment.
    pub deployment: String,
    /// A deployment that exists but belongs to someone else.
    pub foreign_deployment: String,
    /// The token that is accepted.
    pub token: String,
    /// The account's user id.
    pub user: String,
    /// From the launch of a rented machine until it is ready (1 to 5 minutes in reality).
    pub machine_start: Duration,
    /// From its launch until calls about it no longer answer 404 (some seconds in reality).
    pub machine_unknown: Duration,
    /// From the wake signal until a machine works (3 to 5 minutes in reality).
    pub cold_start: Duration,
    /// From queueing to the start of the work on a warm machine (about 10 s in reality).
    pub warm_delay: Duration,
    /// How long a run takes.
    pub run: Duration,
    /// How long an idle machine stays awake.
    pub keep_warm: Duration,
    /// The maximum number of machines at once.
    pub max_instances: u32,
    /// How many requests may wait per machine before another one is started.
    pub queue_size: u32,
    /// The balance at the start.
    pub balance: MicroUsd,
    /// The price of a machine per hour.
    pub hourly: MicroUsd,
    /// How long files and records are kept after the end.
    pub retention: Duration,
    /// The side of the mesh's grid, 8 to 512; 256 makes a file of about 2.7 MB.
    pub mesh_grid: u32,
    /// The switches at the start and after a reset.
    pub behaviour: Behaviour,
}

impl Default for Settings {
    /// Fast enough to watch; price, keep-warm and scaling are RunComfy's usual ones.
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: loopback,
            storage_listen: loopback,
            deployment: "simulated-deployment".to_owned(),
            foreign_deployment: "someone-elses-deployment".to_owned(),
            token: "simulator-token".to_owned(),
            user: "simulated-user".to_owned(),
            machine_start: Duration::from_secs(3),
            machine_unknown: Duration::from_secs(1),
            cold_start: Duration::from_secs(3),
            warm_delay: Duration::from_millis(500),
            run: Duration::from_secs(4),
            keep_warm: Duration::from_secs(60),
            max_instances: 1,
            queue_size: 1,
            balance: MicroUsd::from_cents(500),
            hourly: Tier::find("AMPERE_48")
                .map_or(MicroUsd::ZERO, |tier| tier.hourly(BillingPlan::Hobby)),
            retention: Duration::from_secs(7 * 24 * 3600),
            mesh_grid: 160,
            behaviour: Behaviour::default(),
        }
    }
}

/// A running simulator. Dropping it closes both origins and breaks every connection.
pub struct Simulator {
    shared: Arc<Shared>,
    connections: Connections,
    /// The two servers; dropping the set ends them.
    servers: JoinSet<io::Result<()>>,
}

impl Simulator {
    /// Binds both origins and serves on the current runtime. Fails when an address cannot be bound.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let api = TcpListener::bind(settings.listen).await?;
        let storage = TcpListener::bind(settings.storage_listen).await?;
        let (api_url, storage_url) = (url_of(&api)?, url_of(&storage)?);
        let connections = Connections::default();
        let shared = Arc::new(Shared::new(settings, api_url, storage_url));
        let mut servers = JoinSet::new();
        for (listener, router) in [
            (api, runcomfy::server::router(shared.clone())),
            (storage, runcomfy::storage::router(shared.clone())),
        ] {
            let door = FaultyListener { listener, connections: connections.clone() };
            servers.spawn(serve(door, router));
        }
        Ok(Self { shared, connections, servers })
    }

    /// Returns the API's origin, `http://127.0.0.1:port`.
    pub fn api_url(&self) -> String {
        self.shared.api_url.clone()
    }

    /// Returns the storage's origin.
    pub fn storage_url(&self) -> String {
        self.shared.storage_url.clone()
    }

    /// Returns everything counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Orders a fault: a [`faults::Fault`] for the next matching call or run, or an [`Order`] with
    /// more details.
    pub fn order(&self, order: impl Into<Order>) {
        self.shared.lock().0.orders.add(order.into());
    }

    /// Forgets all open orders.
    pub fn clear_faults(&self) {
        self.shared.lock().0.orders.clear();
    }

    /// Changes switches.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().0.behaviour);
    }

    /// Moves the simulator's clock forward.
    pub fn advance(&self, span: Duration) {
        self.shared.lock().0.advance(span);
    }

    /// Disables the deployment, which also ends what is in flight, or enables it again.
    pub fn set_enabled(&self, enabled: bool) {
        let (mut state, now) = self.shared.lock();
        if enabled {
            state.enabled = true;
        } else {
            state.disable(now);
        }
    }

    /// Sets the remaining balance. Topping up does not enable a disabled deployment.
    pub fn set_balance(&self, left: MicroUsd) {
        let (mut state, now) = self.shared.lock();
        state.set_balance(left, now);
    }

    /// Replaces the accepted token; ends a revocation.
    pub fn set_token(&self, token: impl Into<String>) {
        self.shared.lock().0.set_token(token.into());
    }

    /// Forgets requests, counters, faults and switches; the addresses stay.
    pub fn reset(&self) {
        self.shared.lock().0.reset();
    }

    /// Waits until the servers end, which happens only after a serious error: for a process that
    /// runs nothing but a simulator.
    pub async fn run(&mut self) {
        while self.servers.join_next().await.is_some() {}
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.close();
        // Dropping the set ends the servers; their connections run on tasks of their own.
        self.connections.cut_all();
    }
}

async fn serve(door: FaultyListener, router: Router) -> io::Result<()> {
    let service: IntoMakeServiceWithConnectInfo<Router, ConnectionHandle> =
        router.into_make_service_with_connect_info();
    axum::serve(door, service).await
}

fn url_of(listener: &TcpListener) -> io::Result<String> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        // The unspecified address is not one that a client can connect to.
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

#[cfg(test)]
mod tests;
