//! The routes: the answer to each call, with the statuses and the empty bodies that were observed.
//!
//! Owns the parsing of requests. The validation of a graph is `check`'s, its execution the world's.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        ConnectInfo, DefaultBodyLimit, Path, Query, Request, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    Ids, Shared, Version,
    check::{PromptVerdict, error},
    world::Frame,
};
use crate::wire::ConnectionHandle;

type Pairs = Query<std::collections::BTreeMap<String, String>>;

/// The largest upload in bytes, as `/features` reports it.
const MAX_UPLOAD: usize = 104_857_600;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/ws", get(ws))
        .route("/system_stats", get(system_stats))
        .route("/features", get(features))
        .route("/object_info", get(object_info))
        .route("/object_info/{class}", get(object_info_of))
        .route("/upload/image", post(upload))
        .route("/prompt", get(remaining).post(prompt))
        .route("/queue", get(queue).post(delete_queued))
        .route("/interrupt", post(interrupt))
        .route("/history", get(all_history).post(delete_history))
        .route("/history/{id}", get(history))
        .route("/view", get(view));
    Router::new()
        .merge(routes.clone())
        .nest("/api", routes)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), log_call))
        .layer(DefaultBodyLimit::max(MAX_UPLOAD))
        .with_state(shared)
}

/// Records the call, and refuses what a browser would send from another site.
async fn log_call(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (guarded, version) = {
        let mut world = shared.lock();
        world.calls.push(format!("{} {}", request.method(), request.uri().path()));
        (world.quirks.guarded, world.quirks.version)
    };
    if let Some(status) = guarded {
        return empty(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN));
    }
    let is_cross =
        request.headers().get("sec-fetch-site").is_some_and(|value| value == "cross-site");
    if request.headers().contains_key(header::ORIGIN) || (is_cross && version == Version::V33) {
        return empty(StatusCode::FORBIDDEN);
    }
    next.run(request).await
}

async fn not_found(method: Method) -> Response {
    empty(if method == Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else {
        StatusCode::NOT_FOUND
    })
}

fn empty(status: StatusCode) -> Response {
    status.into_response()
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
        .into_response()
}

fn ok(body: &Value) -> Response {
    json_answer(StatusCode::OK, body)
}

/// The answer of a handler that fails: two lines of text.
fn internal_error() -> Response {
    let message = "500 Internal Server Error\n\nServer got itself in trouble";
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], message)
        .into_response()
}

async fn ws(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Pairs,
    upgrade: WebSocketUpgrade,
) -> Response {
    if shared.lock().quirks.no_sockets {
        return empty(StatusCode::NOT_FOUND);
    }
    let sid = pairs.get("clientId").filter(|id| !id.is_empty()).cloned();
    let sid = sid.unwrap_or_else(|| "made-up-by-the-server".to_owned());
    upgrade.on_upgrade(move |stream| async move {
        let (sender, frames) = tokio::sync::mpsc::unbounded_channel();
        let serial = shared.lock().register_socket(&sid, sender);
        hold(stream, frames, shared, sid, serial).await;
    })
}

/// Forwards what the world sends to one socket, until either end closes. When the world drops its
/// end, the connection closes without a close frame.
async fn hold(
    mut socket: WebSocket,
    mut frames: UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
    sid: String,
    serial: u64,
) {
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let sent = match frame {
                    Some(Frame::Text(text)) => socket.send(Message::Text(text.into())).await,
                    Some(Frame::Binary(bytes)) => socket.send(Message::Binary(bytes.into())).await,
                    None => break,
                };
                if sent.is_err() {
                    break;
                }
            }
            said = socket.recv() => match said {
                // A client's first frame may list the features it supports; nothing here needs it.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    shared.lock().close_socket(&sid, serial);
}

async fn system_stats(State(shared): State<Arc<Shared>>) -> Response {
    let (version, os) = match shared.lock().quirks.version {
        Version::V03 => ("0.3.64", "posix"),
        Version::V33 => ("0.33.0", "linux"),
    };
    ok(&json!({
        "system": {"os": os, "comfyui_version": version, "ram_total": 1, "ram_free": 1, "argv": ["main.py"]},
        "devices": [{"name": "cpu", "type": "cpu", "index": null, "vram_total": 1, "vram_free": 1}],
    }))
}

