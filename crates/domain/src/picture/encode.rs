//! Writes rows as the smallest PNG, or as a JPEG.
//!
//! Owns the choice of the row filter and between palette and samples. Trying every filter on a
//! whole render would take a second, so each is tried on a few bands of rows at a fast level, and
//! only the best one is used for the whole file. Measured on renders of 1024 × 1024: the fast level
//! ranks the filters like the thorough one.

use std::borrow::Cow;

use ::png::{BitDepth, ColorType, DeflateCompression, Filter};

use super::{PictureFault, pixels::Pixels, reduce};

/// Up to this many rows are examined completely; for more rows, `BANDS` bands of `BAND_ROWS`
/// rows represent the picture. A band is two JPEG blocks high, and its 48 KB of RGB fill the
/// window of deflate.
const SAMPLE_ROWS: usize = BANDS * BAND_ROWS;
const BANDS: usize = 8;
const BAND_ROWS: usize = 16;

/// The level at which plans are compared: it takes a tenth of the thorough one's time.
const FAST_LEVEL: u8 = 1;

/// The level of the final file: 70 ms for 1024 × 1024 RGB. Level 7 takes twice as long for 3 %
/// less, 9 eight times.
const BEST_LEVEL: u8 = 6;

const FILTERS: [Filter; 6] =
    [Filter::NoFilter, Filter::Sub, Filter::Up, Filter::Avg, Filter::Paeth, Filter::Adaptive];

/// A PNG that is not written yet: its rows are decided, its filter is the best one of a trial.
pub(super) struct PngPlan<'a> {
    rows: Rows<'a>,
    filter: Filter,
    estimate: usize,
}

impl<'a> PngPlan<'a> {
    /// Tries the ways to write `pixels` (already reduced) and keeps the smallest.
    pub(super) fn smallest(pixels: &'a Pixels) -> Result<Self, PictureFault> {
        let rows = Rows::of_samples(pixels);
        let (mut filter, mut quick) = rows.best_filter()?;
        let mut best = rows;
        if let Some(rows) = Rows::of_palette(pixels) {
            let (palette_filter, palette_quick) = rows.best_filter()?;
            if palette_quick < quick {
                (best, filter, quick) = (rows, palette_filter, palette_quick);
            }
        }
        let estimate = best.estimate(filter, BEST_LEVEL)?.min(quick);
        Ok(Self { rows: best, filter, estimate })
    }

    /// Returns the estimated file size, which is accurate to a few percent.
    pub(super) const fn estimate(&self) -> usize {
        self.estimate
    }

    /// Writes the file.
    pub(super) fn write(&self) -> Result<Vec<u8>, PictureFault> {
        self.rows.write(self.filter, BEST_LEVEL)
    }
}

/// Rows as PNG packs them.
struct Rows<'a> {
    width: u32,
    height: u32,
    colour: ColorType,
    depth: BitDepth,
    palette: Vec<u8>,
    transparency: Vec<u8>,
    packed: Cow<'a, [u8]>,
}

impl<'a> Rows<'a> {
    fn of_samples(pixels: &'a Pixels) -> Self {
        Self {
            width: pixels.width,
            height: pixels.height,
            colour: match pixels.channels {
                1 => ColorType::Grayscale,
                2 => ColorType::GrayscaleAlpha,
                3 => ColorType::Rgb,
                _ => ColorType::Rgba,
            },
            depth: if pixels.depth == 2 { BitDepth::Sixteen } else { BitDepth::Eight },
            palette: Vec::new(),
            transparency: Vec::new(),
            packed: Cow::Borrowed(&pixels.samples),
        }
    }

    /// Uses a palette if that needs fewer bits per pixel.
    fn of_palette(pixels: &Pixels) -> Option<Self> {
        let reduce::Indexed { palette, indices } = reduce::indexed(pixels)?;
        let depth = match palette.len() {
            0..=2 => BitDepth::One,
            3..=4 => BitDepth::Two,
            5..=16 => BitDepth::Four,
            _ => BitDepth::Eight,
        };
        if depth as usize >= pixels.channels * 8 {
            return None;
        }
        let transparent = palette.iter().take_while(|colour| colour[3] != u8::MAX);
        Some(Self {
            width: pixels.width,
            height: pixels.height,
            colour: ColorType::Indexed,
            depth,
            transparency: transparent.map(|colour| colour[3]).collect(),
            palette: palette.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
            packed: Cow::Owned(pack(indices, pixels.width as usize, depth)),
        })
    }

    /// Returns the part of the file size that does not depend on its rows: signature, chunk frames,
    /// IHDR, palette.
    const fn overhead(&self) -> usize {
        8 + 25 + 12 + 12 + self.palette.len() + self.transparency.len()
    }

