//! CONJURE's side of `state.json`: a Blender, a launcher and an API that behave as the real ones
//! do, and detect every pitfall.
//!
//! Owns the threads and the list of detected pitfalls; [`FakeConjure::finish`] fails the test if
//! there is one. Written from the protocol, not from the client: Blender looks about thirty times a
//! second, reads the file twice for an import, deletes the artist's work *before* it reads the
//! mesh, and writes back, in place, the state that it had before; the launcher and the API read,
//! think and replace through the same `state.tmp`, with whatever is stale by then.
//!
//! It is gentler than reality in two ways. CONJURE's own writers take turns: a launcher that writes
//! back a command which Blender has just taken would import twice, whoever requested it, and would
//! say nothing about the client. And none of them writes old content only because this machine
//! paused it between its read and its write ([`launcher`]): the real ones think for a millisecond,
//! and that is what a client must withstand.

mod api;
mod launcher;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Cursor, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use conjured::domain::mesh;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value};

use api::{first_state, python};

const IMPORT: &str = "import_and_process_mesh";

/// How the fake behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// The seed of its random numbers.
    pub(crate) seed: u64,
    /// The time between two rewrites by the launcher, in milliseconds; `None`: it writes nothing.
    pub(crate) launcher: Option<(u64, u64)>,
    /// How long launcher and API think between reading and writing, in microseconds at most.
    pub(crate) thinks: u64,
    /// How long an import takes, in milliseconds at most.
    pub(crate) import: u64,
    /// Whether the launcher imports by file time, as the real one does.
    pub(crate) detector: bool,
    /// Whether Blender runs CONJURE from the beginning.
    pub(crate) blender: bool,
    /// What answers on CONJURE's port.
    pub(crate) api: Api,
}

/// What answers on CONJURE's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Nothing.
    None,
    /// This checkout's API.
    Own,
    /// Another checkout's API.
    Another,
    /// This checkout's API, which does not answer and carries out its orders a while later.
    Late,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            seed: 1,
            launcher: Some((5, 60)),
            thinks: 3000,
            import: 8,
            detector: false,
            blender: true,
            api: Api::None,
        }
    }
}

/// An import that Blender did.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct FakeConjure {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    api: Option<u16>,
}

struct Shared {
    state: PathBuf,
    results: PathBuf,
    manners: Manners,
    /// CONJURE's own writers do not overlap.
    turn: Mutex<()>,
    /// Held by Blender from its first look of a tick to what it writes back.
    tick: Mutex<()>,
    keys: BTreeMap<String, Value>,
    sprung: Mutex<Vec<String>>,
    imports: Mutex<Vec<Import>>,
    /// Meshes that existed when the state named them.
    ready: Mutex<BTreeSet<PathBuf>>,
    blender: AtomicBool,
    over: AtomicBool,
    /// CONJURE's own commands: the number given, the last one carried out, and those lost before.
    given: AtomicU64,
    carried_out: AtomicU64,
    lost: AtomicU64,
}

