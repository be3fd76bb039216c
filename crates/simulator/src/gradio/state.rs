//! What a Gradio server remembers, and its answers.
//!
//! Owns the checks that a real server makes, version by version, and stays silent where a real one
//! does not check. It sends nothing: the events of a call are [`super::stream`]'s.

use std::collections::{HashMap, VecDeque};

use axum::{
    body::Bytes,
    http::{Request, Response},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::form_urlencoded;

use super::{
    EVENTS, Say, Settings, Version, answer,
    functions::{self, FUNCTIONS, Function, MESH},
    json_answer,
    stream::{Call, Signals, data},
};
use crate::produce::{self, Product, ProductRecipe, Spoiled};

/// What a server remembers.
#[derive(Default)]
pub struct State {
    /// The protocol of the queue that it names.
    pub protocol: &'static str,
    /// The largest upload in bytes that it names.
    pub max_file_size: Option<u64>,
    /// The token that every request must have, in either header.
    pub token: Option<&'static str>,
    /// What the next calls send; the usual success if it is empty.
    pub(super) plays: VecDeque<Vec<Say>>,
    /// The error of the app instead of a function's success, by the function's name.
    pub errors: HashMap<&'static str, String>,
    /// Answers to requests that start like this, and how many times: see [`super::Gradio::force`].
    pub forced: Vec<(String, Option<Response<Bytes>>, usize)>,
    /// What a function makes instead of its usual file, by its name.
    pub products: HashMap<&'static str, Bytes>,
    /// Files by path.
    pub files: HashMap<String, Bytes>,
    /// The functions that were called, with their arguments.
    pub calls: Vec<(&'static str, Vec<Value>)>,
    pub(super) seen: Vec<Request<Bytes>>,
    pub(super) signals: watch::Sender<Signals>,
    settings: Settings,
    /// The calls that wait to be read, by session or, in the simple protocol, by their id.
    waiting: HashMap<String, Call>,
    /// The number of files and calls so far.
    made: u32,
}

/// How a request is answered.
pub(super) enum Reply {
    Whole(Response<Bytes>),
    Events(Call),
    /// The connection breaks.
    Cut,
}

/// Returns a request's method and path.
pub(super) fn line(request: &Request<Bytes>) -> String {
    format!("{} {}", request.method(), request.uri().path())
}

/// Returns the value of `name` in a query.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self { protocol: "sse_v3", settings, ..Self::default() }
    }

    pub(super) const fn prefix(&self) -> &'static str {
        self.settings.version.prefix()
    }

    pub(super) fn answer(&mut self, request: &Request<Bytes>) -> Reply {
        self.seen.push(request.clone());
        let line = line(request);
        let mut forced = self.forced.iter_mut();
        if let Some((_, answer, times)) =
            forced.find(|(start, _, times)| line.starts_with(start.as_str()) && *times > 0)
        {
            *times -= 1;
            return answer.clone().map_or(Reply::Cut, Reply::Whole);
        }
        if !self.admits(request) {
            let told = json!({"detail": {"error": "Not authenticated", "auth_message": null}});
            return Reply::Whole(json_answer(401, &told));
        }
        let not_found = || json_answer(404, &json!({"detail": "Not Found"}));
        let whole = request.uri().path();
        let path = whole.strip_prefix(self.prefix()).unwrap_or_default();
        let query = request.uri().query().unwrap_or_default();
        let body = serde_json::from_slice::<Value>(request.body()).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        Reply::Whole(match (request.method().as_str(), path) {
            ("GET", _) if whole == "/config" => {
                json_answer(200, &functions::config(self, self.settings.version))
            }
            ("GET", "/info") => json_answer(200, &functions::info()),
            ("GET", "/queue/data") => return self.events(value(query, "session_hash").as_deref()),
            ("GET", _) if path.starts_with("/call/") => {
                return self.events(path.rsplit('/').next());
            }
            ("GET", _) if path.starts_with("/file=") => self.file(&path[1..]),
            ("POST", "/upload") => self.upload(request),
            ("POST", "/cancel") => {
                let event = text("event_id").unwrap_or_default().to_owned();
                self.signals.send_modify(|signals| signals.cancelled.extend([event]));
                json_answer(200, &json!({"success": true}))
            }
            ("POST", "/queue/join") => {
                let index = body.get("fn_index").and_then(Value::as_u64);
                // Number 0 cannot be called by name.
                let index = index.and_then(|index| usize::try_from(index).ok()?.checked_sub(1));
                let function = index.and_then(|index| FUNCTIONS.get(index));
                match function.zip(text("session_hash")) {
                    Some((function, session)) => self.take(function, &body, Some(session)),
                    None => json_answer(422, &json!({"detail": [{"msg": "Field required"}]})),
                }
            }
            ("POST", _) if path.starts_with("/call/") => {
                let name = path.trim_start_matches("/call/");
                let function = FUNCTIONS.iter().find(|function| function.name == name);
                // With a session, the result could not be read.
                match function.filter(|_| body.get("session_hash").is_none()) {
                    Some(function) => self.take(function, &body, None),
                    None => not_found(),
                }
            }
            _ => not_found(),
        })
    }

    fn admits(&self, request: &Request<Bytes>) -> bool {
        let Some(token) = self.token else { return true };
        let mut shown = ["authorization", "x-hf-authorization"].into_iter();
        let bearer = format!("Bearer {token}");
        shown.any(|name| request.headers().get(name).is_some_and(|value| *value == bearer))
    }

    /// Keeps the file of a form. As in Gradio, a wrong field name is answered with 200 and an
    /// empty list.
    fn upload(&mut self, request: &Request<Bytes>) -> Response<Bytes> {
        let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let boundary = kind.and_then(|kind| kind.strip_prefix("multipart/form-data; boundary="));
        let Some(boundary) = boundary else {
            return json_answer(400, &json!({"detail": "Invalid content type."}));
        };
        let file = || {
            let form = request.body().strip_prefix(format!("--{boundary}\r\n").as_bytes())?;
            let part = form.strip_suffix(format!("\r\n--{boundary}--\r\n").as_bytes())?;
            let end = part.windows(4).position(|window| window == b"\r\n\r\n")?;
            let head = std::str::from_utf8(&part[..end]).ok()?;
            let name = head.split_once("name=\"files\"; filename=\"")?.1.split_once('"')?.0;
            Some((name, request.body().slice_ref(&part[end + 4..])))
        };
        let Some((name, bytes)) = file() else { return json_answer(200, &json!([])) };
        let path = self.new_path(name);
        self.files.insert(path.clone(), bytes);
        json_answer(200, &json!([path]))
    }

    fn new_path(&mut self, name: &str) -> String {
        self.made += 1;
        format!("/t/gradio/{}/{name}", self.made)
    }

    /// Accepts a call, with its session in the queue protocol.
    fn take(
        &mut self,
        function: &'static Function,
        body: &Value,
        session: Option<&str>,
    ) -> Response<Bytes> {
        let mut data = body.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let has_state = session.is_some() && function.name == MESH && data.len() > 1;
        let state = if has_state { data.remove(1) } else { Value::Null };
        let complaint = self.complaint(function, &data, &state);
        let says = match (self.plays.pop_front(), complaint) {
            (Some(says), None) => says,
            (_, Some(words)) => self.usual(function, Say::Fail(Some(words)), session.is_some()),
            (None, None) => self.usual(function, Say::Success, session.is_some()),
        };
        let succeeds = says.iter().any(|say| matches!(say, Say::Success));
        let output = if succeeds { self.output(function, &data) } else { Value::Null };
        self.calls.push((function.name, data));
        let event = format!("{:032x}", self.calls.len());
        let key = session.unwrap_or(&event).to_owned();
        let (queued, version) = (session.is_some(), self.settings.version);
        let says = says.into();
        let call = Call { event: event.clone(), queued, version, says, output, held: 0 };
        self.waiting.insert(key, call);
        json_answer(200, &json!({"event_id": event}))
    }

    /// Returns the error that the app or the version reports.
    fn complaint(&self, function: &Function, data: &[Value], state: &Value) -> Option<String> {
        if let Some(words) = self.errors.get(function.name) {
            return Some(words.clone());
        }
        if data.len() < function.parameters.len() {
            return Some("needs more values".to_owned());
        }
        if !state.is_null() {
            return Some("hidden state is the server's own".to_owned());
        }
        if !self.files.contains_key(path(data)) {
            return Some("no such file".to_owned());
        }
        let is_beyond = function.parameters.iter().zip(data).any(|((_, _, maximum), value)| {
            maximum.zip(value.as_f64()).is_some_and(|(maximum, value)| value > maximum)
        });
        (is_beyond && self.settings.version >= Version::V5_49)
            .then(|| "Value 64 is greater than maximum value 50.".to_owned())
    }

    /// Returns what a call sends that has no script.
    fn usual(&self, function: &Function, end: Say, queued: bool) -> Vec<Say> {
        let step = json!({"index": 3, "length": 20, "unit": "steps", "progress": null,
            "desc": function.name});
        let began = [
            json!({"msg": "estimation", "rank": 0, "queue_size": 1, "rank_eta": 1.0}),
            json!({"msg": "process_starts", "eta": 1.0}),
            json!({"msg": "progress", "progress_data": [step]}),
        ];
        let began = began.into_iter().filter(|_| queued).map(Say::Msg);
        began.chain([Say::Wait(self.settings.run), end]).collect()
    }

    /// Makes the file of a function; returns what the function does.
    fn output(&mut self, function: &Function, data: &[Value]) -> Value {
        let value = |name: &str| {
            let at = function.parameters.iter().position(|(found, ..)| *found == name);
            at.and_then(|at| data.get(at)).unwrap_or(&Value::Null)
        };
        let seed = value("seed").as_u64().unwrap_or_default();
        let recipe = ProductRecipe {
            picture: self.files.get(path(data)).cloned(),
            prompt: value("prompt").as_str().unwrap_or_default().to_owned(),
            seed,
            mesh_seed: seed,
            grid: self.settings.mesh_grid,
        };
        let (product, spoiled) = match function.name {
            MESH => (Product::Mesh, None),
            _ => (Product::Image, Some(Spoiled::Webp)),
        };
        let path = self.new_path(function.file);
        let usual = || produce::content(&recipe, product, spoiled).read(0, usize::MAX);
        let bytes = self.products.get(function.name).cloned().unwrap_or_else(usual);
        self.files.insert(path.clone(), bytes);
        // The address is wrong, as it sometimes is behind Hugging Face's proxy, and so is the
        // name: a client must use neither.
        let file = json!({
            "path": path, "url": format!("http://foreign.invalid/file={path}"), "size": null,
            "orig_name": "wrong.exe", "mime_type": null, "is_stream": false,
            "meta": {"_type": "gradio.FileData"},
        });
        if function.name == "infer" { json!([file, seed]) } else { json!([file]) }
    }

    /// Sends the events of a call, once.
    fn events(&mut self, key: Option<&str>) -> Reply {
        let call = key.and_then(|key| self.waiting.remove(key));
        let lost = json!({"msg": "unexpected_error", "message": "404: Session not found.",
            "success": false, "session_not_found": true});
        call.map_or_else(|| Reply::Whole(answer(200, EVENTS, data(&lost))), Reply::Events)
    }

    fn file(&self, query: &str) -> Response<Bytes> {
        let path = value(query, "file").unwrap_or_default();
        match self.files.get(&path) {
            Some(bytes) => answer(200, ("content-type", "application/octet-stream"), bytes.clone()),
            None => json_answer(403, &json!({"detail": format!("File not allowed: {path}.")})),
        }
    }
}

/// Returns the path of the file that a function is called with.
fn path(data: &[Value]) -> &str {
    let file = data.first().and_then(|file| file.get("path"));
    file.and_then(Value::as_str).unwrap_or_default()
}
