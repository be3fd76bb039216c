//! What the artist gives: the prompt, the render and the hands, and when a change of them counts.
//!
//! Owns reading and timing as values. Whether a change becomes a job is the engine's decision.

pub mod prompt;
pub mod png;
pub mod debounce;
pub mod trigger;
pub mod hand_tracking;
