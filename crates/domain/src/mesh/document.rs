//! The JSON of a glTF, as far as geometry and Blender's importer need it.
//!
//! Owns the parsed structure and the rules that concern the JSON alone. References are only numbers
//! here; [`super::access`] resolves them.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::GlbFault;

/// The mode of a primitive that is a list of triangles.
pub(super) const TRIANGLES: u32 = 4;

/// The maximum number of objects, lists and members in a JSON. Each takes at most a few hundred
/// bytes of memory; PartPacker's JSON has about 400.
const MAX_ITEMS: usize = 200_000;

/// Extensions that a file may *require*: those that Blender's importer supports
/// (`extensions_managed` in its `gltf2_io_gltf.py`), except Draco, which has a fault of its own.
const KNOWN_EXTENSIONS: [&str; 17] = [
    "EXT_mesh_gpu_instancing",
    "EXT_texture_webp",
    "KHR_animation_pointer",
    "KHR_lights_punctual",
    "KHR_materials_anisotropy",
    "KHR_materials_clearcoat",
    "KHR_materials_emissive_strength",
    "KHR_materials_ior",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_materials_sheen",
    "KHR_materials_specular",
    "KHR_materials_transmission",
    "KHR_materials_unlit",
    "KHR_materials_variants",
    "KHR_materials_volume",
    "KHR_texture_transform",
    QUANTIZATION,
];

const QUANTIZATION: &str = "KHR_mesh_quantization";
const DRACO: &str = "KHR_draco_mesh_compression";
const MESHOPT: &str = "EXT_meshopt_compression";
const KHR_MESHOPT: &str = "KHR_meshopt_compression";

/// A glTF.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    asset: Asset,
    pub(super) scene: Option<usize>,
    #[serde(default)]
    pub(super) scenes: Vec<Scene>,
    #[serde(default)]
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) meshes: Vec<Mesh>,
    #[serde(default)]
    pub(super) accessors: Vec<Accessor>,
    #[serde(default)]
    pub(super) buffer_views: Vec<BufferView>,
    #[serde(default)]
    pub(super) buffers: Vec<Buffer>,
    #[serde(default)]
    pub(super) images: Vec<Image>,
    #[serde(default)]
    materials: Vec<IgnoredAny>,
    #[serde(default)]
    extensions_used: Vec<String>,
    #[serde(default)]
    extensions_required: Vec<String>,
}

#[derive(Deserialize)]
struct Asset {
    version: String,
}

#[derive(Deserialize)]
pub(super) struct Scene {
    #[serde(default)]
    pub(super) nodes: Vec<usize>,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) mesh: Option<usize>,
    #[serde(default)]
    pub(super) children: Vec<usize>,
    #[serde(default)]
    pub(super) matrix: Vec<f64>,
    #[serde(default)]
    pub(super) translation: Vec<f64>,
    #[serde(default)]
    pub(super) rotation: Vec<f64>,
    #[serde(default)]
    pub(super) scale: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct Mesh {
    pub(super) primitives: Vec<Primitive>,
}

#[derive(Deserialize)]
pub(super) struct Primitive {
    pub(super) attributes: BTreeMap<String, usize>,
    pub(super) indices: Option<usize>,
    #[serde(default = "triangles")]
    pub(super) mode: u32,
    material: Option<usize>,
    #[serde(default)]
    pub(super) targets: Vec<BTreeMap<String, usize>>,
    #[serde(default)]
    extensions: Extensions,
}

