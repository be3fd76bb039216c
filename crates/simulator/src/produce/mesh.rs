//! The mesh of a run: a solid relief of the submitted render, as a GLB 2 of the kind that
//! trimesh writes.
//!
//! Owns the geometry (front, walls, back: closed, so that it has a volume and Blender keeps it) and
//! the bytes of the container. Coordinates stay within ±1, colours are those of the run's picture,
//! and there are no normals, as in the meshes that PartPacker really returns.

use serde_json::json;

use super::{ProductRecipe, picture, scatter};

/// Half the length of the plate's side.
const HALF: f32 = 0.9;
/// The distance between the back and the lowest point of the front.
const THICKNESS: f32 = 0.2;
/// The height of the brightest point.
const RISE: f32 = 0.6;

/// Vertices and triangles before they are encoded.
#[derive(Default)]
struct Shape {
    positions: Vec<[f32; 3]>,
    colours: Vec<[u8; 4]>,
    triangles: Vec<[u32; 3]>,
}

/// Makes the mesh of a run.
pub(super) fn glb(recipe: &ProductRecipe) -> Vec<u8> {
    pack(&solid(recipe))
}

fn solid(recipe: &ProductRecipe) -> Shape {
    let side = recipe.grid.clamp(8, 512);
    let mut shape = front(recipe, side);
    let rim = rim(side);
    let first_back = u32::try_from(shape.positions.len()).unwrap_or(u32::MAX);
    for &vertex in &rim {
        let [x, y, _] = shape.positions[vertex as usize];
        shape.positions.push([x, y, -THICKNESS]);
        shape.colours.push([96, 96, 96, 255]);
    }
    let centre = u32::try_from(shape.positions.len()).unwrap_or(u32::MAX);
    shape.positions.push([0.0, 0.0, -THICKNESS]);
    shape.colours.push([96, 96, 96, 255]);
    for (at, &here) in rim.iter().enumerate() {
        let next = (at + 1) % rim.len();
        let (back, back_next) = (first_back + narrow(at), first_back + narrow(next));
        // The rim runs counter-clockwise seen from the front, so these triangles face outwards.
        shape.triangles.push([here, back, back_next]);
        shape.triangles.push([here, back_next, rim[next]]);
        shape.triangles.push([centre, back_next, back]);
    }
    shape
}

/// Builds the front: one vertex for each point of the grid, the first row at the top of
/// the picture.
fn front(recipe: &ProductRecipe, side: u32) -> Shape {
    let relief = picture::relief(recipe, side);
    let skin = picture::shade(recipe, side);
    let mut shape = Shape::default();
    let step = 2.0 * HALF / small(side - 1);
    for row in 0..side {
        for column in 0..side {
            let brightness = f32::from(relief.get_pixel(column, row).0[0]) / 255.0;
            let grain =
                u16::try_from(scatter(recipe.mesh_seed ^ u64::from(row * side + column)) >> 48)
                    .unwrap_or(0);
            let height = RISE * brightness + 0.004 * f32::from(grain) / 65_536.0;
            shape.positions.push([small(column) * step - HALF, HALF - small(row) * step, height]);
            let [red, green, blue] = skin.get_pixel(column, row).0;
            shape.colours.push([red, green, blue, 255]);
        }
    }
    for row in 0..side - 1 {
        for column in 0..side - 1 {
            let here = row * side + column;
            let below = here + side;
            shape.triangles.push([here, below, below + 1]);
            shape.triangles.push([here, below + 1, here + 1]);
        }
    }
    shape
}

/// Returns the edge of the grid, counter-clockwise seen from the front.
fn rim(side: u32) -> Vec<u32> {
    let last = side - 1;
    let down = (0..last).map(|row| row * side);
    let right = (0..last).map(|column| last * side + column);
    let up = (0..last).map(|row| (last - row) * side + last);
    let left = (0..last).map(|column| last - column);
    down.chain(right).chain(up).chain(left).collect()
}

fn pack(shape: &Shape) -> Vec<u8> {
    let indices = shape.triangles.len() * 12;
    let positions = shape.positions.len() * 12;
    let colours = shape.colours.len() * 4;
    let (low, high) = bounds(&shape.positions);
    let vertices = shape.positions.len();
    let head = json!({
        "asset": {"version": "2.0", "generator": "conjured simulator"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "world", "children": [1]}, {"name": "geometry_0", "mesh": 0}],
        "meshes": [{"name": "geometry_0", "primitives": [
            {"attributes": {"POSITION": 1, "COLOR_0": 2}, "indices": 0, "mode": 4}]}],
        "accessors": [
            {"componentType": 5125, "type": "SCALAR", "bufferView": 0, "count": shape.triangles.len() * 3,
             "min": [0], "max": [vertices - 1]},
            {"componentType": 5126, "type": "VEC3", "bufferView": 1, "count": vertices, "min": low, "max": high},
            {"componentType": 5121, "normalized": true, "type": "VEC4", "bufferView": 2, "count": vertices},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": indices},
            {"buffer": 0, "byteOffset": indices, "byteLength": positions},
            {"buffer": 0, "byteOffset": indices + positions, "byteLength": colours},
        ],
        "buffers": [{"byteLength": indices + positions + colours}],
    });
    let mut binary = Vec::with_capacity(indices + positions + colours);
    binary.extend(shape.triangles.iter().flatten().flat_map(|index| index.to_le_bytes()));
    binary.extend(shape.positions.iter().flatten().flat_map(|value| value.to_le_bytes()));
    binary.extend(shape.colours.iter().flatten());
    let mut file = opening(&head, binary.len() as u64);
    file.extend(binary);
    file
}

/// Encodes everything of a GLB before the content of the binary chunk: the header, the JSON chunk,
/// and the header of the binary chunk. `binary` must be a multiple of four and keep the file below
/// 4 GiB.
pub(super) fn opening(json: &serde_json::Value, binary: u64) -> Vec<u8> {
    let mut text = json.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(4), b' ');
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut file = Vec::with_capacity(text.len() + 28);
    file.extend(b"glTF");
    file.extend(2_u32.to_le_bytes());
    file.extend(word(12 + 8 + text.len() as u64 + 8 + binary));
    file.extend(word(text.len() as u64));
    file.extend(b"JSON");
    file.extend(text);
    file.extend(word(binary));
    file.extend(b"BIN\0");
    file
}

fn bounds(positions: &[[f32; 3]]) -> ([f32; 3], [f32; 3]) {
    let start = ([f32::MAX; 3], [f32::MIN; 3]);
    positions.iter().fold(start, |(mut low, mut high), position| {
        for axis in 0..3 {
            low[axis] = low[axis].min(position[axis]);
            high[axis] = high[axis].max(position[axis]);
        }
        (low, high)
    })
}

/// A grid has at most 512 × 512 points, so an index into it fits into 32 bits.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A position along a grid's side as a coordinate; sides are at most 512, which `f32`
/// represents exactly.
fn small(value: u32) -> f32 {
    f32::from(u16::try_from(value).unwrap_or(u16::MAX))
}
