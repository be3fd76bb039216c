//! The table of the architecture: which layer may use what, the rooms of the daemon with their
//! order, and the few files that may do more, each with its reason.
//!
//! Owns data. A new folder in `src/` needs a row here, and a layer's new dependency an entry in
//! its row.

/// A row: a folder or a file directly below `src/`, or a crate below `crates/`.
pub(super) struct Layer {
    /// Its name.
    pub name: &'static str,
    /// The layers that it may use, besides itself.
    pub ours: &'static [&'static str],
    /// The other packages that it may name.
    pub packages: &'static [&'static str],
    /// The names in [`WATCHED`] that it may use.
    pub watched: &'static [&'static str],
}

/// `main → cli → daemon → config, backend, handoff → disk, ledger → domain → nothing`.
pub(super) const LAYERS: &[Layer] = &[
    Layer {
        name: "domain",
        ours: &[],
        packages: &[
            "base64",
            "blake3",
            "bytes",
            "crc32fast",
            "encoding_rs",
            "fast_image_resize",
            "image",
            "png",
            "regex_lite",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "ulid",
        ],
        watched: &[],
    },
    Layer {
        name: "backend",
        ours: &["domain", "failpoint"],
        packages: &[
            "base64",
            "bytes",
            "futures_util",
            "image",
            "jiff",
            "rand",
            "reqwest",
            "rustls",
            "secrecy",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio_tungstenite",
            "url",
        ],
        watched: &["std::net", "tokio::time::Instant"],
    },
    Layer {
        name: "disk",
        ours: &["domain", "failpoint"],
        // dunce, fs4 and winapi_util are for Windows.
        packages: &[
            "directories",
            "dunce",
            "fs4",
            "jiff",
            "notify",
            "rustix",
            "serde",
            "serde_json",
            "tempfile",
            "thiserror",
            "winapi_util",
            "windows_sys",
        ],
        // It handles the times of files, but not the time of day.
        watched: &["std::fs", "std::time::SystemTime"],
    },
    Layer {
        name: "handoff",
        // From `disk` it needs the careful reading and the atomic writing.
        ours: &["disk", "domain"],
        packages: &["reqwest", "serde_json", "thiserror", "url"],
        watched: &[],
    },
    Layer {
        name: "ledger",
        ours: &["domain", "failpoint"],
        packages: &["rusqlite", "serde", "serde_json", "thiserror"],
        watched: &[],
    },
    Layer {
        name: "config",
        ours: &["domain"],
        packages: &[
            "config",
            "directories",
            "regex_lite",
            "secrecy",
            "serde_json",
            "strsim",
            "thiserror",
            "toml",
            "tracing",
            "url",
        ],
        watched: &["std::net"],
    },
    Layer {
        name: "simulator",
        // It shares nothing with the client, because both could then be wrong in the same way.
        ours: &["domain"],
        packages: &[
            "axum",
            "base64",
            "bytes",
            "crc32fast",
            "flate2",
            "futures_util",
            "image",
            "jiff",
            "png",
            "rand",
            "serde",
            "serde_json",
            "tokio",
            "ulid",
            "url",
        ],
        watched: &["std::net", "tokio::time::Instant"],
    },
    Layer {
        name: "daemon",
        ours: &[
            "backend",
            "clock",
            "config",
            "disk",
            "domain",
            "failpoint",
            "handoff",
            "ledger",
            "logging",
        ],
        packages: &[
            "axum",
            "blake3",
            "bytes",
            "futures_util",
            "jiff",
            "rand",
            "secrecy",
            "serde",
            "serde_json",
            "signal_hook",
            "signal_hook_tokio",
            "thiserror",
            "tokio",
            "tracing",
        ],
        watched: &["std::process::id", "tokio::time::Instant"],
    },
    Layer {
        name: "cli",
        ours: &[
            "allocator",
            "clock",
            "config",
            "daemon",
            "disk",
            "domain",
            "ledger",
            "logging",
            "simulator",
        ],
        // anstyle_query is for Windows.
        packages: &[
            "anstyle_query",
            "clap",
            "clap_complete",
            "clap_mangen",
            "comfy_table",
            "indicatif",
            "jiff",
            "reqwest",
            "secrecy",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
        ],
        watched: &["std::net", "std::process::ExitCode", "std::process::id"],
    },
    Layer { name: "allocator", ours: &[], packages: &["libc"], watched: &[] },
    Layer { name: "clock", ours: &["domain"], packages: &["rustix"], watched: TIME },
    // Without its feature nothing of it is compiled. With it, it reads the environment and ends
    // the process.
    Layer {
        name: "failpoint",
        ours: &[],
        packages: &["rustix"],
        watched: &["std::env::var", "std::process::abort"],
    },
    Layer {
        name: "logging",
        ours: &["clock", "disk"],
        packages: &["jiff", "rustix", "tracing", "tracing_appender", "tracing_subscriber"],
        watched: &[],
    },
    Layer {
        name: "main",
        ours: &["cli"],
        packages: &[],
        watched: &["std::process::ExitCode", "std::env::args_os"],
    },
    Layer { name: "lib", ours: &["domain", "simulator"], packages: &[], watched: &[] },
];

