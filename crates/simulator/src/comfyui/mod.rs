//! A simulated ComfyUI on the loopback interface, over HTTP and WebSocket: for tests, and as the
//! server behind a rented machine.
//!
//! It speaks the protocol as it was observed on ComfyUI 0.3.64 and 0.33.0 ([`Version`] chooses),
//! and shares no type with our own client. The parts: [`world`] (queue, runs, history, files,
//! sockets: all that a server remembers), `check` (validation of a graph), `server` (the routes).
//!
//! Runs proceed automatically, or, with [`Settings::by_hand`], node by node as a test says
//! ([`Comfy::start`], [`Comfy::node`], [`Comfy::finish`]), so that no test needs a clock. Not
//! built: `/api/jobs`, the model folders, users, permessage-deflate.

mod check;
mod server;
pub mod world;

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

pub use self::world::World;
use super::{
    url_of,
    wire::{Connections, FaultyListener},
};

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 picks a free one.
    pub listen: std::net::SocketAddr,
    /// Whether runs wait until the caller advances them.
    pub by_hand: bool,
    /// How long a run takes when it proceeds automatically.
    pub run: Duration,
    /// The switches at the start.
    pub quirks: Quirks,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            by_hand: false,
            run: Duration::from_secs(2),
            quirks: Quirks::default(),
        }
    }
}

/// The version that it behaves like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 0.3.64, October 2025.
    V03,
    /// 0.33.0, August 2026.
    #[default]
    V33,
}

/// What happens to a client's `prompt_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// Accepted, as in both versions (0.33: only in the form of a UUID).
    #[default]
    Taken,
    /// Refused with `invalid_prompt_id`, whatever it is.
    Refused,
    /// Ignored: the server makes its own.
    Ignored,
}

/// The switches.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// The version that it behaves like.
    pub version: Version,
    /// Classes and models that are not installed.
    pub lacks: BTreeSet<String>,
    /// What happens to a client's `prompt_id`.
    pub ids: Ids,
    /// For how many answers to `POST /prompt` the connection breaks after the job was queued.
    pub lose_answers: u32,
    /// Binary frames with pictures are sent between the others.
    pub previews: bool,
    /// Sockets open but never send a message.
    pub silent_sockets: bool,
    /// `/ws` is answered with 404.
    pub no_sockets: bool,
    /// As in servers too old to know `prompt_id` in an interrupt, an interrupt stops whichever
    /// job runs.
    pub old_interrupt: bool,
    /// `POST /prompt` is answered with this status instead.
    pub stumble: Option<u16>,
    /// Every call is answered with this status, as by a proxy in front of the server.
    pub guarded: Option<u16>,
    /// A deletion from the queue comes too late: the job starts to run at that moment.
    pub races_delete: bool,
}

/// The state shared by the server's tasks.
pub(super) struct Shared {
    world: Mutex<World>,
    /// Notified when something was put into the queue.
    wake: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server. Dropping it closes the port and breaks every connection, as killing it would.
pub struct Comfy {
    shared: Arc<Shared>,
    connections: Connections,
    url: String,
    _tasks: JoinSet<io::Result<()>>,
}

impl Comfy {
    /// Binds and serves on the current runtime. Fails when the address cannot be bound.
    pub async fn begin(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let url = url_of(&listener)?;
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(settings.quirks)),
            wake: Notify::new(),
        });
        let connections = Connections::default();
        let mut tasks = JoinSet::new();
        let door = FaultyListener { listener, connections: connections.clone() };
        tasks.spawn(super::serve(door, server::router(Arc::clone(&shared))));
        if !settings.by_hand {
            tasks.spawn(drive(Arc::clone(&shared), settings.run));
        }
        Ok(Self { shared, connections, url, _tasks: tasks })
    }

    /// Returns its origin, `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Gives access to everything that the server remembers.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.shared.lock())
    }

    /// Changes switches.
    pub fn set_quirks(&self, change: impl FnOnce(&mut Quirks)) {
        self.with(|world| change(&mut world.quirks));
    }

    /// Returns every call so far, in the form `POST /prompt`, without its query.
    pub fn calls(&self) -> Vec<String> {
        self.with(|world| world.calls.clone())
    }

    /// Returns how often a run was requested.
    pub fn prompts(&self) -> u64 {
        self.with(|world| world.calls.iter().filter(|call| *call == "POST /prompt").count() as u64)
    }

    /// Starts the next waiting job; returns its id.
    pub fn start(&self) -> Option<String> {
        self.with(World::start)
    }

    /// Runs the next node of the running job; returns its id.
    pub fn node(&self) -> Option<String> {
        self.with(World::node)
    }

    /// Runs every node that is left and ends the run successfully.
    pub fn finish(&self) {
        self.with(|world| {
            while world.node().is_some() {}
            world.succeed();
            world.archive_ended();
        });
    }

    /// Simulates that the server was killed and started again at the same address: the files are
    /// still there, everything else is forgotten.
    pub fn restart(&self) {
        self.with(World::lose_memory);
        self.connections.cut_all();
    }

    /// Breaks every connection without a close frame; the server keeps running.
    pub fn cut_connections(&self) {
        self.connections.cut_all();
    }
}

impl Drop for Comfy {
    fn drop(&mut self) {
        self.connections.cut_all();
    }
}

/// Advances runs automatically.
async fn drive(shared: Arc<Shared>, run: Duration) -> io::Result<()> {
    loop {
        let pause = shared.lock().tick(run);
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => shared.wake.notified().await,
        }
    }
}
