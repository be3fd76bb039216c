//! Checks whether a mesh may be shown to Blender: a streaming check of a binary glTF.
//!
//! Owns the answer, and needs a few hundred kilobytes of memory regardless of the mesh's size.
//! Blender deletes the artist's mesh *before* it reads ours, so everything that would make its
//! importer fail, or import wrongly without an error, is refused here:
//!
//! - the container: magic, version, header length = file length, chunks that add up (`container`);
//! - the JSON: `asset.version` 2.0 and no required extension that Blender's importer does not
//!   support (`document`);
//! - the references: every accessor and bufferView is within the file (`access`);
//! - the numbers: every position is finite and within the declared bounds, every index is a vertex,
//!   no tail of zeros as after a broken download (`scan`);
//! - the scene: the importer creates only the meshes that nodes use (`scene`).
//!
//! Not checked: materials and textures beyond their references, animations, skins, and whether a
//! part is large enough to be worth importing. Refused although the format allows it, because it
//! cannot be checked or would not be found: Draco and meshopt compression, sparse accessors,
//! buffers outside of the file. No workflow here produces them.
//!
//! Sources: the glTF 2.0 specification (Khronos, 2.0.1) for the format, glTF-Blender-IO for
//! the importer.

mod container;
mod document;
mod access;
mod scan;
mod scene;

use std::io::{self, Read, Seek};

use access::Source;
use document::{Document, Primitive, TRIANGLES};

/// The largest JSON chunk that is read. PartPacker's has 2.5 KB; embedded textures are in BIN.
pub const MAX_JSON: u32 = 16 * 1024 * 1024;

/// The properties of a valid mesh. The counts cover the meshes that the scene uses, each once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlbFacts {
    /// Number of meshes: Blender creates an object for each.
    pub meshes: usize,
    /// Number of their primitives.
    pub primitives: usize,
    /// Number of vertices in all primitives.
    pub vertices: u64,
    /// Number of triangles in all primitives that have any.
    pub triangles: u64,
    /// The smallest coordinates in the file, before any node's transformation.
    pub min: [f32; 3],
    /// The largest coordinates in the file, before any node's transformation.
    pub max: [f32; 3],
}

/// Why a mesh must not be shown to Blender.
#[derive(Debug, thiserror::Error)]
pub enum GlbFault {
    /// It does not begin like a GLB, or is too short.
    #[error("the file is not a GLB")]
    NotGlb,
    /// The container has another version.
    #[error("the mesh is a GLB of version {0}, and Blender reads version 2 only")]
    Version(u32),
    /// The length in the header differs from the file: truncated, or with extra data at the end.
    #[error(
        "the mesh has {actual} bytes instead of {promised}: it is incomplete or damaged, download it again"
    )]
    Length {
        /// The length in the header.
        promised: u64,
        /// The real length.
        actual: u64,
    },
    /// The chunks do not add up.
    #[error("the mesh is damaged: {0}")]
    Chunks(&'static str),
    /// The JSON is larger than any mesh needs.
    #[error("the mesh's JSON is too large to be checked: {0}")]
    TooLarge(String),
    /// The JSON cannot be parsed, or is not glTF.
    #[error("the mesh's JSON is not valid glTF: {0}")]
    Json(String),
    /// It needs a feature that Blender's importer does not support.
    #[error("Blender cannot import the mesh: it needs {0}")]
    NotForBlender(String),
    /// It uses a feature that cannot be checked here.
    #[error(
        "the mesh uses {0}, which cannot be checked before Blender reads it: change the workflow to save a plain GLB"
    )]
    Uncheckable(String),
    /// A reference points outside of the file.
    #[error("the mesh is damaged: {what} points outside of the file")]
    OutOfRange {
        /// The object with the reference.
        what: String,
    },
    /// The JSON contradicts itself.
    #[error("the mesh is damaged: {what}")]
    Inconsistent {
        /// The contradiction.
        what: String,
    },
    /// No mesh has triangles.
    #[error("the mesh is empty: no mesh has triangles")]
    NoTriangles,
    /// There are meshes, but the importer would create none of them.
    #[error("no node of the scene uses a mesh: nothing would be imported")]
    NothingInScene,
    /// A position is NaN or infinite.
    #[error("the mesh is damaged: accessor {accessor} has positions that are not numbers")]
    NotFinite {
        /// The accessor.
        accessor: usize,
    },
    /// The data does not match its declared bounds.
    #[error(
        "the mesh is damaged: the values of accessor {accessor} are not within their declared bounds, or do not fill them"
    )]
    BoundsDiffer {
        /// The accessor.
        accessor: usize,
    },
    /// Zeros in place of data, as after an interrupted download.
    #[error(
        "the mesh is damaged: accessor {accessor} ends in zeros, as after an interrupted download; download it again"
    )]
    ZeroTail {
        /// The accessor.
        accessor: usize,
    },
    /// An index is not a vertex.
    #[error("the mesh is damaged: accessor {accessor} refers to vertex {index} of {vertices}")]
    IndexTooHigh {
        /// The accessor of the indices.
        accessor: usize,
        /// The highest index.
        index: u32,
        /// The number of vertices.
        vertices: u64,
    },
    /// All points coincide, or no triangle has three different corners.
    #[error("the mesh has no size: all of it is one point")]
    NoExtent,
    /// The file could not be read.
    #[error("the mesh could not be read: {0}")]
    Read(#[from] io::Error),
}

