//! One layer of settings: a table from one file or from the environment, and the merging of layers.
//!
//! Owns how layers are merged, which the `config` crate does: tables are merged key by key;
//! everything else, including lists, is replaced by the later layer. [`crate::config::load`]
//! decides which layers there are, and their order.

use ::config::{ConfigError as MergeError, Map, Source, Value, ValueKind};

use super::toml_source::Table;

/// One layer.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Layer {
    /// The settings, each with its origin.
    pub table: Table,
    /// Whether the user wrote it; false for the built-in defaults.
    pub by_user: bool,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, MergeError> {
        Ok(self.table.clone())
    }
}

/// Merges `layers`; later ones override earlier ones. Their keys were checked before, so that none
/// is an expression in the `config` crate's own language (`a.b`, `a[0]`).
pub(in crate::config) fn merge(layers: &[Layer]) -> Result<Table, MergeError> {
    let mut builder = ::config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    Ok(table_of(&builder.build()?.cache).cloned().unwrap_or_default())
}

/// Returns the value's table, if it is one.
pub(in crate::config) fn table_of(value: &Value) -> Option<&Table> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// Returns the items of the value's list, if it is one.
pub(in crate::config) fn items_of(value: &Value) -> Option<&[Value]> {
    match &value.kind {
        ValueKind::Array(items) => Some(items),
        _ => None,
    }
}
