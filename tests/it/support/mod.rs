//! What these tests share: a real daemon as a child process, a project for it, and a
//! simulated service.
//!
//! Owns no test. The rules for everything in here: loopback only, a separate folder for each
//! test, processes ended by their own handle, and no pause without a condition and a
//! deadline ([`patience`]).
//!
//! - [`patience`]: waiting, with the only knob for slow machines;
//! - [`service`]: the simulator, on its own thread and runtime;
//! - [`stage`]: a temporary project, its configuration, and questions about the result;
//! - [`daemon`]: `conjured run` as a child;
//! - [`fake_conjure`]: Blender, launcher and API around `state.json`, with all their pitfalls;
//! - [`tunnel`]: a port in front of the service, with TLS or without, that a test may disturb;
//! - [`media`]: small pictures and meshes, and whether a public file is complete.

pub(crate) mod patience;
pub(crate) mod service;
pub(crate) mod stage;
pub(crate) mod daemon;
pub(crate) mod media;
pub(crate) mod fake_conjure;
pub(crate) mod tunnel;
