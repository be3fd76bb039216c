//! Tests the search on the kinds of graphs that people send: FLUX with primitives, SDXL with a
//! control net, custom samplers with a guider, and graphs that only allow a guess.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        bind::bind,
        tests::{overrides, workflow},
    },
    *,
};

fn node(class: &str, title: &str, inputs: &Value) -> Value {
    json!({"class_type": class, "_meta": {"title": title}, "inputs": inputs})
}

/// Returns `role place` of each role's best candidate.
fn found(graph: &Value) -> Vec<String> {
    let inspection = inspect(&workflow(graph));
    let best = Role::ALL.into_iter().filter_map(|role| inspection.best(role));
    best.map(|candidate| format!("{} {}", candidate.role, candidate.target)).collect()
}

/// SDXL with a control net that takes both conditionings, an untitled negative text and a second
/// mesh sampler.
fn sdxl() -> Value {
    json!({
        "1": node("CheckpointLoaderSimple", "Load", &json!({"ckpt_name": "sdxl"})),
        "2": node("PrimitiveString", "words", &json!({"value": "a chair"})),
        "3": node("CLIPTextEncode", "Encode", &json!({"clip": ["1", 1], "text": ["2", 0]})),
        "4": node("CLIPTextEncode", "Encode", &json!({"clip": ["1", 1], "text": "blurry"})),
        "5": node("LoadImage", "Load Image", &json!({"image": "in.png"})),
        "6": node("ControlNetApplyAdvanced", "Apply", &json!({"negative": ["4", 0], "positive": ["3", 0], "image": ["5", 0]})),
        "7": node("EmptyLatentImage", "Empty", &json!({"width": 512})),
        "8": node("KSampler", "KSampler", &json!({
            "seed": 5, "steps": 4, "model": ["1", 0], "positive": ["6", 0], "negative": ["6", 1], "latent_image": ["7", 0],
        })),
        "9": node("VAEDecode", "Decode", &json!({"samples": ["8", 0], "vae": ["1", 2]})),
        "10": node("SaveImage", "Depth debug", &json!({"images": ["5", 0]})),
        "11": node("SaveImage", "Save Image", &json!({"images": ["9", 0]})),
        "12": node("PartPacker_Sampler", "Mesh", &json!({"seed": 6, "steps": 50, "image": ["9", 0]})),
        "13": node("SaveGLB", "Save", &json!({"mesh": ["12", 1], "image": ""})),
        "14": node("PreviewImage", "Preview", &json!({"images": ["9", 0]})),
    })
}

#[test]
fn the_built_in_graph_is_found_as_its_table_has_it_and_all_of_it_is_certain() {
    for name in super::super::built_in::NAMES {
        let workflow = Workflow::find_built_in(name).expect("built in");
        let bindings = bind(&workflow, &BTreeMap::new()).expect("bound");
        let inspection = inspect(&workflow);
        for (role, place) in bindings.iter() {
            let best = inspection.best(role).expect("found");
            assert_eq!(
                (&best.target, best.confidence),
                (place, Confidence::Certain),
                "{name}: {role}"
            );
        }
    }
}

#[test]
fn a_negative_text_is_recognised_by_its_links_alone() {
    assert_eq!(
        found(&sdxl()),
        [
            "image 5.image",
            "prompt 2.value",
            "seed 8.seed",
            "mesh_seed 12.seed",
            "steps_flux 8.steps",
            "steps_partpacker 12.steps",
            "flux 11",
            "mesh 13",
        ]
    );
    let inspection = inspect(&workflow(&sdxl()));
    let prompts = inspection.candidates().iter().filter(|candidate| candidate.role == Role::Prompt);
    assert_eq!(prompts.count(), 1, "the negative text is not even a candidate");
}

#[test]
fn exchanging_the_two_texts_at_the_control_net_exchanges_the_prompt() {
    let mut graph = sdxl();
    graph["6"]["inputs"] = json!({"positive": ["4", 0], "negative": ["3", 0]});
    assert!(found(&graph).contains(&"prompt 4.text".to_owned()));
}

