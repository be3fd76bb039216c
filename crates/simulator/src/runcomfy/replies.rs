//! The content of the queue's answers: the JSON of submit, status, result and cancel.
//!
//! Owns the members and their order, for every switch of [`crate::behaviour`] and every fault of a
//! run. Whether a call is allowed is decided before, in [`super::server`].

use jiff::{Timestamp, tz};
use serde_json::{Map, Value, json};

use conjured_domain::time::Moment;

use super::{
    graph::OutputNode,
    queue::{Cancelled, Phase},
    request::{Outcome, Request},
    state::{Shared, State},
};
use crate::{
    behaviour::{Behaviour, CancelShape, ErrorShape, Timestamps},
    faults::{BadRequestId, Fault, OddPosition},
    produce::{Product, Spoiled},
};

/// The parts of a request's URLs: the origin, `/prod/v…` and the deployment.
pub(crate) struct Address<'a> {
    /// `http://host:port/prod/v2/deployments/{deployment}`.
    pub(crate) deployment: String,
    /// The request's id.
    pub(crate) request: &'a str,
}

impl Address<'_> {
    fn of(&self, call: &str) -> String {
        format!("{}/requests/{}/{call}", self.deployment, self.request)
    }
}

/// Builds the answer to an accepted submit.
pub(crate) fn submitted(address: &Address<'_>, bad: Option<BadRequestId>) -> Value {
    let mut reply = json!({
        "request_id": address.request,
        "status_url": address.of("status"),
        "result_url": address.of("result"),
        "cancel_url": address.of("cancel"),
    });
    match bad {
        Some(BadRequestId::Missing) => {
            reply.as_object_mut().map(|members| members.shift_remove("request_id"));
        }
        Some(BadRequestId::Blank) => reply["request_id"] = json!("  "),
        Some(BadRequestId::Numeric) => reply["request_id"] = json!(42),
        Some(BadRequestId::PathLike) => reply["request_id"] = json!("../../elsewhere"),
        Some(BadRequestId::Null) => reply["request_id"] = Value::Null,
        None => {}
    }
    reply
}

/// Builds the answer to a status call.
pub(crate) fn status(
    state: &mut State,
    at: usize,
    now: Moment,
    address: &Address<'_>,
    fault: Option<&Fault>,
) -> Value {
    let phase = state.phase(at, now);
    let ended = matches!(phase, Phase::Ended { .. });
    let outcome = state.outcome(at, now);
    let behaviour = &state.behaviour;
    let failed_word = behaviour.failed_on_status || state.request(at).has(&Fault::FailedOnStatus);
    let word = match outcome {
        Outcome::Queued => "in_queue",
        Outcome::Running => "in_progress",
        Outcome::Cancelled => behaviour.cancelled_word.name(),
        // The result may be available before the status reports it.
        Outcome::Succeeded | Outcome::Failed if !ended => "in_progress",
        Outcome::Failed if failed_word => "failed",
        Outcome::Succeeded | Outcome::Failed => "completed",
    };
    let word = match fault {
        Some(Fault::StatusWord(word)) => word,
        _ => word,
    };
    let mut reply = json!({
        "request_id": address.request,
        "status": word,
        "status_url": address.of("status"),
        "result_url": address.of("result"),
    });
    if let Phase::Waiting { position } = phase {
        match fault {
            Some(Fault::QueuePosition(OddPosition::Zero)) => reply["queue_position"] = json!(0),
            Some(Fault::QueuePosition(OddPosition::Null)) => reply["queue_position"] = Value::Null,
            Some(Fault::QueuePosition(OddPosition::Absent)) => {}
            _ => reply["queue_position"] = json!(position),
        }
    } else if let Some(instance) = state.instance(at) {
        if state.behaviour.tell_log {
            reply["log_url"] =
                json!(format!("https://cdn.runcomfy.com/logs/{instance}/comfyui.txt"));
        }
        if state.behaviour.tell_instance {
            reply["instance_id"] = json!(instance);
        }
    }
    if state.request(at).has(&Fault::UnknownMembers) {
        reply["progress_hint"] = json!({"stage": ["a", 1, null]});
    }
    reply
}

/// Builds the answer to a result call, whether the request has ended or not.
pub(crate) fn result(shared: &Shared, state: &mut State, at: usize, now: Moment) -> Value {
    let phase = state.phase(at, now);
    let outcome = state.outcome(at, now);
    let written = |moment| timestamp(shared.civil(moment), state.behaviour.timestamps);
    let request = state.request(at);
    let word = match outcome {
        Outcome::Cancelled => state.behaviour.cancelled_word.name(),
        other => other.name(),
    };
    let mut reply = json!({
        "request_id": request.id,
        "status": word,
        "created_at": written(request.created),
    });
    match outcome {
        Outcome::Queued | Outcome::Running => return reply,
        Outcome::Succeeded => {
            reply["outputs"] = outputs(&shared.storage_url, request, &state.behaviour);
        }
        Outcome::Failed => reply["error"] = error(request, &state.behaviour),
        Outcome::Cancelled => {}
    }
    let finished = match phase {
        Phase::Ended { at, .. } => at,
        Phase::Waiting { .. } | Phase::Running { .. } => now,
    };
    reply["finished_at"] = written(finished);
    if let Some(instance) = state.instance(at).filter(|_| state.behaviour.tell_instance) {
        reply["instance_id"] = json!(instance);
    }
    if request.has(&Fault::UnknownMembers) {
        reply["usage"] = json!({"gpu_seconds": 12.5, "notes": [null, {"a": []}]});
    }
    reply
}

