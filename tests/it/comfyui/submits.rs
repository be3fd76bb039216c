//! A submit step by step: what is checked before, what is sent, and how each answer is classified.

use super::*;

#[tokio::test]
async fn a_job_is_sent_whole_under_our_own_id_with_the_name_that_the_server_gave_the_picture() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, ..Quirks::default() }).await;
        // A different picture exists under the same name, so ours becomes
        // "conjured-render (1).png".
        server.with(|world| {
            world.uploads.insert("conjured-render.png".to_owned(), Bytes::from_static(b"another"))
        });
        assert_eq!(adapter.warm_up().await.expect("it is there"), None);
        let id = sent(&adapter, 1).await;
        assert_eq!(id, key(1));
        assert_eq!(server.with(|world| world.waiting()), [key(1).to_string()]);
        let graph = server.with(|world| world.graph_of(id.as_str())).expect("queued");
        assert_eq!(graph["15"]["inputs"]["image"], "conjured-render (1).png", "{version:?}");
        let picture = server.with(|world| world.uploads["conjured-render (1).png"].clone());
        assert_eq!(picture, &b"\x89PNG one"[..], "the bytes arrive as they are");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_next_submit_finds_the_job_instead_of_sending_it() {
    for version in VERSIONS {
        let (server, adapter) =
            both(Quirks { version, lose_answers: 1, ..Quirks::default() }).await;
        let submission = submission(1, work(local_graph()));
        let lost = adapter.submit(&submission).await;
        assert!(matches!(lost, Err(SubmitError::Unknown { .. })), "{lost:?}");
        // A restarted daemon has a new adapter.
        let again = super::adapter(&server);
        for stage in ["pending", "running", "history"] {
            assert_eq!(again.submit(&submission).await.expect(stage), key(1));
            match stage {
                "pending" => assert!(server.start().is_some()),
                _ => server.finish(),
            }
        }
        assert_eq!(posts(&server, "/prompt"), 1, "it was sent once, and runs once");
    }
}

#[tokio::test]
async fn a_server_that_does_not_take_our_id_is_followed_by_its_own_and_is_still_found() {
    for ids in [look_alike::Ids::Refused, look_alike::Ids::Ignored] {
        let (server, adapter) = both(Quirks { ids, ..Quirks::default() }).await;
        let submission = submission(1, work(local_graph()));
        let id = adapter.submit(&submission).await.expect("taken");
        assert!(id.as_str().starts_with("made-by-the-server"), "{id}");
        let before = posts(&server, "/prompt");
        assert_eq!(
            adapter.submit(&submission).await.expect("found"),
            id,
            "by what stands beside it"
        );
        assert_eq!(posts(&server, "/prompt"), before);
        server.start();
        assert_eq!(seen(&adapter, &id).await.phase, Phase::Running);
    }
}

#[tokio::test]
async fn what_is_not_installed_is_told_by_name_before_anything_is_sent() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, ..Quirks::default() }).await;
        let lacks = ["PartPacker_Loader", "ImageResizeKJv2", "sd_xl_base_1.0.safetensors"];
        server.set_quirks(|quirks| quirks.lacks = lacks.map(str::to_owned).into());
        let fault = refusal(adapter.submit(&submission(1, work(local_graph()))).await);
        assert_eq!(fault.kind, FaultKind::Workflow);
        for wanted in [
            "ImageResizeKJv2 (node 24, 25, from ComfyUI-KJNodes)",
            "PartPacker_Loader (node 20, from ComfyUI_PartPacker)",
            "node 4 CheckpointLoaderSimple \"Load Checkpoint\" needs sd_xl_base_1.0.safetensors for ckpt_name; available: \
             another-model.safetensors",
        ] {
            assert!(fault.message.contains(wanted), "{version:?}: {}", fault.message);
        }
        assert_eq!(posts(&server, "/prompt") + posts(&server, "/upload/image"), 0);
        // It was installed in the meantime: the next attempt checks again.
        server.set_quirks(|quirks| quirks.lacks.clear());
        sent(&adapter, 1).await;
    }
}

