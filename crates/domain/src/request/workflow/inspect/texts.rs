//! Finds the texts of a graph: which encoder is the positive one, and where its text comes from.
//!
//! Owns the walk from the samplers back through their conditioning. ComfyUI's nodes name those
//! inputs `positive`, `negative`, `conditioning`, `neg_conditioning` and `guider`; a node that
//! takes both signs passes them on in that order (output 0 positive, output 1 negative), for
//! example `ControlNetApplyAdvanced`.

use std::collections::{HashMap, HashSet};

use super::{
    super::{Workflow, bind::Binding, graph::Node, role::Role},
    search::{Evidence, MAX_SCORED},
    values::values_behind,
};

/// The sign of a conditioning.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Sign {
    Positive,
    Negative,
    /// Both, through a guider.
    Both,
}

/// A text that may be the prompt.
pub(super) struct Text {
    pub(super) role: Role,
    pub(super) target: Binding,
    pub(super) evidence: Evidence,
    pub(super) distance: usize,
}

/// Inputs that contain an encoder's text, the most specific first.
const TEXT_INPUTS: [&str; 4] = ["t5xxl", "text", "prompt", "text_g"];

/// Finds the texts of the encoders that feed the samplers in `part` (all samplers if `part`
/// is empty).
pub(super) fn find(workflow: &Workflow, part: &HashMap<&str, usize>) -> Vec<Text> {
    let signs = signs(workflow, part);
    let mut texts = Vec::new();
    for node in workflow.nodes().filter(|node| is_text_encoder(*node)).take(MAX_SCORED) {
        let reached = |sign| signs.contains(&(node.id, sign));
        let forbidden = node.title_has(&["negative", "donttouch", "don't touch", "do not touch"]);
        if forbidden || (reached(Sign::Negative) && !reached(Sign::Positive)) {
            continue;
        }
        let evidence = Evidence::of(2, "its class encodes a text")
            .add_if(reached(Sign::Positive), 3, "a sampler takes it as positive")
            .add_if(node.title_has(&["positive", "prompt"]), 1, "its title says so")
            .add_if(reached(Sign::Negative), -2, "a sampler takes it as negative too");
        let distance = part.get(node.id).copied().unwrap_or(usize::MAX);
        let Some(sentence) = TEXT_INPUTS.into_iter().find(|name| node.input(name).is_some()) else {
            continue;
        };
        let mut add = |role, input| {
            for place in values_behind(workflow, node, Some(input), role) {
                let away = place.node() != node.id;
                let evidence = evidence.clone().add_if(away, 0, "a primitive feeds it");
                texts.push(Text { role, target: place, evidence, distance });
            }
        };
        add(Role::Prompt, sentence);
        if sentence == "t5xxl" && node.input("clip_l").is_some() {
            add(Role::PromptClip, "clip_l");
        }
    }
    texts
}

/// Returns whether a node turns a text into conditioning.
fn is_text_encoder(node: Node<'_>) -> bool {
    let has_sentence = TEXT_INPUTS.iter().any(|name| node.input(name).is_some());
    has_sentence && (node.class_has(&["textencode"]) || node.input("clip").is_some())
}

/// Walks back from the samplers and returns the sign with which each node feeds them.
fn signs<'a>(workflow: &'a Workflow, part: &HashMap<&str, usize>) -> HashSet<(&'a str, Sign)> {
    let starts = workflow.nodes().filter(|node| {
        node.input("latent_image").is_some() && (part.is_empty() || part.contains_key(node.id))
    });
    let mut seen = HashSet::new();
    let mut waiting: Vec<(Node<'a>, u64, Sign)> =
        starts.map(|node| (node, 0, Sign::Both)).collect();
    while let Some((node, output, sign)) = waiting.pop() {
        // An encoder ends the walk; a node with two outputs may be reached twice with
        // different signs.
        let new = seen.insert((node.id, output, sign));
        if !new || is_text_encoder(node) {
            continue;
        }
        let takes_both = node.links().any(|(name, _)| name == "positive")
            && node.links().any(|(name, _)| name == "negative");
        for (name, link) in node.links() {
            let Some(asked) = sign_of(name) else { continue };
            let next = match sign {
                Sign::Both => asked,
                _ if asked == Sign::Both => continue,
                _ if takes_both => {
                    let given = if output == 0 { Sign::Positive } else { Sign::Negative };
                    if asked != given {
                        continue;
                    }
                    sign
                }
                _ => sign,
            };
            waiting.extend(workflow.node(link.node).map(|node| (node, link.output, next)));
        }
    }
    seen.into_iter().map(|(id, _, sign)| (id, sign)).collect()
}

/// Returns the sign of an input with that name; `None` for inputs that take no conditioning.
fn sign_of(name: &str) -> Option<Sign> {
    match name.to_lowercase() {
        name if name.contains("control") => None,
        name if name.contains("neg") || name.contains("uncond") => Some(Sign::Negative),
        name if name.contains("pos") || name.contains("cond") => Some(Sign::Positive),
        name if name.contains("guider") => Some(Sign::Both),
        _ => None,
    }
}
