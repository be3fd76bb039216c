//! The picture of a run: the submitted render, lit like a studio photograph, in a colour that
//! prompt and seed determine.
//!
//! Owns decoding what was submitted (within limits) and encoding the result. It does not imitate
//! FLUX, but a person sees at a glance which render a picture came from, and that another seed
//! gives another picture.

use std::io::Cursor;

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageEncoder as _, ImageReader, Luma, Rgb,
    RgbImage,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
        webp::WebPEncoder,
    },
    imageops,
};

use super::{ProductRecipe, scatter};

/// The side of the picture: the latent image of CONJURE's serverless graph is 520 × 520.
pub(super) const SIDE: u32 = 520;

/// The largest side that the service's loader accepts; beyond that a run fails as if out of memory.
const MAX_SIDE: u32 = 16_384;

/// Decodes a picture as `LoadImage` would; `None` when it cannot be decoded or is absurdly large.
pub(crate) fn decode(bytes: &[u8]) -> Option<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(512 << 20);
    reader.limits(limits);
    reader.decode().ok()
}

/// Returns the relief of the submitted picture: its brightness, stretched to the full range, `side`
/// pixels square.
pub(super) fn relief(recipe: &ProductRecipe, side: u32) -> GrayImage {
    let source = recipe.picture.as_deref().and_then(decode);
    let small = match source {
        Some(picture) => {
            imageops::resize(&picture.to_luma8(), side, side, imageops::FilterType::Triangle)
        }
        None => GrayImage::from_fn(side, side, |x, y| Luma([ramp(x + y, side * 2)])),
    };
    stretch(small)
}

/// Shades the picture of a run, `side` pixels square.
pub(super) fn shade(recipe: &ProductRecipe, side: u32) -> RgbImage {
    let relief = relief(recipe, side);
    let palette = palette(hue(recipe));
    // Light comes from the upper left: slopes that rise towards it are brighter. The step is a
    // small part of the picture.
    let step = (side / 260).max(1);
    let height =
        |x: u32, y: u32| f32::from(relief.get_pixel(x.min(side - 1), y.min(side - 1)).0[0]) / 255.0;
    RgbImage::from_fn(side, side, |x, y| {
        let here = height(x, y);
        let slope = height(x + step, y) + height(x, y + step) - 2.0 * here;
        let light = (0.35 + 0.6 * here - 1.5 * slope).clamp(0.0, 1.0);
        let gloss = ((light - 0.75) * 4.0).clamp(0.0, 1.0) * 0.6;
        let backdrop = 0.92 - 0.2 * f32::from(ramp(y, side)) / 255.0;
        // The darkest fifth of the render counts as background, with a soft edge.
        let subject = ((here - 0.12) * 8.0).clamp(0.0, 1.0);
        Rgb(palette.map(|pure| {
            let lit = pure * light * (1.0 - gloss) + gloss;
            byte(lit * subject + backdrop * (1.0 - subject))
        }))
    })
}

/// Encodes a picture as PNG.
pub(super) fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    written(encoder.write_image(picture, SIDE, SIDE, ExtendedColorType::Rgb8), bytes)
}

/// Encodes a picture as lossless WebP.
pub(super) fn webp(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    written(encoder.write_image(picture, SIDE, SIDE, ExtendedColorType::Rgb8), bytes)
}

/// Encodes a picture as JPEG.
pub(super) fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    written(encoder.write_image(picture, SIDE, SIDE, ExtendedColorType::Rgb8), bytes)
}

/// Encoding into memory a picture whose size fits its buffer cannot fail; if it ever did, an empty
/// file is a truthful result of a broken run.
fn written(encoded: image::ImageResult<()>, bytes: Vec<u8>) -> Vec<u8> {
    encoded.map(|()| bytes).unwrap_or_default()
}

/// Returns the hue in turns: both prompt and seed change it.
fn hue(recipe: &ProductRecipe) -> f32 {
    let words = recipe.prompt.bytes().fold(0_u64, |sum, byte| scatter(sum ^ u64::from(byte)));
    let turn = u16::try_from(scatter(recipe.seed ^ words) >> 48).unwrap_or(0);
    f32::from(turn) / 65_536.0
}

/// Returns the colour of `hue` (in turns) in full light.
fn palette(hue: f32) -> [f32; 3] {
    [0.0, 1.0 / 3.0, 2.0 / 3.0].map(|phase| {
        let wave = 0.5 + 0.5 * ((hue + phase) * std::f32::consts::TAU).cos();
        0.15 + 0.85 * wave
    })
}

fn stretch(mut picture: GrayImage) -> GrayImage {
    let low = picture.iter().copied().min().unwrap_or(0);
    let high = picture.iter().copied().max().unwrap_or(255);
    let span = f32::from(high - low).max(1.0);
    for value in picture.iter_mut() {
        *value = byte(f32::from(*value - low) / span);
    }
    picture
}

/// Returns the fraction `at / end` as a byte.
fn ramp(at: u32, end: u32) -> u8 {
    u8::try_from(u64::from(at) * 255 / u64::from(end.max(1))).unwrap_or(255)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1 before, so the product is within 0..=255"
)]
fn byte(fraction: f32) -> u8 {
    (fraction.clamp(0.0, 1.0) * 255.0).round() as u8
}
