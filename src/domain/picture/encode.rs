//! Rows into the smallest PNG, or into a JPEG.
//!
//! Owns the choice of row filter and of palette against samples. Trying every filter on a whole render would
//! take a second, so each is tried on a few bands of rows at a quick level, and only the best is then written in
//! full. Measured on renders of 1024 × 1024: the quick level ranks the filters as the thorough one does.

use ::png::{BitDepth, ColorType, DeflateCompression, Filter};

use super::{PictureFault, pixels::Pixels, reduce};

/// Rows that are looked at as a whole; beyond, `BANDS` bands of `BAND_ROWS` rows stand for the picture.
const SAMPLE_ROWS: usize = BANDS * BAND_ROWS;
const BANDS: usize = 8;
const BAND_ROWS: usize = 16;

/// The level at which plans are compared: 13 ms for 1024 × 1024 RGB.
const QUICK: u8 = 2;

/// The level of the final file: 70 ms for 1024 × 1024 RGB. Level 7 takes twice as long for 3 % less, 9 eight times.
const THOROUGH: u8 = 6;

/// What the thorough level can make of a size that the quick level estimates, at its very best.
const BEST_GAIN: f64 = 0.5;

const FILTERS: [Filter; 6] =
    [Filter::NoFilter, Filter::Sub, Filter::Up, Filter::Avg, Filter::Paeth, Filter::Adaptive];

/// A PNG that has not been written yet: its rows are settled, its filter is the best of a trial.
pub(super) struct Plan {
    rows: Rows,
    filter: Filter,
    estimate: usize,
}

impl Plan {
    /// Tries the ways to write `pixels` (reduced already) and keeps the smallest.
    pub(super) fn smallest(pixels: &Pixels) -> Result<Self, PictureFault> {
        let mut best: Option<Self> = None;
        for rows in [Rows::of_palette(pixels), Some(Rows::of_samples(pixels))].into_iter().flatten()
        {
            let sample = rows.sample();
            // Indices of less than a byte and a row filter do not go together.
            let filters = if rows.depth as u8 >= 8 { &FILTERS[..] } else { &FILTERS[..1] };
            for &filter in filters {
                // Header and palette come once, however many rows there are.
                let quick = sample.write(filter, QUICK)?.len().saturating_sub(rows.overhead());
                let scaled = quick.saturating_mul(rows.height as usize) / sample.height as usize;
                let estimate = rows.overhead() + scaled;
                if best.as_ref().is_none_or(|best| estimate < best.estimate) {
                    best = Some(Self { rows: rows.clone(), filter, estimate });
                }
            }
        }
        best.ok_or_else(|| PictureFault::Unencodable { reason: "no rows".to_owned() })
    }

    /// Returns the size that the quick level promises.
    pub(super) const fn estimate(&self) -> usize {
        self.estimate
    }

    /// Tells whether the file may come out at `limit` bytes or less: writing it is worth the time.
    pub(super) fn may_fit(&self, limit: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let at_best = self.estimate as f64 * BEST_GAIN;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let limit = limit as f64;
        at_best <= limit
    }

    /// Writes the file.
    pub(super) fn write(&self) -> Result<Vec<u8>, PictureFault> {
        self.rows.write(self.filter, THOROUGH)
    }
}

/// Rows as PNG packs them.
#[derive(Clone)]
struct Rows {
    width: u32,
    height: u32,
    colour: ColorType,
    depth: BitDepth,
    palette: Vec<u8>,
    transparency: Vec<u8>,
    packed: Vec<u8>,
}

impl Rows {
    fn of_samples(pixels: &Pixels) -> Self {
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
            packed: pixels.samples.clone(),
        }
    }

    /// Uses a palette where that takes fewer bits for a pixel.
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
            packed: pack(&indices, pixels.width as usize, depth),
        })
    }

    /// Returns the bytes of a file that do not grow with its rows: signature, frames of the chunks, IHDR, palette.
    const fn overhead(&self) -> usize {
        8 + 25 + 12 + 12 + self.palette.len() + self.transparency.len()
    }

    /// Returns a few bands that stand for the whole, or the whole where it is small.
    fn sample(&self) -> Self {
        let height = self.height as usize;
        if height <= SAMPLE_ROWS {
            return self.clone();
        }
        let row_len = self.packed.len() / height;
        let mut packed = Vec::with_capacity(SAMPLE_ROWS * row_len);
        for band in 0..BANDS {
            let top = (height - BAND_ROWS) * band / (BANDS - 1);
            packed.extend_from_slice(&self.packed[top * row_len..(top + BAND_ROWS) * row_len]);
        }
        #[expect(clippy::cast_possible_truncation, reason = "128")]
        Self {
            height: SAMPLE_ROWS as u32,
            packed,
            palette: self.palette.clone(),
            transparency: self.transparency.clone(),
            ..*self
        }
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

/// Packs indices into 1, 2, 4 or 8 bits, the leftmost into the highest; every row begins with a new byte.
fn pack(indices: &[u8], width: usize, depth: BitDepth) -> Vec<u8> {
    let bits = depth as usize;
    if bits == 8 {
        return indices.to_vec();
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

/// Writes a JPEG without chroma subsampling; `None` for what JPEG cannot hold: alpha, two-byte samples, sides beyond 65535.
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
