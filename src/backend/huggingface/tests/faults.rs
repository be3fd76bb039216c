//! Refusals of Spaces and their proxy, and the errors that they become.

use super::*;

async fn refusal(world: &World) -> SubmitError {
    world.spaces.submit(&submission("job-1")).await.expect_err("it is refused")
}

fn refused(error: SubmitError) -> super::super::super::ServiceFault {
    match error {
        SubmitError::Refused(fault) => fault,
        other => panic!("it is refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_class_of_refusal_before_the_call_has_its_verdict_and_advice() {
    let json = |status| json_answer(status, &json!({"detail": "no"}));
    let verdicts = [
        (401, FaultKind::Account, "private"),
        (403, FaultKind::Account, "private"),
        (404, FaultKind::Gone, "no such Space"),
        (422, FaultKind::Account, "does not offer"),
        (307, FaultKind::Account, "redirect"),
    ];
    for (status, kind, advice) in verdicts {
        let world = World::new(Version::V5_49).await;
        world.flux.force("GET /config", json(status), 1);
        let fault = refused(refusal(&world).await);
        assert_eq!(fault.kind, kind, "{status}");
        assert!(
            fault.advice.contains(advice) && fault.message.contains("FLUX"),
            "{status}: {fault:?}"
        );
        assert!(world.flux.state().calls.is_empty());
    }
    for bytes in [json(500), json(503), page(503), page(200), page(502)] {
        let world = World::new(Version::V5_49).await;
        world.mesh.force("GET /config", bytes, 1);
        let error = refusal(&world).await;
        assert!(
            matches!(&error, SubmitError::NotSent { reason, .. } if reason.contains("PartPacker")),
            "{error:?}"
        );
    }
    let world = World::new(Version::V5_49).await;
    world.flux.force("GET /config", answer(429, ("retry-after", "33"), "slow down"), 1);
    let error = refusal(&world).await;
    assert!(
        matches!(error, SubmitError::NotSent { retry_after: Some(wait), .. } if wait == Duration::from_secs(33))
    );
}

#[tokio::test]
async fn a_rejected_token_is_distinguished_from_a_missing_one() {
    for (token, status, kind) in [
        (Some(TOKEN), 401, FaultKind::Token),
        (Some(TOKEN), 403, FaultKind::Account),
        (None, 401, FaultKind::Account),
    ] {
        let world =
            World::with(Version::V5_49, |settings| settings.token = token.map(SecretString::from))
                .await;
        world.flux.force(
            "GET /config",
            json_answer(status, &json!({"detail": format!("bad {TOKEN}")})),
            1,
        );
        let fault = refused(refusal(&world).await);
        assert_eq!(fault.kind, kind, "{status}");
        assert!(fault.advice.contains("HUGGINGFACE_HUB_ACCESS_TOKEN"), "{}", fault.advice);
        assert!(token.is_none() || !fault.message.contains(TOKEN), "{}", fault.message);
    }
}

#[tokio::test]
async fn the_token_stands_in_both_headers_of_every_request_to_a_space_and_goes_nowhere_else() {
    let hub = server(Version::V4_44).await;
    let world = World::with(Version::V5_49, |settings| {
        settings.token = Some(SecretString::from(TOKEN));
        settings.hub = hub.url().parse().expect("a URL");
    })
    .await;
    // The Space is configured by its name, and its host comes from the Hub.
    let flux = world.flux.url();
    hub.force(
        "GET /api/spaces/ada/FLUX.1",
        json_answer(200, &json!({"host": flux, "runtime": {"stage": "RUNNING"}})),
        9,
    );
    let settings =
        Settings { flux: "ada/FLUX.1".parse().expect("a Space"), ..world.spaces.settings.clone() };
    world.flux.state().token = Some(TOKEN);
    world.mesh.state().token = Some(TOKEN);
    let world = World { spaces: Spaces::new(&settings).expect("good"), ..world };
    let result = world.run().await;
    download(&world.spaces, &succeeded(&result)[1], 0).await;
    let bearer = format!("Bearer {TOKEN}");
    for seen in world.flux.seen().iter().chain(&world.mesh.seen()) {
        for name in ["authorization", "x-hf-authorization"] {
            assert_eq!(seen.headers()[name], bearer, "{seen:?}");
        }
    }
    let join = world
        .flux
        .seen()
        .into_iter()
        .find(|seen| seen.uri().path().ends_with("/queue/join"))
        .expect("called");
    assert_eq!(join.headers()["x-gradio-user"], "api");
    let asked = hub.seen();
    assert!(
        !asked.is_empty() && asked.iter().all(|seen| !format!("{seen:?}").contains(TOKEN)),
        "not even to the Hub"
    );

    // A redirect is an answer, and nothing is sent after it.
    let elsewhere = server(Version::V5_49).await;
    let location = elsewhere.url();
    for start in ["GET /config", "GET /info", "POST /upload", "POST /queue/join"] {
        world.mesh.state().forced.clear();
        world.flux.state().forced.clear();
        world.flux.force(start, answer(307, ("location", &location), ""), 1);
        let fault = refused(refusal(&world).await);
        assert!(fault.advice.contains("redirect"), "{start}: {fault:?}");
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_space_that_is_paused_or_being_built_is_reported_and_not_called() {
    let hub = server(Version::V4_44).await;
    let settings = Settings { hub: hub.url().parse().expect("a URL"), ..Settings::default() };
    let spaces = Spaces::new(&settings).expect("good");
    for (stage, message) in
        [("PAUSED", "is paused"), ("RUNTIME_ERROR", "is broken"), ("BUILDING", "being built")]
    {
        let record = json!({"host": "https://x.hf.space", "runtime": {"stage": stage}});
        hub.state().forced.clear();
        hub.force("GET /api/spaces", json_answer(200, &record), 9);
        let error = spaces.warm_up().await.expect_err("it cannot serve");
        assert!(error.to_string().contains(message), "{stage}: {error}");
        assert_eq!(matches!(error, CallError::Transient { .. }), stage == "BUILDING");
        let error = spaces.submit(&submission("job-1")).await.expect_err("it cannot serve");
        assert_eq!(matches!(error, SubmitError::NotSent { .. }), stage == "BUILDING", "{error:?}");
    }
}

#[tokio::test]
async fn warming_up_asks_both_spaces_for_their_description_and_no_more() {
    let world = World::new(Version::V4_44).await;
    assert_eq!(world.spaces.warm_up().await.expect("both are there"), None);
    assert_eq!(
        (world.flux.lines(), world.mesh.lines()),
        (vec!["GET /config".to_owned()], vec!["GET /config".to_owned()])
    );
    world.mesh.force("GET /config", page(503), 1);
    let error = world.spaces.warm_up().await.expect_err("a page");
    assert!(error.to_string().contains("sleeps"), "{error}");
}

#[tokio::test]
async fn a_full_queue_has_queued_nothing_and_in_mid_way_it_is_waited_for() {
    let mut full =
        json_answer(503, &json!({"detail": "Queue is full. Max size is 2 and size is 2."}));
    let world = World::new(Version::V5_49).await;
    world.flux.force("POST /queue/join", full.clone(), 1);
    let error = refusal(&world).await;
    assert!(
        matches!(&error, SubmitError::NotSent { reason, .. } if reason.contains("Queue is full")),
        "{error:?}"
    );

    full.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
    world.mesh.force("POST /queue/join", full, 2);
    let request = world.submit().await;
    let doing = |seen: &Observation| {
        seen.progress.as_ref().and_then(|progress| progress.doing.clone()).unwrap_or_default()
    };
    let seen = world.until(&request, |seen| doing(seen).contains("Queue is full")).await;
    assert!(matches!(seen.phase, Phase::Queued { .. }));
    succeeded(&world.end(&request).await);
    assert_eq!(world.mesh.count("POST /gradio_api/queue/join"), 3);
}

#[tokio::test]
async fn an_app_that_fails_is_quoted_in_every_version_and_the_picture_is_kept() {
    for version in Version::ALL {
        let world = World::new(version).await;
        world.mesh.play([fail("too many parts")]);
        let (fault, files) = world.failure().await;
        let title = format!("PartPacker on {}", world.mesh.url());
        assert_eq!(fault.message, format!("{title}: too many parts"), "{version:?}");
        assert_eq!(files.len(), 1);
        let world = World::new(version).await;
        world.flux.play([Say::Fail(None)]);
        let (fault, files) = world.failure().await;
        assert!(
            fault.message.contains("without saying why") && files.is_empty(),
            "{version:?}: {fault:?}"
        );
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_ends_the_run_and_leaves_that_space_alone_for_a_good_while() {
    let world = World::new(Version::V5_49).await;
    world.mesh.play([fail("You have exceeded your <b>GPU quota</b> (120s requested vs. 7s left). Try again in 0:40:00")]);
    let (fault, files) = world.failure().await;
    assert_eq!((fault.kind, files.len()), (FaultKind::Service, 1));
    assert!(
        fault.advice.contains("comes back automatically")
            && fault.message.contains("your GPU quota"),
        "{fault:?}"
    );
    let before = world.mesh.seen().len();
    let error = refusal(&world).await;
    let SubmitError::NotSent { reason, retry_after: Some(wait) } = error else {
        panic!("left alone: {error:?}")
    };
    assert!(reason.contains("quota") && reason.contains("more minutes"), "{reason}");
    assert!(wait >= Duration::from_secs(600), "{wait:?}");
    assert!(matches!(world.spaces.warm_up().await, Err(CallError::Transient { .. })));
    assert_eq!(world.mesh.seen().len(), before, "nothing is asked of it");
    assert_eq!(world.flux.state().calls.len(), 1, "and FLUX does not work for nothing");
}

#[tokio::test]
async fn an_output_that_is_null_is_no_product() {
    let null = || {
        Say::Msg(
            json!({"msg": "process_completed", "success": true, "output": {"data": [null, 77]}}),
        )
    };
    let world = World::new(Version::V5_49).await;
    world.flux.play([null()]);
    let (fault, files) = world.failure().await;
    assert!(fault.message.contains("returned no picture") && files.is_empty(), "{fault:?}");
    let world = World::new(Version::V5_49).await;
    world.mesh.play([null()]);
    let (fault, files) = world.failure().await;
    assert!(fault.message.contains("returned no mesh") && files.len() == 1, "{fault:?}");
}

#[tokio::test]
async fn an_upload_that_is_answered_with_nothing_is_an_error() {
    for body in [json!([]), json!([""]), json!({}), json!([null])] {
        let world = World::new(Version::V5_49).await;
        world.flux.force("POST /upload", json_answer(200, &body), 1);
        let fault = refused(refusal(&world).await);
        assert!(fault.message.contains("returned no path"), "{body}: {fault:?}");
        assert!(world.flux.state().calls.is_empty(), "never without the picture");
    }
    let world = World::new(Version::V5_49).await;
    world.flux.state().max_file_size = Some(10);
    let fault = refused(refusal(&world).await);
    assert_eq!(fault.kind, FaultKind::Workflow);
    assert!(fault.message.contains("at most 10 bytes"), "{}", fault.message);
}

#[tokio::test]
async fn a_value_beyond_a_slider_is_refused_before_anything_is_given_to_a_space() {
    for version in [Version::V4_44, Version::V6_31] {
        let world = World::new(version).await;
        let many = SpacesPayload { steps_partpacker: 101, ..work() };
        let submission = Submission { payload: Payload::Spaces(many), ..submission("job-1") };
        let fault = refused(world.spaces.submit(&submission).await.expect_err("beyond it"));
        assert!(
            fault.message.contains("`num_steps`") && fault.message.contains("to 100"),
            "{}",
            fault.message
        );
        assert_eq!(world.flux.count("POST"), 0);
    }
}

#[tokio::test]
async fn a_space_without_our_functions_or_of_another_kind_is_named() {
    let world = World::new(Version::V5_49).await;
    world.mesh.force("GET /info", json_answer(200, &json!({"named_endpoints": {}})), 1);
    let fault = refused(refusal(&world).await);
    assert!(
        fault.message.contains("PartPacker") && fault.message.contains("`/process_3d`"),
        "{}",
        fault.message
    );
    world.flux.force("GET /config", json_answer(200, &json!({"hello": "world"})), 1);
    let fault = refused(refusal(&world).await);
    assert!(fault.message.contains("Gradio app"), "{}", fault.message);
}

#[tokio::test]
async fn a_call_that_did_not_arrive_is_distinguished_from_an_unknown_one() {
    let world = World::new(Version::V5_49).await;
    // The answer is lost with its connection.
    world.flux.force("POST /queue/join", None, 1);
    assert!(matches!(refusal(&world).await, SubmitError::Unknown { .. }));
    for (status, is_unknown) in [(500, true), (502, true), (503, false)] {
        world.flux.force("POST /queue/join", page(status), 1);
        assert_eq!(
            matches!(refusal(&world).await, SubmitError::Unknown { .. }),
            is_unknown,
            "{status}"
        );
    }
    world.flux.force("POST /upload", None, 1);
    assert!(
        matches!(refusal(&world).await, SubmitError::NotSent { .. }),
        "an upload calls nothing"
    );
    for bad in [json!({"event_id": "../x"}), json!({"event_id": null}), json!({})] {
        world.flux.force("POST /queue/join", json_answer(200, &bad), 1);
        assert!(matches!(refusal(&world).await, SubmitError::Unknown { .. }), "{bad}");
    }
    drop(world.flux);
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error @ SubmitError::NotSent { .. }) =
                world.spaces.submit(&submission("job-1")).await
            {
                return error;
            }
        }
    });
    assert!(error.await.expect("refused").to_string().contains("could not reach"));
    let foreign = Submission { payload: Payload::Body(Bytes::new()), ..submission("job-1") };
    assert!(matches!(world.spaces.submit(&foreign).await, Err(SubmitError::NotSent { .. })));
}

#[tokio::test]
async fn a_second_call_that_is_lost_is_made_again_with_a_session_of_its_own_and_not_for_ever() {
    let world = World::new(Version::V5_49).await;
    world.mesh.force("POST /queue/join", None, 1);
    let request = world.submit().await;
    let error = world.spaces.observe(&request).await.expect_err("the answer is lost");
    assert!(matches!(error, CallError::Transient { .. }));
    succeeded(&world.end(&request).await);

    world.mesh.force("POST /queue/join", None, 1000);
    let request = world.spaces.submit(&submission("job-2")).await.expect("taken");
    let ended = async {
        while !matches!(world.spaces.observe(&request).await, Ok(seen) if seen.phase == Phase::Ended)
        {
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it is given up");
    let result = world.spaces.result(&request).await.expect("known");
    assert!(
        matches!(result, RunResult::Failed { ref files, .. } if files.len() == 1),
        "{result:?}"
    );
}
