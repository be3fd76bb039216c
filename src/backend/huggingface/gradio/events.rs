//! The meaning of a call's events, in both of Gradio's protocols.
//!
//! Owns the event names and the shapes of their data. Neither protocol reliably ends its stream,
//! and a success may lack the requested output: [`crate::backend::huggingface::run`] owns what the
//! outputs are worth.

use std::time::Duration;

use serde_json::Value;

use super::sse::Frame;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::backend::huggingface) enum SpaceEvent {
    /// The call waits in the queue.
    Queued {
        /// How many calls are ahead of this one.
        position: Option<u64>,
        /// The expected waiting time.
        wait: Option<Duration>,
    },
    Started {
        /// The expected duration.
        takes: Option<Duration>,
    },
    /// The progress of the function.
    Progress {
        /// The app's description; empty if there is none.
        doing: String,
        /// The current step and the number of steps.
        step: Option<(u64, u64)>,
    },
    /// A message of the app to its users.
    Log(String),
    /// A heartbeat, or an event that does not concern us.
    Heartbeat,
    /// The call is done; these are its outputs.
    Done(Vec<Value>),
    Cancelled,
    /// The app failed, with its text; empty if it gave none.
    Failed(String),
    /// The result is lost, or never existed.
    Lost(String),
}

/// Longer than any call. A longer estimate is invalid.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;

fn parse_seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = value?.as_f64().filter(|seconds| (0.0..MAX_SECONDS).contains(seconds))?;
    Some(Duration::from_secs_f64(seconds))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads an event of the queue protocol. `ours` is the id of our call; the stream may contain
/// events of other calls.
pub(in crate::backend::huggingface) fn of_queue(frame: &Frame, ours: &str) -> SpaceEvent {
    let Ok(body) = serde_json::from_str::<Value>(&frame.data) else { return SpaceEvent::Heartbeat };
    let theirs = body.get("event_id").and_then(Value::as_str);
    if theirs.is_some_and(|id| id != ours) {
        return SpaceEvent::Heartbeat;
    }
    match body.get("msg").and_then(Value::as_str).unwrap_or_default() {
        "estimation" => {
            let position = body.get("rank").and_then(Value::as_u64);
            SpaceEvent::Queued { position, wait: parse_seconds(body.get("rank_eta")) }
        }
        "process_starts" => SpaceEvent::Started { takes: parse_seconds(body.get("eta")) },
        "progress" => progress(&body),
        "log" => SpaceEvent::Log(text(body.get("log"))),
        "process_completed" => completed(&body),
        "unexpected_error" => SpaceEvent::Lost(text(body.get("message"))),
        // `process_completed` normally comes first. If it did not, nothing more will come.
        "close_stream" => {
            SpaceEvent::Lost("the stream was closed before the call was done".to_owned())
        }
        _ => SpaceEvent::Heartbeat,
    }
}

fn progress(body: &Value) -> SpaceEvent {
    // Nested progress comes as a list. The last entry is the innermost.
    let entry = body.get("progress_data").and_then(Value::as_array).and_then(|list| list.last());
    let Some(entry) = entry else { return SpaceEvent::Heartbeat };
    let whole = |key: &str| {
        let value = entry.get(key)?;
        value.as_u64().or_else(|| {
            // Some apps count in floats.
            let number = value.as_f64().filter(|number| (0.0..1e15).contains(number))?;
            format!("{number:.0}").parse().ok()
        })
    };
    let counted = whole("index").zip(whole("length")).filter(|(_, of)| *of > 0);
    let share =
        entry.get("progress").and_then(Value::as_f64).filter(|share| (0.0..=1.0).contains(share));
    let percent = share
        .and_then(|share| format!("{:.0}", share * 100.0).parse().ok())
        .map(|done| (done, 100));
    SpaceEvent::Progress { doing: text(entry.get("desc")), step: counted.or(percent) }
}

/// `success` alone is not enough: a cancelled call ends with success and an output without data.
fn completed(body: &Value) -> SpaceEvent {
    let output = body.get("output");
    let is_success = body.get("success").and_then(Value::as_bool).unwrap_or(false);
    if !is_success {
        return SpaceEvent::Failed(app_message(output.and_then(|output| output.get("error"))));
    }
    match output.and_then(|output| output.get("data")).and_then(Value::as_array) {
        Some(data) => SpaceEvent::Done(data.clone()),
        None => SpaceEvent::Cancelled,
    }
}

/// Reads an event of the simple protocol.
pub(in crate::backend::huggingface) fn of_call(frame: &Frame) -> SpaceEvent {
    let data = serde_json::from_str::<Value>(&frame.data).unwrap_or_default();
    match frame.event.as_str() {
        "complete" => match data {
            Value::Array(outputs) => SpaceEvent::Done(outputs),
            _ => SpaceEvent::Failed("the call finished, but its output is not a list".to_owned()),
        },
        "error" => match &data {
            Value::String(text) if text.starts_with("404") => SpaceEvent::Lost(text.clone()),
            Value::String(_) => SpaceEvent::Failed(app_message(Some(&data))),
            _ => SpaceEvent::Failed(app_message(data.get("error"))),
        },
        // The first results of a generator. The last ones come with `complete`.
        "generating" => SpaceEvent::Started { takes: None },
        _ => SpaceEvent::Heartbeat,
    }
}

