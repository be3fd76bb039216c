//! The state of the fake Gradio server, and its answers.
//!
//! Owns the checks that a real server makes, version by version, and stays silent where a real one
//! does not check.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Value, json};

use super::{Say, Version};
use crate::backend::http::fake::{RecordedRequest, answer};

pub(in super::super) struct State {
    pub(in super::super) version: Version,
    pub(in super::super) protocol: &'static str,
    pub(in super::super) max_file_size: Value,
    /// The token that every request must have, in either header.
    pub(in super::super) token: Option<&'static str>,
    /// What the next calls send; the usual success if it is empty.
    pub(in super::super) plays: VecDeque<Vec<Say>>,
    /// Answers to requests that start like this (`GET /config`), and how many times.
    pub(in super::super) forced: Vec<(String, Vec<u8>, usize)>,
    /// Files by path.
    pub(in super::super) files: HashMap<String, Vec<u8>>,
    pub(in super::super) seen: Vec<RecordedRequest>,
    /// The arguments that the functions were called with.
    pub(in super::super) calls: Vec<(String, Vec<Value>)>,
    inputs: HashSet<String>,
    waiting: HashMap<String, (String, String, Vec<Say>)>,
    delivered: HashSet<String>,
    pub(super) cancelled: HashSet<String>,
    pub(super) released: usize,
    events: u32,
}

