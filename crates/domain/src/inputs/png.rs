//! Whether a PNG is whole, and what its pixels *are*: a walk over its chunks.
//!
//! Owns the answer to "may this file be sent?": signature, a valid IHDR first, every length in range, every CRC
//! right, PLTE where the colour type needs it, one unbroken run of IDAT, IEND last. It inflates nothing; whether
//! the compressed pixels make sense is [`crate::picture`]'s business.
//!
//! Owns also the render's fingerprint: BLAKE3 over IHDR and over every chunk that can change what a reader sees.
//! Blender writes a new `Date` and `RenderTime` at every render, so text, times, physical size, suggested palettes
//! and private ancillary chunks count for nothing, and so does the place where the writer cut its IDAT chunks.
//!
//! Bytes behind IEND are a fault. Blender truncates before it writes, so there are none in a good render;
//! where there are some, one picture was written over a longer one, and nobody knows which is meant.
//!
//! Rules and numbers are those of the PNG specification, third edition (W3C, 2025).

mod walk;

use crate::fingerprint::Fingerprint;
use walk::{Step, Walk};

/// The longest side that is believed. FLUX and PartPacker work at 1024 and below.
pub const MAX_SIDE: u32 = 16_384;

/// The most pixels that are believed: 8192 × 8192.
pub const MAX_PIXELS: u64 = 1 << 26;

/// The eight bytes that open every PNG.
pub const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Bytes that are checked and then hashed while they are still in the cache.
const PIECE: usize = 32 * 1024;

/// What a whole PNG says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PngFacts {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Bits of one sample, or of one palette index: 1, 2, 4, 8 or 16.
    pub bit_depth: u8,
    /// What the samples of a pixel mean.
    pub colour_type: ColourType,
    /// Whether the rows come in the seven Adam7 passes.
    pub interlaced: bool,
    /// What the picture is, whenever and by whom it was written.
    pub fingerprint: Fingerprint,
}

/// What the samples of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourType {
    /// One sample of grey.
    Grey,
    /// Red, green and blue.
    Rgb,
    /// An index into PLTE.
    Indexed,
    /// Grey and alpha.
    GreyAlpha,
    /// Red, green, blue and alpha.
    Rgba,
}

/// Why a file is not a whole PNG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngFault {
    /// There is no byte. Blender empties the file before it writes.
    #[error("the picture is empty: it is about to be written, or its writer failed")]
    Empty,
    /// It ends before its end: still being written, or cut.
    #[error(
        "the picture ends after {have} bytes without its last chunk: it is being written, or it was cut"
    )]
    Incomplete {
        /// The bytes that are there.
        have: usize,
    },
    /// It does not open like a PNG.
    #[error("the file is not a PNG: save the render as PNG")]
    NotPng,
    /// It breaks a rule of the format, most often a wrong checksum.
    #[error("the picture is damaged: {reason} (chunk {chunk} at byte {at})")]
    Corrupt {
        /// The chunk's name, as far as it is readable.
        chunk: String,
        /// Where the chunk begins.
        at: usize,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// Something follows the end.
    #[error("{count} bytes follow the end of the picture: it was written over a longer one")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// Larger than any render.
    #[error(
        "the picture has {width} x {height} pixels, more than the {MAX_SIDE} a side or {MAX_PIXELS} in all that are accepted: render it smaller"
    )]
    TooLarge {
        /// Pixels from left to right, as IHDR says.
        width: u32,
        /// Pixels from top to bottom, as IHDR says.
        height: u32,
    },
    /// It may be a good PNG of a kind that no reader here knows.
    #[error("the picture uses {what}, which PNG readers do not know: save it as a plain PNG")]
    Unsupported {
        /// What is not known.
        what: String,
    },
}

impl PngFault {
    /// Tells whether the same file may be whole at the next look, with its writer still at work.
    /// In a file that is rewritten in place, new bytes stand before old ones for a moment, so damage may pass too.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Empty
            | Self::Incomplete { .. }
            | Self::Corrupt { .. }
            | Self::TrailingBytes { .. } => true,
            Self::NotPng | Self::TooLarge { .. } | Self::Unsupported { .. } => false,
        }
    }
}

