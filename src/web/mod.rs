//! The daemon's own API: the calls of the command line to a running daemon, over a socket that only
//! its user can open.
//!
//! Owns the routes and their JSON. It makes no decisions: it gets a receiver of the status and a
//! sender of commands. It listens on a Unix socket in the state folder (0600); it opens no TCP port
//! that a browser could reach. A `POST` that cannot be carried out is answered with [`Refused`].
//!
//! | call | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`]; `?after=N` waits up to `wait_ms` (default 25 000) for a newer |
//! | `POST /v1/once` [`OnceRequest`] | `{"job": ID}` once the job is in the ledger |
//! | `POST /v1/jobs/{id}/cancel` | `{"said": …}` what the cancel achieved |
//! | `POST /v1/jobs/{id}/restore` | [`Restored`] once the files are public again |
//! | `POST /v1/jobs/{id}/rate` [`Rate`] | `{"said": …}` |
//! | `POST /v1/reload` | `{"said": …}` |
//! | `POST /v1/stop` | `{"said": …}`, as for a first signal; the daemon may end before it answers |

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::{job::JobId, status::Status};

/// The largest accepted body: a prompt of the largest size and some paths fit many times.
const MAX_BODY: usize = 1024 * 1024;

/// How many commands may wait for the loop; more are refused with "busy".
pub const COMMANDS: usize = 16;

/// A manual request for a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnceRequest {
    /// The project's name; optional if there is only one.
    pub project: Option<String>,
    /// A text instead of the project's prompt.
    pub prompt: Option<String>,
    /// The absolute path of a picture instead of the project's render.
    pub render: Option<PathBuf>,
    /// A seed instead of the configured choice.
    pub seed: Option<u64>,
    /// The absolute path of a folder for the artifacts instead of the project's public names.
    pub out: Option<PathBuf>,
    /// The work of an earlier job instead of all the above except `project`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// An earlier job whose work is requested again, as a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// The earlier job.
    pub job: JobId,
    /// How to repeat it.
    pub kind: AgainKind,
    /// The person accepts that the work of an `unknown` job may be charged twice.
    #[serde(default)]
    pub may_charge_twice: bool,
}

/// How to repeat a job's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgainKind {
    /// After a failure: its inputs and seeds with the current settings.
    Retry,
    /// Exactly the same request, whether or not its result is still in history.
    Rerun,
    /// Like [`Self::Retry`], but started automatically after a lost answer; not available
    /// through the API.
    #[serde(skip)]
    Resubmit,
    /// Like [`Self::Retry`], but started automatically on a free backend after a lost answer that
    /// may have been charged; not available through the API.
    #[serde(skip)]
    Free,
}

/// The artist's rating of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// 1 to 5.
    pub stars: u8,
    /// A comment; may be empty.
    #[serde(default)]
    pub note: String,
}

/// The result of a restore: an earlier job's artifacts are public again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What happened, as a sentence.
    pub said: String,
    /// The public files, image before mesh.
    pub files: Vec<PathBuf>,
}

