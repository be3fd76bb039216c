//! Decodes a PNG into plain rows, resizes them, and detects pictures of a single colour.
//!
//! Owns [`Pixels`]: palettes and colour keys are resolved, 1, 2 and 4 bits widened to 8, and the
//! picture is rotated as eXIf says. Colour spaces are ignored, as in ComfyUI's LoadImage. When it
//! is resized, each channel is filtered separately, alpha too: LoadImage shows the colours of
//! transparent pixels, so they must not be mixed with alpha.

use std::io::Cursor;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};
use image::metadata::Orientation;

use super::{Format, MAX_DECODED, PictureFault};
use crate::inputs::png;

/// Rows of samples without gaps. Two-byte samples are big-endian, as in PNG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Samples of one pixel: 1 grey, 2 grey and alpha, 3 red, green and blue, 4 with alpha.
    pub(super) channels: usize,
    /// Bytes of one sample: 1 or 2.
    pub(super) depth: usize,
    pub(super) samples: Vec<u8>,
}

impl Pixels {
    /// Returns the size of one pixel in bytes.
    pub(super) const fn pixel_len(&self) -> usize {
        self.channels * self.depth
    }

    /// Returns the size of one row in bytes.
    pub(super) const fn row_len(&self) -> usize {
        self.width as usize * self.pixel_len()
    }

    /// Returns whether the last sample of a pixel is alpha.
    pub(super) const fn has_alpha(&self) -> bool {
        self.channels.is_multiple_of(2)
    }

    /// Rotates the picture by a camera's orientation.
    fn oriented(self, orientation: Orientation) -> Self {
        // Every orientation is an optional transposition, followed by an optional mirroring along
        // each axis of the result.
        let (transposed, mirror_x, mirror_y) = match orientation {
            Orientation::NoTransforms => return self,
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, true, false),
            Orientation::Rotate270 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        let (width, height) =
            if transposed { (self.height, self.width) } else { (self.width, self.height) };
        let (len, row_len) = (self.pixel_len(), self.row_len());
        let mut samples = Vec::with_capacity(self.samples.len());
        for y in 0..height as usize {
            let y = if mirror_y { height as usize - 1 - y } else { y };
            for x in 0..width as usize {
                let x = if mirror_x { width as usize - 1 - x } else { x };
                let (from_x, from_y) = if transposed { (y, x) } else { (x, y) };
                let at = from_y * row_len + from_x * len;
                samples.extend_from_slice(&self.samples[at..at + len]);
            }
        }
        Self { width, height, samples, ..self }
    }
}

/// Decodes a whole PNG.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, PictureFault> {
    let mut reader = open_png(bytes)?;
    let (width, height) = reader.info().size();
    let too_large = PictureFault::TooLarge { width, height };
    let len = reader.output_buffer_size().ok_or_else(|| too_large.clone())?;
    if len as u64 > MAX_DECODED {
        return Err(too_large);
    }
    let mut samples = vec![0; len];
    reader.next_frame(&mut samples).map_err(undecodable)?;
    let orientation = orientation(&reader);
    // Reads up to IEND: the end of the compressed stream contains the checksum over all of it.
    reader.finish().map_err(undecodable)?;
    let (channels, depth) = shape(&reader);
    Ok(Pixels { width, height, channels, depth, samples }.oriented(orientation))
}

/// Decodes a whole PNG row by row, in the memory of a few rows, and discards the rows.
pub(super) fn decode_all_rows(bytes: &[u8]) -> Result<(), PictureFault> {
    let mut reader = open_png(bytes)?;
    while reader.next_row().map_err(undecodable)?.is_some() {}
    reader.finish().map_err(undecodable)
}

/// Returns the colour (red, green, blue, alpha) of a PNG whose pixels all have the same one.
/// Two-byte samples are compared completely and reported by their upper byte. Stops at the first
/// pixel that differs, so a picture with more than one colour may still be undecodable further
/// down; [`super::best_form`] reads all of it.
pub fn single_colour(png: &[u8]) -> Result<Option<[u8; 4]>, PictureFault> {
    let mut reader = open_png(png)?;
    let (channels, depth) = shape(&reader);
    let pixel_len = channels * depth;
    let mut first: Vec<u8> = Vec::new();
    // The rows of an interlaced picture are those of its seven passes; each pixel still occurs
    // exactly once.
    while let Some(row) = reader.next_row().map_err(undecodable)? {
        let row = row.data();
        if first.is_empty() {
            first.extend(row.iter().take(pixel_len));
        }
        // A row of one colour equals itself shifted by one pixel.
        let flat = row.starts_with(&first)
            && row.get(pixel_len..) == row.get(..row.len().saturating_sub(pixel_len));
        if !flat {
            return Ok(None);
        }
    }
    reader.finish().map_err(undecodable)?;
    let sample = |index: usize| first.get(index * depth).copied().unwrap_or(u8::MAX);
    Ok(Some(match channels {
        1 => [sample(0), sample(0), sample(0), u8::MAX],
        2 => [sample(0), sample(0), sample(0), sample(1)],
        3 => [sample(0), sample(1), sample(2), u8::MAX],
        _ => [sample(0), sample(1), sample(2), sample(3)],
    }))
}

type Reader<'a> = ::png::Reader<Cursor<&'a [u8]>>;

/// Opens a PNG that is complete and not too large.
fn open_png(bytes: &[u8]) -> Result<Reader<'_>, PictureFault> {
    png::check(bytes)?;
    let mut options = ::png::DecodeOptions::default();
    // `check` has verified every CRC; the inner checksum of the compressed pixels is verified here.
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = ::png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(::png::Transformations::EXPAND);
    decoder.read_info().map_err(undecodable)
}

fn shape(reader: &Reader<'_>) -> (usize, usize) {
    let (colour, depth) = reader.output_color_type();
    (colour.samples(), if depth == ::png::BitDepth::Sixteen { 2 } else { 1 })
}

fn orientation(reader: &Reader<'_>) -> Orientation {
    let exif = reader.info().exif_metadata.as_deref();
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn undecodable(error: ::png::DecodingError) -> PictureFault {
    PictureFault::Undecodable { format: Format::Png, reason: error.to_string() }
}

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
