//! The account's one deployment, and a small part of the ComfyUI on its machines.
//!
//! Owns `GET` and `PATCH /prod/v2/deployments…` and the instance proxy's `history`, `view`,
//! `object_info` and `free`. Creating and deleting deployments is not simulated: there is always
//! exactly one.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, RawQuery, State},
    http::{HeaderMap, Response, StatusCode},
    routing::{any, get},
};
use serde_json::{Map, Value, json};

use conjured_domain::money::{BillingPlan, Tier};

use super::{
    graph::Graph,
    replies,
    request::Outcome,
    server::{ErrorReply, admit, answer_call, authenticate, count_call, respond},
    state::Shared,
};
use crate::{
    Settings,
    faults::Call,
    produce::Product,
    wire::{ConnectionHandle, raw},
};

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/prod/v2/deployments", get(list))
        .route("/prod/v2/deployments/{deployment}", get(show).patch(change))
        .route("/prod/v2/deployments/{deployment}/instances/{instance}/proxy/{*path}", any(proxy))
}

/// Builds the deployment's changeable members from the settings.
pub(crate) fn record(settings: &Settings) -> Map<String, Value> {
    let tier = conjured_domain::money::TIERS.iter().find(|tier| tier.hobby == settings.hourly);
    let members = json!({
        "name": "conjure-flux-mesh",
        "workflow_id": "simulated-workflow",
        "workflow_version": "v1",
        "hardware": [tier.map_or("AMPERE_48", |tier| tier.sku)],
        "min_instances": 0,
        "max_instances": settings.max_instances,
        "queue_size": settings.queue_size,
        "keep_warm_duration_in_seconds": settings.keep_warm.as_secs(),
    });
    members.as_object().cloned().unwrap_or_default()
}

/// Reads a query's values of `key`, which may be repeated or separated by commas.
fn values(query: Option<&str>, key: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == key)
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn shown(shared: &Shared, query: Option<&str>) -> Value {
    let (state, _) = shared.lock();
    let mut deployment = json!({"id": state.settings.deployment});
    for (key, value) in &state.record {
        deployment[key] = value.clone();
    }
    deployment["status"] = json!("standby");
    deployment["is_enabled"] = json!(state.enabled);
    let started = shared.civil(conjured_domain::time::Moment::default()).to_string();
    deployment["created_at"] = json!(started);
    deployment["updated_at"] = json!(started);
    let includes = values(query, "includes");
    if includes.iter().any(|part| part == "payload") && state.behaviour.tell_payload {
        let mut graph = Graph::saved().to_json();
        if let Some(nodes) = graph.as_object_mut() {
            nodes.retain(|id, _| !state.behaviour.payload_lacks.contains(id));
        }
        deployment["payload"] = json!({
            "workflow_api_json": graph,
            "overrides": {},
            "object_info_url": format!("{}/object_info.json", shared.storage_url),
        });
    }
    if includes.iter().any(|part| part == "readme") {
        deployment["readme"] = json!("# A simulated deployment\n");
    }
    deployment
}

