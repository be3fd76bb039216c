//! The service's timestamps. What is asserted stands in `conjured::backend::runcomfy::fuzzing`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        conjured::backend::runcomfy::fuzzing::timestamp(text);
    }
});
