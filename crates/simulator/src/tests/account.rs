//! Money, the deployment, and the control path.

use proptest::prelude::*;

use super::*;

async fn balance(bench: &Bench) -> i64 {
    let url = format!("{}/prod/v2/balance", bench.simulator.api_url());
    let reply = bench.get(&url).await.json();
    assert_eq!(reply["currency"], "USD");
    reply["balance_microdollars"].as_i64().expect("micro-dollars")
}

#[tokio::test(start_paused = true)]
async fn the_meter_runs_from_the_wake_to_the_sleep_and_no_further() {
    let hourly = MicroUsd(3_600_000);
    let bench = Bench::with(Settings { hourly, ..Bench::settings() }).await;
    assert_eq!(balance(&bench).await, 5_000_000);
    bench.submit().await;
    bench.submit().await;
    bench.pass(10_000).await;
    // 200 s cold, 30 s, 2 s between, 30 s, 60 s warm: a thousand micro-dollars a second.
    assert_eq!(bench.simulator.stats().bill, MicroUsd(322_000));
    assert_eq!(balance(&bench).await, 5_000_000 - 322_000);
    bench.pass(10_000).await;
    assert_eq!(bench.simulator.stats().bill, MicroUsd(322_000), "asleep is free");
}

#[tokio::test(start_paused = true)]
async fn an_empty_wallet_disables_the_deployment_and_topping_up_does_not_help() {
    let bench = Bench::new().await;
    bench.simulator.set_balance(MicroUsd(-1));
    assert_eq!(balance(&bench).await, -1);
    let refused = bench.post(&body(1)).await.expect("an answer");
    assert_eq!((refused.status, &refused.json()["error_code"]), (403, &json!(10001)));
    bench.simulator.set_balance(MicroUsd(5_000_000));
    let refused = bench.post(&body(1)).await.expect("an answer");
    assert_eq!(refused.json()["error_code"], 10002);
    bench.simulator.behave(|behaviour| behaviour.gate_status = 200);
    assert_eq!(bench.post(&body(1)).await.expect("an answer").status, 200);
    assert_eq!(bench.simulator.stats().accepted, 0);
    let url = bench.url("");
    let enable = br#"{"name":"mine","is_enabled":true}"#;
    bench.call("PATCH", url.trim_end_matches('/'), enable).await.expect("an answer");
    bench.submit().await;
}

#[tokio::test(start_paused = true)]
async fn the_deployment_is_listed_shown_and_changed() {
    let bench = Bench::new().await;
    let root = format!("{}/prod/v2/deployments", bench.simulator.api_url());
    let list = bench.get(&root).await.json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "a bare array");
    assert_eq!(bench.get(&format!("{root}?ids=other")).await.json(), json!([]));
    let one = format!("{root}/simulated-deployment");
    let shown = bench.get(&format!("{one}?includes=payload&includes=readme")).await.json();
    assert_eq!(
        shown["payload"]["workflow_api_json"]["41"]["class_type"],
        "PrimitiveStringMultiline"
    );
    assert!(shown["readme"].is_string());
    assert_eq!(bench.get(&one).await.json().get("payload"), None);

    for wrong in [
        json!({"max_instances": 3}),
        json!({"name": "a", "hardware": ["AMPERE_48", "AMPERE_80"]}),
        json!({"name": "a", "hardware": "AMPERE_48"}),
        json!({"name": "a", "queue_size": -1}),
    ] {
        let answer =
            bench.call("PATCH", &one, wrong.to_string().as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 422, "{wrong}");
    }
    let right = br#"{"name":"a","max_instances":3,"hardware":["AMPERE_80"]}"#;
    let changed = bench.call("PATCH", &one, right).await.expect("an answer").json();
    assert_eq!(
        (&changed["max_instances"], &changed["hardware"][0]),
        (&json!(3), &json!("AMPERE_80"))
    );
}

#[tokio::test(start_paused = true)]
async fn disabling_kills_what_is_in_flight() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    let one = format!("{}/prod/v2/deployments/simulated-deployment", bench.simulator.api_url());
    bench.call("PATCH", &one, br#"{"name":"a","is_enabled":false}"#).await.expect("an answer");
    let result = bench.result(&id).await;
    assert_eq!(
        (&result["status"], &result["error"][0]["errorCode"]),
        (&json!("failed"), &json!(10002))
    );
    assert_eq!(bench.simulator.stats().instances_awake, 0);
}

