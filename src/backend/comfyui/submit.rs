//! The steps of a submit: look for the request, check what is missing, upload, send once, and read
//! the server's answer.
//!
//! Owns the order of the steps and the sorting of each answer into *not sent*, *refused* and
//! *unknown*. Every step before the POST of the graph can safely be repeated, so a failure there
//! means *not sent*. A lost answer to the POST itself means *unknown*, and the next submit with the
//! same key finds the request in the queue or in history instead of sending it again.

use bytes::Bytes;
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};

use super::{
    Comfyui, faults,
    queue::{self, QueueState, Run},
    wire::{MAX_ANSWER, Wire, access_denied, not_comfyui},
};
use crate::{
    backend::{
        CallError, FaultKind, ServiceFault, Submission, SubmitError,
        http::{
            answer::Answer,
            send::{self, SendFault},
        },
        work::{GraphPayload, Upload},
    },
    domain::job::RequestId,
    failpoint::{self, Point, Side},
};

const UPLOAD_REFUSED: &str = "ComfyUI did not accept the picture, so nothing ran. Check the render and the free space of the machine.";

impl Comfyui {
    /// Sends `work`, unless the server already has it.
    pub(super) async fn submit_graph(
        &self,
        submission: &Submission,
        work: &GraphPayload,
    ) -> Result<RequestId, SubmitError> {
        let key = &submission.key;
        if let Some(found) = self.find_submitted(key, work).await? {
            return Ok(found);
        }
        let missing = self.objects.check(&work.graph, &work.image, &self.wire).await;
        if let Some(fault) = missing.map_err(to_submit_error)? {
            return Err(SubmitError::Refused(fault));
        }
        // The socket is opened first, so that frames sent before the answer to the POST are
        // received as well.
        let mut watch = self.watches.take(key.as_str());
        let (uploaded, ()) =
            tokio::join!(self.upload(key, &work.picture), watch.connect(&self.wire));
        self.watches.put(watch);
        let graph = with_picture(work, &uploaded?);
        self.watches.note_sent(key.as_str());
        let sent = self.post_graph(key, &graph, work, true).await;
        if sent.is_err() {
            self.watches.end(key.as_str());
        }
        sent
    }

    /// Looks for our request in the queue, then in history. If it arrived, it is in exactly one
    /// of them.
    async fn find_submitted(
        &self,
        key: &RequestId,
        work: &GraphPayload,
    ) -> Result<Option<RequestId>, SubmitError> {
        match self.queue_state(key.as_str()).await.map_err(to_submit_error)? {
            QueueState::Running(run) | QueueState::Pending { run, .. } => {
                let id = RequestId::new(&run.id).unwrap_or_else(|| key.clone());
                if let Some(fault) = dropped_outputs(&run, work) {
                    self.cancel_useless_run(&id).await;
                    return Err(SubmitError::Refused(fault));
                }
                return Ok(Some(id));
            }
            QueueState::Absent => {}
        }
        let entry = self.entry(key.as_str()).await.map_err(to_submit_error)?;
        Ok(entry.map(|_| key.clone()))
    }

