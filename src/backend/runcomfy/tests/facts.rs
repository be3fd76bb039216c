//! The deployment's record from a fake server: which parts of an odd record are accepted, and what
//! each refusal means.

use super::*;

/// Asks for the record and gets these bytes as the answer.
async fn asked(bytes: Vec<u8>) -> Result<DeploymentFacts, CallError> {
    let (fake, serverless) = serverless([Step::Answer(bytes)]).await;
    let facts = serverless.facts().await;
    assert_eq!(lines(&fake), ["GET /prod/v2/deployments/dep-1 HTTP/1.1"], "one call");
    facts.map(|facts| facts.expect("RunComfy has deployments"))
}

async fn told(body: &str) -> DeploymentFacts {
    asked(json(body)).await.expect("readable")
}

#[tokio::test]
async fn a_whole_record_is_read() {
    let body = r#"{"id":"dep-1","name":"mine","hardware":["ADA_48_PLUS"],"min_instances":0,"max_instances":3,
        "queue_size":1,"keep_warm_duration_in_seconds":300,"status":"standby","is_enabled":true,"payload":null}"#;
    let wanted = DeploymentFacts {
        hardware: Some("ADA_48_PLUS".into()),
        keep_warm: Some(Duration::from_secs(300)),
        min_instances: Some(0),
        max_instances: Some(3),
        is_enabled: Some(true),
    };
    assert_eq!(told(body).await, wanted);
    assert_eq!(told(&format!(r#"{{"deployment":{body}}}"#)).await, wanted, "wrapped");
    assert_eq!(told(&format!("[{body}]")).await, wanted, "a list of one");
}

#[tokio::test]
async fn what_is_missing_or_odd_is_not_known_and_the_rest_is() {
    assert_eq!(told("{}").await, DeploymentFacts::default());
    let hardware = |value: &'static str| async move {
        told(&format!(r#"{{"hardware":{value},"min_instances":1}}"#)).await
    };
    for (value, sku) in [
        (r#""AMPERE_24""#, Some("AMPERE_24")),
        (r#"[" HOPPER_141 "]"#, Some("HOPPER_141")),
        (r#"["QUANTUM_1"]"#, Some("QUANTUM_1")),
        (r#"["AMPERE_24","HOPPER_141"]"#, None),
        ("[]", None),
        (r#""""#, None),
        ("[[]]", None),
        ("null", None),
        ("48", None),
        (r#"{"sku":"AMPERE_24"}"#, None),
    ] {
        let facts = hardware(value).await;
        assert_eq!((facts.hardware.as_deref(), facts.min_instances), (sku, Some(1)), "{value}");
    }
    let keep_warm = |value: &'static str| async move {
        let body = format!(r#"{{"keep_warm_duration_in_seconds":{value},"is_enabled":"yes"}}"#);
        told(&body).await.keep_warm.map(|span| span.as_secs())
    };
    for (value, seconds) in [
        ("0", Some(0)),
        ("\" 90 \"", Some(90)),
        ("86400", Some(86_400)),
        ("86401", None),
        ("4294967295", None),
        ("-1", None),
        ("1e300", None),
        ("60.5", None),
        ("[60]", None),
        ("true", None),
    ] {
        assert_eq!(keep_warm(value).await, seconds, "{value}");
    }
    let long = format!(r#"{{"hardware":"{}"}}"#, "Ü".repeat(5000));
    assert_eq!(told(&long).await.hardware.map(|sku| sku.chars().count()), Some(40));
}

#[tokio::test]
async fn what_is_no_record_is_a_fault_and_not_a_guess() {
    for body in
        ["[]", r#"[{"hardware":"A"},{"hardware":"B"}]"#, "null", "7", "\"x\"", "{", "<html>", ""]
    {
        assert!(asked(json(body)).await.is_err(), "{body:?}");
    }
    let huge = format!(r#"{{"hardware":["AMPERE_24"],"readme":"{}"}}"#, "x".repeat(10 << 20));
    assert!(asked(json(&huge)).await.is_err(), "more than is ever read");
}

#[tokio::test]
async fn each_refusal_says_what_kind_it_is() {
    let refused = |status: &'static str| async move {
        asked(answer(status, "", r#"{"detail":"no"}"#)).await.expect_err("a refusal")
    };
    let kind = |error: CallError| match error {
        CallError::Fault(fault) => Some(fault.kind),
        CallError::Transient { .. } => None,
    };
    assert_eq!(kind(refused("401 Unauthorized").await), Some(FaultKind::Token));
    for status in ["403 Forbidden", "404 Not Found"] {
        let kind = kind(refused(status).await);
        assert!(kind.is_some(), "{status} is for a person, not for another try");
    }
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"]
    {
        assert_eq!(kind(refused(status).await), None, "{status} passes");
    }
}