async fn features() -> Response {
    ok(&json!({"supports_preview_metadata": true, "max_upload_size": MAX_UPLOAD}))
}

async fn object_info(State(shared): State<Arc<Shared>>) -> Response {
    let world = shared.lock();
    let pictures: Vec<&String> = world.uploads.keys().collect();
    ok(&world.classes.all(&world.quirks, &pictures))
}

/// As in ComfyUI, an unknown class is answered with 200 and an empty object.
async fn object_info_of(State(shared): State<Arc<Shared>>, Path(class): Path<String>) -> Response {
    let world = shared.lock();
    let pictures: Vec<&String> = world.uploads.keys().collect();
    match world.classes.describe(&class, &world.quirks, &pictures) {
        Value::Null => ok(&json!({})),
        known => ok(&json!({ class: known })),
    }
}

async fn upload(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(form) = Form::read(&headers, &body) else { return empty(StatusCode::BAD_REQUEST) };
    let (name, folder) = (form.file_name, form.subfolder);
    if name.is_empty() || name.starts_with('/') || format!("{folder}/{name}").contains("..") {
        return empty(StatusCode::BAD_REQUEST);
    }
    let mut world = shared.lock();
    let (stem, end) = name.rsplit_once('.').map_or((&*name, ""), |(stem, end)| (stem, end));
    let mut given = name.clone();
    let path = |given: &str| {
        if folder.is_empty() { given.to_owned() } else { format!("{folder}/{given}") }
    };
    let mut count = 0;
    while world.uploads.get(&path(&given)).is_some_and(|there| *there != form.file)
        && !form.overwrite
    {
        count += 1;
        given = format!("{stem} ({count}).{end}");
    }
    world.uploads.insert(path(&given), form.file);
    ok(&json!({"name": given, "subfolder": folder, "type": "input"}))
}

/// A multipart form, as far as an upload needs it.
#[derive(Default)]
struct Form {
    file_name: String,
    file: Bytes,
    subfolder: String,
    overwrite: bool,
}

impl Form {
    fn read(headers: &HeaderMap, body: &Bytes) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let boundary = format!("--{}", kind.split_once("boundary=")?.1.trim_matches('"'));
        let (mut form, mut has_file) = (Self::default(), false);
        let mut at = find(body, boundary.as_bytes(), 0)?;
        while let Some(next) = find(body, boundary.as_bytes(), at + boundary.len()) {
            let part = body.slice(at + boundary.len()..next);
            at = next;
            let Some(split) = find(&part, b"\r\n\r\n", 0) else { continue };
            let head = String::from_utf8_lossy(&part[..split]).into_owned();
            let content = part.slice(split + 4..part.len().saturating_sub(2).max(split + 4));
            let quoted = |key: &str| {
                let rest = head.split_once(&format!(" {key}=\""))?.1;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            match quoted("name").as_deref() {
                Some("image") => {
                    has_file = true;
                    form.file_name = quoted("filename")?;
                    form.file = content;
                }
                Some("subfolder") => {
                    form.subfolder = String::from_utf8_lossy(&content).into_owned();
                }
                Some("overwrite") => form.overwrite = matches!(&*content, b"true" | b"1"),
                _ => {}
            }
        }
        has_file.then_some(form)
    }
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    body.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

async fn remaining(State(shared): State<Arc<Shared>>) -> Response {
    ok(&json!({"exec_info": {"queue_remaining": shared.lock().remaining()}}))
}

async fn prompt(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return internal_error() };
    let mut world = shared.lock();
    if let Some(status) = world.quirks.stumble {
        return if status == 500 {
            internal_error()
        } else {
            empty(StatusCode::from_u16(status).unwrap_or_default())
        };
    }
    let refuse = |body: &Value| json_answer(StatusCode::BAD_REQUEST, body);
    let Some(graph) = body.get("prompt") else {
        return refuse(&error("no_prompt", "No prompt provided", ""));
    };
    let Some(graph) = graph.as_object() else { return internal_error() };
    let own = body.get("prompt_id").and_then(Value::as_str);
    let is_refused = match (world.quirks.ids, world.quirks.version) {
        (Ids::Refused, _) => own.is_some(),
        (_, Version::V33) => own.is_some_and(|id| !is_uuid(id)),
        (_, Version::V03) => false,
    };
    if is_refused {
        return refuse(&error("invalid_prompt_id", "prompt_id must be a valid UUID", ""));
    }
    let fresh = format!("made-by-the-server-{}", world.calls.len());
    let id = own.filter(|_| world.quirks.ids == Ids::Taken).map_or(fresh, str::to_owned);
    let verdict =
        world.classes.check(graph, &world.quirks, |file| world.uploads.contains_key(file));
    let (outputs, node_errors) = match verdict {
        PromptVerdict::Refused(body) => return refuse(&body),
        PromptVerdict::Taken(outputs, errors) => (outputs, errors),
    };
    let mut extra = body.get("extra_data").cloned().unwrap_or_else(|| json!({}));
    if let Some(client) = body.get("client_id") {
        extra["client_id"] = client.clone();
    }
    let goes_first = body["front"] == true;
    let number = world.put(id.clone(), graph.clone(), extra, outputs, goes_first);
    if world.quirks.lose_answers > 0 {
        world.quirks.lose_answers -= 1;
        connection.cut();
    }
    drop(world);
    shared.wake.notify_one();
    ok(&json!({"prompt_id": id, "number": number, "node_errors": node_errors}))
}

