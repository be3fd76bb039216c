//! What is observed while a job waits and runs: the queue, which is reliable, and the socket, which
//! may send anything.

use super::*;

#[tokio::test]
async fn the_place_in_line_counts_the_running_job_and_those_with_a_smaller_number() {
    let (server, adapter) = both(Quirks::default()).await;
    server.with(|world| {
        world.put_foreign("theirs-1", &local_graph(), Some("browser"));
        world.start();
        world.put_foreign("theirs-2", &local_graph(), None);
    });
    let id = sent(&adapter, 1).await;
    server.with(|world| world.put_foreign("theirs-3", &local_graph(), None));
    assert_eq!(seen(&adapter, &id).await.phase, Phase::Queued { position: Some(2) });
    server.finish();
    assert_eq!(seen(&adapter, &id).await.phase, Phase::Queued { position: Some(1) });
    assert!(matches!(adapter.result(&id).await, Ok(RunResult::Pending(Phase::Queued { .. }))));
}

#[tokio::test]
async fn progress_is_told_by_node_and_step_and_binary_frames_between_them_are_skipped() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, previews: true, ..Quirks::default() }).await;
        let id = sent(&adapter, 1).await;
        server.start();
        assert_eq!(seen(&adapter, &id).await.phase, Phase::Running);
        while server.node().as_deref() != Some("3") {}
        told(&adapter, &id, "part 14 of 19").await;
    }
}

#[tokio::test]
async fn frames_of_others_reach_us_and_are_not_taken_for_ours() {
    let (server, adapter) = both(Quirks { previews: true, ..Quirks::default() }).await;
    // Without a client id its progress goes to every socket.
    server.with(|world| world.put_foreign("theirs", &local_graph(), None));
    let id = sent(&adapter, 1).await;
    server.start();
    while server.node().is_some() {}
    let observation = seen(&adapter, &id).await;
    assert_eq!(observation.phase, Phase::Queued { position: Some(1) });
    server.finish();
    server.start();
    let observation = seen(&adapter, &id).await;
    assert_eq!((observation.phase, observation.progress), (Phase::Running, None));
}

#[tokio::test]
async fn a_socket_that_is_refused_or_silent_costs_only_the_progress() {
    for quirks in [
        Quirks { no_sockets: true, ..Quirks::default() },
        Quirks { silent_sockets: true, ..Quirks::default() },
    ] {
        let (server, adapter) = both(quirks).await;
        let id = sent(&adapter, 1).await;
        server.start();
        server.node();
        let observation = seen(&adapter, &id).await;
        assert_eq!((observation.phase, observation.progress), (Phase::Running, None));
        server.finish();
        assert!(matches!(ended(&adapter, &id).await, RunResult::Succeeded { .. }));
    }
}

#[tokio::test]
async fn a_socket_that_breaks_is_opened_again_and_hears_the_node_without_an_id() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    assert_eq!(server.node().as_deref(), Some("4"));
    told(&adapter, &id, "part 2 of 19").await;
    server.cut_connections();
    // The first frames after a reconnect are `status` and an `executing` without a `prompt_id`.
    told(&adapter, &id, "Load Checkpoint, part 1 of 19").await;
    server.node();
    told(&adapter, &id, "part 3 of 19").await;
    assert_eq!(server.with(|world| world.listeners()), 1, "the old one was closed first");
}

#[tokio::test]
async fn a_daemon_that_was_started_again_hears_of_the_run_it_finds() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    server.node();
    drop(adapter);
    let again = super::adapter(&server);
    assert_eq!(seen(&again, &id).await.phase, Phase::Running);
    server.node();
    told(&again, &id, "part 3 of 19").await;
}

#[tokio::test]
async fn a_run_that_ended_while_nobody_listened_is_in_history() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    server.cut_connections();
    server.finish();
    assert!(matches!(ended(&adapter, &id).await, RunResult::Succeeded { .. }));
}

#[tokio::test]
async fn success_comes_before_history_and_until_then_the_run_is_not_over() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, ..Quirks::default() }).await;
        let id = sent(&adapter, 1).await;
        server.start();
        while server.node().is_some() {}
        server.with(look_alike::World::succeed);
        for _ in 0..3 {
            assert_eq!(seen(&adapter, &id).await.phase, Phase::Running);
            assert_eq!(
                adapter.result(&id).await.expect("an answer"),
                RunResult::Pending(Phase::Running)
            );
        }
        server.with(look_alike::World::archive_ended);
        assert!(matches!(ended(&adapter, &id).await, RunResult::Succeeded { .. }));
    }
}

#[tokio::test]
async fn a_server_that_was_started_again_has_lost_the_job_and_says_so_for_ever() {
    for is_running in [false, true] {
        let (server, adapter) = both(Quirks::default()).await;
        let id = sent(&adapter, 1).await;
        if is_running {
            server.start();
            server.node();
        }
        seen(&adapter, &id).await;
        server.restart();
        for _ in 0..2 {
            let fault = match (adapter.observe(&id).await, adapter.result(&id).await) {
                (Err(CallError::Fault(one)), Err(CallError::Fault(two))) if one == two => one,
                // A kept connection that broke is not an answer yet.
                (Err(CallError::Transient { .. }), _) => continue,
                other => panic!("it is lost, and not {other:?}"),
            };
            assert_eq!(fault.kind, FaultKind::Gone);
            assert!(fault.message.contains("restarted"), "{}", fault.message);
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_no_verdict_on_the_job() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    server.node();
    seen(&adapter, &id).await;
    drop(server);
    for _ in 0..3 {
        assert!(matches!(adapter.observe(&id).await, Err(CallError::Transient { .. })));
        assert!(matches!(adapter.result(&id).await, Err(CallError::Transient { .. })));
    }
}
