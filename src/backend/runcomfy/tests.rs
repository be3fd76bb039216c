//! The adapter against a fake server: which addresses it calls, with which headers, how often, and
//! where it sends the token.

mod facts;
mod faults;

use bytes::Bytes;

use super::*;
use crate::backend::{
    FaultKind, Phase,
    http::fake::{RecordedRequest, ScriptedServer, Step, answer, json},
};

const TOKEN: &str = "t0ken-of-the-test";

fn settings(fake: &ScriptedServer) -> Settings {
    Settings {
        api_url: fake.url.clone(),
        download_hosts: vec!["127.0.0.1".to_owned()],
        ..Settings::new("dep-1", SecretString::from(TOKEN))
    }
}

async fn serverless(steps: impl IntoIterator<Item = Step>) -> (ScriptedServer, Serverless) {
    let fake = ScriptedServer::start(steps).await;
    let serverless = Serverless::new(&settings(&fake)).expect("good settings");
    (fake, serverless)
}

fn request_id() -> RequestId {
    RequestId::new("R-1").expect("plain")
}

fn submission() -> Submission {
    Submission {
        key: RequestId::new("unseen").expect("plain"),
        payload: Payload::Body(Bytes::from_static(b"{\"overrides\":{}}")),
    }
}

fn lines(fake: &ScriptedServer) -> Vec<String> {
    let first = |seen: RecordedRequest| seen.head.lines().next().unwrap_or_default().to_owned();
    fake.requests().into_iter().map(first).collect()
}

#[tokio::test]
async fn every_call_goes_to_its_documented_address_with_the_token() {
    let elsewhere = r#"{"request_id":"R-1","status":"in_queue","status_url":"https://evil.example/s","cancel_url":"https://evil.example/c"}"#;
    let (fake, serverless) = serverless([Step::Answer(json(elsewhere))]).await;
    assert_eq!(serverless.warm_up().await.expect("an answer"), None);
    let id = serverless.submit(&submission()).await.expect("an id");
    assert_eq!(id, request_id());
    let observation = serverless.observe(&id).await.expect("an answer");
    assert_eq!(observation.phase, Phase::Queued { position: None });
    serverless.result(&id).await.expect("an answer");
    assert_eq!(serverless.cancel(&id).await.expect("an answer"), CancelReply::Requested);
    assert_eq!(
        lines(&fake),
        [
            "GET /prod/v2/balance HTTP/1.1",
            "POST /prod/v2/deployments/dep-1/inference HTTP/1.1",
            "GET /prod/v2/deployments/dep-1/requests/R-1/status HTTP/1.1",
            "GET /prod/v2/deployments/dep-1/requests/R-1/result HTTP/1.1",
            "POST /prod/v2/deployments/dep-1/requests/R-1/cancel HTTP/1.1",
        ]
    );
    assert_eq!(fake.connections(), 1, "one kept-alive connection serves them all");
    for seen in fake.requests() {
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
        assert_eq!(seen.header("accept"), Some("application/json"));
    }
    let [_, submit, .., cancel] = &fake.requests()[..] else { panic!("five requests") };
    assert_eq!(submit.header("content-type"), Some("application/json"));
    let Payload::Body(body) = submission().payload else { unreachable!("made above") };
    assert_eq!(submit.body, body);
    assert_eq!(cancel.header("content-length"), Some("0"));
}

