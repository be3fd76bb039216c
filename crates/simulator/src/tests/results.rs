//! Tests of the content of a result: outputs in all their forms, and errors in all of theirs.

use super::*;
use behaviour::ErrorShape;
use produce::{Product, Spoiled};

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_as_list_object_or_text() {
    let bench = Bench::new().await;
    for code in (10000..=10013).chain([777]) {
        bench.simulator.order(Fault::RunFails { code, shape: None });
        let result = bench.run().await;
        assert_eq!((&result["status"], result.get("outputs")), (&json!("failed"), None));
        assert_eq!(result["error"][0]["errorCode"], code);
    }
    for (shape, place) in [
        (ErrorShape::Object, "/type"),
        (ErrorShape::Text, ""),
        (ErrorShape::Messages, "/0/message"),
    ] {
        bench.simulator.order(Fault::RunFails { code: 10011, shape: Some(shape) });
        let result = bench.run().await;
        let message = result["error"].pointer(place).and_then(Value::as_str).expect("words");
        assert!(message.contains("ComfyUIExecutionError"), "{message}");
    }
    bench.simulator.order(Fault::RunFails { code: 10012, shape: None });
    bench.simulator.order(Fault::FailedOnStatus);
    let id = bench.submit().await;
    bench.pass(300).await;
    assert_eq!(bench.status(&id).await["status"], "failed");
}

#[tokio::test(start_paused = true)]
async fn outputs_can_miss_a_node_or_a_url_or_stand_elsewhere() {
    let bench = Bench::new().await;
    bench.simulator.order(Fault::NodeMissing(Product::Mesh));
    let result = bench.run().await;
    assert_eq!((result["outputs"].get("33"), &result["status"]), (None, &json!("succeeded")));

    bench.simulator.order(Fault::ItemWithoutUrl(Product::Image));
    let result = bench.run().await;
    let item = &result["outputs"]["24"]["images"][0];
    assert_eq!((item.get("url"), item["filename"].is_string()), (None, true));

    for channel in ["files", "mesh"] {
        bench.simulator.order(Fault::MeshChannel(channel.to_owned()));
        url_of_product(&bench.run().await, "33", channel);
    }
    for url in ["http://storage.invalid/a.glb", "file:///etc/hostname"] {
        bench.simulator.order(Fault::ProductUrl { product: Product::Mesh, url: url.to_owned() });
        assert_eq!(url_of_product(&bench.run().await, "33", "3d"), url);
    }
}

#[tokio::test(start_paused = true)]
async fn strange_things_stand_beside_the_outputs() {
    let bench = Bench::new().await;
    for fault in [
        Fault::TempPreviews,
        Fault::EqualNames,
        Fault::ColonIds,
        Fault::NestedText,
        Fault::UnknownMembers,
    ] {
        bench.simulator.order(fault);
    }
    let result = bench.run().await;
    let outputs = result["outputs"].as_object().expect("an object");
    let first = &outputs["24"]["images"][0];
    assert_eq!(first["type"], "temp", "the preview stands before the product");
    let product = outputs["24"]["images"][1].clone();
    assert_eq!(product["type"], "output");
    let twin = outputs["9"]["images"][0].clone();
    assert_eq!(twin["filename"], product["filename"]);
    assert_ne!(twin["url"], product["url"]);
    assert!(outputs["38:42"]["pano_output_images"].is_array());
    assert_eq!(outputs["50:1"]["text"][0][1], json!(["deeper"]));
    assert!(result["usage"].is_object() && product["sha"].is_object());

    // Everything listed can be downloaded, and only the product has the product's content.
    let real = fetch(product["url"].as_str().expect("a url"), &[]).await;
    for other in [first, &twin, &outputs["38:42"]["pano_output_images"][0]] {
        let other = fetch(other["url"].as_str().expect("a url"), &[]).await;
        assert_eq!(other.status, 200);
        assert!(image::load_from_memory(&other.body).is_ok());
        assert_ne!(other.body, real.body);
    }
    let plain = bench.run().await;
    assert_eq!(plain["outputs"].as_object().map(serde_json::Map::len), Some(2), "only once");
}

#[tokio::test(start_paused = true)]
async fn the_products_are_real_and_follow_from_input_and_seed() {
    let bench = Bench::new().await;
    let mut pictures = Vec::new();
    for seed in [1, 1, 2] {
        let reply = bench.post(&body(seed)).await.expect("an answer").json();
        bench.pass(300).await;
        let result = bench.result(reply["request_id"].as_str().expect("an id")).await;
        let picture = fetch(&url_of_product(&result, "24", "images"), &[]).await;
        assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/png")));
        let decoded = image::load_from_memory(&picture.body).expect("a picture");
        assert_eq!((decoded.width(), decoded.height()), (520, 520));
        let mesh = fetch(&url_of_product(&result, "33", "3d"), &[]).await;
        assert_eq!(&mesh.body[..4], b"glTF");
        assert!(mesh.is_whole());
        pictures.push(picture.body);
    }
    assert_eq!(pictures[0], pictures[1], "the same input and seed");
    assert_ne!(pictures[0], pictures[2], "another seed");
}

#[tokio::test(start_paused = true)]
async fn spoiled_files_are_what_was_ordered() {
    let bench = Bench::new().await;
    let spoiled = async |product, content| {
        bench.simulator.order(Fault::File { product, content });
        let result = bench.run().await;
        let (node, channel) = match product {
            Product::Image => ("24", "images"),
            Product::Mesh => ("33", "3d"),
        };
        let answer = fetch(&url_of_product(&result, node, channel), &[]).await;
        assert_eq!(answer.status, 200);
        assert!(answer.is_whole(), "{product:?} {content:?}: the transport is not at fault");
        answer.body
    };
    assert_eq!(spoiled(Product::Mesh, Spoiled::ZeroBytes).await, b"");
    let cut = spoiled(Product::Mesh, Spoiled::Cut).await;
    let told = u32::from_le_bytes(cut[8..12].try_into().expect("four bytes"));
    assert!((told as usize) > cut.len());
    assert!(spoiled(Product::Mesh, Spoiled::Html).await.starts_with(b"<!DOCTYPE"));
    let huge = spoiled(Product::Mesh, Spoiled::Huge { megabytes: 3 }).await;
    assert!((2_900_000..3_100_000).contains(&huge.len()), "{}", huge.len());
    for (content, magic) in [(Spoiled::Webp, &b"RIFF"[..]), (Spoiled::Jpeg, b"\xff\xd8")] {
        let bytes = spoiled(Product::Image, content).await;
        assert!(bytes.starts_with(magic));
        assert!(image::load_from_memory(&bytes).is_ok());
    }
    let bomb = spoiled(Product::Image, Spoiled::Bomb).await;
    assert!(bomb.starts_with(b"\x89PNG") && bomb.len() < 200_000, "{}", bomb.len());
}
