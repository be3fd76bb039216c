//! A simulated Gradio server with both functions that a job needs, over HTTP on the loopback
//! interface: it stands for a person's own copy of the two Spaces.
//!
//! Owns the normal case, in which little goes wrong: description, upload, the queue's protocol
//! (join and data), files, and switches for a full queue, an error of the app and a server that
//! went away. The peculiarities of each Gradio version are tested beside the adapter, on a server
//! that is scripted byte by byte. It shares no type with our own client.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    produce::{self, Product, ProductRecipe},
    url_of,
    wire::{Connections, FaultyListener},
};

/// The settings of a server.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long each function takes.
    pub run: Duration,
    /// The number of vertices along a side of the mesh's grid.
    pub mesh_grid: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { run: Duration::from_secs(1), mesh_grid: 24 }
    }
}

/// What a server remembers.
#[derive(Debug, Default)]
pub struct World {
    /// How often each function was called with join, by its name.
    pub joins: BTreeMap<String, u64>,
    /// The prompts that were received.
    pub prompts: Vec<String>,
    /// Whether the queue is full: every join is answered with 503.
    pub full: bool,
    /// The error message of the app instead of a function's result, by the function's name.
    pub errors: BTreeMap<String, String>,
    files: BTreeMap<String, Bytes>,
    /// The calls of each session, by its hash.
    calls: BTreeMap<String, Call>,
    uploads: u64,
    last: ProductRecipe,
}

/// A call that waits to be read.
#[derive(Debug)]
struct Call {
    id: String,
    function: String,
    data: Vec<Value>,
}

struct Shared {
    world: Mutex<World>,
    settings: Settings,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server. Dropping it closes the port.
pub struct Spaces {
    shared: Arc<Shared>,
    connections: Connections,
    url: String,
    _tasks: JoinSet<io::Result<()>>,
}

impl Spaces {
    /// Binds a free port and serves on the current runtime. Fails when no port is free.
    pub async fn begin(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = url_of(&listener)?;
        let shared = Arc::new(Shared { world: Mutex::default(), settings });
        let connections = Connections::default();
        let routes = Router::new()
            .route("/config", get(config))
            .route("/gradio_api/info", get(info))
            .route("/gradio_api/upload", post(upload))
            .route("/gradio_api/queue/join", post(join))
            .route("/gradio_api/queue/data", get(data))
            .route("/gradio_api/cancel", post(async || Json(json!({"success": true}))))
            .route("/gradio_api/{*file}", get(file))
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(super::serve(
            FaultyListener { listener, connections: connections.clone() },
            routes,
        ));
        Ok(Self { shared, connections, url, _tasks: tasks })
    }

    /// Returns its address, `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Gives access to everything that the server remembers.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.shared.lock())
    }

    /// Breaks every connection.
    pub fn cut_connections(&self) {
        self.connections.cut_all();
    }
}

