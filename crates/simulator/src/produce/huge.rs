//! A valid GLB of any size, generated while it is read.
//!
//! Owns a plain landscape of separate triangles, 36 bytes each, in which every vertex follows from
//! its number: any part of the file can be generated without the rest, so that a gigabyte needs no
//! memory and Range works.

use bytes::Bytes;
use serde_json::json;

use super::mesh::opening;

/// Squares along the landscape's side, two triangles each. Triangles that do not fit go into the
/// next layer above.
const SQUARES: u64 = 999;
const TRIANGLE_BYTES: u64 = 36;
const VERTEX_BYTES: u64 = 12;

/// A mesh that is generated only while it is read.
#[derive(Clone)]
pub(crate) struct HugeMesh {
    opening: Bytes,
    triangles: u64,
}

impl HugeMesh {
    /// Creates a mesh of about `megabytes` (10⁶ bytes): at least 1, at most 4000.
    pub(super) fn of_megabytes(megabytes: u32) -> Self {
        let triangles = u64::from(megabytes.clamp(1, 4000)) * 1_000_000 / TRIANGLE_BYTES;
        let rows = (triangles.div_ceil(2)).div_ceil(SQUARES).min(SQUARES);
        let layers = triangles.div_ceil(2 * SQUARES * SQUARES);
        let head = json!({
            "asset": {"version": "2.0", "generator": "conjured simulator"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "geometry_0", "mesh": 0}],
            "meshes": [{"name": "geometry_0", "primitives": [{"attributes": {"POSITION": 0}, "mode": 4}]}],
            "accessors": [{"componentType": 5126, "type": "VEC3", "bufferView": 0, "count": triangles * 3,
                "min": [along(0), along(0), 0.0],
                "max": [along(SQUARES), along(rows), height(layers - 1, 1)]}],
            "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": triangles * TRIANGLE_BYTES}],
            "buffers": [{"byteLength": triangles * TRIANGLE_BYTES}],
        });
        Self { opening: opening(&head, triangles * TRIANGLE_BYTES).into(), triangles }
    }

    pub(super) fn len(&self) -> u64 {
        self.opening.len() as u64 + self.triangles * TRIANGLE_BYTES
    }

    /// Generates up to `most` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, most: usize) -> Bytes {
        let head = self.opening.len() as u64;
        if offset < head {
            let start = usize::try_from(offset).unwrap_or(0);
            return self.opening.slice(start..start.saturating_add(most).min(self.opening.len()));
        }
        let end = offset.saturating_add(most as u64).min(self.len());
        if offset >= end {
            return Bytes::new();
        }
        let (first, last) = ((offset - head) / VERTEX_BYTES, (end - head).div_ceil(VERTEX_BYTES));
        let mut bytes = Vec::with_capacity(most.saturating_add(24));
        for vertex in first..last {
            for value in position(vertex) {
                bytes.extend(value.to_le_bytes());
            }
        }
        let skipped = usize::try_from((offset - head) % VERTEX_BYTES).unwrap_or(0);
        let wanted = usize::try_from(end - offset).unwrap_or(0);
        Bytes::from(bytes).slice(skipped..skipped + wanted)
    }
}

fn position(vertex: u64) -> [f32; 3] {
    let (triangle, corner) = (vertex / 3, vertex % 3);
    let square = triangle / 2;
    let (column, row) = (square % SQUARES, square / SQUARES % SQUARES);
    let (right, down) = match (triangle % 2, corner) {
        (0, 0) => (0, 0),
        (0, 1) | (1, 0) => (1, 0),
        (1, 1) => (1, 1),
        _ => (0, 1),
    };
    let (column, row) = (column + right, row + down);
    [along(column), along(row), height(square / (SQUARES * SQUARES), (column + row) % 2)]
}

/// Maps 0 to [`SQUARES`] to the range −0.9 to 0.9.
fn along(place: u64) -> f32 {
    f32::from(u16::try_from(place).unwrap_or(u16::MAX)) / 999.0 * 1.8 - 0.9
}

/// Layers are a thousandth apart, with every second point of a layer a little higher: at most 56
/// layers fit into 4 GB.
fn height(layer: u64, bump: u64) -> f32 {
    let layer = u16::try_from(layer).unwrap_or(u16::MAX);
    let bump = u16::try_from(bump).unwrap_or(0);
    f32::from(layer) * 0.01 + f32::from(bump) * 0.005
}
