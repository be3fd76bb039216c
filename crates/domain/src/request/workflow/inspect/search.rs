//! Scores the locations of a graph: which node could have which role, the evidence for it, and
//! the winner.
//!
//! Owns the scores. They are small whole numbers on purpose: class, links and title each add one to
//! four, so a person can see from the reasons why one location is ranked before another.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Workflow,
        bind::Binding,
        graph::{Node, ancestors},
        naming::display_name,
        role::Role,
    },
    BindingCandidate, Confidence, Inspection,
    values::values_behind,
};

/// The evidence for and against a location.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    score: i32,
    reasons: Vec<&'static str>,
}

impl Evidence {
    pub(super) fn of(score: i32, reason: &'static str) -> Self {
        Self { score, reasons: vec![reason] }
    }

    pub(super) fn add_if(mut self, so: bool, score: i32, reason: &'static str) -> Self {
        if so {
            self.score += score;
            self.reasons.push(reason);
        }
        self
    }
}

/// The maximum number of nodes scored for one role. A graph with more nodes of one type cannot be
/// bound by looking at it, and each node costs a walk through the graph.
pub(super) const MAX_SCORED: usize = 24;

/// From this score on, class, links and titles agree well enough to count as certain.
const CERTAIN: i32 = 5;
/// From this score on, more than a name supports a location.
const LIKELY: i32 = 3;

/// Words in the class of a final node, which writes files.
const SAVE_WORDS: [&str; 2] = ["save", "export"];
const MESH_WORDS: [&str; 5] = ["glb", "mesh", "3d", "obj", "gltf"];

pub(super) struct Search<'a> {
    workflow: &'a Workflow,
    candidates: Vec<BindingCandidate>,
}

impl<'a> Search<'a> {
    pub(super) fn new(workflow: &'a Workflow) -> Self {
        Self { workflow, candidates: Vec::new() }
    }

    /// Adds the nodes that save a mesh.
    pub(super) fn meshes(&mut self) {
        let saves = |node: &Node<'_>| node.class_has(&SAVE_WORDS) && node.class_has(&MESH_WORDS);
        for node in self.workflow.nodes().filter(saves).take(MAX_SCORED) {
            let exact = node.class == "SaveGLB";
            let evidence = Evidence::of(if exact { 4 } else { 2 }, "its class saves a mesh")
                .add_if(node.links().next().is_some(), 1, "another node feeds it")
                .add_if(node.title_has(&["export", "output"]), 1, "its title says output");
            self.add(Role::Mesh, Binding::Output { node: node.id.into() }, &evidence, 0);
        }
    }

