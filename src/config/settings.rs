//! The validated configuration: one struct per section, every value in the type in which it
//! is used.
//!
//! Owns only the types. A value of these types has passed every check of `sections` and `whole` and
//! need not be checked again. Nothing in here is a secret, so everything may be shown and logged.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use super::{
    enums::{ApiVersion, Handoff, Level, Mode, Provider, ServerType, Watch},
    values::addresses::is_loopback,
};
use crate::domain::{
    inputs::trigger::{AtStart, TriggerOn, WhenBusy},
    machines::deployment::PriceSettings,
    money::{BillingPlan, MicroUsd, Tier},
};

/// All settings, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where jobs run.
    pub mode: Mode,
    /// The most paid jobs at the same time, over all projects; 1 to 16.
    pub max_in_flight: u32,
    /// Where the ledger and the history are kept.
    pub state_dir: PathBuf,
    /// The served checkouts; at least one, with different names and roots.
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

/// One CONJURE checkout. Every path is absolute if the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectConfig {
    /// The name in lists and logs.
    pub name: String,
    /// The checkout's folder.
    pub root: PathBuf,
    /// The prompt file.
    pub prompt: PathBuf,
    /// The render file.
    pub render: PathBuf,
    /// The public names of the image; each ends in `.png`.
    pub image: Vec<PathBuf>,
    /// The public names of the mesh; each ends in `.glb`.
    pub mesh: Vec<PathBuf>,
}

/// When a job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerConfig {
    /// Which changes may start a job.
    pub on: TriggerOn,
    /// How long a prompt must stay unchanged.
    pub prompt_quiet: Duration,
    /// How long a render must stay unchanged.
    pub render_quiet: Duration,
    /// How long a prompt that keeps changing is held back at most.
    pub prompt_max_wait: Duration,
    /// The shortest interval between two jobs that only a render started.
    pub min_interval: Duration,
    /// The most jobs per hour, whatever started them; 1 to 3600.
    pub max_jobs_per_hour: u32,
    /// Whether a changed render waits while hands are in the picture.
    pub hold_while_sculpting: bool,
    /// How long after a result changing renders count as the result's own effect.
    pub after_result_hold: Duration,
    /// What a new snapshot does to a job that is in progress.
    pub when_busy: WhenBusy,
    /// What happens at the start if inputs have changed.
    pub at_start: AtStart,
    /// Regular expressions for prompts that are accidents; all of them compile.
    pub ignore_prompts: Vec<String>,
    /// How files are watched.
    pub watch: Watch,
    /// How often files are checked when polling.
    pub poll_interval: Duration,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationConfig {
    /// The workflow's graph.
    pub workflow: WorkflowSource,
    /// Where seeds come from.
    pub seed: SeedSetting,
    /// Sampling steps for the picture.
    pub steps_flux: u32,
    /// Sampling steps for the mesh.
    pub steps_partpacker: u32,
    /// The largest picture in Base64, in KB of 1024 bytes; `None` sends it as it is.
    pub image_max_base64_kb: Option<u32>,
    /// Whether the result of identical earlier work is taken from the history.
    pub cache: bool,
    /// Role → `node.input` or `title:…`, as written; an empty text omits the role. The roles are
    /// known ones ([`super::sections::ROLES`]); whether a binding fits is checked when the workflow
    /// is read.
    pub bind: BTreeMap<String, String>,
}

/// A workflow's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkflowSource {
    /// A built-in workflow, by name.
    BuiltIn(&'static str),
    /// A file in API format.
    File(PathBuf),
}

/// Where seeds come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedSetting {
    /// Derived from the fingerprints.
    Derived,
    /// A new one for every job.
    Random,
    /// This one; below 2^53.
    Fixed(u64),
}