const fn triangles() -> u32 {
    TRIANGLES
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accessor {
    pub(super) buffer_view: Option<usize>,
    #[serde(default)]
    pub(super) byte_offset: u64,
    pub(super) component_type: u32,
    #[serde(default)]
    pub(super) normalized: bool,
    pub(super) count: u64,
    #[serde(rename = "type")]
    pub(super) kind: AccessorKind,
    pub(super) min: Option<Vec<f64>>,
    pub(super) max: Option<Vec<f64>>,
    sparse: Option<IgnoredAny>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum AccessorKind {
    Scalar,
    Vec2,
    Vec3,
    Vec4,
    Mat2,
    Mat3,
    Mat4,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BufferView {
    pub(super) buffer: usize,
    #[serde(default)]
    pub(super) byte_offset: u64,
    pub(super) byte_length: u64,
    pub(super) byte_stride: Option<u64>,
    #[serde(default)]
    extensions: Extensions,
}

/// Extensions of a primitive or a bufferView that make its bytes unreadable here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extensions {
    #[serde(rename = "KHR_draco_mesh_compression")]
    draco: Option<IgnoredAny>,
    #[serde(rename = "EXT_meshopt_compression")]
    meshopt: Option<IgnoredAny>,
    #[serde(rename = "KHR_meshopt_compression")]
    khr_meshopt: Option<IgnoredAny>,
}

impl Extensions {
    fn check(&self) -> Result<(), GlbFault> {
        let found =
            [(&self.draco, DRACO), (&self.meshopt, MESHOPT), (&self.khr_meshopt, KHR_MESHOPT)]
                .into_iter()
                .find(|(extension, _)| extension.is_some());
        found.map_or(Ok(()), |(_, name)| Err(GlbFault::Uncheckable(name.to_owned())))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Buffer {
    uri: Option<IgnoredAny>,
    pub(super) byte_length: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    pub(super) buffer_view: Option<usize>,
}

impl Document {
    /// Parses the JSON chunk and checks everything that needs no other chunk.
    pub(super) fn parse(json: &[u8]) -> Result<Self, GlbFault> {
        // Characters within strings count too; no normal file comes near the limit in either case.
        let items = json.iter().filter(|byte| matches!(byte, b'{' | b'[' | b',')).count();
        if items > MAX_ITEMS {
            return Err(GlbFault::TooLarge(format!(
                "{items} items of JSON, the limit is {MAX_ITEMS}"
            )));
        }
        let document: Self =
            serde_json::from_slice(json).map_err(|error| GlbFault::Json(error.to_string()))?;
        document.check_version()?;
        document.check_extensions()?;
        document.check_storage()?;
        for primitive in document.meshes.iter().flat_map(|mesh| &mesh.primitives) {
            document.check_primitive(primitive)?;
        }
        Ok(document)
    }

    /// Returns whether positions may be integers.
    pub(super) fn is_quantized(&self) -> bool {
        self.extensions_used.iter().any(|name| name == QUANTIZATION)
    }

    fn check_version(&self) -> Result<(), GlbFault> {
        // Blender compares with exactly this text.
        if self.asset.version == "2.0" {
            return Ok(());
        }
        let version: String = self.asset.version.chars().take(20).collect();
        Err(GlbFault::NotForBlender(format!("glTF {version}, but only 2.0 is supported")))
    }

    fn check_extensions(&self) -> Result<(), GlbFault> {
        for name in &self.extensions_required {
            let short: String = name.chars().take(60).collect();
            if [DRACO, MESHOPT, KHR_MESHOPT].contains(&name.as_str()) {
                return Err(GlbFault::Uncheckable(short));
            }
            if !KNOWN_EXTENSIONS.contains(&name.as_str()) {
                return Err(GlbFault::NotForBlender(format!("the extension {short}")));
            }
            if !self.extensions_used.contains(name) {
                let what = format!("the extension {short} listed as used, not only as required");
                return Err(GlbFault::NotForBlender(what));
            }
        }
        Ok(())
    }

    /// Checks that everything is in the file itself and uncompressed.
    fn check_storage(&self) -> Result<(), GlbFault> {
        let outside = self.buffers.iter().any(|buffer| buffer.uri.is_some());
        if outside || self.buffers.len() > 1 {
            return Err(GlbFault::Uncheckable("a buffer outside of the file".to_owned()));
        }
        if self.accessors.iter().any(|accessor| accessor.sparse.is_some()) {
            return Err(GlbFault::Uncheckable("sparse accessors".to_owned()));
        }
        self.buffer_views.iter().try_for_each(|view| view.extensions.check())
    }

    fn check_primitive(&self, primitive: &Primitive) -> Result<(), GlbFault> {
        primitive.extensions.check()?;
        if primitive.mode > 6 {
            let what = format!("a primitive has the mode {}, which does not exist", primitive.mode);
            return Err(GlbFault::Inconsistent { what });
        }
        match primitive.material {
            Some(material) if material >= self.materials.len() => {
                Err(GlbFault::OutOfRange { what: format!("material {material}") })
            }
            _ => Ok(()),
        }
    }
}
