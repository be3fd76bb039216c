//! Chooses the form in which a render is sent, so that its Base64 stays below the limit that the
//! service recommends.
//!
//! Owns the order of forms: the file as it is, the same pixels as a plain PNG, then a smaller PNG
//! or a JPEG, whichever keeps more. A form is never larger than the limit, and every limit above
//! zero can be met: the sides can shrink to one pixel.

use bytes::Bytes;

use super::{
    Format, PictureFault,
    encode::{self, PngPlan},
    kept::{Original, Similarity},
    pixels::{self, Pixels, SHARP, resized, times},
    reduce,
    result::decode_jpeg,
};
use crate::inputs::png;

/// Bytes of Base64 in one KB of `generation.image_max_base64_kb`.
const KB: usize = 1024;

/// Sizes to try, as fractions of the render's sides: 1024 becomes 768, 640, 512, … Halves are easy
/// for the filter.
const SIDES: [(u32, u32); 14] = [
    (7, 8),
    (3, 4),
    (5, 8),
    (1, 2),
    (3, 8),
    (1, 4),
    (3, 16),
    (1, 8),
    (1, 16),
    (1, 32),
    (1, 64),
    (1, 256),
    (1, 1024),
    (1, 16_384),
];

/// Qualities to try at each size, best first. Below 50, fewer pixels keep more than coarser ones.
const QUALITIES: [u8; 8] = [97, 95, 92, 88, 82, 75, 65, 50];

/// The smallest possible ratio of a file to its estimate, in percent: a file whose estimate exceeds
/// the limit by more is not written.
const ESTIMATE_ERROR: usize = 92;

/// The minimum number of bits of a JPEG for a block of 64 pixels: a DC and an end-of-block code for
/// each component.
const JPEG_BLOCK_BITS: usize = 4;

/// A render in the form in which it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes of the file.
    pub bytes: Bytes,
    /// The media type for a data URI.
    pub mime: &'static str,
    /// How it was changed.
    pub form: ImageForm,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// How a render was changed to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageForm {
    /// Unchanged: the file as it was saved.
    Original,
    /// The same pixels, in a smaller file without metadata.
    SamePixels,
    /// Fewer pixels, as a PNG.
    SmallerPng,
    /// A JPEG; with all pixels if `width` and `height` are the render's.
    Jpeg {
        /// The quality from 1 to 100.
        quality: u8,
    },
}

/// Returns the length of the Base64 of `bytes` bytes, padding included.
pub const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// Returns the best form of a complete PNG whose Base64 takes at most `max_base64_kb` times 1024
/// characters; 0 keeps the file as it is.
pub fn best_form(png: Bytes, max_base64_kb: u32) -> Result<Encoded, PictureFault> {
    let facts = png::check(&png)?;
    let max_base64 = usize::try_from(max_base64_kb).unwrap_or(usize::MAX).saturating_mul(KB);
    if max_base64_kb == 0 || base64_len(png.len()) <= max_base64 {
        let (width, height) = (facts.width, facts.height);
        return Ok(Encoded {
            bytes: png,
            mime: Format::Png.mime(),
            form: ImageForm::Original,
            width,
            height,
        });
    }
    let limit = max_base64 / 4 * 3;
    let pixels = reduce::lossless(pixels::decode(&png)?);
    drop(png);
    let plan = PngPlan::smallest(&pixels)?;
    if let Some(file) = encode_if_fits(&plan, limit)? {
        return Ok(encoded(file, Format::Png, ImageForm::SamePixels, &pixels));
    }
    let pixels = if pixels.depth == 1 { pixels } else { reduce::one_byte_samples(&pixels) };
    let original = Original::new(&pixels)?;
    let candidates =
        [smaller_png(&pixels, &original, limit)?, best_jpeg(&pixels, &original, limit)?];
    let best = candidates.into_iter().flatten().reduce(|best, next| {
        // On a tie the PNG wins: it adds no block artifacts.
        if next.similarity > best.similarity { next } else { best }
    });
    best.map(|candidate| candidate.encoded).ok_or(PictureFault::DoesNotFit { max_base64_kb })
}

/// A lossy form that fits.
struct EncodingCandidate {
    encoded: Encoded,
    similarity: Similarity,
}

