//! The artist's side of a result: how CONJURE takes a mesh into Blender, and what else may write there.
//!
//! Owns meanings and decisions. Reading and writing CONJURE's files is the program's.

pub mod handoff;
pub mod competing_launcher;
