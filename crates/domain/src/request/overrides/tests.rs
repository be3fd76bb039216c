//! Parses bodies back: what is sent is exactly what was requested, with every key in its position.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::request::workflow::bind::bind;

const SEEDS: Seeds = Seeds { image: 9_007_199_254_740_991, mesh: 2_147_483_647 };

fn values(prompt: &str) -> WorkflowInputs<'_> {
    WorkflowInputs { prompt, seeds: SEEDS, steps_flux: Some(20), steps_partpacker: Some(50) }
}

fn picture(bytes: &[u8]) -> Picture<'_> {
    Picture { bytes, mime: "image/png", fingerprint: Fingerprint::of(b"the render") }
}

fn bound(workflow: &Workflow, pairs: &[(&str, &str)]) -> Bindings {
    let pairs: BTreeMap<String, String> =
        pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect();
    bind(workflow, &pairs).expect("bound")
}

fn built_in() -> (Workflow, Bindings) {
    let workflow = Workflow::find_built_in("conjure_flux_mesh").expect("built in");
    let bindings = bound(&workflow, &[]);
    (workflow, bindings)
}

fn build(values: &WorkflowInputs<'_>, picture: &Picture<'_>) -> Body {
    let (workflow, bindings) = built_in();
    BodyPlan::new(&workflow, &bindings).expect("they belong together").build(values, picture)
}

fn text_of(body: &Body) -> &str {
    std::str::from_utf8(&body.bytes).expect("JSON is UTF-8")
}

#[test]
fn the_overrides_are_exactly_these_bytes() {
    let body = build(&values("a chair — \"oak\""), &picture(b"PNG!"));
    let wanted = concat!(
        r#"{"overrides":{"16":{"inputs":{"image":"data:image/png;base64,UE5HIQ=="}},"#,
        r#""41":{"inputs":{"value":"a chair — \"oak\""}},"40":{"inputs":{"value":""}},"#,
        r#""42":{"inputs":{"value":9007199254740991}},"32":{"inputs":{"seed":2147483647}},"#,
        r#""44":{"inputs":{"value":20}},"43":{"inputs":{"value":50}}}}"#,
    );
    assert_eq!(text_of(&body), wanted);
    assert_eq!(body.digest, Fingerprint::of(wanted.as_bytes()));
}

#[test]
fn steps_that_are_not_given_keep_the_graphs_own() {
    let few = WorkflowInputs { steps_flux: None, steps_partpacker: None, ..values("x") };
    let body = build(&few, &picture(b""));
    assert!(!text_of(&body).contains("\"44\"") && !text_of(&body).contains("\"43\""));
    let (workflow, bindings) = built_in();
    let graph = merged(&workflow, &bindings, &few, "x").expect("they belong together");
    assert_eq!(graph["44"]["inputs"]["value"], 20);
}

#[test]
fn roles_of_one_node_stand_together_at_the_first_ones_place() {
    let graph = json!({
        "9": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": "", "t5xxl": ""}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 0, "steps": 1}},
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}},
        "2": {"class_type": "SaveGLB"},
    });
    let workflow = Workflow::parse("test", graph.to_string().as_bytes()).expect("a graph");
    let pairs = [
        ("prompt", "9.t5xxl"),
        ("prompt_clip", "9.clip_l"),
        ("seed", "3"),
        ("steps_flux", "3"),
        ("image", "1"),
        ("mesh", "2"),
    ];
    let bindings = bound(&workflow, &pairs);
    let plan = BodyPlan::new(&workflow, &bindings).expect("fits");
    let wanted = concat!(
        r#"{"overrides":{"1":{"inputs":{"image":"data:image/png;base64,"}},"#,
        r#""9":{"inputs":{"t5xxl":"x","clip_l":""}},"3":{"inputs":{"seed":9007199254740991,"steps":20}}}}"#,
    );
    assert_eq!(text_of(&plan.build(&values("x"), &picture(b""))), wanted);
}

#[test]
fn the_summary_has_everything_but_the_picture() {
    let picture = picture(b"PNG!");
    let body = build(&values("a chair"), &picture);
    assert_eq!(
        body.summary["16"]["inputs"]["image"],
        json!({"fingerprint": picture.fingerprint.to_string(), "bytes": 4, "mime": "image/png"})
    );
    let mut sent: Value = serde_json::from_slice(&body.bytes).expect("JSON");
    sent["overrides"]["16"] = body.summary["16"].clone();
    assert_eq!(sent["overrides"], body.summary);
}

#[test]
fn a_merged_graph_differs_from_the_workflow_in_the_bound_inputs_alone() {
    let (workflow, bindings) = built_in();
    let mut graph = merged(&workflow, &bindings, &values("a chair"), "render.jpg").expect("fits");
    assert_eq!(graph["16"]["inputs"]["image"], "render.jpg");
    assert_eq!(graph["41"]["inputs"]["value"], "a chair");
    assert_eq!(graph["32"]["inputs"]["seed"], 2_147_483_647);
    for (_, place) in bindings.iter() {
        let Binding::Input { node, input } = place else { continue };
        let original = workflow.graph()[node]["inputs"][input].clone();
        graph[node]["inputs"][input] = original;
    }
    assert_eq!(&graph, workflow.graph());
}

#[test]
fn bindings_of_another_graph_are_refused() {
    let (workflow, bindings) = built_in();
    let mut graph = workflow.graph().clone();
    graph.shift_remove("16");
    let other = Workflow::parse("other", json!(graph).to_string().as_bytes()).expect("a graph");
    let foreign = Some(ForeignBindings { workflow: "other".into() });
    assert_eq!(BodyPlan::new(&other, &bindings).err(), foreign);
    assert_eq!(merged(&other, &bindings, &values("x"), "y").err(), foreign);
}

#[test]
fn a_body_takes_exactly_the_memory_it_needs() {
    let bytes = vec![7; 200_000];
    let mut text = Text::default();
    text.content(&Content::Picture);
    let body = text.with(&picture(&bytes));
    assert_eq!(body.capacity(), body.len());
}

proptest! {
    #[test]
    fn any_prompt_and_picture_arrive_as_they_are(
        prompt in "\\PC{0,40}|[\\x00-\\x1f\"\\\\/\\u{2028}\\u{7f}é🪑]{0,40}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        mime in "[ -~]{0,20}",
    ) {
        let picture = Picture { mime: &mime, ..picture(&bytes) };
        let body = build(&values(&prompt), &picture);
        let json: Value = serde_json::from_slice(&body.bytes).expect("JSON");
        prop_assert_eq!(json.as_object().map(Map::len), Some(1));
        let nodes = &json["overrides"];
        prop_assert_eq!(nodes["41"]["inputs"]["value"].as_str(), Some(prompt.as_str()));
        prop_assert_eq!(nodes["42"]["inputs"]["value"].as_u64(), Some(SEEDS.image));
        let uri = nodes["16"]["inputs"]["image"].as_str().expect("a text");
        let encoded = uri.strip_prefix(&format!("data:{mime};base64,")).expect("a data URI");
        prop_assert_eq!(STANDARD.decode(encoded).expect("Base64"), bytes);
    }
}
