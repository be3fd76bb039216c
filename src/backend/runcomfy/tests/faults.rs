//! Every fault that a service may show to a submit, a status call or a result call, over
//! real sockets.
//!
//! Owns the table of the three possible outcomes of a failed submit. The tests of the wire cover
//! the meaning of each code in full.

use super::*;

/// For rows in which the server never finishes.
const SHORT: Duration = Duration::from_millis(400);

/// The start of a gzip body, which is not JSON.
const ZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00";

fn client(fake: &ScriptedServer, patience: Option<Duration>) -> Serverless {
    let mut settings = settings(fake);
    if let Some(patience) = patience {
        settings.submit_timeout = patience;
        settings.call_timeout = patience;
    }
    Serverless::new(&settings).expect("good settings")
}

fn status(line: &str) -> Step {
    Step::Answer(answer(line, "", ""))
}

fn coded(line: &str, body: &str) -> Step {
    Step::Answer(answer(line, "content-type: application/json\r\n", body))
}

fn page() -> Vec<u8> {
    answer("200 OK", "content-type: text/html\r\n", "<html><body>Welcome</body></html>")
}

fn zipped() -> Vec<u8> {
    answer("200 OK", "content-encoding: gzip\r\n", ZIPPED)
}

fn huge() -> Vec<u8> {
    let mut body = br#"{"request_id":"R-1","status":"completed","padding":""#.to_vec();
    body.resize(10 << 20, b'x');
    answer("200 OK", "", body)
}

/// An answer that ends before its announced length.
fn cut(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 20).into_bytes()
}