/// Builds the answer to a cancel call.
pub(crate) fn cancelled(what: Cancelled, request: &str, shape: CancelShape) -> Value {
    let (status, outcome) = match (what, shape) {
        (Cancelled::Promised, CancelShape::A) => ("cancellation_requested", None),
        (Cancelled::Refused, CancelShape::A) => ("not_cancellable", None),
        (Cancelled::Promised, CancelShape::B) => ("completed", Some("cancelled")),
        (Cancelled::Refused, CancelShape::B) => ("completed", Some("not_cancellable")),
    };
    let mut reply = json!({"request_id": request, "status": status});
    if let Some(outcome) = outcome {
        reply["outcome"] = json!(outcome);
    }
    reply
}

fn timestamp(at: Timestamp, form: Timestamps) -> Value {
    let zoned = match form {
        Timestamps::Naive | Timestamps::Zulu => at.to_zoned(tz::TimeZone::UTC),
        Timestamps::Offset => at.to_zoned(tz::Offset::constant(2).to_time_zone()),
    };
    let tail = match form {
        Timestamps::Naive => "",
        Timestamps::Zulu => "Z",
        Timestamps::Offset => "+02:00",
    };
    json!(format!("{}{tail}", zoned.strftime("%Y-%m-%dT%H:%M:%S.%6f")))
}

fn error(request: &Request, behaviour: &Behaviour) -> Value {
    let (code, message) = request.failure.clone().unwrap_or_default();
    let ordered = request.faults.iter().find_map(|fault| match fault {
        Fault::RunFails { shape, .. } => *shape,
        _ => None,
    });
    match ordered.unwrap_or(behaviour.error_shape) {
        ErrorShape::List => {
            json!([{"errorCode": code, "error": message, "debugInfo": "simulated"}])
        }
        ErrorShape::Object => json!({"type": message, "message": format!("{message} ({code})")}),
        ErrorShape::Text => json!(format!("{message} ({code})")),
        ErrorShape::Messages => json!([{"message": message, "details": "simulated"}]),
    }
}

fn outputs(storage: &str, request: &Request, behaviour: &Behaviour) -> Value {
    let mut nodes = Map::new();
    let has = |fault: &Fault| request.has(fault);
    let previews = behaviour.previews || has(&Fault::TempPreviews);
    let channel = request.faults.iter().find_map(|fault| match fault {
        Fault::MeshChannel(channel) => Some(channel.as_str()),
        _ => None,
    });
    let channel = channel.unwrap_or(&behaviour.mesh_channel);
    let images = request.work.images.iter().map(|node| (node, Product::Image, "images"));
    let meshes = request.work.meshes.iter().map(|node| (node, Product::Mesh, channel));
    for (node, product, channel) in images.chain(meshes) {
        if has(&Fault::NodeMissing(product)) {
            continue;
        }
        let mut items = Vec::new();
        if previews && product == Product::Image {
            let preview =
                OutputNode { stem: format!("{}_temp_preview", node.stem), ..node.clone() };
            items.push(item(storage, request, &preview, product, "temp"));
        }
        items.push(item(storage, request, node, product, "output"));
        nodes.insert(node.node.clone(), json!({channel: items}));
        if product == Product::Image && has(&Fault::EqualNames) {
            let twin = OutputNode { subfolder: "other".to_owned(), ..node.clone() };
            nodes.insert(
                "9".to_owned(),
                json!({"images": [item(storage, request, &twin, product, "output")]}),
            );
        }
    }
    if previews {
        let node = OutputNode {
            node: "25".to_owned(),
            subfolder: String::new(),
            stem: "depth_preview".to_owned(),
        };
        let shown = json!({"images": [item(storage, request, &node, Product::Image, "temp")]});
        // First in the list, where it misleads a client that takes the first picture.
        nodes.shift_insert(0, node.node, shown);
    }
    if has(&Fault::ColonIds) {
        let node = OutputNode {
            node: "38:42".to_owned(),
            subfolder: String::new(),
            stem: "inner".to_owned(),
        };
        let inner = item(storage, request, &node, Product::Image, "output");
        nodes.shift_insert(0, node.node, json!({"pano_output_images": [inner]}));
    }
    if has(&Fault::NestedText) {
        nodes.insert("50:1".to_owned(), json!({"text": [["a caption", ["deeper"]], "plain"]}));
    }
    if has(&Fault::UnknownMembers) {
        nodes.insert(
            "60".to_owned(),
            json!({"animated": [false], "numbers": [1, 2.5, null], "nothing": {}}),
        );
    }
    Value::Object(nodes)
}

fn item(
    storage: &str,
    request: &Request,
    node: &OutputNode,
    product: Product,
    kind: &str,
) -> Value {
    let plain = match product {
        Product::Image => "png",
        Product::Mesh => "glb",
    };
    let extension =
        request.spoiled(product).map_or(plain, |spoiled: Spoiled| spoiled.extension(product));
    let filename = format!("{}_00001_.{extension}", node.stem);
    let folder =
        if node.subfolder.is_empty() { String::new() } else { format!("{}/", node.subfolder) };
    let mut item = json!({
        "url": format!("{storage}/deployment_requests/{}/{kind}/{folder}{filename}", request.id),
        "filename": filename,
        "subfolder": node.subfolder,
        "type": kind,
    });
    if kind == "output" {
        for fault in &request.faults {
            match fault {
                Fault::ProductUrl { product: of, url } if *of == product => {
                    item["url"] = json!(url);
                }
                Fault::ItemWithoutUrl(of) if *of == product => {
                    item.as_object_mut().map(|members| members.shift_remove("url"));
                }
                _ => {}
            }
        }
    }
    if request.has(&Fault::UnknownMembers) {
        item["sha"] = json!({"kind": null});
    }
    item
}
