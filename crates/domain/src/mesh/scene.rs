//! Determines which meshes an importer would create: those that a node of the scene uses.
//!
//! Owns the walk over the nodes. It uses a list instead of recursion, so a deep tree cannot exhaust
//! the stack, and it visits each node only once, so a cycle ends it.

use super::{
    GlbFault,
    document::{Document, Node},
};

/// Returns for each mesh whether the scene uses it. The scene is the default one, or else the
/// first, or else all nodes.
pub(super) fn meshes(document: &Document) -> Result<Vec<bool>, GlbFault> {
    for node in &document.nodes {
        check_transformation(node)?;
        if node.mesh.is_some_and(|mesh| mesh >= document.meshes.len()) {
            return Err(GlbFault::OutOfRange { what: "the mesh of a node".to_owned() });
        }
    }
    let mut used = vec![false; document.meshes.len()];
    let mut visited = vec![false; document.nodes.len()];
    let mut ahead = roots(document)?;
    while let Some(index) = ahead.pop() {
        let node = document.nodes.get(index);
        let node = node.ok_or_else(|| GlbFault::OutOfRange { what: format!("node {index}") })?;
        if std::mem::replace(&mut visited[index], true) {
            let what = format!("node {index} has two parents, or is its own parent");
            return Err(GlbFault::Inconsistent { what });
        }
        if let Some(mesh) = node.mesh {
            used[mesh] = true;
        }
        ahead.extend(&node.children);
    }
    Ok(used)
}

fn roots(document: &Document) -> Result<Vec<usize>, GlbFault> {
    if document.scenes.is_empty() {
        let mut is_root = vec![true; document.nodes.len()];
        for &child in document.nodes.iter().flat_map(|node| &node.children) {
            let Some(is_root) = is_root.get_mut(child) else {
                return Err(GlbFault::OutOfRange { what: format!("node {child}") });
            };
            *is_root = false;
        }
        return Ok((0..document.nodes.len()).filter(|&index| is_root[index]).collect());
    }
    let index = document.scene.unwrap_or(0);
    match document.scenes.get(index) {
        Some(scene) => Ok(scene.nodes.clone()),
        None => Err(GlbFault::OutOfRange { what: format!("scene {index}") }),
    }
}

/// Blender computes in 32 bits: a value that is infinite there makes the whole object disappear.
fn check_transformation(node: &Node) -> Result<(), GlbFault> {
    let Node { matrix, translation, rotation, scale, .. } = node;
    for (name, numbers, len) in [
        ("matrix", matrix, 16),
        ("translation", translation, 3),
        ("rotation", rotation, 4),
        ("scale", scale, 3),
    ] {
        let finite = numbers.iter().all(|number| number.abs() <= f64::from(f32::MAX));
        if !finite || !(numbers.is_empty() || numbers.len() == len) {
            return Err(GlbFault::Inconsistent {
                what: format!("the {name} of a node is invalid"),
            });
        }
    }
    Ok(())
}