const TIME: &[&str] =
    &["std::time::Instant", "std::time::SystemTime", "std::time::SystemTime::now"];

/// Names that have one owner each, and why. If a layer's row does not list one, nothing in that
/// layer may use it or anything below it.
pub(super) const WATCHED: &[(&str, &str)] = &[
    ("std::fs", "files belong to `disk`"),
    ("tokio::fs", "files belong to `disk`"),
    ("std::net", "only what talks to the network knows addresses"),
    ("std::env", "the process is asked once, in `config::sources`"),
    (
        "std::thread",
        "standing work belongs to `daemon::services::tasks`, blocking work to the pool",
    ),
    ("std::process", "the program ends by returning from `main`"),
    ("std::time::Instant", "it stops while the machine sleeps: ask `clock`"),
    ("std::time::SystemTime::now", "only `clock` reads the wall clock"),
    ("std::time::SystemTime", "only `clock` reads the wall clock"),
    ("tokio::time::Instant", "it stops while the machine sleeps: ask `clock`"),
    ("tokio::spawn", "every task has a name and an owner: `daemon::services::tasks`"),
    ("tokio::task::spawn", "every task has a name and an owner: `daemon::services::tasks`"),
    ("tokio::task::spawn_local", "every task has a name and an owner: `daemon::services::tasks`"),
    ("tokio::task::spawn_blocking", "blocking work is started by `daemon`"),
    ("tokio::task::JoinSet", "every task has a name and an owner: `daemon::services::tasks`"),
    ("tokio::runtime", "there is one runtime, and `cli` builds it"),
    ("std::io::stdout", "printing belongs to `cli::out`"),
    ("std::io::stderr", "printing belongs to `cli::out`"),
    ("std::io::stdin", "asking a person belongs to `cli::setup::ask`"),
    ("print!", "printing belongs to `cli::out`"),
    ("println!", "printing belongs to `cli::out`"),
    ("eprint!", "printing belongs to `cli::out`"),
    ("eprintln!", "printing belongs to `cli::out`"),
    ("dbg!", "it is for the person at the keyboard"),
];

/// A file that may use what its layer may not, and why.
pub(super) struct Exception {
    /// The file.
    pub file: &'static str,
    /// What it may use, including everything below it: `crate::…`, a watched name, or a package.
    pub name: &'static str,
    /// The reason.
    pub reason: &'static str,
}

const fn except(file: &'static str, name: &'static str, reason: &'static str) -> Exception {
    Exception { file, name, reason }
}

