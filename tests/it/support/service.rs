//! The simulator for a test: on its own thread and current-thread runtime, like the far side of
//! a network.
//!
//! Owns the thread. Counters and faults are the simulator's; tests reach it by `Deref`.

use std::{
    ops::Deref,
    sync::{Arc, mpsc},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use conjured::{
    domain::money::MicroUsd,
    simulator::{
        Settings, Simulator,
        comfyui::{self, Comfy},
        gradio::{self, Gradio},
    },
};
use tokio::sync::oneshot;

/// The token that the service accepts. Its text is unique, so that a search for it finds
/// nothing else.
pub(crate) const TOKEN: &str = "the-token-that-must-not-be-seen";

/// A running simulator.
pub(crate) type Service = Far<Simulator>;

/// A server on its own runtime.
pub(crate) struct Far<T> {
    server: Arc<T>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Returns a service that is always warm, fast and has a high balance.
pub(crate) fn quick() -> Settings {
    Settings {
        token: TOKEN.to_owned(),
        cold_start: Duration::ZERO,
        warm_delay: Duration::from_millis(40),
        run: Duration::from_millis(120),
        balance: MicroUsd::from_cents(100_000),
        mesh_grid: 24,
        ..Settings::default()
    }
}

impl Service {
    /// Starts one.
    pub(crate) fn start(settings: Settings) -> Self {
        Self::begin(async || Simulator::start(settings).await.expect("two free ports"))
    }
}

/// Starts a ComfyUI whose runs take this long.
pub(crate) fn comfyui(run: Duration) -> Far<Comfy> {
    let settings = comfyui::Settings { run, ..comfyui::Settings::default() };
    Far::begin(async || Comfy::begin(settings).await.expect("a free port"))
}

/// Starts a server with both Spaces' functions, each of which takes this long.
pub(crate) fn spaces(run: Duration) -> Far<Gradio> {
    let settings = gradio::Settings { run, ..gradio::Settings::default() };
    Far::begin(async move || Gradio::begin(settings).await.expect("a free port"))
}

impl<T: Send + Sync + 'static> Far<T> {
    fn begin<F: AsyncFnOnce() -> T + Send + 'static>(make: F) -> Self {
        let (started, ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                started.send(Arc::new(make().await)).expect("the test waits for it");
                // An error means that the test is over as well.
                let _ = stopped.await;
            });
        };
        let thread = Builder::new().name("service".to_owned()).spawn(serve).expect("a thread");
        let server = ready.recv().expect("it starts");
        Self { server, stop: Some(stop), thread: Some(thread) }
    }
}

impl<T> Deref for Far<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.server
    }
}

impl<T> Drop for Far<T> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}
