//! How many events per second the engine handles, with one project and with a thousand that share
//! its loop.
//!
//! Owns an event storm in virtual time: every event is a scan that found a new prompt, a tenth of
//! a millisecond after the previous one. The reference is one `stat`, the minimum cost of the
//! scan behind such an event. Bar: 10 000 writes per second take at most a quarter of one core,
//! scan included.

use std::{hint::black_box, time::Duration};

use conjured::domain::{
    engine::{
        Engine,
        event::{Baseline, Effect, Event, ProjectId},
    },
    fingerprint::Fingerprint,
    inputs::{debounce::InputState, trigger::Settings},
    time::Moment,
};
use criterion::{BenchmarkId, Criterion, Throughput};

/// The numbers of projects.
const PROJECTS: [i64; 2] = [1, 1000];

/// The time between two events: 10 000 per second.
const PACE: Duration = Duration::from_micros(100);

/// Runs the bars of this module.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("settle");
    group.throughput(Throughput::Elements(1));
    group.bench_function("stat of one file", |bencher| {
        bencher.iter(|| std::fs::metadata(black_box("Cargo.toml")));
    });
    for projects in PROJECTS {
        let mut storm = Storm::over(projects);
        group.bench_function(BenchmarkId::new("event in a storm", projects), |bencher| {
            bencher.iter(|| storm.next());
        });
        group.bench_function(BenchmarkId::new("when to wake next", projects), |bencher| {
            bencher.iter(|| storm.engine.deadline(black_box(storm.now)));
        });
    }
    group.finish();
}

struct Storm {
    engine: Engine,
    projects: i64,
    now: Moment,
    count: u64,
}

impl Storm {
    fn over(projects: i64) -> Self {
        // Without the hourly limit, so that starting a job whenever a window closes is part of
        // the measurement.
        let settings = Settings { max_jobs_per_hour: u32::MAX, ..Settings::default() };
        let mut engine = Engine::new(settings, 1, Vec::new());
        let now = Moment::default().plus(Duration::from_secs(3600));
        let old = Some(Fingerprint::of(b"old"));
        for project in (0..projects).map(ProjectId) {
            engine.add(project, Baseline { known: true, prompt: old, render: old });
            let whole = InputState::Complete(Fingerprint::of(b"old"));
            engine.handle(now, Event::Scanned { project, prompt: whole.clone(), render: whole });
        }
        Self { engine, projects, now, count: 0 }
    }

    /// Handles one event. A job that it starts ends at once, so that the storm reaches every state
    /// of a project.
    fn next(&mut self) -> usize {
        self.count += 1;
        self.now = self.now.plus(PACE);
        let turn = i64::try_from(self.count).unwrap_or(0) % self.projects;
        // A fingerprint without hashing, because hashing belongs to the scan and not to the engine.
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        let seen = Event::Scanned {
            project: ProjectId(turn),
            prompt: InputState::Complete(Fingerprint::from_bytes(bytes)),
            render: InputState::Complete(Fingerprint::from_bytes([7; 32])),
        };
        let effects = self.engine.handle(self.now, seen);
        for effect in &effects {
            if let Effect::Start { project, .. } = effect {
                self.engine.handle(self.now, Event::Ended { project: *project, placed: false });
            }
        }
        effects.len()
    }
}
