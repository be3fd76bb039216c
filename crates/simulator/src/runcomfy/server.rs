//! The API's origin: the routes of the queue and of the account, and access to them.
//!
//! Owns authentication, ownership, and the order in which the checks of a call fail. The content of
//! the answers is [`super::replies`]'s, their delivery [`crate::wire`]'s. What is not built
//! (webhooks, the Model API) is answered with 404 like any wrong address.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    billing::{Admission, gate},
    control, deployments, intake,
    replies::{self, Address},
    request::Outcome,
    servers,
    state::Shared,
};
use crate::{
    behaviour::RunningCancel,
    faults::{Call, Fault},
    wire::{ConnectionHandle, TransportFault, answer},
};

/// The largest body that is read. The real limit is unknown; a submit with a picture is below 2 MB.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The answer of a handler: a status with JSON, or a refusal.
pub(crate) type Reply = Result<(StatusCode, Value), ErrorReply>;

/// An answer that refuses the call.
#[derive(Debug, PartialEq)]
pub(crate) struct ErrorReply(pub(super) StatusCode, pub(super) Value);

impl ErrorReply {
    /// Creates the usual refusal: a code and a sentence.
    pub(crate) fn new(status: StatusCode, code: u32, message: &str) -> Self {
        Self(status, json!({"error_code": code, "error_message": message}))
    }

    /// Creates the refusal for something that does not exist.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, 404_001, &format!("{what} not found"))
    }

    /// Creates the refusal for an invalid body.
    pub(crate) fn invalid(detail: &[Value]) -> Self {
        let message = "Request validation failed";
        let body = json!({"error_code": 422_001, "error_message": message, "detail": detail});
        Self(StatusCode::UNPROCESSABLE_ENTITY, body)
    }
}

/// Turns a reply into the response for the client.
pub(crate) fn respond(reply: Reply) -> Response<Body> {
    let (status, body) = reply.unwrap_or_else(|ErrorReply(status, body)| (status, body));
    answer(status, &body)
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/prod/{version}/deployments/{deployment}/inference", post(submit))
        .route("/prod/{version}/deployments/{deployment}/requests/{request}/status", get(status))
        .route("/prod/{version}/deployments/{deployment}/requests/{request}/result", get(result))
        .route(
            "/prod/{version}/deployments/{deployment}/requests/{request}/cancel",
            post(cancel_request),
        )
        .route("/prod/v2/balance", get(balance))
        .merge(deployments::router())
        .merge(servers::router())
        .nest("/_control", control::router())
        .fallback(not_found)
        .layer(axum::middleware::map_response_with_state(Arc::clone(&shared), dated))
        .with_state(shared)
}

/// Sets the `Date` of an answer to the service's own time, where it differs from this machine's.
async fn dated(State(shared): State<Arc<Shared>>, mut response: Response<Body>) -> Response<Body> {
    let (state, now) = shared.lock();
    let ahead = jiff::SignedDuration::from_secs(state.behaviour.clock_ahead_s);
    drop(state);
    let theirs = shared.civil(now).checked_add(ahead);
    // Without this, the HTTP library writes the machine's time.
    if !ahead.is_zero()
        && let Ok(date) = theirs
        && let Ok(text) =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date)
        && let Ok(text) = text.parse()
    {
        response.headers_mut().insert(header::DATE, text);
    }
    response
}

async fn not_found() -> Response<Body> {
    respond(Err(ErrorReply::not_found("Resource")))
}

/// Checks that a call carries the token.
pub(crate) fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<(), ErrorReply> {
    let (mut state, _) = shared.lock();
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = given.and_then(|value| value.split_once(' '));
    let known = bearer.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && token.trim() == state.token && !state.revoked
    });
    if known {
        return Ok(());
    }
    state.counts.unauthorized += 1;
    Err(ErrorReply::new(StatusCode::UNAUTHORIZED, 401_001, "Invalid or missing API token"))
}

/// Checks that a call carries the token and names the account's own deployment.
pub(crate) fn admit(
    shared: &Shared,
    headers: &HeaderMap,
    version: &str,
    deployment: &str,
) -> Result<(), ErrorReply> {
    if !matches!(version, "v1" | "v2") {
        return Err(ErrorReply::not_found("Resource"));
    }
    authenticate(shared, headers)?;
    let (state, _) = shared.lock();
    if deployment == state.settings.deployment {
        Ok(())
    } else if deployment == state.settings.foreign_deployment {
        // As observed: no code, only a message.
        let message = "You do not have access to this deployment";
        Err(ErrorReply(StatusCode::FORBIDDEN, json!({"message": message})))
    } else {
        Err(ErrorReply::not_found("Deployment"))
    }
}

async fn submit(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((version, deployment)): Path<(String, String)>,
    request: Request,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Submit);
    let mishap = TransportFault::of(fault.as_ref());
    if mishap.unread {
        return mishap.deliver(&connection, respond(Err(ErrorReply::not_found("")))).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        // Too large, or cut off by the client: nothing was accepted.
        let message = "Request body too large or incomplete";
        return respond(Err(ErrorReply::new(StatusCode::PAYLOAD_TOO_LARGE, 413_000, message)));
    };
    let reply = if mishap.void {
        Err(ErrorReply::not_found(""))
    } else {
        accept_submit(&shared, &parts.headers, &version, &deployment, &body, fault.as_ref())
    };
    mishap.deliver(&connection, respond(reply)).await
}

