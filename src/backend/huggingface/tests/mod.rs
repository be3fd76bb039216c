//! The adapter against the simulator's Gradio server. Each known trap of the real servers has a
//! test.

mod faults;
mod files;
mod steps;
mod simple;
mod streams;

use std::time::Duration;

use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use conjured_simulator::gradio::{Gradio, Say, Version, answer, json_answer};
use futures_util::StreamExt;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::backend::{
    FaultKind, Phase,
    work::{SpacesPayload, Upload},
};

const TOKEN: &str = "t0ken-of-the-test";
const RENDER: &[u8] = b"\x89PNG\r\n\x1a\nmade up by a test";
const WEBP: &[u8] = b"RIFF\x10\0\0\0WEBPVP8 made up by a test";
const GLB: &[u8] = b"glTF\x02\0\0\0made up by a test";

/// The time limit of every wait in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    flux: Gradio,
    mesh: Gradio,
    spaces: Spaces,
}

impl World {
    async fn new(version: Version) -> Self {
        Self::with(version, |_| {}).await
    }

    async fn with(version: Version, change: impl FnOnce(&mut Settings)) -> Self {
        let (flux, mesh) = (server(version).await, server(version).await);
        let mut settings = Settings {
            flux: flux.url().parse().expect("an address"),
            mesh: mesh.url().parse().expect("an address"),
            hub: Url::parse("http://127.0.0.1:9").expect("a URL"),
            ..Settings::default()
        };
        change(&mut settings);
        let spaces = Spaces::new(&settings).expect("good settings");
        Self { flux, mesh, spaces }
    }

    async fn submit(&self) -> RequestId {
        self.spaces.submit(&submission("job-1")).await.expect("it is taken")
    }

    /// Calls `observe` until `is_it` holds.
    async fn until(
        &self,
        request: &RequestId,
        is_it: impl Fn(&Observation) -> bool,
    ) -> Observation {
        let looking = async {
            loop {
                let seen = self.spaces.observe(request).await.expect("it is known");
                if is_it(&seen) {
                    return seen;
                }
                assert_ne!(
                    seen.phase,
                    Phase::Ended,
                    "it ended before: {:?}",
                    self.spaces.result(request).await
                );
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("it is seen in time")
    }

    /// Waits until the request has ended. Returns how it ended.
    async fn end(&self, request: &RequestId) -> RunResult {
        self.until(request, |seen| seen.phase == Phase::Ended).await;
        self.spaces.result(request).await.expect("it is known")
    }

    /// Runs one job from its submit to its end.
    async fn run(&self) -> RunResult {
        self.end(&self.submit().await).await
    }

    async fn failure(&self) -> (super::super::ServiceFault, Vec<RemoteFile>) {
        match self.run().await {
            RunResult::Failed { fault, files, .. } => (fault, files),
            other => panic!("it fails: {other:?}"),
        }
    }
}

/// Starts a server whose functions take no time and make small files.
async fn server(version: Version) -> Gradio {
    let settings =
        conjured_simulator::gradio::Settings { version, run: Duration::ZERO, mesh_grid: 8 };
    let server = Gradio::begin(settings).await.expect("a free port");
    let files = [("infer", WEBP), ("process_image", WEBP), ("process_3d", GLB)];
    server.state().products = files.map(|(name, file)| (name, Bytes::from_static(file))).into();
    server
}

/// Returns a failure with the app's words.
fn fail(words: &str) -> Say {
    Say::Fail(Some(words.to_owned()))
}

fn work() -> SpacesPayload {
    let picture = Upload {
        name: "render-1.png".to_owned(),
        mime: "image/png".to_owned(),
        bytes: Bytes::from_static(RENDER),
    };
    SpacesPayload {
        prompt: "a fox".to_owned(),
        picture,
        seed: 77,
        mesh_seed: 5,
        steps_flux: 20,
        steps_partpacker: 50,
    }
}

fn submission(key: &str) -> Submission {
    Submission { key: RequestId::new(key).expect("plain"), payload: Payload::Spaces(work()) }
}

fn succeeded(result: &RunResult) -> &[RemoteFile] {
    match result {
        RunResult::Succeeded { files, .. } => files,
        other => panic!("it succeeds: {other:?}"),
    }
}

async fn download(spaces: &Spaces, file: &RemoteFile, from: u64) -> (u64, Vec<u8>) {
    let mut opened = spaces.open(file, from).await.expect("it opens");
    let mut bytes = Vec::new();
    while let Some(chunk) = opened.chunks.next().await {
        bytes.extend_from_slice(&chunk.expect("a chunk"));
    }
    (opened.start, bytes)
}

fn page(status: u16) -> Response<Bytes> {
    answer(status, ("content-type", "text/html"), "<!DOCTYPE html><html>Building</html>")
}

#[test]
fn settings_show_no_token_and_a_token_that_cannot_be_one_is_refused() {
    let settings =
        |token: &str| Settings { token: Some(SecretString::from(token)), ..Settings::default() };
    let shown = format!("{:?} {:?}", settings(TOKEN), Spaces::new(&settings(TOKEN)).expect("good"));
    assert!(
        !shown.contains(TOKEN) && shown.contains("black-forest-labs/FLUX.1-Depth-dev"),
        "{shown}"
    );
    assert!(settings(TOKEN) == settings(TOKEN) && settings(TOKEN) != settings("other"));
    assert!(settings(TOKEN) != Settings::default());
    for bad in ["a\r\nx: y", "a b", "\u{e9}"] {
        assert!(Spaces::new(&settings(bad)).is_err(), "{bad:?}");
    }
    for none in ["", " \n"] {
        assert!(!Spaces::new(&settings(none)).expect("as good as none").wire.has_token());
    }
}