impl FakeConjure {
    /// Starts one at the root of a checkout.
    pub(crate) fn start(root: &Path, manners: Manners) -> Self {
        let state = root.join("data/input/state.json");
        let results = root.join("data/generated_models/partpacker_results");
        for folder in [state.parent().expect("a folder"), &results] {
            fs::create_dir_all(folder).expect("makes");
        }
        let text = first_state();
        fs::write(&state, text).expect("writes");
        let first: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        let kept = |key: &String| key.starts_with("kept") || key == "app_status";
        let keys = first.into_iter().map(|(key, value)| {
            let value = if kept(&key) { value } else { Value::Null };
            (key, value)
        });
        let shared = Arc::new(Shared {
            state,
            results,
            manners,
            turn: Mutex::new(()),
            tick: Mutex::new(()),
            keys: keys.collect(),
            sprung: Mutex::default(),
            imports: Mutex::default(),
            ready: Mutex::default(),
            blender: AtomicBool::new(manners.blender),
            over: AtomicBool::new(false),
            given: AtomicU64::new(0),
            carried_out: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let mut threads = Vec::new();
        let mut go = |name: &str, work: fn(&Shared, StdRng)| {
            let shared = Arc::clone(&shared);
            let number = u64::try_from(threads.len()).expect("few");
            let chance = StdRng::seed_from_u64(manners.seed.wrapping_mul(31).wrapping_add(number));
            let thread = Builder::new().name(name.to_owned());
            threads.push(thread.spawn(move || work(&shared, chance)).expect("a thread"));
        };
        go("blender", Shared::blend);
        if manners.launcher.is_some() || manners.detector {
            go("launcher", Shared::launch);
        }
        let mut api = None;
        if manners.api != Api::None {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            api = Some(listener.local_addr().expect("an address").port());
            let shared = Arc::clone(&shared);
            let chance = StdRng::seed_from_u64(manners.seed);
            let serve = move || shared.serve(&listener, chance);
            threads.push(Builder::new().name("api".into()).spawn(serve).expect("a thread"));
        }
        Self { shared, threads, api }
    }

    /// Returns the URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api.unwrap_or(9))
    }

    /// Sets whether Blender runs CONJURE.
    pub(crate) fn blender(&self, runs: bool) {
        self.shared.blender.store(runs, Ordering::SeqCst);
    }

    /// Returns the imports so far.
    pub(crate) fn imports(&self) -> Vec<Import> {
        lock(&self.shared.imports).clone()
    }

    /// Waits until everything that CONJURE's own threads have begun is finished: Blender's tick,
    /// and then a read that another writer has not written back yet. What a client may expect of a
    /// wait is expected of this, even on a slow machine.
    pub(crate) fn catch_up(&self) {
        drop(lock(&self.shared.tick));
        drop(lock(&self.shared.turn));
    }

    /// Returns the present, complete state.
    pub(crate) fn state(&self) -> Map<String, Value> {
        let _turn = lock(&self.shared.turn);
        serde_json::from_slice(&fs::read(&self.shared.state).expect("reads")).expect("JSON")
    }

    /// Changes the state at once, as one of CONJURE's own programs would.
    pub(crate) fn change(&self, changes: &[(&str, Value)]) {
        let _turn = lock(&self.shared.turn);
        self.shared.update(changes, Duration::ZERO);
    }

    /// Replaces the state with any bytes, like a program that was stopped in the middle of a write.
    pub(crate) fn tear(&self, bytes: &[u8]) {
        let _turn = lock(&self.shared.turn);
        fs::write(&self.shared.state, bytes).expect("writes");
    }

    /// Ends it, and fails the test if a pitfall was hit. Returns every import.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Vec<Import> {
        self.end();
        let sprung = lock(&self.shared.sprung).clone();
        assert!(sprung.is_empty(), "traps were sprung:\n{}", sprung.join("\n"));
        let given = self.shared.given.load(Ordering::SeqCst);
        let lost = self.shared.lost.load(Ordering::SeqCst);
        // Between a check and the rename that follows it the launcher may write: that cannot be
        // excluded, and of a few commands one may be lost by chance.
        assert!(lost <= 1 + given / 10, "{lost} of {given} commands of others were written over");
        lock(&self.shared.imports).clone()
    }

