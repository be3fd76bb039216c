//! What the promise tests share: a real daemon as a child process, a project for it, and a service that is not real.
//!
//! Owns no test. The rules of everything in here: loopback only, a folder of its own for each test, processes ended by
//! their own handle, and no pause without a condition and a deadline ([`patience`]).
//!
//! - [`patience`]: waiting, with the one knob for slow machines;
//! - [`service`]: the simulator, on a thread and a runtime of its own;
//! - [`stage`]: a temporary project, its configuration, and questions about what became of it;
//! - [`daemon`]: `conjured run` as a child;
//! - [`fake_conjure`]: Blender, launcher and API around `state.json`, with every trap of theirs;
//! - [`tunnel`]: a port before the service, with TLS or without, that a test may spoil;
//! - [`media`]: small pictures and meshes, and whether a public file is whole.

pub(crate) mod patience;
pub(crate) mod service;
pub(crate) mod stage;
pub(crate) mod daemon;
pub(crate) mod media;
pub(crate) mod fake_conjure;
pub(crate) mod tunnel;
