//! The outer structure of a GLB: a header of 12 bytes, then chunks that fill the file exactly.
//!
//! Owns the walk over the chunks. It reads the JSON into memory, up to [`MAX_JSON`], and only
//! records the position of BIN.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
};

use super::{GlbFault, MAX_JSON};

const JSON: [u8; 4] = *b"JSON";
const BIN: [u8; 4] = *b"BIN\0";

/// The maximum number of chunks. The format requires that chunks other than JSON and BIN are
/// skipped; real files have no more than one or two of them.
const MAX_CHUNKS: usize = 64;

/// The content of a container.
pub(super) struct Container {
    /// The first chunk.
    pub(super) json: Vec<u8>,
    /// The position of the second chunk's data in the file; empty if there is none.
    pub(super) bin: Range<u64>,
}

/// Reads the header and the JSON, and checks that the chunks add up.
pub(super) fn read<R: Read + Seek>(reader: &mut R, length: u64) -> Result<Container, GlbFault> {
    reader.seek(SeekFrom::Start(0))?;
    let [magic, version, promised] = read_words(reader).map_err(map_short_read)?;
    if magic != *b"glTF" {
        return Err(GlbFault::NotGlb);
    }
    let version = u32::from_le_bytes(version);
    if version != 2 {
        return Err(GlbFault::Version(version));
    }
    let promised = u64::from(u32::from_le_bytes(promised));
    if promised != length {
        return Err(GlbFault::Length { promised, actual: length });
    }
    let mut container = Container { json: Vec::new(), bin: 0..0 };
    let mut at = 12;
    for number in 0..MAX_CHUNKS {
        if at == length && number > 0 {
            // The last bytes may belong to no accessor, so their absence would not be
            // noticed otherwise.
            reader.seek(SeekFrom::Start(length - 1))?;
            return match reader.read(&mut [0])? {
                0 => Err(GlbFault::Chunks("the file ended while it was read")),
                _ => Ok(container),
            };
        }
        if length.saturating_sub(at) < 8 {
            return Err(GlbFault::Chunks("its last chunk is incomplete"));
        }
        reader.seek(SeekFrom::Start(at))?;
        let [size, name] = read_words(reader)?;
        let size = u32::from_le_bytes(size);
        let data = at + 8..at + 8 + u64::from(size);
        if size % 4 != 0 {
            return Err(GlbFault::Chunks("the length of a chunk is not a multiple of 4"));
        }
        if data.end > length {
            return Err(GlbFault::Chunks("a chunk is longer than the file"));
        }
        match (number, name) {
            (0, JSON) => container.json = read_json(reader, size)?,
            (0, _) => return Err(GlbFault::Chunks("the first chunk is not JSON")),
            (1, BIN) => container.bin = data.clone(),
            (_, JSON | BIN) => return Err(GlbFault::Chunks("a chunk is in the wrong position")),
            // Unknown chunks are for other readers.
            (_, _) => {}
        }
        at = data.end;
    }
    Err(GlbFault::Chunks("it has too many chunks"))
}

fn read_json<R: Read>(reader: &mut R, size: u32) -> Result<Vec<u8>, GlbFault> {
    if size > MAX_JSON {
        return Err(GlbFault::TooLarge(format!("{size} bytes of JSON, the limit is {MAX_JSON}")));
    }
    let mut json = Vec::new();
    reader.take(u64::from(size)).read_to_end(&mut json)?;
    if json.len() == size as usize {
        Ok(json)
    } else {
        Err(GlbFault::Chunks("the file ended while it was read"))
    }
}

fn read_words<R: Read, const N: usize>(reader: &mut R) -> std::io::Result<[[u8; 4]; N]> {
    let mut words = [[0; 4]; N];
    reader.read_exact(words.as_flattened_mut())?;
    Ok(words)
}

fn map_short_read(error: std::io::Error) -> GlbFault {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { GlbFault::NotGlb } else { error.into() }
}
