//! In which form a render is sent, so that its Base64 stays below what the service advises.
//!
//! Owns the order of `product.md`: the file as it is, the same pixels as a plain PNG, then a smaller PNG or a JPEG,
//! whichever keeps more. A form is never larger than the limit, and every limit above zero can be kept: the sides
//! shrink as far as one pixel.

use bytes::Bytes;

use super::{
    PictureFault,
    encode::{self, Plan},
    kept::{Kept, Original},
    pixels::{self, Pixels},
    reduce,
    result::{Format, decode_jpeg},
    scale::{SHARP, resized, times},
};
use crate::domain::png;

/// Bytes of Base64 in one KB of `generation.image_max_base64_kb`.
const KB: usize = 1024;

/// Sides to try, as fractions of the render's: 1024 becomes 768, 640, 512, … For halves the filter has it easy.
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

/// A smaller picture takes no less than this part of what its share of the pixels took before: averaging removes
/// grain, but it also makes new colours.
const LEAST_SHARE: u64 = 4;

/// The fewest bits that a JPEG takes for a block of 64 pixels: a DC and an end-of-block code for each component.
const JPEG_BLOCK_BITS: usize = 4;

/// A render as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The file.
    pub bytes: Bytes,
    /// What a data URI calls it.
    pub mime: &'static str,
    /// What was done to it.
    pub form: Form,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// What was done to a render so that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: the file as it was saved.
    Original,
    /// The same pixels, written smaller and without metadata.
    SamePixels,
    /// Fewer pixels, as a PNG.
    SmallerPng,
    /// A JPEG; of all pixels where `width` and `height` are the render's.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
}

/// Returns the length of the Base64 of `bytes` bytes, padding included.
pub const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// Puts a whole PNG into the best form whose Base64 takes at most `max_base64_kb` times 1024 characters; 0 means as it is.
pub fn best_form(png: Bytes, max_base64_kb: u32) -> Result<Encoded, PictureFault> {
    let facts = png::check(&png)?;
    let max_base64 = usize::try_from(max_base64_kb).unwrap_or(usize::MAX).saturating_mul(KB);
    if max_base64_kb == 0 || base64_len(png.len()) <= max_base64 {
        let (width, height) = (facts.width, facts.height);
        return Ok(Encoded {
            bytes: png,
            mime: Format::Png.mime(),
            form: Form::Original,
            width,
            height,
        });
    }
    let limit = max_base64 / 4 * 3;
    let pixels = reduce::lossless(pixels::decode(&png)?);
    drop(png);
    let plan = Plan::smallest(&pixels)?;
    if let Some(file) = written(&plan, limit)? {
        return Ok(encoded(file, Format::Png, Form::SamePixels, &pixels));
    }
    let pixels = if pixels.depth == 1 { pixels } else { reduce::one_byte_samples(&pixels) };
    let original = Original::new(&pixels)?;
    let candidates = [
        smaller_png(&pixels, &original, plan.estimate(), limit)?,
        best_jpeg(&pixels, &original, limit)?,
    ];
    let best = candidates.into_iter().flatten().reduce(|best, next| {
        // On a tie the PNG stays: it adds no blocks of its own.
        if next.kept > best.kept { next } else { best }
    });
    best.map(|candidate| candidate.encoded).ok_or(PictureFault::DoesNotFit { max_base64_kb })
}

/// A lossy form that fits.
struct Candidate {
    encoded: Encoded,
    kept: Kept,
}

/// Returns the file of a plan, if it fits.
fn written(plan: &Plan, limit: usize) -> Result<Option<Vec<u8>>, PictureFault> {
    if !plan.may_fit(limit) {
        return Ok(None);
    }
    let file = plan.write()?;
    Ok((file.len() <= limit).then_some(file))
}

/// Returns the PNG with the most pixels that fits. All pixels would take about `estimate` bytes; sides that are
/// far beyond the limit by that are not tried.
fn smaller_png(
    pixels: &Pixels,
    original: &Original,
    estimate: usize,
    limit: usize,
) -> Result<Option<Candidate>, PictureFault> {
    for (numerator, denominator) in SIDES {
        let sides = times((pixels.width, pixels.height), numerator, denominator);
        let (part, whole) = (u64::from(numerator).pow(2), u64::from(denominator).pow(2));
        if estimate as u64 / LEAST_SHARE * part / whole > limit as u64 {
            continue;
        }
        let smaller = resized(pixels, sides, SHARP)?;
        let plan = Plan::smallest(&reduce::lossless(smaller.clone()))?;
        if let Some(file) = written(&plan, limit)? {
            let kept = original.kept_by(&smaller)?;
            let encoded = encoded(file, Format::Png, Form::SmallerPng, &smaller);
            return Ok(Some(Candidate { encoded, kept }));
        }
    }
    Ok(None)
}

/// Returns the JPEG with the most pixels that fits, of the best quality that fits.
fn best_jpeg(
    pixels: &Pixels,
    original: &Original,
    limit: usize,
) -> Result<Option<Candidate>, PictureFault> {
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
            let kept = original.kept_by(&decode_jpeg(&file)?)?;
            let encoded = encoded(file, Format::Jpeg, Form::Jpeg { quality }, &smaller);
            return Ok(Some(Candidate { encoded, kept }));
        }
    }
    Ok(None)
}

/// Halves the ladder of qualities: the better, the larger.
fn best_quality(pixels: &Pixels, limit: usize) -> Result<Option<(u8, Vec<u8>)>, PictureFault> {
    let mut best = None;
    let mut ladder = &QUALITIES[..];
    while let Some(&quality) = ladder.get(ladder.len() / 2) {
        let (better, worse) = ladder.split_at(ladder.len() / 2);
        match encode::jpeg(pixels, quality)?.filter(|file| file.len() <= limit) {
            Some(file) => {
                best = Some((quality, file));
                ladder = better;
            }
            None => ladder = &worse[1..],
        }
    }
    Ok(best)
}

fn encoded(file: Vec<u8>, format: Format, form: Form, pixels: &Pixels) -> Encoded {
    let Pixels { width, height, .. } = *pixels;
    Encoded { bytes: file.into(), mime: format.mime(), form, width, height }
}
