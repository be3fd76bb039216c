//! The words a person types and reads.
//!
//! (being built)

pub mod args;
