//! The process dies at every durable step, before and after it, under three service conditions, and
//! is restarted: nothing is paid twice, no paid result is lost, no public file is ever incomplete,
//! and the accounts are right.
//!
//! Owns the scenarios (what must happen so that a step is reached) and the list of cases, which is
//! complete by construction: it is made from [`Point::ALL`]. A point that its scenario never
//! reaches fails, and so does a new point without a scenario. [`drive`] runs a scenario, [`judge`]
//! checks the result. [`dead_drive`] stops no process but a drive.
//!
//! Only with the feature: `cargo test --features failpoints --test it failpoints`.

mod dead_drive;
mod drive;
mod judge;
mod stand_in;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use conjured::{
    domain::job::JobState,
    failpoint::{Point, Side},
    simulator::{
        faults::{Call, Fault, Order},
        produce::{Product, Spoiled},
    },
};

/// How many worlds run at the same time: most of their time is spent waiting.
const AT_ONCE: usize = 6;

/// How the service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// It answers.
    Fair,
    /// The answer to the first submit is lost on its way back.
    AnswerLost,
    /// Both downloads are cut off in the middle.
    DownloadCut,
}

/// What happens, so that a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    /// The very first start, and a job.
    FirstStart,
    /// One job.
    OneJob,
    /// A job whose submit is temporarily refused.
    SentAgain,
    /// A job whose answer is lost, in every weather.
    AnswerLost,
    /// A job whose picture comes as WebP.
    OtherPicture,
    /// A job with a broken mesh, and then a good one.
    BrokenMesh,
    /// A job that a person cancels while it is queued.
    Cancel,
    /// A queued job that a newer one replaces.
    Replace,
    /// The same work as an earlier job.
    Cached,
    /// A clean stop.
    Stop,
    /// Files of an earlier crash are present.
    LeftOvers,
    /// CONJURE is asked to import the mesh.
    HandedOver,
    /// The artist rates the result.
    Rated,
    /// A job that the service refuses and a ComfyUI runs.
    Elsewhere,
}

