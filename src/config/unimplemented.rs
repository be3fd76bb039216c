//! Settings of parts that do not exist yet: accepted, checked, and named to whoever set them.
//!
//! Owns one table, which shrinks as the parts are built; when it is empty this file goes.

use super::sources::{
    layer::{Layer, table_of},
    origin::{Place, Places},
    toml_source::Table,
};

/// A key, or with an empty key a whole section, and what is not done about it yet.
const LATER: [(&str, &str, &str); 1] = [("page", "", "there is no page")];

/// Lists what a person set and what has no effect, with the place where it is set last.
pub(super) fn not_in_effect(layers: &[Layer], places: &Places) -> Vec<String> {
    let told = LATER.iter().filter_map(|(section, key, yet)| {
        let mut set = layers.iter().rev().filter(|layer| layer.by_person);
        let place = set.find_map(|layer| {
            let table = layer.table.get(*section).and_then(table_of)?;
            place_in(table, key, places)
        })?;
        let name =
            if key.is_empty() { format!("[{section}]") } else { format!("`{section}.{key}`") };
        Some(format!("{name} ({place}): {yet} yet"))
    });
    told.collect()
}

/// Returns where a key is set in a section; for the empty key, where its first one is: a table has no order, and the first
/// in the file is what a person looks for.
fn place_in(table: &Table, key: &str, places: &Places) -> Option<Place> {
    let first = || table.values().min_by_key(|value| places.of(value).line());
    let value = if key.is_empty() { first() } else { table.get(key) };
    value.map(|value| places.of(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::toml_source::{Whose, read_document};

    #[test]
    fn a_section_is_named_with_its_first_line_every_time_and_a_key_with_its_own() {
        // Found by fuzzing: the table that holds it has no order, and each loading named another line.
        let text = "[part]\nsize = 1\ncolour = 2\nage = 3\nname = 4\n";
        for _ in 0..20 {
            let mut places = Places::default();
            let table = read_document(text, &Whose::BuiltIn, &mut places).expect("TOML");
            let part = table.get("part").and_then(table_of).expect("a section");
            assert_eq!(place_in(part, "", &places), Some(Place::BuiltIn(2)));
            assert_eq!(place_in(part, "age", &places), Some(Place::BuiltIn(4)));
            assert_eq!(place_in(part, "none", &places), None);
        }
    }
}
