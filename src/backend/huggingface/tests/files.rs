//! Downloads: complete, from the Space itself, and only of pictures.

use super::*;

#[tokio::test]
async fn a_download_begins_anew_for_a_range_would_bring_our_own_headers_back() {
    let world = World::new(Version::V5_49).await;
    let result = world.run().await;
    let mesh = &succeeded(&result)[1];
    assert_eq!(download(&world.spaces, mesh, 5).await, (0, GLB.to_vec()));
    assert!(world.mesh.seen().iter().all(|seen| !seen.headers().contains_key("range")));
}

#[tokio::test]
async fn the_picture_is_still_there_when_its_space_is_not() {
    let world = World::new(Version::V5_49).await;
    world.mesh.play([fail("too many parts")]);
    let (_, files) = world.failure().await;
    drop(world.flux);
    assert_eq!(download(&world.spaces, &files[0], 0).await.1, WEBP);
}

#[tokio::test]
async fn a_file_from_another_host_is_refused_and_one_that_is_gone_is_gone() {
    let world = World::with(Version::V5_49, |settings| settings.max_artifact = 1000).await;
    let file = |url: String| RemoteFile {
        node: "mesh".to_owned(),
        channel: "mesh".to_owned(),
        url,
        filename: "a.glb".to_owned(),
        file_type: "output".to_owned(),
    };
    for bad in [
        "http://foreign.invalid/file=/x.glb",
        "https://huggingface.co/x?token=1",
        "file:///etc/passwd",
        "x",
    ] {
        let error = world.spaces.open(&file(bad.to_owned()), 0).await.err().expect("refused");
        assert!(
            matches!(&error, FetchError::Forbidden { host, .. } if !host.contains("token")),
            "{error:?}"
        );
    }
    let of = |path: &str| file(format!("{}/gradio_api/file={path}", world.mesh.url()));
    assert!(matches!(
        world.spaces.open(&of("/t/none.glb"), 0).await,
        Err(FetchError::Gone { status: 403 })
    ));
    world.mesh.state().files.insert("/t/large.glb".to_owned(), vec![b'x'; 1001].into());
    assert!(matches!(
        world.spaces.open(&of("/t/large.glb"), 0).await,
        Err(FetchError::TooLarge { .. })
    ));
    let busy = answer(429, ("retry-after", "7"), "");
    world.mesh.force("GET /file=", busy, 1);
    let error = world.spaces.open(&of("/t/large.glb"), 0).await.err().expect("busy");
    assert!(
        matches!(error, FetchError::Busy { retry_after, .. } if retry_after == Duration::from_secs(7))
    );
}

#[tokio::test]
async fn a_file_that_redirects_is_not_followed_with_or_without_the_token() {
    let world =
        World::with(Version::V5_49, |settings| settings.token = Some(SecretString::from(TOKEN)))
            .await;
    let elsewhere = server(Version::V5_49).await;
    let result = world.run().await;
    let mesh = &succeeded(&result)[1];
    let location = format!("{}/stolen", elsewhere.url());
    world.mesh.force("GET /file=", answer(302, ("location", &location), ""), 1);
    assert!(matches!(world.spaces.open(mesh, 0).await, Err(FetchError::Forbidden { .. })));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn what_flux_gives_is_judged_by_its_bytes_and_named_after_them() {
    let world = World::new(Version::V5_49).await;
    let png = [RENDER, b" of FLUX"].concat();
    world.flux.state().products.insert("infer", png.clone().into());
    let result = world.run().await;
    assert_eq!(succeeded(&result)[0].filename, "image.png");
    assert_eq!(world.mesh.state().files["/t/gradio/1/flux.png"], png);

    let world = World::new(Version::V5_49).await;
    let page = Bytes::from_static(b"<html>sorry</html>");
    world.flux.state().products.insert("infer", page);
    let (fault, files) = world.failure().await;
    assert!(fault.message.contains("not a picture") && files.is_empty(), "{fault:?}");
    assert!(world.mesh.state().calls.is_empty());
}

#[tokio::test]
async fn a_picture_that_is_gone_at_once_ends_the_run_and_one_that_is_late_does_not() {
    let world = World::new(Version::V5_49).await;
    world.flux.force("GET /file=", json_answer(403, &json!({"detail": "File not allowed: x."})), 1);
    let (fault, _) = world.failure().await;
    assert!(
        fault.message.contains("no longer has") && fault.kind == FaultKind::Service,
        "{fault:?}"
    );

    let world = World::new(Version::V5_49).await;
    world.flux.force("GET /file=", page(502), 1);
    let request = world.submit().await;
    let error = world.spaces.observe(&request).await.expect_err("a page");
    assert!(matches!(error, CallError::Transient { .. }), "{error:?}");
    succeeded(&world.end(&request).await);
}
