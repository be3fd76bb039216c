//! Pictures that are decoded: the render that is sent, and the image that is downloaded.
//!
//! Besides "no panic" and bounded memory: what is accepted as an artifact is a complete PNG
//! afterwards, and accepting it again changes nothing.

#![no_main]

use bytes::Bytes;
use conjured::domain::{picture, inputs::png};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(kept) = picture::into_png(bytes.clone()) {
        assert!(png::check(&kept).is_ok(), "an artifact is a whole PNG");
        let again = picture::into_png(kept.clone()).expect("an artifact is one still");
        assert_eq!(again, kept);
    }
    // What is no whole PNG never gets this far in the program.
    if png::check(data).is_ok()
        && let Ok(form) = picture::best_form(bytes, 16)
    {
        let base64 = picture::base64_len(form.bytes.len());
        assert!(base64 <= 16 * 1024, "{base64} characters are more than 16 KB");
        // The original is decoded by whoever sends it; every other form was made here.
        if form.form != picture::ImageForm::Original {
            assert!(picture::check_image(&form.bytes).is_ok(), "what is sent can be decoded");
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if seed % 8 != 0 {
        conjured_fuzz::repair_png(&mut data[..size]);
    }
    size
});
