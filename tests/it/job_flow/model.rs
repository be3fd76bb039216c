//! A job between its flow and a model of everything around it: a ledger that remembers what is
//! recorded and nothing else, a service with a truth of its own, a clock, crashes.
//!
//! Owns the state; [`super::perform`] changes it. It decides nothing; every decision is the flow's.

use std::{collections::BTreeMap, time::Duration};

use conjured::domain::{
    fingerprint::Fingerprint,
    job::{
        Cause, JobId, JobState,
        artifact::ArtifactKind,
        choose_backend::{Availability, BackendKind, RouteCandidate},
        control::JobControl,
        flow::{
            self, Do, End, JobRecord, World,
            request_seen::RequestSeen,
            world::{Access, Artifacts, Limits, PayloadSeen, Seen, WaitFor, Whereabouts},
        },
    },
    money::{
        MicroUsd,
        job_cost::{Booking, ObservedTimes, PriceTerms},
    },
    time::{Moment, Now, WallTime},
};

/// A price at which a second costs a cent.
pub(super) const HOURLY: MicroUsd = MicroUsd::from_cents(3600);

/// What is reserved for a paid job: half an hour.
const RESERVED: MicroUsd = MicroUsd::from_cents(1800);

/// What a call brings. The words are those of the cases.
pub(super) type Word = String;

/// The answers to come, by the kind of call. The last one of a kind is given again and again.
pub(super) type Script = BTreeMap<String, Vec<Word>>;

/// A submit that a backend received, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Where.
    pub(super) backend: BackendKind,
    /// Whether it may have been taken: accepted, or not known.
    pub(super) may_be_taken: bool,
}

/// A job and its surroundings.
pub(super) struct Model {
    pub(super) now: Now,
    pub(super) record: JobRecord,
    pub(super) seen: Seen,
    pub(super) control: JobControl,
    pub(super) stopping: bool,
    pub(super) order: Vec<BackendKind>,
    pub(super) availability: BTreeMap<BackendKind, Availability>,
    pub(super) usable: bool,
    pub(super) after_unknown: bool,
    pub(super) limits: Limits,
    pub(super) script: Script,
    given: BTreeMap<String, usize>,
    pub(super) in_history: [bool; 2],
    pub(super) listed: [bool; 2],
    /// The disk does not say what is in history.
    pub(super) disk_silent: bool,
    pub(super) has_lease: bool,
    pub(super) server_gone: bool,
    pub(super) handoff: bool,
    /// Every submit that left.
    pub(super) sent: Vec<Sent>,
    /// When the newest attempt was first and last seen running, by anybody.
    pub(super) seen_running: Option<(Moment, Moment)>,
    /// What the job waited for last.
    pub(super) waits_for: Option<WaitFor>,
    /// What a person sees of the job, in order.
    pub(super) trace: Vec<String>,
    /// Whether anything of the job became visible.
    pub(super) placed: bool,
    /// What earlier attempts were booked at.
    pub(super) settled: Vec<(BackendKind, Booking)>,
    /// How the job ended.
    pub(super) end: Option<End>,
    /// How many steps were performed.
    pub(super) steps: u32,
    /// The next step's effect happens, and the process dies before it is recorded.
    pub(super) dies_unrecorded: bool,
}

pub(super) fn workflow(backend: BackendKind) -> Fingerprint {
    let name = match backend {
        BackendKind::Serverless | BackendKind::Cloud => "remote",
        other => other.name(),
    };
    Fingerprint::of(name.as_bytes())
}

/// The terms of a submit to a backend.
pub(super) fn terms(backend: BackendKind) -> PriceTerms {
    let is_billed = backend == BackendKind::Serverless;
    let hourly = if is_billed { HOURLY } else { MicroUsd::ZERO };
    PriceTerms { cold_start: None, keep_warm: Duration::ZERO, hourly }
}

pub(super) fn reserve(backend: BackendKind) -> MicroUsd {
    if backend == BackendKind::Serverless { RESERVED } else { MicroUsd::ZERO }
}

impl Model {
    /// A job that was just released for the first backend of `order`.
    pub(super) fn new(order: &[BackendKind], cause: Cause, script: Script) -> Self {
        let backend = order[0];
        let record = JobRecord {
            state: JobState::Prepared,
            cause,
            control: JobControl::Continue,
            backend,
            workflow: workflow(backend),
            own_folder: false,
            stands_in_for: None,
            cached_from: None,
            reserved: reserve(backend),
            terms: terms(backend),
            observed: ObservedTimes::default(),
            attempts: Vec::new(),
            outputs_known: false,
        };
        let seen = Seen { payload: PayloadSeen::Ready, ..Seen::default() };
        Self {
            now: Now {
                moment: Moment::from_millis(1 << 30),
                wall: WallTime::from_unix_millis(1_700_000_000_000),
            },
            record,
            seen,
            control: JobControl::Continue,
            stopping: false,
            order: order.to_vec(),
            availability: BTreeMap::new(),
            usable: true,
            after_unknown: false,
            limits: Limits {
                queue: Duration::from_secs(15 * 60),
                run: Duration::from_secs(30 * 60),
            },
            script,
            given: BTreeMap::new(),
            in_history: [false; 2],
            listed: [false; 2],
            disk_silent: false,
            has_lease: false,
            server_gone: false,
            handoff: true,
            sent: Vec::new(),
            seen_running: None,
            waits_for: None,
            trace: Vec::new(),
            placed: false,
            settled: Vec::new(),
            end: None,
            steps: 0,
            dies_unrecorded: false,
        }
    }

