//! Failpoints: the named places at which a test can order the process to die.
//!
//! Owns the list of the places ([`Point`]) and the death. There is a point at every durable step: each commit of the
//! ledger, each step of history and of a placement that reaches the disk, and each side of the submit. With the cargo
//! feature `failpoints`, `CONJURED_FAILPOINT=name:before|after[:nth]` ends the process there with `SIGKILL`: no
//! destructor, no unwinding, nothing flushed, as `kill -9` or the kernel would. Without the feature, which is how the
//! program ships, [`hit`] is an empty function and neither the names nor the variable are in the binary.
//!
//! `CONJURED_FAILPOINT_TRACE=FILE` adds a line `name:side` for each visit, from which a test learns which steps a play takes.
//!
//! It deliberately does nothing else: no delays, no errors, no panics. What a disk or a service refuses is made outside
//! of the process, by the file system and by the simulator.
//!
//! The crate `fail` was weighed: its actions unwind or return, which runs the very destructors that a crash does not, its
//! names are strings that no list holds complete, and it brings a registry behind a lock. This is smaller than its set-up.

/// On which side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Everything before the step is done; of a transaction: all is written and nothing is committed.
    Before,
    /// The step is done, and nobody has heard of it.
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
            /// Every point there is.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// Returns the word by which it is ordered.
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
    Migrate = "ledger.migrate",
    /// A session begins.
    BeginSession = "ledger.begin_session",
    /// A session ends in good order.
    EndSession = "ledger.end_session",
    /// A project is made known.
    TouchProject = "ledger.touch_project",
    /// Inputs are taken care of without a job.
    SetBaseline = "ledger.set_baseline",
    /// Money, row, baseline and mark of a new job.
    Release = "ledger.release",
    /// The mark of a job that waited.
    Submitting = "ledger.submitting",
    /// The backend's id.
    Submitted = "ledger.submitted",
    /// The request surely did not arrive.
    NotSent = "ledger.not_sent",
    /// The job goes to another backend.
    Elsewhere = "ledger.elsewhere",
    /// A machine is at work.
    Running = "ledger.running",
    /// The write-ahead log goes into the file.
    Checkpoint = "ledger.checkpoint",
    /// The files that a result lists.
    OutputsKnown = "ledger.outputs_known",
    /// Everything is in history.
    Fetched = "ledger.fetched",
    /// What a failed job leaves.
    KeepArtifacts = "ledger.keep_artifacts",
    /// Public names are about to change.
    Placing = "ledger.placing",
    /// Public names have changed.
    Placed = "ledger.placed",
    /// CONJURE is about to be told.
    HandingOver = "ledger.handing_over",
    /// A good end.
    Done = "ledger.done",
    /// An end without a mesh.
    Failed = "ledger.failed",
    /// An end that a person wanted.
    Cancelled = "ledger.cancelled",
    /// An end for a newer job.
    Replaced = "ledger.replaced",
    /// An end that nobody knows.
    Unknown = "ledger.unknown",
    /// Lost answers, at start.
    MarkLost = "ledger.mark_lost_answers",
    /// A wish to cancel.
    WantCancel = "ledger.want_cancel",
    /// A line in a job's story.
    Note = "ledger.note",
    /// How a person liked it.
    Rate = "ledger.rate",
    /// A call that spent or changed something.
    Audit = "ledger.audit",

    // Rented machines: each is one transaction, or one side of a call.
    /// The mark before a launch, with its money.
    MachineLaunching = "machine.launching",
    /// The service's id.
    MachineLaunched = "machine.launched",
    /// The answer to a launch is lost, or tells too little.
    MachineUnclear = "machine.unclear",
    /// It is billed from now on.
    MachineReady = "machine.ready",
    /// It lives, and until when.
    MachineSeen = "machine.seen",
    /// A job has it.
    MachineTaken = "machine.taken",
    /// No job has it.
    MachineIdle = "machine.idle",
    /// It is about to be kept longer.
    MachineExtending = "machine.extending",
    /// It is kept longer.
    MachineExtended = "machine.extended",
    /// The mark before a stop.
    MachineStopping = "machine.stopping",
    /// The call that stops it: before it, and when its answer is there and nobody has read it.
    MachineDelete = "machine.delete",
    /// It is stopped, and booked.
    MachineGone = "machine.gone",

    // The submit.
    /// The POST: before it, and when the head of its answer is there and nothing of it is read.
    SubmitPost = "submit.post",
    /// The answer: read, and handed to the road.
    SubmitAnswer = "submit.answer",

    // History.
    /// Inputs staged: before the sync of their folder, and after it.
    HistoryStage = "history.stage",
    /// The staged inputs become a job's.
    HistoryCommit = "history.commit",
    /// The folders' new names become durable.
    HistorySync = "history.sync",
    /// A download's file is made.
    PartialCreate = "history.partial_create",
    /// A piece of a download is written.
    PartialAppend = "history.partial_append",
    /// A finished download is synced.
    FinishSync = "history.finish_sync",
    /// A finished download gets its name.
    FinishRename = "history.finish_rename",
    /// The name of a finished download becomes durable.
    FinishFolder = "history.finish_folder",
    /// A picture is written in another form.
    FinishAs = "history.finish_as",
    /// A download is thrown away.
    PartialDiscard = "history.partial_discard",
    /// A bad file moves into quarantine.
    Quarantine = "history.quarantine",
    /// Artifacts of an earlier job become another's.
    TakeOver = "history.take_over",
    /// `job.json`.
    Record = "history.record",
    /// What a crash left in history is removed.
    HistorySweep = "history.sweep",

    // Small private files.
    /// The content becomes durable.
    PrivateSync = "private.sync",
    /// It gets its name.
    PrivateRename = "private.rename",
    /// The name becomes durable.
    PrivateFolder = "private.folder",

    // Placement.
    /// A folder of a public name is made.
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
    /// A lock is taken: before its holder is written down, and after.
    Lock = "start.lock",
    /// A left-over in a public folder is removed.
    Sweep = "start.sweep",
}

