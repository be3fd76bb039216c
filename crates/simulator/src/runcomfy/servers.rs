//! The Server API: `/prod/api/users/{user}/servers…`, and a ComfyUI for each machine.
//!
//! Owns the routes and their answers. A machine's ComfyUI ([`crate::comfyui`]) has an origin of its
//! own without any token, as in reality; when the machine is over, that ComfyUI is closed and its
//! connections break.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Response, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    machines::{Machine, Phase, TYPES},
    server::{ErrorReply, Reply, answer_call, authenticate, count_call, respond},
    state::Shared,
};
use crate::{
    comfyui::{self, Comfy},
    faults::{Call, Fault},
    wire::{ConnectionHandle, TransportFault},
};
use conjured_domain::time::Moment;

/// The longest duration that is accepted, in seconds.
const MAX_DURATION_S: u64 = 7 * 24 * 3600;

pub(crate) fn router() -> Router<Arc<Shared>> {
    const SERVERS: &str = "/prod/api/users/{user}/servers";
    Router::new()
        .route(SERVERS, get(list).post(launch))
        .route(&format!("{SERVERS}/{{server}}"), get(show).delete(stop))
        .route(&format!("{SERVERS}/{{server}}/update-estimated-duration"), post(extend))
        .route("/prod/api/users/{user}/workflows", get(workflows))
}

fn admit(shared: &Shared, headers: &HeaderMap, user: &str) -> Result<(), ErrorReply> {
    authenticate(shared, headers)?;
    shared.close_ended();
    let (mut state, now) = shared.lock();
    if user != state.settings.user {
        return Err(ErrorReply(
            StatusCode::FORBIDDEN,
            json!({"message": "You do not have access to this user"}),
        ));
    }
    if state.behaviour.limit_server_calls && !state.meter.allow(now) {
        state.counts.server_calls_refused += 1;
        return Err(ErrorReply(
            StatusCode::TOO_MANY_REQUESTS,
            json!({"error": "rate_limited", "message": "Too many requests"}),
        ));
    }
    Ok(())
}

fn record(shared: &Shared, machine: &Machine, user: &str, now: Moment) -> Value {
    let naive = |moment: Moment| {
        let text = shared.civil(moment).strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        Value::from(text)
    };
    let phase = machine.phase(now);
    let early = now < machine.launched.plus(Duration::from_secs(1));
    let word = match phase {
        Phase::Hidden | Phase::Starting if early => "Initializing",
        Phase::Hidden | Phase::Starting => "Starting",
        Phase::Ready => "Ready",
        Phase::Failed => "Error",
        Phase::Over => "Deleting",
    };
    let is_ready = phase == Phase::Ready;
    json!({
        "server_id": machine.id,
        "server_type": machine.server_type,
        "user_id": user,
        "workflow_version_id": machine.version,
        "estimated_duration": machine.duration.as_secs(),
        "main_service_url": is_ready.then_some(&machine.url),
        "current_status": word,
        "service_ready_at": machine.ready.filter(|_| is_ready).map(naive),
        "estimated_stopping_at": naive(machine.stops_at()),
    })
}