/// A parameter: its name, its default, the maximum of its slider.
type Parameter = (&'static str, Option<i64>, Option<f64>);

const PARAMETERS: [(&str, &[Parameter]); 3] = [
    (
        "infer",
        &[
            ("control_image", None, None),
            ("prompt", None, None),
            ("seed", Some(0), Some(2_147_483_647.0)),
            ("randomize_seed", Some(1), None),
            ("width", Some(1024), Some(2048.0)),
            ("height", Some(1024), Some(2048.0)),
            ("guidance_scale", Some(10), Some(30.0)),
            ("num_inference_steps", Some(28), Some(50.0)),
        ],
    ),
    ("process_image", &[("image_path", None, None)]),
    (
        "process_3d",
        &[
            ("input_image", None, None),
            ("num_steps", Some(50), Some(100.0)),
            ("cfg_scale", Some(7), None),
            ("grid_res", Some(384), None),
            ("seed", Some(0), Some(2_147_483_647.0)),
            ("simplify_mesh", Some(0), None),
            ("target_num_faces", Some(100_000), None),
        ],
    ),
];

/// The first bytes of a picture.
pub(in super::super) const WEBP: &[u8] = b"RIFF\x10\0\0\0WEBPVP8 made up by a test";
pub(in super::super) const GLB: &[u8] = b"glTF\x02\0\0\0made up by a test";
pub(in super::super) const MESH_PATH: &str = "/t/gradio/cd/a mesh \u{fc}%.glb";

pub(super) enum Reply {
    Whole(Vec<u8>),
    Stream(String, String, Vec<Say>),
}

pub(in super::super) fn json_answer(status: &str, body: &Value) -> Vec<u8> {
    answer(status, "content-type: application/json\r\n", body.to_string())
}

pub(super) fn line(seen: &RecordedRequest) -> String {
    let first = seen.head.lines().next().unwrap_or_default();
    first.split(['?']).next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned()
}

impl State {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            protocol: "sse_v3",
            max_file_size: Value::Null,
            token: None,
            plays: VecDeque::new(),
            forced: Vec::new(),
            files: HashMap::new(),
            seen: Vec::new(),
            calls: Vec::new(),
            inputs: HashSet::new(),
            waiting: HashMap::new(),
            delivered: HashSet::new(),
            cancelled: HashSet::new(),
            released: 0,
            events: 0,
        }
    }

    pub(super) fn answer(&mut self, seen: &RecordedRequest) -> Reply {
        let (line, query) = (
            line(seen),
            seen.head.lines().next().and_then(|first| {
                Some(first.split_once("session_hash=")?.1.split([' ', '&']).next()?.to_owned())
            }),
        );
        self.seen.push(seen.clone());
        if let Some((_, bytes, times)) = self
            .forced
            .iter_mut()
            .find(|(start, _, times)| line.starts_with(start.as_str()) && *times > 0)
        {
            *times -= 1;
            return Reply::Whole(bytes.clone());
        }
        let whole = |status: &str, body: Value| Reply::Whole(json_answer(status, &body));
        if let Some(token) = self.token {
            let bearer = format!("Bearer {token}");
            let shown = ["authorization", "x-hf-authorization"]
                .map(|name| seen.header(name) == Some(&bearer));
            if !shown.contains(&true) {
                return whole(
                    "401 Unauthorized",
                    json!({"detail": {"error": "Not authenticated", "auth_message": null}}),
                );
            }
        }
        let not_found = || whole("404 Not Found", json!({"detail": "Not Found"}));
        if line == "GET /config" {
            return whole("200 OK", self.config());
        }
        let Some((method, path)) = line.split_once(' ') else { return not_found() };
        let Some(path) = path.strip_prefix(self.version.prefix()) else { return not_found() };
        let body = || serde_json::from_slice::<Value>(&seen.body).unwrap_or_default();
        match (method, path) {
            ("GET", "/info") => whole("200 OK", info()),
            ("POST", "/upload") => self.upload(seen),
            ("POST", "/queue/join") => {
                let body = body();
                let session = body.get("session_hash").and_then(Value::as_str);
                let index = body
                    .get("fn_index")
                    .and_then(Value::as_u64)
                    .and_then(|index| usize::try_from(index).ok());
                let (Some(session), Some(index)) = (session, index) else {
                    return whole(
                        "422 Unprocessable Entity",
                        json!({"detail": [{"msg": "Field required"}]}),
                    );
                };
                // The list starts with a function that cannot be called by name.
                let Some((function, _)) = PARAMETERS.get(index.wrapping_sub(1)) else {
                    return not_found();
                };
                self.take(function, &body, session.to_owned(), true)
            }
            ("GET", "/queue/data") => self.deliver(&query.unwrap_or_default()),
            ("POST", "/cancel") => {
                let body = body();
                let event = body.get("event_id").and_then(Value::as_str).unwrap_or_default();
                self.cancelled.insert(event.to_owned());
                whole("200 OK", json!({"success": true}))
            }
            ("POST", _) if path.starts_with("/call/") => {
                let name = path.trim_start_matches("/call/");
                let Some((function, _)) = PARAMETERS.iter().find(|(known, _)| *known == name)
                else {
                    return Reply::Whole(answer(
                        "500 Internal Server Error",
                        "",
                        "Internal Server Error",
                    ));
                };
                let body = body();
                if body.get("session_hash").is_some() {
                    return not_found();
                }
                self.take(function, &body, String::new(), false)
            }
            ("GET", _) if path.starts_with("/call/") => {
                let event = path.rsplit('/').next().unwrap_or_default().to_owned();
                self.deliver(&event)
            }
            ("GET", _) if path.starts_with("/file=") => {
                self.file(seen, path.trim_start_matches("/file="))
            }
            _ => not_found(),
        }
    }

    fn config(&self) -> Value {
        let mut components = vec![json!({"id": 900, "type": "state", "props": {}})];
        let mut dependencies = vec![json!({"id": 0, "api_name": false, "inputs": []})];
        for (place, (function, parameters)) in PARAMETERS.iter().enumerate() {
            let mut inputs = Vec::new();
            for (at, (_, _, maximum)) in parameters.iter().enumerate() {
                let id = 100 * (place + 1) + at;
                components.push(json!({"id": id, "type": "x", "props": {"minimum": maximum.map(|_| 0), "maximum": maximum}}));
                inputs.push(json!(id));
            }
            if *function == "process_3d" {
                // Hidden state, which `/info` leaves out.
                inputs.insert(1, json!(900));
            }
            dependencies.push(json!({"id": place + 1, "api_name": function, "inputs": inputs}));
        }
        let mut config = json!({
            "version": format!("{:?}", self.version), "protocol": self.protocol, "max_file_size": self.max_file_size,
            // Wrong on purpose: only the prefix may be read from here.
            "root": "http://foreign.invalid/root", "components": components, "dependencies": dependencies,
        });
        if self.version > Version::V4_44 {
            config["api_prefix"] = json!(self.version.prefix());
        }
        config
    }

    fn upload(&mut self, seen: &RecordedRequest) -> Reply {
        let text = String::from_utf8_lossy(&seen.body);
        let kind = seen.header("content-type").unwrap_or_default();
        let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") else {
            return Reply::Whole(json_answer(
                "400 Bad Request",
                &json!({"detail": "Invalid content type."}),
            ));
        };
        let is_form = text.starts_with(&format!("--{boundary}\r\n"))
            && text.ends_with(&format!("\r\n--{boundary}--\r\n"));
        // A field with another name is not an error.
        let name = text
            .split_once("name=\"files\"; filename=\"")
            .and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
        let Some(name) = name.filter(|_| is_form) else {
            return Reply::Whole(json_answer("200 OK", &json!([])));
        };
        let path = format!("/t/gradio/up/{name}");
        let start =
            seen.body.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let end = seen.body.len() - boundary.len() - 8;
        self.files.insert(path.clone(), seen.body[start..end].to_vec());
        self.inputs.insert(path.clone());
        Reply::Whole(json_answer("200 OK", &json!([path])))
    }

    fn take(&mut self, function: &str, body: &Value, session: String, with_state: bool) -> Reply {
        let mut data = body.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        if with_state && function == "process_3d" && data.len() > 1 {
            assert_eq!(data.remove(1), Value::Null, "hidden state is the server's own");
        }
        self.events += 1;
        let event = format!("{:032x}", self.events);
        let mut says = self.plays.pop_front().unwrap_or_else(|| vec![Say::Success]);
        if let Some(message) = self.complaint(function, &data) {
            says = vec![Say::Fail(Some(message))];
        }
        self.calls.push((function.to_owned(), data));
        let key = if session.is_empty() { event.clone() } else { session };
        self.waiting.insert(key, (event.clone(), function.to_owned(), says));
        Reply::Whole(json_answer("200 OK", &json!({"event_id": event})))
    }

    /// Returns the error that the version reports.
    fn complaint(&self, function: &str, data: &[Value]) -> Option<&'static str> {
        let (_, parameters) = PARAMETERS.iter().find(|(name, _)| *name == function)?;
        if data.len() < parameters.len() {
            return Some("needs more values");
        }
        let path = data[0].get("path").and_then(Value::as_str).unwrap_or_default();
        if !self.inputs.contains(path) {
            return Some("no such file");
        }
        let beyond = parameters.iter().zip(data).any(|((_, _, maximum), value)| {
            maximum.zip(value.as_f64()).is_some_and(|(maximum, value)| value > maximum)
        });
        (beyond && self.version >= Version::V5_49)
            .then_some("Value 64 is greater than maximum value 50.")
    }

    fn deliver(&mut self, key: &str) -> Reply {
        if let Some((event, function, says)) = self.waiting.remove(key) {
            self.delivered.insert(key.to_owned());
            return Reply::Stream(event, function, says);
        }
        // Read again after delivery: a stream that stays empty and open.
        let is_again = self.delivered.contains(key);
        let lost = json!({"msg": "unexpected_error", "message": "404: Session not found.", "success": false, "session_not_found": true});
        let says = if is_again { vec![Say::Silence] } else { vec![Say::Msg(lost)] };
        Reply::Stream(String::new(), String::new(), says)
    }

    fn file(&self, seen: &RecordedRequest, path: &str) -> Reply {
        let decoded = decode(path);
        let Some(bytes) = self.files.get(&decoded) else {
            let body = json!({"detail": format!("File not allowed: {decoded}.")});
            return Reply::Whole(json_answer("403 Forbidden", &body));
        };
        if seen.header("range").is_some() {
            // As in a real server: our own headers come back.
            let headers = "range: bytes=5-\r\nhost: echoed\r\ncontent-range: bytes 5-9/10\r\n";
            return Reply::Whole(answer("206 Partial Content", headers, bytes));
        }
        Reply::Whole(answer(
            "200 OK",
            "content-type: application/octet-stream\r\netag: \"x\"\r\n",
            bytes,
        ))
    }

    pub(super) fn output(&mut self, function: &str) -> Value {
        let (path, bytes) = match function {
            "infer" => ("/t/gradio/ab/image.webp", WEBP),
            "process_image" => ("/t/gradio/ef/seg.webp", WEBP),
            _ => (MESH_PATH, GLB),
        };
        self.files.entry(path.to_owned()).or_insert_with(|| bytes.to_vec());
        self.inputs.insert(path.to_owned());
        let bug = if self.version < Version::V5_49 { "r/file=" } else { "/gradio_api/file=" };
        let file = json!({
            "path": path, "url": format!("http://foreign.invalid/{bug}{path}"), "size": null, "orig_name": "wrong.exe",
            "mime_type": null, "is_stream": false, "meta": {"_type": "gradio.FileData"},
        });
        if function == "infer" { json!([file, 77]) } else { json!([file]) }
    }
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(&after[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal"));
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn info() -> Value {
    let mut endpoints = serde_json::Map::new();
    for (function, parameters) in PARAMETERS {
        let listed = parameters.iter().map(|(name, default, _)| {
            json!({"parameter_name": name, "label": "x", "parameter_has_default": default.is_some(), "parameter_default": default})
        });
        endpoints.insert(
            format!("/{function}"),
            json!({"parameters": listed.collect::<Vec<_>>(), "returns": []}),
        );
    }
    json!({"named_endpoints": endpoints, "unnamed_endpoints": {}})
}
