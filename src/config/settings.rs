//! The checked configuration: one struct a section, every value of the type it is used as.
//!
//! Owns shapes only. A value of these types has passed every check of `sections` and `whole`;
//! whoever holds one need not look again. Nothing in here is a secret, so all of it may be shown and logged.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{
    enums::{ApiVersion, Handoff, Level, Mode, Provider, ServerType, Watch},
    values::addresses::is_loopback,
};
use crate::domain::{
    inputs::trigger::{AtStart, On, WhenBusy},
    machines::deployment::Wanted,
    money::{MicroUsd, Plan, Tier},
};

/// Everything a person can set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where jobs run.
    pub mode: Mode,
    /// Paid jobs at once, over all projects; 1 to 16.
    pub max_in_flight: u32,
    /// Where the ledger and the history live.
    pub state_dir: PathBuf,
    /// The checkouts that are served; at least one, with different names and roots.
    pub projects: Vec<ProjectConfig>,
    /// `[trigger]`.
    pub trigger: TriggerConfig,
    /// `[generation]`.
    pub generation: GenerationConfig,
    /// `[serverless]`.
    pub serverless: ServerlessConfig,
    /// `[local]`.
    pub local: LocalConfig,
    /// `[cloud]`.
    pub cloud: CloudConfig,
    /// `[budget]`.
    pub budget: BudgetConfig,
    /// `[placement]`.
    pub placement: PlacementConfig,
    /// `[history]`.
    pub history: HistoryConfig,
    /// `[page]`.
    pub page: PageConfig,
    /// `[log]`.
    pub log: LogConfig,
}

/// One CONJURE checkout. Every path is absolute where the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectConfig {
    /// What lists and logs call it.
    pub name: String,
    /// The checkout.
    pub root: PathBuf,
    /// The prompt.
    pub prompt: PathBuf,
    /// The render.
    pub render: PathBuf,
    /// The public names of the image; each ends in `.png`.
    pub image: Vec<PathBuf>,
    /// The public names of the mesh; each ends in `.glb`.
    pub mesh: Vec<PathBuf>,
}

/// When a job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerConfig {
    /// What may start one.
    pub on: On,
    /// How long a prompt has to stay the same.
    pub prompt_quiet: Duration,
    /// How long a render has to stay the same.
    pub render_quiet: Duration,
    /// The longest a prompt that keeps changing waits.
    pub prompt_max_wait: Duration,
    /// Between two jobs that only a render started.
    pub min_interval: Duration,
    /// Over all causes; 1 to 3600.
    pub max_jobs_per_hour: u32,
    /// Whether a render waits while hands are in the picture.
    pub hold_while_sculpting: bool,
    /// How long after a result changing renders are its own effect.
    pub after_result_hold: Duration,
    /// What a new snapshot does to a job that is under way.
    pub when_busy: WhenBusy,
    /// What changed inputs bring about at the start.
    pub at_start: AtStart,
    /// Prompts that are accidents: regular expressions, each known to compile.
    pub ignore_prompts: Vec<String>,
    /// How files are watched.
    pub watch: Watch,
    /// How often files are looked at where they are polled.
    pub poll_interval: Duration,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationConfig {
    /// The graph.
    pub workflow: Workflow,
    /// Where seeds come from.
    pub seed: Seed,
    /// Sampling steps of the picture.
    pub steps_flux: u32,
    /// Sampling steps of the mesh.
    pub steps_partpacker: u32,
    /// The most Base64 a picture may take, in KB of 1024 bytes; `None` sends it as it is.
    pub image_max_base64_kb: Option<u32>,
    /// Whether the same work is placed from the history.
    pub cache: bool,
    /// Role → `node.input` or `title:…`, as written; an empty text leaves the role out. The roles are known ones
    /// ([`super::sections::ROLES`]); whether a binding fits is seen when the workflow is read.
    pub bind: BTreeMap<String, String>,
}

/// A workflow's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workflow {
    /// One that comes with conjured, by name.
    BuiltIn(&'static str),
    /// A file in API format.
    File(PathBuf),
}

/// Where seeds come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// From the fingerprints.
    Derived,
    /// A new one for each job.
    Random,
    /// This one; below 2^53.
    Fixed(u64),
}

