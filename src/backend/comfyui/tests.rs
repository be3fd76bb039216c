//! The adapter against a fake server.
