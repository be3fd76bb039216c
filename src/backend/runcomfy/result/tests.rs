//! Every documented and every odd result, as data.

use bytes::Bytes;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::{
    backend::{
        FaultKind,
        http::{answer::Answer, message::TextSanitizer},
        runcomfy::wire::tests::json as any_json,
    },
    domain::time::WallTime,
};

fn read(status: u16, body: &Value) -> Result<RunResult, CallError> {
    let sanitizer = TextSanitizer::new(SecretString::from("t0ken"));
    let body = Ok(Bytes::from(body.to_string()));
    result(&Reply::open(Answer { status, retry_after: None, date: None, body }, &sanitizer))
}

fn succeeded(body: &Value) -> Vec<RemoteFile> {
    match read(200, body) {
        Ok(RunResult::Succeeded { files, .. }) => files,
        other => panic!("{body}: {other:?}"),
    }
}

fn failed(body: &Value) -> (Option<u32>, FaultKind, String) {
    match read(200, body) {
        Ok(RunResult::Failed { fault, .. }) => (fault.code, fault.kind, fault.message),
        other => panic!("{body}: {other:?}"),
    }
}

/// Returns the node, channel, file name and type of each file in a short form.
fn short(files: &[RemoteFile]) -> Vec<String> {
    let line = |file: &RemoteFile| {
        format!("{}/{}/{}/{}", file.node, file.channel, file.filename, file.file_type)
    };
    files.iter().map(line).collect()
}

#[test]
fn the_composed_example_of_the_reference_is_read_whole() {
    let body = json!({
        "request_id": "R", "status": "succeeded",
        "created_at": "2025-09-15T12:00:00.250000", "finished_at": "2025-09-15T12:01:10.500000+00:00",
        "outputs": {
            "24": {"images": [{"url": "https://s.runcomfy.net/R/output/a_00001_.png", "filename": "a_00001_.png", "subfolder": "", "type": "output"}]},
            "33": {"3d": [{"url": "https://s.runcomfy.net/R/output/mesh/c.glb", "filename": "c.glb", "subfolder": "mesh", "type": "output"}]},
            "38:42": {"text": [["a string", "https://s.runcomfy.net/not-a-file.png"]]}
        }
    });
    let Ok(RunResult::Succeeded { files, times }) = read(200, &body) else {
        panic!("it succeeded")
    };
    assert_eq!(short(&files), ["24/images/a_00001_.png/output", "33/3d/c.glb/output"]);
    assert_eq!(files[1].url, "https://s.runcomfy.net/R/output/mesh/c.glb");
    let at = |millis: i64| Some(WallTime::from_unix_millis(1_757_937_600_000 + millis));
    assert_eq!(times, RunTimes { created_at: at(250), finished_at: at(70_500) });
}

#[test]
fn every_object_with_a_url_counts_and_nothing_else() {
    let file = |name: &str, kind: &str| json!({"url": format!("https://h/{name}"), "filename": name, "type": kind});
    let table = [
        (
            json!({"1": {"gifs": [file("a.webp", "output")], "videos": [file("b.mp4", "output")]}}),
            vec!["1/gifs/a.webp/output", "1/videos/b.mp4/output"],
        ),
        (json!({"1": {"images": [file("p.png", "temp")]}}), vec!["1/images/p.png/temp"]),
        (
            json!({"38:42": {"pano_output_images": [file("x.png", "output")]}}),
            vec!["38:42/pano_output_images/x.png/output"],
        ),
        (
            json!({"1": {"images": [{"filename": "no-url.png"}, {"url": ""}, {"url": 7}, {"url": null}]}}),
            vec![],
        ),
        (json!({"1": {"images": file("alone.png", "")}}), vec!["1/images/alone.png/"]),
        (json!({"1": {"x": [[[file("deep.glb", "output")]]]}}), vec!["1/x/deep.glb/output"]),
        (
            json!({"1": {"x": [{"inner": {"file": file("in.glb", "output")}}]}}),
            vec!["1/x/in.glb/output"],
        ),
        (json!({"1": file("bare.png", "output")}), vec!["1//bare.png/output"]),
        (json!({"1": [file("list.png", "output")]}), vec!["1//list.png/output"]),
        (
            json!([file("l.png", "output"), {"node_id": "33", "3d": [file("m.glb", "output")]}]),
            vec!["//l.png/output", "33/3d/m.glb/output"],
        ),
        (
            json!({"9": {"images": [file("same.png", "output")]}, "24": {"images": [file("same.png", "output")]}}),
            vec!["9/images/same.png/output", "24/images/same.png/output"],
        ),
        (
            json!({"1": {"images": [{"url": "https://h/n", "name": "by-name.png"}]}}),
            vec!["1/images/by-name.png/"],
        ),
        (
            json!({"1": null, "2": 5, "3": "https://h/x.png", "4": {"images": "https://h/y.png"}}),
            vec![],
        ),
        (json!({}), vec![]),
        (json!(null), vec![]),
    ];
    for (outputs, expected) in table {
        let files = succeeded(&json!({"status": "succeeded", "outputs": outputs.clone()}));
        assert_eq!(short(&files), expected, "{outputs}");
    }
}