/// The steps of a scenario, in order.
#[derive(Clone, Debug)]
enum Step {
    /// Wait for the first baseline.
    Baseline,
    /// Order a fault.
    Order(Order),
    /// Cancel ordered faults that have not happened yet.
    Clear,
    /// Write a prompt and wait until its job ends in this state (or as `unknown`, if the process
    /// may have died in the gap).
    Say(&'static str, JobState),
    /// Write a prompt and wait until its job is at the service.
    Begin(&'static str),
    /// Cancel the job of this prompt, again after each death of the daemon, and wait for its end.
    Cancel(&'static str),
    /// Wait until the job of this prompt has ended in this state.
    Ends(&'static str, JobState),
    /// Rate the result of this prompt, again after each death of the daemon.
    Rate(&'static str),
    /// Stop cleanly, and start again.
    Stop,
}

/// One death.
#[derive(Clone, Copy)]
struct Case {
    point: Point,
    side: Side,
    nth: u32,
    weather: Weather,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "after" };
        write!(
            f,
            "{}:{side}:{} ({:?}, {:?})",
            self.point.name(),
            self.nth,
            self.play(),
            self.weather
        )
    }
}

/// Later visits of a point that then mean something else: the project's lock, the mesh's download,
/// the mesh's second name.
const LATER: [(Point, u32); 9] = [
    (Point::Lock, 2),
    (Point::PartialCreate, 2),
    (Point::PartialAppend, 2),
    (Point::FinishSync, 2),
    (Point::FinishRename, 2),
    (Point::FinishFolder, 2),
    (Point::PlaceWrite, 3),
    (Point::PlaceMesh, 2),
    (Point::PlaceFolder, 2),
];

impl Case {
    const fn play(self) -> Play {
        match self.point {
            Point::CreateTables
            | Point::BeginSession
            | Point::TouchProject
            | Point::SetBaseline
            | Point::Lock => Play::FirstStart,
            Point::Submitting | Point::NotSent => Play::SentAgain,
            Point::Unknown => Play::AnswerLost,
            Point::FinishAs | Point::PartialDiscard => Play::OtherPicture,
            Point::Failed | Point::KeepArtifacts | Point::Quarantine => Play::BrokenMesh,
            Point::Cancelled | Point::RaiseControl | Point::Audit => Play::Cancel,
            Point::Replaced => Play::Replace,
            Point::Note | Point::TakeOver => Play::Cached,
            Point::EndSession => Play::Stop,
            Point::HandingOver => Play::HandedOver,
            Point::Rate => Play::Rated,
            Point::Elsewhere => Play::Elsewhere,
            Point::HistorySweep | Point::Sweep | Point::MarkLost => Play::LeftOvers,
            Point::Release
            | Point::MachineLaunching
            | Point::MachineLaunched
            | Point::MachineUnclear
            | Point::MachineReady
            | Point::MachineSeen
            | Point::MachineTaken
            | Point::MachineIdle
            | Point::MachineExtending
            | Point::MachineExtended
            | Point::MachineStopping
            | Point::MachineDelete
            | Point::MachineGone
            | Point::Submitted
            | Point::Running
            | Point::Checkpoint
            | Point::OutputsKnown
            | Point::Fetched
            | Point::Placing
            | Point::Placed
            | Point::Done
            | Point::SubmitPost
            | Point::SubmitAnswer
            | Point::HistoryStage
            | Point::HistoryCommit
            | Point::HistorySync
            | Point::PartialCreate
            | Point::PartialAppend
            | Point::FinishSync
            | Point::FinishRename
            | Point::FinishFolder
            | Point::Record
            | Point::PrivateSync
            | Point::PrivateRename
            | Point::PrivateFolder
            | Point::PlaceFolderMade
            | Point::PlaceWrite
            | Point::PlaceSync
            | Point::PlaceImage
            | Point::PlaceMesh
            | Point::PlaceFolder => Play::OneJob,
        }
    }

    /// Returns whether a death here is between the mark that a request may be sent and the record
    /// of its answer: the only gap in which a job may end as `unknown` although its answer was not
    /// lost on the way.
    const fn in_the_hole(self) -> bool {
        matches!(
            (self.point, self.side),
            (Point::Release | Point::Submitting, Side::After)
                | (
                    Point::Submitted | Point::NotSent | Point::Unknown | Point::Elsewhere,
                    Side::Before
                )
                | (Point::SubmitPost | Point::SubmitAnswer, _)
        )
    }

    fn steps(self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.play() == Play::FirstStart {
            steps.push(Step::Baseline);
        }
        match self.weather {
            Weather::Fair => {}
            Weather::AnswerLost => steps.extend([
                Step::Order(Fault::AcceptThenDrop.into()),
                Step::Say("a lost heron", JobState::Unknown),
                Step::Clear,
            ]),
            Weather::DownloadCut => {
                steps.extend([Step::Order(cut(Product::Image)), Step::Order(cut(Product::Mesh))]);
            }
        }
        let owl = Step::Say("a clay owl", JobState::Done);
        let fox = Step::Say("a clay fox", JobState::Done);
        match self.play() {
            Play::FirstStart | Play::OneJob | Play::LeftOvers | Play::HandedOver => steps.push(owl),
            Play::Rated => steps.extend([owl, Step::Rate("a clay owl")]),
            Play::SentAgain => {
                let busy = Fault::Http {
                    status: 429,
                    retry_after: Some("1".to_owned()),
                    body: None,
                    accepted: false,
                };
                steps.extend([Step::Order(busy.into()), owl]);
            }
            Play::Elsewhere => {
                let poor =
                    Fault::Http { status: 402, retry_after: None, body: None, accepted: false };
                steps.extend([Step::Order(poor.into()), owl]);
            }
            Play::AnswerLost => steps.extend([
                Step::Order(Fault::AcceptThenDrop.into()),
                Step::Say("a second heron", JobState::Unknown),
                Step::Clear,
                owl,
            ]),
            Play::OtherPicture => {
                let webp = Fault::File { product: Product::Image, content: Spoiled::Webp };
                steps.extend([Step::Order(webp.into()), owl]);
            }
            Play::BrokenMesh => {
                let half = Fault::File { product: Product::Mesh, content: Spoiled::Cut };
                steps.extend([
                    Step::Order(half.into()),
                    Step::Say("a broken vase", JobState::Failed),
                    Step::Clear,
                    owl,
                ]);
            }
            Play::Cancel => steps.extend([
                Step::Order(Fault::StuckInQueue.into()),
                Step::Begin("a slow snail"),
                Step::Cancel("a slow snail"),
                Step::Clear,
                owl,
            ]),
            Play::Replace => steps.extend([
                Step::Order(Fault::StuckInQueue.into()),
                Step::Begin("a slow snail"),
                Step::Clear,
                owl,
                Step::Ends("a slow snail", JobState::Replaced),
            ]),
            Play::Cached => steps.extend([owl, fox, Step::Say("a clay owl", JobState::Done)]),
            Play::Stop => steps.extend([owl, Step::Stop]),
        }
        steps
    }
}

/// Cuts off the next download of a product in the middle.
fn cut(product: Product) -> Order {
    Order::from(Fault::CutAt { fraction: 0.5 }).on(Call::Download).only(product)
}

#[test]
fn every_death_at_a_durable_step_costs_nothing_when_the_service_answers() {
    die_everywhere(Weather::Fair);
}

#[test]
fn every_death_at_a_durable_step_costs_nothing_when_an_answer_is_lost() {
    die_everywhere(Weather::AnswerLost);
}

#[test]
fn every_death_at_a_durable_step_costs_nothing_when_downloads_are_cut() {
    die_everywhere(Weather::DownloadCut);
}

/// Runs every case of a weather and fails with everything that went wrong.
#[track_caller]
fn die_everywhere(weather: Weather) {
    // Machines have their own scenarios: `cloud`.
    let here = |point: &Point| !point.name().starts_with("machine.");
    let first = Point::ALL.iter().copied().filter(here).map(|point| (point, 1));
    let wanted = std::env::var("CONJURED_TEST_FAILPOINT").unwrap_or_default();
    let cases: Vec<Case> = first
        .chain(LATER)
        .flat_map(|(point, nth)| {
            [Side::Before, Side::After].map(|side| Case { point, side, nth, weather })
        })
        .filter(|case| case.to_string().contains(&wanted))
        .collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let played = catch_unwind(AssertUnwindSafe(|| drive::play(*case)));
                    if let Err(panic) = played {
                        let message = panic
                            .downcast_ref::<String>()
                            .map(String::as_str)
                            .or_else(|| panic.downcast_ref::<&str>().copied())
                            .unwrap_or("it panicked without words");
                        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
                        faults.push(format!("{case}: {message}"));
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(
        faults.is_empty(),
        "{} of {} deaths did harm:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

/// Without its feature none of this is in the binary: see `tests/real/failpoints-absent/run`, which
/// searches it.
#[test]
fn an_order_that_names_no_point_is_refused_aloud() {
    let stage = crate::support::stage::DemoProject::new();
    let output = stage
        .command(&["run"])
        .env(conjured::failpoint::VARIABLE, "ledger.submited:before")
        .output()
        .expect("the binary starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("name:before|after"));
}
