//! Failpoints: the named steps at which a test can make the process die.
//!
//! Owns the list of steps ([`Point`]) and the termination. There is a point at every durable step:
//! each commit of the ledger, each step of history and of a placement that reaches the disk, and
//! both sides of the submit. With the cargo feature `failpoints`,
//! `CONJURED_FAILPOINT=name:before|after[:nth]` ends the process there with `SIGKILL`: no
//! destructors, no unwinding, no flushing, like `kill -9` or the kernel. Without the feature, as in
//! released programs, [`hit`] is an empty function, and the binary contains neither the names nor
//! the variable.
//!
//! `CONJURED_FAILPOINT_TRACE=FILE` appends a line `name:side` for each visit. A test learns from it
//! which steps a scenario takes.
//!
//! It deliberately does nothing else: no delays, no errors, no panics. Errors of a disk or a
//! service are produced outside of the process, by the file system and by the simulator.
//!
//! The crate `fail` was considered and rejected: its actions unwind or return, which runs the very
//! destructors that a crash does not run, its names are strings without a complete list, and it
//! needs a registry behind a lock. This module is smaller than the set-up of that crate.

/// The side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Everything before the step is done; within a transaction, everything is written and nothing
    /// is committed.
    Before,
    /// The step is done, but its result is not reported yet.
    After,
}