#[test]
fn the_output_member_of_other_products_serves_when_outputs_is_empty() {
    let table = [
        (json!({"output": "https://h/a/lora.png?x=1"}), vec!["//lora.png/"]),
        (
            json!({"output": ["https://h/1.png", "words", 7, "https://h/2.glb"]}),
            vec!["//1.png/", "//2.glb/"],
        ),
        (json!({"output": {"url": "https://h/3.png"}}), vec!["///"]),
        (json!({"outputs": {}, "output": "https://h/4.png"}), vec!["//4.png/"]),
        (
            json!({"outputs": {"1": {"i": [{"url": "https://h/5.png"}]}}, "output": "https://h/6.png"}),
            vec!["1/i//"],
        ),
        (json!({"output": "just words"}), vec![]),
    ];
    for (body, expected) in table {
        let mut whole = body.clone();
        whole["status"] = "succeeded".into();
        assert_eq!(short(&succeeded(&whole)), expected, "{body}");
    }
}

#[test]
fn a_flood_of_files_or_depth_is_bounded() {
    let many: Vec<Value> =
        (0..5000).map(|n| json!({"url": format!("https://h/{n}.png")})).collect();
    assert_eq!(
        succeeded(&json!({"status": "succeeded", "outputs": {"1": {"images": many}}})).len(),
        MAX_FILES
    );
    let deep = (0..60).fold(json!({"url": "https://h/x.png"}), |inner, _| json!([inner]));
    assert!(
        succeeded(&json!({"status": "succeeded", "outputs": {"1": {"images": deep}}})).is_empty()
    );
    let long = json!({"url": format!("https://h/{}", "x".repeat(MAX_URL))});
    assert!(
        succeeded(&json!({"status": "succeeded", "outputs": {"1": {"images": [long]}}})).is_empty()
    );
}

#[test]
fn asking_early_is_pending() {
    let queued = Phase::Queued { position: None };
    let table = [
        (200, json!({"status": "in_queue", "created_at": "2025-09-15T12:00:00"}), queued.clone()),
        (200, json!({"status": "in_progress"}), Phase::Running),
        (202, json!({"status": "cancellation_requested"}), Phase::Running),
        (200, json!({"status": "dreaming"}), queued),
        (400, json!({"error_code": 400_005, "message": "not ready"}), Phase::Running),
        (200, json!({"error_code": "400005"}), Phase::Running),
    ];
    for (status, body, phase) in table {
        assert_eq!(read(status, &body).expect("pending"), RunResult::Pending(phase), "{body}");
    }
}

#[test]
fn every_shape_of_an_error_gives_its_code_and_words() {
    use FaultKind::{Account, Service, Workflow};
    let table = [
        (
            json!([{"errorCode": 10011, "error": "node 33 raised", "debugInfo": "line 7"}]),
            Some(10_011),
            Workflow,
            "node 33 raised: line 7",
        ),
        (
            json!([{"errorCode": "10009", "error": "bad input"}]),
            Some(10_009),
            Workflow,
            "bad input",
        ),
        (
            json!([{"message": "out of memory", "details": "CUDA"}]),
            None,
            Service,
            "out of memory: CUDA",
        ),
        (json!(["one", "two"]), None, Service, "one; two"),
        (
            json!([{"error": "first"}, {"code": 10012, "error": "second"}]),
            Some(10_012),
            Service,
            "first; second",
        ),
        (
            json!({"type": "ComfyUIExecutionError", "message": "boom"}),
            Some(10_011),
            Workflow,
            "boom",
        ),
        (json!({"type": "weird", "message": "boom"}), None, Service, "boom"),
        (json!("just words with t0ken"), None, Service, "just words with [token]"),
        (json!({"error_code": 10001}), Some(10_001), Account, "InsufficientFunds (10001)"),
        (json!([{"errorCode": 10010, "error": "?"}]), Some(10_010), Service, "?"),
        (json!([]), None, Service, "HTTP 200 without a message"),
        (json!(null), None, Service, "HTTP 200 without a message"),
        (json!(17), None, Service, "HTTP 200 without a message"),
    ];
    for (error, code, kind, message) in table {
        let body = json!({"status": "failed", "error": error.clone()});
        assert_eq!(failed(&body), (code, kind, message.to_owned()), "{error}");
    }
    assert_eq!(failed(&json!({"status": "FAILED"})).1, Service);
    assert_eq!(failed(&json!({"status": "error", "error_code": 10008})).0, Some(10_008));
    assert_eq!(failed(&json!({"status": "failed", "message": "top words"})).2, "top words");
}

