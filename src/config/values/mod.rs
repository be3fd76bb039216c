//! One value as it was written, read as the type that its setting has.
//!
//! Owns types and complaints of single values. Which settings there are is [`super::sections`]'.

pub(crate) mod raw_value;
pub(crate) mod reader;
pub(crate) mod addresses;
pub mod folders;
pub(crate) mod same_path;
