//! Tests of the storage: access, ranges, and the faults of a stream.

use super::*;
use produce::Product;

async fn mesh(bench: &Bench) -> String {
    url_of_product(&bench.run().await, "33", "3d")
}

#[tokio::test(start_paused = true)]
async fn a_bearer_is_refused_and_counted_and_a_librarys_agent_too() {
    let bench = Bench::new().await;
    let url = mesh(&bench).await;
    assert_eq!(fetch(&url, &[("authorization", "Bearer simulator-token")]).await.status, 403);
    assert_eq!(bench.simulator.stats().authorization_leaks, 1);
    for agent in [&[][..], &[("user-agent", "Python-urllib/3.12")]] {
        assert_eq!(call("GET", &url, agent, b"").await.expect("an answer").status, 403);
    }
    assert_eq!(bench.simulator.stats().agents_refused, 2);
    assert_eq!(fetch(&url, &[]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn files_appear_with_the_result_and_expire() {
    let bench = Bench::new().await;
    let id = bench.submit().await;
    let storage = bench.simulator.storage_url();
    let early = format!("{storage}/deployment_requests/{id}/output/mesh/ComfyUI_00001_.glb");
    assert_eq!(fetch(&early, &[]).await.status, 404, "not yet");
    bench.pass(300).await;
    let url = url_of_product(&bench.result(&id).await, "33", "3d");
    assert_eq!(fetch(&url, &[]).await.status, 200);
    assert_eq!(fetch(&url.replace(".glb", ".exe"), &[]).await.status, 404);
    bench.simulator.advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(fetch(&url, &[]).await.status, 403);
    bench.simulator.behave(|behaviour| behaviour.expired_status = 410);
    assert_eq!(fetch(&url, &[]).await.status, 410);
    let status = bench.get(&bench.url(&format!("requests/{id}/status"))).await;
    assert_eq!((status.status, &status.json()["error_code"]), (404, &json!(404_001)));
}

#[tokio::test(start_paused = true)]
async fn ranges_give_the_rest_unless_switched_off() {
    let bench = Bench::new().await;
    let url = mesh(&bench).await;
    let whole = fetch(&url, &[]).await;
    let etag = whole.header("etag").expect("an etag").to_owned();
    let size = whole.body.len();
    let rest = fetch(&url, &[("range", "bytes=100-"), ("if-range", &etag)]).await;
    assert_eq!((rest.status, &rest.body[..]), (206, &whole.body[100..]));
    assert_eq!(rest.header("content-range"), Some(&*format!("bytes 100-{}/{size}", size - 1)));
    let middle = fetch(&url, &[("range", "bytes=5-9")]).await;
    assert_eq!(middle.body, &whole.body[5..10]);
    assert_eq!(fetch(&url, &[("range", &format!("bytes={size}-"))]).await.status, 416);
    let stale = fetch(&url, &[("range", "bytes=100-"), ("if-range", "\"other\"")]).await;
    assert_eq!((stale.status, stale.body.len()), (200, size));
    bench.simulator.order(Fault::NoRange);
    let ignored = fetch(&url, &[("range", "bytes=100-")]).await;
    assert_eq!((ignored.status, ignored.header("accept-ranges")), (200, None));
    bench.simulator.behave(|behaviour| behaviour.ranges = false);
    assert_eq!(fetch(&url, &[("range", "bytes=100-")]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_can_be_resumed() {
    let bench = Bench::new().await;
    let url = mesh(&bench).await;
    bench.simulator.order(Order::from(Fault::CutAt { fraction: 0.5 }).only(Product::Mesh));
    let cut = fetch(&url, &[]).await;
    let size: usize = cut.header("content-length").and_then(|n| n.parse().ok()).expect("a length");
    assert_eq!(cut.body.len(), size / 2, "everything before the cut arrives");
    assert!(!cut.silent);
    let rest = fetch(&url, &[("range", &format!("bytes={}-", cut.body.len()))]).await;
    let whole = fetch(&url, &[]).await;
    assert_eq!([cut.body, rest.body].concat(), whole.body);
}

#[tokio::test(start_paused = true)]
async fn a_stream_stalls_or_trickles_or_lies_about_its_length() {
    let bench = Bench::new().await;
    let url = mesh(&bench).await;
    let size = fetch(&url, &[]).await.body.len();
    bench.simulator.order(Fault::StallAt { fraction: 0.25 });
    let stalled = fetch(&url, &[]).await;
    assert!(stalled.silent && stalled.body.len() == size / 4, "{}", stalled.body.len());

    bench.simulator.order(Fault::SlowStream { bytes_per_second: 1000 });
    let before = tokio::time::Instant::now();
    assert_eq!(fetch(&url, &[]).await.body.len(), size);
    let taken = before.elapsed().as_secs();
    assert!((size as u64 / 1000..size as u64 / 500).contains(&taken), "{taken} s for {size} bytes");

    bench.simulator.order(Fault::ContentLength { claimed: 10_000_000_000 });
    let liar = fetch(&url, &[]).await;
    assert_eq!(liar.header("content-length"), Some("10000000000"));
    assert_eq!(liar.body.len(), size, "and then the connection breaks");
    bench.simulator.order(Fault::ContentLength { claimed: 100 });
    assert_eq!(fetch(&url, &[]).await.body.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn downloads_are_refused_or_sent_elsewhere_as_ordered() {
    let bench = Bench::new().await;
    let url = mesh(&bench).await;
    for status in [403, 404, 410] {
        bench.on(
            Fault::Http { status, retry_after: None, body: None, accepted: false },
            Call::Download,
        );
        assert_eq!(fetch(&url, &[]).await.status, status);
    }
    bench.simulator.order(Fault::Redirect { url: "https://storage.invalid/x".to_owned() });
    let sent = fetch(&url, &[]).await;
    assert_eq!((sent.status, sent.header("location")), (302, Some("https://storage.invalid/x")));
    assert_eq!(bench.simulator.stats().downloads, 4);
}
