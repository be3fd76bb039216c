//! What a server remembers: its queue, the running job, history, files, and its connected sockets.
//!
//! Owns the order of events of one run; `frames` decides which sockets receive them. It is plain
//! state: it changes only when a test or the driver advances it, so the moments between two steps
//! can be inspected.

mod frames;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedSender;

pub(super) use self::frames::Frame;
use super::{
    Quirks, Version,
    check::{Classes, path_to},
};
use crate::produce::{self, Product, ProductRecipe};

/// A job of any client.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) number: i64,
    pub(super) id: String,
    pub(super) graph: Map<String, Value>,
    pub(super) extra: Value,
    pub(super) outputs: Vec<String>,
}

impl Job {
    pub(super) fn entry(&self) -> Value {
        json!([self.number, self.id, self.graph, self.extra, self.outputs])
    }

    fn client(&self) -> Option<&str> {
        self.extra["client_id"].as_str()
    }
}

/// The running job.
struct Run {
    job: Job,
    /// The nodes that are still to run, in order.
    left: Vec<String>,
    done: Vec<String>,
    outputs: Map<String, Value>,
    messages: Vec<Value>,
    /// Set when it has ended but is not in the history yet.
    ended: Option<&'static str>,
}

/// All that a server remembers.
pub struct World {
    /// The switches.
    pub quirks: Quirks,
    /// Every call so far, in the form `POST /prompt`.
    pub calls: Vec<String>,
    /// Uploaded files by name, with their folder.
    pub uploads: BTreeMap<String, Bytes>,
    pub(super) classes: Classes,
    pub(super) pending: Vec<Job>,
    pub(super) history: Vec<(String, Value)>,
    running: Option<Run>,
    made: BTreeMap<(String, String), (ProductRecipe, Product)>,
    cache: BTreeMap<String, Map<String, Value>>,
    sockets: BTreeMap<String, (u64, UnboundedSender<Frame>)>,
    /// Sockets that are open but no longer registered: of two with the same id, the first to close
    /// removes the id.
    orphans: Vec<(u64, UnboundedSender<Frame>)>,
    counter: i64,
    serial: u64,
}