    /// Adds the nodes that save a picture.
    pub(super) fn pictures_out(&mut self, mesh: &HashMap<&str, usize>) {
        let saves = |node: &Node<'_>| {
            let picture = node.class_has(&["image", "png", "webp"]);
            node.class_has(&SAVE_WORDS) && picture && !node.class_has(&MESH_WORDS)
        };
        for node in self.workflow.nodes().filter(saves).take(MAX_SCORED) {
            let exact = node.class == "SaveImage";
            let shared = node.links().any(|(_, link)| mesh.contains_key(link.node));
            let sampled =
                ancestors(self.workflow, [node.id]).keys().any(|id| samples(self.workflow, id));
            let evidence = Evidence::of(if exact { 2 } else { 1 }, "its class saves a picture")
                .add_if(shared, 2, "the mesh is made from the same picture")
                .add_if(sampled, 1, "a sampler made the picture")
                .add_if(node.title_has(&["export", "output"]), 1, "its title says output")
                .add_if(
                    node.title_has(&["depth", "mask", "debug", "control"]),
                    -2,
                    "its title says intermediate",
                );
            self.add(Role::Flux, Binding::Output { node: node.id.into() }, &evidence, 0);
        }
    }

    /// Adds the nodes that load a picture.
    pub(super) fn pictures_in(
        &mut self,
        image: &HashMap<&str, usize>,
        mesh: &HashMap<&str, usize>,
    ) {
        let loads = |node: &Node<'_>| {
            node.class_has(&["loadimage", "load image", "imageload", "imagefrom"])
        };
        for node in self.workflow.nodes().filter(loads).take(MAX_SCORED) {
            let exact = node.class == "LoadImage";
            let evidence = Evidence::of(if exact { 3 } else { 2 }, "its class loads a picture")
                .add_if(image.contains_key(node.id), 2, "the image is made from it")
                .add_if(mesh.contains_key(node.id), 1, "the mesh is made from it")
                .add_if(node.title_has(&["input", "render"]), 1, "its title says input")
                .add_if(node.class_has(&["mask"]), -2, "it loads a mask");
            let distance = image.get(node.id).or_else(|| mesh.get(node.id)).copied();
            for place in values_behind(self.workflow, node, None, Role::Image) {
                self.add(Role::Image, place, &evidence, distance.unwrap_or(usize::MAX));
            }
        }
    }

    /// Adds seeds and steps, in the `part` of the graph that makes the picture or the mesh.
    pub(super) fn numbers(&mut self, role: Role, part: &HashMap<&str, usize>) {
        let seeds = matches!(role, Role::Seed | Role::MeshSeed);
        let (names, beside): (&[&str], &[&str]) = if seeds {
            (&["noise_seed", "seed"], &["steps", "sigmas", "noise_seed"])
        } else {
            (&["steps", "num_inference_steps"], &["noise_seed", "seed", "scheduler"])
        };
        let mut fitting: Vec<(usize, Node<'_>, &str)> = part
            .iter()
            .filter_map(|(id, distance)| {
                let node = self.workflow.node(id)?;
                let name = names.iter().find(|name| node.input(name).is_some())?;
                Some((*distance, node, *name))
            })
            .collect();
        fitting.sort_unstable_by_key(|(distance, node, _)| (*distance, node.id));
        for (distance, node, name) in fitting.into_iter().take(MAX_SCORED) {
            let place_of = match role {
                Role::MeshSeed | Role::StepsPartpacker => "only the mesh depends on it",
                _ => "the image depends on it",
            };
            let evidence = Evidence::of(3, place_of)
                .add_if(node.class_has(&["sampler", "noise", "schedul"]), 1, "its class samples")
                .add_if(
                    beside.iter().any(|name| node.input(name).is_some()),
                    1,
                    "a sampler's inputs",
                );
            for place in values_behind(self.workflow, node, Some(name), role) {
                let away = place.node() != node.id;
                let evidence = evidence.clone().add_if(away, 0, "a primitive feeds it");
                self.add(role, place, &evidence, distance);
            }
        }
    }

    /// Adds a candidate; one that is already listed keeps its strongest evidence.
    pub(super) fn add(&mut self, role: Role, place: Binding, evidence: &Evidence, distance: usize) {
        let Some(node) = self.workflow.node(place.node()) else { return };
        let known = self.candidates.iter_mut().find(|c| c.role == role && c.target == place);
        if let Some(known) = known {
            known.distance = known.distance.min(distance);
            if known.score < evidence.score {
                known.score = evidence.score;
                known.reason = evidence.reasons.join(", ");
            }
            return;
        }
        self.candidates.push(BindingCandidate {
            role,
            class: display_name(node.class),
            title: display_name(node.title),
            confidence: Confidence::Guess,
            reason: evidence.reasons.join(", "),
            score: evidence.score,
            distance,
            target: place,
        });
    }

    /// Returns the node that leads for `role` so far.
    pub(super) fn best_node(&self, role: Role) -> Option<String> {
        let of_role = self.candidates.iter().filter(|c| c.role == role);
        of_role.min_by(|a, b| rank(a).cmp(&rank(b))).map(|c| c.target.node().to_owned())
    }

    /// Ranks every candidate and gives each location to one role only.
    pub(super) fn finish(mut self) -> Inspection {
        self.candidates.sort_by(|a, b| (a.role, rank(a)).cmp(&(b.role, rank(b))));
        // The roles of the mesh come first: if one primitive feeds both samplers, the smaller range
        // of the mesh applies.
        let mut taken: HashSet<Binding> = HashSet::new();
        let mut kept = Vec::new();
        for role in [
            Role::Image,
            Role::Prompt,
            Role::PromptClip,
            Role::MeshSeed,
            Role::Seed,
            Role::StepsFlux,
            Role::StepsPartpacker,
            Role::Flux,
            Role::Mesh,
        ] {
            let of_role = self.candidates.iter().filter(|c| c.role == role);
            let mut free: Vec<BindingCandidate> =
                of_role.filter(|c| !taken.contains(&c.target)).cloned().collect();
            let tie = free.len() > 1 && free[0].score == free[1].score;
            for (at, candidate) in free.iter_mut().enumerate() {
                candidate.confidence = match candidate.score {
                    _ if at > 0 || tie => Confidence::Guess,
                    CERTAIN.. => Confidence::Certain,
                    LIKELY.. => Confidence::Likely,
                    _ => Confidence::Guess,
                };
            }
            taken
                .extend(free.first().filter(|_| !role.is_output()).map(|best| best.target.clone()));
            kept.extend(free);
        }
        kept.sort_by_key(|candidate| candidate.role);
        Inspection { candidates: kept }
    }
}

/// Returns the sort key, best first: the score, then the distance to the output, then the location,
/// so that the result is deterministic.
fn rank(candidate: &BindingCandidate) -> (i32, usize, &Binding) {
    (-candidate.score, candidate.distance, &candidate.target)
}

/// Returns whether a node turns noise into a picture.
fn samples(workflow: &Workflow, id: &str) -> bool {
    workflow.node(id).is_some_and(|node| node.input("latent_image").is_some())
}

/// Returns what feeds the samplers that the mesh depends on, for graphs that save no picture.
pub(super) fn made_by_a_sampler<'a>(
    workflow: &'a Workflow,
    mesh: &HashMap<&str, usize>,
) -> HashMap<&'a str, usize> {
    ancestors(workflow, mesh.keys().copied().filter(|id| samples(workflow, id)))
}