/// The exceptions. The check also fails for one that is no longer needed.
pub(super) const EXCEPTIONS: &[Exception] = &[
    except(
        "src/cli/daemon_client.rs",
        "crate::backend::http",
        "there is one place that decides how HTTP clients are built",
    ),
    except(
        "src/cli/exit.rs",
        "crate::backend::runcomfy",
        "settings that the backend refuses are a fault of the configuration, with its exit code",
    ),
    except("src/cli/setup/ask.rs", "std::io::stdin", "the owner of questions to a person"),
    except(
        "src/cli/setup/ask.rs",
        "std::io::stderr",
        "a question is no data, and stands where the answer is typed",
    ),
    except("src/cli/setup/ask.rs", "rpassword", "the one place where something is typed unseen"),
    except(
        "src/cli/setup/ask.rs",
        "signal_hook",
        "Ctrl-C while a token is typed must give the terminal back before the process ends",
    ),
    except(
        "src/cli/service/host.rs",
        "std::process",
        "services are started by other programs: systemctl, launchctl, schtasks",
    ),
    except("src/cli/mod.rs", "tokio::runtime", "the one runtime is built here"),
    except("src/cli/out.rs", "std::io::stdout", "the owner of printing"),
    except("src/cli/out.rs", "std::io::stderr", "the owner of printing"),
    except(
        "src/cli/out.rs",
        "std::io::stdin",
        "the owner of the one question: may this be charged twice?",
    ),
    except(
        "src/cli/out.rs",
        "std::env::var_os",
        "`TERM` is a matter of the terminal, not a setting",
    ),
    except("src/config/sources/mod.rs", "std::env", "the one look at the process"),
    except(
        "src/config/sources/files.rs",
        "std::fs",
        "bounded reading of a configuration and a token, before there is a daemon whose files `disk` could own",
    ),
    except("src/daemon/services/tasks.rs", "tokio::task::JoinSet", "the owner of spawning"),
    except(
        "src/daemon/services/probes/mod.rs",
        "tokio::task::spawn_blocking",
        "a look at a drive that hangs must not hang `doctor`, which has no loop",
    ),
    except(
        "src/daemon/services/store.rs",
        "tokio::task::spawn_blocking",
        "the owner of the ledger's work",
    ),
    except(
        "src/disk/history/partial.rs",
        "std::process::id",
        "two processes must not write under the same temporary name",
    ),
    except(
        "src/ledger/open.rs",
        "std::fs",
        "the ledger's own file is made private before SQLite opens it",
    ),
    except(
        "src/logging/mod.rs",
        "std::io::stderr",
        "a log without a folder goes to standard error",
    ),
    except(
        "crates/simulator/src/gesture_camera.rs",
        "std::fs",
        "it is Blender's stand-in: it must write in its way, not in `disk`'s",
    ),
    except(
        "crates/simulator/src/lib.rs",
        "tokio::task::JoinSet",
        "the simulator is a service of its own and owns its tasks",
    ),
    except(
        "crates/simulator/src/comfyui/mod.rs",
        "tokio::task::JoinSet",
        "the look-alike is a service of its own and owns its tasks",
    ),
    except(
        "crates/simulator/src/gradio/mod.rs",
        "tokio::task::JoinSet",
        "the look-alike is a service of its own and owns its tasks",
    ),
    except(
        "crates/simulator/src/runcomfy/state.rs",
        "std::time::SystemTime",
        "a service has a clock of its own, which need not be ours",
    ),
    except(
        "src/disk/rename.rs",
        "std::thread::park_timeout",
        "Windows has no event for a file that somebody closes: what is in the way is tried again, for two seconds",
    ),
    except(
        "src/daemon/event_loop/signals.rs",
        "std::thread",
        "on Windows a thread waits for the second Ctrl-C, which must end a loop that hangs",
    ),
    except(
        "src/daemon/event_loop/signals.rs",
        "std::process::exit",
        "the second Ctrl-C ends the process, as the handler does on Unix",
    ),
    except(
        "src/daemon/event_loop/signals.rs",
        "tokio::runtime",
        "the thread that waits for it needs one of its own",
    ),
    except(
        "src/disk/drive.rs",
        "std::env::var_os",
        "only with the feature `failpoints`: a test names the drive that does not answer",
    ),
    except(
        "src/disk/drive.rs",
        "std::thread::park_timeout",
        "only with the feature `failpoints`: a call to that drive waits",
    ),
    except(
        "src/backend/http/mod.rs",
        "tokio::task::spawn_blocking",
        "a client is made of all certificates of the system, for which no loop may stand still",
    ),
    except(
        "src/failpoint.rs",
        "std::fs",
        "with the feature `failpoints` only, a test reads which steps were visited",
    ),
    except(
        "src/failpoint.rs",
        "std::env",
        "with the feature `failpoints` only, a test names the file for the visits",
    ),
    except("src/disk/dirs.rs", "std::env::temp_dir", "a message names where the system keeps it"),
];

/// The rooms of the daemon, each with the rooms that it may use: it uses nothing of a room that
/// comes after it.
pub(super) const STAIRS: &[(&str, &[&str])] = &[
    ("services", &[]),
    ("inputs", &["services"]),
    ("servers", &["services"]),
    ("jobs", &["services", "inputs", "servers"]),
    ("api", &["services", "inputs", "servers", "jobs"]),
    ("event_loop", &["services", "inputs", "servers", "jobs", "api"]),
];

/// Folders whose rooms name each other in no circle.
pub(super) const WITHOUT_CIRCLES: &[&str] = &[
    "src",
    "src/backend",
    "src/cli",
    "src/daemon",
    "src/disk",
    "src/ledger",
    "crates/domain/src",
    "crates/simulator/src",
];

/// What the domain's crate never depends on, not even for its tests: without these it can do
/// nothing but decide.
pub(super) const NEVER_IN_THE_DOMAIN: &[&str] = &[
    "axum", "jiff", "notify", "rand", "reqwest", "rusqlite", "rustix", "tempfile", "tokio",
    "tracing",
];