/// A person's command to the loop; each is answered exactly once.
#[derive(Debug)]
pub enum Command {
    /// Start a job now.
    Once {
        /// What to make it from.
        request: OnceRequest,
        /// The job's id once it is in the ledger.
        reply: oneshot::Sender<Result<JobId, Refused>>,
    },
    /// Cancel a job.
    Cancel {
        /// The job.
        job: JobId,
        /// What was achieved, as a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// Make an earlier job's artifacts public again.
    Restore {
        /// The job.
        job: JobId,
        /// What was placed.
        reply: oneshot::Sender<Result<Restored, Refused>>,
    },
    /// Rate a result.
    Rate {
        /// The job.
        job: JobId,
        /// The rating.
        rate: Rate,
        /// The answer, as a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// Read the configuration again.
    Reload {
        /// What changed, as a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// Stop the daemon, for systems without signals.
    Stop {
        /// What happens to the jobs, as a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The kind of reason.
    pub kind: RefusedKind,
    /// What happened, whether money was involved, and what to do.
    pub message: String,
}

impl Refused {
    /// Creates a refusal.
    pub fn new(kind: RefusedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of refusal; each has its own exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedKind {
    /// The request itself is invalid.
    Usage,
    /// An input or a workflow cannot be used.
    BadInput,
    /// A given file does not exist.
    MissingInput,
    /// Not possible now: the budget, a limit, or too many requests.
    TryAgain,
    /// No backend can serve.
    Unavailable,
    /// The token is missing or was rejected.
    Token,
    /// The configuration does not allow it.
    Configuration,
    /// There is no such job or project.
    NotFound,
    /// A public file cannot be written.
    CannotWrite,
}

impl RefusedKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::BadInput | Self::MissingInput => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TryAgain => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::Configuration => StatusCode::SERVICE_UNAVAILABLE,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::CannotWrite => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(self)).into_response()
    }
}

/// The answer to a [`OnceRequest`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OnceReply {
    /// The job.
    pub job: JobId,
}

/// An answer as a sentence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// The sentence.
    pub said: String,
}

#[derive(Clone)]
struct Api {
    status: watch::Receiver<Arc<Status>>,
    commands: mpsc::Sender<Command>,
}

/// Returns the router of the API.
pub fn routes(status: watch::Receiver<Arc<Status>>, commands: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/once", post(once))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/restore", post(restore))
        .route("/v1/jobs/{id}/rate", post(rate))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api { status, commands })
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
    wait_ms: Option<u64>,
}

async fn show_status(State(mut api): State<Api>, Query(query): Query<After>) -> Response {
    if let Some(after) = query.after {
        let patience = Duration::from_millis(query.wait_ms.unwrap_or(25_000).min(60_000));
        // After a time-out, and while the daemon is stopping, the answer is the latest
        // known status.
        let newer = api.status.wait_for(|status| status.revision > after);
        drop(tokio::time::timeout(patience, newer).await);
    }
    let status = Arc::clone(&api.status.borrow());
    Json(&*status).into_response()
}

async fn once(
    State(api): State<Api>,
    Json(request): Json<OnceRequest>,
) -> Result<Json<OnceReply>, Refused> {
    let job = ask(&api, |reply| Command::Once { request, reply }).await?;
    Ok(Json(OnceReply { job }))
}

async fn cancel(State(api): State<Api>, Path(job): Path<String>) -> Result<Json<Said>, Refused> {
    let job = named(&job)?;
    let said = ask(&api, |reply| Command::Cancel { job, reply }).await?;
    Ok(Json(Said { said }))
}

async fn restore(
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<Restored>, Refused> {
    let job = named(&job)?;
    Ok(Json(ask(&api, |reply| Command::Restore { job, reply }).await?))
}

async fn rate(
    State(api): State<Api>,
    Path(job): Path<String>,
    Json(rate): Json<Rate>,
) -> Result<Json<Said>, Refused> {
    let job = named(&job)?;
    let said = ask(&api, |reply| Command::Rate { job, rate, reply }).await?;
    Ok(Json(Said { said }))
}

fn named(job: &str) -> Result<JobId, Refused> {
    job.parse().map_err(|error| Refused::new(RefusedKind::Usage, format!("{error}")))
}

async fn reload(State(api): State<Api>) -> Result<Json<Said>, Refused> {
    let said = ask(&api, |reply| Command::Reload { reply }).await?;
    Ok(Json(Said { said }))
}

async fn stop(State(api): State<Api>) -> Result<Json<Said>, Refused> {
    let said = ask(&api, |reply| Command::Stop { reply }).await?;
    Ok(Json(Said { said }))
}

async fn ask<T>(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command,
) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    api.commands.try_send(command(reply)).map_err(|_| {
        Refused::new(
            RefusedKind::TryAgain,
            "the daemon is busy or stopping; nothing was started. Try again in a moment",
        )
    })?;
    answer.await.map_err(|_| {
        Refused::new(
            RefusedKind::TryAgain,
            "the daemon stopped before it answered; `conjured jobs list` shows the result",
        )
    })?
}
