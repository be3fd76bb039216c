//! The job's own copy of its mesh: the file that `mesh_path` names.
//!
//! Owns creating and removing copies. Blender opens the file an unlimited time after the command,
//! and by then the public name may show the next job; and files in history are private to our user,
//! who need not be the artist. So each handoff has a copy next to the public meshes. It is complete
//! before it gets its name, and is never written again. It stays until the next handoff begins: a
//! person may look at it, and a late Blender still finds it.

use std::path::Path;

use crate::{
    disk::{
        place::{self, PlaceFault, sweep},
        read,
    },
    domain::{
        blender::handoff::{HandoffTicket, job_of_copy},
        job::{
            artifact::ArtifactKind,
            placement::{self, Artifact, Targets},
        },
    },
};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyFault {
    /// The name is not possible.
    #[error(transparent)]
    Plan(#[from] placement::PlanError),
    /// A disk error.
    #[error(transparent)]
    Place(#[from] PlaceFault),
}

/// Makes the copy that a ticket names, unless it is there, and removes all others: nothing in
/// CONJURE's file leads to them any more, but a late or stale request could. A checkout (`root`)
/// that is gone is not made anew.
pub fn make(
    ticket: &HandoffTicket,
    root: &Path,
    folder: &Path,
    mesh: &Path,
) -> Result<(), CopyFault> {
    let own = ticket.path();
    let own_name = Path::new(&own).file_name().unwrap_or_default();
    // A copy that cannot be removed now (Blender on Windows may have it open) is removed the
    // next time.
    sweep::remove(folder, |name| job_of_copy(name).is_some() && name != own_name);
    if matches!(read::stamp(Path::new(&own)), Ok(Some(_))) {
        return Ok(());
    }
    let artifact = Artifact { kind: ArtifactKind::Mesh, path: mesh.to_path_buf() };
    let targets = Targets { image: Vec::new(), mesh: vec![own.into()] };
    let plan = placement::plan(ticket.job(), &[artifact], &targets)?;
    place::place(&plan, root, &mut |_| std::ops::ControlFlow::Continue(()))?;
    Ok(())
}