/// RunComfy's Serverless API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerlessConfig {
    /// Whether it may be used at all.
    pub enabled: bool,
    /// The deployment id, if there is one. Safe in a URL's path.
    pub deployment_id: Option<String>,
    /// The API's origin: https, or http on loopback; without path, query and user.
    pub api_url: Url,
    /// The version segment of the API's paths.
    pub api_version: ApiVersion,
    /// Hosts that results may come from, in lower case: `.domain`, a full host or an IP literal,
    /// each with an optional `:port`.
    pub download_hosts: Vec<String>,
    /// The time-out for a connection.
    pub connect_timeout: Duration,
    /// The time-out for a whole submit.
    pub submit_timeout: Duration,
    /// The time-out in the queue, cold start included.
    pub queue_timeout: Duration,
    /// The time-out of a run.
    pub run_timeout: Duration,
    /// The shortest poll interval; at most `poll_max`.
    pub poll_min: Duration,
    /// The longest poll interval.
    pub poll_max: Duration,
    /// Whether a job whose outcome is unknown is automatically submitted again.
    pub resubmit_unknown: bool,
    /// The file that contains the token.
    pub token_file: Option<PathBuf>,
}

/// Local backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// The providers that may be used, in order of preference.
    pub providers: Vec<Provider>,
    /// The ComfyUI server; http or https.
    pub comfyui_url: Url,
    /// The graph that it runs.
    pub comfyui_workflow: WorkflowSource,
    /// Roles bound in that graph, as [`GenerationConfig::bind`] does for the other one.
    pub bind: BTreeMap<String, String>,
    /// The Space that makes the picture.
    pub flux_space: SpaceSetting,
    /// The Space that makes the mesh from it.
    pub mesh_space: SpaceSetting,
    /// Whether the mesh's Space first removes the picture's background.
    pub process_image: bool,
    /// The time-out of a local job, waiting or running; 60 s to a day.
    pub timeout: Duration,
    /// Whether work may also be done locally if the answer to its paid submit was lost.
    pub after_unknown: bool,
}

impl LocalConfig {
    /// Returns whether the ComfyUI is the one that CONJURE's launcher uses in its mode 5:
    /// 127.0.0.1:8188 (`launcher/local_comfyui_service.py`).
    pub fn is_conjure_comfyui(&self) -> bool {
        is_loopback(&self.comfyui_url) && self.comfyui_url.port_or_known_default() == Some(8188)
    }
}

/// A Hugging Face Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpaceSetting {
    /// A Space on the hub, as `owner/name`.
    Named(String),
    /// A Space with its own URL: https, or http on loopback; without query and user, and with a
    /// path that ends in `/`, so that a relative path can be joined to it.
    At(Url),
}

impl fmt::Display for SpaceSetting {
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
    /// The workflow version with which a machine is started. Safe in a URL's path.
    pub workflow_version_id: Option<String>,
    /// The type of machine.
    pub server_type: ServerType,
    /// How long a machine may be idle.
    pub idle_stop: Duration,
    /// How long a machine may run.
    pub max_run: Duration,
    /// How long a machine may take to become ready; a minute to an hour.
    pub start_timeout: Duration,
}

/// What may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// The most a job may cost; `None` means no limit, here and below.
    pub per_job: Option<MicroUsd>,
    /// The most a session may cost.
    pub per_session: Option<MicroUsd>,
    /// The most a calendar day may cost.
    pub per_day: Option<MicroUsd>,
    /// The most a calendar month may cost.
    pub per_month: Option<MicroUsd>,
    /// The payment plan.
    pub plan: BillingPlan,
    /// The price of one machine hour; `None` uses the price table.
    pub hourly: Option<MicroUsd>,
    /// The deployment's type of machine.
    pub hardware: &'static Tier,
    /// Whether the user set a value other than the default.
    pub hardware_is_set: bool,
}

impl BudgetConfig {
    /// Returns the configured part of the price.
    pub const fn price_settings(&self) -> PriceSettings {
        PriceSettings {
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
    /// How CONJURE is asked to import a mesh.
    pub handoff: Handoff,
    /// CONJURE's own API: http or https.
    pub conjure_url: Url,
    /// The volume below which CONJURE drops a part, in Blender's cubic units.
    pub min_volume_threshold: f64,
}

/// What is kept in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// The number of jobs.
    pub keep_jobs: u64,
    /// The total size in MB of 1024 × 1024 bytes.
    pub keep_mb: u64,
}

/// The local page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageConfig {
    /// A loopback address, never port 8000; `None` means no page.
    pub listen: Option<SocketAddr>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How much is logged.
    pub level: Level,
    /// The folder of the log files; `None` means standard error only.
    pub dir: Option<PathBuf>,
    /// The age in days at which a log file is deleted.
    pub keep_days: u32,
    /// The total size of all log files, in MB of 2^20 bytes.
    pub keep_mb: u32,
}
