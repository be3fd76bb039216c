//! What the fuzz targets share: corrections of checksums and lengths, behind which the interesting
//! code is.
//!
//! Owns these repairs of a mutated file. The targets judge the result.

/// The eight bytes in front of every PNG.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Writes the correct CRC after every chunk of what looks like a PNG, as far as its lengths lead.
///
/// A mutation almost never produces the correct checksum, so without this only the checksum would
/// be tested.
pub fn repair_png(file: &mut [u8]) {
    if !file.starts_with(SIGNATURE) {
        return;
    }
    let mut at = SIGNATURE.len();
    while let Some(head) = file.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8).and_then(|start| start.checked_add(length)) else { return };
        let Some(content) = file.get(at + 4..end) else { return };
        let crc = crc32fast::hash(content).to_be_bytes();
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&crc);
        at = end + 4;
    }
}

/// Wraps JSON and binary data into a GLB with right lengths.
pub fn wrap_glb(json: &[u8], binary: &[u8]) -> Vec<u8> {
    let mut json = json.to_vec();
    json.resize(json.len().next_multiple_of(4), b' ');
    let mut binary = binary.to_vec();
    binary.resize(binary.len().next_multiple_of(4), 0);
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut file = Vec::with_capacity(28 + json.len() + binary.len());
    file.extend_from_slice(b"glTF");
    file.extend_from_slice(&2_u32.to_le_bytes());
    file.extend_from_slice(&length(28 + json.len() + binary.len()));
    file.extend_from_slice(&length(json.len()));
    file.extend_from_slice(b"JSON");
    file.extend_from_slice(&json);
    file.extend_from_slice(&length(binary.len()));
    file.extend_from_slice(b"BIN\0");
    file.extend_from_slice(&binary);
    file
}