/// An answer that announces fewer bytes than it sends.
fn overlong(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn every_fault_of_a_submit_has_exactly_one_of_three_fates_and_is_sent_once() {
    let id = r#"{"request_id":"R-1"}"#;
    let later = "retry-after: 3\r\n";
    let table = [
        // The request may have been accepted; the outcome is unknown.
        ("cut after the body was read", Step::ReadAndClose, "unknown"),
        ("cut in the head", Step::AnswerAndClose(b"HTTP/1.1 200".to_vec()), "unknown"),
        ("no HTTP at all", Step::AnswerAndClose(b"SSH-2.0-OpenSSH_9\r\n".to_vec()), "unknown"),
        ("cut in the body", Step::AnswerAndClose(cut(id)), "unknown"),
        ("a length that is too short", Step::Answer(overlong(id)), "unknown"),
        ("gzip that nobody asked for", Step::Answer(zipped()), "unknown"),
        ("ten megabytes", Step::Answer(huge()), "unknown"),
        ("a web page", Step::Answer(page()), "unknown"),
        ("half a JSON", Step::Answer(json(r#"{"request_id":"R"#)), "unknown"),
        ("nothing", Step::Answer(json("")), "unknown"),
        ("null", Step::Answer(json("null")), "unknown"),
        ("an array", Step::Answer(json(r#"[{"request_id":"R-1"}]"#)), "unknown"),
        ("an empty object", Step::Answer(json("{}")), "unknown"),
        ("an id of null", Step::Answer(json(r#"{"request_id":null}"#)), "unknown"),
        ("a blank id", Step::Answer(json(r#"{"request_id":" "}"#)), "unknown"),
        ("a number as id", Step::Answer(json(r#"{"request_id":17}"#)), "unknown"),
        ("a path as id", Step::Answer(json(r#"{"request_id":"../../x"}"#)), "unknown"),
        ("200 with 500001", Step::Answer(json(r#"{"error_code":500001}"#)), "unknown"),
        ("408", status("408 Request Timeout"), "unknown"),
        ("500", status("500 Internal Server Error"), "unknown"),
        ("500 with a time", Step::Answer(answer("500 Oh", later, "")), "unknown"),
        ("502", Step::Answer(answer("502 Bad Gateway", "", "<html>nginx</html>")), "unknown"),
        ("503 without a time", status("503 Service Unavailable"), "unknown"),
        ("504", status("504 Gateway Timeout"), "unknown"),
        ("303", Step::Answer(answer("303 See Other", "location: /x\r\n", "")), "unknown"),
        // The request was read and rejected.
        ("400", status("400 Bad Request"), "refused"),
        ("401", coded("401 Unauthorized", r#"{"error_code":401001}"#), "refused"),
        ("402", status("402 Payment Required"), "refused"),
        ("403", coded("403 Forbidden", r#"{"message":"Forbidden"}"#), "refused"),
        ("404", coded("404 Not Found", r#"{"error_code":404001}"#), "refused"),
        ("413", status("413 Content Too Large"), "refused"),
        ("422", coded("422 No", r#"{"error_code":422001,"detail":[{"msg":"b"}]}"#), "refused"),
        ("200 with 10001", Step::Answer(json(r#"{"error_code":10001}"#)), "refused"),
        ("200 with 422001", Step::Answer(json(r#"{"error_code":422001}"#)), "refused"),
        ("a redirect", Step::Answer(answer("307 Go", "location: /x\r\n", "")), "refused"),
        // The request was not accepted and may be accepted later.
        ("429", status("429 Too Many Requests"), "not sent"),
        ("429 with a time", Step::Answer(answer("429 Slow", later, "")), "not sent"),
        ("503 with a time", Step::Answer(answer("503 Soon", later, "")), "not sent"),
        // The control case.
        ("an id", Step::Answer(json(id)), "taken"),
    ];
    let endless = [
        ("silence", Step::Hang, "unknown"),
        ("a body in drops", Step::Drip(json(id)), "unknown"),
        ("a body that stalls", Step::AnswerAndHang(cut(id)), "unknown"),
    ];
    let table = table.map(|row| (row, None)).into_iter();
    for ((name, step, expected), patience) in table.chain(endless.map(|row| (row, Some(SHORT)))) {
        let fake = ScriptedServer::start([step]).await;
        let outcome = client(&fake, patience).submit(&submission()).await;
        let fate = match &outcome {
            Ok(_) => "taken",
            Err(SubmitError::NotSent { .. }) => "not sent",
            Err(SubmitError::Refused(_)) => "refused",
            Err(SubmitError::Unknown { .. }) => "unknown",
        };
        assert_eq!(fate, expected, "{name}: {outcome:?}");
        assert_eq!((fake.requests().len(), fake.connections()), (1, 1), "{name}: sent once");
    }
}

#[tokio::test]
async fn nonsense_in_answer_to_a_status_or_result_call_never_ends_a_job() {
    let half = r#"{"status":"completed""#;
    let table = [
        ("null", Step::Answer(json("null")), None),
        ("an array", Step::Answer(json(r#"[{"status":"completed"}]"#)), None),
        ("a text", Step::Answer(json(r#""completed""#)), None),
        ("nothing", Step::Answer(json("")), None),
        ("half a JSON", Step::Answer(json(half)), None),
        ("a web page", Step::Answer(page()), None),
        ("ten megabytes", Step::Answer(huge()), None),
        ("a length that is too short", Step::AnswerAndClose(overlong(half)), None),
        ("a length that is too long", Step::AnswerAndClose(cut(half)), None),
        ("gzip that nobody asked for", Step::Answer(zipped()), None),
        ("a body in drops", Step::Drip(json(r#"{"status":"completed"}"#)), Some(SHORT)),
        ("a body that stalls", Step::AnswerAndHang(cut(half)), Some(SHORT)),
    ];
    for (name, step, patience) in table {
        let fake = ScriptedServer::start([step]).await;
        let serverless = client(&fake, patience);
        let status = serverless.observe(&request_id()).await;
        assert!(matches!(status, Err(CallError::Transient { .. })), "{name}: {status:?}");
        let result = serverless.result(&request_id()).await;
        assert!(matches!(result, Err(CallError::Transient { .. })), "{name}: {result:?}");
    }
}

#[tokio::test]
async fn what_is_left_over_of_an_answer_is_not_taken_for_the_next_one() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{\"status\":\"completed\"}";
    let first = Step::Answer(overlong(&format!("12345{smuggled}")));
    let fake = ScriptedServer::start([first, Step::Answer(json(r#"{"status":"in_queue"}"#))]).await;
    let serverless = client(&fake, None);
    assert!(serverless.observe(&request_id()).await.is_err());
    let next = serverless.observe(&request_id()).await;
    let ended = next.as_ref().is_ok_and(|observation| observation.phase == Phase::Ended);
    assert!(!ended, "{next:?}");
}
