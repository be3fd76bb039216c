//! Turns the bytes of `userPrompt.txt` into a text for a paid job, or into the reason why
//! there is none.
//!
//! Owns decoding, trimming, the fingerprint and the refusals. It reads no file (its input is
//! bytes), knows no debounce window ([`super::debounce`]) and does not change the text except that
//! NUL and control characters are removed: line ends, tabs and every printable character are sent
//! as they were written.
//!
//! In this order:
//! 1. With a UTF-16 byte order mark the bytes are decoded as UTF-16. Otherwise as UTF-8, and if
//!    that fails as Windows-1252, which accepts every byte sequence (Blender's own writer uses the
//!    locale's encoding on Windows). The last case includes a text that was cut in the middle of a
//!    character: the debounce window, not this file, waits for the rest of it.
//! 2. Characters that no text encoder knows (NUL, C0 and C1 controls except tab and line ends) are
//!    removed. A file with many of them is not text and is refused.
//! 3. White space and byte order marks at both ends are removed; the rest is fingerprinted
//!    and checked.

use std::borrow::Cow;

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::fingerprint::Fingerprint;

/// The longest prompt that is sent, in bytes of UTF-8. FLUX's T5 encoder reads 512 tokens, about
/// 2 KB; CONJURE's longest known prompt has 1442 bytes. A longer file is the wrong file, not a
/// long sentence.
pub const MAX_PROMPT_BYTES: usize = 64 * 1024;

/// How many bytes of a prompt file to read: room for [`MAX_PROMPT_BYTES`] in UTF-16 and for plenty
/// of white space around it. A reader that finds more may pass any longer part: it is refused as
/// too long.
pub const READ_LIMIT: usize = 512 * 1024;

/// The number of control characters that are removed without a check for binary data: a short text
/// may contain a few.
const ALLOWED_CONTROLS: usize = 8;

/// Above [`ALLOWED_CONTROLS`], a file is binary if at least one character in this many is a
/// control character. Random bytes have one in 7.
const BINARY_RATIO: usize = 20;

/// A prompt that may start a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text as it is sent: trimmed, never empty, at most [`MAX_PROMPT_BYTES`].
    pub text: String,
    /// BLAKE3 of `text`.
    pub fingerprint: Fingerprint,
    /// Whether the file was not UTF-8 and was read as Windows-1252; deserves a warning, because the
    /// text may be garbled.
    pub windows_1252: bool,
    /// How many NUL and control characters were removed; deserves a warning unless 0.
    pub removed_controls: usize,
}

/// Why a prompt starts no job. Nothing was sent and nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptRefusal {
    /// Only white space. CONJURE's launcher empties the file at every start.
    #[error("the prompt is empty; say or write a sentence")]
    Empty,
    /// It matches a pattern of `trigger.ignore_prompts`.
    #[error(
        "the prompt matches the pattern `{pattern}` of `trigger.ignore_prompts` and is ignored; \
         say it again, or remove the pattern if you mean this text"
    )]
    Ignored {
        /// The pattern as configured.
        pattern: String,
    },
    /// Longer than [`MAX_PROMPT_BYTES`].
    #[error(
        "the prompt is too long: it has at least {bytes} bytes, the limit is {MAX_PROMPT_BYTES}; shorten it"
    )]
    TooLong {
        /// Its size, as far as it was read.
        bytes: usize,
    },
    /// Not a text in any supported encoding.
    #[error("the prompt file contains binary data instead of text; is it the right file?")]
    NotText,
}

