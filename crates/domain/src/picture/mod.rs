//! Pictures as pixels: detects a render of one colour, chooses the form in which a render is sent,
//! and checks results.
//!
//! Owns everything that must decode: [`single_colour`] and [`best_form`] for renders,
//! [`check_image`] and [`into_png`] for results. [`super::inputs::png`] checks first whether a PNG
//! is complete; the trigger decides when a picture counts as an accident.
//!
//! Every function accepts untrusted bytes. Sizes are read from the headers and refused before any
//! pixel is decoded: at most [`super::inputs::png::MAX_SIDE`] per side,
//! [`super::inputs::png::MAX_PIXELS`] in total and [`MAX_DECODED`] bytes.
//!
//! - `pixels`: decodes a PNG into plain rows in the right orientation, and resizes them;
//! - `reduce`: the same pixels with fewer bits each;
//! - `encode`: writes rows as the smallest PNG, or as a JPEG;
//! - `fit`: tries forms in order until one fits;
//! - `kept`: measures how much of a picture a lossy form keeps;
//! - `result`: pictures from a backend: PNG, WebP or JPEG.

mod pixels;
mod reduce;
mod encode;
mod kept;
mod fit;
mod result;

pub use fit::{Encoded, ImageForm, base64_len, best_form};
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
    /// It is a PNG, but not a complete one.
    #[error(transparent)]
    Png(#[from] PngFault),
    /// It is neither PNG nor WebP nor JPEG.
    #[error("the file is not a PNG, WebP or JPEG picture")]
    NotAPicture,
    /// The file ends before the picture does.
    #[error("the {format} picture is incomplete: download it again")]
    Cut {
        /// The format of the file.
        format: Format,
    },
    /// Its header declares more pixels than are decoded here.
    #[error(
        "the picture has {width} x {height} pixels, which need too much memory: make it smaller"
    )]
    TooLarge {
        /// Width in pixels, from the header.
        width: u32,
        /// Height in pixels, from the header.
        height: u32,
    },
    /// The file is complete and its checksums may be correct, but its pixel data is invalid.
    #[error("the {format} picture cannot be decoded: {reason}")]
    Undecodable {
        /// The format of the file.
        format: Format,
        /// The decoder's message.
        reason: String,
    },
    /// An animation.
    #[error("the WebP picture is an animation: change the workflow to save a still picture")]
    Animated,
    /// Pixels in memory could not be written in another form. An error of this program, not of
    /// the picture.
    #[error("the picture could not be encoded: {reason}")]
    Unencodable {
        /// The encoder's message.
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