/// Returns an app's text. Gradio 4 adds another pair of quotes; HTML tags are meant for its page.
fn app_message(error: Option<&Value>) -> String {
    let said = text(error);
    let said = said.trim();
    let unquoted =
        ['\'', '"'].iter().find_map(|quote| said.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut out = String::new();
    let mut rest = unquoted.unwrap_or(said);
    // `<a href=…>`: an HTML tag starts with a letter or a slash, a comparison does not.
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let is_tag = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        rest = match tag.find('>').filter(|_| is_tag) {
            Some(end) => &tag[end + 1..],
            None => {
                out.push('<');
                &tag[1..]
            }
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn queue(body: &Value) -> SpaceEvent {
        of_queue(&Frame { event: String::new(), data: body.to_string() }, "e1")
    }

    fn call(event: &str, data: &str) -> SpaceEvent {
        of_call(&Frame { event: event.to_owned(), data: data.to_owned() })
    }

    #[test]
    fn every_message_of_the_queue_is_understood() {
        let table = [
            (
                json!({"msg": "estimation", "event_id": "e1", "rank": 2, "queue_size": 3, "rank_eta": 1.5}),
                SpaceEvent::Queued { position: Some(2), wait: Some(Duration::from_millis(1500)) },
            ),
            (
                json!({"msg": "estimation", "rank": 0, "rank_eta": null}),
                SpaceEvent::Queued { position: Some(0), wait: None },
            ),
            (
                json!({"msg": "process_starts", "event_id": "e1", "eta": 9}),
                SpaceEvent::Started { takes: Some(Duration::from_secs(9)) },
            ),
            (json!({"msg": "process_starts", "eta": -1}), SpaceEvent::Started { takes: None }),
            (
                json!({"msg": "progress", "progress_data": [{"index": 1, "length": 2, "desc": "outer"}, {"index": 7, "length": 28, "unit": "steps", "progress": null, "desc": "Denoising"}]}),
                SpaceEvent::Progress { doing: "Denoising".to_owned(), step: Some((7, 28)) },
            ),
            (
                json!({"msg": "progress", "progress_data": [{"index": null, "length": null, "progress": 0.421, "desc": null}]}),
                SpaceEvent::Progress { doing: String::new(), step: Some((42, 100)) },
            ),
            (json!({"msg": "progress", "progress_data": null}), SpaceEvent::Heartbeat),
            (
                json!({"msg": "log", "log": "slow today", "level": "warning"}),
                SpaceEvent::Log("slow today".to_owned()),
            ),
            (json!({"msg": "heartbeat"}), SpaceEvent::Heartbeat),
            (json!({"msg": "a_new_one"}), SpaceEvent::Heartbeat),
            (
                json!({"msg": "process_generating", "success": true, "output": {"data": [1]}}),
                SpaceEvent::Heartbeat,
            ),
            (
                json!({"msg": "process_completed", "success": true, "output": {"data": [null, 7]}}),
                SpaceEvent::Done(vec![json!(null), json!(7)]),
            ),
            (
                json!({"msg": "process_completed", "success": true, "output": {}}),
                SpaceEvent::Cancelled,
            ),
            (
                json!({"msg": "process_completed", "success": false, "output": {"error": "too big"}}),
                SpaceEvent::Failed("too big".to_owned()),
            ),
            (
                json!({"msg": "process_completed", "success": false, "output": {"error": "'too big'"}}),
                SpaceEvent::Failed("too big".to_owned()),
            ),
            (
                json!({"msg": "process_completed", "success": false, "output": {"error": null}}),
                SpaceEvent::Failed(String::new()),
            ),
            (
                json!({"msg": "unexpected_error", "message": "404: Session not found.", "success": false, "session_not_found": true}),
                SpaceEvent::Lost("404: Session not found.".to_owned()),
            ),
            (
                json!({"msg": "process_completed", "event_id": "another", "success": true, "output": {"data": []}}),
                SpaceEvent::Heartbeat,
            ),
        ];
        for (body, event) in table {
            assert_eq!(queue(&body), event, "{body}");
        }
        assert!(matches!(
            queue(&json!({"msg": "close_stream", "event_id": null})),
            SpaceEvent::Lost(_)
        ));
    }

    #[test]
    fn every_event_of_the_simple_protocol_is_understood_in_every_version() {
        let failed = |text: &str| SpaceEvent::Failed(text.to_owned());
        let table = [
            (
                "complete",
                "[{\"path\": \"/a\"}, 7]",
                SpaceEvent::Done(vec![json!({"path": "/a"}), json!(7)]),
            ),
            ("error", "null", failed("")),
            (
                "error",
                "{\"error\": \"no GPU\", \"duration\": 10, \"visible\": true, \"title\": \"Error\"}",
                failed("no GPU"),
            ),
            ("error", "{\"error\": null}", failed("")),
            (
                "error",
                "\"404: Session not found.\"",
                SpaceEvent::Lost("404: Session not found.".to_owned()),
            ),
            ("error", "\"404: Not Found\"", SpaceEvent::Lost("404: Not Found".to_owned())),
            ("heartbeat", "null", SpaceEvent::Heartbeat),
            ("generating", "[1]", SpaceEvent::Started { takes: None }),
            ("later", "x", SpaceEvent::Heartbeat),
        ];
        for (event, data, expected) in table {
            assert_eq!(call(event, data), expected, "{event} {data}");
        }
        assert!(matches!(call("complete", "null"), SpaceEvent::Failed(_)));
    }

    #[test]
    fn an_apps_words_lose_the_markup_of_its_page_and_keep_their_comparisons() {
        let error = json!("<b>quota</b> 60s < 90s. <a style=\"x\" href=\"/u\">Log in</a> <3");
        assert_eq!(app_message(Some(&error)), "quota 60s < 90s. Log in <3");
    }

    proptest! {
        #[test]
        fn no_data_panics(event: String, data: String) {
            let frame = Frame { event, data };
            let _ = (of_call(&frame), of_queue(&frame, "e"), app_message(Some(&Value::from(frame.data.as_str()))));
        }
    }
}