impl World {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self {
            quirks,
            calls: Vec::new(),
            uploads: BTreeMap::new(),
            classes: Classes::built_in(),
            pending: Vec::new(),
            history: Vec::new(),
            running: None,
            made: BTreeMap::new(),
            cache: BTreeMap::new(),
            sockets: BTreeMap::new(),
            orphans: Vec::new(),
            counter: 0,
            serial: 0,
        }
    }

    /// Installs the classes and models of a graph.
    pub fn install(&mut self, graph: &Map<String, Value>) {
        self.classes.install(graph);
    }

    /// Puts another client's job into the queue. Without a `client` its frames go to every socket.
    pub fn put_foreign(&mut self, id: &str, graph: &Map<String, Value>, client: Option<&str>) {
        let extra = client.map_or_else(|| json!({}), |client| json!({"client_id": client}));
        let outputs = graph.iter().filter(|(_, node)| node["class_type"] == "SaveImage");
        let outputs = outputs.map(|(id, _)| id.clone()).collect();
        self.put(id.to_owned(), graph.clone(), extra, outputs, false);
    }

    pub(super) fn put(
        &mut self,
        id: String,
        graph: Map<String, Value>,
        mut extra: Value,
        outputs: Vec<String>,
        goes_first: bool,
    ) -> i64 {
        self.counter += 1;
        let number = if goes_first { -self.counter } else { self.counter };
        if self.quirks.version == Version::V33 {
            extra["create_time"] = now().into();
        }
        // A heap lists its entries in no order; newest first is the most misleading one.
        self.pending.insert(0, Job { number, id, graph, extra, outputs });
        self.send_status();
        number
    }

    /// Returns the ids of the waiting jobs, in the order in which they will run.
    pub fn waiting(&self) -> Vec<String> {
        let mut jobs: Vec<&Job> = self.pending.iter().collect();
        jobs.sort_by_key(|job| job.number);
        jobs.into_iter().map(|job| job.id.clone()).collect()
    }

    /// Returns the id of the running job.
    pub fn running_job(&self) -> Option<String> {
        self.running.as_ref().map(|run| run.job.id.clone())
    }

    /// Returns the graph of a waiting or running job.
    pub fn graph_of(&self, id: &str) -> Option<Map<String, Value>> {
        let running = self.running.iter().map(|run| &run.job);
        running.chain(&self.pending).find(|job| job.id == id).map(|job| job.graph.clone())
    }

    /// Returns how many sockets are open and registered.
    pub fn listeners(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn queue(&self) -> Value {
        let running: Vec<Value> = self.running.iter().map(|run| run.job.entry()).collect();
        let pending: Vec<Value> = self.pending.iter().map(Job::entry).collect();
        json!({"queue_running": running, "queue_pending": pending})
    }

    pub(super) fn remaining(&self) -> usize {
        self.pending.len() + usize::from(self.running.is_some())
    }

    /// Starts the next waiting job.
    pub fn start(&mut self) -> Option<String> {
        if self.running.is_some() {
            return None;
        }
        let next = self.waiting().into_iter().next()?;
        let at = self.pending.iter().position(|job| job.id == next)?;
        let job = self.pending.remove(at);
        let mut left: Vec<String> = Vec::new();
        for output in &job.outputs {
            for id in path_to(&job.graph, output) {
                if !left.contains(&id) {
                    left.push(id);
                }
            }
        }
        let cached = self.cache.get(&key_of(&job.graph)).cloned();
        let done = if cached.is_some() { std::mem::take(&mut left) } else { Vec::new() };
        let id = job.id.clone();
        let outputs = cached.clone().unwrap_or_default();
        self.running = Some(Run { job, left, done, outputs, messages: Vec::new(), ended: None });
        self.send_status();
        self.message("execution_start", json!({}));
        let nodes = self.running.as_ref().map(|run| run.done.clone()).unwrap_or_default();
        self.message("execution_cached", json!({ "nodes": nodes }));
        for (node, output) in cached.into_iter().flatten() {
            // A cached output node is reported without an `executing` before it.
            self.send_to_owner(
                "executed",
                json!({"node": node, "display_node": node, "output": output}),
            );
        }
        Some(id)
    }

    /// Runs the next node; returns its id.
    pub fn node(&mut self) -> Option<String> {
        let run =
            self.running.as_mut().filter(|run| run.ended.is_none() && !run.left.is_empty())?;
        let id = run.left.remove(0);
        let node = run.job.graph.get(&id).cloned().unwrap_or_default();
        let steps = node["inputs"]["steps"].as_u64().unwrap_or(1);
        self.states(&id, 0, steps);
        self.send_to_owner("executing", json!({"node": id, "display_node": id}));
        if steps > 1 {
            let half = steps / 2;
            self.progress("progress", json!({"value": half, "max": steps, "node": id}));
            self.states(&id, half, steps);
        }
        if self.quirks.previews {
            // Event 1, type 2 (PNG), and no id in it.
            let picture = [&[0, 0, 0, 1, 0, 0, 0, 2][..], b"\x89PNG no picture"].concat();
            self.send(None, &Frame::Binary(picture));
            self.send(None, &Frame::Binary(vec![0]));
        }
        let output = self.produce(&id, &node);
        if let Some(run) = self.running.as_mut() {
            run.done.push(id.clone());
            if let Some(output) = output.clone() {
                run.outputs.insert(id.clone(), output);
            }
        }
        if let Some(output) = output {
            self.send_to_owner(
                "executed",
                json!({"node": id, "display_node": id, "output": output}),
            );
        }
        self.states(&id, steps, steps);
        Some(id)
    }

    /// Marks the run as successful. It appears in the history only after [`Self::archive_ended`].
    pub fn succeed(&mut self) {
        if self.running.is_some() {
            self.message("execution_success", json!({}));
            self.end("success");
        }
    }

    /// Makes the next node fail with an exception.
    pub fn fail(&mut self, kind: &str, message: &str) {
        let Some(run) = self.running.as_mut().filter(|run| run.ended.is_none()) else { return };
        let id = if run.left.is_empty() { String::new() } else { run.left.remove(0) };
        let class = run.job.graph.get(&id).map(|node| node["class_type"].clone());
        let executed = run.done.clone();
        self.message(
            "execution_error",
            json!({
                "node_id": id, "node_type": class, "exception_type": kind, "exception_message": format!("{message}\n"),
                "traceback": ["  File \"execution.py\", line 1\n"], "executed": executed, "current_inputs": {}, "current_outputs": [],
            }),
        );
        self.end("error");
        self.archive_ended();
    }

    /// Interrupts the running job if it is `id`; without an id, any running job.
    pub(super) fn interrupt(&mut self, id: Option<&str>) {
        let Some(run) = self.running.as_ref().filter(|run| run.ended.is_none()) else { return };
        if id.is_some_and(|id| id != run.job.id) && !self.quirks.old_interrupt {
            return;
        }
        let (node, executed) = (run.left.first().cloned(), run.done.clone());
        self.message(
            "execution_interrupted",
            json!({"node_id": node, "node_type": "", "executed": executed}),
        );
        self.end("error");
        self.archive_ended();
    }

    fn end(&mut self, word: &'static str) {
        if let Some(run) = self.running.as_mut() {
            run.ended = Some(word);
        }
    }

    /// Moves the run that ended into history.
    pub fn archive_ended(&mut self) {
        let Some(word) = self.running.as_ref().and_then(|run| run.ended) else { return };
        let Some(run) = self.running.take() else { return };
        if word == "success" {
            self.cache.insert(key_of(&run.job.graph), run.outputs.clone());
        }
        let entry = json!({
            "prompt": run.job.entry(), "outputs": run.outputs, "meta": {},
            "status": {"status_str": word, "completed": word == "success", "messages": run.messages},
        });
        self.history.retain(|(id, _)| *id != run.job.id);
        self.history.push((run.job.id.clone(), entry));
        self.send_status();
        if let Some(client) = run.job.client() {
            let data = json!({"node": null, "prompt_id": run.job.id});
            self.send_text(Some(client), "executing", &data);
        }
    }

    /// Forgets everything that a restart loses.
    pub(super) fn lose_memory(&mut self) {
        (self.running, self.counter) = (None, 0);
        self.pending.clear();
        self.history.clear();
        self.cache.clear();
        self.sockets.clear();
        self.orphans.clear();
    }

    /// Advances by one step; returns how long to wait before the next, `None` when there is nothing
    /// to do.
    pub(super) fn tick(&mut self, span: Duration) -> Option<Duration> {
        let Some(run) = &self.running else {
            self.start()?;
            return Some(Duration::ZERO);
        };
        if run.ended.is_some() {
            self.archive_ended();
            return Some(Duration::ZERO);
        }
        let all = u32::try_from(run.left.len() + run.done.len()).unwrap_or(1).max(1);
        if self.node().is_none() {
            self.succeed();
            return Some(Duration::from_millis(5));
        }
        Some(span / all)
    }

    /// Produces the files of an output node.
    fn produce(&mut self, id: &str, node: &Value) -> Option<Value> {
        let run = self.running.as_ref()?;
        let (channel, product, kind, end) = match node["class_type"].as_str()? {
            "SaveImage" => ("images", Product::Image, "output", "png"),
            "PreviewImage" => ("images", Product::Image, "temp", "png"),
            "SaveGLB" => ("3d", Product::Mesh, "output", "glb"),
            "Preview3D" => return Some(json!({"result": ["mesh/x.glb", null]})),
            "PreviewAny" => return Some(json!({"text": ["words"]})),
            _ => return None,
        };
        let recipe = self.recipe(&run.job.graph);
        let prefix = node["inputs"]["filename_prefix"].as_str().unwrap_or(id);
        let (folder, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        // The counter is derived from the files in the folder, so it continues after a restart.
        let path = |count: u32| {
            let file = format!("{name}_{count:05}_.{end}");
            if folder.is_empty() { file } else { format!("{folder}/{file}") }
        };
        let mut count = 1;
        while self.made.contains_key(&(kind.to_owned(), path(count))) {
            count += 1;
        }
        self.made.insert((kind.to_owned(), path(count)), (recipe, product));
        let file = json!({"filename": format!("{name}_{count:05}_.{end}"), "subfolder": folder, "type": kind});
        Some(json!({ channel: [file] }))
    }

    fn recipe(&self, graph: &Map<String, Value>) -> ProductRecipe {
        let of_class = |class: &str| graph.values().find(|node| node["class_type"] == class);
        let seed = |class: &str, name: &str| {
            of_class(class).and_then(|node| node["inputs"][name].as_u64()).unwrap_or_default()
        };
        let file = of_class("LoadImage").and_then(|node| node["inputs"]["image"].as_str());
        let words =
            of_class("PrimitiveStringMultiline").and_then(|node| node["inputs"]["value"].as_str());
        ProductRecipe {
            picture: file.and_then(|file| self.uploads.get(file)).cloned(),
            prompt: words.unwrap_or_default().to_owned(),
            seed: seed("KSampler", "seed"),
            mesh_seed: seed("PartPacker_Sampler", "seed"),
            grid: 16,
        }
    }

    /// Reads a file as `/view` does.
    pub(super) fn file(&self, kind: &str, path: &str) -> Option<Bytes> {
        if kind == "input" {
            return self.uploads.get(path).cloned();
        }
        let (recipe, product) = self.made.get(&(kind.to_owned(), path.to_owned()))?;
        let content = produce::content(recipe, *product, None);
        Some(content.read(0, usize::MAX))
    }
}

fn key_of(graph: &Map<String, Value>) -> String {
    Value::Object(graph.clone()).to_string()
}

/// A service has a clock of its own, in milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
