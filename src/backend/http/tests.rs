//! The failures of a POST, played by a hand-written server: each test says whether the request
//! certainly did not arrive.

use bytes::Bytes;

use super::{
    answer::Answer,
    fake::{ScriptedServer, Step, answer, json},
    send::{SendFault, post_once},
    *,
};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

/// The longest answer, in bytes.
const LIMIT: usize = 1000;

fn connector() -> Connector {
    Connector::new(Timeouts { connect: LONG, read_idle: LONG })
}

async fn post(
    connector: &Connector,
    url: &Url,
    body: Vec<u8>,
    timeout: Duration,
) -> Result<Answer, SendFault> {
    let client = connector.client(url).await.expect("a client");
    post_once(client.post(url.clone()), Bytes::from(body), timeout, LIMIT).await
}

async fn post_to(
    steps: impl IntoIterator<Item = Step>,
) -> (ScriptedServer, Result<Answer, SendFault>) {
    let fake = ScriptedServer::start(steps).await;
    let result = post(&connector(), &fake.url, b"{\"a\":1}".to_vec(), LONG).await;
    (fake, result)
}

#[tokio::test]
async fn a_post_arrives_whole_with_its_length_and_our_name() {
    let body = vec![b'x'; 300_000];
    let fake = ScriptedServer::start([Step::Answer(json("{}"))]).await;
    let response = post(&connector(), &fake.url, body.clone(), LONG).await.expect("an answer");
    assert_eq!(response.status, 200);
    let [seen] = &fake.requests()[..] else { panic!("one request") };
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("content-length"), Some("300000"));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert!(seen.header("user-agent").is_some_and(|name| name.starts_with("conjured/")));
    assert_eq!(seen.header("accept-encoding"), None);
}

