//! Gradio, as both of its protocols are spoken: calls, their events, and what a Space says of itself.
//!
//! Owns the wire. What is asked of which Space, and in which order, is [`super`]'s.

pub(crate) mod calls;
pub(crate) mod describe;
pub(crate) mod events;
pub(crate) mod reply;
pub(crate) mod sse;
pub(crate) mod upload;
pub(crate) mod wire;
