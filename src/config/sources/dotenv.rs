//! A `.env` file: `NAME=value` lines, as shells and Python's readers of it agree on them.
//!
//! Owns the notation. It expands nothing and runs nothing, and keeps only the names it is asked for. CONJURE itself reads
//! no such file, it takes what its shell exports; people keep their exports there all the same.

use std::collections::BTreeMap;

/// Reads the variables whose names `wanted` accepts; a later line wins. Lines that are none are passed over.
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
                .then(|| (name.to_owned(), unquoted(value.trim())))
        })
        .collect()
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            // What follows the closing quote is a comment.
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