#[test]
fn noise_steps_and_text_are_found_behind_a_guider_and_reroutes() {
    let graph = json!({
        "1": node("RandomNoise", "", &json!({"noise_seed": 1})),
        "2": node("BasicScheduler", "", &json!({"steps": 20, "scheduler": "simple"})),
        "3": node("CLIPTextEncode", "", &json!({"clip": ["9", 0], "text": ["31", 0]})),
        "31": node("Reroute", "", &json!({"": ["32", 0]})),
        "32": node("Text Multiline", "", &json!({"text": "a chair"})),
        "4": node("CLIPTextEncode", "", &json!({"clip": ["9", 0], "text": "ugly"})),
        "5": node("FluxGuidance", "", &json!({"conditioning": ["3", 0], "guidance": 3.5})),
        "6": node("CFGGuider", "", &json!({"positive": ["5", 0], "negative": ["4", 0], "cfg": 1})),
        "7": node("SamplerCustomAdvanced", "", &json!({
            "noise": ["1", 0], "guider": ["6", 0], "sigmas": ["2", 0], "latent_image": ["8", 0],
        })),
        "8": node("EmptySD3LatentImage", "", &json!({"width": 512})),
        "10": node("SaveImage", "", &json!({"images": ["7", 0]})),
    });
    assert_eq!(
        found(&graph),
        ["prompt 32.text", "seed 1.noise_seed", "steps_flux 2.steps", "flux 10"]
    );
}

#[test]
fn texts_titled_negative_or_do_not_touch_are_skipped_without_links() {
    let graph = json!({
        "1": node("CLIPTextEncodeFlux", "NEGATIVE CLIP", &json!({"t5xxl": "", "clip_l": ""})),
        "2": node("CLIPTextEncodeFlux", "Text DontTouch", &json!({"t5xxl": "", "clip_l": ""})),
        "3": node("CLIPTextEncodeFlux", "Text", &json!({"t5xxl": "", "clip_l": ""})),
    });
    assert_eq!(found(&graph), ["prompt 3.t5xxl", "prompt_clip 3.clip_l"]);
    let best = inspect(&workflow(&graph)).best(Role::Prompt).map(|best| best.confidence);
    assert_eq!(best, Some(Confidence::Guess));
}

#[test]
fn two_pictures_that_fit_equally_are_a_guess_and_both_are_listed() {
    let graph = json!({
        "1": node("LoadImage", "", &json!({"image": "a.png"})),
        "2": node("LoadImage", "", &json!({"image": "b.png"})),
        "3": node("ImageBlend", "", &json!({"image1": ["1", 0], "image2": ["2", 0]})),
        "4": node("SaveImage", "", &json!({"images": ["3", 0]})),
    });
    let inspection = inspect(&workflow(&graph));
    let pictures: Vec<_> =
        inspection.candidates().iter().filter(|candidate| candidate.role == Role::Image).collect();
    assert_eq!(pictures.len(), 2);
    assert!(pictures.iter().all(|candidate| candidate.confidence == Confidence::Guess));
    assert!(inspection.snippet().contains("image = \"1.image\"   # a guess\n"));
    assert!(inspection.snippet().contains("# mesh = \"…\"   # required, but not found\n"));
}

#[test]
fn one_primitive_for_both_samplers_becomes_the_mesh_seed_because_its_range_is_smaller() {
    let mut graph = sdxl();
    graph["20"] = node("PrimitiveInt", "SEED", &json!({"value": 1}));
    graph["8"]["inputs"]["seed"] = json!(["20", 0]);
    graph["12"]["inputs"]["seed"] = json!(["20", 0]);
    let found = found(&graph);
    assert!(found.contains(&"mesh_seed 20.value".to_owned()), "{found:?}");
    assert!(!found.iter().any(|place| place.starts_with("seed ")), "{found:?}");
}

#[test]
fn a_missing_binding_names_what_the_search_found() {
    let mut given = overrides(&[("image", "5.image"), ("mesh", "13")]);
    let fault = bind(&workflow(&sdxl()), &given).expect_err("no prompt").to_string();
    assert!(fault.contains("add `prompt = \"2.value\"` to `[generation.bind]`"), "{fault}");
    given.insert("prompt".into(), "2.value".into());
    assert!(bind(&workflow(&sdxl()), &given).is_ok());
}

#[test]
fn quotes_backslashes_and_controls_in_an_id_are_escaped_in_the_snippet() {
    let graph = json!({"a\"\\b": node("SaveGLB", "\u{1b}[31m", &json!({}))});
    let inspection = inspect(&workflow(&graph));
    let best = inspection.best(Role::Mesh).expect("found");
    assert_eq!(best.toml(), r#""a\"\\b""#);
    assert_eq!(best.title, r"\u{1b}[31m", "no escape sequence reaches a terminal");
}
