//! Checks pictures from a backend, and converts them to PNG.
//!
//! Owns the check of the job's image. The first bytes determine the format, never the name; the
//! header is read here before any decoder sees it, so that a small file that declares a huge
//! picture costs nothing. A PNG stays byte for byte; WebP and JPEG become PNG, because the public
//! name ends in `.png`.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageEncoder,
    codecs::{
        jpeg::JpegDecoder,
        png::{CompressionType, FilterType, PngEncoder},
        webp::WebPDecoder,
    },
};

use super::{Format, MAX_DECODED, PictureFault, pixels, pixels::Pixels};
use crate::inputs::png;

/// The properties of a picture that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The format of the file.
    pub format: Format,
    /// Width in pixels, before a rotation that eXIf asks for.
    pub width: u32,
    /// Height in pixels, before a rotation that eXIf asks for.
    pub height: u32,
}

/// Checks that `bytes` are a picture that can be decoded to its last pixel. A PNG is decoded row by
/// row; a WebP or JPEG takes the memory of its pixels during the call.
pub fn check_image(bytes: &[u8]) -> Result<ImageFacts, PictureFault> {
    let format = Format::of(bytes).ok_or(PictureFault::NotAPicture)?;
    if format == Format::Png {
        let png::PngFacts { width, height, .. } = png::check(bytes)?;
        pixels::decode_all_rows(bytes)?;
        return Ok(ImageFacts { format, width, height });
    }
    let decoder = open_decoder(bytes, format)?;
    let (width, height) = decoder.dimensions();
    decode(decoder, format)?;
    Ok(ImageFacts { format, width, height })
}

/// Returns the picture as a PNG. A PNG is returned unchanged, after the same checks as in
/// [`check_image`]; WebP and JPEG are decoded, rotated as eXIf says and written as PNG
/// without metadata.
pub fn into_png(bytes: Bytes) -> Result<Bytes, PictureFault> {
    let format = Format::of(&bytes).ok_or(PictureFault::NotAPicture)?;
    if format == Format::Png {
        pixels::decode_all_rows(&bytes)?;
        return Ok(bytes);
    }
    let mut decoder = open_decoder(&bytes, format)?;
    let orientation = decoder.orientation().map_err(undecodable(format))?;
    let mut picture = decode(decoder, format)?;
    picture.apply_orientation(orientation);
    drop(bytes);

    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive)
        .write_image(picture.as_bytes(), picture.width(), picture.height(), picture.color().into())
        .map_err(|error| PictureFault::Unencodable { reason: error.to_string() })?;
    Ok(file.into())
}

/// Decodes a JPEG that this program created.
pub(super) fn decode_jpeg(bytes: &[u8]) -> Result<Pixels, PictureFault> {
    let picture = decode(open_decoder(bytes, Format::Jpeg)?, Format::Jpeg)?;
    let (width, height) = (picture.width(), picture.height());
    let channels = usize::from(picture.color().channel_count());
    Ok(Pixels { width, height, channels, depth: 1, samples: picture.into_bytes() })
}

/// Opens a WebP or a JPEG that is complete and not too large.
fn open_decoder<'a>(
    bytes: &'a [u8],
    format: Format,
) -> Result<Box<dyn ImageDecoder + 'a>, PictureFault> {
    let reader = Cursor::new(bytes);
    match format {
        Format::Jpeg => {
            // The decoder fills missing parts with grey, so the marker EOI at the end is checked
            // here. Some writers add padding after it.
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if !bytes[..end].ends_with(b"\xFF\xD9") {
                return Err(PictureFault::Cut { format });
            }
            let decoder = JpegDecoder::new(reader).map_err(undecodable(format))?;
            within_limits(decoder.dimensions(), decoder.total_bytes())?;
            Ok(Box::new(decoder))
        }
        Format::WebP | Format::Png => {
            walk_webp(bytes)?;
            let decoder = WebPDecoder::new(reader).map_err(undecodable(format))?;
            within_limits(decoder.dimensions(), decoder.total_bytes())?;
            Ok(Box::new(decoder))
        }
    }
}

fn decode(
    decoder: Box<dyn ImageDecoder + '_>,
    format: Format,
) -> Result<DynamicImage, PictureFault> {
    DynamicImage::from_decoder(decoder).map_err(undecodable(format))
}

fn undecodable(format: Format) -> impl Fn(image::ImageError) -> PictureFault {
    move |error| PictureFault::Undecodable { format, reason: error.to_string() }
}

fn within_limits((width, height): (u32, u32), decoded: u64) -> Result<(), PictureFault> {
    let pixels = u64::from(width) * u64::from(height);
    let fits = width <= png::MAX_SIDE && height <= png::MAX_SIDE && pixels <= png::MAX_PIXELS;
    if fits && decoded <= MAX_DECODED {
        Ok(())
    } else {
        Err(PictureFault::TooLarge { width, height })
    }
}

/// Walks over the chunks of a WebP: all must be complete, without animation, and no frame may be
/// too large. The decoder would allocate a frame by the frame's own header before it compares that
/// with the canvas.
///
/// Layout: RFC 9649; frame headers: RFC 6386 section 9.1 (`VP8 `) and the lossless specification
/// section 3 (`VP8L`).
fn walk_webp(bytes: &[u8]) -> Result<(), PictureFault> {
    let cut = PictureFault::Cut { format: Format::WebP };
    let size =
        bytes.get(4..).and_then(|rest| rest.first_chunk()).map(|size| u32::from_le_bytes(*size));
    let end = size.and_then(|size| (size as usize).checked_add(8)).ok_or_else(|| cut.clone())?;
    let mut rest = bytes.get(12..end).ok_or_else(|| cut.clone())?;
    while let Some((name, tail)) = rest.split_first_chunk::<4>() {
        let (size, tail) = tail.split_first_chunk::<4>().ok_or_else(|| cut.clone())?;
        let size = u32::from_le_bytes(*size) as usize;
        let data = tail.get(..size).ok_or_else(|| cut.clone())?;
        let sides = match name {
            b"VP8 " => {
                data.get(6..10).and_then(|sides| sides.first_chunk()).map(|&[a, b, c, d]| {
                    let number = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
                    (number(a, b), number(c, d))
                })
            }
            b"VP8L" => data.get(1..5).and_then(|bits| bits.first_chunk()).map(|bits| {
                let bits = u32::from_le_bytes(*bits);
                ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            }),
            b"VP8X" => {
                data.get(4..10).and_then(|sides| sides.first_chunk()).map(|&[a, b, c, d, e, f]| {
                    let number = |low, middle, high| u32::from_le_bytes([low, middle, high, 0]) + 1;
                    (number(a, b, c), number(d, e, f))
                })
            }
            b"ANIM" | b"ANMF" => return Err(PictureFault::Animated),
            _ => Some((0, 0)),
        };
        let sides = sides.ok_or_else(|| cut.clone())?;
        within_limits(sides, 4 * u64::from(sides.0) * u64::from(sides.1))?;
        // A chunk of odd size is padded; some files lack the padding of the last one.
        rest = tail.get(size + size % 2..).unwrap_or_default();
    }
    if rest.is_empty() { Ok(()) } else { Err(cut) }
}
