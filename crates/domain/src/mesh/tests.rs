//! Valid meshes, and every way in which a mesh can be damaged.

use std::io::Cursor;

use serde_json::{Value, json};

use super::*;

/// Wraps JSON and BIN into a container, padded as the format requires.
fn container(json: &str, bin: &[u8]) -> Vec<u8> {
    let mut json = json.as_bytes().to_vec();
    json.resize(json.len().next_multiple_of(4), b' ');
    let mut bin = bin.to_vec();
    bin.resize(bin.len().next_multiple_of(4), 0);
    let mut file = Vec::new();
    file.extend(b"glTF");
    let words = [2, u32::try_from(28 + json.len() + bin.len()).expect("small")];
    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    for (name, data) in [(b"JSON", &json), (b"BIN\0", &bin)] {
        file.extend(u32::try_from(data.len()).expect("small").to_le_bytes());
        file.extend(name);
        file.extend(data);
    }
    file
}

/// An octahedron: six corners, then colours, then eight triangles of 16-bit indices.
fn octahedron() -> (Value, Vec<u8>) {
    let corners: [[f32; 3]; 6] = [
        [1.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, -1.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, -0.5],
    ];
    let triangles: [u16; 24] =
        [0, 2, 4, 2, 1, 4, 1, 3, 4, 3, 0, 4, 2, 0, 5, 1, 2, 5, 3, 1, 5, 0, 3, 5];
    let mut bin: Vec<u8> = corners.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    bin.extend([200_u8, 180, 90, 255].repeat(6));
    bin.extend(triangles.iter().flat_map(|v| v.to_le_bytes()));
    let json = json!({
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"children": [1]}, {"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 6,
             "min": [-1.0, -1.0, -0.5], "max": [1.0, 1.0, 1.0]},
            {"bufferView": 1, "componentType": 5121, "type": "VEC4", "count": 6, "normalized": true,
             "min": [200, 180, 90, 255], "max": [200, 180, 90, 255]},
            {"bufferView": 2, "componentType": 5123, "type": "SCALAR", "count": 24},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 72},
            {"buffer": 0, "byteOffset": 72, "byteLength": 24},
            {"buffer": 0, "byteOffset": 96, "byteLength": 48},
        ],
        "buffers": [{"byteLength": 144}],
    });
    (json, bin)
}

fn check_bytes(bytes: &[u8]) -> Result<GlbFacts, GlbFault> {
    check(&mut Cursor::new(bytes), bytes.len() as u64)
}

/// Checks the octahedron after a change to its JSON.
fn check_with(change: impl FnOnce(&mut Value)) -> Result<GlbFacts, GlbFault> {
    let (mut json, bin) = octahedron();
    change(&mut json);
    check_bytes(&container(&json.to_string(), &bin))
}

/// Checks the octahedron after a change to its BIN.
fn check_with_bin(change: impl FnOnce(&mut [u8])) -> Result<GlbFacts, GlbFault> {
    let (json, mut bin) = octahedron();
    change(&mut bin);
    check_bytes(&container(&json.to_string(), &bin))
}

macro_rules! assert_fault {
    ($result:expr, $fault:pat) => {
        let result = $result;
        assert!(matches!(result, Err($fault)), "{result:?}");
    };
}

mod hostile;

#[test]
fn a_good_mesh_tells_its_facts() {
    let facts = check_with(|_| {}).expect("a good mesh");
    assert_eq!((facts.meshes, facts.primitives, facts.vertices, facts.triangles), (1, 1, 6, 8));
    assert_eq!((facts.min, facts.max), ([-1.0, -1.0, -0.5], [1.0, 1.0, 1.0]));
}

#[test]
fn every_cut_is_refused_with_its_true_length_and_with_the_promised_one() {
    let (json, bin) = octahedron();
    let whole = container(&json.to_string(), &bin);
    for end in 0..whole.len() {
        let cut = &whole[..end];
        assert!(check_bytes(cut).is_err(), "cut at {end}");
        assert!(check(&mut Cursor::new(cut), whole.len() as u64).is_err(), "read to {end}");
    }
    assert_fault!(check_bytes(&[whole, vec![0; 4]].concat()), GlbFault::Length { .. });
    // Found by fuzzing: bytes at the end that belong to no accessor, so that no check would
    // read them.
    let spare = container(&json.to_string(), &[bin, vec![7; 8]].concat());
    check_bytes(&spare).expect("a buffer may be longer than what is used of it");
    for missing in 1..=8 {
        let cut = &spare[..spare.len() - missing];
        assert_fault!(check(&mut Cursor::new(cut), spare.len() as u64), GlbFault::Chunks(_));
    }
}

