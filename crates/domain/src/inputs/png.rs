//! Checks whether a PNG is complete, and fingerprints its pixels, by walking over its chunks.
//!
//! Owns the answer to "may this file be sent?": signature, a valid IHDR first, every length in
//! range, every CRC correct, PLTE if the colour type needs it, one continuous run of IDAT,
//! IEND last. It decompresses nothing; [`crate::picture`] checks whether the compressed pixels
//! are valid.
//!
//! Also owns the render's fingerprint: BLAKE3 over IHDR and every chunk that can change what a
//! reader shows. Blender writes a new `Date` and `RenderTime` at every render, so text, times,
//! physical size, suggested palettes and private ancillary chunks are ignored, and so are the
//! boundaries between the IDAT chunks.
//!
//! Bytes after IEND are a fault. Blender truncates before it writes, so a good render has none;
//! if there are some, one picture was written over a longer one, and it is not clear which one
//! is intended.
//!
//! Rules and numbers are those of the PNG specification, third edition (W3C, 2025).

mod walk;

use crate::fingerprint::Fingerprint;
use walk::{Step, Walk};

/// The longest side that is accepted. FLUX and PartPacker work at 1024 and below.
pub const MAX_SIDE: u32 = 16_384;

/// The largest number of pixels that is accepted: 8192 × 8192.
pub const MAX_PIXELS: u64 = 1 << 26;

/// The first eight bytes of every PNG.
pub const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The number of bytes that are checked and then hashed while they are still in the cache.
const HASH_BLOCK: usize = 32 * 1024;

/// The properties of a complete PNG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PngFacts {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits of one sample, or of one palette index: 1, 2, 4, 8 or 16.
    pub bit_depth: u8,
    /// The meaning of the samples of a pixel.
    pub colour_type: ColourType,
    /// Whether the rows are stored in the seven Adam7 passes.
    pub interlaced: bool,
    /// The identity of the picture, independent of when and by which program it was written.
    pub fingerprint: Fingerprint,
}

/// The meaning of the samples of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourType {
    /// One grey sample.
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

/// Why a file is not a complete PNG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngFault {
    /// The file is empty. Blender truncates the file before it writes.
    #[error("the picture is empty: a program is about to write it, or failed to")]
    Empty,
    /// The file ends too early: still being written, or truncated.
    #[error(
        "the picture is incomplete ({have} bytes, its end is missing): it is still being written, or was cut off"
    )]
    Incomplete {
        /// The number of existing bytes.
        have: usize,
    },
    /// It does not begin with the PNG signature.
    #[error("the file is not a PNG: save the render as PNG")]
    NotPng,
    /// It violates a rule of the format, most often with a wrong checksum.
    #[error("the picture is damaged: {reason} (chunk {chunk} at byte {at})")]
    Corrupt {
        /// The chunk's name, with unreadable bytes escaped.
        chunk: String,
        /// The offset of the chunk.
        at: usize,
        /// The violated rule.
        reason: &'static str,
    },
    /// There is data after the end.
    #[error("{count} bytes follow the end of the picture: it was written over a longer one")]
    TrailingBytes {
        /// The number of extra bytes.
        count: usize,
    },
    /// Larger than any render.
    #[error(
        "the picture has {width} x {height} pixels, the limit is {MAX_SIDE} per side and {MAX_PIXELS} in total: render it smaller"
    )]
    TooLarge {
        /// Width in pixels, from IHDR.
        width: u32,
        /// Height in pixels, from IHDR.
        height: u32,
    },
    /// It may be a valid PNG, but uses a feature that no reader here supports.
    #[error("the picture uses {what}, which PNG readers do not support: save it as a plain PNG")]
    Unsupported {
        /// The unsupported feature.
        what: String,
    },
}

impl PngFault {
    /// Returns whether the same file may be complete at the next scan, because its writer is still
    /// active. While a file is rewritten in place, new bytes are followed by old ones for a moment,
    /// so damage may be temporary too.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Empty
            | Self::Incomplete { .. }
            | Self::Corrupt { .. }
            | Self::TrailingBytes { .. } => true,
            Self::NotPng | Self::TooLarge { .. } | Self::Unsupported { .. } => false,
        }
    }
}

/// Checks that `bytes` are one complete PNG and nothing else, and returns its properties.
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
    first.verify_crc(None)?;
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

/// One chunk with all its bytes; its checksum is not verified yet.
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
    crc: u32,
    at: usize,
}

impl<'a> Chunk<'a> {
    /// The size of length, name and checksum.
    const OVERHEAD: usize = 12;

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
        Self::OVERHEAD + self.data.len()
    }

    fn corrupt(&self, reason: &'static str) -> PngFault {
        let chunk = self.name.escape_ascii().to_string();
        PngFault::Corrupt { chunk, at: self.at, reason }
    }

    /// Verifies the checksum, and in the same pass hashes the data if it is part of
    /// the fingerprint.
    fn verify_crc(&self, mut hasher: Option<&mut blake3::Hasher>) -> Result<(), PngFault> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.name);
        for piece in self.data.chunks(HASH_BLOCK) {
            crc.update(piece);
            if let Some(hasher) = hasher.as_deref_mut() {
                hasher.update(piece);
            }
        }
        if crc.finalize() == self.crc { Ok(()) } else { Err(self.corrupt("its checksum is wrong")) }
    }
}

/// A validated IHDR.
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
            return Err(chunk.corrupt("it does not have 13 bytes"));
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
            _ => return Err(chunk.corrupt("its colour type does not exist")),
        };
        if !depths.contains(&bit_depth) {
            return Err(chunk.corrupt("its bit depth does not fit its colour type"));
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
