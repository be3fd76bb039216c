//! How runs end: outputs and files, failures, interrupts and cancels, and that other clients' work
//! stays untouched.

use super::*;

fn files(result: RunResult) -> Vec<RemoteFile> {
    match result {
        RunResult::Succeeded { files, .. } => files,
        other => panic!("it succeeds, and not {other:?}"),
    }
}

#[tokio::test]
async fn a_run_lists_picture_and_mesh_and_both_are_fetched_with_three_parameters_and_by_range() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, ..Quirks::default() }).await;
        let id = sent(&adapter, 1).await;
        server.start();
        server.finish();
        let RunResult::Succeeded { files, times } = ended(&adapter, &id).await else {
            panic!("it succeeds")
        };
        let image = choose_file(&files, ArtifactKind::Image, "9").expect("an image");
        let mesh = choose_file(&files, ArtifactKind::Mesh, "22").expect("a mesh");
        assert_eq!(image.url, "/view?filename=ComfyUI_00001_.png&subfolder=&type=output");
        assert_eq!(mesh.url, "/view?filename=PartPacker_00001_.glb&subfolder=mesh&type=output");
        assert_eq!((&*mesh.channel, &*mesh.node), ("3d", "22"));
        assert!(times.created_at <= times.finished_at && times.finished_at.is_some(), "{times:?}");
        let (_, picture) = bytes(&adapter, image, 0).await;
        assert!(picture.starts_with(b"\x89PNG"));
        let (_, whole) = bytes(&adapter, mesh, 0).await;
        assert!(whole.starts_with(b"glTF"));
        let (start, rest) = bytes(&adapter, mesh, 100).await;
        assert_eq!(
            (start, &rest[..]),
            (100, &whole[100..]),
            "what was cut goes on where it was cut"
        );
    }
}

#[tokio::test]
async fn a_file_is_asked_for_at_the_server_itself_and_nowhere_else() {
    let (server, adapter) = both(Quirks::default()).await;
    let file = |url: &str| RemoteFile {
        node: "9".to_owned(),
        channel: "images".to_owned(),
        url: url.to_owned(),
        filename: "a.png".to_owned(),
        file_type: "output".to_owned(),
    };
    for url in [
        "https://elsewhere.example/view?filename=a&subfolder=&type=output",
        "/interrupt",
        "/view?filename=a&subfolder=&type=output&preview=webp",
    ] {
        let opened = adapter.open(&file(url), 0).await.map(|_| ());
        assert!(matches!(opened, Err(FetchError::Forbidden { .. })), "{url}: {opened:?}");
    }
    assert_eq!(server.calls(), Vec::<String>::new());
    let opened =
        adapter.open(&file("/view?filename=gone.png&subfolder=&type=output"), 0).await.map(|_| ());
    assert!(matches!(opened, Err(FetchError::Gone { status: 404 })), "{opened:?}");
}

#[tokio::test]
async fn a_cached_run_lists_the_old_names_and_they_are_right() {
    let (server, adapter) = both(Quirks::default()).await;
    let graph = local_graph();
    let mut lists = Vec::new();
    for number in [1, 2] {
        let id = adapter.submit(&submission(number, work(graph.clone()))).await.expect("taken");
        server.start();
        server.finish();
        lists.push(files(ended(&adapter, &id).await));
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0].len(), 2);
}

#[tokio::test]
async fn a_failed_run_names_the_node_and_still_lists_what_was_saved_before() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    while server.node().as_deref() != Some("9") {}
    while server.node().as_deref() != Some("20") {}
    server.with(|world| world.fail("PIL.UnidentifiedImageError", "cannot identify image file"));
    let RunResult::Failed { fault, files, .. } = ended(&adapter, &id).await else {
        panic!("it fails")
    };
    assert_eq!(fault.kind, FaultKind::Workflow);
    assert!(
        fault.message.contains(
            "node 21 PartPacker_Sampler: PIL.UnidentifiedImageError: cannot identify image file"
        ),
        "{}",
        fault.message
    );
    assert_eq!(
        choose_file(&files, ArtifactKind::Image, "9").map(|file| &*file.filename),
        Some("ComfyUI_00001_.png")
    );
}

#[tokio::test]
async fn no_memory_left_is_the_machines_fault_and_not_the_workflows() {
    for (kind, message) in [
        ("torch.OutOfMemoryError", "Allocation on device"),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (
            "RuntimeError",
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
        ),
        ("OSError", "[Errno 28] No space left on device"),
    ] {
        let (server, adapter) = both(Quirks::default()).await;
        let id = sent(&adapter, 1).await;
        server.start();
        server.with(|world| world.fail(kind, message));
        let RunResult::Failed { fault, .. } = ended(&adapter, &id).await else {
            panic!("it fails")
        };
        assert_eq!(fault.kind, FaultKind::Service, "{kind}: {message}");
    }
}

#[tokio::test]
async fn an_error_that_is_an_interrupt_is_a_cancel() {
    let (server, adapter) = both(Quirks::default()).await;
    let id = sent(&adapter, 1).await;
    server.start();
    server.node();
    assert_eq!(adapter.cancel(&id).await.expect("an answer"), CancelReply::Requested);
    assert!(matches!(ended(&adapter, &id).await, RunResult::Cancelled { .. }));
    assert_eq!(adapter.cancel(&id).await.expect("an answer"), CancelReply::TooLate);
}

#[tokio::test]
async fn a_waiting_job_is_deleted_without_a_trace_and_that_is_a_cancel_too() {
    let (server, adapter) = both(Quirks::default()).await;
    server.with(|world| world.put_foreign("theirs", &local_graph(), None));
    server.start();
    let id = sent(&adapter, 1).await;
    assert_eq!(adapter.cancel(&id).await.expect("an answer"), CancelReply::Requested);
    assert!(matches!(ended(&adapter, &id).await, RunResult::Cancelled { .. }));
    // Submitted again, it is a job like any other.
    assert_eq!(sent(&adapter, 1).await, id);
    assert_eq!(seen(&adapter, &id).await.phase, Phase::Queued { position: Some(1) });
}

#[tokio::test]
async fn a_cancel_leaves_other_peoples_jobs_alone_even_at_servers_that_interrupt_whatever_runs() {
    let (server, adapter) = both(Quirks { old_interrupt: true, ..Quirks::default() }).await;
    server.with(|world| {
        world.put_foreign("theirs-1", &local_graph(), Some("browser"));
        world.start();
        world.put_foreign("theirs-2", &local_graph(), None);
    });
    let id = sent(&adapter, 1).await;
    adapter.cancel(&id).await.expect("an answer");
    assert_eq!(posts(&server, "/interrupt"), 0, "ours was not the one that ran");
    assert_eq!(server.with(|world| world.running_job()), Some("theirs-1".to_owned()));
    assert_eq!(server.with(|world| world.waiting()), ["theirs-2"]);
}

#[tokio::test]
async fn a_job_that_is_taken_to_work_while_it_is_deleted_is_interrupted() {
    let (server, adapter) = both(Quirks { races_delete: true, ..Quirks::default() }).await;
    let id = sent(&adapter, 1).await;
    assert_eq!(adapter.cancel(&id).await.expect("an answer"), CancelReply::Requested);
    assert_eq!(posts(&server, "/interrupt"), 1);
    assert!(matches!(ended(&adapter, &id).await, RunResult::Cancelled { .. }));
}