    /// Returns the filter that makes the smallest file, and its size, at the fast level.
    fn best_filter(&self) -> Result<(Filter, usize), PictureFault> {
        // Row filters do not help indices of less than a byte.
        let filters = if self.depth as u8 >= 8 { &FILTERS[..] } else { &FILTERS[..1] };
        let mut best = (Filter::NoFilter, usize::MAX);
        for &filter in filters {
            let estimate = self.estimate(filter, FAST_LEVEL)?;
            if estimate < best.1 {
                best = (filter, estimate);
            }
        }
        Ok(best)
    }

    /// Estimates the size of the file from a few bands. Header and palette are counted once, for
    /// any number of rows.
    fn estimate(&self, filter: Filter, level: u8) -> Result<usize, PictureFault> {
        let (rows, packed) = bands(&self.packed, self.height);
        let sample = Rows {
            height: rows,
            packed,
            palette: self.palette.clone(),
            transparency: self.transparency.clone(),
            ..*self
        };
        let length = sample.write(filter, level)?.len();
        Ok(scaled(length, self.overhead(), rows, self.height))
    }

    fn write(&self, filter: Filter, level: u8) -> Result<Vec<u8>, PictureFault> {
        let mut file = Vec::with_capacity(self.packed.len() / 4 + 1024);
        let mut encoder = ::png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(self.colour);
        encoder.set_depth(self.depth);
        encoder.set_filter(filter);
        encoder.set_deflate_compression(DeflateCompression::Level(level));
        if !self.palette.is_empty() {
            encoder.set_palette(self.palette.as_slice());
        }
        if !self.transparency.is_empty() {
            encoder.set_trns(self.transparency.as_slice());
        }
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.packed)?;
            writer.finish()
        });
        written.map_err(|error| PictureFault::Unencodable { reason: error.to_string() })?;
        Ok(file)
    }
}

/// Packs indices into 1, 2, 4 or 8 bits, the leftmost into the highest; every row starts with a
/// new byte.
fn pack(indices: Vec<u8>, width: usize, depth: BitDepth) -> Vec<u8> {
    let bits = depth as usize;
    if bits == 8 {
        return indices;
    }
    let per_byte = 8 / bits;
    let bytes = indices.chunks_exact(width).flat_map(|row| row.chunks(per_byte)).map(|group| {
        group
            .iter()
            .enumerate()
            .fold(0, |byte, (place, index)| byte | index << (8 - bits * (place + 1)))
    });
    bytes.collect()
}

/// Returns a few bands of rows that represent the picture, or all rows of a small one, and the
/// number of these rows.
fn bands(rows: &[u8], height: u32) -> (u32, Cow<'_, [u8]>) {
    let count = height as usize;
    if count <= SAMPLE_ROWS {
        return (height, Cow::Borrowed(rows));
    }
    let row_len = rows.len() / count;
    let mut sample = Vec::with_capacity(SAMPLE_ROWS * row_len);
    for band in 0..BANDS {
        let top = (count - BAND_ROWS) * band / (BANDS - 1);
        sample.extend_from_slice(&rows[top * row_len..(top + BAND_ROWS) * row_len]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "128")]
    (SAMPLE_ROWS as u32, Cow::Owned(sample))
}

/// Scales the length of a sample's file to all rows, except for the constant part.
fn scaled(length: usize, overhead: usize, rows: u32, all: u32) -> usize {
    overhead + length.saturating_sub(overhead).saturating_mul(all as usize) / rows as usize
}

/// Bytes of a colour JPEG before its first block: markers, quantisation and Huffman tables.
const JPEG_OVERHEAD: usize = 620;

/// Estimates the size of a JPEG from a few bands; `None` if JPEG cannot represent the picture.
pub(super) fn jpeg_estimate(pixels: &Pixels, quality: u8) -> Result<Option<usize>, PictureFault> {
    let (rows, samples) = bands(&pixels.samples, pixels.height);
    let sample = Pixels { height: rows, samples: samples.into_owned(), ..*pixels };
    let file = jpeg(&sample, quality)?;
    Ok(file.map(|file| scaled(file.len(), JPEG_OVERHEAD, rows, pixels.height)))
}

/// Writes a JPEG without chroma subsampling; `None` if JPEG cannot represent the picture: alpha,
/// two-byte samples, sides above 65535.
pub(super) fn jpeg(pixels: &Pixels, quality: u8) -> Result<Option<Vec<u8>>, PictureFault> {
    let colour = match (pixels.channels, pixels.depth) {
        (1, 1) => image::ExtendedColorType::L8,
        (3, 1) => image::ExtendedColorType::Rgb8,
        _ => return Ok(None),
    };
    if pixels.width.max(pixels.height) > u32::from(u16::MAX) {
        return Ok(None);
    }
    let mut file = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality)
        .encode(&pixels.samples, pixels.width, pixels.height, colour)
        .map_err(|error| PictureFault::Unencodable { reason: error.to_string() })?;
    Ok(Some(file))
}
