//! Pictures as pixels: is a render one flat colour, in which form is it sent, and is a result a picture at all?
//!
//! Owns everything that must decode: [`single_colour`] and [`best_form`] for renders, [`check_image`] and
//! [`into_png`] for results. Whether a PNG is whole is [`super::inputs::png`]'s answer and is asked first; when a picture
//! counts as an accident is the trigger's.
//!
//! Every function takes hostile bytes. Sizes are read from the headers and refused before a pixel is
//! decoded: at most [`super::inputs::png::MAX_SIDE`] a side, [`super::inputs::png::MAX_PIXELS`] in all and [`MAX_DECODED`] bytes.
//!
//! - `pixels`: decoding a PNG into plain rows, turned the right way up;
//! - `reduce`: the same pixels with fewer bits each;
//! - `encode`: rows into the smallest PNG, or into a JPEG;
//! - `fit`: the order of forms until one fits;
//! - `scale`: other sides;
//! - `kept`: how much of a picture a lossy form keeps;
//! - `result`: pictures that came back, PNG, WebP or JPEG.

mod pixels;
mod reduce;
mod encode;
mod scale;
mod kept;
mod fit;
mod result;

pub use fit::{Encoded, Form, base64_len, best_form};
pub use pixels::single_colour;
pub use result::{ImageFacts, check_image, into_png};

use std::fmt;

use super::inputs::png::{self, PngFault};

/// The most bytes that one decoded picture may take: 8192 × 8192 pixels of four bytes.
pub const MAX_DECODED: u64 = 256 * 1024 * 1024;

/// A picture format that backends answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ComfyUI's SaveImage.
    Png,
    /// Hugging Face Spaces.
    WebP,
    /// Some custom nodes.
    Jpeg,
}

impl Format {
    /// Returns the MIME type.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }

    /// Tells the format by the first bytes of a file.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&png::SIGNATURE) {
            Some(Self::Png)
        } else if bytes.starts_with(b"\xFF\xD8\xFF") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Jpeg => "JPEG",
        })
    }
}

/// Why a picture cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureFault {
    /// It is a PNG, but not a whole one.
    #[error(transparent)]
    Png(#[from] PngFault),
    /// It is neither PNG nor WebP nor JPEG.
    #[error("the file is no picture: it is neither PNG nor WebP nor JPEG")]
    NotAPicture,
    /// The file ends before the picture does.
    #[error("the {format} picture is cut: fetch it again")]
    Cut {
        /// What it is.
        format: Format,
    },
    /// Its header promises more pixels than are decoded here.
    #[error(
        "the picture has {width} x {height} pixels, which take more memory than a picture is given here: make it smaller"
    )]
    TooLarge {
        /// Pixels from left to right, as the header says.
        width: u32,
        /// Pixels from top to bottom, as the header says.
        height: u32,
    },
    /// The file is all there and its checksums may be right, but the pixels in it make no sense.
    #[error("the {format} picture cannot be decoded: {reason}")]
    Undecodable {
        /// What it is.
        format: Format,
        /// The decoder's words.
        reason: String,
    },
    /// A picture that moves.
    #[error("the WebP picture is an animation: let the workflow save a still picture")]
    Animated,
    /// Pixels in memory could not be written in another form. A fault of this program, not of the picture.
    #[error("the picture could not be encoded: {reason}")]
    Unencodable {
        /// The encoder's words.
        reason: String,
    },
    /// No form is small enough.
    #[error(
        "no form of the picture fits into {max_base64_kb} KB of Base64: raise `generation.image_max_base64_kb`"
    )]
    DoesNotFit {
        /// The limit.
        max_base64_kb: u32,
    },
}

#[cfg(test)]
mod tests;
