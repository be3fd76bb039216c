//! Settings of parts that do not exist yet: accepted, validated, and reported to the user who
//! set them.
//!
//! Owns one table, which shrinks as the parts are built; this file is removed when the table
//! is empty.

use super::sources::{
    Layer,
    origin::{Origin, Origins},
    toml_source::{Table, table_of},
};

/// A key (an empty key means the whole section), and what is missing so far.
const UNIMPLEMENTED: [(&str, &str, &str); 1] = [("page", "", "there is no page")];

/// Lists the settings that have no effect yet, with the origin of the last value.
pub(super) fn not_in_effect(layers: &[Layer], places: &Origins) -> Vec<String> {
    let unsupported = UNIMPLEMENTED.iter().filter_map(|(section, key, yet)| {
        let mut set = layers.iter().rev().filter(|layer| layer.by_user);
        let origin = set.find_map(|layer| {
            let table = layer.table.get(*section).and_then(table_of)?;
            origin_in(table, key, places)
        })?;
        let name =
            if key.is_empty() { format!("[{section}]") } else { format!("`{section}.{key}`") };
        Some(format!("{name} ({origin}): {yet} yet"))
    });
    unsupported.collect()
}

/// Returns where a section's key is set. For the empty key, returns the section's first key in the
/// file, because a table has no order and that line is the easiest to find.
fn origin_in(table: &Table, key: &str, places: &Origins) -> Option<Origin> {
    let first = || table.values().min_by_key(|value| places.of(value).line());
    let value = if key.is_empty() { first() } else { table.get(key) };
    value.map(|value| places.of(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::toml_source::{TextSource, read_document};

    #[test]
    fn a_section_is_named_with_its_first_line_every_time_and_a_key_with_its_own() {
        // Found by fuzzing: a table has no order, and each load named another line.
        let text = "[part]\nsize = 1\ncolour = 2\nage = 3\nname = 4\n";
        for _ in 0..20 {
            let mut places = Origins::default();
            let table = read_document(text, &TextSource::BuiltIn, &mut places).expect("TOML");
            let part = table.get("part").and_then(table_of).expect("a section");
            assert_eq!(origin_in(part, "", &places), Some(Origin::BuiltIn(2)));
            assert_eq!(origin_in(part, "age", &places), Some(Origin::BuiltIn(4)));
            assert_eq!(origin_in(part, "none", &places), None);
        }
    }
}
