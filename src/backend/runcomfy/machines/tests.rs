//! The Server API against a fake server: addresses, odd answers, and what is never shown.

use super::*;
use crate::backend::http::fake::{ScriptedServer, Step, answer, json};

const TOKEN: &str = "t0ken-of-the-test";
const RECORD: &str = r#"{"server_id":"srv-1234567890","server_type":"large","user_id":"u-1","estimated_duration":"1500","main_service_url":"http://127.0.0.1:9/","current_status":"Ready","service_ready_at":"1994-11-06T08:48:37.5","estimated_stopping_at":"1994-11-06T09:49:37+01:00","new":[1]}"#;

async fn machines(steps: impl IntoIterator<Item = Step>) -> (ScriptedServer, Machines) {
    let fake = ScriptedServer::start(steps).await;
    let machines = Machines::new(&Settings {
        api_url: fake.url.clone(),
        user_id: "u-1".to_owned(),
        token: SecretString::from(TOKEN),
        connect_timeout: Duration::from_secs(10),
        launch_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(10),
        hosts: vec!["127.0.0.1".to_owned(), ".runcomfy.com".to_owned()],
    });
    (fake, machines.expect("good settings"))
}

fn launch() -> Launch {
    Launch {
        workflow_version: "version-1".to_owned(),
        server_type: "large".to_owned(),
        duration: Duration::from_secs(1500),
    }
}

fn id() -> ServerId {
    ServerId::new("srv-1234567890").expect("plain")
}

