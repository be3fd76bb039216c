//! From the closing window to the socket: everything the daemon does in between, with the
//! real parts.
//!
//! Owns a job's path without the event loop: the query for an earlier success, the rename of the
//! inputs, the ledger's commit with its mark, and the POST of a prepared body on a warm connection
//! to a server that records when the first and the last byte arrive. Measured in the same run for
//! comparison: copying that body, and one append of 4 KB with its sync, the minimum for a durable
//! mark. Bars: 2 ms in the median, 5 ms at p99.
//!
//! It leaves out what the event loop adds: two channel messages and one log line.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured on standard output")]

use std::{
    fs,
    hint::black_box,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use conjured::{
    backend::{
        Backend, Payload, Submission,
        runcomfy::{Serverless, Settings},
    },
    clock::Clock,
    disk::history::{History, Staged},
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        job::{Cause, Inputs, JobId, RequestId},
        money::{
            MicroUsd,
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::Moment,
    },
    ledger::{
        Ledger,
        rows::{NewJob, ReleaseMode, SessionId},
    },
};
use criterion::Criterion;
use tokio::{runtime::Runtime, task::spawn_blocking};

/// The largest body: 256 KB of Base64, and the graph's values.
const BODY: usize = 257 * 1024;

/// The server's answer to a submit.
const ANSWER: &str =
    r#"{"request_id":"simulated-1","status_url":"","result_url":"","cancel_url":""}"#;

/// Runs the bars of this module.
pub(crate) fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = criterion.benchmark_group("window");
    let body = Bytes::from(vec![b'a'; BODY]);
    group.bench_function("copy of the body", |bencher| {
        bencher.iter(|| black_box(&body).to_vec());
    });
    let mut raw = fs::File::create(folder.path().join("raw")).expect("a file");
    let (mut syncs, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    group.bench_function("append of 4 KB and sync", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, &mut syncs, || {
                let began = Clock.now().moment;
                raw.write_all(&[7; 4096]).expect("written");
                raw.sync_data().expect("synced");
                Clock.now().moment.since(began)
            })
        });
    });
    let run = SubmitBench::new(folder.path());
    group.bench_function("closes to first byte at the server", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, &mut first, || {
                let (head, whole) = run.travel(&body);
                last.push(whole);
                head
            })
        });
    });
    group.finish();
    tell("append of 4 KB and sync", &mut syncs);
    tell("window closes to first byte at the server", &mut first);
    tell("window closes to last byte at the server", &mut last);
}

/// Runs `round` this many times, keeps every duration and returns their sum.
fn timed(rounds: u64, kept: &mut Vec<Duration>, mut round: impl FnMut() -> Duration) -> Duration {
    let spans: Vec<Duration> = (0..rounds).map(|_| round()).collect();
    kept.extend(&spans);
    spans.iter().sum()
}

/// Prints what Criterion does not: the median and the 99th percentile of single rounds.
fn tell(what: &str, spans: &mut [Duration]) {
    // Nothing was measured if a filter excluded this benchmark.
    if spans.is_empty() {
        return;
    }
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100];
    println!("{what}: median {:?}, p99 {:?} of {} rounds", at(50), at(99), spans.len());
}

/// The parts that a job passes through before it is sent.
struct SubmitBench {
    runtime: Runtime,
    ledger: Arc<Mutex<Ledger>>,
    session: SessionId,
    project: ProjectId,
    history: History,
    backend: Arc<Serverless>,
    arrivals: mpsc::Receiver<[Moment; 2]>,
    sent: std::cell::Cell<u64>,
}

impl SubmitBench {
    fn new(folder: &Path) -> Self {
        // Like the daemon's: one thread, and a small pool for blocking work.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .build()
            .expect("a runtime");
        let now = Clock.now().wall;
        let mut ledger = Ledger::open(&folder.join("ledger.sqlite")).expect("a ledger");
        let session = ledger.begin_session("bench", now).expect("a session");
        let project = ledger.touch_project("/art", "art", now).expect("a project").id;
        let (address, arrivals) = serve();
        let mut settings = Settings::new("simulated", "a-token".to_owned().into());
        settings.api_url = format!("http://{address}").parse().expect("an address");
        let backend = Arc::new(Serverless::new(&settings).expect("settings"));
        let history = History::open(folder).expect("a history");
        let ledger = Arc::new(Mutex::new(ledger));
        let sent = std::cell::Cell::new(0);
        Self { runtime, ledger, session, project, history, backend, arrivals, sent }
    }

