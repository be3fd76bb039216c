//! The adapter for a ComfyUI server against the simulated one, over a real socket: one test for
//! each pitfall of the protocol.
//!
//! No test here waits for time to pass: the simulator advances node by node, as the test says.

use std::time::Duration;

use bytes::Bytes;
use conjured::{
    backend::{
        Backend, CallError, CancelReply, FaultKind, FetchError, Observation, Payload, Phase,
        RunResult, ServiceFault, Submission, SubmitError,
        comfyui::{Comfyui, Settings},
        work::{GraphPayload, Upload},
    },
    domain::{
        job::{
            JobId, RequestId,
            artifact::{ArtifactKind, RemoteFile, choose_file},
        },
        request::workflow::Workflow,
        time::WallTime,
    },
    simulator::comfyui::{self as look_alike, Comfy, Quirks, Version},
};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};

use crate::support::patience::patience;

mod ends;
mod running;
mod submits;

const VERSIONS: [Version; 2] = [Version::V03, Version::V33];

/// Creates a server that advances by hand, and an adapter for it.
async fn both(quirks: Quirks) -> (Comfy, Comfyui) {
    let settings =
        look_alike::Settings { by_hand: true, quirks, ..look_alike::Settings::default() };
    let server = Comfy::begin(settings).await.expect("a free port");
    let adapter = adapter(&server);
    (server, adapter)
}

fn settings(server: &Comfy) -> Settings {
    let settings = Settings::local(server.url().parse().expect("a URL"));
    // No test waits for these time-outs; they only end what hangs.
    Settings { call_timeout: Duration::from_secs(20), ..settings }
}

fn adapter(server: &Comfy) -> Comfyui {
    Comfyui::new(&settings(server)).expect("good settings")
}

fn local_graph() -> Map<String, Value> {
    Workflow::find_built_in("conjure_flux_mesh_local").expect("built in").graph().clone()
}

fn key(number: u32) -> RequestId {
    RequestId::for_job(JobId::from_parts(WallTime::from_unix_millis(1), u128::from(number)))
}

fn work(graph: Map<String, Value>) -> GraphPayload {
    GraphPayload {
        graph,
        image: ("15".to_owned(), "image".to_owned()),
        picture: Upload {
            name: "conjured-render.png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: Bytes::from_static(b"\x89PNG one"),
        },
        outputs: vec!["9".to_owned(), "22".to_owned()],
    }
}

fn submission(number: u32, work: GraphPayload) -> Submission {
    Submission { key: key(number), payload: Payload::Graph(work) }
}

async fn sent(adapter: &Comfyui, number: u32) -> RequestId {
    let mut graph = local_graph();
    graph["3"]["inputs"]["seed"] = number.into();
    adapter.submit(&submission(number, work(graph))).await.expect("it is taken")
}

fn refusal(answer: Result<RequestId, SubmitError>) -> ServiceFault {
    match answer {
        Err(SubmitError::Refused(fault)) => fault,
        other => panic!("it is refused, and not {other:?}"),
    }
}

async fn seen(adapter: &Comfyui, request: &RequestId) -> Observation {
    adapter.observe(request).await.expect("an answer")
}

async fn ended(adapter: &Comfyui, request: &RequestId) -> RunResult {
    assert_eq!(seen(adapter, request).await.phase, Phase::Ended);
    adapter.result(request).await.expect("an answer")
}

/// Waits until the reported progress is `wanted`: frames arrive while the poll goes on.
async fn told(adapter: &Comfyui, request: &RequestId, wanted: &str) {
    let mut last = String::new();
    let looking = async {
        while last != wanted {
            let progress = seen(adapter, request).await.progress;
            last = progress.map(|progress| progress.to_string()).unwrap_or_default();
        }
    };
    let found = tokio::time::timeout(patience(), looking).await;
    assert!(found.is_ok(), "`{wanted}` was never told, but `{last}`");
}

fn posts(server: &Comfy, path: &str) -> usize {
    let wanted = format!("POST {path}");
    server.calls().iter().filter(|call| **call == wanted).count()
}

async fn bytes(adapter: &Comfyui, file: &RemoteFile, from: u64) -> (u64, Vec<u8>) {
    let mut download = adapter.open(file, from).await.expect("it opens");
    let mut all = Vec::new();
    while let Some(chunk) = download.chunks.next().await {
        all.extend_from_slice(&chunk.expect("a piece"));
    }
    (download.start, all)
}
