//! The files that a run produces: real ones, derived from what was submitted and from the seeds,
//! and the broken ones that faults ask for.
//!
//! Owns the content of downloads as something that can be read at any offset without being held in
//! memory as a whole. It knows no HTTP, no request and no clock; the same inputs always give the
//! same bytes.

pub(super) mod picture;
pub(super) mod mesh;
mod huge;
mod spoiled;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use huge::HugeMesh;

/// The two files of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// The picture of the `SaveImage` node.
    Image,
    /// The mesh of the `SaveGLB` node.
    Mesh,
}

/// What can be wrong, or unusual, about a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Spoiled {
    /// No bytes at all, with HTTP 200.
    ZeroBytes,
    /// Only the first half, with a correct `Content-Length`: the file itself is broken.
    Cut,
    /// An HTML page under the file's name.
    Html,
    /// A GLB whose coordinates are NaN (for a picture: the same as [`Self::Cut`]).
    Nan,
    /// A valid GLB of about this many megabytes, never held in memory (for a picture: the same
    /// as [`Self::Bomb`]).
    Huge {
        /// Megabytes of 10⁶ bytes, at most 4000 (a GLB counts its length in 32 bits).
        megabytes: u32,
    },
    /// The picture as WebP (a mesh stays as it is).
    Webp,
    /// The picture as JPEG (a mesh stays as it is).
    Jpeg,
    /// A valid PNG of 20 000 × 20 000 pixels in some 50 KB (a mesh stays as it is).
    Bomb,
}

impl Spoiled {
    /// Returns the extension under which the service would list a file like this.
    pub(super) const fn extension(self, product: Product) -> &'static str {
        match (product, self) {
            (Product::Image, Self::Webp) => "webp",
            (Product::Image, Self::Jpeg) => "jpg",
            (Product::Image, _) => "png",
            (Product::Mesh, _) => "glb",
        }
    }
}

/// The inputs of a run that its products depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct ProductRecipe {
    /// The submitted picture, encoded as received. Without one, a grey gradient is used.
    pub(super) picture: Option<Bytes>,
    /// The prompt: together with the seed it determines the colour.
    pub(super) prompt: String,
    /// The image seed.
    pub(super) seed: u64,
    /// The mesh seed.
    pub(super) mesh_seed: u64,
    /// The number of vertices along a side of the mesh's grid.
    pub(super) grid: u32,
}

/// A file's content, readable at any offset.
#[derive(Clone)]
pub(super) enum Content {
    /// Small enough to be held in memory.
    Whole(Bytes),
    /// Generated while it is read.
    Huge(HugeMesh),
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Huge(huge) => huge.len(),
        }
    }

    /// Returns up to `most` bytes from `offset` on; empty only at the end.
    pub(super) fn read(&self, offset: u64, most: usize) -> Bytes {
        match self {
            Self::Whole(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(start..start.saturating_add(most).min(bytes.len()))
            }
            Self::Huge(huge) => huge.read(offset, most),
        }
    }
}

/// Produces the file `product` of a run, broken if asked.
pub(super) fn content(
    recipe: &ProductRecipe,
    product: Product,
    spoiled: Option<Spoiled>,
) -> Content {
    match (product, spoiled) {
        (Product::Mesh, Some(Spoiled::Huge { megabytes })) => {
            Content::Huge(HugeMesh::of_megabytes(megabytes))
        }
        (_, spoiled) => Content::Whole(whole(recipe, product, spoiled)),
    }
}

fn whole(recipe: &ProductRecipe, product: Product, spoiled: Option<Spoiled>) -> Bytes {
    let good = || match product {
        Product::Image => picture::png(&picture::shade(recipe, picture::SIDE)),
        Product::Mesh => mesh::glb(recipe),
    };
    match (spoiled, product) {
        (None, _)
        | (
            Some(Spoiled::Huge { .. } | Spoiled::Webp | Spoiled::Jpeg | Spoiled::Bomb),
            Product::Mesh,
        ) => good().into(),
        (Some(Spoiled::ZeroBytes), _) => Bytes::new(),
        (Some(Spoiled::Cut), _) | (Some(Spoiled::Nan), Product::Image) => spoiled::half(good()),
        (Some(Spoiled::Html), _) => spoiled::html(),
        (Some(Spoiled::Nan), Product::Mesh) => spoiled::nan(good()),
        (Some(Spoiled::Webp), Product::Image) => {
            picture::webp(&picture::shade(recipe, picture::SIDE)).into()
        }
        (Some(Spoiled::Jpeg), Product::Image) => {
            picture::jpeg(&picture::shade(recipe, picture::SIDE)).into()
        }
        (Some(Spoiled::Bomb | Spoiled::Huge { .. }), Product::Image) => spoiled::bomb(),
    }
}

/// Spreads the bits of `value` over 64 bits (the finalizer of splitmix64): neighbouring seeds must
/// look different.
pub(super) const fn scatter(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Appends a PNG chunk.
pub(crate) fn chunk(file: &mut Vec<u8>, name: [u8; 4], content: &[u8]) {
    file.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(content);
    let sum = crc32fast::hash(&file[start..]);
    file.extend(sum.to_be_bytes());
}

#[cfg(test)]
mod tests;