#[tokio::test]
async fn classes_are_asked_for_once_and_a_model_that_went_is_noticed() {
    let (server, adapter) = both(Quirks::default()).await;
    let asked = || server.calls().iter().filter(|call| call.contains("/object_info/")).count();
    sent(&adapter, 1).await;
    let first = asked();
    sent(&adapter, 2).await;
    assert_eq!(asked(), first);
    server.set_quirks(|quirks| {
        quirks.lacks.insert("flow.pt".to_owned());
        quirks.lacks.insert("PartPacker_Sampler".to_owned());
    });
    // Remembered facts do not override the server, which refuses both in its own words.
    let fault = refusal(adapter.submit(&submission(3, work(local_graph()))).await);
    assert!(fault.message.contains("PartPacker_Sampler"), "{}", fault.message);
}

#[tokio::test]
async fn a_refusal_names_node_and_reason_in_the_words_of_either_version() {
    for version in VERSIONS {
        let (server, adapter) = both(Quirks { version, ..Quirks::default() }).await;
        let mut graph = local_graph();
        // A text where only a number fits, upstream of both outputs.
        graph["3"]["inputs"]["steps"] = "many".into();
        let fault = refusal(adapter.submit(&submission(1, work(graph))).await);
        assert_eq!((fault.status, fault.kind), (400, FaultKind::Workflow));
        for wanted in
            ["node 3 KSampler", "Failed to convert an input value", "steps", "invalid literal"]
        {
            assert!(fault.message.contains(wanted), "{}", fault.message);
        }
        sent(&adapter, 2).await;
        server.set_quirks(|quirks| {
            quirks.lacks.insert("SaveGLB".to_owned());
        });
        // It is remembered as installed, so the server itself reports that it is gone.
        let fault = refusal(adapter.submit(&submission(3, work(local_graph()))).await);
        let wanted = match version {
            Version::V03 => "SaveGLB does not exist",
            Version::V33 => "node 22 SaveGLB \"GLBEXPORT\": Node 'GLBEXPORT' not found",
        };
        assert!(fault.message.contains(wanted), "{}", fault.message);
    }
}