/// The functions, with the parameters of the Spaces' published API pages.
fn functions() -> [(&'static str, &'static [&'static str]); 2] {
    [
        (
            "infer",
            &[
                "control_image",
                "prompt",
                "seed",
                "randomize_seed",
                "width",
                "height",
                "guidance_scale",
                "num_inference_steps",
            ],
        ),
        (
            "process_3d",
            &[
                "input_image",
                "num_steps",
                "cfg_scale",
                "grid_res",
                "seed",
                "simplify_mesh",
                "target_num_faces",
            ],
        ),
    ]
}

async fn config() -> Json<Value> {
    let dependencies: Vec<Value> = functions()
        .iter()
        .enumerate()
        .map(|(id, (name, _))| json!({"id": id, "api_name": name, "queue": true, "inputs": [], "outputs": []}))
        .collect();
    Json(json!({
        "version": "5.49.1", "api_prefix": "/gradio_api", "protocol": "sse_v3", "root": "http://elsewhere.invalid",
        "max_file_size": null, "components": [], "dependencies": dependencies,
    }))
}

async fn info() -> Json<Value> {
    let mut endpoints = serde_json::Map::new();
    for (name, parameters) in functions() {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| json!({"parameter_name": name, "label": name, "parameter_has_default": false}))
            .collect();
        endpoints.insert(format!("/{name}"), json!({"parameters": parameters, "returns": []}));
    }
    Json(json!({"named_endpoints": endpoints, "unnamed_endpoints": {}}))
}

/// As in Gradio, a wrong field name is answered with 200 and an empty list.
async fn upload(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let boundary = kind.and_then(|kind| Some(kind.split_once("boundary=")?.1.trim_matches('"')));
    let Some(boundary) = boundary else {
        let told = Json(json!({"detail": "Invalid content type."}));
        return (StatusCode::BAD_REQUEST, told).into_response();
    };
    let find = |needle: &[u8], from: usize| {
        body.get(from..)?.windows(needle.len()).position(|at| at == needle).map(|at| from + at)
    };
    let end = format!("\r\n--{boundary}");
    let part = find(b"\r\n\r\n", 0)
        .and_then(|head| Some((head, find(end.as_bytes(), head + 4)?)))
        .filter(|(head, _)| String::from_utf8_lossy(&body[..*head]).contains(" name=\"files\""));
    let Some((head, end)) = part else { return Json(json!([])).into_response() };
    let mut world = shared.lock();
    world.uploads += 1;
    let path = format!("/tmp/gradio/{:040x}/picture.png", world.uploads);
    world.files.insert(path.clone(), body.slice(head + 4..end));
    Json(json!([path])).into_response()
}

async fn join(State(shared): State<Arc<Shared>>, Json(call): Json<Value>) -> Response {
    let mut world = shared.lock();
    if world.full {
        let told = Json(json!({"detail": "Queue is full. Max size is 1 and size is 1."}));
        return (StatusCode::SERVICE_UNAVAILABLE, told).into_response();
    }
    let function = call["fn_index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let all = functions();
    let (Some((name, _)), Some(session)) =
        (function.and_then(|index| all.get(index)), call["session_hash"].as_str())
    else {
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": []}))).into_response();
    };
    *world.joins.entry((*name).to_owned()).or_default() += 1;
    let data = call["data"].as_array().cloned().unwrap_or_default();
    let id = format!("{:032x}", world.joins.values().sum::<u64>());
    let call = Call { id: id.clone(), function: (*name).to_owned(), data };
    world.calls.insert(session.to_owned(), call);
    Json(json!({"event_id": id})).into_response()
}

/// Sends all events of a session, once.
async fn data(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let session = query.get("session_hash").cloned().unwrap_or_default();
    let call = shared.lock().calls.remove(&session);
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    let line = |value: &Value| format!("data: {value}\n\n");
    let Some(Call { id, function: name, data }) = call else {
        let gone = json!({"msg": "unexpected_error", "message": "404: Session not found.", "success": false});
        return (kind, line(&gone)).into_response();
    };
    let began = [
        json!({"msg": "estimation", "event_id": id, "rank": 0, "queue_size": 1, "rank_eta": 1.0}),
        json!({"msg": "process_starts", "event_id": id, "eta": 1.0}),
        json!({"msg": "progress", "event_id": id, "progress_data":
            [{"index": 3, "length": 20, "unit": "steps", "progress": null, "desc": name}]}),
    ];
    let began: String = began.iter().map(line).collect();
    let run = shared.settings.run;
    let rest = async move {
        tokio::time::sleep(run).await;
        let outcome = shared.outcome(&name, &data);
        let done = json!({"msg": "process_completed", "event_id": id, "success": outcome.is_ok(), "output":
            match outcome { Ok(data) => json!({"data": data, "is_generating": false}), Err(message) => json!({"error": message}) }});
        let close = json!({"msg": "close_stream", "event_id": null});
        Ok::<_, io::Error>(Bytes::from([line(&done), line(&close)].concat()))
    };
    let began = futures_util::stream::once(async { Ok::<_, io::Error>(Bytes::from(began)) });
    let stream = futures_util::StreamExt::chain(began, futures_util::stream::once(rest));
    (kind, axum::body::Body::from_stream(stream)).into_response()
}

impl Shared {
    /// Performs the work of a function.
    fn outcome(&self, name: &str, data: &[Value]) -> Result<Value, String> {
        let mut world = self.lock();
        if let Some(message) = world.errors.get(name) {
            return Err(message.clone());
        }
        let path = data.first().and_then(|file| file["path"].as_str()).unwrap_or_default();
        let Some(picture) = world.files.get(path).cloned() else {
            return Err("the file was never uploaded".to_owned());
        };
        let number = |at: usize| data.get(at).and_then(Value::as_u64).unwrap_or_default();
        if name == "infer" {
            let prompt = data.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
            world.prompts.push(prompt.clone());
            let recipe = ProductRecipe {
                picture: Some(picture),
                prompt,
                seed: number(2),
                mesh_seed: 0,
                grid: self.settings.mesh_grid,
            };
            let made = world.keep(&recipe, Product::Image, "image.webp");
            world.last = recipe;
            return Ok(json!([made, number(2)]));
        }
        let recipe = ProductRecipe {
            mesh_seed: number(4),
            grid: self.settings.mesh_grid,
            ..world.last.clone()
        };
        let made = world.keep(&recipe, Product::Mesh, "mesh.glb");
        Ok(json!([made]))
    }
}

impl World {
    fn keep(&mut self, recipe: &ProductRecipe, product: Product, name: &str) -> Value {
        let spoiled = matches!(product, Product::Image).then_some(produce::Spoiled::Webp);
        let content = produce::content(recipe, product, spoiled);
        let bytes = content.read(0, usize::MAX);
        let path = format!("/tmp/gradio/out{}/{name}", self.files.len());
        self.files.insert(path.clone(), bytes);
        // The address is wrong, as it sometimes is behind Hugging Face's proxy: a client must not
        // use it.
        json!({"path": path, "url": "http://elsewhere.invalid/file", "orig_name": name, "size": null,
            "mime_type": null, "is_stream": false, "meta": {"_type": "gradio.FileData"}})
    }
}

/// Serves `/gradio_api/file={path}`, where the path may contain slashes.
async fn file(State(shared): State<Arc<Shared>>, Path(file): Path<String>) -> Response {
    let path = file.strip_prefix("file=").unwrap_or_default();
    match shared.lock().files.get(path) {
        Some(bytes) => bytes.clone().into_response(),
        None => {
            let told = Json(json!({"detail": format!("File not allowed: {path}.")}));
            (StatusCode::FORBIDDEN, told).into_response()
        }
    }
}
