//! A complete run in every version, and the progress that is shown.

use super::*;

#[tokio::test]
async fn a_job_goes_over_both_spaces_in_every_version() {
    for version in Version::ALL {
        let world = World::new(version).await;
        let result = world.run().await;
        let files = succeeded(&result);
        let [picture, mesh] = files else { panic!("two files: {files:?}") };
        let prefix = version.prefix();
        let expected = format!("{}{prefix}/file=/t/gradio/2/image.webp", world.flux.url());
        assert_eq!(
            (&*picture.node, &*picture.channel, &*picture.file_type),
            ("flux", "image", "output")
        );
        assert_eq!((&*picture.url, &*picture.filename), (&*expected, "image.webp"), "{version:?}");
        assert_eq!((&*mesh.node, &*mesh.channel, &*mesh.file_type), ("mesh", "mesh", "output"));
        assert!(mesh.url.ends_with("/file=/t/gradio/2/a%20mesh%20%C3%BC%25.glb"), "{}", mesh.url);
        assert_eq!(mesh.extension(), "glb");
        assert_eq!(download(&world.spaces, picture, 0).await.1, WEBP);
        assert_eq!(download(&world.spaces, mesh, 0).await.1, GLB);
        // The arguments of each call, under their names.
        let file = |path: &str| json!({"path": path, "meta": {"_type": "gradio.FileData"}});
        let infer = [
            file("/t/gradio/1/render-1.png"),
            json!("a fox"),
            json!(77),
            json!(false),
            json!(1024),
            json!(1024),
            json!(10),
            json!(20),
        ];
        assert_eq!(world.flux.state().calls, [("infer", infer.to_vec())]);
        let process = [
            file("/t/gradio/1/flux.webp"),
            json!(50),
            json!(7),
            json!(384),
            json!(5),
            json!(0),
            json!(100_000),
        ];
        assert_eq!(world.mesh.state().calls, [("process_3d", process.to_vec())]);
        let uploaded = world.flux.state().files["/t/gradio/1/render-1.png"].clone();
        assert_eq!(uploaded, RENDER, "the render arrives as it is");
        let passed_on = world.mesh.state().files["/t/gradio/1/flux.webp"].clone();
        assert_eq!(passed_on, WEBP, "and so does the picture");
        assert_eq!(
            world
                .spaces
                .result(&RequestId::new("job-1").expect("plain"))
                .await
                .expect("asked again"),
            result
        );
    }
}

#[tokio::test]
async fn the_background_is_taken_away_in_between_where_that_is_wanted_without_a_new_upload() {
    let world = World::with(Version::V5_49, |settings| settings.process_image = true).await;
    world.mesh.play([Say::Hold, Say::Success]);
    let request = world.submit().await;
    let parts = |seen: &Observation| seen.progress.as_ref().and_then(|progress| progress.parts);
    world.until(&request, |seen| parts(seen) == Some((1, 3))).await;
    world.mesh.release();
    let result = world.end(&request).await;
    assert_eq!(
        succeeded(&result).iter().map(|file| &*file.node).collect::<Vec<_>>(),
        ["flux", "mesh"]
    );
    let calls = world.mesh.state().calls.clone();
    assert_eq!(
        calls.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["process_image", "process_3d"]
    );
    assert_eq!(calls[1].1[0]["path"], "/t/gradio/2/seg.webp");
    assert_eq!(world.mesh.count("POST /gradio_api/upload"), 1);
}

#[tokio::test]
async fn queue_steps_words_and_estimates_are_shown_as_they_come() {
    let world = World::new(Version::V6_31).await;
    world.flux.play([
        Say::Msg(json!({"msg": "estimation", "rank": 2, "queue_size": 3, "rank_eta": 90.0})),
        Say::Hold,
        Say::Msg(json!({"msg": "process_starts", "eta": 40.0})),
        Say::Msg(json!({"msg": "log", "log": "slow\u{1b}[31m today", "level": "warning"})),
        Say::Hold,
        Say::Msg(json!({"msg": "progress", "progress_data": [{"index": 7, "length": 28, "unit": "steps", "progress": null, "desc": "Denoising"}]})),
        Say::Msg(json!({"msg": "process_generating", "success": true, "output": {"data": [null], "is_generating": true}})),
        Say::Hold,
        Say::Success,
    ]);
    let request = world.submit().await;
    let seen = world
        .until(&request, |seen| matches!(seen.phase, Phase::Queued { position: Some(2) }))
        .await;
    let left = seen.progress.and_then(|progress| progress.left_ms).expect("it told");
    assert!((60_000..=90_000).contains(&left), "{left}");
    world.flux.release();
    let doing = |seen: &Observation| {
        seen.progress.as_ref().and_then(|progress| progress.doing.clone()).unwrap_or_default()
    };
    let title = format!("FLUX on {}", world.flux.url());
    let seen = world
        .until(&request, |seen| seen.phase == Phase::Running && doing(seen).contains("slow"))
        .await;
    assert_eq!(doing(&seen), format!("{title}: slow[31m today"));
    world.flux.release();
    let seen = world.until(&request, |seen| doing(seen).contains("Denoising")).await;
    let progress = seen.progress.expect("shown");
    assert_eq!((progress.step, progress.parts), (Some((7, 28)), Some((0, 2))));
    assert_eq!(progress.to_string(), format!("{title}: Denoising, step 7 of 28, part 1 of 2"));
    world.flux.release();
    let seen = world.until(&request, |seen| seen.phase == Phase::Ended).await;
    assert_eq!(seen.progress.and_then(|progress| progress.parts), Some((2, 2)));
}

