//! Maps the domain's values to columns.
//!
//! Owns only this mapping: ids and words as text, times as milliseconds, money as micro-dollars,
//! fingerprints as 32 bytes. A value that does not map back is reported as damage, never guessed.

use std::time::Duration;

use rusqlite::{
    Row, RowIndex, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, Null, ToSqlOutput, ValueRef},
};

use crate::domain::{
    fingerprint::Fingerprint,
    job::{
        Cause, JobId, JobState, RequestId,
        artifact::ArtifactKind,
        attempt::AttemptEnd,
        cancel::{CancelOutcome, CancelReason},
        control::JobControl,
    },
    machines::{MachineId, MachineStage},
    money::MicroUsd,
    time::WallTime,
};

/// A word that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is not a valid {what}")]
struct UnknownName {
    what: &'static str,
    name: String,
}

/// Reads a text column with `find`, which knows all words.
fn from_name<T>(
    value: ValueRef<'_>,
    what: &'static str,
    find: impl FnOnce(&str) -> Option<T>,
) -> FromSqlResult<T> {
    let text = value.as_str()?;
    let unknown = || UnknownName { what, name: text.chars().take(40).collect() };
    find(text).ok_or_else(|| FromSqlError::other(unknown()))
}

/// A type that can be stored in a column. Neither rusqlite's traits nor the domain's types are
/// ours, so the ledger has its own traits.
pub(super) trait ToColumn {
    fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>>;
}

/// What can be read from a column.
pub(super) trait FromColumn: Sized {
    fn from_column(column: ValueRef<'_>) -> FromSqlResult<Self>;
}

/// A value on its way into a column or out of it.
pub(super) struct Sql<T>(pub T);

impl<T: ToColumn> ToSql for Sql<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_column()
    }
}

impl<T: FromColumn> FromSql for Sql<T> {
    fn column_result(column: ValueRef<'_>) -> FromSqlResult<Self> {
        T::from_column(column).map(Self)
    }
}

/// Reads a column as one of the domain's values.
pub(super) trait ReadColumn {
    fn column<T: FromColumn>(&self, index: impl RowIndex) -> rusqlite::Result<T>;
}

impl ReadColumn for Row<'_> {
    fn column<T: FromColumn>(&self, index: impl RowIndex) -> rusqlite::Result<T> {
        self.get(index).map(|Sql(value)| value)
    }
}

/// The parameters of a statement, in their order.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$crate::ledger::sql::Sql(&$value) as &dyn rusqlite::ToSql),*] as &[&dyn rusqlite::ToSql]
    };
}

/// The parameters of a statement, by their names.
macro_rules! named_params {
    ($($name:literal: $value:expr),* $(,)?) => {
        &[$(($name, &$crate::ledger::sql::Sql(&$value) as &dyn rusqlite::ToSql)),*]
            as &[(&str, &dyn rusqlite::ToSql)]
    };
}

pub(super) use {named_params, params};

impl<T: ToColumn + ?Sized> ToColumn for &T {
    fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        (**self).to_column()
    }
}

impl<T: ToColumn> ToColumn for Option<T> {
    fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.as_ref().map_or_else(|| Ok(ToSqlOutput::from(Null)), T::to_column)
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(column: ValueRef<'_>) -> FromSqlResult<Self> {
        match column {
            ValueRef::Null => Ok(None),
            _ => T::from_column(column).map(Some),
        }
    }
}

macro_rules! stored_as_it_is {
    ($($type:ty),*) => {$(
        impl ToColumn for $type {
            fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.to_sql()
            }
        }

        impl FromColumn for $type {
            fn from_column(column: ValueRef<'_>) -> FromSqlResult<Self> {
                Self::column_result(column)
            }
        }
    )*};
}

stored_as_it_is!(bool, u8, u32, i64, String);

impl ToColumn for str {
    fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.to_sql()
    }
}

macro_rules! stored_as {
    ($type:ty, $value:ident => $stored:expr, $column:ident => $read:expr) => {
        impl ToColumn for $type {
            fn to_column(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let $value = self;
                Ok(ToSqlOutput::from($stored))
            }
        }

        impl FromColumn for $type {
            fn from_column($column: ValueRef<'_>) -> FromSqlResult<Self> {
                $read
            }
        }
    };
}

stored_as!(JobId, id => id.to_string(), column => from_name(column, "job id", |text| text.parse().ok()));
stored_as!(RequestId, id => id.as_str(), column => from_name(column, "request id", RequestId::new));
stored_as!(MachineId, id => id.to_string(), column => from_name(column, "machine id", |text| text.parse().ok()));
stored_as!(MachineStage, stage => stage.name(), column => from_name(column, "stage of a machine", |text| {
    MachineStage::ALL.into_iter().find(|stage| stage.name() == text)
}));
stored_as!(JobState, state => state.name(), column => from_name(column, "state", JobState::from_name));
stored_as!(AttemptEnd, end => end.name(), column => from_name(column, "end of an attempt", AttemptEnd::from_name));
stored_as!(JobControl, control => control.name(), column => from_name(column, "control", JobControl::from_name));
stored_as!(CancelReason, reason => reason.name(), column => from_name(column, "reason of a cancel", CancelReason::from_name));
stored_as!(CancelOutcome, outcome => outcome.name(), column => from_name(column, "answer to a cancel", CancelOutcome::from_name));
stored_as!(Cause, cause => cause.name(), column => from_name(column, "cause", Cause::from_name));
stored_as!(ArtifactKind, kind => kind.name(), column => from_name(column, "kind of artifact", |text| {
    ArtifactKind::ALL.into_iter().find(|kind| kind.name() == text)
}));
stored_as!(WallTime, time => time.unix_millis(), column => column.as_i64().map(WallTime::from_unix_millis));
stored_as!(MicroUsd, amount => amount.0, column => column.as_i64().map(MicroUsd));
stored_as!(Fingerprint, fingerprint => fingerprint.as_bytes().as_slice(), column => {
    <[u8; 32]>::column_result(column).map(Fingerprint::from_bytes)
});

/// Returns a duration in milliseconds for a column.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Cuts `text` to `most` characters and marks the cut.
pub(super) fn truncate(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