    /// Lets time pass on both clocks.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now.moment = self.now.moment.plus(span);
        self.now.wall = self.now.wall.plus(span);
    }

    /// Returns how long the next try is waited for: a few seconds, and in a job that goes on for
    /// ever an hour, so that days pass quickly.
    pub(super) const fn pause(&self) -> Duration {
        Duration::from_secs(if self.steps < 1500 { 5 } else { 3600 })
    }

    /// Returns the next answer to a kind of call.
    pub(super) fn answer(&mut self, call: &str, usual: &str) -> Word {
        let given = self.given.entry(call.to_owned()).or_default();
        let answers = self.script.get(call).map(Vec::as_slice).unwrap_or_default();
        let answer = answers.get(*given).or(answers.last()).cloned();
        *given += 1;
        answer.unwrap_or_else(|| usual.to_owned())
    }

    pub(super) fn world(&self) -> World {
        let candidate = |&backend: &BackendKind| RouteCandidate {
            backend,
            availability: match self.availability.get(&backend) {
                Some(Availability::Paused { until }) if self.now.moment >= *until => {
                    Availability::Unproven
                }
                Some(Availability::Paused { .. })
                    if self.record.cause == Cause::Person
                        && !self.seen.unproven.contains(&backend) =>
                {
                    Availability::Unproven
                }
                Some(other) => *other,
                None => Availability::Ready,
            },
            workflow: workflow(backend),
        };
        let is_fetching = self.record.outputs_known
            || matches!(self.record.state, JobState::Fetched | JobState::Placing);
        let is_silent = self.disk_silent && is_fetching;
        let at =
            |kind: ArtifactKind| match (self.in_history[kind as usize], self.listed[kind as usize])
            {
                _ if is_silent => Whereabouts::Unreadable,
                (true, _) => Whereabouts::InHistory,
                (false, true) => Whereabouts::Listed,
                (false, false) => Whereabouts::Nowhere,
            };
        let is_cloud = self.record.backend == BackendKind::Cloud;
        World {
            stopping: self.stopping,
            control: self.control,
            candidates: self.order.iter().map(candidate).collect(),
            after_unknown: self.after_unknown,
            access: match self.usable {
                _ if is_cloud && self.server_gone => Access::ServerGone,
                _ if is_cloud && !self.has_lease => Access::NeedsServer,
                true => Access::Usable,
                false => Access::Unconfigured,
            },
            limits: self.limits,
            artifacts: Artifacts { image: at(ArtifactKind::Image), mesh: at(ArtifactKind::Mesh) },
            hands_over: self.handoff && self.record.state == JobState::Placed,
            seen: self.seen.clone(),
        }
    }

    /// Returns how long the newest attempt ran at least.
    pub(super) fn ran(&self) -> Duration {
        self.seen_running.map_or(Duration::ZERO, |(first, last)| last.since(first))
    }

    /// Returns the next step.
    pub(super) fn next(&self) -> Do {
        flow::next(self.now, &self.record, &self.world())
    }

    /// The process dies; another one takes the job up. `set`: how far the wall clock was set
    /// meanwhile, in seconds.
    pub(super) fn restart(&mut self, set: i64) {
        self.now.wall = if set >= 0 {
            self.now.wall.plus(Duration::from_secs(set.unsigned_abs()))
        } else {
            self.now.wall.minus(Duration::from_secs(set.unsigned_abs()))
        };
        self.trace.push("restart".to_owned());
        self.seen = Seen { earlier_attempts: self.record.attempts.len(), ..Seen::default() };
        if let Some(attempt) = self.record.newest().filter(|attempt| attempt.request.is_some()) {
            let resumed = RequestSeen::resumed(self.now, attempt, &self.record.observed);
            self.seen.request = Some(resumed);
        }
        self.control = JobControl::Continue;
        (self.stopping, self.has_lease) = (false, false);
        if !self.record.outputs_known {
            self.listed = [false; 2];
        }
        self.dies_unrecorded = false;
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        let what = what.into();
        // A wait that is continued is told once.
        if !(what.starts_with("wait") && self.trace.last() == Some(&what)) {
            self.trace.push(what);
        }
    }
}

/// Some job.
pub(super) fn some_job() -> JobId {
    JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), 1)
}