#[test]
fn other_files_and_versions_are_refused() {
    assert_fault!(check_bytes(b"<!DOCTYPE html><html></html>"), GlbFault::NotGlb);
    assert_fault!(check_bytes(b"\x89PNG\r\n\x1a\n"), GlbFault::NotGlb);
    let (json, bin) = octahedron();
    let mut old = container(&json.to_string(), &bin);
    old[4] = 1;
    assert_fault!(check_bytes(&old), GlbFault::Version(1));
}

#[test]
fn chunks_must_stand_in_order_and_fill_the_file() {
    let (json, bin) = octahedron();
    let whole = container(&json.to_string(), &bin);
    let mut no_json = whole.clone();
    no_json[16..20].copy_from_slice(b"JSOM");
    assert_fault!(check_bytes(&no_json), GlbFault::Chunks(_));
    let mut longer = whole.clone();
    longer[12] = longer[12].wrapping_add(2);
    assert_fault!(check_bytes(&longer), GlbFault::Chunks(_));

    // An unknown third chunk is skipped; a second JSON is not.
    let with_third = |name: &[u8; 4]| {
        let mut file = [whole.clone(), vec![4, 0, 0, 0], name.to_vec(), vec![1; 4]].concat();
        let length = u32::try_from(file.len()).expect("small").to_le_bytes();
        file[8..12].copy_from_slice(&length);
        check_bytes(&file)
    };
    assert!(with_third(b"WHAT").is_ok());
    assert_fault!(with_third(b"JSON"), GlbFault::Chunks(_));
}

#[test]
fn a_tail_of_zeros_is_refused_wherever_it_begins() {
    // The last two triangles begin at byte 132. A single one of zeros may come from the writer.
    for start in 0..=132 {
        let result = check_with_bin(|bin| bin[start..].fill(0));
        assert!(result.is_err(), "zeros from byte {start} on");
    }
    // In the middle of the mesh the bounds stay valid, so the check searches for the run of
    // zeros itself.
    let (mut json, _) = octahedron();
    let mut points = vec![[-1.0_f32, -1.0, -0.5], [1.0, 1.0, 1.0], [0.5, 0.0, 0.0]];
    points.extend([[0.0; 3]; 6]);
    let bin: Vec<u8> = points.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    json["meshes"][0]["primitives"][0] = json!({"attributes": {"POSITION": 0}});
    json["accessors"][0]["count"] = json!(9);
    json["accessors"] = json!([json["accessors"][0]]);
    json["bufferViews"] = json!([{"buffer": 0, "byteLength": 108}]);
    json["buffers"][0]["byteLength"] = json!(108);
    let zeros = check_bytes(&container(&json.to_string(), &bin));
    assert_fault!(zeros, GlbFault::ZeroTail { accessor: 0 });
}

#[test]
fn colours_of_zeros_that_the_bounds_exclude_are_refused() {
    assert_fault!(check_with_bin(|b| b[92..96].fill(0)), GlbFault::BoundsDiffer { accessor: 1 });
}

#[test]
fn positions_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let result = check_with_bin(|bin| bin[16..20].copy_from_slice(&bad.to_le_bytes()));
        assert_fault!(result, GlbFault::NotFinite { accessor: 0 });
    }
}

#[test]
fn bounds_may_be_rounded_and_absent_but_not_wrong() {
    let with_max = |x: f64| check_with(|json| json["accessors"][0]["max"][0] = json!(x));
    assert!(with_max(1.000_01).is_ok());
    assert_fault!(with_max(1.1), GlbFault::BoundsDiffer { accessor: 0 });
    assert_fault!(with_max(0.9), GlbFault::BoundsDiffer { accessor: 0 });
    assert_fault!(with_max(1e300), GlbFault::BoundsDiffer { accessor: 0 });
    let without = check_with(|json| {
        let accessor = json["accessors"][0].as_object_mut().expect("an object");
        accessor.remove("min");
        accessor.remove("max");
    });
    assert!(without.is_ok());
    let indices = check_with(|json| json["accessors"][2]["max"] = json!([6]));
    assert_fault!(indices, GlbFault::BoundsDiffer { accessor: 2 });
}

