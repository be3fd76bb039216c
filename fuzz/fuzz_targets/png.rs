//! The check that a render is complete, and its fingerprint.
//!
//! Besides "no panic": a truncated file is never complete, and what Blender writes differently in
//! each render (text chunks) does not change the fingerprint.

#![no_main]

use conjured::domain::inputs::png;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    let Ok(facts) = png::check(data) else { return };
    assert!(facts.width > 0 && facts.width <= png::MAX_SIDE);
    assert!(facts.height > 0 && facts.height <= png::MAX_SIDE);
    assert!(u64::from(facts.width) * u64::from(facts.height) <= png::MAX_PIXELS);

    // A few of the positions at which a writer may have been interrupted; all of them would make
    // this quadratic.
    let end = whole(data);
    for cut in [end - 1, end - 4, end - 12, end / 2, end / 3 * 2, 33] {
        if cut < end {
            assert!(png::check(&data[..cut]).is_err(), "cut at {cut} of {end} it counts as whole");
        }
    }

    // IHDR ends at 33: a text chunk behind it is what Blender adds.
    let mut dated = data[..33].to_vec();
    let mut chunk = b"tEXtDate\0today".to_vec();
    dated.extend_from_slice(&u32::try_from(chunk.len() - 4).unwrap_or_default().to_be_bytes());
    let crc = crc32fast::hash(&chunk).to_be_bytes();
    chunk.extend_from_slice(&crc);
    dated.extend_from_slice(&chunk);
    dated.extend_from_slice(&data[33..]);
    let again = png::check(&dated).expect("a date makes no file worse");
    assert_eq!(again.fingerprint, facts.fingerprint);
});

/// Returns the length of the file up to the end of IEND; what stands behind it is nobody's.
fn whole(data: &[u8]) -> usize {
    let mut at = 8;
    while let Some(head) = data.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let next = at + 12 + length;
        if &head[4..8] == b"IEND" {
            return next;
        }
        at = next;
    }
    data.len()
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    // One in eight keeps its wrong sums.
    if seed % 8 != 0 {
        conjured_fuzz::repair_png(&mut data[..size]);
    }
    size
});
