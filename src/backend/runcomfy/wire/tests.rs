//! Every documented and every malformed answer of the queue, as data.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::backend::http::{answer::Answer, message::TextSanitizer};

const TOKEN: &str = "t0ken-of-the-test";

fn with<T>(status: u16, body: &str, read: impl FnOnce(&Reply<'_>) -> T) -> T {
    with_wait(status, None, body.as_bytes(), read)
}

fn with_wait<T>(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    read: impl FnOnce(&Reply<'_>) -> T,
) -> T {
    let sanitizer = TextSanitizer::new(SecretString::from(TOKEN));
    let body = Ok(Bytes::copy_from_slice(body));
    read(&Reply::open(Answer { status, retry_after, date: None, body }, &sanitizer))
}

/// Returns the outcome of a submit as a short text for the tables.
fn fate(answer: &Result<RequestId, SubmitError>) -> String {
    match answer {
        Ok(id) => format!("id {id}"),
        Err(SubmitError::NotSent { retry_after: None, .. }) => "not sent".to_owned(),
        Err(SubmitError::NotSent { retry_after: Some(wait), .. }) => {
            format!("not sent, {} s", wait.as_secs())
        }
        Err(SubmitError::Refused(fault)) => format!("refused {:?}", fault.kind),
        Err(SubmitError::Unknown { .. }) => "unknown".to_owned(),
    }
}

#[test]
fn a_submit_is_taken_refused_unsent_or_unknown() {
    let four_urls = r#"{"request_id":"R-1","status_url":"https://x/s","result_url":"https://x/r","cancel_url":"https://x/c"}"#;
    let table = [
        (200, four_urls, "id R-1"),
        (202, r#"{"request_id":"R-1","status":"in_queue","new_member":[1]}"#, "id R-1"),
        (201, r#"{"request_id":"R-1"}"#, "id R-1"),
        (200, r#"{"request_id":"R-1","error_code":null}"#, "id R-1"),
        (200, r#"{"request_id":"R-1","error_code":0}"#, "id R-1"),
        // A success that cannot be read may be a paid run.
        (200, "", "unknown"),
        (200, "{", "unknown"),
        (200, "null", "unknown"),
        (200, "[]", "unknown"),
        (200, "{}", "unknown"),
        (200, "<html>hello</html>", "unknown"),
        (200, r#"{"request_id":null}"#, "unknown"),
        (200, r#"{"request_id":""}"#, "unknown"),
        (200, r#"{"request_id":"  "}"#, "unknown"),
        (200, r#"{"request_id":17}"#, "unknown"),
        (200, r#"{"request_id":["R"]}"#, "unknown"),
        (200, r#"{"request_id":"../../users"}"#, "unknown"),
        (200, r#"{"request_id":"a/b"}"#, "unknown"),
        (204, "", "unknown"),
        // A success that carries a code is an error; the code says which one.
        (200, r#"{"error_code":10001,"message":"no funds"}"#, "refused Account"),
        (202, r#"{"error_code":"10002"}"#, "refused Account"),
        (200, r#"{"request_id":"R-1","error_code":422001}"#, "refused Workflow"),
        (200, r#"{"error_code":401001}"#, "refused Token"),
        (200, r#"{"error_code":500001}"#, "unknown"),
        (200, r#"{"error_code":10004}"#, "unknown"),
        (200, r#"{"error_code":10010}"#, "unknown"),
        (200, r#"{"error_code":99}"#, "unknown"),
        // Redirects are not followed. Only a 303 says that the request was accepted.
        (301, "", "refused Account"),
        (302, "", "refused Account"),
        (307, "", "refused Account"),
        (308, "", "refused Account"),
        (303, "", "unknown"),
        // Clear refusals, with and without a code.
        (400, r#"{"error_code":400001}"#, "refused Workflow"),
        (400, "", "refused Workflow"),
        (401, r#"{"error_code":401001,"error_message":"bad token"}"#, "refused Token"),
        (401, "", "refused Token"),
        (402, "", "refused Account"),
        (403, r#"{"message":"Forbidden"}"#, "refused Account"),
        (403, r#"{"error_code":403003}"#, "refused Account"),
        (404, r#"{"error_code":404001}"#, "refused Gone"),
        (409, "", "refused Service"),
        (413, "<html>too large</html>", "refused Workflow"),
        (422, r#"{"error_code":422001,"detail":[{"loc":["a"],"msg":"b"}]}"#, "refused Workflow"),
        (418, "", "refused Service"),
        // The HTTP status of the job codes is not published, so a refusal counts with any status.
        (500, r#"{"error_code":10002}"#, "refused Account"),
        (503, r#"{"error_code":10001}"#, "refused Account"),
        (429, r#"{"error_code":10001}"#, "refused Account"),
        (400, r#"{"error_code":10008}"#, "refused Workflow"),
        (400, r#"{"error_code":10009}"#, "refused Workflow"),
        (400, r#"{"error_code":10007}"#, "unknown"),
        // Problems of the service itself.
        (408, "", "unknown"),
        (429, "", "not sent"),
        (429, r#"{"message":"rate_limited"}"#, "not sent"),
        (500, r#"{"error_code":500001}"#, "unknown"),
        (500, "", "unknown"),
        (502, "<html>", "unknown"),
        (503, "", "unknown"),
        (504, "", "unknown"),
        (599, "", "unknown"),
    ];
    for (status, body, expected) in table {
        assert_eq!(
            with(status, body, |reply| fate(&submitted(reply))),
            expected,
            "{status} {body}"
        );
    }
}

#[test]
fn a_503_that_says_when_to_come_back_was_not_taken() {
    let wait = Some(Duration::from_secs(7));
    for status in [429, 503] {
        let fate = with_wait(status, wait, b"busy", |reply| fate(&submitted(reply)));
        assert_eq!(fate, "not sent, 7 s", "{status}");
    }
    for status in [500, 502, 504] {
        let fate = with_wait(status, wait, b"busy", |reply| fate(&submitted(reply)));
        assert_eq!(fate, "unknown", "{status}");
    }
}

#[test]
fn an_answer_whose_body_was_cut_is_unknown_when_it_was_a_success() {
    let sanitizer = TextSanitizer::new(SecretString::from(TOKEN));
    for (status, expected) in [(200, "unknown"), (422, "refused Workflow"), (429, "not sent")] {
        let answer =
            Answer { status, retry_after: None, date: None, body: Err("it was cut".to_owned()) };
        let reply = Reply::open(answer, &sanitizer);
        assert_eq!(fate(&submitted(&reply)), expected);
    }
}

#[test]
fn the_services_words_reach_the_person_without_the_token() {
    let table = [
        (r#"{"error_code":422001,"error_message":"bad override"}"#, "bad override"),
        (r#"{"message":"no such node"}"#, "no such node"),
        (r#"{"error":"plain"}"#, "plain"),
        (r#"{"error":{"message":"nested"}}"#, "nested"),
        (r#"{"detail":"just detail"}"#, "just detail"),
        (
            r#"{"message":"invalid","detail":[{"loc":["overrides",24,"inputs"],"msg":"unknown key"},{"msg":"b"}]}"#,
            "invalid; overrides.24.inputs: unknown key; b",
        ),
        ("plain text", "plain text"),
        (r#""a JSON string""#, "a JSON string"),
        ("<html><body>nginx</body>", "HTTP 422, with a web page instead of an API answer"),
        ("", "HTTP 422 without a message"),
        (r#"{"message":"token t0ken-of-the-test\nis bad"}"#, "token [token] is bad"),
        (r#"{"message":"token \u0074\u0030ken-of-the-test"}"#, "token [token]"),
    ];
    for (body, message) in table {
        let Err(SubmitError::Refused(fault)) = with(422, body, submitted) else {
            panic!("{body} is a refusal");
        };
        assert_eq!(fault.message, message);
    }
}

#[test]
fn every_status_word_has_its_phase() {
    let queued = |position| Phase::Queued { position };
    let table = [
        (r#"{"status":"in_queue"}"#, queued(None)),
        (r#"{"status":"IN_QUEUE","queue_position":0}"#, queued(Some(0))),
        (r#"{"status":"In Queue","queue_position":3}"#, queued(Some(3))),
        (r#"{"status":"in_queue","queue_position":null}"#, queued(None)),
        (r#"{"status":"in_queue","queue_position":"2"}"#, queued(Some(2))),
        (r#"{"status":"in_queue","queue_position":-1}"#, queued(None)),
        (r#"{"status":"in_queue","queue_position":1.5}"#, queued(None)),
        (r#"{"status":"in_queue","queue_position":{}}"#, queued(None)),
        (r#"{"status":"queued","queue_position":1}"#, queued(Some(1))),
        (r#"{"status":"in_progress","queue_position":0}"#, Phase::Running),
        (r#"{"status":"cancellation_requested"}"#, Phase::Running),
        (r#"{"status":"completed"}"#, Phase::Ended),
        (r#"{"status":"Completed "}"#, Phase::Ended),
        (r#"{"status":"succeeded"}"#, Phase::Ended),
        (r#"{"status":"failed"}"#, Phase::Ended),
        (r#"{"status":"error"}"#, Phase::Ended),
        (r#"{"status":"canceled"}"#, Phase::Ended),
        (r#"{"status":"cancelled"}"#, Phase::Ended),
        (r#"{"status":"failed","error_code":10007}"#, Phase::Ended),
    ];
    for (body, phase) in table {
        let observation = with(200, body, observed).expect(body);
        assert_eq!((observation.phase, observation.unknown_status), (phase, None), "{body}");
    }
}

#[test]
fn an_unknown_word_is_pending_and_reported() {
    let observation = with(202, r#"{"status":"dream\u0007ing","queue_position":4}"#, observed);
    let expected = Observation {
        phase: Phase::Queued { position: Some(4) },
        instance: None,
        unknown_status: Some("dreaming".to_owned()),
        progress: None,
    };
    assert_eq!(observation.expect("pending"), expected);
}

#[test]
fn the_instance_is_reported_once_it_is_known_and_other_members_are_ignored() {
    let body = r#"{"request_id":"R","status":"in_progress","instance_id":"i-7","log_url":"https://cdn/x","z":{}}"#;
    assert_eq!(with(200, body, observed).expect("running").instance.as_deref(), Some("i-7"));
    for body in [
        r#"{"status":"in_progress","instance_id":" "}"#,
        r#"{"status":"in_progress","instance_id":5}"#,
    ] {
        assert_eq!(with(200, body, observed).expect("running").instance, None);
    }
}

#[test]
fn nothing_unclear_ends_a_job_and_only_a_verdict_is_a_fault() {
    let table = [
        (200, "", "passing"),
        (200, "{}", "passing"),
        (200, "[]", "passing"),
        (200, r#"{"status":7}"#, "passing"),
        (200, "<html>", "passing"),
        (200, r#"{"error_code":10000}"#, "passing"),
        (200, r#"{"error_code":10005}"#, "passing"),
        (200, r#"{"error_code":10007}"#, "passing"),
        (500, r#"{"error_code":500001}"#, "passing"),
        (200, r#"{"error_code":10010}"#, "passing"),
        (408, "", "passing"),
        (409, "", "passing"),
        (429, "", "passing"),
        (500, "", "passing"),
        (502, "", "passing"),
        (503, "", "passing"),
        (504, "", "passing"),
        (401, "", "Token"),
        (200, r#"{"error_code":401001}"#, "Token"),
        (402, "", "Account"),
        (403, r#"{"message":"x"}"#, "Account"),
        (400, r#"{"error_code":10001}"#, "Account"),
        (500, r#"{"error_code":10002}"#, "Account"),
        (307, "", "Account"),
        (404, "", "Gone"),
        (404, r#"{"error_code":404001}"#, "Gone"),
        (500, r#"{"error_code":10012}"#, "Ended"),
        (200, r#"{"error_code":10011}"#, "Ended"),
    ];
    for (status, body, expected) in table {
        let said = with(status, body, |reply| match observed(reply) {
            Ok(observation) => format!("{:?}", observation.phase),
            Err(CallError::Transient { .. }) => "passing".to_owned(),
            Err(CallError::Fault(fault)) => format!("{:?}", fault.kind),
        });
        assert_eq!(said, expected, "{status} {body}");
    }
}

#[test]
fn a_status_call_passes_on_the_wait_that_the_service_asks_for() {
    let wait = Some(Duration::from_secs(9));
    let error = with_wait(503, wait, b"", observed).expect_err("busy");
    assert!(matches!(error, CallError::Transient { retry_after, .. } if retry_after == wait));
}

#[test]
fn both_shapes_of_a_cancel_are_read() {
    use CancelReply::{Requested, TooLate};
    let table = [
        (202, r#"{"status":"cancellation_requested"}"#, Requested),
        (202, r#"{"status":"not_cancellable"}"#, TooLate),
        (200, r#"{"status":"completed","outcome":"cancelled"}"#, Requested),
        (202, r#"{"status":"completed","outcome":"canceled"}"#, Requested),
        (202, r#"{"status":"completed","outcome":"NOT_CANCELLABLE"}"#, TooLate),
        (202, r#"{"status":"canceled"}"#, Requested),
        (202, r#"{"status":"succeeded"}"#, TooLate),
        (202, "", Requested),
        (202, "{}", Requested),
        (409, r#"{"message":"finished"}"#, TooLate),
    ];
    for (status, body, expected) in table {
        assert_eq!(with(status, body, cancelled).expect(body), expected, "{status} {body}");
    }
    for (status, body) in [(404, ""), (401, ""), (200, r#"{"error_code":403003}"#)] {
        assert!(matches!(with(status, body, cancelled), Err(CallError::Fault(_))), "{status}");
    }
    for (status, body) in [(500, ""), (429, ""), (200, r#"{"error_code":500001}"#)] {
        let passing = matches!(with(status, body, cancelled), Err(CallError::Transient { .. }));
        assert!(passing, "{status}");
    }
}

#[test]
fn a_balance_may_be_zero_negative_or_absent() {
    let table = [
        (
            200,
            r#"{"balance_usd":5.0,"balance_microdollars":5000000,"currency":"USD"}"#,
            Some(5_000_000),
        ),
        (200, r#"{"balance_microdollars":0}"#, Some(0)),
        (200, r#"{"balance_microdollars":-20000}"#, Some(-20_000)),
        (200, r#"{"balance_usd":1.25}"#, Some(1_250_000)),
        (200, r#"{"balance_usd":-0.5}"#, Some(-500_000)),
        (200, r#"{"balance_usd":"3.5"}"#, Some(3_500_000)),
        (200, r#"{"balance_usd":"NaN"}"#, None),
        (200, r#"{"balance_usd":1e300}"#, None),
        (200, "{}", None),
        (200, "[]", None),
        (200, "hello", None),
        (200, "", None),
        (404, "", None),
        (404, r#"{"error_code":404001}"#, None),
    ];
    for (status, body, expected) in table {
        let found = with(status, body, balance).expect(body);
        assert_eq!(found.map(|amount| amount.0), expected, "{status} {body}");
    }
    for (status, kind) in
        [(401, FaultKind::Token), (403, FaultKind::Account), (402, FaultKind::Account)]
    {
        let error = with(status, "", balance).expect_err("a fault");
        assert!(matches!(error, CallError::Fault(fault) if fault.kind == kind));
    }
    assert!(matches!(with(503, "", balance), Err(CallError::Transient { .. })));
}

/// Generates arbitrary JSON in which the relevant members are frequent.
pub(in crate::backend::runcomfy) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "(in_queue|in_progress|completed|succeeded|failed|cancelled|10011|https://a.b/c.png)"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let key = prop_oneof![
            "(status|request_id|error_code|error|errorCode|outputs|output|url|type|detail|outcome)",
            any::<String>(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic_and_only_a_plain_id_is_an_id(status in 100_u16..600, body: Vec<u8>) {
        with_wait(status, None, &body, |reply| {
            let _ = (observed(reply), cancelled(reply), balance(reply), submitted(reply));
        });
    }

    #[test]
    fn no_json_panics_and_a_failed_status_never_yields_an_id(
        status in 100_u16..600,
        value in json(),
    ) {
        with(status, &value.to_string(), |reply| {
            let _ = (observed(reply), cancelled(reply), balance(reply));
            let answer = submitted(reply);
            assert!(answer.is_err() || reply.is_success());
            if let Err(SubmitError::NotSent { .. }) = answer {
                assert_eq!(status, 429, "nothing else is surely unsent without a Retry-After");
            }
        });
    }

    #[test]
    fn words_are_always_short_clean_and_never_empty(value in json()) {
        with(422, &value.to_string(), |reply| {
            let message = reply.fault().message;
            assert!(!message.is_empty() && message.chars().count() <= 300);
            assert!(!message.chars().any(char::is_control));
        });
    }
}
