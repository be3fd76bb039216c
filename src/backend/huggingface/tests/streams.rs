//! Streams that break, stay silent, or never end. A result can be read only once, and a stream
//! cannot be resumed.

use super::*;

const SHORT: Duration = Duration::from_millis(1500);

async fn impatient(silence: Duration, deadline: Duration) -> World {
    World::with(Version::V5_49, |settings| {
        (settings.read_idle_timeout, settings.deadline) = (silence, deadline);
    })
    .await
}

#[tokio::test]
async fn a_stream_that_stays_empty_and_open_times_out_and_the_call_is_cancelled() {
    let world = impatient(SHORT, PATIENCE).await;
    world.flux.play([Say::Silence]);
    let (fault, files) = world.failure().await;
    assert_eq!((fault.kind, files.len()), (FaultKind::Service, 0));
    assert!(fault.message.contains("heartbeat"), "{}", fault.message);
    assert_eq!(
        world.flux.count("POST /gradio_api/cancel"),
        1,
        "an abandoned call would stand before the next one"
    );
}

#[tokio::test]
async fn heartbeats_keep_a_stream_alive_but_not_beyond_the_deadline() {
    let world = impatient(SHORT, SHORT * 3).await;
    world.flux.play([Say::Beats]);
    let (fault, _) = world.failure().await;
    assert!(fault.message.contains("did not finish within"), "{}", fault.message);
    assert_eq!(world.flux.count("POST /gradio_api/cancel"), 1);
}

#[tokio::test]
async fn what_was_done_in_time_is_taken_by_a_look_after_the_deadline() {
    let world = impatient(PATIENCE, SHORT).await;
    world.flux.play([Say::Hold, fail("too flat")]);
    let request = world.submit().await;
    world.spaces.observe(&request).await.expect("it opens the stream");
    world.flux.release();
    let pause = tokio::time::timeout(SHORT * 2, std::future::pending::<()>());
    assert!(pause.await.is_err());
    let RunResult::Failed { fault, .. } = world.end(&request).await else { panic!("it failed") };
    assert!(fault.message.contains("too flat"), "{}", fault.message);
}

#[tokio::test]
async fn heartbeats_are_life_enough_while_the_deadline_is_far() {
    let world = impatient(SHORT, PATIENCE).await;
    world.flux.play([Say::Hold, Say::Beats]);
    let request = world.submit().await;
    world.flux.release();
    let alive = async {
        let begun = Instant::now();
        while begun.elapsed() < SHORT * 3 {
            let seen = world.spaces.observe(&request).await.expect("known");
            assert_ne!(seen.phase, Phase::Ended);
        }
    };
    alive.await;
}

#[tokio::test]
async fn a_look_that_comes_late_does_not_take_what_waits_in_the_socket_for_silence() {
    let world = impatient(SHORT, PATIENCE).await;
    world.flux.play([Say::Hold, Say::Success]);
    let request = world.submit().await;
    world.spaces.observe(&request).await.expect("it opens the stream");
    world.flux.release();
    // This test is about time: `observe` is not called for longer than a stream may be silent.
    let pause = tokio::time::timeout(SHORT * 2, std::future::pending::<()>());
    assert!(pause.await.is_err());
    succeeded(&world.end(&request).await);
}

#[tokio::test]
async fn a_server_that_dies_breaks_the_run_off_with_the_picture_kept() {
    let world = World::new(Version::V6_31).await;
    world.mesh.play([Say::Msg(json!({"msg": "process_starts", "eta": 1})), Say::Cut]);
    let (fault, files) = world.failure().await;
    assert_eq!(fault.kind, FaultKind::Service);
    assert!(
        fault.message.contains("PartPacker") && fault.message.contains("broke"),
        "{}",
        fault.message
    );
    assert_eq!(files.iter().map(|file| &*file.node).collect::<Vec<_>>(), ["flux"]);
}

#[tokio::test]
async fn lost_events_are_reported_and_not_waited_for() {
    let world = World::new(Version::V5_49).await;
    world.flux.play([Say::Msg(json!({"msg": "unexpected_error", "message": "404: Session not found.", "success": false, "session_not_found": true}))]);
    let (fault, _) = world.failure().await;
    assert!(
        fault.message.contains("404: Session not found.") && fault.advice.contains("only once"),
        "{fault:?}"
    );
    assert_eq!(world.flux.state().calls.len(), 1, "it is not called again by itself");
}

#[tokio::test]
async fn a_stream_that_closes_before_the_call_is_done_is_a_lost_call() {
    let world = World::new(Version::V5_49).await;
    world.flux.play([Say::Msg(json!({"msg": "process_starts", "eta": 1}))]);
    let (fault, _) = world.failure().await;
    assert!(fault.message.contains("closed before"), "{}", fault.message);
}

#[tokio::test]
async fn a_web_page_in_place_of_a_stream_passes_and_the_stream_is_asked_for_again() {
    let world = World::new(Version::V5_49).await;
    world.flux.force("GET /queue/data", page(503), 1);
    world.flux.force("GET /queue/data", page(200), 1);
    let request = world.submit().await;
    for _ in 0..2 {
        let error = world.spaces.observe(&request).await.expect_err("a page");
        assert!(
            matches!(&error, CallError::Transient { reason, .. } if reason.contains("web page")),
            "{error:?}"
        );
    }
    succeeded(&world.end(&request).await);
}
