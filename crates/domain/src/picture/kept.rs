//! Measures how much of a picture a lossy form keeps, to compare a smaller PNG with a JPEG.
//!
//! Owns the measure. Both forms are compared as the workflow sees them first: its depth node makes
//! the shorter side [`WORKFLOW_SIDE`] pixels by averaging (`resolution` 512). There the form with
//! the smaller error wins, up to [`INVISIBLE_PSNR_DB`]: above that value no difference is visible,
//! and the form that is closer to the render at its own size wins, for workflows that use more
//! detail. Errors are peak signal-to-noise ratios over all samples, in decibels.

use super::{
    PictureFault,
    pixels::{AREA, Pixels, SHARP, bounded, resized},
};

/// The side at which CONJURE's workflow uses a render.
const WORKFLOW_SIDE: u32 = 512;

/// The largest side for a comparison: more takes long and does not change the result.
const MAX_COMPARED_SIDE: u32 = 2048;

/// An error of about one step of 255 in every sample: 48.1 dB.
const INVISIBLE_PSNR_DB: f64 = 48.0;

/// How much a form keeps; more is better.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Similarity {
    at_workflow_size: f64,
    at_full_size: f64,
}

/// A picture to compare forms with, in the two sizes of the comparison.
pub(super) struct Original {
    at_workflow_size: Pixels,
    at_full_size: Pixels,
}

impl Original {
    /// Prepares one-byte `pixels` for comparisons.
    pub(super) fn new(pixels: &Pixels) -> Result<Self, PictureFault> {
        let sides = (pixels.width, pixels.height);
        Ok(Self {
            at_workflow_size: resized(pixels, bounded(sides, WORKFLOW_SIDE), AREA)?,
            at_full_size: resized(pixels, bounded(sides, MAX_COMPARED_SIDE), AREA)?,
        })
    }

    /// Measures how much `form` keeps. A form with other channels than the original keeps nothing.
    pub(super) fn compare(&self, form: &Pixels) -> Result<Similarity, PictureFault> {
        let at = |original: &Pixels| -> Result<f64, PictureFault> {
            let sides = (original.width, original.height);
            let shrinks = sides.0 < form.width;
            Ok(psnr(original, &resized(form, sides, if shrinks { AREA } else { SHARP })?))
        };
        Ok(Similarity {
            at_workflow_size: at(&self.at_workflow_size)?.min(INVISIBLE_PSNR_DB),
            at_full_size: at(&self.at_full_size)?,
        })
    }
}

/// Returns the peak signal-to-noise ratio in decibels: infinite for equal pictures.
fn psnr(a: &Pixels, b: &Pixels) -> f64 {
    if a.samples.len() != b.samples.len() || a.samples.is_empty() {
        return 0.0;
    }
    // Sums of at most this many samples stay exact in 32 bits, and vectorise.
    let squares: u64 = a
        .samples
        .chunks(4096)
        .zip(b.samples.chunks(4096))
        .map(|(a, b)| {
            let squares = a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2));
            u64::from(squares.sum::<u32>())
        })
        .sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "far below 2^53 for any picture that is decoded"
    )]
    let mean = squares as f64 / a.samples.len() as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}
