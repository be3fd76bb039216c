//! What is typed once: the first configuration, the tokens, completions and the manual.
//!
//! Owns no command; each has its file.

pub(crate) mod ask;
pub(crate) mod init;
pub(crate) mod login;
pub(crate) mod shells;