macro_rules! points {
    ($($(#[$about:meta])* $point:ident = $name:literal,)*) => {
        /// A durable step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$about])* $point,)*
        }

        #[cfg(feature = "failpoints")]
        impl Point {
            /// Every point.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// Returns the name for the environment variable.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    // The ledger: each is one transaction.
    /// The tables of a new ledger, or of a new version.
    CreateTables = "ledger.create_tables",
    /// A session begins.
    BeginSession = "ledger.begin_session",
    /// A session ends in an orderly way.
    EndSession = "ledger.end_session",
    /// A project is registered.
    TouchProject = "ledger.touch_project",
    /// A baseline is set without a job.
    SetBaseline = "ledger.set_baseline",
    /// Money, row, baseline and submit mark of a new job.
    Release = "ledger.release",
    /// The submit mark of a job that waited.
    Submitting = "ledger.submitting",
    /// The backend's id.
    Submitted = "ledger.submitted",
    /// The request certainly did not arrive.
    NotSent = "ledger.not_sent",
    /// The job fails over to another backend.
    Elsewhere = "ledger.elsewhere",
    /// A machine started the run.
    Running = "ledger.running",
    /// The write-ahead log is copied into the database file.
    Checkpoint = "ledger.checkpoint",
    /// The files that a result lists.
    OutputsKnown = "ledger.outputs_known",
    /// Everything is in history.
    Fetched = "ledger.fetched",
    /// The remaining artifacts of a failed job.
    KeepArtifacts = "ledger.keep_artifacts",
    /// Public names are about to change.
    Placing = "ledger.placing",
    /// Public names have changed.
    Placed = "ledger.placed",
    /// The handoff to CONJURE is about to begin.
    HandingOver = "ledger.handing_over",
    /// Ended successfully.
    Done = "ledger.done",
    /// Ended without a mesh.
    Failed = "ledger.failed",
    /// Ended because a person cancelled it.
    Cancelled = "ledger.cancelled",
    /// Ended in favour of a newer job.
    Replaced = "ledger.replaced",
    /// Ended with an unknown outcome.
    Unknown = "ledger.unknown",
    /// Lost answers, at start.
    MarkLost = "ledger.mark_lost_answers",
    /// A request to cancel.
    RaiseControl = "ledger.raise_control",
    /// An event of a job.
    Note = "ledger.note",
    /// A person's rating.
    Rate = "ledger.rate",
    /// A call that spent or changed something.
    Audit = "ledger.audit",

    // Rented machines: each is one transaction, or one side of a call.
    /// The mark before a launch, with its money.
    MachineLaunching = "machine.launching",
    /// The service's id.
    MachineLaunched = "machine.launched",
    /// The answer to a launch is lost, or does not identify the machine.
    MachineUnclear = "machine.unclear",
    /// The machine is billed from now on.
    MachineReady = "machine.ready",
    /// The machine is alive, and until when.
    MachineSeen = "machine.seen",
    /// A job uses it.
    MachineTaken = "machine.taken",
    /// No job uses it.
    MachineIdle = "machine.idle",
    /// It is about to be extended.
    MachineExtending = "machine.extending",
    /// It is extended.
    MachineExtended = "machine.extended",
    /// The mark before a stop.
    MachineStopping = "machine.stopping",
    /// The call that stops it: before it, and after its answer arrived but was not read.
    MachineDelete = "machine.delete",
    /// It is stopped, and its cost is booked.
    MachineGone = "machine.gone",

    // The submit.
    /// The POST: before it, and after the head of its answer arrived but nothing of it was read.
    SubmitPost = "submit.post",
    /// The answer: after reading it, and after passing it to the job's task.
    SubmitAnswer = "submit.answer",

    // History.
    /// Inputs are staged: before the sync of their folder, and after it.
    HistoryStage = "history.stage",
    /// The staged inputs become a job's.
    HistoryCommit = "history.commit",
    /// The new names of the folders become durable.
    HistorySync = "history.sync",
    /// A download's file is created.
    PartialCreate = "history.partial_create",
    /// A part of a download is written.
    PartialAppend = "history.partial_append",
    /// A finished download is synced.
    FinishSync = "history.finish_sync",
    /// A finished download gets its name.
    FinishRename = "history.finish_rename",
    /// The name of a finished download becomes durable.
    FinishFolder = "history.finish_folder",
    /// A picture is written in another format.
    FinishAs = "history.finish_as",
    /// A download is discarded.
    PartialDiscard = "history.partial_discard",
    /// A bad file is moved into quarantine.
    Quarantine = "history.quarantine",
    /// Artifacts of an earlier job become another job's.
    TakeOver = "history.take_over",
    /// `job.json` is written.
    Record = "history.record",
    /// Files that a crash left in history are removed.
    HistorySweep = "history.sweep",

    // Small private files.
    /// The content becomes durable.
    PrivateSync = "private.sync",
    /// The file gets its name.
    PrivateRename = "private.rename",
    /// The name becomes durable.
    PrivateFolder = "private.folder",

    // Placement.
    /// A folder of a public name is created.
    PlaceFolderMade = "place.folder_made",
    /// The temporary file is written.
    PlaceWrite = "place.write",
    /// The temporary file becomes durable.
    PlaceSync = "place.sync",
    /// The image gets its public name.
    PlaceImage = "place.image_rename",
    /// The mesh gets a public name.
    PlaceMesh = "place.mesh_rename",
    /// The public names become durable.
    PlaceFolder = "place.folder_sync",

    // The start.
    /// A lock is taken: before its holder is recorded, and after.
    Lock = "start.lock",
    /// A leftover file in a public folder is removed.
    Sweep = "start.sweep",
}

/// Runs a step between its two sides.
#[inline]
pub fn around<T>(point: Point, step: impl FnOnce() -> T) -> T {
    hit(point, Side::Before);
    let done = step();
    hit(point, Side::After);
    done
}

/// Does nothing: a released program cannot be made to die here.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_: Point, _: Side) {}

#[cfg(feature = "failpoints")]
pub use armed::{TRACE, VARIABLE, hit};

#[cfg(feature = "failpoints")]
mod armed {
    //! Reads the order once, and ends the process.

    use std::{
        fs::File,
        io::Write as _,
        sync::{
            Mutex, OnceLock, PoisonError,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::{Point, Side};

    /// The environment variable with the order.
    pub const VARIABLE: &str = "CONJURED_FAILPOINT";

    /// The environment variable that names a file for the visits.
    pub const TRACE: &str = "CONJURED_FAILPOINT_TRACE";

    /// The step at which to die, and at which visit.
    struct Order {
        name: String,
        side: Side,
        left: AtomicU32,
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();

    static VISITS: OnceLock<Option<Mutex<File>>> = OnceLock::new();

    /// Ends the process if this is the ordered step.
    pub fn hit(point: Point, side: Side) {
        note(point, side);
        let Some(order) = ORDER.get_or_init(read) else { return };
        if order.side == side
            && order.name == point.name()
            && order.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            die();
        }
    }

    #[expect(clippy::expect_used, reason = "a test that cannot trace must not pass")]
    fn note(point: Point, side: Side) {
        let open = || {
            let path = std::env::var_os(TRACE)?;
            let file = File::options().create(true).append(true).open(path);
            Some(Mutex::new(file.expect("the trace can be written")))
        };
        let Some(visits) = VISITS.get_or_init(open) else { return };
        let side = if side == Side::Before { "before" } else { "after" };
        let mut file = visits.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{}:{side}", point.name()).expect("the trace can be written");
    }

    fn read() -> Option<Order> {
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default().to_owned();
        let side = match words.next() {
            Some("before") => Side::Before,
            Some("after") => Side::After,
            _ => complain(&text),
        };
        let nth = words.next().map_or(Some(1), |nth| nth.parse().ok());
        let known = Point::ALL.iter().any(|point| point.name() == name);
        match nth {
            Some(nth @ 1..) if known && words.next().is_none() => {
                Some(Order { name, side, left: AtomicU32::new(nth) })
            }
            _ => complain(&text),
        }
    }

    /// A mistyped order must not look like a step that is never reached.
    #[expect(clippy::panic, reason = "a test ordered what there is not, and hears of it")]
    fn complain(text: &str) -> ! {
        panic!("{VARIABLE}={text}: expected name:before|after[:nth], with a name of the list")
    }

    /// Ends the process like `kill -9`.
    fn die() -> ! {
        #[cfg(unix)]
        {
            use rustix::process::{Signal, getpid, kill_process};
            // A process can always send this to itself, and none of its code runs afterwards.
            let _ = kill_process(getpid(), Signal::KILL);
        }
        std::process::abort()
    }
}