#[tokio::test]
async fn a_200_that_drops_a_bound_output_is_cancelled_and_refused_and_another_output_is_not_ours() {
    let (server, adapter) = both(Quirks::default()).await;
    let mut graph = local_graph();
    graph["21"]["inputs"]["steps"] = "many".into();
    let broken = submission(1, work(graph));
    let fault = refusal(adapter.submit(&broken).await);
    assert!(fault.message.contains("node 21 PartPacker_Sampler"), "{}", fault.message);
    assert_eq!(server.with(|world| world.waiting()), Vec::<String>::new(), "it does not run");

    // The same with a lost answer: the queue still shows which outputs were left.
    server.set_quirks(|quirks| quirks.lose_answers = 1);
    assert!(matches!(adapter.submit(&broken).await, Err(SubmitError::Unknown { .. })));
    let fault = refusal(adapter.submit(&broken).await);
    assert!(fault.message.contains("dropped the output node 22"), "{}", fault.message);
    assert_eq!(server.with(|world| world.waiting()), Vec::<String>::new());

    let mut graph = local_graph();
    graph.insert(
        "99".to_owned(),
        json!({"class_type": "PreviewImage", "inputs": {"images": ["nowhere", 0]}}),
    );
    server.with(|world| world.install(&graph));
    let id =
        adapter.submit(&submission(2, work(graph))).await.expect("the preview is nobody's product");
    assert_eq!(server.with(|world| world.waiting()), [id.to_string()]);
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing() {
    let (server, adapter) = both(Quirks::default()).await;
    drop(server);
    let answer = adapter.submit(&submission(1, work(local_graph()))).await;
    assert!(matches!(answer, Err(SubmitError::NotSent { .. })), "{answer:?}");
    assert!(matches!(adapter.warm_up().await, Err(CallError::Transient { .. })));
}

#[tokio::test]
async fn a_stumble_a_proxy_and_a_guard_are_told_apart() {
    let (server, adapter) = both(Quirks::default()).await;
    let submission = submission(1, work(local_graph()));
    server.set_quirks(|quirks| quirks.stumble = Some(500));
    let fault = refusal(adapter.submit(&submission).await);
    assert_eq!(fault.kind, FaultKind::Service, "the queue does not have it: {}", fault.message);
    server.set_quirks(|quirks| quirks.stumble = Some(502));
    let answer = adapter.submit(&submission).await;
    assert!(
        matches!(answer, Err(SubmitError::Unknown { .. })),
        "a proxy may have passed it on: {answer:?}"
    );
    server.set_quirks(|quirks| quirks.stumble = Some(429));
    assert!(matches!(adapter.submit(&submission).await, Err(SubmitError::NotSent { .. })));
    server.set_quirks(|quirks| (quirks.stumble, quirks.guarded) = (None, Some(401)));
    assert_eq!(refusal(adapter.submit(&submission).await).kind, FaultKind::Account);
    server.set_quirks(|quirks| quirks.guarded = Some(404));
    assert_eq!(refusal(adapter.submit(&submission).await).kind, FaultKind::Account);
    assert!(matches!(adapter.warm_up().await, Err(CallError::Fault(_))));
}

#[tokio::test]
async fn another_backends_work_is_never_sent() {
    let (server, adapter) = both(Quirks::default()).await;
    let foreign = Submission { key: key(1), payload: Payload::Body(Bytes::from_static(b"{}")) };
    assert!(matches!(adapter.submit(&foreign).await, Err(SubmitError::NotSent { .. })));
    assert_eq!(server.calls(), Vec::<String>::new());
}

#[test]
fn an_address_that_is_none_or_unencrypted_is_refused_and_a_secret_one_is_never_shown() {
    for (text, is_good) in [
        ("http://127.0.0.1:8188", true),
        ("http://localhost:8188/comfy/", true),
        ("https://machine.example", true),
        ("http://192.168.1.7:8188", false),
        ("https://user:word@machine.example", false),
        ("https://machine.example/?token=x", false),
        ("ftp://127.0.0.1", false),
    ] {
        let settings = Settings::local(text.parse().expect("a URL"));
        assert_eq!(Comfyui::new(&settings).is_ok(), is_good, "{text}");
    }
    let rented =
        Settings::rented("https://abcdefgh-comfyui.machines.example".parse().expect("a URL"));
    let adapter = Comfyui::new(&rented).expect("good settings");
    assert!(!format!("{rented:?} {adapter:?}").contains("machines.example"));
    let plain = Settings::rented("http://abcdefgh.machines.example".parse().expect("a URL"));
    let error = Comfyui::new(&plain).expect_err("unencrypted");
    assert!(!error.to_string().contains("machines.example"));
}

#[tokio::test]
async fn a_secret_address_is_in_no_word_of_any_answer() {
    let (server, _) = both(Quirks::default()).await;
    let port = server.url().rsplit(':').next().expect("a port").to_owned();
    let secret = Settings::rented(
        format!("http://localhost:{port}/hidden-machine-7/").parse().expect("a URL"),
    );
    let adapter = Comfyui::new(&secret).expect("good settings");
    let answer = adapter.submit(&submission(1, work(local_graph()))).await;
    let file = RemoteFile {
        node: "9".to_owned(),
        channel: "images".to_owned(),
        url: "/view?filename=a.png&subfolder=&type=output".to_owned(),
        filename: "a.png".to_owned(),
        file_type: "output".to_owned(),
    };
    let opened = adapter.open(&file, 0).await.map(|_| ());
    drop(server);
    let message = format!(
        "{answer:?} {opened:?} {:?} {:?} {:?} {:?} {:?}",
        adapter.warm_up().await,
        adapter.observe(&key(1)).await,
        adapter.result(&key(1)).await,
        adapter.submit(&submission(1, work(local_graph()))).await,
        adapter.open(&file, 0).await.map(|_| ()),
    );
    assert!(!message.contains("localhost") && !message.contains("hidden-machine"), "{message}");
}
