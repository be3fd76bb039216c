//! A `.env` file: `NAME=value` lines, read as shells and Python's readers agree on them.
//!
//! Owns the notation. It expands nothing, runs nothing, and keeps only the requested names. CONJURE
//! itself does not read such a file, it uses what its shell exports; but people do keep their
//! exports there.

use std::collections::BTreeMap;

/// Reads the variables whose names `wanted` accepts; a later line overrides an earlier one. Other
/// lines are ignored.
pub fn read(text: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let name = name.trim();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (!name.is_empty() && name.chars().all(plain) && wanted(name))
                .then(|| (name.to_owned(), parse_value(value.trim())))
        })
        .collect()
}

fn parse_value(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            // Everything after the closing quote is a comment.
            return rest.split(quote).next().unwrap_or_default().to_owned();
        }
    }
    let end = value.find(" #").unwrap_or(value.len());
    value[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ways_to_write_a_variable_are_read_and_others_are_passed_over() {
        let text = "\u{feff}# a comment\nRUNCOMFY_A=1\r\nexport RUNCOMFY_B = \"two words\" # why\n\
                    RUNCOMFY_C='it # is' \nRUNCOMFY_D=plain # not this\nOTHER=9\nno assignment\nRUNCOMFY_A=3\n=5\n\
                    RUNCOMFY_E=\nRUNCOMFY-F=1";
        let found = read(text, |name| name.starts_with("RUNCOMFY"));
        let told: Vec<_> = found.iter().map(|(name, value)| format!("{name}|{value}")).collect();
        assert_eq!(
            told,
            [
                "RUNCOMFY_A|3",
                "RUNCOMFY_B|two words",
                "RUNCOMFY_C|it # is",
                "RUNCOMFY_D|plain",
                "RUNCOMFY_E|"
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = read(&text, |_| true);
        }
    }
}