    fn end(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(port) = self.api {
            drop(TcpStream::connect(("127.0.0.1", port)));
        }
        for thread in self.threads.drain(..) {
            // A panic in there is a bug in the fake, and has already been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for FakeConjure {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn spring(&self, trap: impl Into<String>) {
        let mut sprung = lock(&self.sprung);
        if sprung.len() < 20 {
            sprung.push(trap.into());
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn nap(&self, span: Duration) {
        if !self.is_over() {
            std::thread::park_timeout(span);
        }
    }

    /// Reads the state as Blender and the launcher do; a torn one blocks the real launcher forever.
    fn read(&self) -> Option<(Vec<u8>, Map<String, Value>)> {
        let bytes = match fs::read(&self.state) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.spring(format!("state.json is gone: {error}"));
                return None;
            }
        };
        if !bytes.is_ascii() {
            self.spring("state.json is not ASCII: the real readers die of it");
        }
        match serde_json::from_slice::<Map<String, Value>>(&bytes) {
            Ok(state) => {
                self.inspect(&state);
                Some((bytes, state))
            }
            Err(error) => {
                self.spring(format!("a torn state.json of {} bytes: {error}", bytes.len()));
                None
            }
        }
    }

    fn inspect(&self, state: &Map<String, Value>) {
        if let Some(path) = state.get("mesh_path").and_then(Value::as_str).map(PathBuf::from)
            && path.exists()
        {
            lock(&self.ready).insert(path);
        }
        for (key, value) in &self.keys {
            match state.get(key) {
                None => self.spring(format!("the key `{key}` is lost")),
                Some(now) if !value.is_null() && now != value => {
                    self.spring(format!("`{key}` was {value} and is {now}"));
                }
                Some(_) => {}
            }
        }
        let order: Vec<&String> = state.keys().filter(|key| self.keys.contains_key(*key)).collect();
        if order.first().is_some_and(|key| *key != "app_status") {
            self.spring("the order of the keys has changed");
        }
        if !state.get("min_volume_threshold").is_some_and(Value::is_number) {
            self.spring("min_volume_threshold is no number: the operator crashes");
        }
    }

    /// Blender's modal operator.
    fn blend(&self, mut chance: StdRng) {
        while !self.is_over() {
            self.nap(Duration::from_micros(chance.random_range(5_000..34_000)));
            if !self.blender.load(Ordering::SeqCst) {
                continue;
            }
            let _tick = lock(&self.tick);
            // Three reads per tick; the last one counts.
            drop((self.read(), self.read()));
            let Some((bytes, mut snapshot)) = self.read() else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let command = if text.contains(IMPORT) {
                Some(IMPORT.to_owned())
            } else {
                snapshot.get("command").and_then(Value::as_str).map(str::to_owned)
            };
            match command.as_deref() {
                None => continue,
                Some(IMPORT) => self.import(&mut chance),
                Some(_) => {
                    let number = snapshot.get("primitive_type").and_then(Value::as_u64);
                    self.carried_out.fetch_max(number.unwrap_or(0), Ordering::SeqCst);
                }
            }
            snapshot.insert("command".into(), Value::Null);
            self.write_in_place(&snapshot, &mut chance);
        }
    }

    /// The import operator, with its order of steps.
    fn import(&self, chance: &mut StdRng) {
        // Python takes time between the two reads.
        std::thread::park_timeout(Duration::from_micros(chance.random_range(0..2000)));
        let Some((_, state)) = self.read() else { return };
        let Some(path) = state.get("mesh_path").and_then(Value::as_str).map(PathBuf::from) else {
            self.spring("an import without a path");
            return;
        };
        if !path.is_absolute() {
            self.spring(format!("a relative path: {}", path.display()));
        }
        if path.to_string_lossy().contains("genMesh") {
            self.spring("a path with `genMesh`: the mesh would be split");
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if ["partpacker_result_0.glb", "result.glb"].contains(&&*name) {
            self.spring(format!("{name} is imported, which the next job may replace meanwhile"));
        }
        if !path.exists() {
            // The real one returns here, and the artist's work stays. That a stale state names a
            // deleted copy is not the client's fault; one that never existed was named too early.
            if !lock(&self.ready).contains(&path) {
                self.spring(format!("{} is asked for and was never there", path.display()));
            }
            return;
        }
        // The artist's mesh is gone from here on.
        let bytes = fs::read(&path).unwrap_or_default();
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Err(fault) = mesh::check(&mut Cursor::new(&bytes), length) {
            self.spring(format!("{} was not whole when it was imported: {fault}", path.display()));
        }
        std::thread::park_timeout(Duration::from_micros(
            chance.random_range(0..=self.manners.import * 1000),
        ));
        let mut imports = lock(&self.imports);
        if imports.iter().any(|earlier| earlier.bytes == bytes) {
            self.spring(format!("{} was imported twice", path.display()));
        }
        imports.push(Import { bytes });
    }

    /// Truncates, then writes in pieces: meanwhile other programs see a torn file.
    fn write_in_place(&self, state: &Map<String, Value>, chance: &mut StdRng) {
        let _turn = lock(&self.turn);
        // What CONJURE itself overwrites is not the client's fault.
        let others = self.read().and_then(|(_, now)| now.get("primitive_type")?.as_u64());
        self.carried_out.fetch_max(others.unwrap_or(0), Ordering::SeqCst);
        let text = python(state);
        let mut file = fs::File::create(&self.state).expect("opens");
        for piece in text.as_bytes().chunks(text.len().div_ceil(3)) {
            std::thread::park_timeout(Duration::from_micros(chance.random_range(0..400)));
            file.write_all(piece).expect("writes");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
