//! Gradio's two protocols: calls, their events, and a Space's description of itself.
//!
//! Owns the wire format. Which Space gets which call, and in which order, is decided by [`super`].

pub(crate) mod calls;
pub(crate) mod describe;
pub(crate) mod events;
pub(crate) mod reply;
pub(crate) mod sse;
pub(crate) mod upload;
pub(crate) mod wire;