/// Returns an answer with a `Date` that matches the times in the record.
fn dated(body: &str) -> Step {
    let text = String::from_utf8(json(body)).expect("text");
    Step::Answer(text.replacen("\r\n", "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 1).into())
}

#[tokio::test]
async fn every_call_goes_to_its_documented_address_with_the_token() {
    let (fake, machines) = machines([dated(RECORD)]).await;
    machines.launch(&launch()).await.expect("an id");
    machines.state(&id()).await.expect("an answer").expect("known");
    machines.extend(&id(), Duration::from_secs(3000)).await.expect("taken").expect("known");
    assert_eq!(machines.stop(&id()).await.expect("taken"), Stopped::Now);
    let _ = machines.list().await;
    let seen = fake.requests();
    let lines: Vec<&str> =
        seen.iter().map(|seen| seen.head.lines().next().unwrap_or_default()).collect();
    assert_eq!(
        lines,
        [
            "POST /prod/api/users/u-1/servers HTTP/1.1",
            "GET /prod/api/users/u-1/servers/srv-1234567890 HTTP/1.1",
            "POST /prod/api/users/u-1/servers/srv-1234567890/update-estimated-duration HTTP/1.1",
            "DELETE /prod/api/users/u-1/servers/srv-1234567890 HTTP/1.1",
            "GET /prod/api/users/u-1/servers HTTP/1.1",
        ]
    );
    let body = |at: usize| serde_json::from_slice::<Value>(&seen[at].body).expect("JSON");
    assert_eq!(
        body(0),
        json!({"workflow_version_id": "version-1", "server_type": "large", "estimated_duration": 1500})
    );
    assert_eq!(body(2), json!({"update_estimated_duration": 3000}));
    for seen in &seen {
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
    }
}

#[tokio::test]
async fn a_record_is_read_with_the_services_own_clock() {
    let (_fake, machines) = machines([dated(RECORD)]).await;
    let server = machines.state(&id()).await.expect("an answer").expect("known");
    assert_eq!(server.reported_stage, ReportedStage::Ready);
    assert_eq!(server.ready_for, Some(Duration::from_millis(60_500)), "no zone is UTC");
    assert_eq!(server.stops_in, Some(Duration::ZERO), "the offset counts");
    assert_eq!(server.duration, Some(Duration::from_secs(1500)), "a text is a number, too");
    assert!(server.url.is_some());
}

#[tokio::test]
async fn a_machines_address_and_whole_id_are_never_shown() {
    let (_fake, machines) = machines([dated(RECORD)]).await;
    let server = machines.state(&id()).await.expect("an answer").expect("known");
    let shown = format!("{server:?} {machines:?}");
    assert!(!shown.contains("127.0.0.1:9") && !shown.contains("srv-1234567890"), "{shown}");
    assert!(shown.contains("srv-1234…"), "{shown}");
}

#[tokio::test]
async fn an_address_on_a_foreign_host_is_rejected_and_its_machine_is_not_ready() {
    for (url, ready) in [
        ("null", false),
        (r#""""#, false),
        (r#""http://example.org""#, false),
        (r#""https://example.org""#, false),
        (r#""https://x.runcomfy.com.example.org""#, false),
        (r#""http://x-comfyui.runcomfy.com""#, false),
        (r#""https://me@x-comfyui.runcomfy.com""#, false),
        (r#""https://x-comfyui.runcomfy.com""#, true),
    ] {
        let body = format!(
            r#"{{"server_id":"srv-1234567890","current_status":"Ready","main_service_url":{url}}}"#
        );
        let (_fake, machines) = machines([dated(&body)]).await;
        let server = machines.state(&id()).await.expect("an answer").expect("known");
        assert_eq!(server.reported_stage == ReportedStage::Ready, ready, "{url}");
        assert_eq!(server.url.is_some(), ready, "{url}");
    }
}

#[tokio::test]
async fn a_launch_is_believed_refused_or_unknown_and_never_sent_twice() {
    let code = |status: &str, body: &str| Step::Answer(answer(status, "", body));
    let table = [
        ("an id", code("200 OK", r#"{"server_id":"srv-1"}"#), "taken"),
        ("a wrapped one", code("201 Created", r#"{"server":{"server_id":"srv-1"}}"#), "taken"),
        ("nothing", code("200 OK", "{}"), "unknown"),
        ("half a JSON", code("200 OK", r#"{"server_id""#), "unknown"),
        ("an id like a path", code("200 OK", r#"{"server_id":"../x"}"#), "unknown"),
        ("a gateway", code("502 Bad Gateway", "<html>"), "unknown"),
        ("a fault", code("500 Internal Server Error", "{}"), "unknown"),
        ("silence", Step::ReadAndClose, "unknown"),
        ("too many", code("429 Too Many Requests", "{}"), "not sent"),
        ("no money", code("402 Payment Required", "{}"), "refused"),
        ("a bad type", code("422 Unprocessable Entity", "{}"), "refused"),
        ("no such version", code("404 Not Found", "{}"), "refused"),
    ];
    for (name, step, wanted) in table {
        let (fake, machines) = machines([step]).await;
        let got = match machines.launch(&launch()).await {
            Ok(_) => "taken",
            Err(SubmitError::NotSent { .. }) => "not sent",
            Err(SubmitError::Refused(_)) => "refused",
            Err(SubmitError::Unknown { .. }) => "unknown",
        };
        assert_eq!(got, wanted, "{name}");
        assert_eq!(fake.requests().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn lists_come_bare_or_wrapped_and_a_part_is_not_taken_for_the_whole() {
    let record = RECORD;
    for (body, wanted) in [
        ("[]".to_owned(), Some(0)),
        (format!("[{record},{record}]"), Some(2)),
        (format!(r#"{{"servers":[{record}]}}"#), Some(1)),
        ("{}".to_owned(), None),
        (format!(r#"[{record},{{"current_status":"Ready"}}]"#), None),
        ("<html>".to_owned(), None),
    ] {
        let (_fake, machines) = machines([Step::Answer(json(&body))]).await;
        assert_eq!(machines.list().await.ok().map(|list| list.len()), wanted, "{body}");
    }
}

#[tokio::test]
async fn what_the_service_does_not_know_is_an_answer_and_another_machines_record_is_none() {
    let not_found = || Step::Answer(answer("404 Not Found", "", "{}"));
    let (_fake, unknowing) = machines([not_found()]).await;
    assert_eq!(unknowing.state(&id()).await.expect("an answer"), None);
    assert_eq!(unknowing.stop(&id()).await.expect("an answer"), Stopped::Unknown);
    let other = r#"{"server_id":"srv-2","current_status":"Deleting"}"#;
    let (_fake, odd) = machines([Step::Answer(json(other))]).await;
    assert!(odd.state(&id()).await.is_err());
}
