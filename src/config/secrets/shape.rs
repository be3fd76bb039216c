//! Recognizes what looks like a secret: names and values that must not be in a configuration file,
//! and masks what an error quotes from one.
//!
//! Owns only heuristics. A RunComfy token has no documented form and may look like a
//! deployment id, so a name is better evidence than a value, and a text is masked more readily
//! than it is rejected.

/// The longest text that an error quotes, in characters.
const MAX_QUOTED_CHARS: usize = 48;

/// A run of letters, digits and dashes of this length that contains a digit is not quoted, because
/// ids and tokens look like that.
const MIN_SECRET_RUN: usize = 16;

/// Returns whether a key of this name suggests a secret. Known keys (`token_file`) are not
/// passed in.
pub(in crate::config) fn is_secret_name(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["token", "secret", "password", "passwd", "apikey", "bearer", "authorization", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// Returns whether a text has the form of a known kind of token.
pub(in crate::config) fn is_secret_value(text: &str) -> bool {
    let text = text.trim();
    let tail_is_long = |prefix: &str| {
        text.strip_prefix(prefix).is_some_and(|tail| {
            tail.len() >= MIN_SECRET_RUN
                && tail.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        })
    };
    let bearer = text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("bearer "));
    // A JSON Web Token: three parts, of which the first is Base64 of `{"`.
    let web_token = text.starts_with("eyJ") && text.split('.').count() == 3 && text.len() >= 40;
    bearer || web_token || ["hf_", "sk-"].into_iter().any(tail_is_long)
}

/// Returns whether a text that should be the *path* of a token is the token itself: one long word
/// without a separator or an extension.
pub(in crate::config) fn is_token_instead_of_path(text: &str) -> bool {
    let text = text.trim();
    text.len() >= 20
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        && text.contains(|c: char| c.is_ascii_digit())
}

/// Returns a text as an error quotes it: escaped, shortened, and masked if it could be a secret.
pub(in crate::config) fn quoted(text: &str) -> String {
    if is_secret_value(text) || has_long_run(text) {
        return "a text that is not shown here because it could be a secret".to_owned();
    }
    format!("{:?}", shortened(text))
}

/// Returns a key's name as an error shows it.
pub(in crate::config) fn display_key(name: &str) -> String {
    if is_secret_value(name) || has_long_run(name) {
        return "…".to_owned();
    }
    shortened(name).chars().flat_map(char::escape_debug).collect()
}

/// Returns a line of a file as an error shows it: long runs become dots of the same width, so that
/// a caret below still points at the right column, and everything after a secret's name is removed.
pub(in crate::config) fn masked_line(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if is_secret_name(line.split('=').next().unwrap_or_default()) {
        // Without a `=` the name cannot be separated from the secret, so nothing is shown.
        let kept = line.find('=').map_or(0, |at| at + 1);
        let (shown, hidden) = line.split_at(kept);
        return shown.chars().chain(hidden.chars().map(mask_char)).collect();
    }
    let mut masked = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let run = rest.find(|c: char| !is_run_char(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(run);
        masked.extend(word.chars().map(|c| if is_long_run(word) { '·' } else { c }));
        let next = tail.find(is_run_char).unwrap_or(tail.len());
        masked.push_str(&tail[..next]);
        rest = &tail[next..];
    }
    masked
}

const fn mask_char(c: char) -> char {
    if c == ' ' { ' ' } else { '·' }
}

const fn is_run_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+')
}

fn is_long_run(word: &str) -> bool {
    word.len() >= MIN_SECRET_RUN && word.contains(|c: char| c.is_ascii_digit())
}

fn has_long_run(text: &str) -> bool {
    text.split(|c| !is_run_char(c)).any(is_long_run)
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_however_they_are_spelled() {
        for name in ["token", "api_token", "API-Key", "apikey", "accessToken", "password"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["deployment_id", "keep_days", "hardware", "tokyo"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_token_in_place_of_its_path_is_noticed_and_a_path_is_not() {
        assert!(is_token_instead_of_path("0a1b2c3d4e5f60718293a4b5"));
        for path in
            ["runcomfy_token", "~/tokens/runcomfy2026.txt", "/run/secrets/0a1b2c3d4e5f607182"]
        {
            assert!(!is_token_instead_of_path(path), "{path}");
        }
    }

    #[test]
    fn a_masked_line_keeps_its_columns_and_loses_its_secret() {
        let line = "deployment_id = \"0a1b2c3d4e5f60718293\" trailing";
        let masked = masked_line(line);
        assert_eq!(masked, "deployment_id = \"····················\" trailing");
        assert_eq!(masked.chars().count(), line.chars().count());
        assert_eq!(masked_line("api_token = very secret"), "api_token = ···· ······");
        assert_eq!(masked_line("my token is short"), "·· ····· ·· ·····");
    }
}
