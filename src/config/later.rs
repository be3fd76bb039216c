//! Settings of parts that do not exist yet: accepted, checked, and named to whoever set them.
//!
//! Owns one table, which shrinks as the parts are built; when it is empty this file goes.

use super::{
    layer::{Layer, table_of},
    place::Places,
    settings::Config,
    words::Mode,
};

/// A key, or with an empty key a whole section, and what is not done about it yet.
const LATER: [(&str, &str, &str); 3] = [
    ("local", "", "no job runs locally"),
    ("cloud", "", "no job runs on a RunComfy machine"),
    ("page", "", "there is no page"),
];

/// Lists what a person set and what has no effect, with the place where it is set last.
pub(super) fn not_in_effect(config: &Config, layers: &[Layer], places: &Places) -> Vec<String> {
    let mut list = Vec::new();
    if matches!(config.mode, Mode::Local | Mode::Cloud) {
        let set = layers.iter().rev().filter(|layer| layer.by_person);
        let place =
            set.filter_map(|layer| layer.table.get("mode")).map(|value| places.of(value)).next();
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        list.push(format!("`mode = \"{}\"`{place}: no job runs there yet", config.mode));
    }
    for (section, key, yet) in LATER {
        let set = layers.iter().rev().filter(|layer| layer.by_person).find_map(|layer| {
            let table = layer.table.get(section).and_then(table_of)?;
            // A table has no order: the first in the file is what a person looks for.
            let first = || table.values().min_by_key(|value| places.of(value).line());
            if key.is_empty() { first() } else { table.get(key) }
        });
        let Some(value) = set else { continue };
        let name =
            if key.is_empty() { format!("[{section}]") } else { format!("`{section}.{key}`") };
        list.push(format!("{name} ({}): {yet} yet", places.of(value)));
    }
    list
}
