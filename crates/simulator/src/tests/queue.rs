//! Tests from submit to result, with cancels in between.

use super::*;
use behaviour::{CancelShape, CancelledWord, RunningCancel, Timestamps};

#[tokio::test(start_paused = true)]
async fn a_request_goes_its_way_under_both_versions() {
    for version in ["v1", "v2"] {
        let bench = Bench { version, ..Bench::new().await };
        let answer = bench.post(&body(1)).await.expect("an answer");
        assert!(answer.header("date").is_some());
        let reply = answer.json();
        let members: Vec<_> = reply.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["request_id", "status_url", "result_url", "cancel_url"]);
        let id = reply["request_id"].as_str().expect("an id");
        assert_eq!(reply["status_url"], bench.url(&format!("requests/{id}/status")));

        let waiting = bench.status(id).await;
        assert_eq!(
            (&waiting["status"], &waiting["queue_position"]),
            (&json!("in_queue"), &json!(0))
        );
        assert_eq!(waiting.get("instance_id"), None);
        assert_eq!(bench.result(id).await["status"], "in_queue", "asking early is legal");

        bench.pass(201).await;
        let running = bench.status(id).await;
        assert_eq!(running["status"], "in_progress");
        assert!(running["instance_id"].is_string());
        assert_eq!(running.get("queue_position"), None);
        let early = bench.result(id).await;
        assert_eq!(early["status"], "in_progress");
        assert_eq!((early.get("outputs"), early.get("finished_at")), (None, None));

        bench.pass(30).await;
        assert_eq!(bench.status(id).await["status"], "completed");
        let result = bench.result(id).await;
        assert_eq!(result["status"], "succeeded");
        assert!(result["outputs"]["24"]["images"][0]["url"].is_string());
        assert!(result["outputs"]["33"]["3d"][0]["url"].is_string());
        assert!(result["finished_at"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_token_opens_only_the_own_deployment() {
    let bench = Bench::new().await;
    let url = bench.url("requests/none/status");
    for headers in
        [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "simulator-token")]]
    {
        let answer = call("GET", &url, headers, b"").await.expect("an answer");
        assert_eq!((answer.status, &answer.json()["error_code"]), (401, &json!(401_001)));
    }
    let unknown = bench.get(&url).await;
    assert_eq!((unknown.status, &unknown.json()["error_code"]), (404, &json!(404_001)));
    let foreign = url.replace("simulated-deployment", "someone-elses-deployment");
    let refused = bench.get(&foreign).await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json().as_object().expect("an object").keys().collect::<Vec<_>>(),
        ["message"]
    );
    assert_eq!(bench.get(&url.replace("/v2/", "/v3/")).await.status, 404);
    assert_eq!(bench.get(&url.replace("simulated-", "no-")).await.json()["error_code"], 404_001);
    assert_eq!(bench.simulator.stats().unauthorized, 3);
}

#[tokio::test(start_paused = true)]
async fn queue_positions_count_down_and_the_second_waits_for_the_first() {
    let bench = Bench::new().await;
    let ids = [bench.submit().await, bench.submit().await, bench.submit().await];
    assert_eq!(bench.status(&ids[2]).await["queue_position"], 2);
    bench.pass(201).await;
    assert_eq!(bench.status(&ids[2]).await["queue_position"], 1);
    bench.pass(35).await;
    assert_eq!(bench.status(&ids[2]).await["queue_position"], 0);
    assert_eq!(bench.status(&ids[1]).await["status"], "in_progress");
}

#[tokio::test(start_paused = true)]
async fn cancelling_has_two_shapes_and_two_spellings() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    let answer = bench.cancel(&id).await;
    assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("cancellation_requested")));
    assert_eq!(bench.status(&id).await["status"], "canceled");
    assert_eq!(bench.result(&id).await["status"], "canceled");
    assert_eq!(bench.cancel(&id).await.json()["status"], "not_cancellable");

    bench.simulator.behave(|behaviour| {
        behaviour.cancel_shape = CancelShape::B;
        behaviour.cancelled_word = CancelledWord::Cancelled;
    });
    let id = bench.submit().await;
    let reply = bench.cancel(&id).await.json();
    assert_eq!((&reply["status"], &reply["outcome"]), (&json!("completed"), &json!("cancelled")));
    assert_eq!(bench.status(&id).await["status"], "cancelled");
    let reply = bench.cancel(&id).await.json();
    assert_eq!(reply["outcome"], "not_cancellable");
}

#[tokio::test(start_paused = true)]
async fn a_running_job_ends_later_or_completes_all_the_same() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    bench.pass(201).await;
    assert_eq!(bench.cancel(&id).await.json()["status"], "cancellation_requested");
    assert_eq!(bench.status(&id).await["status"], "in_progress", "not at once");
    bench.pass(2).await;
    assert_eq!(bench.status(&id).await["status"], "canceled");

    bench.simulator.behave(|behaviour| behaviour.running_cancel = RunningCancel::CompletesAnyway);
    let id = bench.submit().await;
    bench.pass(5).await;
    assert_eq!(bench.cancel(&id).await.json()["status"], "cancellation_requested");
    bench.pass(40).await;
    assert_eq!(bench.result(&id).await["status"], "succeeded");

    bench.simulator.behave(|behaviour| behaviour.running_cancel = RunningCancel::Refused);
    let id = bench.submit().await;
    bench.pass(5).await;
    assert_eq!(bench.cancel(&id).await.json()["status"], "not_cancellable");
}