async fn list(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Servers);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &user)?;
        let (state, now) = shared.lock();
        let there = state.machines.iter().filter(|machine| machine.phase(now) != Phase::Over);
        let list: Vec<Value> = there.map(|machine| record(shared, machine, &user, now)).collect();
        Ok((StatusCode::OK, Value::Array(list)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn launch(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(user): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Launch);
    let mishap = TransportFault::of(fault.as_ref());
    let reply = if mishap.void || mishap.unread {
        Err(ErrorReply::not_found(""))
    } else {
        accept_launch(&shared, &headers, &user, &body).await
    };
    mishap.deliver(&connection, respond(reply)).await
}

async fn accept_launch(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    user: &str,
    body: &[u8],
) -> Reply {
    admit(shared, headers, user)?;
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let invalid = |key: &str, message: &str| {
        ErrorReply::invalid(&[json!({"loc": ["body", key], "msg": message})])
    };
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty());
    let version = text("workflow_version_id")
        .ok_or_else(|| invalid("workflow_version_id", "field required"))?;
    let kind = text("server_type").filter(|kind| TYPES.contains(kind));
    let kind = kind.ok_or_else(|| invalid("server_type", "not a valid server type"))?;
    let seconds = body["estimated_duration"].as_u64().filter(|s| (1..=MAX_DURATION_S).contains(s));
    let seconds = seconds.ok_or_else(|| invalid("estimated_duration", "out of range"))?;
    let settings = {
        let (state, _) = shared.lock();
        let listen = std::net::SocketAddr::new(state.settings.listen.ip(), 0);
        comfyui::Settings { listen, run: state.settings.run, ..comfyui::Settings::default() }
    };
    let comfy = Comfy::begin(settings).await.map_err(|_| {
        ErrorReply::new(StatusCode::INTERNAL_SERVER_ERROR, 500_001, "no machine is free")
    })?;
    let url = comfy.url();
    let answer = {
        let (mut state, now) = shared.lock();
        let id = state.next_machine();
        let faults = state.orders.in_a_machine();
        let start = state.settings.machine_start;
        let machine = Machine {
            id: id.clone(),
            server_type: kind.to_owned(),
            version: version.to_owned(),
            launched: now,
            known: now.plus(state.settings.machine_unknown),
            ready: (!faults.contains(&Fault::NeverReady)).then(|| now.plus(start)),
            fails: faults.contains(&Fault::MachineFails),
            duration: Duration::from_secs(seconds),
            stopped: None,
            url,
        };
        state.counts.launches += 1;
        state.machines.push(machine.clone());
        drop(state);
        shared.add_comfy(id, comfy);
        record(shared, &machine, user, now)
    };
    Ok((StatusCode::OK, answer))
}

/// Finds a machine and applies a function to it.
fn with<T>(
    shared: &Shared,
    id: &str,
    act: impl FnOnce(&mut Machine, Moment) -> T,
) -> Result<T, ErrorReply> {
    let (mut state, now) = shared.lock();
    let found = state.machines.iter_mut().find(|machine| machine.id == id);
    let there = found.filter(|machine| !matches!(machine.phase(now), Phase::Hidden | Phase::Over));
    there.map(|machine| act(machine, now)).ok_or_else(|| ErrorReply::not_found("Server"))
}

async fn show(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((user, server)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Server);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &user)?;
        let (machine, now) = with(shared, &server, |machine, now| (machine.clone(), now))?;
        Ok((StatusCode::OK, record(shared, &machine, &user, now)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn extend(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((user, server)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Extend);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &user)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let key = "update_estimated_duration";
        let seconds = body[key].as_u64().filter(|s| (1..=MAX_DURATION_S).contains(s));
        let seconds = seconds.ok_or_else(|| {
            ErrorReply::invalid(&[json!({"loc": ["body", key], "msg": "out of range"})])
        })?;
        let (machine, now) = with(shared, &server, |machine, now| {
            machine.duration = Duration::from_secs(seconds);
            (machine.clone(), now)
        })?;
        Ok((StatusCode::OK, record(shared, &machine, &user, now)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn stop(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((user, server)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Stop);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &user)?;
        let (machine, now) = with(shared, &server, |machine, now| {
            machine.stopped = Some(now);
            (machine.clone(), now)
        })?;
        shared.close_ended();
        Ok((StatusCode::OK, record(shared, &machine, &user, now)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn workflows(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Servers);
    let reply = |shared: &Shared| {
        admit(shared, &headers, &user)?;
        let at = shared.civil(Moment::default()).to_string();
        Ok((
            StatusCode::OK,
            json!([{"workflow_id": "simulated-workflow", "workflow_name": "conjure-flux-mesh",
                "version_id": "simulated-version", "created_at": at, "updated_at": at}]),
        ))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}