async fn list(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Deployment);
    let reply = |shared: &Shared| {
        authenticate(shared, &headers)?;
        let ids = values(query.as_deref(), "ids");
        let only = shown(shared, query.as_deref());
        let wanted = ids.is_empty() || ids.iter().any(|id| only["id"] == *id);
        let list = if wanted { vec![only] } else { Vec::new() };
        Ok((StatusCode::OK, Value::Array(list)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn show(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(deployment): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Deployment);
    let reply = |shared: &Shared| {
        admit(shared, &headers, "v2", &deployment)?;
        Ok((StatusCode::OK, shown(shared, query.as_deref())))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

async fn change(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(deployment): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = count_call(&shared, Call::Deployment);
    let reply = |shared: &Shared| {
        admit(shared, &headers, "v2", &deployment)?;
        let changes: Map<String, Value> = serde_json::from_slice(&body)
            .map_err(|_| invalid_member("body", "Input should be an object"))?;
        apply(shared, &changes)?;
        Ok((StatusCode::OK, shown(shared, None)))
    };
    answer_call(&shared, &connection, fault.as_ref(), reply).await
}

fn invalid_member(member: &str, message: &str) -> ErrorReply {
    ErrorReply::invalid(&[json!({"type": "value_error", "loc": ["body", member], "msg": message})])
}

/// Changes the record. The documentation calls the update partial; the real service refuses one
/// without `name`.
fn apply(shared: &Shared, changes: &Map<String, Value>) -> Result<(), ErrorReply> {
    if !changes.get("name").is_some_and(Value::is_string) {
        return Err(invalid_member("name", "Field required"));
    }
    let hardware = changes.get("hardware").map(|value| {
        let skus = value.as_array().filter(|skus| skus.len() == 1);
        let sku = skus.and_then(|skus| skus[0].as_str());
        sku.and_then(|sku| conjured_domain::money::TIERS.iter().find(|tier| tier.sku == sku))
    });
    if hardware == Some(None) {
        return Err(invalid_member("hardware", "Exactly one known SKU is required"));
    }
    let number = |key: &str| match changes.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|value| u32::try_from(value).ok()) {
            Some(value) => Ok(Some(value)),
            None => Err(invalid_member(key, "Input should be a whole number from 0 on")),
        },
    };
    let (max, queue, warm) =
        (number("max_instances")?, number("queue_size")?, number("keep_warm_duration_in_seconds")?);
    number("min_instances")?;
    let (mut state, now) = shared.lock();
    // Everything up to now is computed under the old rules first.
    state.queue.awake(now);
    if let Some(max) = max {
        state.queue.plan.max_instances = max;
    }
    if let Some(size) = queue {
        state.queue.plan.queue_size = size;
    }
    if let Some(seconds) = warm {
        state.queue.plan.keep_warm = Duration::from_secs(seconds.into());
    }
    if let Some(Some(tier)) = hardware {
        state.settings.hourly = Tier::hourly(tier, BillingPlan::Hobby);
    }
    for (key, value) in changes {
        if let Some(member) = state.record.get_mut(key) {
            *member = value.clone();
        }
    }
    match changes.get("is_enabled").and_then(Value::as_bool) {
        Some(false) => state.disable(now),
        Some(true) => state.enabled = true,
        None => {}
    }
    Ok(())
}

async fn proxy(
    State(shared): State<Arc<Shared>>,
    Path((deployment, instance, path)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    count_call(&shared, Call::Deployment);
    if let Err(refusal) = admit(&shared, &headers, "v2", &deployment) {
        return respond(Err(refusal));
    }
    let (mut state, now) = shared.lock();
    if !state.is_awake(&instance, now) {
        return respond(Err(ErrorReply::not_found("Instance")));
    }
    let newest = state.newest_on(&instance);
    let path = path.strip_prefix("api/").unwrap_or(&path);
    match (path.split('/').next().unwrap_or_default(), newest) {
        // An empty answer, as from ComfyUI.
        ("free", _) => raw(StatusCode::OK, "text/plain", Bytes::new()),
        ("object_info", _) => respond(Ok((StatusCode::OK, Graph::saved().object_info()))),
        ("history", Some(at)) if state.outcome(at, now) == Outcome::Succeeded => {
            let id = state.request(at).id.clone();
            let outputs = replies::result(&shared, &mut state, at, now)["outputs"].take();
            let status = json!({"status_str": "success", "completed": true, "messages": []});
            respond(Ok((StatusCode::OK, json!({id: {"outputs": outputs, "status": status}}))))
        }
        ("history", _) => respond(Ok((StatusCode::OK, json!({})))),
        ("view", Some(at)) if state.outcome(at, now) == Outcome::Succeeded => {
            let name = values(query.as_deref(), "filename").pop().unwrap_or_default();
            let (product, kind) = match name.rsplit_once('.') {
                Some((_, "glb")) => (Product::Mesh, "model/gltf-binary"),
                _ => (Product::Image, "image/png"),
            };
            let content = state.content(at, product);
            raw(StatusCode::OK, kind, content.read(0, 256 << 20))
        }
        _ => raw(StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"404: Not Found")),
    }
}