/// Returns the file of a plan, if it fits.
fn encode_if_fits(plan: &PngPlan<'_>, limit: usize) -> Result<Option<Vec<u8>>, PictureFault> {
    if !may_fit(plan.estimate(), limit) {
        return Ok(None);
    }
    let file = plan.write()?;
    Ok((file.len() <= limit).then_some(file))
}

/// Returns the PNG with the most pixels that fits. The file size cannot be predicted from the sides
/// alone (averaging removes grain and creates new colours), so a binary search goes through the
/// list of sides.
fn smaller_png(
    pixels: &Pixels,
    original: &Original,
    limit: usize,
) -> Result<Option<EncodingCandidate>, PictureFault> {
    let smaller = |(numerator, denominator)| {
        resized(pixels, times((pixels.width, pixels.height), numerator, denominator), SHARP)
    };
    let first = first_that_fits(&SIDES, limit, |sides| {
        let reduced = reduce::lossless(smaller(sides)?);
        Ok(Some(PngPlan::smallest(&reduced)?.estimate()))
    })?;
    for &sides in &SIDES[first..] {
        let smaller = smaller(sides)?;
        let reduced = reduce::lossless(smaller.clone());
        if let Some(file) = encode_if_fits(&PngPlan::smallest(&reduced)?, limit)? {
            let kept = original.compare(&smaller)?;
            let encoded = encoded(file, Format::Png, ImageForm::SmallerPng, &smaller);
            return Ok(Some(EncodingCandidate { encoded, similarity: kept }));
        }
    }
    Ok(None)
}

/// Returns the JPEG with the most pixels that fits, with the best quality that fits.
fn best_jpeg(
    pixels: &Pixels,
    original: &Original,
    limit: usize,
) -> Result<Option<EncodingCandidate>, PictureFault> {
    if pixels.has_alpha() {
        return Ok(None);
    }
    for (numerator, denominator) in std::iter::once((1, 1)).chain(SIDES) {
        let sides = times((pixels.width, pixels.height), numerator, denominator);
        let blocks = sides.0.div_ceil(8) as usize * sides.1.div_ceil(8) as usize;
        if blocks * pixels.channels * JPEG_BLOCK_BITS / 8 > limit {
            continue;
        }
        let smaller = resized(pixels, sides, SHARP)?;
        if let Some((quality, file)) = best_quality(&smaller, limit)? {
            let kept = original.compare(&decode_jpeg(&file)?)?;
            let encoded = encoded(file, Format::Jpeg, ImageForm::Jpeg { quality }, &smaller);
            return Ok(Some(EncodingCandidate { encoded, similarity: kept }));
        }
    }
    Ok(None)
}

/// Returns the JPEG with the best quality that fits.
fn best_quality(pixels: &Pixels, limit: usize) -> Result<Option<(u8, Vec<u8>)>, PictureFault> {
    let first =
        first_that_fits(&QUALITIES, limit, |quality| encode::jpeg_estimate(pixels, quality))?;
    for &quality in &QUALITIES[first..] {
        if let Some(file) = encode::jpeg(pixels, quality)?.filter(|file| file.len() <= limit) {
            return Ok(Some((quality, file)));
        }
    }
    Ok(None)
}

/// Returns the index of the first step of a list, largest file first, that may fit by its estimate;
/// the list's length if none does.
fn first_that_fits<T: Copy>(
    ladder: &[T],
    limit: usize,
    estimate: impl Fn(T) -> Result<Option<usize>, PictureFault>,
) -> Result<usize, PictureFault> {
    let (mut too_large, mut fits) = (0, ladder.len());
    while too_large < fits {
        let middle = usize::midpoint(too_large, fits);
        match estimate(ladder[middle])? {
            Some(estimate) if may_fit(estimate, limit) => fits = middle,
            _ => too_large = middle + 1,
        }
    }
    Ok(fits)
}

/// Returns whether a file may fit by its estimate, so that writing it is worth the time.
const fn may_fit(estimate: usize, limit: usize) -> bool {
    estimate / 100 * ESTIMATE_ERROR <= limit
}

fn encoded(file: Vec<u8>, format: Format, form: ImageForm, pixels: &Pixels) -> Encoded {
    let Pixels { width, height, .. } = *pixels;
    Encoded { bytes: file.into(), mime: format.mime(), form, width, height }
}