#[tokio::test]
async fn the_version_changes_queue_calls_and_never_the_balance() {
    let fake = ScriptedServer::start([Step::Answer(json(r#"{"balance_microdollars":-5}"#))]).await;
    let mut settings = settings(&fake);
    settings.api_version = "v1".to_owned();
    // The form that the official tools use in their environment variable.
    settings.api_url.set_path("/gateway/prod/v2/");
    let serverless = Serverless::new(&settings).expect("good settings");
    assert_eq!(serverless.warm_up().await.expect("a balance"), Some(MicroUsd(-5)));
    let _ = serverless.submit(&submission()).await;
    assert_eq!(
        lines(&fake),
        [
            "GET /gateway/prod/v2/balance HTTP/1.1",
            "POST /gateway/prod/v1/deployments/dep-1/inference HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn a_submit_is_sent_once_whatever_the_answer() {
    let answers = [
        answer("500 Internal Server Error", "", ""),
        answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
        answer("503 Service Unavailable", "retry-after: 0\r\n", ""),
        answer("408 Request Timeout", "", ""),
        answer("307 Temporary Redirect", "location: /again\r\n", ""),
        json("{}"),
    ];
    for bytes in answers {
        let (fake, serverless) = serverless([Step::Answer(bytes)]).await;
        assert!(serverless.submit(&submission()).await.is_err());
        assert_eq!(fake.requests().len(), 1);
    }
    for step in [Step::ReadAndClose, Step::AnswerAndClose(b"HTTP/1.1 200 OK\r\n".to_vec())] {
        let (fake, serverless) =
            serverless([step, Step::Answer(json(r#"{"request_id":"R-2"}"#))]).await;
        let outcome = serverless.submit(&submission()).await;
        assert!(matches!(outcome, Err(SubmitError::Unknown { .. })), "{outcome:?}");
        assert_eq!(fake.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_was_not_sent_anything() {
    let (fake, serverless) = serverless([Step::Hang]).await;
    drop(fake);
    let outcome = serverless.submit(&submission()).await;
    assert!(matches!(outcome, Err(SubmitError::NotSent { retry_after: None, .. })), "{outcome:?}");
    let outcome = serverless.observe(&request_id()).await;
    assert!(matches!(outcome, Err(CallError::Transient { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_submit_whose_answer_never_comes_is_unknown_and_a_status_call_passes() {
    let fake =
        ScriptedServer::start([Step::Answer(json(r#"{"balance_usd":1}"#)), Step::Hang]).await;
    let short = Duration::from_millis(100);
    let settings = Settings { submit_timeout: short, ..settings(&fake) };
    let serverless = Serverless::new(&settings).expect("good settings");
    // The connection exists: the short time is for the answer alone, even on a slow machine.
    serverless.warm_up().await.expect("a balance");
    let outcome = serverless.submit(&submission()).await;
    assert!(matches!(outcome, Err(SubmitError::Unknown { .. })), "{outcome:?}");
    assert_eq!(fake.requests().len(), 2);
    let settings = Settings { call_timeout: short, ..settings };
    let serverless = Serverless::new(&settings).expect("good settings");
    let outcome = serverless.observe(&request_id()).await;
    assert!(matches!(outcome, Err(CallError::Transient { .. })), "{outcome:?}");
}

#[tokio::test]
async fn the_wait_that_the_service_asks_for_is_handed_on() {
    let busy = answer("503 Service Unavailable", "retry-after: 7\r\n", "");
    let (_fake, serverless) = serverless([Step::Answer(busy)]).await;
    let Err(SubmitError::NotSent { retry_after, .. }) = serverless.submit(&submission()).await
    else {
        panic!("a 503 that says when to come back was not taken");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_flood_in_place_of_an_answer_is_given_up() {
    let flood = answer("200 OK", "", vec![b' '; ANSWER_LIMIT + 1]);
    let (_fake, serverless) = serverless([Step::Answer(flood)]).await;
    let outcome = serverless.submit(&submission()).await;
    assert!(matches!(outcome, Err(SubmitError::Unknown { .. })), "{outcome:?}");
    assert!(serverless.observe(&request_id()).await.is_err());
}

#[tokio::test]
async fn a_connection_that_was_opened_early_carries_the_submit() {
    let steps =
        [Step::Answer(json(r#"{"balance_usd":1}"#)), Step::Answer(json(r#"{"request_id":"R-1"}"#))];
    let (fake, serverless) = serverless(steps).await;
    assert_eq!(serverless.warm_up().await.expect("a balance"), Some(MicroUsd(1_000_000)));
    serverless.submit(&submission()).await.expect("an id");
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn the_token_goes_to_the_api_only_and_is_shown_nowhere() {
    let storage = ScriptedServer::start([Step::Answer(answer("200 OK", "", "bytes"))]).await;
    let (api, serverless) = serverless([Step::Answer(answer(
        "401 Unauthorized",
        "",
        format!(r#"{{"error_code":401001,"error_message":"token {TOKEN} is bad"}}"#),
    ))])
    .await;
    let refused = serverless.submit(&submission()).await.expect_err("a refusal");
    let file = RemoteFile {
        node: "33".to_owned(),
        channel: "3d".to_owned(),
        url: storage.url.join("m.glb").expect("a URL").to_string(),
        filename: String::new(),
        file_type: String::new(),
    };
    assert!(serverless.open(&file, 0).await.is_ok());
    let [seen] = &storage.requests()[..] else { panic!("one download") };
    assert_eq!(seen.header("authorization"), None);
    assert!(!seen.head.contains(TOKEN));
    let shown = format!("{serverless:?} {refused:?} {refused} {:?}", settings(&api));
    assert!(!shown.contains(TOKEN), "{shown}");
    let request = serverless.request(Method::GET, api.url.clone()).await.expect("a request");
    assert!(!format!("{request:?}").contains(TOKEN));
}

#[tokio::test]
async fn a_redirect_takes_the_token_nowhere() {
    let elsewhere = ScriptedServer::start([Step::Answer(json(r#"{"status":"completed"}"#))]).await;
    let to = format!("location: {}\r\n", elsewhere.url);
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let (_api, serverless) = serverless([Step::Answer(answer(status, &to, ""))]).await;
        assert!(serverless.warm_up().await.is_err());
        assert!(serverless.submit(&submission()).await.is_err());
        assert!(serverless.observe(&request_id()).await.is_err());
        assert!(serverless.cancel(&request_id()).await.is_err());
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn settings_that_would_harm_are_refused_with_the_key_to_change() {
    let check = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::new("dep-1", SecretString::from(TOKEN));
        change(&mut settings);
        Serverless::new(&settings).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(check(&|_| {}), Ok(()));
    let url = |text: &str| Url::parse(text).expect("a URL");
    for bad in
        ["http://api.runcomfy.net", "https://u:p@api.runcomfy.net", "https://a.b/?x=1", "ftp://a.b"]
    {
        let said = check(&|settings| settings.api_url = url(bad));
        assert!(said.is_err_and(|said| said.contains("serverless.api_url")), "{bad}");
    }
    for good in ["http://127.0.0.1:8080", "http://localhost:1", "https://proxy.example/runcomfy"] {
        assert_eq!(check(&|settings| settings.api_url = url(good)), Ok(()), "{good}");
    }
    for bad in ["", "v3", "../v2", "v2/x"] {
        let said = check(&|settings| settings.api_version = bad.to_owned());
        assert!(said.is_err_and(|said| said.contains("serverless.api_version")), "{bad}");
    }
    for bad in ["", "  ", "a/b", "..", "a?b"] {
        let said = check(&|settings| settings.deployment_id = bad.to_owned());
        assert!(said.is_err_and(|said| said.contains("serverless.deployment_id")), "{bad}");
    }
    for bad in ["", "a\r\nx: y", "a b", "é"] {
        let said = check(&|settings| settings.token = SecretString::from(bad));
        assert!(
            said.is_err_and(|said| said.contains("RUNCOMFY_API_TOKEN") && !said.contains("x: y"))
        );
    }
    let said = check(&|settings| settings.download_hosts = vec!["http://x".to_owned()]);
    assert!(said.is_err_and(|said| said.contains("serverless.download_hosts")));
    let trimmed = check(&|settings| settings.token = SecretString::from(format!("{TOKEN}\n")));
    assert_eq!(trimmed, Ok(()));
}
