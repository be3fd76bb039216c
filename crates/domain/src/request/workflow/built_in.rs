//! The graphs that are included in the program, with the locations of their roles.
//!
//! Owns the table of built-in workflows. The graphs are files under `workflows/`, so that a person
//! can open them in ComfyUI. Node ids, classes and links of one are those of CONJURE's own
//! deployment (its `generate_flux_mesh2`), because a request names nodes of the graph that is saved
//! there. The other has those of CONJURE's graph for a local server (`generate_flux_mesh_LOCAL`),
//! which is sent whole: people know its ids and titles from CONJURE's notes.

use super::{Workflow, role::Role};

/// Role, node id, input; the input of an output node is empty.
pub(super) type Table = &'static [(Role, &'static str, &'static str)];

struct BuiltIn {
    name: &'static str,
    file: &'static str,
    table: Table,
}

const BUILT_IN: [BuiltIn; 2] = [
    BuiltIn {
        name: "conjure_flux_mesh",
        file: include_str!("../../../../../workflows/conjure_flux_mesh.json"),
        table: &[
            (Role::Image, "16", "image"),
            (Role::Prompt, "41", "value"),
            (Role::PromptClip, "40", "value"),
            (Role::Seed, "42", "value"),
            (Role::MeshSeed, "32", "seed"),
            (Role::StepsFlux, "44", "value"),
            (Role::StepsPartpacker, "43", "value"),
            (Role::Flux, "24", ""),
            (Role::Mesh, "33", ""),
        ],
    },
    // CONJURE's own local service writes the image's seed to node 4, a loader, so that the seed
    // never changes: node 3 is the sampler. Its four steps are those of a model distilled for four
    // (LCM), so they are kept when `generation.steps_flux` only has the value for FLUX.
    BuiltIn {
        name: "conjure_flux_mesh_local",
        file: include_str!("../../../../../workflows/conjure_flux_mesh_local.json"),
        table: &[
            (Role::Image, "15", "image"),
            (Role::Prompt, "26", "value"),
            (Role::Seed, "3", "seed"),
            (Role::MeshSeed, "21", "seed"),
            (Role::StepsFlux, "3", "steps"),
            (Role::StepsPartpacker, "21", "steps"),
            (Role::Flux, "9", ""),
            (Role::Mesh, "22", ""),
        ],
    },
];

/// The names of the built-in workflows.
pub const NAMES: [&str; BUILT_IN.len()] = {
    let mut names = [""; BUILT_IN.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = BUILT_IN[at].name;
        at += 1;
    }
    names
};

/// Reads a built-in graph.
pub(super) fn find(name: &str) -> Option<Workflow> {
    let built_in = BUILT_IN.iter().find(|built_in| built_in.name == name)?;
    let read = Workflow::parse(name, built_in.file.as_bytes()).ok()?;
    Some(Workflow { table: built_in.table, ..read })
}
