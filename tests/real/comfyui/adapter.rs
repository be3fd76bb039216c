//! Runs every step of the adapter at a real ComfyUI: `tests/real/comfyui/run URL`.
//!
//! Owns one graph without models and what must be true for it. It is a separate program, so that no
//! ordinary test run needs a server.

#![expect(clippy::print_stdout, reason = "it is a script's voice")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a broken promise ends it")]

use std::collections::BTreeSet;

use bytes::Bytes;
use conjured::{
    backend::{
        Backend, CallError, FaultKind, Payload, Phase, RunResult, Submission, SubmitError,
        comfyui::{Comfyui, Settings},
        work::{GraphPayload, Upload},
    },
    domain::{
        job::{
            JobId, RequestId,
            artifact::{ArtifactKind, RemoteFile, choose_file},
        },
        time::WallTime,
    },
    simulator::comfyui::{self as look_alike, Comfy},
};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};

/// A picture of 8 × 8 pixels.
const PICTURE: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0,
    0, 0, 225, 100, 225, 87, 0, 0, 0, 12, 73, 68, 65, 84, 120, 156, 99, 96, 160, 14, 0, 0, 0, 72,
    0, 1, 46, 184, 60, 126, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];

fn main() {
    let Some(address) = std::env::args().nth(1).filter(|word| !word.starts_with('-')) else {
        println!("SKIPPED: no address of a ComfyUI was given");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if address == "look-alike" {
            let server = Comfy::begin(look_alike::Settings::default()).await.unwrap();
            server.with(|world| world.install(&graph(0, 64)));
            walk(&server.url()).await;
        } else {
            walk(&address).await;
        }
    });
}

async fn walk(address: &str) {
    let settings = Settings::local(address.parse().expect("an address like http://127.0.0.1:8188"));
    let adapter = Comfyui::new(&settings).unwrap_or_else(|error| panic!("{error}"));
    adapter.warm_up().await.unwrap_or_else(|error| panic!("nobody answers at {address}: {error}"));
    done("it is there");

    let mut absent = graph(1, 64);
    absent.insert("8".to_owned(), json!({"class_type": "ConjuredNoSuchNode", "inputs": {}}));
    match adapter.submit(&submission(1, absent)).await {
        Err(SubmitError::Refused(fault)) => {
            assert!(fault.message.contains("ConjuredNoSuchNode"), "{}", fault.message)
        }
        other => panic!("a class that nobody has was not refused: {other:?}"),
    }
    done("a missing class is told by name");

    let mut odd = graph(1, 64);
    odd["2"]["inputs"]["width"] = "wide".into();
    match adapter.submit(&submission(2, odd)).await {
        Err(SubmitError::Refused(fault)) => {
            assert!(fault.message.contains("node 2 ImageScale"), "{}", fault.message)
        }
        other => panic!("a text for a number was not refused: {other:?}"),
    }
    done("a refusal names the node");

    let first = run(&adapter, 3, 64).await;
    assert!(first.url.starts_with("/view?filename="), "{}", first.url);
    let whole = fetch(&adapter, &first, 0).await;
    assert!(whole.starts_with(b"\x89PNG\r\n"), "it is no PNG");
    assert_eq!(
        fetch(&adapter, &first, 20).await,
        whole[20..],
        "a download that goes on is another file"
    );
    done("a run gives a picture, in one piece and in two");
    assert_eq!(run(&adapter, 4, 64).await.url, first.url);
    done("a cached run lists the old name");

    let id = send(&adapter, &submission(5, graph(5, 2048))).await;
    let reply = adapter.cancel(&id).await.unwrap();
    match end(&adapter, &id).await {
        RunResult::Cancelled { .. } => done("a cancel cancels"),
        RunResult::Succeeded { .. } => done(&format!("a cancel came too late ({reply:?})")),
        other => panic!("a cancelled run ended as {other:?}"),
    }
    match adapter.observe(&key(99)).await {
        Err(CallError::Fault(fault)) if fault.kind == FaultKind::Gone => {
            done("an unknown job is gone")
        }
        other => panic!("an unknown job is {other:?}"),
    }
    println!("A mesh needs models or Load3D with a file of one: not tried.");
}

async fn run(adapter: &Comfyui, number: u32, side: u32) -> RemoteFile {
    let submission = submission(number, graph(3, side));
    let id = send(adapter, &submission).await;
    assert_eq!(
        send(adapter, &submission).await,
        id,
        "the same attempt is found and not sent again"
    );
    match end(adapter, &id).await {
        RunResult::Succeeded { files, .. } => {
            choose_file(&files, ArtifactKind::Image, "6").expect("a picture").clone()
        }
        other => panic!("the run ended as {other:?}"),
    }
}

async fn send(adapter: &Comfyui, submission: &Submission) -> RequestId {
    adapter.submit(submission).await.unwrap_or_else(|error| panic!("not taken: {error}"))
}

async fn end(adapter: &Comfyui, id: &RequestId) -> RunResult {
    let mut told = BTreeSet::new();
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..1200 {
        pace.tick().await;
        let seen = adapter.observe(id).await.unwrap_or_else(|error| panic!("{error}"));
        told.extend(seen.progress.map(|progress| progress.to_string()));
        if seen.phase == Phase::Ended {
            println!("     heard: {}", told.into_iter().collect::<Vec<_>>().join("; "));
            return adapter.result(id).await.unwrap();
        }
    }
    panic!("it did not end within two minutes");
}

async fn fetch(adapter: &Comfyui, file: &RemoteFile, from: u64) -> Vec<u8> {
    let mut download = adapter.open(file, from).await.unwrap_or_else(|error| panic!("{error}"));
    let mut all = Vec::new();
    while let Some(chunk) = download.chunks.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all.split_off(usize::try_from(from - download.start).unwrap())
}

fn done(what: &str) {
    println!("  ok {what}");
}

/// Returns an id that no earlier run of this script has used.
fn key(number: u32) -> RequestId {
    let random = u128::from(std::process::id()) << 32 | u128::from(number);
    RequestId::for_job(JobId::from_parts(WallTime::from_unix_millis(0), random))
}

fn submission(number: u32, graph: Map<String, Value>) -> Submission {
    let work = GraphPayload {
        graph,
        image: ("1".to_owned(), "image".to_owned()),
        picture: Upload {
            name: "conjured-check.png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: Bytes::from_static(PICTURE),
        },
        outputs: vec!["6".to_owned()],
    };
    Submission { key: key(number), payload: Payload::Graph(work) }
}

/// LoadImage → ImageScale → ImageInvert → ImageAddNoise → SaveImage, and a text to be previewed.
fn graph(seed: u32, side: u32) -> Map<String, Value> {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "nearest-exact", "width": side, "height": side, "crop": "disabled"}},
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "4": {"class_type": "PrimitiveInt", "inputs": {"value": seed}},
        "5": {"class_type": "ImageAddNoise", "inputs": {"image": ["3", 0], "seed": ["4", 0], "strength": 0.5}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "conjured-check/picture"}},
        "7": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a creature of clay"}},
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["7", 0]}},
    });
    graph.as_object().cloned().unwrap_or_default()
}