    /// Uploads the picture. Returns the name that the server gave it, which the loader node takes.
    async fn upload(&self, key: &RequestId, picture: &Upload) -> Result<String, SubmitError> {
        let boundary = format!("conjured-{key}");
        let request = self
            .wire
            .request(Method::POST, self.wire.url(&["upload", "image"]))
            .await
            .map_err(|reason| SubmitError::NotSent { reason, retry_after: None })?
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .timeout(self.submit_timeout)
            .body(form(&boundary, picture));
        let answer = self.wire.call(request, MAX_ANSWER).await.map_err(to_submit_error)?;
        if matches!(answer.status, 400 | 413 | 415) {
            let message = format!("ComfyUI did not accept the picture (HTTP {})", answer.status);
            return Err(SubmitError::Refused(faults::workflow(
                answer.status,
                message,
                UPLOAD_REFUSED,
            )));
        }
        let body = self.wire.json(&answer).map_err(to_submit_error)?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("name"), text("subfolder")) {
            ("", _) => Err(to_submit_error(CallError::Fault(not_comfyui()))),
            (name, "") => Ok(name.to_owned()),
            (name, folder) => Ok(format!("{folder}/{name}")),
        }
    }

    /// Sends the graph, exactly once. `is_named` sends our own id with it.
    async fn post_graph(
        &self,
        key: &RequestId,
        graph: &Map<String, Value>,
        work: &GraphPayload,
        is_named: bool,
    ) -> Result<RequestId, SubmitError> {
        let mut body = json!({ "prompt": graph, "client_id": key.as_str(), "extra_data": queue::marker(key.as_str()) });
        if is_named {
            body["prompt_id"] = key.as_str().into();
        }
        let request = self
            .wire
            .request(Method::POST, self.wire.url(&["prompt"]))
            .await
            .map_err(|reason| SubmitError::NotSent { reason, retry_after: None })?
            .header(CONTENT_TYPE, "application/json");
        let body = Bytes::from(body.to_string());
        let sent = send::post_once(request, body, self.submit_timeout, MAX_ANSWER).await;
        let answer = sent.map_err(|fault| match fault {
            SendFault::NotSent(reason) => {
                SubmitError::NotSent { reason: self.wire.no_answer(&reason), retry_after: None }
            }
            SendFault::Unknown(reason) => SubmitError::Unknown { reason: self.wire.line(&reason) },
        })?;
        failpoint::hit(Point::SubmitAnswer, Side::Before);
        let body: Value = answer
            .body
            .as_ref()
            .ok()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default();
        if is_named
            && answer.status == 400
            && body.pointer("/error/type") == Some(&"invalid_prompt_id".into())
        {
            // A server with other rules for ids rejected the request completely, so nothing runs.
            // Let the server choose the id; the marker sent with the graph is found in its queue.
            return Box::pin(self.post_graph(key, graph, work, false)).await;
        }
        self.classify_answer(key, &answer, &body, graph, work).await
    }

    /// Maps the answer to the graph to an outcome.
    async fn classify_answer(
        &self,
        key: &RequestId,
        answer: &Answer,
        body: &Value,
        graph: &Map<String, Value>,
        work: &GraphPayload,
    ) -> Result<RequestId, SubmitError> {
        let status = answer.status;
        match status {
            200..300 => {
                let id = body.get("prompt_id").and_then(Value::as_str).and_then(RequestId::new);
                let Some(id) = id else {
                    let reason = match &answer.body {
                        Ok(_) => "the answer of ComfyUI contains no id".to_owned(),
                        Err(reason) => self.wire.line(reason),
                    };
                    return Err(SubmitError::Unknown { reason });
                };
                let graph = Value::Object(graph.clone());
                match partial_refusal(body, &graph, work, &self.wire) {
                    None => Ok(id),
                    Some(fault) => {
                        self.cancel_useless_run(&id).await;
                        Err(SubmitError::Refused(fault))
                    }
                }
            }
            401 | 403 => Err(SubmitError::Refused(access_denied(status))),
            404 | 405 => Err(SubmitError::Refused(not_comfyui())),
            429 => Err(SubmitError::NotSent {
                reason: self.message_of(answer),
                retry_after: answer.retry_after,
            }),
            400..500 if status != 408 => {
                let graph = Value::Object(graph.clone());
                Err(SubmitError::Refused(faults::from_refusal(body, status, &graph, &self.wire)))
            }
            // The server's own code failed on the graph. The queue shows whether the request was
            // queued before that.
            500 => match self.find_submitted(key, work).await {
                Ok(Some(id)) => Ok(id),
                Ok(None) => Err(SubmitError::Refused(ServiceFault {
                    code: None,
                    status,
                    message: self.message_of(answer),
                    advice: "ComfyUI failed on the request and did not queue it; see its log. Restart it if this happens again.",
                    kind: FaultKind::Service,
                })),
                Err(_) => Err(SubmitError::Unknown { reason: self.message_of(answer) }),
            },
            _ => Err(SubmitError::Unknown { reason: self.message_of(answer) }),
        }
    }

    fn message_of(&self, answer: &Answer) -> String {
        format!("ComfyUI answered HTTP {}: {}", answer.status, self.wire.body_line(answer))
    }

    /// Cancels a run that would be useless. If that fails, it costs only time.
    async fn cancel_useless_run(&self, id: &RequestId) {
        let _ = self.cancel_run(id).await;
        self.watches.end(id.as_str());
    }
}

/// Converts an error from before the POST of the graph: nothing of the graph has been sent.
fn to_submit_error(error: CallError) -> SubmitError {
    match error {
        CallError::Transient { reason, retry_after } => {
            SubmitError::NotSent { reason, retry_after }
        }
        CallError::Fault(fault) => SubmitError::Refused(fault),
    }
}

/// Returns the graph with the name of the uploaded picture in it.
fn with_picture(work: &GraphPayload, name: &str) -> Map<String, Value> {
    let mut graph = work.graph.clone();
    let (node, input) = &work.image;
    let inputs = graph.get_mut(node).and_then(|node| node.get_mut("inputs"));
    if let Some(inputs) = inputs.and_then(Value::as_object_mut) {
        inputs.insert(input.clone(), name.into());
    }
    graph
}

/// Builds the multipart form. The name is made plain ASCII: the server does not decode it, so an
/// encoded space would be stored as `%20`.
fn form(boundary: &str, picture: &Upload) -> Bytes {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = picture.name.chars().map(plain).collect();
    let mime: String = picture.mime.chars().filter(char::is_ascii_graphic).collect();
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
         Content-Type: {mime}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(&picture.bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body.into()
}

/// Finds a refusal in a 200: an output node with invalid inputs is dropped, while the rest runs
/// and succeeds.
fn partial_refusal(
    body: &Value,
    graph: &Value,
    work: &GraphPayload,
    wire: &Wire,
) -> Option<ServiceFault> {
    let errors = body.get("node_errors")?.as_object()?;
    let is_bound =
        |id: &str| work.outputs.is_empty() || work.outputs.iter().any(|output| output == id);
    let concerns = |(id, report): &(&String, &Value)| {
        let dependent = report.get("dependent_outputs").and_then(Value::as_array);
        is_bound(id) || dependent.into_iter().flatten().filter_map(Value::as_str).any(is_bound)
    };
    let ours: Map<String, Value> =
        errors.iter().filter(concerns).map(|(id, report)| (id.clone(), report.clone())).collect();
    if ours.is_empty() {
        return None;
    }
    let message = faults::node_errors(&Value::Object(ours), graph, wire);
    Some(faults::workflow(200, message, faults::CHECK_WORKFLOW))
}

/// Finds the same in a request whose answer was lost: the queue lists the output nodes that remain.
fn dropped_outputs(run: &Run, work: &GraphPayload) -> Option<ServiceFault> {
    let kept = run.outputs.as_ref().filter(|kept| !kept.is_empty())?;
    let lost: Vec<&str> =
        work.outputs.iter().filter(|output| !kept.contains(output)).map(String::as_str).collect();
    (!lost.is_empty()).then(|| {
        let message =
            format!("ComfyUI dropped the output node {} of the request", lost.join(" and "));
        faults::workflow(200, message, faults::CHECK_WORKFLOW)
    })
}
