//! The daemon's own API: the calls of the command line to a running daemon, over a socket that only
//! its user can open.
//!
//! Owns the routes and their JSON. It makes no decisions: it gets a receiver of the status and a
//! sender of commands. It listens on a Unix socket in the state folder (0600); it opens no TCP port
//! that a browser could reach. A `POST` that cannot be carried out is answered with
//! [`CommandError`].
//!
//! | call | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`]; `?after=N` waits up to `wait_ms` (default 25 000) for a newer |
//! | `POST /v1/once` [`OnceRequest`] | `{"job": ID}` once the job is in the ledger |
//! | `POST /v1/jobs/{id}/cancel` | `{"said": …}` what the cancel achieved |
//! | `POST /v1/jobs/{id}/restore` | [`Restored`] once the files are public again |
//! | `POST /v1/jobs/{id}/rate` [`RatingRequest`] | `{"said": …}` |
//! | `POST /v1/reload` | `{"said": …}` |
//! | `POST /v1/stop` | `{"said": …}`, as for a first signal; the daemon may end before it answers |

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    daemon::services::command::{
        Command, CommandError, CommandErrorKind, OnceRequest, RatingRequest, Restored,
    },
    domain::{job::JobId, status::Status},
};

/// A body that is larger is refused: a prompt of the largest size and some paths fit many times.
const MAX_BODY: usize = 1024 * 1024;

impl CommandErrorKind {
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

impl IntoResponse for CommandError {
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

/// An answer in a sentence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageReply {
    /// The sentence.
    pub said: String,
}

#[derive(Clone)]
struct Api {
    status: watch::Receiver<Arc<Status>>,
    commands: mpsc::Sender<Command>,
}

/// Makes the routes.
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
struct NewerThan {
    after: Option<u64>,
    wait_ms: Option<u64>,
}

async fn show_status(State(mut api): State<Api>, Query(query): Query<NewerThan>) -> Response {
    if let Some(after) = query.after {
        let patience = Duration::from_millis(query.wait_ms.unwrap_or(25_000).min(60_000));
        // Both a time-out and a daemon on its way out are answered with what is known.
        let newer = api.status.wait_for(|status| status.revision > after);
        drop(tokio::time::timeout(patience, newer).await);
    }
    let status = Arc::clone(&api.status.borrow());
    Json(&*status).into_response()
}

async fn once(
    State(api): State<Api>,
    Json(request): Json<OnceRequest>,
) -> Result<Json<OnceReply>, CommandError> {
    let job = ask(&api, |reply| Command::Once { request, reply }).await?;
    Ok(Json(OnceReply { job }))
}

async fn cancel(
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<MessageReply>, CommandError> {
    let job = parse_job_id(&job)?;
    let said = ask(&api, |reply| Command::Cancel { job, reply }).await?;
    Ok(Json(MessageReply { said }))
}

async fn restore(
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<Restored>, CommandError> {
    let job = parse_job_id(&job)?;
    Ok(Json(ask(&api, |reply| Command::Restore { job, reply }).await?))
}

async fn rate(
    State(api): State<Api>,
    Path(job): Path<String>,
    Json(rate): Json<RatingRequest>,
) -> Result<Json<MessageReply>, CommandError> {
    let job = parse_job_id(&job)?;
    let said = ask(&api, |reply| Command::Rate { job, rate, reply }).await?;
    Ok(Json(MessageReply { said }))
}

fn parse_job_id(job: &str) -> Result<JobId, CommandError> {
    job.parse().map_err(|error| CommandError::new(CommandErrorKind::Usage, format!("{error}")))
}

async fn reload(State(api): State<Api>) -> Result<Json<MessageReply>, CommandError> {
    let said = ask(&api, |reply| Command::Reload { reply }).await?;
    Ok(Json(MessageReply { said }))
}

async fn stop(State(api): State<Api>) -> Result<Json<MessageReply>, CommandError> {
    let said = ask(&api, |reply| Command::Stop { reply }).await?;
    Ok(Json(MessageReply { said }))
}

async fn ask<T>(
    api: &Api,
    command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
) -> Result<T, CommandError> {
    let (reply, answer) = oneshot::channel();
    api.commands.try_send(command(reply)).map_err(|_| {
        CommandError::new(
            CommandErrorKind::TryAgain,
            "the daemon is busy or stopping; nothing was started. Try again in a moment",
        )
    })?;
    answer.await.map_err(|_| {
        CommandError::new(
            CommandErrorKind::TryAgain,
            "the daemon stopped before it answered; check the result with `conjured jobs list`",
        )
    })?
}
