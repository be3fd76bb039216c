//! Tests of the simulator from its clients' point of view: over the wire, under a paused clock.
//!
//! This file holds the test setup: a simulator with realistic times and a minimal client. The cases
//! are in `tests/queue.rs` (submit to result), `tests/submits.rs` (faults of a submit),
//! `tests/results.rs` (outputs and errors), `tests/downloads.rs` (the storage) and
//! `tests/account.rs` (money, deployment, control path).

mod client;
mod queue;
mod submits;
mod results;
mod downloads;
mod account;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    faults::{Call, Fault, Order},
    gesture_camera::GestureCamera,
    *,
};
use client::{Answer, call};

/// A simulator with realistic times, and what a client knows of it.
struct Bench {
    simulator: Simulator,
    version: &'static str,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Self::settings()).await
    }

    fn settings() -> Settings {
        Settings {
            cold_start: Duration::from_secs(200),
            warm_delay: Duration::from_secs(2),
            run: Duration::from_secs(30),
            mesh_grid: 16,
            ..Settings::default()
        }
    }

    async fn with(settings: Settings) -> Self {
        let simulator = Simulator::start(settings).await.expect("loopback has free ports");
        Self { simulator, version: "v2" }
    }

    fn url(&self, path: &str) -> String {
        let (api, version) = (self.simulator.api_url(), self.version);
        format!("{api}/prod/{version}/deployments/simulated-deployment/{path}")
    }

    /// Calls the API with the accepted token.
    async fn call(&self, method: &str, url: &str, body: &[u8]) -> io::Result<Answer> {
        call(method, url, &[("authorization", "Bearer simulator-token")], body).await
    }

    async fn get(&self, url: &str) -> Answer {
        self.call("GET", url, b"").await.expect("an answer")
    }

    async fn post(&self, body: &[u8]) -> io::Result<Answer> {
        self.call("POST", &self.url("inference"), body).await
    }

    /// Submits CONJURE's usual overrides and returns the request's id.
    async fn submit(&self) -> String {
        let answer = self.post(&body(1)).await.expect("an answer");
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        answer.json()["request_id"].as_str().expect("an id").to_owned()
    }

    async fn status(&self, id: &str) -> Value {
        self.get(&self.url(&format!("requests/{id}/status"))).await.json()
    }

    async fn result(&self, id: &str) -> Value {
        self.get(&self.url(&format!("requests/{id}/result"))).await.json()
    }

    async fn cancel(&self, id: &str) -> Answer {
        let url = self.url(&format!("requests/{id}/cancel"));
        self.call("POST", &url, b"").await.expect("an answer")
    }

    /// Submits, lets it end, and returns the result.
    async fn run(&self) -> Value {
        let id = self.submit().await;
        self.pass(300).await;
        self.result(&id).await
    }

    /// Advances the clock.
    async fn pass(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn on(&self, fault: Fault, at: Call) {
        self.simulator.order(Order::from(fault).on(at));
    }
}

/// A submit's body as the daemon sends it, with a small render.
fn body(seed: u64) -> Vec<u8> {
    let render = STANDARD.encode(GestureCamera::with_side(64).frame(1));
    json!({"overrides": {
        "16": {"inputs": {"image": format!("data:image/png;base64,{render}")}},
        "40": {"inputs": {"value": ""}},
        "41": {"inputs": {"value": "a carrot \u{2014} orange"}},
        "42": {"inputs": {"value": seed}},
        "32": {"inputs": {"seed": 7}},
    }})
    .to_string()
    .into_bytes()
}

/// Downloads a file as an ordinary client does.
async fn fetch(url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("user-agent", "test/1")];
    all.extend(headers);
    call("GET", url, &all, b"").await.expect("an answer")
}

fn url_of_product(result: &Value, node: &str, channel: &str) -> String {
    let url = &result["outputs"][node][channel][0]["url"];
    url.as_str().unwrap_or_else(|| panic!("a url in {result}")).to_owned()
}
