//! Finds the roles in an unknown graph, for `conjured workflow inspect`.
//!
//! Owns the ranking: every location that may have a role, the reason, and the confidence. It does
//! not bind anything: a person writes the result into the configuration, or
//! [`super::bind::bind_or_find`] uses what is certain.
//!
//! Links are the best evidence: the image is made by what feeds the saved picture, the mesh by what
//! feeds the saved mesh and not the picture; a positive text is one that reaches a sampler through
//! its positive conditioning (`texts`). Titles and class names decide what links leave open.

mod search;
mod texts;
mod values;

use std::collections::HashMap;

use self::search::{Search, made_by_a_sampler};
use super::{Workflow, bind::Binding, graph::ancestors, role::Role};

/// The confidence of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Possible; another location fits as well, or only a name supports it.
    Guess,
    /// Nothing fits better.
    Likely,
    /// Links and class agree, and nothing else fits as well.
    Certain,
}

impl Confidence {
    /// Returns the word that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guess => "guess",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// A location that may have a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingCandidate {
    /// The role.
    pub role: Role,
    /// The location.
    pub target: Binding,
    /// The class of its node, safe to display.
    pub class: String,
    /// The title of its node, safe to display.
    pub title: String,
    /// The confidence.
    pub confidence: Confidence,
    /// The reason, in a few words.
    pub reason: String,
    score: i32,
    distance: usize,
}

impl BindingCandidate {
    /// Returns the location as a TOML string: `"41.value"`.
    pub fn toml(&self) -> String {
        // Ids contain no control characters, and the inputs that are searched for are plain words.
        let place = self.target.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{place}\"")
    }
}

/// The result of a search in a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    candidates: Vec<BindingCandidate>,
}

impl Inspection {
    /// Returns every candidate: roles in the order of [`Role::ALL`], the best of each first.
    pub fn candidates(&self) -> &[BindingCandidate] {
        &self.candidates
    }

    /// Returns the best candidate for a role.
    pub fn best(&self, role: Role) -> Option<&BindingCandidate> {
        self.candidates.iter().find(|candidate| candidate.role == role)
    }

    /// Returns a complete `[generation.bind]` section of the configuration with the best candidate
    /// of each role. Guesses are marked, and required roles that were not found are included to be
    /// filled in.
    pub fn snippet(&self) -> String {
        let mut lines = vec!["[generation.bind]\n".to_owned()];
        for role in Role::ALL {
            lines.extend(match self.best(role) {
                Some(best) if best.confidence == Confidence::Guess => {
                    Some(format!("{role} = {}   # a guess\n", best.toml()))
                }
                Some(best) => Some(format!("{role} = {}\n", best.toml())),
                None if role.is_required() => {
                    Some(format!("# {role} = \"…\"   # required, but not found\n"))
                }
                None => None,
            });
        }
        lines.concat()
    }
}

/// Searches every role in `workflow`.
pub fn inspect(workflow: &Workflow) -> Inspection {
    let mut search = Search::new(workflow);
    search.meshes();
    let mesh =
        search.best_node(Role::Mesh).map(|node| ancestors(workflow, [&*node])).unwrap_or_default();
    search.pictures_out(&mesh);
    let image = match search.best_node(Role::Flux) {
        Some(node) => ancestors(workflow, [&*node]),
        None => made_by_a_sampler(workflow, &mesh),
    };
    let mesh_only = mesh.iter().filter(|(id, _)| !image.contains_key(*id));
    let mesh_only: HashMap<&str, usize> =
        mesh_only.map(|(id, distance)| (*id, *distance)).collect();
    search.pictures_in(&image, &mesh);
    search.numbers(Role::MeshSeed, &mesh_only);
    search.numbers(Role::StepsPartpacker, &mesh_only);
    search.numbers(Role::Seed, &image);
    search.numbers(Role::StepsFlux, &image);
    for text in texts::find(workflow, &image) {
        search.add(text.role, text.target, &text.evidence, text.distance);
    }
    search.finish()
}

#[cfg(test)]
mod tests;
