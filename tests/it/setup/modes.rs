//! What `doctor` reports in the modes other than serverless: which local backends are available,
//! and what a machine needs.
//!
//! Every server that is called is on this machine: the Spaces are given by address, never by name.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use super::{
    doctor::{Report, good},
    without_token,
};
use crate::support::stage::DemoProject;

/// Runs the doctor in another mode than the stage's. The stage's providers must be on this machine.
fn doctor_in(stage: &DemoProject, mode: &str) -> Report {
    Report::by(stage.command(&["doctor", "--json"]).env("CONJURED__MODE", mode))
}

/// Answers every request on a port of this machine with `body`, and remembers the requests.
struct Answering {
    url: String,
    asked: Arc<Mutex<String>>,
}

fn answering(body: &'static str) -> Answering {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    // It ends with the test's process.
    let answer = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
            heard.lock().expect("no other test is in here").push_str(&text);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            drop(write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()));
        }
    };
    std::thread::Builder::new().name("answering".to_owned()).spawn(answer).expect("a thread");
    Answering { url, asked }
}

#[test]
fn whoever_could_serve_locally_is_asked_and_an_absent_one_matters_as_far_as_nobody_else_can() {
    let mut stage = good();
    let gradio = answering("{\"version\":\"5.49.1\",\"dependencies\":[]}");
    let nobody = "\"http://127.0.0.1:1\"";
    stage.set("local.comfyui_url", nobody);
    stage.set("local.flux_space", &format!("\"{}\"", gradio.url));
    stage.set("local.mesh_space", &format!("\"{}/mine\"", gradio.url));
    // The Spaces are available: an absent ComfyUI is reported if it was the first choice, and is no
    // problem in `auto`.
    let report = Report::by(
        stage
            .command(&["doctor", "--json"])
            .env("CONJURED__MODE", "local")
            .env("HF_TOKEN", "hub-token-that-stays-unseen"),
    );
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
    report.has("warn", "ComfyUI", "another one of `local.providers` is available", "start ComfyUI");
    let said = format!("{:?}", report.checks);
    assert!(said.contains("Gradio 5.49.1") && said.contains("from environment HF_TOKEN"), "{said}");
    assert!(!said.contains("unseen"), "{said}");
    let asked = gradio.asked.lock().expect("whole").clone();
    assert!(asked.contains("GET /config ") && asked.contains("GET /mine/config "), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("authorization: bearer hub-token"), "{asked}");
    let report = doctor_in(&stage, "auto");
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
    assert!(
        !report.complaints().iter().any(|line| line.contains("ComfyUI")),
        "{:?}",
        report.checks
    );
    // One Space of two makes no mesh.
    stage.set("local.mesh_space", nobody);
    doctor_in(&stage, "local").has("fail", "Space", "127.0.0.1:1", "local.mesh_space");
    let report = doctor_in(&stage, "auto");
    report.has("warn", "Space", "there is no fallback if RunComfy fails", "local.mesh_space");
    // What is missing for RunComfy is a failure only if no local backend is available.
    stage.unset("serverless", "deployment_id");
    doctor_in(&stage, "auto").fails_only(
        "deployment",
        "no deployment is configured",
        "deployment_id",
    );
    stage.set("local.mesh_space", &format!("\"{}\"", gradio.url));
    let report = doctor_in(&stage, "AUTO");
    report.has("warn", "deployment", "every job runs locally", "deployment_id");
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
}

#[test]
fn a_binding_that_the_local_workflow_does_not_have_is_found() {
    let mut stage = good();
    let comfyui = answering("{\"system\":{\"comfyui_version\":\"0.3.60\"}}");
    stage.set("local.providers", "[\"comfyui\"]");
    stage.set("local.comfyui_url", &format!("\"{}\"", comfyui.url));
    stage.set("local.comfyui_workflow", "\"conjure_flux_mesh\"");
    let report = doctor_in(&stage, "local");
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
    let said = format!("{:?}", report.checks);
    assert!(said.contains("conjure_flux_mesh, for ComfyUI") && said.contains("0.3.60"), "{said}");
    stage.set("local.bind", "{ prompt = \"999.value\" }");
    doctor_in(&stage, "local").fails_only("workflow", "999", "[local.bind]");
}

#[test]
fn a_machine_that_nobody_described_is_found_where_jobs_go_to_one() {
    let mut stage = good();
    stage.unset("serverless", "deployment_id");
    let report = doctor_in(&stage, "cloud");
    report.has("fail", "machine", "`cloud.user_id` is not set", "RUNCOMFY_USER_ID");
    report.fails_only("machine", "`cloud.workflow_version_id` is not set", "saved workflow");
    assert_eq!(report.code, Some(78));
    stage.set("cloud.user_id", "\"somebody\"");
    stage.set("cloud.workflow_version_id", "\"version-1\"");
    let report = doctor_in(&stage, "cloud");
    assert_eq!(report.code, Some(0), "{:?}", report.complaints());
    let token =
        Report::by(without_token(&stage, &["doctor", "--json"]).env("CONJURED__MODE", "cloud"));
    token.fails_only("token", "no token was found", "conjured login");
}

#[test]
fn a_comfyui_that_is_absent_is_found_where_jobs_run_locally() {
    let mut stage = good();
    stage.set("local.providers", "[\"comfyui\"]");
    stage.set("local.comfyui_url", "\"http://127.0.0.1:1\"");
    let mut command = stage.command(&["doctor", "--json"]);
    let report = Report::by(command.env("CONJURED__MODE", "local"));
    report.fails_only("ComfyUI", "http://127.0.0.1:1", "start ComfyUI");
    assert_eq!(report.code, Some(69));
    // Something that listens is not necessarily a ComfyUI.
    let url = stage.service.api_url();
    stage.set("local.comfyui_url", &format!("\"{url}\""));
    let mut command = stage.command(&["doctor", "--json"]);
    let report = Report::by(command.env("CONJURED__MODE", "local"));
    report.fails_only("ComfyUI", "is not ComfyUI", "start ComfyUI");
}
