//! Tests that read the products the way their consumers do.

use serde_json::Value;

use super::*;
use crate::gesture_camera::GestureCamera;

fn recipe(scene: u32) -> ProductRecipe {
    ProductRecipe {
        picture: Some(GestureCamera::with_side(128).frame(scene)),
        prompt: "a carrot".to_owned(),
        seed: 1,
        mesh_seed: 2,
        grid: 48,
    }
}

struct Glb {
    json: Value,
    binary: Vec<u8>,
}

/// Parses a GLB as strictly as the format requires.
fn open(file: &[u8]) -> Glb {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((&file[..4], word(4)), (&b"glTF"[..], 2));
    assert_eq!(word(8) as usize, file.len(), "the header's length is the file's");
    let json = word(12) as usize;
    assert_eq!((&file[16..20], json % 4), (&b"JSON"[..], 0));
    let start = 20 + json;
    assert_eq!((&file[start + 4..start + 8], word(start) % 4), (&b"BIN\0"[..], 0));
    assert_eq!(start + 8 + word(start) as usize, file.len());
    Glb {
        json: serde_json::from_slice(&file[20..start]).expect("JSON"),
        binary: file[start + 8..].to_vec(),
    }
}

impl Glb {
    fn view(&self, accessor: u64) -> &[u8] {
        let accessor = &self.json["accessors"][usize::try_from(accessor).expect("small")];
        let view = accessor["bufferView"].as_u64().and_then(|view| usize::try_from(view).ok());
        let view = &self.json["bufferViews"][view.expect("a view")];
        let number = |key: &str| usize::try_from(view[key].as_u64().expect(key)).expect("small");
        &self.binary[number("byteOffset")..number("byteOffset") + number("byteLength")]
    }

    fn positions(&self) -> Vec<[f32; 3]> {
        let accessor = self.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"].as_u64();
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        self.view(accessor.expect("positions"))
            .chunks_exact(12)
            .map(|three| [float(&three[..4]), float(&three[4..8]), float(&three[8..])])
            .collect()
    }

    /// Checks that the declared bounds are the real ones.
    fn check_bounds(&self) {
        let accessor = self.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"].as_u64();
        let accessor =
            &self.json["accessors"][usize::try_from(accessor.expect("one")).expect("small")];
        let positions = self.positions();
        assert_eq!(accessor["count"], positions.len());
        for axis in 0..3 {
            let values = positions.iter().map(|position| position[axis]);
            let (low, high) = values.fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
            assert!(low >= -1.0 && high <= 1.0);
            let told = |bound: &str| accessor[bound][axis].as_f64().expect("a number");
            assert!((told("min") - f64::from(low)).abs() < 1e-9, "axis {axis}: {low}");
            assert!((told("max") - f64::from(high)).abs() < 1e-9, "axis {axis}: {high}");
        }
    }
}

#[test]
fn the_mesh_is_a_closed_solid_with_a_volume() {
    let file = mesh::glb(&recipe(1));
    let glb = open(&file);
    assert_eq!(glb.json["asset"]["generator"], "conjured simulator");
    glb.check_bounds();
    let positions = glb.positions();
    let indices: Vec<usize> = glb
        .view(0)
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes(four.try_into().expect("four bytes")) as usize)
        .collect();
    assert!(indices.iter().all(|&index| index < positions.len()));
    assert_eq!(glb.view(2).len(), positions.len() * 4, "a colour for each vertex");

    // Every edge is used once in each direction: no hole, and all faces have the same orientation.
    let mut edges = std::collections::HashMap::new();
    let mut volume = 0.0_f64;
    for triangle in indices.chunks_exact(3) {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            *edges.entry((triangle[from], triangle[to])).or_insert(0) += 1;
        }
        let [a, b, c] = [0, 1, 2].map(|corner| positions[triangle[corner]].map(f64::from));
        volume += (a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0]))
            / 6.0;
    }
    assert!(
        edges.iter().all(|((from, to), &times)| times == 1 && edges.get(&(*to, *from)) == Some(&1))
    );
    assert!(volume > 0.1, "faces look outwards: {volume}");
}

#[test]
fn products_follow_from_their_inputs() {
    assert_eq!(mesh::glb(&recipe(1)), mesh::glb(&recipe(1)));
    assert_ne!(mesh::glb(&recipe(1)), mesh::glb(&recipe(2)), "another render");
    assert_ne!(mesh::glb(&recipe(1)), mesh::glb(&ProductRecipe { mesh_seed: 3, ..recipe(1) }));
    let shade = |recipe: &ProductRecipe| picture::shade(recipe, 64);
    assert_eq!(shade(&recipe(1)), shade(&recipe(1)));
    assert_ne!(shade(&recipe(1)), shade(&recipe(2)));
    assert_ne!(shade(&recipe(1)), shade(&ProductRecipe { seed: 2, ..recipe(1) }));
    assert_ne!(
        shade(&recipe(1)),
        shade(&ProductRecipe { prompt: "a chair".to_owned(), ..recipe(1) })
    );
}

#[test]
fn without_a_picture_there_are_products_all_the_same() {
    for picture in [None, Some(Bytes::from_static(b"no picture"))] {
        let recipe = ProductRecipe { picture, grid: 0, ..ProductRecipe::default() };
        open(&mesh::glb(&recipe)).check_bounds();
        assert!(picture::decode(&picture::png(&picture::shade(&recipe, picture::SIDE))).is_some());
    }
}

#[test]
fn the_mesh_of_the_bars_is_about_three_megabytes() {
    let size = mesh::glb(&ProductRecipe { grid: 256, ..recipe(1) }).len();
    assert!((2_500_000..3_500_000).contains(&size), "{size}");
}

#[test]
fn a_nan_is_hidden_behind_good_bounds() {
    let Content::Whole(file) = content(&recipe(1), Product::Mesh, Some(Spoiled::Nan)) else {
        panic!("a small file");
    };
    let nans = open(&file).positions().iter().flatten().filter(|value| value.is_nan()).count();
    assert_eq!(nans, 1);
}

#[test]
fn a_huge_mesh_is_valid_and_the_same_in_any_pieces() {
    let huge = HugeMesh::of_megabytes(1);
    let read = |piece: usize| {
        let mut file = Vec::new();
        while (file.len() as u64) < huge.len() {
            file.extend(huge.read(file.len() as u64, piece));
        }
        file
    };
    let file = read(65_536);
    open(&file).check_bounds();
    assert_eq!(file, read(997), "pieces that end within a vertex");
    assert!(huge.read(huge.len(), 10).is_empty());
    assert!(HugeMesh::of_megabytes(u32::MAX).len() < u64::from(u32::MAX));
}

#[test]
fn a_bomb_is_small_and_claims_to_be_large() {
    let bomb = spoiled::bomb();
    assert!(bomb.len() < 200_000);
    assert_eq!(bomb[16..20], 20_000_u32.to_be_bytes());
    assert!(picture::decode(&bomb).is_none(), "our own loader does not fall for it");
}