/// RunComfy's Serverless API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerlessConfig {
    /// Whether it may be used at all.
    pub enabled: bool,
    /// The deployment; `None` where none is given. Safe in a URL's path.
    pub deployment_id: Option<String>,
    /// The API's origin: https, or http on loopback; without path, query and user.
    pub api_url: Url,
    /// The version segment.
    pub api_version: ApiVersion,
    /// Hosts that results may come from, in lower case: `.domain`, a full host or an IP literal, each perhaps with `:port`.
    pub download_hosts: Vec<String>,
    /// Time-out of a connection.
    pub connect_timeout: Duration,
    /// Time-out of a whole submit.
    pub submit_timeout: Duration,
    /// Patience with the queue, cold start included.
    pub queue_timeout: Duration,
    /// Patience with a run.
    pub run_timeout: Duration,
    /// The quickest pace of asking; not above `poll_max`.
    pub poll_min: Duration,
    /// The slowest pace of asking.
    pub poll_max: Duration,
    /// Whether a job of unknown fate is sent again by itself.
    pub resubmit_unknown: bool,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
}

/// Local backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// Who may serve, in order.
    pub providers: Vec<Provider>,
    /// The ComfyUI server; http or https.
    pub comfyui_url: Url,
    /// Its graph.
    pub comfyui_workflow: Workflow,
    /// Roles bound in that graph, as [`GenerationConfig::bind`] binds them in the other.
    pub bind: BTreeMap<String, String>,
    /// The Space that makes the picture.
    pub flux_space: Space,
    /// The Space that makes the mesh of it.
    pub mesh_space: Space,
    /// Whether the mesh's Space first takes away the picture's background.
    pub process_image: bool,
    /// How long a local job may wait or run; 60 s to a day.
    pub timeout: Duration,
    /// Whether a save whose paid answer was lost may be made here as well.
    pub after_unknown: bool,
}

impl LocalConfig {
    /// Tells whether the ComfyUI is the one that CONJURE's launcher uses in its mode 5: 127.0.0.1:8188
    /// (`launcher/local_comfyui_service.py`).
    pub fn is_conjures_comfyui(&self) -> bool {
        is_loopback(&self.comfyui_url) && self.comfyui_url.port_or_known_default() == Some(8188)
    }
}

/// A Hugging Face Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    /// One of the hub's, as `owner/name`.
    Named(String),
    /// One at an address of its own: https, or http on loopback; without query and user, and its path ends in `/`, so that
    /// a relative path can be joined to it.
    At(Url),
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::At(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

/// RunComfy's Server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudConfig {
    /// The account's user id. Safe in a URL's path.
    pub user_id: Option<String>,
    /// The workflow version that a machine is started with. Safe in a URL's path.
    pub workflow_version_id: Option<String>,
    /// The machine.
    pub server_type: ServerType,
    /// How long a machine may idle.
    pub idle_stop: Duration,
    /// How long a machine may run.
    pub max_run: Duration,
    /// How long a machine may take to become ready; a minute to an hour.
    pub start_timeout: Duration,
}

/// What may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// The most a job may cost; `None` = no limit, as below.
    pub per_job: Option<MicroUsd>,
    /// The most a session may cost.
    pub per_session: Option<MicroUsd>,
    /// The most a civil day may cost.
    pub per_day: Option<MicroUsd>,
    /// The most a civil month may cost.
    pub per_month: Option<MicroUsd>,
    /// The payment plan.
    pub plan: Plan,
    /// What an hour of the machine costs; `None` = as the price table says.
    pub hourly: Option<MicroUsd>,
    /// The deployment's machine.
    pub hardware: &'static Tier,
    /// Whether a person wrote one that is not the default.
    pub hardware_is_set: bool,
}

impl BudgetConfig {
    /// Returns what is configured of the price.
    pub const fn wanted(&self) -> Wanted {
        Wanted {
            hourly: self.hourly,
            hardware: self.hardware,
            hardware_is_set: self.hardware_is_set,
            plan: self.plan,
        }
    }
}

/// How results become visible.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementConfig {
    /// The largest download, in MB of 1024 × 1024 bytes.
    pub max_artifact_mb: u64,
    /// How CONJURE is told.
    pub handoff: Handoff,
    /// CONJURE's own API: http or https.
    pub conjure_url: Url,
    /// The volume below which CONJURE drops a part, in Blender's cubic units.
    pub min_volume_threshold: f64,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// So many jobs.
    pub keep_jobs: u64,
    /// So many MB of 1024 × 1024 bytes.
    pub keep_mb: u64,
}

/// The local page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageConfig {
    /// A loopback address, never port 8000; `None` = no page.
    pub listen: Option<SocketAddr>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How much is logged.
    pub level: Level,
    /// The folder of the log files; `None` = standard error only.
    pub dir: Option<PathBuf>,
    /// Days after which a log file is deleted.
    pub keep_days: u32,
    /// What all log files may take together, in MB of 2^20 bytes.
    pub keep_mb: u32,
}