/// The error for an entry of `trigger.ignore_prompts` that is not a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {} of `trigger.ignore_prompts`, `{pattern}`, is not a regular expression: {reason}",
    index + 1
)]
pub struct BadPattern {
    /// Its index in the list, counted from 0 (the message counts from 1).
    pub index: usize,
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The compiled patterns of `trigger.ignore_prompts`. Each is searched for in the trimmed text, so
/// `^` and `$` match the ends of the whole prompt. The default ignores nothing.
#[derive(Clone, Debug, Default)]
pub struct IgnorePatterns(Vec<regex_lite::Regex>);

impl IgnorePatterns {
    /// Compiles every pattern; the first bad one is the error.
    pub fn new(patterns: &[String]) -> Result<Self, BadPattern> {
        let compile = |(index, pattern): (usize, &String)| {
            regex_lite::Regex::new(pattern).map_err(|fault| BadPattern {
                index,
                pattern: pattern.clone(),
                reason: fault.to_string(),
            })
        };
        patterns.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the first pattern that matches `text`.
    fn first_match(&self, text: &str) -> Option<&str> {
        self.0.iter().find(|pattern| pattern.is_match(text)).map(regex_lite::Regex::as_str)
    }
}

/// Reads a prompt from a file's bytes. Returns the text to send, or why there is none.
pub fn read(bytes: &[u8], ignore: &IgnorePatterns) -> Result<Prompt, PromptRefusal> {
    if bytes.len() > READ_LIMIT {
        return Err(PromptRefusal::TooLong { bytes: bytes.len() });
    }
    let (decoded, windows_1252) = decode(bytes)?;
    let (readable, removed_controls) = remove_controls(&decoded)?;
    let text = readable.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if text.is_empty() {
        return Err(PromptRefusal::Empty);
    }
    if text.len() > MAX_PROMPT_BYTES {
        return Err(PromptRefusal::TooLong { bytes: text.len() });
    }
    if let Some(pattern) = ignore.first_match(text) {
        return Err(PromptRefusal::Ignored { pattern: pattern.to_owned() });
    }
    let fingerprint = Fingerprint::of(text.as_bytes());
    Ok(Prompt { text: text.to_owned(), fingerprint, windows_1252, removed_controls })
}

/// Decodes the bytes. The flag says whether it had to fall back to Windows-1252.
fn decode(bytes: &[u8]) -> Result<(Cow<'_, str>, bool), PromptRefusal> {
    let utf_16 = match bytes {
        [0xff, 0xfe, rest @ ..] => Some((UTF_16LE, rest)),
        [0xfe, 0xff, rest @ ..] => Some((UTF_16BE, rest)),
        _ => None,
    };
    if let Some((encoding, rest)) = utf_16 {
        let (text, broken) = encoding.decode_without_bom_handling(rest);
        return if broken { Err(PromptRefusal::NotText) } else { Ok((text, false)) };
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok((Cow::Borrowed(text), false));
    }
    // A byte order mark means "UTF-8" even if the rest is invalid; it must not become
    // three letters.
    let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Ok((WINDOWS_1252.decode_without_bom_handling(rest).0, true))
}

/// Removes the characters that cannot be part of a sentence, and counts them. NULs alone never make
/// a file binary: a file that was rewritten after a truncation, or cut off by a power loss, is
/// padded with them.
fn remove_controls(text: &str) -> Result<(Cow<'_, str>, usize), PromptRefusal> {
    let unwanted = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    let removed_controls = text.chars().filter(|c| unwanted(*c)).count();
    if removed_controls == 0 {
        return Ok((Cow::Borrowed(text), 0));
    }
    let nuls = text.chars().filter(|c| *c == '\0').count();
    let (controls, characters) = (removed_controls - nuls, text.chars().count() - nuls);
    if controls > ALLOWED_CONTROLS && controls.saturating_mul(BINARY_RATIO) > characters {
        return Err(PromptRefusal::NotText);
    }
    Ok((Cow::Owned(text.chars().filter(|c| !unwanted(*c)).collect()), removed_controls))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(bytes: &[u8]) -> Result<String, PromptRefusal> {
        read(bytes, &IgnorePatterns::default()).map(|prompt| prompt.text)
    }

    fn patterns(list: &[&str]) -> Result<IgnorePatterns, BadPattern> {
        IgnorePatterns::new(&list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_same_sentence_is_the_same_fingerprint_however_it_was_saved() {
        let plain = read("a chair — oak 🪑".as_bytes(), &IgnorePatterns::default()).expect("text");
        assert_eq!(plain.fingerprint, Fingerprint::of("a chair — oak 🪑".as_bytes()));
        let utf_16: Vec<u8> =
            "\u{feff}a chair — oak 🪑\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big_endian: Vec<u8> =
            "\u{feff}a chair — oak 🪑".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            "\u{feff} a chair — oak 🪑\n".as_bytes(),
            " \t\r\na chair — oak 🪑\u{a0}\r\n".as_bytes(),
            "\n\u{feff}a chair — oak 🪑".as_bytes(),
            &utf_16,
            &big_endian,
        ] {
            assert_eq!(read(bytes, &IgnorePatterns::default()), Ok(plain.clone()), "{bytes:?}");
        }
    }

    #[test]
    fn line_ends_and_tabs_inside_the_text_stay_as_they_are() {
        assert_eq!(text_of(b"one\r\ntwo\tthree\n"), Ok("one\r\ntwo\tthree".into()));
    }

    #[test]
    fn bad_utf_8_is_read_as_windows_1252_and_says_so() {
        let prompt = read(b"caf\xe9 \x97 au lait", &IgnorePatterns::default()).expect("text");
        assert_eq!((prompt.text.as_str(), prompt.windows_1252), ("café — au lait", true));
        assert_eq!(
            text_of(b"\xef\xbb\xbfcaf\xe9"),
            Ok("café".into()),
            "the mark is dropped here too"
        );
    }

    #[test]
    fn nothing_but_white_space_marks_and_nuls_is_empty() {
        for bytes in [&b""[..], b" \r\n\t", "\u{feff}".as_bytes(), b"\xff\xfe", &[0; 4096]] {
            assert_eq!(text_of(bytes), Err(PromptRefusal::Empty), "{bytes:?}");
        }
    }

    #[test]
    fn nuls_and_stray_controls_are_left_out_and_counted() {
        let prompt =
            read(b"\0\0a \x1b[31mred\x7f chair\0", &IgnorePatterns::default()).expect("text");
        assert_eq!((prompt.text.as_str(), prompt.removed_controls), ("a [31mred chair", 5));
        assert_eq!(prompt.fingerprint, Fingerprint::of(b"a [31mred chair"));
        let mut padded = vec![0; 3000];
        padded.extend_from_slice(b"a chair");
        assert_eq!(
            text_of(&padded),
            Ok("a chair".into()),
            "a hole before the text is no binary file"
        );
    }

    #[test]
    fn a_picture_or_broken_utf_16_under_the_name_of_a_prompt_is_refused() {
        let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
        picture.extend((0..4000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]));
        assert_eq!(text_of(&picture), Err(PromptRefusal::NotText));
        assert_eq!(
            text_of(b"\xff\xfea\0\x00\xd8"),
            Err(PromptRefusal::NotText),
            "half a character"
        );
    }

    #[test]
    fn the_longest_prompt_is_sent_and_one_byte_more_is_refused() {
        let longest = "x".repeat(MAX_PROMPT_BYTES);
        assert_eq!(text_of(format!("\n {longest} \n").as_bytes()), Ok(longest.clone()));
        let bytes = MAX_PROMPT_BYTES + 1;
        assert_eq!(
            text_of(format!("{longest}x").as_bytes()),
            Err(PromptRefusal::TooLong { bytes })
        );
        let huge = vec![b' '; READ_LIMIT + 1];
        assert_eq!(text_of(&huge), Err(PromptRefusal::TooLong { bytes: READ_LIMIT + 1 }));
    }

    #[test]
    fn conjures_known_accidents_are_ignored_and_their_neighbours_are_not() {
        let ignore = patterns(&["^null$", "^\\. Shown in"]).expect("good patterns");
        for (text, pattern) in [
            (" null\n", "^null$"),
            (". Shown in a three-quarter view", "^\\. Shown in"),
            ("\u{feff}null", "^null$"),
        ] {
            let refusal = read(text.as_bytes(), &ignore).expect_err("ignored");
            assert_eq!(refusal, PromptRefusal::Ignored { pattern: pattern.into() });
            assert!(
                refusal.to_string().contains(pattern),
                "the person sees which pattern: {refusal}"
            );
        }
        for text in ["nullarbor plain", "a chair. Shown in blue", "a\nnull\nb"] {
            assert!(read(text.as_bytes(), &ignore).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_bad_pattern_says_which_one_it_is() {
        let fault = patterns(&["^null$", "(oops"]).expect_err("an open group");
        assert_eq!((fault.index, fault.pattern.as_str()), (1, "(oops"));
        assert!(fault.to_string().starts_with("entry 2 of `trigger.ignore_prompts`"), "{fault}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_clean_prompt_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(prompt) = read(&bytes, &IgnorePatterns::default()) {
                prop_assert!(!prompt.text.is_empty() && prompt.text.trim() == prompt.text);
                prop_assert!(!prompt.text.contains('\0'));
                prop_assert_eq!(prompt.fingerprint, Fingerprint::of(prompt.text.as_bytes()));
                let again = read(prompt.text.as_bytes(), &IgnorePatterns::default());
                prop_assert_eq!(again.map(|p| p.fingerprint), Ok(prompt.fingerprint), "reading is stable");
            }
        }

        #[test]
        fn any_sentence_without_controls_arrives_unchanged(text in "\\PC{1,200}") {
            let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            let wanted = if trimmed.is_empty() { Err(PromptRefusal::Empty) } else { Ok(trimmed.to_owned()) };
            prop_assert_eq!(text_of(text.as_bytes()), wanted);
        }
    }
}
