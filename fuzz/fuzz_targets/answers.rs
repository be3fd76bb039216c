//! The service's answers: submit, status, result, cancel, balance, with any HTTP status and
//! any body.
//!
//! The assertions are next to the wire format, in `conjured::backend::runcomfy::fuzzing`, where the
//! types are.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| conjured::backend::runcomfy::fuzzing::answers(data));