/// Does a step between its two sides.
#[inline]
pub fn around<T>(point: Point, step: impl FnOnce() -> T) -> T {
    hit(point, Side::Before);
    let done = step();
    hit(point, Side::After);
    done
}

/// Does nothing: the program that ships cannot be ordered to die.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn hit(_: Point, _: Side) {}

#[cfg(feature = "failpoints")]
pub use armed::{TRACE, VARIABLE, hit};

#[cfg(feature = "failpoints")]
mod armed {
    //! The order, read once, and the death.

    use std::{
        fs::File,
        io::Write as _,
        sync::{
            Mutex, OnceLock, PoisonError,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::{Point, Side};

    /// The environment variable that orders a death.
    pub const VARIABLE: &str = "CONJURED_FAILPOINT";

    /// The environment variable that names a file for the visits.
    pub const TRACE: &str = "CONJURED_FAILPOINT_TRACE";

    /// Where to die, and at which visit.
    struct Order {
        name: String,
        side: Side,
        left: AtomicU32,
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();

    static VISITS: OnceLock<Option<Mutex<File>>> = OnceLock::new();

    /// Dies if this is where it was ordered.
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

    /// A mistyped order must not look like a place that is never reached.
    #[expect(clippy::panic, reason = "a test ordered what there is not, and hears of it")]
    fn complain(text: &str) -> ! {
        panic!("{VARIABLE}={text}: it is name:before|after[:nth], with a name of the list")
    }

    /// Ends the process as `kill -9` does.
    fn die() -> ! {
        #[cfg(unix)]
        {
            use rustix::process::{Signal, getpid, kill_process};
            // Its own process can always be sent this, and nothing of it runs any more.
            let _ = kill_process(getpid(), Signal::KILL);
        }
        std::process::abort()
    }
}
