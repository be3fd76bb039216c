//! Binding roles: every way to name a location, and the messages for names that do not fit.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    super::{
        bind::{BindFault, BindMismatch, bind, bind_or_find},
        role::Role,
    },
    Workflow, built_in, overrides, workflow,
};

/// Binds one role of the built-in graph and returns the location or the error message.
fn placed(role: Role, text: &str) -> String {
    match bind(&built_in(), &overrides(&[(role.name(), text)])) {
        Ok(bindings) => bindings.get(role).map(ToString::to_string).unwrap_or_default(),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn the_built_in_table_names_the_nodes_of_conjures_deployment() {
    let bindings = bind(&built_in(), &BTreeMap::new()).expect("bound");
    let places: Vec<String> =
        bindings.iter().map(|(role, place)| format!("{role} {place}")).collect();
    assert_eq!(
        places,
        [
            "image 16.image",
            "prompt 41.value",
            "prompt_clip 40.value",
            "seed 42.value",
            "mesh_seed 32.seed",
            "steps_flux 44.value",
            "steps_partpacker 43.value",
            "flux 24",
            "mesh 33",
        ]
    );
    assert_eq!((bindings.output(Role::Mesh), bindings.output(Role::Seed)), (Some("33"), None));
    assert_eq!(bindings.input(Role::Seed), Some(("42", "value")));
}

#[test]
fn a_location_is_named_by_id_or_title_with_or_without_its_input() {
    for (role, text, place) in [
        (
            Role::Prompt,
            "40.value",
            "the roles `prompt` and `prompt_clip` are both bound to `40.value`",
        ),
        (Role::Prompt, " 41.value ", "41.value"),
        (Role::Prompt, "41", "41.value"),
        (Role::Prompt, "title:FLUXT5XXL.value", "41.value"),
        (Role::Prompt, "title: FLUXT5XXL ", "41.value"),
        (Role::Prompt, "19", "19.t5xxl"),
        (Role::PromptClip, "19", "19.clip_l"),
        (Role::MeshSeed, "title:PartPacker Sampler", "32.seed"),
        (Role::Mesh, "title:EXPORTGLB", "33"),
        (Role::PromptClip, "", ""),
    ] {
        let said = placed(role, text);
        assert!(
            if place.len() < 10 { said == place } else { said.starts_with(place) },
            "{text}: {said}"
        );
    }
}

#[test]
fn a_binding_that_does_not_fit_says_what_would() {
    for (role, text, message) in [
        (Role::Prompt, "34", "input `t5xxl` of node 34 is fed by node 41; bind `41.value` instead"),
        (Role::Seed, "3.noise_seed", "is fed by node 42; bind `42.value` instead"),
        (Role::Seed, "3.seed", "node 3 has no input `seed`; its inputs are model, conditioning,"),
        (
            Role::Prompt,
            "title:FLUXT5XL.value",
            "there is no node `title:FLUXT5XL`; nodes with a similar title: FLUXT5XXL",
        ),
        (Role::Prompt, "FLUXT5XXL.value", "node 41 has that title: write `title:FLUXT5XXL`"),
        (Role::Mesh, "99", "there is no node `99`; its nodes are 16, 25, 13,"),
        (Role::Image, "4", "no single input that fits; name one of clip_name1, clip_name2,"),
        (
            Role::Image,
            "",
            "no binding for the role `image`: add `image = \"16.image\"` to `[generation.bind]`",
        ),
    ] {
        let said = placed(role, text);
        assert!(said.contains(message), "{role} = {text} gives: {said}");
    }
    let fault = bind(&built_in(), &overrides(&[("promt", "41")])).expect_err("a slip");
    assert_eq!(
        fault.to_string(),
        "in `[generation.bind]`: `promt` is not a role of a workflow; did you mean `prompt`?"
    );
}

#[test]
fn a_title_that_several_nodes_have_lists_their_ids() {
    let twins = workflow(&json!({
        "5": {"class_type": "SaveGLB", "_meta": {"title": "OUT "}},
        "7:1": {"class_type": "SaveGLB", "_meta": {"title": " OUT"}},
    }));
    let fault = bind(&twins, &overrides(&[("mesh", "title:OUT")])).expect_err("ambiguous");
    let BindFault::Mismatch { mismatch: misfit, .. } = fault else { panic!("{fault}") };
    assert_eq!(*misfit, BindMismatch::AmbiguousTitle { title: "OUT".into(), ids: "5, 7:1".into() });
}

#[test]
fn ids_with_a_colon_and_titles_and_inputs_with_dots_are_found() {
    let dotted = workflow(&json!({
        "38:42": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "Text", "inputs": {"model.prompt": ""}, "_meta": {"title": "v1.5 text"}},
        "3": {"class_type": "SaveGLB"},
    }));
    let bindings = bind(
        &dotted,
        &overrides(&[
            ("image", "38:42.image"),
            ("prompt", "title:v1.5 text.model.prompt"),
            ("mesh", "3"),
        ]),
    )
    .expect("bound");
    assert_eq!(bindings.input(Role::Image), Some(("38:42", "image")));
    assert_eq!(bindings.input(Role::Prompt), Some(("2", "model.prompt")));
}

#[test]
fn what_is_certain_in_a_file_is_found_and_the_configuration_wins() {
    let graph = Workflow::find_built_in("conjure_flux_mesh").expect("built in").graph().clone();
    let bytes = serde_json::to_vec(&graph).expect("JSON");
    let workflow = Workflow::parse("mine.json", &bytes).expect("a good graph");
    let (bindings, found) =
        bind_or_find(&workflow, &BTreeMap::new()).expect("every required role is certain");
    assert_eq!(bindings.input(Role::Image), Some(("16", "image")));
    assert_eq!(bindings.output(Role::Mesh), Some("33"));
    assert!(found.contains(&Role::Prompt));

    let said = BTreeMap::from([
        ("prompt".to_owned(), "40.value".to_owned()),
        ("prompt_clip".to_owned(), "41.value".to_owned()),
    ]);
    let (bindings, found) = bind_or_find(&workflow, &said).expect("bound");
    assert_eq!(bindings.input(Role::Prompt), Some(("40", "value")));
    assert!(!found.contains(&Role::Prompt));
}