#[tokio::test(start_paused = true)]
async fn the_proxy_lives_as_long_as_its_machine() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    bench.pass(240).await;
    let instance = bench.status(&id).await["instance_id"].as_str().expect("a machine").to_owned();
    let proxy = bench.url(&format!("instances/{instance}/proxy"));
    let history = bench.get(&format!("{proxy}/history/{id}")).await.json();
    let item = &history[&id]["outputs"]["24"]["images"][0];
    let name = item["filename"].as_str().expect("a name");
    let view = bench.get(&format!("{proxy}/view?filename={name}&type=output&subfolder=")).await;
    assert!(image::load_from_memory(&view.body).is_ok());
    let info = bench.get(&format!("{proxy}/object_info")).await.json();
    assert!(info["SaveGLB"]["input"]["required"].is_object());
    let free = bench.call("POST", &format!("{proxy}/api/free"), b"{}").await.expect("an answer");
    assert_eq!((free.status, free.body.len()), (200, 0));
    bench.pass(100).await;
    assert_eq!(bench.get(&format!("{proxy}/object_info")).await.status, 404, "asleep");
}

async fn control(bench: &Bench, method: &str, path: &str, body: &Value) -> Answer {
    let url = format!("{}/_control/{path}", bench.simulator.api_url());
    call(method, &url, &[], body.to_string().as_bytes()).await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn other_processes_can_order_look_and_reset() {
    let bench = Bench::new().await;
    let orders = json!([{"fault": "accept_then_drop"}, {"fault": {"run_fails": {"code": 10011}}}]);
    assert_eq!(
        control(&bench, "POST", "faults", &orders).await.json().as_array().map(Vec::len),
        Some(2)
    );
    assert!(bench.post(&body(1)).await.is_err());
    let stats: Stats =
        serde_json::from_slice(&control(&bench, "GET", "stats", &json!(null)).await.body)
            .expect("stats");
    assert_eq!((stats.submits, stats.accepted, stats.requests[0].failure), (1, 1, Some(10011)));

    control(&bench, "POST", "advance", &json!({"ms": 300_000})).await;
    assert_eq!(bench.simulator.stats().requests[0].phase, "failed");
    control(&bench, "POST", "balance", &json!({"micro_usd": 42})).await;
    assert_eq!(balance(&bench).await, 42);
    let switched = control(&bench, "PATCH", "behaviour", &json!({"cancel_shape": "b"})).await;
    assert_eq!((switched.status, &switched.json()["cancel_shape"]), (200, &json!("b")));
    control(&bench, "POST", "token", &json!({"token": "another"})).await;
    assert_eq!(bench.get(&bench.url("requests/x/status")).await.status, 401);
    control(&bench, "POST", "reset", &json!(null)).await;
    assert_eq!(bench.simulator.stats().submits, 0);
    assert_eq!(balance(&bench).await, 5_000_000);

    let typo = control(&bench, "POST", "faults", &json!({"fault": "accept_then_dorp"})).await;
    assert_eq!(typo.status, 400);
    assert!(typo.json()["message"].as_str().is_some_and(|message| message.contains("dorp")));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_simulator_breaks_its_connections_and_frees_its_ports() {
    let bench = Bench::new().await;
    let address: SocketAddr =
        bench.simulator.api_url().trim_start_matches("http://").parse().expect("an address");
    let idle = tokio::net::TcpStream::connect(address).await.expect("it listens");
    tokio::task::yield_now().await;
    bench.get(&bench.url("requests/x/status")).await;
    drop(bench);
    idle.readable().await.expect("the end is news");
    assert!(matches!(idle.try_read(&mut [0; 8]), Ok(0) | Err(_)), "closed or reset");
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let again = Settings { listen: address, ..Settings::default() };
    assert!(Simulator::start(again).await.is_ok(), "the same port serves again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any JSON on the control path gets an HTTP answer, and the simulator keeps running.
    #[test]
    fn the_control_path_bears_any_json(
        path in prop::sample::select(vec!["faults", "advance", "balance", "token", "behaviour"]),
        key in prop::sample::select(vec!["fault", "ms", "micro_usd", "token", "times", "gate_status", "retention"]),
        value in prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            prop::sample::select(vec![
                json!({"hang": {"ms": u64::MAX}}), json!({"result_ready_before_status": {"ms": u64::MAX}}),
                json!({"file": {"product": "image", "content": {"huge": {"megabytes": u32::MAX}}}}),
                json!(null), json!([]), json!({}),
            ]),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let bench = Bench::new().await;
            let method = if path == "behaviour" { "PATCH" } else { "POST" };
            let answer = control(&bench, method, path, &json!({key: value})).await;
            assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
            let submitted = bench.post(b"{}").await;
            bench.simulator.advance(Duration::from_secs(300));
            if let Ok(answer) = submitted {
                let id = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["request_id"].clone();
                bench.get(&bench.url(&format!("requests/{}/result", id.as_str().unwrap_or("x")))).await;
            }
            assert_eq!(bench.simulator.stats().submits, 1);
        });
    }
}