    /// Sends one job; returns when its first and its last byte arrived, counted from the closing of
    /// the window.
    fn travel(&self, body: &Bytes) -> (Duration, Duration) {
        let staged = self.history.stage(b"a chair", &body[..190 * 1024]).expect("staged");
        let job = self.job();
        let (began, request) = self.runtime.block_on(async {
            let began = Clock.now().moment;
            self.ask(&job).await;
            let key = RequestId::for_job(job.id);
            self.release(job, staged).await;
            let submission = Submission { key, payload: Payload::Body(body.clone()) };
            (began, self.backend.submit(&submission).await)
        });
        request.expect("an id");
        let [first, last] = self.arrivals.recv().expect("the server is there");
        (first.since(began), last.since(began))
    }

    async fn ask(&self, job: &NewJob) {
        let ledger = Arc::clone(&self.ledger);
        let (version, digest) = (job.workflow_version, job.body_digest);
        let asked = spawn_blocking(move || {
            ledger.lock().expect("a ledger").find_same_work(&version, &digest).expect("an answer")
        });
        assert!(asked.await.expect("no panic").is_none(), "nothing was made before");
    }

    async fn release(&self, job: NewJob, staged: Staged) {
        let ledger = Arc::clone(&self.ledger);
        let released = spawn_blocking(move || {
            staged.commit(job.id).expect("renamed");
            let windows = BudgetWindows { day_start: job.at, month_start: job.at };
            let limits = BudgetLimits { per_session: None, ..BudgetLimits::default() };
            ledger
                .lock()
                .expect("a ledger")
                .release(&job, &limits, &windows, ReleaseMode::Submitting)
                .expect("released");
        });
        released.await.expect("no panic");
    }

    fn job(&self) -> NewJob {
        let number = self.sent.replace(self.sent.get() + 1);
        let at = Clock.now().wall;
        let digest = Fingerprint::of(&number.to_le_bytes());
        NewJob {
            id: JobId::from_parts(at, u128::from(number)),
            project: self.project,
            session: self.session,
            cause: Cause::Prompt,
            inputs: Inputs { prompt: digest, render: Fingerprint::of(b"render") },
            prompt: "a chair in the shape of a carrot, soft light, white background".into(),
            workflow: "conjure_flux_mesh".into(),
            workflow_version: Fingerprint::of(b"graph"),
            body_digest: digest,
            body_bytes: 1,
            seed: Some(number),
            mesh_seed: Some(number),
            summary: serde_json::json!({"25": {"inputs": {"noise_seed": number}}}),
            mode: "serverless".into(),
            backend: "serverless".into(),
            deployment: Some("simulated".into()),
            retry_of: None,
            stands_in_for: None,
            cached_from: None,
            why: None,
            out: None,
            moves_baseline: true,
            reserve: MicroUsd(1),
            terms: PriceTerms::default(),
            at,
        }
    }
}

/// Serves submits on its own thread, as another machine would.
fn serve() -> (SocketAddr, mpsc::Receiver<[Moment; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (send, arrivals) = mpsc::channel();
    let serving = move || {
        for stream in listener.incoming().flatten() {
            // A connection ends with the benchmark.
            drop(answer(stream, &send));
        }
    };
    std::thread::Builder::new().spawn(serving).expect("a thread");
    (address, arrivals)
}

fn answer(mut stream: TcpStream, arrivals: &mpsc::Sender<[Moment; 2]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let (mut got, mut head, mut first) = (0, Vec::new(), None);
        let mut wanted = usize::MAX;
        while got < wanted {
            let read = stream.read(&mut bytes)?;
            if read == 0 {
                return Ok(());
            }
            first.get_or_insert_with(|| Clock.now().moment);
            got += read;
            if wanted == usize::MAX {
                head.extend_from_slice(&bytes[..read]);
                let end = head.windows(4).position(|four| four == b"\r\n\r\n");
                wanted = end.map_or(usize::MAX, |end| end + 4 + BODY);
            }
        }
        let last = Clock.now().moment;
        let _ = arrivals.send([first.unwrap_or(last), last]);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
            ANSWER.len()
        )?;
    }
}
