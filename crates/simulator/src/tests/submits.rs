//! Tests of what can go wrong with a submit, and whether a run was left behind: the question that
//! costs money.

use super::*;
use faults::BadRequestId;

const fn http(status: u16) -> Fault {
    Fault::Http { status, retry_after: None, body: None, accepted: false }
}

#[tokio::test(start_paused = true)]
async fn ambiguous_answers_leave_a_run_behind() {
    let bench = Bench::new().await;
    bench.simulator.order(Fault::AcceptThenDrop);
    assert!(bench.post(&body(1)).await.is_err(), "no answer at all");
    bench.simulator.order(Fault::InvalidJson);
    let broken = bench.post(&body(1)).await.expect("an answer");
    assert!(serde_json::from_slice::<Value>(&broken.body).is_err());
    bench.simulator.order(Fault::EmptyObject);
    assert_eq!(bench.post(&body(1)).await.expect("an answer").json(), json!({}));
    bench.simulator.order(Fault::HtmlBody);
    let page = bench.post(&body(1)).await.expect("an answer");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    let ids = [
        (BadRequestId::Missing, None),
        (BadRequestId::Blank, Some(json!("  "))),
        (BadRequestId::Numeric, Some(json!(42))),
        (BadRequestId::PathLike, Some(json!("../../elsewhere"))),
        (BadRequestId::Null, Some(Value::Null)),
    ];
    for (bad, expected) in ids {
        bench.simulator.order(Fault::RequestId(bad));
        let reply = bench.post(&body(1)).await.expect("an answer").json();
        assert_eq!(reply.get("request_id"), expected.as_ref());
    }
    bench.simulator.order(Fault::Http {
        status: 502,
        retry_after: None,
        body: None,
        accepted: true,
    });
    assert_eq!(bench.post(&body(1)).await.expect("an answer").status, 502);
    let stats = bench.simulator.stats();
    assert_eq!((stats.submits, stats.accepted), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn refusals_leave_nothing_behind() {
    let bench = Bench::new().await;
    bench.simulator.order(Fault::DropBeforeReading);
    assert!(bench.post(&body(1)).await.is_err());
    for status in [402, 422, 429, 500, 502, 503, 504] {
        bench.simulator.order(http(status));
        assert_eq!(bench.post(&body(1)).await.expect("an answer").status, status);
    }
    let retry_after = Some("7".to_owned());
    bench.simulator.order(Fault::Http {
        status: 429,
        retry_after,
        body: Some("{}".into()),
        accepted: false,
    });
    let busy = bench.post(&body(1)).await.expect("an answer");
    assert_eq!((busy.header("retry-after"), busy.json()), (Some("7"), json!({})));
    bench.simulator.order(Fault::OkWithErrorCode { code: 10000 });
    let polite = bench.post(&body(1)).await.expect("an answer");
    assert_eq!((polite.status, &polite.json()["error_code"]), (200, &json!(10000)));
    let stats = bench.simulator.stats();
    assert_eq!((stats.submits, stats.accepted), (10, 0));
    assert_eq!(bench.post(&body(1)).await.expect("an answer").status, 200, "and then it works");
}

#[tokio::test(start_paused = true)]
async fn overrides_that_do_not_fit_are_refused_with_details_or_ignored() {
    let bench = Bench::new().await;
    let wrong = br#"{"overrides":{"41":{"inputs":{"text":"a"}},"9999":{"inputs":{}}}}"#;
    let refused = bench.post(wrong).await.expect("an answer");
    assert_eq!((refused.status, &refused.json()["error_code"]), (422, &json!(422_001)));
    let detail = refused.json()["detail"].as_array().expect("a list").clone();
    assert_eq!(detail[0]["loc"], json!(["body", "overrides", "41", "inputs", "text"]));
    assert_eq!(detail.len(), 2);
    bench.simulator.behave(|behaviour| behaviour.refuse_unknown_overrides = false);
    assert_eq!(bench.post(wrong).await.expect("an answer").status, 200);
    bench.simulator.behave(|behaviour| behaviour.accept_empty_body = false);
    assert_eq!(bench.post(b"{}").await.expect("an answer").status, 422);
    assert_eq!(bench.post(b"{nonsense").await.expect("an answer").status, 422);
    assert_eq!(bench.simulator.stats().accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_picture_and_a_bad_type_fail_in_the_run() {
    let bench = Bench::new().await;
    for (overrides, code) in [
        (json!({"16": {"inputs": {"image": "data:image/png;base64,@@"}}}), 10009),
        (json!({"16": {"inputs": {"image": "data:image/png;base64,AAAA"}}}), 10009),
        (json!({"42": {"inputs": {"value": "many"}}}), 10008),
        (json!({"32": {"inputs": {"seed": 4_294_967_296_u64}}}), 10008),
        (json!({"42": {"inputs": {"value": -1}}}), 10011),
    ] {
        let body = json!({"overrides": overrides}).to_string();
        let reply = bench.post(body.as_bytes()).await.expect("an answer").json();
        let id = reply["request_id"].as_str().expect("taken in all the same").to_owned();
        bench.pass(300).await;
        assert_eq!(bench.status(&id).await["status"], "completed", "which is not success");
        let result = bench.result(&id).await;
        assert_eq!(
            (&result["status"], &result["error"][0]["errorCode"]),
            (&json!("failed"), &json!(code))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_shows_what_arrived() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    bench.status(&id).await;
    let stats = bench.simulator.stats();
    let record = &stats.requests[0];
    assert_eq!((record.id.as_str(), record.phase.as_str()), (id.as_str(), "in_queue"));
    assert_eq!(
        (record.prompt.as_str(), record.seed, record.mesh_seed),
        ("a carrot \u{2014} orange", 1, 7)
    );
    let picture = record.picture.as_ref().expect("a picture came");
    assert_eq!((picture.mime.as_str(), picture.width), ("image/png", 64));
    let sent = GestureCamera::with_side(64).frame(1);
    assert_eq!(picture.fingerprint, conjured_domain::fingerprint::Fingerprint::of(&sent));
    assert_eq!(record.status_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_graph_sent_along_is_run_instead_of_the_saved_one() {
    let bench = Bench::new().await;
    let graph = json!({"workflow_api_json": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "https://pictures.example.org/a.png"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "alone"}},
    }});
    let reply = bench.post(graph.to_string().as_bytes()).await.expect("an answer").json();
    bench.pass(300).await;
    let result = bench.result(reply["request_id"].as_str().expect("an id")).await;
    let nodes: Vec<_> = result["outputs"].as_object().expect("an object").keys().cloned().collect();
    assert_eq!(nodes, ["7"]);
    let picture = fetch(&url_of_product(&result, "7", "images"), &[]).await;
    assert!(image::load_from_memory(&picture.body).is_ok());
}