/// Checks that `bytes` are one whole PNG and nothing else, and tells what its pixels are.
pub fn check(bytes: &[u8]) -> Result<PngFacts, PngFault> {
    if bytes.is_empty() {
        return Err(PngFault::Empty);
    }
    if !bytes.starts_with(&SIGNATURE) {
        let cut = SIGNATURE.starts_with(bytes);
        return Err(if cut {
            PngFault::Incomplete { have: bytes.len() }
        } else {
            PngFault::NotPng
        });
    }
    let mut at = SIGNATURE.len();
    let first = Chunk::read(bytes, at)?;
    if first.name != *b"IHDR" {
        return Err(first.corrupt("the first chunk is not IHDR"));
    }
    first.check_sum(None)?;
    let header = Header::read(&first)?;
    let mut walk = Walk::new(&header, &first);
    at += first.size();
    loop {
        let chunk = Chunk::read(bytes, at)?;
        at += chunk.size();
        if walk.take(&chunk)? == Step::End {
            break;
        }
    }
    if at < bytes.len() {
        return Err(PngFault::TrailingBytes { count: bytes.len() - at });
    }
    let Header { width, height, bit_depth, colour_type, interlaced } = header;
    let fingerprint = walk.fingerprint();
    Ok(PngFacts { width, height, bit_depth, colour_type, interlaced, fingerprint })
}

/// One chunk, its bytes all there, its checksum not looked at yet.
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
    crc: u32,
    at: usize,
}

impl<'a> Chunk<'a> {
    /// Length, name and checksum.
    const FRAME: usize = 12;

    fn read(bytes: &'a [u8], at: usize) -> Result<Self, PngFault> {
        let incomplete = || PngFault::Incomplete { have: bytes.len() };
        let rest = bytes.get(at..).ok_or_else(incomplete)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(incomplete)?;
        let (name, rest) = rest.split_first_chunk::<4>().ok_or_else(incomplete)?;
        let mut chunk = Self { name: *name, data: &[], crc: 0, at };
        if !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(chunk.corrupt("its name is not four letters"));
        }
        let length = u32::from_be_bytes(*length);
        if length > i32::MAX.unsigned_abs() {
            return Err(chunk.corrupt("its length is beyond what the format allows"));
        }
        let length = usize::try_from(length).map_err(|_| incomplete())?;
        let (data, rest) = rest.split_at_checked(length).ok_or_else(incomplete)?;
        let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(incomplete)?;
        chunk.data = data;
        chunk.crc = u32::from_be_bytes(*crc);
        Ok(chunk)
    }

    fn size(&self) -> usize {
        Self::FRAME + self.data.len()
    }

    fn corrupt(&self, reason: &'static str) -> PngFault {
        let chunk = self.name.escape_ascii().to_string();
        PngFault::Corrupt { chunk, at: self.at, reason }
    }

    /// Compares the checksum, and hashes the data in the same pass if it has a place in the fingerprint.
    fn check_sum(&self, mut hasher: Option<&mut blake3::Hasher>) -> Result<(), PngFault> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.name);
        for piece in self.data.chunks(PIECE) {
            crc.update(piece);
            if let Some(hasher) = hasher.as_deref_mut() {
                hasher.update(piece);
            }
        }
        if crc.finalize() == self.crc { Ok(()) } else { Err(self.corrupt("its checksum is wrong")) }
    }
}

/// IHDR, checked.
struct Header {
    width: u32,
    height: u32,
    bit_depth: u8,
    colour_type: ColourType,
    interlaced: bool,
}

impl Header {
    fn read(chunk: &Chunk<'_>) -> Result<Self, PngFault> {
        let Ok(data) = <&[u8; 13]>::try_from(chunk.data) else {
            return Err(chunk.corrupt("it has not 13 bytes"));
        };
        let [w0, w1, w2, w3, h0, h1, h2, h3, bit_depth, colour, compression, filter, interlace] =
            *data;
        let width = u32::from_be_bytes([w0, w1, w2, w3]);
        let height = u32::from_be_bytes([h0, h1, h2, h3]);
        if width == 0 || height == 0 {
            return Err(chunk.corrupt("a side has no pixels"));
        }
        let pixels = u64::from(width) * u64::from(height);
        if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
            return Err(PngFault::TooLarge { width, height });
        }
        let (colour_type, depths): (_, &[u8]) = match colour {
            0 => (ColourType::Grey, &[1, 2, 4, 8, 16]),
            2 => (ColourType::Rgb, &[8, 16]),
            3 => (ColourType::Indexed, &[1, 2, 4, 8]),
            4 => (ColourType::GreyAlpha, &[8, 16]),
            6 => (ColourType::Rgba, &[8, 16]),
            _ => return Err(chunk.corrupt("there is no such colour type")),
        };
        if !depths.contains(&bit_depth) {
            return Err(chunk.corrupt("its bit depth does not go with its colour type"));
        }
        if compression != 0 || filter != 0 || interlace > 1 {
            let what = format!("compression {compression}, filter {filter}, interlace {interlace}");
            return Err(PngFault::Unsupported { what });
        }
        Ok(Self { width, height, bit_depth, colour_type, interlaced: interlace == 1 })
    }
}

#[cfg(test)]
mod tests;