#[tokio::test(start_paused = true)]
async fn timestamps_come_with_microseconds_and_with_or_without_a_zone() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    let mut read = Vec::new();
    for (form, tail) in
        [(Timestamps::Zulu, "Z"), (Timestamps::Naive, ""), (Timestamps::Offset, "+02:00")]
    {
        bench.simulator.behave(|behaviour| behaviour.timestamps = form);
        let text = bench.result(&id).await["created_at"].as_str().expect("a time").to_owned();
        assert!(text.ends_with(tail) && text.len() == 26 + tail.len(), "{text}");
        let zoned = if tail.is_empty() { format!("{text}Z") } else { text };
        read.push(zoned.parse::<jiff::Timestamp>().expect("RFC 3339"));
    }
    assert!(read.iter().all(|time| *time == read[0]), "one point in time: {read:?}");
}

#[tokio::test(start_paused = true)]
async fn status_faults_are_told_as_ordered() {
    use faults::OddPosition;
    let bench = Bench::new().await;
    let (_, id) = (bench.submit().await, bench.submit().await);
    bench.simulator.order(Fault::QueuePosition(OddPosition::Zero));
    assert_eq!(bench.status(&id).await["queue_position"], 0);
    bench.simulator.order(Fault::QueuePosition(OddPosition::Null));
    assert_eq!(bench.status(&id).await.get("queue_position"), Some(&Value::Null));
    bench.simulator.order(Fault::QueuePosition(OddPosition::Absent));
    assert_eq!(bench.status(&id).await.get("queue_position"), None);
    assert_eq!(bench.status(&id).await["queue_position"], 1, "only as often as ordered");
    bench.simulator.order(Fault::StatusWord("daydreaming".to_owned()));
    assert_eq!(bench.status(&id).await["status"], "daydreaming");

    bench.on(
        Fault::Http { status: 503, retry_after: None, body: None, accepted: false },
        Call::Status,
    );
    let answer = bench.get(&bench.url(&format!("requests/{id}/status"))).await;
    assert_eq!(answer.status, 503);
    assert_eq!(bench.status(&id).await["status"], "in_queue");

    bench.simulator.order(Fault::TokenRevoked);
    bench.simulator.order(Order::from(Fault::TokenRevoked).on(Call::Status));
    for _ in 0..2 {
        assert_eq!(bench.get(&bench.url(&format!("requests/{id}/status"))).await.status, 401);
    }
    bench.simulator.set_token("simulator-token");
    bench.simulator.clear_faults();
    assert_eq!(bench.status(&id).await["status"], "in_queue");
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_hang_or_drip() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    let url = bench.url(&format!("requests/{id}/status"));
    bench.on(Fault::Hang { ms: Some(90_000) }, Call::Status);
    let before = tokio::time::Instant::now();
    assert_eq!(bench.get(&url).await.json()["status"], "in_queue");
    assert!(before.elapsed() >= Duration::from_secs(90));
    bench.on(Fault::SlowBody { ms: 16_000 }, Call::Status);
    let before = tokio::time::Instant::now();
    assert!(bench.get(&url).await.is_whole());
    assert!(before.elapsed() >= Duration::from_secs(15));
    bench.on(Fault::Hang { ms: None }, Call::Status);
    assert!(bench.call("GET", &url, b"").await.is_err(), "not even a head");
}

#[tokio::test(start_paused = true)]
async fn runs_get_stuck_and_are_forgotten() {
    let bench = Bench::new().await;
    bench.simulator.order(Fault::StuckInQueue);
    let waits = bench.submit().await;
    bench.simulator.order(Fault::StuckInProgress);
    let runs = bench.submit().await;
    bench.pass(3600).await;
    assert_eq!(bench.status(&waits).await["status"], "in_queue");
    assert_eq!(bench.status(&runs).await["status"], "in_progress");
    bench.cancel(&runs).await;
    bench.pass(5).await;
    assert_eq!(bench.status(&runs).await["status"], "canceled", "the machine is free again");

    bench.simulator.order(Fault::Forgotten);
    let id = bench.submit().await;
    assert_eq!(bench.status(&id).await["status"], "in_queue");
    bench.pass(300).await;
    for call in ["status", "result"] {
        assert_eq!(bench.get(&bench.url(&format!("requests/{id}/{call}"))).await.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn the_result_can_be_early_or_say_400005() {
    let bench = Bench::new().await;
    bench.simulator.order(Fault::ResultReadyBeforeStatus { ms: 10_000 });
    let id = bench.submit().await;
    bench.pass(225).await;
    assert_eq!(bench.status(&id).await["status"], "in_progress");
    assert_eq!(bench.result(&id).await["status"], "succeeded");

    bench.simulator.order(Fault::Result400005);
    let id = bench.submit().await;
    let early = bench.get(&bench.url(&format!("requests/{id}/result"))).await;
    assert_eq!((early.status, &early.json()["error_code"]), (400, &json!(400_005)));
    bench.pass(300).await;
    assert_eq!(bench.result(&id).await["status"], "succeeded");
}
