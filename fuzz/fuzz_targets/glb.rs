//! The check between a download and the artist's scene.
//!
//! The first byte selects the input: the rest as it is, or as JSON and binary data in a container
//! with correct lengths. Besides "no panic": a good mesh has vertices and finite bounds, and a
//! truncated one is never good.

#![no_main]

use std::io::Cursor;

use conjured::domain::mesh;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let file = if choice % 2 == 0 {
        rest.to_vec()
    } else {
        // A zero byte parts the JSON from the binary data; JSON holds none.
        let parts = rest.iter().position(|&byte| byte == 0).map_or((rest, &[][..]), |at| rest.split_at(at));
        conjured_fuzz::wrap_glb(parts.0, parts.1.get(1..).unwrap_or_default())
    };
    let length = file.len() as u64;
    let Ok(facts) = mesh::check(&mut Cursor::new(&file), length) else { return };
    assert!(facts.meshes > 0 && facts.primitives > 0 && facts.vertices > 0);
    assert!(facts.min.iter().chain(&facts.max).all(|bound| bound.is_finite()));
    assert!(facts.min.iter().zip(&facts.max).all(|(min, max)| min <= max));
    for cut in [file.len() - 1, file.len() - 4, file.len() / 2, 20] {
        if cut < file.len() {
            let part = &file[..cut];
            assert!(mesh::check(&mut Cursor::new(part), cut as u64).is_err(), "cut at {cut}");
            assert!(mesh::check(&mut Cursor::new(part), length).is_err(), "shorter than told");
        }
    }
});