/// Returns whether a text is a version 4 UUID in lower case with hyphens.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && text.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c))
        && parts[2].starts_with('4')
}

async fn queue(State(shared): State<Arc<Shared>>) -> Response {
    ok(&shared.lock().queue())
}

async fn delete_queued(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut world = shared.lock();
    if world.quirks.races_delete {
        world.start();
    }
    let named =
        |id: &str| body["delete"].as_array().is_some_and(|ids| ids.iter().any(|known| known == id));
    world.pending.retain(|job| body["clear"] != true && !named(&job.id));
    empty(StatusCode::OK)
}

async fn interrupt(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    shared.lock().interrupt(body.get("prompt_id").and_then(Value::as_str));
    empty(StatusCode::OK)
}

async fn all_history(State(shared): State<Arc<Shared>>) -> Response {
    ok(&Value::Object(shared.lock().history.iter().cloned().collect()))
}

async fn history(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let world = shared.lock();
    let entry = world.history.iter().find(|(known, _)| *known == id);
    ok(&entry.map_or_else(|| json!({}), |(id, entry)| json!({ id: entry })))
}

async fn delete_history(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let named =
        |id: &str| body["delete"].as_array().is_some_and(|ids| ids.iter().any(|known| known == id));
    shared.lock().history.retain(|(id, _)| body["clear"] != true && !named(id));
    empty(StatusCode::OK)
}

/// Strict about its three parameters: the subfolder has a parameter of its own.
async fn view(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    let get = |key: &str| pairs.get(key).map(String::as_str).unwrap_or_default();
    let (name, folder) = (get("filename"), get("subfolder"));
    let kind = if get("type").is_empty() { "output" } else { get("type") };
    if !matches!(kind, "output" | "input" | "temp") || name.contains("..") || name.starts_with('/')
    {
        return empty(StatusCode::BAD_REQUEST);
    }
    if folder.contains("..") {
        return empty(StatusCode::FORBIDDEN);
    }
    let is_mesh = name.to_ascii_lowercase().ends_with(".glb");
    if pairs.contains_key("preview") && is_mesh {
        return internal_error();
    }
    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let found = (!name.contains('/')).then(|| shared.lock().file(kind, &path)).flatten();
    let Some(bytes) = found else { return empty(StatusCode::NOT_FOUND) };
    let from = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let from: Option<usize> =
        from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mime = if is_mesh { "model/gltf-binary" } else { "image/png" };
    let response =
        Response::builder().header(header::CONTENT_TYPE, mime).header(header::ETAG, "\"one\"");
    let response = match from {
        Some(from) if from < bytes.len() => {
            let all = bytes.len();
            response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{all}", all - 1))
                .body(Body::from(bytes.slice(from..)))
        }
        _ => response.body(Body::from(bytes)),
    };
    response.unwrap_or_else(|_| empty(StatusCode::INTERNAL_SERVER_ERROR))
}
