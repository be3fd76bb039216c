//! Small files made by the tests, and the check whether a public file is complete.
//!
//! Owns a GLB writer; pictures come from [`conjured::simulator::gesture_camera`]. The checks are
//! the crate's own, which has its own tests for them.

use std::{io::Cursor, path::Path};

use conjured::domain::{inputs::png, mesh};
use serde_json::json;

/// Returns a GLB of `triangles` triangles, valid for every number above 0.
pub(crate) fn mesh(triangles: u16) -> Vec<u8> {
    let mut positions: Vec<u8> = Vec::new();
    for at in 0..triangles {
        let across = f32::from(at);
        for [x, y, z] in [[across, 0.0, 0.5], [across + 1.0, 0.25, 0.5], [across, 1.0, 1.5]] {
            for coordinate in [x, y, z] {
                positions.extend(coordinate.to_le_bytes());
            }
        }
    }
    let document = json!({
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{
            "bufferView": 0, "componentType": 5126, "type": "VEC3", "count": usize::from(triangles) * 3,
            "min": [0.0, 0.0, 0.5], "max": [f32::from(triangles), 1.0, 1.5],
        }],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": positions.len()}],
        "buffers": [{"byteLength": positions.len()}],
    });
    let mut text = document.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(4), b' ');
    let word = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
    let mut file = Vec::from(*b"glTF");
    file.extend(word(2));
    file.extend(word(12 + 8 + text.len() + 8 + positions.len()));
    file.extend(word(text.len()));
    file.extend(b"JSON");
    file.extend(&text);
    file.extend(word(positions.len()));
    file.extend(b"BIN\0");
    file.extend(&positions);
    file
}

/// Returns what is wrong with a public file, by its extension; `None` if it exists and is complete.
pub(crate) fn fault(path: &Path) -> Option<String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    let fault = if path.extension().is_some_and(|ending| ending == "glb") {
        mesh::check(&mut Cursor::new(&bytes), bytes.len() as u64)
            .err()
            .map(|fault| fault.to_string())
    } else {
        png::check(&bytes).err().map(|fault| fault.to_string())
    };
    fault.map(|fault| format!("{}: {fault}", path.display()))
}
