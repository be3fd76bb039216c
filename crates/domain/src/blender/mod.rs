//! The artist's side of a result: how CONJURE takes a mesh into Blender, and which other programs
//! may write there.
//!
//! Owns meanings and decisions. The program reads and writes CONJURE's files.

pub mod handoff;
pub mod competing_launcher;