/// Checks the GLB of `length` bytes that begins at the start of `reader`. Reads it in pieces, each
/// part a few times at most.
pub fn check<R: Read + Seek>(reader: &mut R, length: u64) -> Result<GlbFacts, GlbFault> {
    let container = container::read(reader, length)?;
    let document = Document::parse(&container.json)?;
    drop(container.json);
    let mut source = Source::new(reader, &document, container.bin);
    for accessor in 0..document.accessors.len() {
        source.span(accessor)?;
    }
    source.check_images()?;
    let in_scene = scene::meshes(&document)?;

    let mut checks = scan::Checks::default();
    let mut facts = GlbFacts {
        meshes: 0,
        primitives: 0,
        vertices: 0,
        triangles: 0,
        min: [f32::INFINITY; 3],
        max: [f32::NEG_INFINITY; 3],
    };
    let mut any_triangles = false;
    for (mesh, in_scene) in document.meshes.iter().zip(in_scene) {
        let mut seen = false;
        for primitive in &mesh.primitives {
            let Some(part) = check_primitive(&mut source, &mut checks, primitive)? else {
                continue;
            };
            any_triangles |= part.triangles > 0;
            if in_scene {
                seen = true;
                facts.primitives += 1;
                facts.vertices = facts.vertices.saturating_add(part.vertices);
                facts.triangles = facts.triangles.saturating_add(part.triangles);
                for axis in 0..3 {
                    facts.min[axis] = facts.min[axis].min(part.min[axis]);
                    facts.max[axis] = facts.max[axis].max(part.max[axis]);
                }
            }
        }
        facts.meshes += usize::from(seen);
    }
    if facts.triangles == 0 {
        return Err(if any_triangles { GlbFault::NothingInScene } else { GlbFault::NoTriangles });
    }
    if facts.min.iter().zip(facts.max).all(|(&min, max)| max - min <= 0.0) {
        return Err(GlbFault::NoExtent);
    }
    Ok(facts)
}

/// The contribution of one primitive to the facts.
struct Part {
    vertices: u64,
    triangles: u64,
    min: [f32; 3],
    max: [f32; 3],
}

/// Checks one primitive; `None` for one without positions, which importers skip.
fn check_primitive<R: Read + Seek>(
    source: &mut Source<'_, R>,
    checks: &mut scan::Checks,
    primitive: &Primitive,
) -> Result<Option<Part>, GlbFault> {
    let Some(&position) = primitive.attributes.get("POSITION") else { return Ok(None) };
    let points = checks.positions(source, position)?;
    let vertices = points.count;
    for (name, &accessor) in primitive.attributes.iter().chain(primitive.targets.iter().flatten()) {
        if source.accessor(accessor)?.count != vertices {
            let what = format!("{name} and POSITION of a primitive differ in their counts");
            return Err(GlbFault::Inconsistent { what });
        }
        if name != "POSITION" {
            checks.attribute(source, accessor)?;
        }
    }
    let corners = match primitive.indices {
        None => vertices,
        Some(accessor) => {
            let indices = checks.indices(source, accessor)?;
            if u64::from(indices.max) >= vertices {
                return Err(GlbFault::IndexTooHigh { accessor, index: indices.max, vertices });
            }
            if primitive.mode == TRIANGLES {
                if indices.real_triangles == 0 {
                    return Err(GlbFault::NoExtent);
                }
                if indices.zero_triangles_at_end > 1 {
                    return Err(GlbFault::ZeroTail { accessor });
                }
            }
            indices.count
        }
    };
    let triangles = if primitive.mode == TRIANGLES { corners / 3 } else { 0 };
    if primitive.mode == TRIANGLES && corners % 3 != 0 {
        let what = format!("a primitive has {corners} corners, which are not whole triangles");
        return Err(GlbFault::Inconsistent { what });
    }
    Ok(Some(Part { vertices, triangles, min: points.min, max: points.max }))
}

#[cfg(test)]
mod tests;
