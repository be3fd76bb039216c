//! The fake's API server, and how CONJURE's Python reads and writes.
//!
//! Owns the protocol. What a request does to the state is decided in the fake.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use rand::{Rng as _, rngs::StdRng};
use serde_json::{Map, Value};

use super::{Api, FakeConjure, Shared, lock};

impl FakeConjure {
    /// Forgets the imports so far: the same mesh may come again, once.
    pub(crate) fn forget_imports(&self) {
        lock(&self.shared.imports).clear();
    }
}

impl Shared {
    /// The API server: one request after another, like the real one when it is busy.
    pub(super) fn serve(&self, listener: &TcpListener, mut chance: StdRng) {
        for stream in listener.incoming() {
            if self.is_over() {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            let Some((path, body)) = request(&mut stream) else { continue };
            let updates = body.get("updates").and_then(Value::as_object).cloned();
            let (true, Some(updates)) = (path == "/state/update", updates) else {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
                continue;
            };
            let changes: Vec<(&str, Value)> =
                updates.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
            let thinks = Duration::from_micros(chance.random_range(0..=self.manners.thinks));
            match self.manners.api {
                Api::Another | Api::None => {
                    if updates.contains_key("command") {
                        self.spring("another checkout was told to import our mesh");
                    }
                }
                Api::Own => {
                    let _turn = lock(&self.turn);
                    self.update(&changes, thinks);
                }
                Api::Late => {
                    // Longer than any client waits for an answer.
                    std::thread::park_timeout(Duration::from_millis(5600));
                    let _turn = lock(&self.turn);
                    self.update(&changes, thinks);
                    continue;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer);
        }
    }
}

/// Reads a request: its path and its JSON.
fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        if body.len() >= length {
            let path = head.split_whitespace().nth(1)?.to_owned();
            return Some((path, serde_json::from_str(body).ok()?));
        }
    }
}

/// Writes JSON as Python does: ASCII.
pub(super) fn python(state: &Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(state).expect("JSON");
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            written.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                written.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    written
}

/// The keys of a launcher's start, and some unknown ones, with values that a careless rewrite
/// would change.
pub(super) fn first_state() -> &'static str {
    r#"{
  "app_status": "running",
  "command": null,
  "mesh_path": null,
  "min_volume_threshold": 0.01,
  "flux_pipeline_request": null,
  "flux_prompt": null,
  "flux_seed": 1337,
  "flux_pipeline_status": null,
  "generation_mode": "local_comfyui",
  "selection_mode": "inactive",
  "hand_tracker_status": "running",
  "blender_status": "running",
  "import_request": null,
  "primitive_type": null,
  "text": "caf\u00e9 \u2014 \ud83d\udd4a",
  "beat": 0,
  "kept_number": 123456789012345678901234567890,
  "kept_fraction": 1.10,
  "kept": {"deep": [1, {"b": null, "a": "\u00fc"}]}
}"#
}
