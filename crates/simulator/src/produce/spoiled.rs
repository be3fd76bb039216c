//! Files whose content is not what their name says.
//!
//! Owns the bytes of broken products. The faults decide which run gets one.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::ZlibEncoder};

/// The side of the decompression bomb: 400 million pixels from some 50 KB.
const BOMB_SIDE: u32 = 20_000;

/// Returns the first half of a file.
pub(super) fn half(mut file: Vec<u8>) -> Bytes {
    file.truncate(file.len() / 2);
    file.into()
}

/// Returns the page that a proxy shows when the storage is down.
pub(super) fn html() -> Bytes {
    Bytes::from_static(
        b"<!DOCTYPE html>\n<html><head><title>Just a moment</title></head><body>Please wait.</body></html>\n",
    )
}

/// Overwrites one coordinate of the binary chunk's positions with NaN; bounds and lengths
/// stay correct.
pub(super) fn nan(mut glb: Vec<u8>) -> Bytes {
    // After the positions come four bytes of colour for each vertex, before them twelve bytes for
    // each triangle: it is safer to find the middle of a relief's binary chunk from its own JSON.
    let json_length =
        glb.get(12..16).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
    let json_end = 20 + json_length as usize;
    let place = glb
        .get(20..json_end)
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok())
        .and_then(|head| {
            let view = &head["bufferViews"][1];
            Some(view["byteOffset"].as_u64()? + view["byteLength"].as_u64()? / 2 / 12 * 12)
        })
        .and_then(|offset| usize::try_from(offset).ok())
        .map_or(json_end, |offset| json_end + 8 + offset);
    if let Some(coordinate) = glb.get_mut(place..place + 4) {
        coordinate.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    glb.into()
}

/// Creates a PNG of one bit per pixel that a program should not decode without checking its
/// size first.
pub(super) fn bomb() -> Bytes {
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
    let row = vec![0_u8; 1 + BOMB_SIDE as usize / 8];
    for _ in 0..BOMB_SIDE {
        // Writing to a vector cannot fail.
        let _ = deflated.write_all(&row);
    }
    let pixels = deflated.finish().unwrap_or_default();
    let mut header = Vec::from(BOMB_SIDE.to_be_bytes());
    header.extend(BOMB_SIDE.to_be_bytes());
    header.extend([1, 0, 0, 0, 0]);
    let mut file = Vec::from(*b"\x89PNG\r\n\x1a\n");
    for (name, content) in [(b"IHDR", &header), (b"IDAT", &pixels), (b"IEND", &Vec::new())] {
        super::chunk(&mut file, *name, content);
    }
    file.into()
}