#[test]
fn an_index_beyond_the_vertices_is_refused() {
    let result = check_with_bin(|bin| bin[100] = 6);
    assert_fault!(result, GlbFault::IndexTooHigh { accessor: 2, index: 6, vertices: 6 });
}

#[test]
fn references_that_lead_nowhere_are_refused() {
    type Change = fn(&mut Value);
    let changes: [Change; 11] = [
        |json| json["accessors"][0]["bufferView"] = json!(9),
        |json| json["accessors"][0]["count"] = json!(7),
        |json| json["accessors"][0]["count"] = json!(u64::MAX),
        |json| json["accessors"][0]["byteOffset"] = json!(u64::MAX),
        |json| json["bufferViews"][0]["byteStride"] = json!(16),
        |json| json["bufferViews"][2]["byteLength"] = json!(52),
        |json| json["bufferViews"][2]["byteOffset"] = json!(u64::MAX),
        |json| json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = json!(7),
        |json| json["meshes"][0]["primitives"][0]["material"] = json!(0),
        |json| json["nodes"][1]["mesh"] = json!(1),
        |json| json["images"] = json!([{"bufferView": 3, "mimeType": "image/png"}]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let result = check_with(change);
        assert!(matches!(result, Err(GlbFault::OutOfRange { .. })), "{number}: {result:?}");
    }
}

#[test]
fn a_mesh_that_no_node_of_the_scene_uses_is_refused() {
    assert_fault!(
        check_with(|json| json["scenes"][0]["nodes"] = json!([])),
        GlbFault::NothingInScene
    );
    assert_fault!(check_with(|json| json["nodes"][1] = json!({})), GlbFault::NothingInScene);
    let without_scenes = check_with(|json| {
        json.as_object_mut().expect("an object").remove("scenes");
    });
    assert!(without_scenes.is_ok(), "all nodes are imported");
}

#[test]
fn nodes_that_go_round_in_circles_are_refused() {
    let itself = check_with(|json| json["nodes"][1] = json!({"mesh": 0, "children": [0]}));
    assert_fault!(itself, GlbFault::Inconsistent { .. });
    assert_fault!(
        check_with(|json| json["nodes"][0] = json!({"children": [7]})),
        GlbFault::OutOfRange { .. }
    );
    let endless = check_with(|json| json["nodes"][1]["scale"] = json!([1e300, 1, 1]));
    assert_fault!(endless, GlbFault::Inconsistent { .. });
}

#[test]
fn a_mesh_without_triangles_or_extent_is_refused() {
    assert_fault!(check_with(|json| json["meshes"] = json!([])), GlbFault::OutOfRange { .. });
    let none = check_with(|json| json["meshes"][0]["primitives"] = json!([]));
    assert_fault!(none, GlbFault::NoTriangles);
    let points = check_with(|json| json["meshes"][0]["primitives"][0]["mode"] = json!(0));
    assert_fault!(points, GlbFault::NoTriangles);
    let (mut json, mut bin) = octahedron();
    json["accessors"][0]["min"] = json!([2, 2, 2]);
    json["accessors"][0]["max"] = json!([2, 2, 2]);
    let point: Vec<u8> = [2.0_f32; 18].iter().flat_map(|v| v.to_le_bytes()).collect();
    bin[..72].copy_from_slice(&point);
    assert_fault!(check_bytes(&container(&json.to_string(), &bin)), GlbFault::NoExtent);
    let corners = check_with_bin(|bin| bin[96..].fill(5));
    assert!(corners.is_err(), "no triangle has three corners");
}

#[test]
fn what_cannot_be_checked_is_refused_by_name() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 6] = [
        ("buffer outside", |json| json["buffers"][0]["uri"] = json!("mesh.bin")),
        ("sparse", |json| json["accessors"][0]["sparse"] = json!({"count": 1})),
        ("KHR_draco_mesh_compression", |json| {
            json["meshes"][0]["primitives"][0]["extensions"] =
                json!({"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {}}});
        }),
        ("EXT_meshopt_compression", |json| {
            json["bufferViews"][0]["extensions"] = json!({"EXT_meshopt_compression": {}});
        }),
        ("EXT_meshopt_compression", |json| {
            json["extensionsUsed"] = json!(["EXT_meshopt_compression"]);
            json["extensionsRequired"] = json!(["EXT_meshopt_compression"]);
        }),
        ("sparse", |json| json["accessors"][1]["sparse"] = json!({"count": 1})),
    ];
    for (name, change) in changes {
        let fault = check_with(change).expect_err(name);
        assert!(matches!(fault, GlbFault::Uncheckable(_)), "{fault:?}");
        assert!(fault.to_string().contains(name), "{fault}");
    }
}

#[test]
fn what_blender_would_not_import_is_refused() {
    assert_fault!(
        check_with(|json| json["asset"]["version"] = json!("1.0")),
        GlbFault::NotForBlender(_)
    );
    let required = |name: &str, used: Value| {
        check_with(|json| {
            json["extensionsUsed"] = used;
            json["extensionsRequired"] = json!([name]);
        })
    };
    assert_fault!(required("ACME_wings", json!(["ACME_wings"])), GlbFault::NotForBlender(_));
    assert_fault!(required("KHR_materials_unlit", json!([])), GlbFault::NotForBlender(_));
    assert!(required("KHR_materials_unlit", json!(["KHR_materials_unlit"])).is_ok());
}

#[test]
fn quantized_positions_are_read_where_the_file_says_so() {
    let (mut json, mut bin) = octahedron();
    let quantized: Vec<u8> =
        [[0_i16, 0, 0], [32_767, 0, 0], [0, -32_767, 0], [0, 0, 1], [1, 2, 3], [4, 5, 6]]
            .iter()
            .flat_map(|&[x, y, z]| [x, y, z, 0])
            .flat_map(i16::to_le_bytes)
            .collect();
    bin[..48].copy_from_slice(&quantized);
    json["bufferViews"][0]["byteStride"] = json!(8);
    json["accessors"][0] = json!({"bufferView": 0, "componentType": 5122, "type": "VEC3", "count": 6,
        "normalized": true, "min": [0, -32767, 0], "max": [32767, 5, 6]});
    let unannounced = check_bytes(&container(&json.to_string(), &bin));
    assert_fault!(unannounced, GlbFault::Inconsistent { .. });
    json["extensionsUsed"] = json!(["KHR_mesh_quantization"]);
    let facts = check_bytes(&container(&json.to_string(), &bin)).expect("a good mesh");
    assert!((facts.max[0] - 1.0).abs() < 1e-6 && (facts.min[1] + 1.0).abs() < 1e-6);
}

#[test]
fn interleaved_attributes_are_read_by_their_stride() {
    let (mut json, bin) = octahedron();
    let mut interleaved = Vec::new();
    for (position, colour) in bin[..72].chunks(12).zip(bin[72..96].chunks(4)) {
        interleaved.extend([position, colour].concat());
    }
    interleaved.extend(&bin[96..]);
    json["bufferViews"][0] = json!({"buffer": 0, "byteLength": 96, "byteStride": 16});
    json["accessors"][1]["bufferView"] = json!(0);
    json["accessors"][1]["byteOffset"] = json!(12);
    let facts = check_bytes(&container(&json.to_string(), &interleaved)).expect("a good mesh");
    assert_eq!(facts.vertices, 6);
}

#[test]
fn meshes_longer_than_a_piece_are_read_to_their_end() {
    let points: Vec<[f32; 3]> = (0..30_000_u16).map(|i| [f32::from(i), 1.0, 2.0]).collect();
    let bin: Vec<u8> = points.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let json = json!({
        "asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 30_000,
            "min": [0, 1, 2], "max": [29_999, 1, 2]}],
        "bufferViews": [{"buffer": 0, "byteLength": 360_000}], "buffers": [{"byteLength": 360_000}],
    });
    let mut file = container(&json.to_string(), &bin);
    assert_eq!(check_bytes(&file).expect("a good mesh").triangles, 10_000);
    let end = file.len();
    file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_fault!(check_bytes(&file), GlbFault::NotFinite { accessor: 0 });
}
