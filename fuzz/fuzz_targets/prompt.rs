//! A prompt file with any content.
//!
//! Besides "no panic": what is accepted is trimmed, not empty, and reads the same after it is
//! written and read again.

#![no_main]

use conjured::domain::inputs::prompt::{IgnorePatterns, MAX_PROMPT_BYTES, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ignore = IgnorePatterns::new(&["^null$".to_owned()]).expect("a pattern");
    let Ok(prompt) = read(data, &ignore) else { return };
    assert!(!prompt.text.is_empty() && prompt.text.len() <= MAX_PROMPT_BYTES);
    assert_eq!(prompt.text.trim(), prompt.text);
    let again = read(prompt.text.as_bytes(), &ignore).expect("it was accepted before");
    assert_eq!((&again.text, again.fingerprint), (&prompt.text, prompt.fingerprint));
});
