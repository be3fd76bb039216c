//! Makes and cancels calls of a Space's functions.
//!
//! Owns the content of a call in both protocols, and the difference between the first call, which
//! decides the outcome of the submit, and the next one, which only this process waits for. A full
//! queue is an answer to the first and a delay for the next.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire;
use crate::backend::{
    CallError, SubmitError,
    http::send::SendFault,
    huggingface::{
        Spaces, arguments, errors,
        run::{CallTicket, Run, RunStage, ShownProgress},
        to_submit_error,
    },
};

/// How long a Space may take to accept the cancel of a call that we no longer wait for.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum number of failed attempts to pass the picture on, or to call the next function.
const MAX_FAILURES: u32 = 6;

/// The delay after a full queue, if the Space does not name one.
const FULL_QUEUE_PAUSE: Duration = Duration::from_secs(10);

/// Whether the next step can follow immediately.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::huggingface) enum Progression {
    /// It can.
    Continue,
    /// Nothing more to do until the next `observe`.
    Idle,
}

impl Spaces {
    /// Makes the first call, which decides the outcome of the submit.
    pub(in crate::backend::huggingface) async fn join_first(
        &self,
        run: &Run,
        path: &str,
        title: &str,
    ) -> Result<CallTicket, SubmitError> {
        let (path, body, session) = self.call(run, path).map_err(to_submit_error)?;
        let sent = self.wire.post_once(run.space().at(&path), &body).await;
        let reply = sent.map_err(|fault| match fault {
            SendFault::NotSent(reason) => SubmitError::NotSent { reason, retry_after: None },
            SendFault::Unknown(reason) => SubmitError::Unknown { reason },
        })?;
        if let Some(ticket) = reply.success().and_then(|body| ticket(body, session, run)) {
            return Ok(ticket);
        }
        match (errors::answer_problem(&reply, title, self.wire.has_token()), reply.status) {
            // A full queue, a rate limit, or an app that is down: nothing was queued.
            (error, 300..500 | 503) => Err(to_submit_error(error)),
            (error, _) => Err(SubmitError::Unknown { reason: error.to_string() }),
        }
    }

    pub(in crate::backend::huggingface) fn data(
        &self,
        run: &Run,
        image: &str,
    ) -> Result<Vec<Value>, CallError> {
        let title = self.title(run.part.side());
        let function = run.space().function(run.part.function());
        let function = function.ok_or_else(|| {
            errors::incompatible_space(format!(
                "{title} no longer offers a function that is needed"
            ))
        })?;
        let data = arguments::build_data(function, &run.arguments(image), &title)?;
        Ok(if run.space().joins { arguments::data_with_state(function, data) } else { data })
    }

    /// Returns the path of a call, its body and its session.
    fn call(&self, run: &Run, image: &str) -> Result<(String, Value, Option<String>), CallError> {
        let data = self.data(run, image)?;
        if !run.space().joins {
            // Without a session: with one, the result could not be read.
            return Ok((format!("/call/{}", run.part.function()), json!({"data": data}), None));
        }
        let session = wire::new_session_name();
        let index = run.space().function(run.part.function()).map_or(0, |function| function.index);
        let body = json!({"data": data, "fn_index": index, "session_hash": session, "event_data": null, "trigger_id": null});
        Ok(("/queue/join".to_owned(), body, Some(session)))
    }

    pub(in crate::backend::huggingface) async fn join_next(
        &self,
        run: &mut Run,
        image: &str,
        failures: u32,
        title: &str,
    ) -> Result<Progression, CallError> {
        let (path, body, session) = self.call(run, image)?;
        let body = Bytes::from(body.to_string());
        let sent = self
            .wire
            .post(run.space().at(&path), "application/json", body, self.settings.call_timeout)
            .await;
        let error = match &sent {
            Ok(reply) => {
                if let Some(ticket) = reply.success().and_then(|body| ticket(body, session, run)) {
                    run.stage = RunStage::Joined(ticket);
                    run.shown = ShownProgress::waiting();
                    return Ok(Progression::Continue);
                }
                if reply.is_queue_full() || reply.status == 429 {
                    let wait = reply.retry_after.unwrap_or(FULL_QUEUE_PAUSE);
                    let not_before = Instant::now() + wait;
                    run.shown = ShownProgress::waiting_because(&reply.message());
                    run.stage = RunStage::Join { image: image.to_owned(), not_before, failures };
                    return Ok(Progression::Idle);
                }
                errors::answer_problem(reply, title, self.wire.has_token())
            }
            // Whether it arrived is not important: the next call has its own session, and neither
            // call costs anything.
            Err(reason) => wire::unreachable_error(title, reason),
        };
        match error {
            CallError::Transient { reason, .. } if failures + 1 >= MAX_FAILURES => {
                Err(CallError::Fault(errors::lost(reason)))
            }
            error => {
                run.stage = RunStage::Join {
                    image: image.to_owned(),
                    not_before: Instant::now(),
                    failures: failures + 1,
                };
                Err(error)
            }
        }
    }

    pub(in crate::backend::huggingface) async fn send_cancel(
        &self,
        run: &Run,
        ticket: &CallTicket,
        session: &str,
        patience: Duration,
        title: &str,
    ) -> Result<(), CallError> {
        let body =
            json!({"session_hash": session, "fn_index": ticket.function, "event_id": ticket.event});
        let body = Bytes::from(body.to_string());
        let sent =
            self.wire.post(run.space().at("/cancel"), "application/json", body, patience).await;
        let reply = sent.map_err(|reason| wire::unreachable_error(title, &reason))?;
        match reply.success() {
            Some(_) => Ok(()),
            None => Err(errors::answer_problem(&reply, title, self.wire.has_token())),
        }
    }

    /// Cancels a call that we no longer wait for, because it would otherwise run before our next
    /// one. Errors are ignored.
    pub(in crate::backend::huggingface) async fn abandon(&self, run: &Run) {
        let (RunStage::Joined(ticket) | RunStage::Listening(ticket, _)) = &run.stage else {
            return;
        };
        let Some(session) = &ticket.session else { return };
        let title = self.title(run.part.side());
        let _ = self.send_cancel(run, ticket, session, ABANDON_TIMEOUT, &title).await;
    }
}

/// Reads the answer to a call.
fn ticket(body: &Value, session: Option<String>, run: &Run) -> Option<CallTicket> {
    let event = body.get("event_id").and_then(Value::as_str)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = (1..=200).contains(&event.len()) && event.chars().all(plain);
    let function = run.space().function(run.part.function())?.index;
    fits.then(|| CallTicket { session, event: event.to_owned(), function })
}
