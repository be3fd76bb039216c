//! The control path, `/_control/…` on the API's origin: what [`crate::Simulator`] can do, offered
//! to other processes.
//!
//! Owns the translation from JSON and nothing else. It asks for no token: the simulator is a tool
//! for the loopback interface. [`super`] lists the calls with examples.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Response, StatusCode},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use conjured_domain::money::MicroUsd;

use super::{
    server::{ErrorReply, Reply, respond},
    state::Shared,
};
use crate::{behaviour::Behaviour, faults::Order};

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/stats", get(stats))
        .route("/faults", get(faults).post(order).delete(clear))
        .route("/behaviour", get(behaviour).patch(behave))
        .route("/advance", post(advance))
        .route("/balance", post(balance))
        .route("/token", post(token))
        .route("/reset", post(reset))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorReply> {
    serde_json::from_slice(body)
        .map_err(|fault| ErrorReply(StatusCode::BAD_REQUEST, json!({"message": fault.to_string()})))
}

#[expect(clippy::unnecessary_wraps, reason = "it ends handlers, whose other ends are refusals")]
fn shown(value: &impl Serialize) -> Reply {
    // Only maps with non-string keys fail to serialize, and there are none.
    Ok((StatusCode::OK, serde_json::to_value(value).unwrap_or_default()))
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response<Body> {
    respond(shown(&shared.stats()))
}

async fn faults(State(shared): State<Arc<Shared>>) -> Response<Body> {
    respond(shown(&shared.lock().0.orders.open()))
}

/// One order or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Orders {
    Many(Vec<Value>),
    One(Value),
}

async fn order(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    respond(add_orders(&shared, &body))
}

fn add_orders(shared: &Shared, body: &[u8]) -> Reply {
    let values = match read(body)? {
        Orders::Many(values) => values,
        Orders::One(value) => vec![value],
    };
    let parsed = values.into_iter().map(serde_json::from_value::<Order>);
    // All or nothing: a list with one mistake must not be applied in part.
    let orders = parsed.collect::<Result<Vec<_>, _>>().map_err(|fault| {
        ErrorReply(StatusCode::BAD_REQUEST, json!({"message": fault.to_string()}))
    })?;
    let (mut state, _) = shared.lock();
    for order in orders {
        if !state.orders.add(order) {
            let message = "too many open orders";
            return Err(ErrorReply(StatusCode::CONFLICT, json!({"message": message})));
        }
    }
    shown(&state.orders.open())
}

async fn clear(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let (mut state, _) = shared.lock();
    state.orders.clear();
    respond(shown(&state.orders.open()))
}

async fn behaviour(State(shared): State<Arc<Shared>>) -> Response<Body> {
    respond(shown(&shared.lock().0.behaviour))
}

async fn behave(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    respond(merge(&shared, &body))
}

fn merge(shared: &Shared, body: &[u8]) -> Reply {
    let changes: serde_json::Map<String, Value> = read(body)?;
    let (mut state, _) = shared.lock();
    let mut merged = serde_json::to_value(&state.behaviour).unwrap_or_default();
    for (key, value) in changes {
        merged[key] = value;
    }
    let merged: Behaviour = serde_json::from_value(merged).map_err(|fault| {
        ErrorReply(StatusCode::BAD_REQUEST, json!({"message": fault.to_string()}))
    })?;
    state.behaviour = merged;
    shown(&state.behaviour)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    ms: u64,
}

async fn advance(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    respond(read(&body).and_then(|Advance { ms }| {
        shared.lock().0.advance(Duration::from_millis(ms));
        shown(&json!({}))
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balance {
    micro_usd: i64,
}

async fn balance(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    respond(read(&body).and_then(|Balance { micro_usd }| {
        let (mut state, now) = shared.lock();
        state.set_balance(MicroUsd(micro_usd), now);
        shown(&json!({}))
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

async fn token(State(shared): State<Arc<Shared>>, body: Bytes) -> Response<Body> {
    respond(read(&body).and_then(|Token { token }| {
        shared.lock().0.set_token(token);
        shown(&json!({}))
    }))
}

async fn reset(State(shared): State<Arc<Shared>>) -> Response<Body> {
    shared.lock().0.reset();
    respond(shown(&json!({})))
}
