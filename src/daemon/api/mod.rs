//! The part of a running daemon that people and other programs can reach: the socket, and the
//! status that it shows.
//!
//! Owns how it is reached and shown. What a command does is decided by the event loop.

pub mod routes;
pub mod socket;
pub(crate) mod status_view;