#[tokio::test]
async fn a_refused_connection_is_surely_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let url = Url::parse(&format!("http://{address}/")).expect("a URL");
    let result = post(&connector(), &url, b"{}".to_vec(), LONG).await;
    assert!(matches!(result, Err(SendFault::NotSent(_))), "{result:?}");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_surely_not_sent() {
    let plain = ScriptedServer::start([Step::CloseUnread]).await;
    let mut url = plain.url.clone();
    url.set_scheme("https").expect("both are special schemes");
    let result = post(&connector(), &url, b"{}".to_vec(), LONG).await;
    assert!(matches!(result, Err(SendFault::NotSent(_))), "{result:?}");
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn a_time_out_on_the_way_to_a_connection_is_surely_not_sent() {
    // A listener that never answers: TCP connects, the TLS handshake hangs.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let url = Url::parse(&format!("https://{address}/")).expect("a URL");
    let impatient = Connector::new(Timeouts { connect: SHORT, read_idle: LONG });
    let by_connect = post(&impatient, &url, b"{}".to_vec(), LONG).await;
    assert!(matches!(by_connect, Err(SendFault::NotSent(_))), "{by_connect:?}");
    let by_whole = post(&connector(), &url, b"{}".to_vec(), SHORT).await;
    assert!(matches!(by_whole, Err(SendFault::NotSent(_))), "{by_whole:?}");
}

#[tokio::test]
async fn a_server_that_takes_the_request_and_hangs_up_leaves_the_outcome_unknown() {
    let (fake, result) = post_to([Step::ReadAndClose, Step::Answer(json("{}"))]).await;
    assert!(matches!(result, Err(SendFault::Unknown(_))), "{result:?}");
    assert_eq!((fake.requests().len(), fake.connections()), (1, 1), "it is not tried again");
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_asked_again() {
    // Whether the body had begun to leave is a race here. Both answers are correct; a second try
    // would not be.
    let (fake, result) = post_to([Step::CloseUnread, Step::Answer(json("{}"))]).await;
    assert!(result.is_err(), "{result:?}");
    assert_eq!((fake.requests().len(), fake.connections()), (0, 1));
}

#[tokio::test]
async fn a_silent_server_leaves_the_outcome_unknown() {
    let fake = ScriptedServer::start([Step::Answer(json("{}")), Step::Hang]).await;
    let connector = connector();
    // The connection exists: the short time is for the answer alone, even on a slow machine.
    let warm = post(&connector, &fake.url, b"warm".to_vec(), LONG).await.expect("an answer");
    warm.body.expect("a body");
    let result = post(&connector, &fake.url, b"{}".to_vec(), SHORT).await;
    assert!(matches!(result, Err(SendFault::Unknown(_))), "{result:?}");
    assert_eq!((fake.requests().len(), fake.connections()), (2, 1));
}

#[tokio::test]
async fn a_half_head_or_rubbish_leaves_the_outcome_unknown() {
    for bytes in [&b"HTTP/1.1 200 OK\r\ncontent-le"[..], b"\x15\x03\x01\x00 rubbish\r\n\r\n", b""] {
        let steps = [Step::AnswerAndClose(bytes.to_vec()), Step::Answer(json("{}"))];
        let (fake, result) = post_to(steps).await;
        assert!(matches!(result, Err(SendFault::Unknown(_))), "{result:?}");
        assert_eq!(fake.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_or_stalls_is_an_answer_without_words() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"request_id\"".to_vec();
    for step in [Step::AnswerAndClose(cut.clone()), Step::AnswerAndHang(cut)] {
        let fake = ScriptedServer::start([step]).await;
        let connector = connector();
        // There is one time-out for head and body: on a slow machine it must be longer, so that the
        // head arrives.
        let mut timeout = SHORT;
        let answer = loop {
            match post(&connector, &fake.url, b"{}".to_vec(), timeout).await {
                Ok(answer) => break answer,
                Err(_) if timeout < LONG => timeout *= 2,
                Err(fault) => panic!("no head: {fault:?}"),
            }
        };
        assert_eq!(answer.status, 200);
        assert!(answer.body.is_err());
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_given_up_announced_or_not() {
    let announced = answer("200 OK", "", "x".repeat(2000));
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes());
    }
    for bytes in [announced, chunked] {
        // The server keeps the connection open: only a limit ends this read.
        let fake = ScriptedServer::start([Step::AnswerAndHang(bytes)]).await;
        let connector = connector();
        let answer = post(&connector, &fake.url, b"{}".to_vec(), LONG).await.expect("a head");
        assert!(answer.body.is_err_and(|reason| reason.contains("larger")));
    }
}

#[tokio::test]
async fn a_second_request_uses_the_open_connection() {
    let fake = ScriptedServer::start([Step::Answer(json("{}"))]).await;
    let connector = connector();
    for _ in 0..3 {
        let answer = post(&connector, &fake.url, b"{}".to_vec(), LONG).await.expect("an answer");
        answer.body.expect("a body");
    }
    assert_eq!((fake.requests().len(), fake.connections()), (3, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_neither_the_request_nor_a_second_one() {
    // Many rounds, because the outcome must not depend on which task is polled first.
    for round in 0..50 {
        let steps = [Step::AnswerAndClose(json("{}")), Step::Answer(json("{}"))];
        let mut fake = ScriptedServer::start(steps).await;
        let connector = connector();
        let warm = post(&connector, &fake.url, b"warm".to_vec(), LONG).await.expect("an answer");
        warm.body.expect("a body");
        fake.closed(1).await;
        let result = post(&connector, &fake.url, b"paid".to_vec(), LONG).await;
        assert!(result.is_ok(), "round {round}: {result:?}");
        let paid: Vec<_> =
            fake.requests().into_iter().filter(|seen| seen.body == b"paid").collect();
        assert_eq!(paid.len(), 1);
        assert_eq!(paid[0].connection, 2);
    }
}

#[tokio::test]
async fn a_daemon_that_was_busy_while_its_connection_was_closed_still_notices() {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::mpsc,
    };

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let url = Url::parse(&format!("http://{address}/")).expect("a URL");
    let (close, told_to_close) = mpsc::channel();
    let (report, closed) = mpsc::channel();
    #[expect(
        clippy::disallowed_methods,
        reason = "the server must go on while the test's runtime is kept busy, and must not outlive a failure"
    )]
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut bytes = [0; 4096];
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                let count = stream.read(&mut bytes).expect("a request");
                assert!(count > 0, "a whole request");
                request.extend_from_slice(&bytes[..count]);
            }
            stream.write_all(&json("{}")).expect("it is read");
            told_to_close.recv().expect("the test lives");
            drop(stream);
            report.send(()).expect("the test waits");
        }
    });
    let connector = connector();
    let warm = post(&connector, &url, b"{}".to_vec(), LONG).await.expect("an answer");
    warm.body.expect("a body");
    // Blocks the runtime on purpose, so that nothing in it can notice that the connection
    // has ended.
    close.send(()).expect("the server waits");
    closed.recv().expect("closed");
    let result = post(&connector, &url, b"{}".to_vec(), LONG).await;
    assert!(result.is_ok(), "{result:?}");
    close.send(()).expect("the server waits");
    server.join().expect("no panic");
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_the_request_leaves_the_outcome_unknown() {
    let steps = [Step::Answer(json("{}")), Step::ReadAndClose, Step::Answer(json("{}"))];
    let fake = ScriptedServer::start(steps).await;
    let connector = connector();
    let warm = post(&connector, &fake.url, b"warm".to_vec(), LONG).await.expect("an answer");
    warm.body.expect("a body");
    let result = post(&connector, &fake.url, b"paid".to_vec(), LONG).await;
    assert!(matches!(result, Err(SendFault::Unknown(_))), "{result:?}");
    assert_eq!(
        (fake.requests().len(), fake.connections()),
        (2, 1),
        "exactly one paid request arrived"
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = ScriptedServer::start([Step::Answer(json("{}"))]).await;
    let location = format!("location: {}\r\n", elsewhere.url);
    let (_fake, result) =
        post_to([Step::Answer(answer("307 Temporary Redirect", &location, ""))]).await;
    assert_eq!(result.expect("an answer").status, 307);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn only_this_machine_is_spoken_to_unencrypted() {
    let connector = connector();
    for near in
        ["http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]:80/", "http://localhost/"]
    {
        assert!(connector.client(&Url::parse(near).expect("a URL")).await.is_ok(), "{near}");
    }
    for far in
        ["http://api.runcomfy.net/", "http://0.0.0.0/", "http://localhost.example/", "ftp://a/"]
    {
        let refused = connector.client(&Url::parse(far).expect("a URL")).await;
        assert!(matches!(refused, Err(ConnectorError::Unencrypted { .. })), "{far}");
    }
}

/// Runs itself again in a process without certificate authorities, because the environment belongs
/// to a process.
// Windows and macOS use their own certificate stores, which no variable can remove.
#[cfg(not(any(windows, target_vendor = "apple")))]
#[tokio::test]
async fn without_certificate_authorities_https_is_a_clear_error_and_loopback_still_works() {
    const INNER: &str = "CONJURED_TEST_WITHOUT_AUTHORITIES";
    let url = |text| Url::parse(text).expect("a URL");
    if std::env::var_os(INNER).is_some() {
        let connector = connector();
        let error =
            connector.client(&url("https://api.runcomfy.net/")).await.expect_err("no trust");
        assert!(error.to_string().contains("ca-certificates"), "{error}");
        assert!(connector.client(&url("http://127.0.0.1/")).await.is_ok());
        return;
    }
    let name = "backend::http::tests::without_certificate_authorities_https_is_a_clear_error_and_loopback_still_works";
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(INNER, "1")
        .env("SSL_CERT_FILE", "/nonexistent/bundle.pem")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn an_answer_that_came_while_the_process_was_stopped_past_its_time_out_is_read() {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::mpsc,
    };

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let url = Url::parse(&url).expect("a URL");
    let (asked, mut was_asked) = tokio::sync::oneshot::channel();
    let (stop, stopped) = mpsc::channel();
    let (report, answered) = mpsc::channel();
    let body = r#"{"request_id":"r-1"}"#;
    #[expect(
        clippy::disallowed_methods,
        reason = "the server must go on while the test's runtime stands still"
    )]
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut bytes, mut request) = ([0; 4096], Vec::new());
        while !request.ends_with(b"\r\n\r\n{}") {
            let count = stream.read(&mut bytes).expect("a request");
            assert!(count > 0, "a whole request");
            request.extend_from_slice(&bytes[..count]);
        }
        asked.send(()).expect("the test waits");
        stopped.recv().expect("the test lives");
        stream.write_all(&json(body)).expect("it is taken in by the system");
        report.send(()).expect("the test waits");
        // Kept open until the test is over.
        stopped.recv().expect_err("nothing more is said");
    });
    let connector = connector();
    let posting = post(&connector, &url, b"{}".to_vec(), SHORT);
    let stopping = async {
        (&mut was_asked).await.expect("the server lives");
        // From here on nothing of this runtime runs, as under SIGSTOP: the answer arrives, and the
        // time-out expires.
        stop.send(()).expect("the server waits");
        answered.recv().expect("answered");
        let (_never, silence) = mpsc::channel::<()>();
        silence.recv_timeout(SHORT * 3).expect_err("nobody speaks");
    };
    let (answer, ()) = futures_util::future::join(posting, stopping).await;
    let answer = answer.expect("it lies in the socket");
    assert_eq!(answer.body.expect("a body"), body);
    drop(stop);
    server.join().expect("no panic");
}
