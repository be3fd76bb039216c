//! Prepares names from a graph for messages: shortens, escapes and lists them, and finds the one
//! that was probably meant.
//!
//! Owns no workflow rules. Ids, titles and input names come from untrusted files, so the output has
//! a bounded size and contains no control characters.

/// How many names a message lists.
const MAX_LISTED: usize = 12;

/// How many characters of a name are shown or compared.
const MAX_CHARACTERS: usize = 60;

/// The similarity (Jaro-Winkler, 0 to 1) from which two words count as a typing error: `promt` and
/// `prompt` have 0.96, `seed` and `steps` 0.67.
const MIN_SIMILARITY: f64 = 0.8;

/// Returns `name` shortened to a readable length, with control characters escaped.
pub(super) fn display_name(name: &str) -> String {
    let mut text: String =
        name.chars().take(MAX_CHARACTERS).flat_map(|c| printable(c).into_iter()).collect();
    if name.chars().nth(MAX_CHARACTERS).is_some() {
        text.push('…');
    }
    text
}

fn printable(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

/// Returns a list such as `a, b, c and 7 more`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> = names.by_ref().take(MAX_LISTED).map(display_name).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Returns the names that `word` may stand for, the most similar first, at most three.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = folded(word);
    let mut alike: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &folded(name)), name))
        .filter(|(alike, _)| *alike >= MIN_SIMILARITY)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    alike.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Returns a form for comparison, without case, spaces and separators, and limited in length.
fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-'))
        .take(MAX_CHARACTERS)
        .flat_map(char::to_lowercase)
        .collect()
}
