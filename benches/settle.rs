//! How many events the engine decides in a second: with one project, and with a thousand that all share its loop.
//!
//! Owns a storm in virtual time: every event is a look that found a prompt nobody saw before, a tenth of a millisecond
//! after the last one. The peer is one `stat`, the least that the look behind such an event costs. Bar: 10 000 writes a
//! second take at most a quarter of one core, look and all.

use std::{hint::black_box, time::Duration};

use conjured::domain::{
    engine::{
        Engine,
        event::{Effect, Event, ProjectId, Remembered},
    },
    fingerprint::Fingerprint,
    inputs::{debounce::Sight, trigger::Settings},
    time::Moment,
};
use criterion::{BenchmarkId, Criterion, Throughput};

/// How many projects are served.
const PROJECTS: [i64; 2] = [1, 1000];

/// Time between two events: 10 000 a second.
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
        // Without the hourly limit: what is measured includes starting a job whenever a window closes.
        let settings = Settings { max_jobs_per_hour: u32::MAX, ..Settings::default() };
        let mut engine = Engine::new(settings, 1, Vec::new());
        let now = Moment::default().plus(Duration::from_secs(3600));
        let old = Some(Fingerprint::of(b"old"));
        for project in (0..projects).map(ProjectId) {
            engine.add(project, Remembered { known: true, prompt: old, render: old });
            let whole = Sight::Whole(Fingerprint::of(b"old"));
            engine.handle(now, Event::Seen { project, prompt: whole.clone(), render: whole });
        }
        Self { engine, projects, now, count: 0 }
    }

    /// One event; what it starts ends at once, so that the storm meets every state of a project.
    fn next(&mut self) -> usize {
        self.count += 1;
        self.now = self.now.plus(PACE);
        let turn = i64::try_from(self.count).unwrap_or(0) % self.projects;
        // A fingerprint without hashing: hashing is the look's work, not the engine's.
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        let seen = Event::Seen {
            project: ProjectId(turn),
            prompt: Sight::Whole(Fingerprint::from_bytes(bytes)),
            render: Sight::Whole(Fingerprint::from_bytes([7; 32])),
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
