//! Resizes pictures.
//!
//! Owns the resampling. Each channel is filtered separately, alpha too: ComfyUI's LoadImage shows
//! the colours of transparent pixels, so they must not be mixed with alpha.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::{PictureFault, pixels::Pixels};

/// Keeps more detail than the other common filters.
pub(super) const SHARP: FilterType = FilterType::Lanczos3;

/// Averages the covered pixels: the same as `cv2.INTER_AREA` of the depth node when it shrinks
/// a picture.
pub(super) const AREA: FilterType = FilterType::Box;

/// Returns one-byte `pixels` in another size.
pub(super) fn resized(
    pixels: &Pixels,
    (width, height): (u32, u32),
    filter: FilterType,
) -> Result<Pixels, PictureFault> {
    if (width, height) == (pixels.width, pixels.height) {
        return Ok(pixels.clone());
    }
    let kind = match pixels.channels {
        1 => PixelType::U8,
        2 => PixelType::U8x2,
        3 => PixelType::U8x3,
        _ => PixelType::U8x4,
    };
    let unencodable = |reason: String| PictureFault::Unencodable { reason };
    let source = images::ImageRef::new(pixels.width, pixels.height, &pixels.samples, kind)
        .map_err(|error| unencodable(error.to_string()))?;
    let mut target = images::Image::new(width, height, kind);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| unencodable(error.to_string()))?;
    Ok(Pixels { width, height, samples: target.into_vec(), ..*pixels })
}

/// Returns the size of a picture whose shorter side is at most `shorter`, with the
/// same proportions.
pub(super) fn bounded((width, height): (u32, u32), shorter: u32) -> (u32, u32) {
    let least = width.min(height);
    if least <= shorter { (width, height) } else { times((width, height), shorter, least) }
}

/// Returns the sides times `numerator / denominator`, rounded, at least 1.
pub(super) fn times((width, height): (u32, u32), numerator: u32, denominator: u32) -> (u32, u32) {
    let side = |side: u32| {
        let scaled = (u64::from(side) * u64::from(numerator) + u64::from(denominator) / 2)
            / u64::from(denominator.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    };
    (side(width), side(height))
}