fn accept_submit(
    shared: &Shared,
    headers: &HeaderMap,
    version: &str,
    deployment: &str,
    body: &[u8],
    fault: Option<&Fault>,
) -> Reply {
    admit(shared, headers, version, deployment)?;
    let behaviour = shared.lock().0.behaviour.clone();
    // Decoding the picture takes milliseconds, so it is not done under the lock.
    let work = intake::read(body, &behaviour).map_err(|detail| ErrorReply::invalid(&detail))?;
    let (mut state, now) = shared.lock();
    let refused = StatusCode::from_u16(behaviour.gate_status).unwrap_or(StatusCode::FORBIDDEN);
    let balance = state.balance(now);
    match gate(state.enabled, balance) {
        Admission::Open => {}
        Admission::OutOfFunds => {
            state.disable(now);
            return Err(ErrorReply::new(refused, 10001, "InsufficientFunds: deployment disabled"));
        }
        Admission::Disabled => return Err(ErrorReply::new(refused, 10002, "DisabledDeployment")),
    }
    let at = state.accept(work, now);
    let address = request_urls(shared, version, deployment, &state.request(at).id);
    let bad = match fault {
        Some(Fault::RequestId(bad)) => Some(*bad),
        _ => None,
    };
    Ok((StatusCode::OK, replies::submitted(&address, bad)))
}

fn request_urls<'a>(
    shared: &Shared,
    version: &str,
    deployment: &str,
    request: &'a str,
) -> Address<'a> {
    let deployment = format!("{}/prod/{version}/deployments/{deployment}", shared.api_url);
    Address { deployment, request }
}

/// Counts a call and takes its fault; a revocation takes effect at once.
pub(crate) fn count_call(shared: &Shared, call: Call) -> Option<Fault> {
    let fault = shared.take_fault(call);
    if fault == Some(Fault::TokenRevoked) {
        shared.lock().0.revoked = true;
    }
    fault
}

type RequestPath = Path<(String, String, String)>;

async fn status(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((version, deployment, request)): RequestPath,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Status);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &version, &deployment)?;
        let (mut state, now) = shared.lock();
        let found = state.find(&request, Call::Status, now);
        let at = found.ok_or_else(|| ErrorReply::not_found("Request"))?;
        let address = request_urls(shared, &version, &deployment, &request);
        Ok((StatusCode::OK, replies::status(&mut state, at, now, &address, fault.as_ref())))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn result(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((version, deployment, request)): RequestPath,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Result);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &version, &deployment)?;
        let (mut state, now) = shared.lock();
        let found = state.find(&request, Call::Result, now);
        let at = found.ok_or_else(|| ErrorReply::not_found("Request"))?;
        let open = matches!(state.outcome(at, now), Outcome::Queued | Outcome::Running);
        if open && state.request(at).has(&Fault::Result400005) {
            return Err(ErrorReply::new(StatusCode::BAD_REQUEST, 400_005, "Result is not ready"));
        }
        Ok((StatusCode::OK, replies::result(shared, &mut state, at, now)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn cancel_request(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((version, deployment, request)): RequestPath,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Cancel);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &version, &deployment)?;
        let (mut state, now) = shared.lock();
        let found = state.find(&request, Call::Cancel, now);
        let at = found.ok_or_else(|| ErrorReply::not_found("Request"))?;
        let grace = match state.behaviour.running_cancel {
            RunningCancel::EndsAfter { ms } => Some(Duration::from_millis(ms)),
            RunningCancel::CompletesAnyway => Some(Duration::MAX),
            RunningCancel::Refused => None,
        };
        let what = state.cancel(at, now, grace);
        let body = replies::cancelled(what, &request, state.behaviour.cancel_shape);
        Ok((StatusCode::ACCEPTED, body))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn balance(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Balance);
    let reply = |shared: &Shared| {
        authenticate(shared, &headers)?;
        let (mut state, now) = shared.lock();
        let left = state.balance(now).0;
        #[expect(
            clippy::cast_precision_loss,
            reason = "the service itself tells dollars as a float"
        )]
        let dollars = left as f64 / 1e6;
        Ok((
            StatusCode::OK,
            json!({"balance_usd": dollars, "balance_microdollars": left, "currency": "USD"}),
        ))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

/// Computes the answer to a call, unless its fault makes the call void, and delivers it as the
/// fault wants.
pub(crate) async fn answer_call(
    shared: &Shared,
    connection: &ConnectionHandle,
    fault: Option<&Fault>,
    reply: impl FnOnce(&Shared) -> Reply,
) -> Response<Body> {
    let mishap = TransportFault::of(fault);
    let normal = if mishap.void { Err(ErrorReply::not_found("")) } else { reply(shared) };
    mishap.deliver(connection, respond(normal)).await
}
