//! What a person and other programs reach of a running daemon: the socket, and the status it shows.
//!
//! Owns how it is reached and shown. What a command does is the event loop's.

pub mod routes;
pub mod socket;
pub(crate) mod status_view;
