//! Downloads from a hand-written server and the rules for hosts, each with the attack it stops.

use std::time::Duration;

use futures_util::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::backend::http::fake::{ScriptedServer, Step, answer};

const LONG: Duration = Duration::from_secs(20);

fn downloader(max: u64) -> Downloader {
    let hosts = AllowedHosts::parse(&["127.0.0.1"]).expect("a host");
    Downloader::new(Timeouts { connect: LONG, read_idle: LONG }, hosts, max)
}

async fn fetch(
    downloader: &Downloader,
    fake: &ScriptedServer,
    from: u64,
) -> Result<(u64, Vec<u8>), FetchError> {
    let url = fake.url.join("/file.glb?sig=1").expect("a URL");
    let download = downloader.open(url.as_str(), from).await?;
    let start = download.start;
    let bytes = download.chunks.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    Ok((start, bytes.await?))
}

fn partial(range: &str, body: &str) -> Vec<u8> {
    answer("206 Partial Content", &format!("content-range: bytes {range}\r\n"), body)
}

#[tokio::test]
async fn a_file_arrives_whole_under_an_ordinary_name_and_without_a_bearer() {
    let fake = ScriptedServer::start([Step::Answer(answer("200 OK", "", "0123456789"))]).await;
    let found = fetch(&downloader(10), &fake, 0).await.expect("the file");
    assert_eq!(found, (0, b"0123456789".to_vec()));
    let [seen] = &fake.requests()[..] else { panic!("one request") };
    assert!(seen.head.starts_with("GET /file.glb?sig=1 HTTP/1.1"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("range"), None);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert!(seen.header("user-agent").is_some_and(|name| name.starts_with("conjured/")));
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let cut = b"HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 10\r\n\r\n01234".to_vec();
    let fake = ScriptedServer::start([
        Step::AnswerAndClose(cut),
        Step::Answer(partial("5-9/10", "56789")),
    ])
    .await;
    let downloader = downloader(10);
    let error = fetch(&downloader, &fake, 0).await.expect_err("it was cut");
    assert!(matches!(error, FetchError::Transient { .. }), "{error:?}");
    let found = fetch(&downloader, &fake, 5).await.expect("the rest");
    assert_eq!(found, (5, b"56789".to_vec()));
    let seen = fake.requests();
    assert_eq!(seen[1].header("range"), Some("bytes=5-"));
    assert_eq!(seen[1].header("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn without_a_strong_validator_the_range_goes_alone() {
    for headers in ["", "etag: W/\"weak\"\r\n"] {
        let steps = [
            Step::Answer(answer("200 OK", headers, "0123456789")),
            Step::Answer(partial("5-9/10", "56789")),
        ];
        let fake = ScriptedServer::start(steps).await;
        let downloader = downloader(10);
        fetch(&downloader, &fake, 0).await.expect("the file");
        fetch(&downloader, &fake, 5).await.expect("the rest");
        assert_eq!(fake.requests()[1].header("if-range"), None);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_where_we_asked_begins_anew() {
    let whole = || Step::Answer(answer("200 OK", "", "0123456789"));
    let no_header = answer("206 Partial Content", "", "56789");
    let beyond = answer("416 Range Not Satisfiable", "content-range: bytes */3\r\n", "");
    let table = [
        ("no ranges here", vec![whole()], 1),
        ("another start", vec![Step::Answer(partial("4-9/10", "456789")), whole()], 2),
        ("no start at all", vec![Step::Answer(no_header), whole()], 2),
        ("beyond the end", vec![Step::Answer(beyond), whole()], 2),
    ];
    for (name, steps, requests) in table {
        let fake = ScriptedServer::start(steps).await;
        let found = fetch(&downloader(100), &fake, 5).await.expect(name);
        assert_eq!(found, (0, b"0123456789".to_vec()), "{name}");
        assert_eq!(fake.requests().len(), requests, "{name}");
    }
}

#[tokio::test]
async fn a_range_from_exactly_the_end_is_the_end() {
    let end = answer("416 Range Not Satisfiable", "content-range: bytes */5\r\n", "");
    let fake = ScriptedServer::start([Step::Answer(end)]).await;
    assert_eq!(fetch(&downloader(100), &fake, 5).await.expect("the end"), (5, Vec::new()));
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_announced_or_not() {
    let megabytes = vec![b'x'; 3 << 20];
    let announced = answer("200 OK", "", &megabytes);
    let mut silent = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    silent.extend_from_slice(&megabytes);
    let lying = partial(&format!("5-9/{}", 9 << 20), "56789");
    for (bytes, from) in [(announced, 0), (silent, 0), (lying, 5)] {
        let fake = ScriptedServer::start([Step::AnswerAndClose(bytes)]).await;
        let error = fetch(&downloader(2 << 20), &fake, from).await.expect_err("too large");
        assert!(matches!(error, FetchError::TooLarge { limit_mb: 2 }), "{error:?}");
    }
    let fake = ScriptedServer::start([Step::Hang]).await;
    assert!(matches!(fetch(&downloader(4), &fake, 5).await, Err(FetchError::TooLarge { .. })));
    assert_eq!(fake.connections(), 0, "what is too large already is not asked for");
}

#[tokio::test]
async fn a_stalled_download_ends() {
    let stalled = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234".to_vec();
    let fake = ScriptedServer::start([Step::AnswerAndHang(stalled)]).await;
    let hosts = AllowedHosts::parse(&["127.0.0.1"]).expect("a host");
    let timeouts = Timeouts { connect: LONG, read_idle: Duration::from_millis(100) };
    let error = fetch(&Downloader::new(timeouts, hosts, 10), &fake, 0).await.expect_err("stalled");
    assert!(matches!(error, FetchError::Transient { .. }), "{error:?}");
}

#[tokio::test]
async fn each_status_says_whether_trying_again_makes_sense() {
    for status in [400_u16, 401, 403, 404, 410] {
        let fake =
            ScriptedServer::start([Step::Answer(answer(&format!("{status} No"), "", ""))]).await;
        for from in [0, 3] {
            let error = fetch(&downloader(9), &fake, from).await.expect_err("no file");
            assert!(matches!(error, FetchError::Gone { status: said } if said == status));
        }
    }
    for status in [204_u16, 304, 408, 429, 500, 503] {
        let fake =
            ScriptedServer::start([Step::Answer(answer(&format!("{status} Hm"), "", ""))]).await;
        let error = fetch(&downloader(9), &fake, 0).await.expect_err("no file");
        assert!(matches!(error, FetchError::Transient { .. }), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let zipped = answer("200 OK", "content-encoding: gzip\r\n", "xx");
    let fake = ScriptedServer::start([Step::Answer(zipped)]).await;
    let error = fetch(&downloader(9), &fake, 0).await.expect_err("refused");
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
}

#[tokio::test]
async fn redirects_are_followed_within_the_allowed_hosts_and_not_for_ever() {
    let hop = |to: &str| Step::Answer(answer("302 Found", &format!("location: {to}\r\n"), ""));
    let file = Step::Answer(answer("200 OK", "", "here"));
    let fake = ScriptedServer::start([hop("/b"), hop("c?x"), file]).await;
    assert_eq!(fetch(&downloader(9), &fake, 0).await.expect("the file").1, b"here");
    assert_eq!(fake.requests().len(), 3);

    let fake = ScriptedServer::start([hop("/round")]).await;
    let error = fetch(&downloader(9), &fake, 0).await.expect_err("for ever");
    assert!(matches!(error, FetchError::Forbidden { .. }), "{error:?}");
    assert_eq!(fake.requests().len(), MAX_HOPS + 1);

    let lost = Step::Answer(answer("302 Found", "", ""));
    let fake = ScriptedServer::start([lost]).await;
    assert!(matches!(fetch(&downloader(9), &fake, 0).await, Err(FetchError::Transient { .. })));
}

#[tokio::test]
async fn a_redirect_to_a_host_that_is_not_allowed_is_not_asked() {
    let inner = ScriptedServer::start([Step::Answer(answer("200 OK", "", "secret"))]).await;
    let port = inner.url.port().expect("a port");
    // The fake server answers to each of these names, but only 127.0.0.1 is in the list.
    for to in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://user@127.0.0.1:{port}/"),
        format!("//localhost:{port}/"),
        "ftp://127.0.0.1/".to_owned(),
        "file:///etc/hostname".to_owned(),
    ] {
        let hop = answer("302 Found", &format!("location: {to}\r\n"), "");
        let fake = ScriptedServer::start([Step::Answer(hop)]).await;
        let error = fetch(&downloader(9), &fake, 0).await.expect_err("refused");
        assert!(matches!(error, FetchError::Forbidden { .. }), "{to}: {error:?}");
    }
    assert_eq!(inner.connections(), 0);
}

fn allows(entries: &[&str], url: &str) -> bool {
    let hosts = AllowedHosts::parse(entries).expect("hosts");
    Url::parse(url).is_ok_and(|url| hosts.check(&url).is_ok())
}

#[test]
fn a_url_is_allowed_by_its_real_host_only() {
    let ours = &[".runcomfy.net", "files.example.com", "127.0.0.1:8080", "[::1]", "Bücher.example"];
    for good in [
        "https://storage.runcomfy.net/a.png?x=1",
        "https://a.b.RUNCOMFY.net:8443/x",
        "https://files.example.com/",
        "http://127.0.0.1:8080/x",
        "https://127.0.0.1:8080/x",
        "http://[::1]:99/x",
        "https://bücher.example/",
        "https:\\\\storage.runcomfy.net\\x",
    ] {
        assert!(allows(ours, good), "{good}");
    }
    for bad in [
        "http://storage.runcomfy.net/",
        "https://runcomfy.net/",
        "https://evilruncomfy.net/",
        "https://storage.runcomfy.net.evil.example/",
        "https://storage.runcomfy.net@evil.example/",
        "https://user:pw@storage.runcomfy.net/",
        "https://evil.example\\@storage.runcomfy.net/",
        "https://evil.example/storage.runcomfy.net",
        "https://evil.example#.runcomfy.net",
        "https://sub.files.example.com/",
        "http://files.example.com/",
        "http://127.0.0.1/",
        "http://127.0.0.1:8081/",
        "http://localhost:8080/",
        "http://0x7f000001:8081/",
        "http://[::ffff:127.0.0.1]:8080/",
        "ftp://storage.runcomfy.net/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "javascript:x",
        "//storage.runcomfy.net/",
        "",
    ] {
        assert!(!allows(ours, bad), "{bad}");
    }
    assert!(!allows(&[], "https://storage.runcomfy.net/"));
}

#[test]
fn entries_that_are_no_hosts_are_refused() {
    for bad in ["", ".", "https://x", "a b", "x:99999", "x:y", ".127.0.0.1", "x/y", "[::1"] {
        assert!(AllowedHosts::parse(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn a_refusal_names_the_host_and_no_query() {
    let hosts = AllowedHosts::parse(&[".runcomfy.net"]).expect("a host");
    let url = Url::parse("https://evil.example/x?sig=hush").expect("a URL");
    let said = hosts.check(&url).expect_err("refused").to_string();
    assert!(said.contains("evil.example") && !said.contains("hush"), "{said}");
}

#[test]
fn content_ranges_are_read() {
    let range = |start, total| Some(ContentRange { start, total });
    assert_eq!(ContentRange::parse("bytes 5-9/10"), range(Some(5), Some(10)));
    assert_eq!(ContentRange::parse("Bytes 5-9/*"), range(Some(5), None));
    assert_eq!(ContentRange::parse("bytes */10"), range(None, Some(10)));
    assert_eq!(ContentRange::parse("items 5-9/10"), None);
    assert_eq!(ContentRange::parse("5-9/10"), None);
}

proptest! {
    #[test]
    fn no_text_panics(entry: String, url: String, range: String) {
        let _ = ContentRange::parse(&range);
        if let (Ok(hosts), Ok(url)) = (AllowedHosts::parse(&[entry]), Url::parse(&url)) {
            let _ = hosts.check(&url);
        }
    }

    #[test]
    fn a_suffix_never_allows_a_host_that_only_ends_alike(label in "[a-z]{1,20}") {
        let host = format!("https://{label}runcomfy.net/");
        prop_assert!(!allows(&[".runcomfy.net"], &host));
        let host = format!("https://{label}.runcomfy.net/");
        prop_assert!(allows(&[".runcomfy.net"], &host));
    }
}
