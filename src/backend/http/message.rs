//! Cleans texts of a service for a terminal, a log and a page.
//!
//! Owns what may be shown: one short line, no control characters, and never the token, even if the
//! service sends it back.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The maximum number of characters of a service's text that is shown, as in RunComfy's own tools.
pub const MAX_CHARS: usize = 300;

/// The text that replaces the token.
const REDACTED: &str = "[token]";

/// Cleans texts of a service that knows `secret`.
#[derive(Clone)]
pub struct TextSanitizer {
    secret: SecretString,
}

impl TextSanitizer {
    /// Creates a cleaner that removes every occurrence of `secret`.
    pub const fn new(secret: SecretString) -> Self {
        Self { secret }
    }

    /// Returns `text` with the secret replaced.
    pub fn redact(&self, text: &str) -> String {
        let secret = self.secret.expose_secret();
        if secret.is_empty() { text.to_owned() } else { text.replace(secret, REDACTED) }
    }

    /// Returns `text` as one line of at most [`MAX_CHARS`] characters, without control characters,
    /// invisible direction marks or the secret.
    pub fn single_line(&self, text: &str) -> String {
        // The secret is replaced after the control characters are removed, because one inside
        // the secret must not hide it, and before the text is cut, so that half of the secret
        // cannot remain.
        let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
        let words: Vec<&str> =
            visible.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let joined: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let clean = self.redact(&joined.join(" "));
        match clean.char_indices().nth(MAX_CHARS) {
            None => clean,
            Some(_) => clean.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
        }
    }
}

impl fmt::Debug for TextSanitizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleaner")
    }
}

/// Returns whether `c` draws nothing but changes how its neighbours are drawn, or is a control
/// character that does not separate words.
fn is_invisible(c: char) -> bool {
    let separates = matches!(c, '\t' | '\n' | '\r');
    (c.is_control() && !separates)
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaner() -> TextSanitizer {
        TextSanitizer::new(SecretString::from("s3cret"))
    }

    #[test]
    fn words_become_one_clean_line() {
        let text = "\u{1b}[31mbad\u{7}\r\n\tthing\u{202e} \u{0}here\n";
        assert_eq!(cleaner().single_line(text), "[31mbad thing here");
    }

    #[test]
    fn the_token_never_shows_not_even_cut_or_disguised() {
        assert_eq!(cleaner().single_line("no s3cret, s3\u{0}cret!"), "no [token], [token]!");
        let at_the_cut = format!("{}s3cret", "x".repeat(MAX_CHARS - 3));
        assert!(!cleaner().single_line(&at_the_cut).contains("s3"));
        assert!(!format!("{:?}", cleaner()).contains("s3cret"));
    }

    #[test]
    fn an_empty_secret_hides_nothing() {
        assert_eq!(TextSanitizer::new(SecretString::from("")).single_line("abc"), "abc");
    }

    proptest! {
        #[test]
        fn a_line_is_short_and_printable(text: String) {
            let line = cleaner().single_line(&text);
            prop_assert!(line.chars().count() <= MAX_CHARS);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