#[tokio::test]
async fn events_of_another_call_in_the_stream_are_not_ours() {
    let world = World::new(Version::V5_6).await;
    world.flux.play([
        Say::Msg(json!({"msg": "process_completed", "event_id": "theirs", "success": true, "output": {"data": []}})),
        Say::Msg(json!({"msg": "process_completed", "event_id": "theirs", "success": false, "output": {"error": "no"}})),
        Say::Success,
    ]);
    succeeded(&world.run().await);
}

#[tokio::test]
async fn a_cancel_stops_the_call_that_runs_and_success_without_data_is_no_success() {
    for version in Version::ALL {
        let world = World::new(version).await;
        world.flux.play([Say::Msg(json!({"msg": "process_starts", "eta": null})), Say::Hold]);
        let request = world.submit().await;
        world.until(&request, |seen| seen.phase == Phase::Running).await;
        assert_eq!(
            world.spaces.cancel(&request).await.expect("it is told"),
            CancelReply::Requested
        );
        assert!(matches!(world.end(&request).await, RunResult::Cancelled { .. }), "{version:?}");
        let mut seen = world.flux.seen().into_iter().rev();
        let cancel = seen.find(|seen| seen.uri().path().ends_with("/cancel")).expect("sent");
        let body: Value = serde_json::from_slice(cancel.body()).expect("JSON");
        assert!(
            body["session_hash"].is_string()
                && body["event_id"].is_string()
                && body["fn_index"] == 1,
            "{body}"
        );
        assert!(world.mesh.state().calls.is_empty(), "PartPacker is not called any more");
        assert_eq!(world.spaces.cancel(&request).await.expect("known"), CancelReply::TooLate);
    }
}

#[tokio::test]
async fn a_cancel_between_the_calls_makes_no_second_one_and_a_cancelled_stream_that_stays_open_ends_all_the_same()
 {
    let world = World::new(Version::V5_49).await;
    // The picture cannot be passed on yet.
    world.mesh.force("POST /upload", json_answer(500, &json!("x")), 1000);
    let request = world.submit().await;
    let reached = async {
        while world.mesh.count("POST /gradio_api/upload") == 0 {
            let _ = world.spaces.observe(&request).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it gets so far");
    assert_eq!(
        world.spaces.cancel(&request).await.expect("nothing to ask"),
        CancelReply::Requested
    );
    assert!(matches!(world.end(&request).await, RunResult::Cancelled { .. }));
    assert!(world.mesh.state().calls.is_empty());
}

#[tokio::test]
async fn a_call_that_another_client_cancelled_is_not_done() {
    let world = World::new(Version::V5_49).await;
    world.flux.play([Say::Msg(json!({"msg": "process_completed", "success": true, "output": {}}))]);
    assert!(matches!(world.run().await, RunResult::Cancelled { .. }));
}

#[tokio::test]
async fn a_request_of_an_earlier_process_is_gone_and_says_what_that_means() {
    let world = World::new(Version::V5_49).await;
    let old = RequestId::new("of-yesterday").expect("plain");
    for error in [
        world.spaces.observe(&old).await.expect_err("unknown"),
        world.spaces.result(&old).await.expect_err("unknown"),
        world.spaces.cancel(&old).await.expect_err("unknown"),
    ] {
        let CallError::Fault(fault) = error else { panic!("it will not pass") };
        assert_eq!(fault.kind, FaultKind::Gone);
        assert!(fault.message.contains("earlier run of the daemon"), "{}", fault.message);
    }
    assert!(world.flux.seen().is_empty());
}

#[tokio::test]
async fn two_runs_do_not_disturb_each_other_and_never_share_a_session() {
    let world = World::new(Version::V5_49).await;
    let first = world.spaces.submit(&submission("job-1")).await.expect("taken");
    let second = world.spaces.submit(&submission("job-2")).await.expect("taken");
    succeeded(&world.end(&second).await);
    succeeded(&world.end(&first).await);
    // The same key again, as after a lost answer: it still gets a new session.
    let again = world.spaces.submit(&submission("job-1")).await.expect("taken");
    succeeded(&world.end(&again).await);
    let joins =
        world.flux.seen().into_iter().filter(|seen| seen.uri().path().ends_with("/queue/join"));
    let sessions: std::collections::HashSet<String> = joins
        .map(|seen| {
            serde_json::from_slice::<Value>(seen.body()).expect("JSON")["session_hash"].to_string()
        })
        .collect();
    assert_eq!(sessions.len(), 3);
}
