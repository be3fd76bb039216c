//! Walks over the chunks after IHDR: checks position and content of each, and hashes those
//! that matter.
//!
//! Owns the order of chunks and the content of the fingerprint. The parent module checks framing
//! and checksum of a single chunk.

use super::{Chunk, ColourType, Fingerprint, Header, PngFault};

#[derive(PartialEq, Eq)]
pub(super) enum Step {
    /// Another chunk follows.
    More,
    /// The chunk was IEND.
    End,
}

#[derive(PartialEq, Eq)]
enum Idat {
    Before,
    Inside,
    After,
}

/// The state of the walk: what was seen so far, and the two halves of the fingerprint.
///
/// Image data has its own hasher, so that the boundaries between IDAT chunks do not matter
/// and BLAKE3 processes long aligned runs. Every other relevant chunk is hashed with its name
/// and length.
pub(super) struct Walk {
    /// The maximum number of entries in PLTE.
    max_palette: usize,
    needs_palette: bool,
    may_have_palette: bool,
    palette: bool,
    idat: Idat,
    frame: blake3::Hasher,
    pixels: blake3::Hasher,
}

impl Walk {
    pub(super) fn new(header: &Header, ihdr: &Chunk<'_>) -> Self {
        let indexed = header.colour_type == ColourType::Indexed;
        let colour = matches!(header.colour_type, ColourType::Rgb | ColourType::Rgba);
        let mut walk = Self {
            max_palette: if indexed { 1 << header.bit_depth } else { 256 },
            needs_palette: indexed,
            may_have_palette: indexed || colour,
            palette: false,
            idat: Idat::Before,
            frame: blake3::Hasher::new(),
            pixels: blake3::Hasher::new(),
        };
        walk.open_frame(ihdr);
        walk.frame.update(ihdr.data);
        walk
    }

    pub(super) fn take(&mut self, chunk: &Chunk<'_>) -> Result<Step, PngFault> {
        if self.idat == Idat::Inside && chunk.name != *b"IDAT" {
            self.idat = Idat::After;
        }
        match &chunk.name {
            b"IDAT" => self.take_image_data(chunk)?,
            b"PLTE" => self.take_palette(chunk)?,
            b"IEND" => {
                chunk.verify_crc(None)?;
                return match (chunk.data.is_empty(), &self.idat) {
                    (false, _) => Err(chunk.corrupt("the last chunk is not empty")),
                    (true, Idat::Before) => Err(chunk.corrupt("there is no image data before it")),
                    (true, _) => Ok(Step::End),
                };
            }
            b"IHDR" => return Err(chunk.corrupt("there is a second header")),
            name if changes_pixels(*name) => {
                self.open_frame(chunk);
                chunk.verify_crc(Some(&mut self.frame))?;
            }
            name => {
                chunk.verify_crc(None)?;
                let critical = name[0].is_ascii_uppercase();
                if critical {
                    let what = format!("the critical chunk {}", name.escape_ascii());
                    return Err(PngFault::Unsupported { what });
                }
            }
        }
        Ok(Step::More)
    }

    fn take_image_data(&mut self, chunk: &Chunk<'_>) -> Result<(), PngFault> {
        match self.idat {
            Idat::After => return Err(chunk.corrupt("its image data is not continuous")),
            Idat::Inside => {}
            Idat::Before if self.needs_palette && !self.palette => {
                return Err(chunk.corrupt("the palette is missing before it"));
            }
            Idat::Before => {
                self.idat = Idat::Inside;
                // An animation control before the image data means a different picture than one
                // after it.
                self.frame.update(b"IDAT");
            }
        }
        chunk.verify_crc(Some(&mut self.pixels))
    }

    fn take_palette(&mut self, chunk: &Chunk<'_>) -> Result<(), PngFault> {
        self.open_frame(chunk);
        chunk.verify_crc(Some(&mut self.frame))?;
        let (entries, odd) = (chunk.data.len() / 3, chunk.data.len() % 3);
        if odd != 0 || !(1..=self.max_palette).contains(&entries) {
            return Err(chunk.corrupt("the palette has an impossible length"));
        }
        if self.palette || self.idat != Idat::Before || !self.may_have_palette {
            return Err(chunk.corrupt("a palette is not allowed here"));
        }
        self.palette = true;
        Ok(())
    }

    fn open_frame(&mut self, chunk: &Chunk<'_>) {
        self.frame.update(&chunk.name);
        self.frame.update(&(chunk.data.len() as u64).to_le_bytes());
    }

    pub(super) fn fingerprint(mut self) -> Fingerprint {
        // The pixel digest has a fixed length and comes last, so the encoding is unambiguous.
        self.frame.update(self.pixels.finalize().as_bytes());
        Fingerprint::from_bytes(*self.frame.finalize().as_bytes())
    }
}

/// Returns whether a chunk other than IHDR, PLTE and IDAT changes what a reader shows:
/// transparency, colour spaces, the animation, and eXIf because loaders rotate the picture by it.
/// `sBIT` and `bKGD` are only hints.
const fn changes_pixels(name: [u8; 4]) -> bool {
    matches!(
        &name,
        b"tRNS"
            | b"gAMA"
            | b"cHRM"
            | b"sRGB"
            | b"iCCP"
            | b"cICP"
            | b"mDCV"
            | b"cLLI"
            | b"eXIf"
            | b"acTL"
            | b"fcTL"
            | b"fdAT"
    )
}