#[test]
fn a_failed_run_keeps_the_files_it_made() {
    let body = json!({"status": "failed", "error": "mesh", "finished_at": "2025-09-15T12:00:00Z",
        "outputs": {"24": {"images": [{"url": "https://h/a.png"}]}}});
    let Ok(RunResult::Failed { files, times, .. }) = read(200, &body) else { panic!("it failed") };
    assert_eq!((files.len(), times.finished_at.is_some()), (1, true));
}

#[test]
fn completed_leaves_the_outcome_to_the_rest_of_the_body() {
    let file = json!({"1": {"images": [{"url": "https://h/a.png"}]}});
    assert_eq!(succeeded(&json!({"status": "completed", "outputs": file.clone()})).len(), 1);
    assert_eq!(
        succeeded(&json!({"status": "completed", "outputs": file.clone(), "error": []})).len(),
        1
    );
    assert_eq!(
        succeeded(&json!({"status": "succeeded", "outputs": file.clone(), "error": "a warning"}))
            .len(),
        1
    );
    assert_eq!(failed(&json!({"status": "completed", "error": "boom"})).2, "boom");
    assert_eq!(failed(&json!({"status": "succeeded", "error_code": 10006})).0, Some(10_006));
    assert_eq!(succeeded(&json!({"outputs": file})).len(), 1, "a status may be missing");
    assert_eq!(failed(&json!({"error": "boom"})).2, "boom");
}

#[test]
fn either_spelling_of_cancelled_is_cancelled() {
    for word in ["canceled", "cancelled", "CANCELLED"] {
        let body = json!({"status": word, "finished_at": "2025-09-15T12:00:00Z"});
        let ended = read(200, &body).expect("ended");
        assert!(matches!(ended, RunResult::Cancelled { times } if times.finished_at.is_some()));
    }
}

#[test]
fn a_verdict_in_place_of_a_result_ends_the_run_only_if_it_is_about_the_run() {
    let table = [
        (200, json!({"error_code": 10_011, "message": "x"}), "failed"),
        (500, json!({"error_code": 10_012}), "failed"),
        (400, json!({"error_code": 10_008}), "failed"),
        (200, json!({"error_code": 10_001}), "Account"),
        (403, json!({"message": "x"}), "Account"),
        (401, json!({}), "Token"),
        (404, json!({"error_code": 404_001}), "Gone"),
        (200, json!({"error_code": 10_006}), "passing"),
        (200, json!({"error_code": 10_000}), "passing"),
        (500, json!({}), "passing"),
        (502, json!({}), "passing"),
        (200, json!({}), "passing"),
        (200, json!([]), "passing"),
        (200, json!("words"), "passing"),
        (200, json!({"outputs": {}}), "passing"),
    ];
    for (status, body, expected) in table {
        let said = match read(status, &body) {
            Ok(RunResult::Failed { .. }) => "failed".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(CallError::Transient { .. }) => "passing".to_owned(),
            Err(CallError::Fault(fault)) => format!("{:?}", fault.kind),
        };
        assert_eq!(said, expected, "{status} {body}");
    }
}

proptest! {
    #[test]
    fn no_json_panics_and_every_file_has_a_url(status in 100_u16..600, body in any_json(), outputs in any_json()) {
        let wrapped = json!({"status": "succeeded", "outputs": outputs});
        for body in [&body, &wrapped] {
            if let Ok(RunResult::Succeeded { files, .. }) = read(status, body) {
                prop_assert!(files.iter().all(|file| !file.url.is_empty()));
                prop_assert!(files.len() <= MAX_FILES);
            }
        }
    }
}
