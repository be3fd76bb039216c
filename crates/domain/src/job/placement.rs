//! Plans a placement: which public name gets which artifact, and in which order, so that readers
//! and crashes only ever see complete files.
//!
//! The rule: every temporary file of the whole set is written and synced *before* the first public
//! name changes, then the image's names change, then the mesh's, then the folders are synced. Every
//! step may be repeated. Owns the order and the temporary names; `disk::place` executes the plan on
//! the file system.

use std::path::{Path, PathBuf};

use super::{JobId, artifact::ArtifactKind};
use crate::time::WallTime;

/// The prefix of all our temporary files. It hides them and must never change, so that they
/// stay recognisable.
pub const TEMPORARY_PREFIX: &str = ".conjured-";

/// The suffix of all our temporary files. It is neither `.glb` nor `.png`, because CONJURE takes
/// the newest `*.glb` in a folder for a finished mesh.
pub const TEMPORARY_SUFFIX: &str = ".part";

/// Returns whether a file name has the form of our temporary files.
pub fn is_temporary(name: &str) -> bool {
    name.len() > TEMPORARY_PREFIX.len() + TEMPORARY_SUFFIX.len()
        && name.starts_with(TEMPORARY_PREFIX)
        && name.ends_with(TEMPORARY_SUFFIX)
}

/// A checked file in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The kind of artifact.
    pub kind: ArtifactKind,
    /// The path of the file.
    pub path: PathBuf,
}

/// The public names of a project, as absolute paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The paths of the image.
    pub image: Vec<PathBuf>,
    /// The paths of the mesh.
    pub mesh: Vec<PathBuf>,
}

impl Targets {
    /// Returns the names of one kind, in the order of the configuration.
    pub fn of(&self, kind: ArtifactKind) -> &[PathBuf] {
        match kind {
            ArtifactKind::Image => &self.image,
            ArtifactKind::Mesh => &self.mesh,
        }
    }

    /// Returns the same file names in another folder, one for each kind.
    #[must_use]
    pub fn within(&self, folder: &Path) -> Self {
        let within = |names: &[PathBuf]| {
            names.iter().filter_map(|name| Some(folder.join(name.file_name()?))).take(1).collect()
        };
        Self { image: within(&self.image), mesh: within(&self.mesh) }
    }
}

/// One public name and the artifact it will show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicName {
    /// The kind of artifact.
    pub kind: ArtifactKind,
    /// The artifact in history.
    pub source: PathBuf,
    /// The public name as configured; it may be a symlink, which is followed when the plan
    /// is executed.
    pub target: PathBuf,
    /// The name of the temporary file, in the folder that really contains the target.
    pub temporary: String,
    /// The modification time to set; `None` keeps the file's own. CONJURE's launcher imports by
    /// file time.
    pub modified: Option<WallTime>,
}

/// One step of a plan. The numbers index [`PlacementPlan::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacementStep {
    /// Writes and syncs the temporary file of a name. Nothing public changes.
    Write(usize),
    /// Renames the temporary file onto its public name.
    Publish(usize),
    /// Syncs every folder that got a new name, so that a power loss cannot undo the renames.
    SyncFolders,
}

/// A planned placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementPlan {
    /// The public names, image before mesh.
    pub names: Vec<PublicName>,
    /// The steps, in order.
    pub steps: Vec<PlacementStep>,
}

impl PlacementPlan {
    /// Sets the same modification time for every public file of `kind`.
    #[must_use]
    pub fn with_file_time(mut self, kind: ArtifactKind, modified: WallTime) -> Self {
        for name in self.names.iter_mut().filter(|name| name.kind == kind) {
            name.modified = Some(modified);
        }
        self
    }
}

/// A configuration for which no placement is possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A relative path.
    #[error("the public name {} is not an absolute path", .0.display())]
    NotAbsolute(PathBuf),
    /// A path that ends in `..` or is a root.
    #[error("the public name {} must end in a file name, such as result.glb", .0.display())]
    NoFileName(PathBuf),
    /// A name that looks like one of our temporary files and would be deleted at the next start.
    #[error("the public name {} looks like a temporary file of conjured: choose another name", .0.display())]
    Temporary(PathBuf),
    /// Image and mesh would overwrite each other.
    #[error("the public name {} is used for both the image and the mesh: use two different names", .0.display())]
    Twice(PathBuf),
}

/// Plans the placement of a job's artifacts. The public files of a kind without an artifact stay as
/// they are; a name that is listed twice is written once.
pub fn plan(
    job: JobId,
    artifacts: &[Artifact],
    targets: &Targets,
) -> Result<PlacementPlan, PlanError> {
    let mut names: Vec<PublicName> = Vec::new();
    for kind in ArtifactKind::ALL {
        let Some(artifact) = artifacts.iter().find(|artifact| artifact.kind == kind) else {
            continue;
        };
        for target in targets.of(kind) {
            check(target)?;
            match names.iter().find(|name| name.target == *target) {
                Some(earlier) if earlier.kind != kind => {
                    return Err(PlanError::Twice(target.clone()));
                }
                Some(_) => {}
                None => names.push(PublicName {
                    kind,
                    source: artifact.path.clone(),
                    target: target.clone(),
                    temporary: temporary_name(job, names.len()),
                    modified: None,
                }),
            }
        }
    }
    let mut steps: Vec<PlacementStep> = (0..names.len()).map(PlacementStep::Write).collect();
    steps.extend((0..names.len()).map(PlacementStep::Publish));
    if !names.is_empty() {
        steps.push(PlacementStep::SyncFolders);
    }
    Ok(PlacementPlan { names, steps })
}

fn check(target: &Path) -> Result<(), PlanError> {
    if !target.is_absolute() {
        return Err(PlanError::NotAbsolute(target.to_path_buf()));
    }
    match target.file_name() {
        None => Err(PlanError::NoFileName(target.to_path_buf())),
        Some(name) if is_temporary(&name.to_string_lossy()) => {
            Err(PlanError::Temporary(target.to_path_buf()))
        }
        Some(_) => Ok(()),
    }
}

fn temporary_name(job: JobId, number: usize) -> String {
    format!("{TEMPORARY_PREFIX}{job}-{number}{TEMPORARY_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn job() -> JobId {
        JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), 7)
    }

    /// Returns an absolute path: on Windows `/p` is relative to the current drive.
    fn at(path: &str) -> PathBuf {
        if cfg!(windows) { format!("C:{path}").into() } else { path.into() }
    }

    fn both() -> Vec<Artifact> {
        vec![
            Artifact { kind: ArtifactKind::Mesh, path: "/history/mesh.glb".into() },
            Artifact { kind: ArtifactKind::Image, path: "/history/image.png".into() },
        ]
    }

    fn targets(image: &[&str], mesh: &[&str]) -> Targets {
        let absolute = |name: &&str| if name.starts_with('/') { at(name) } else { name.into() };
        let paths = |names: &[&str]| names.iter().map(absolute).collect();
        Targets { image: paths(image), mesh: paths(mesh) }
    }

    #[test]
    fn everything_is_written_before_anything_is_shown_and_the_image_is_shown_first() {
        let plan = plan(job(), &both(), &targets(&["/p/flux.png"], &["/p/a.glb", "/p/b.glb"]))
            .expect("a good plan");
        assert_eq!(
            plan.steps,
            [
                PlacementStep::Write(0),
                PlacementStep::Write(1),
                PlacementStep::Write(2),
                PlacementStep::Publish(0),
                PlacementStep::Publish(1),
                PlacementStep::Publish(2),
                PlacementStep::SyncFolders
            ]
        );
        assert_eq!(plan.names[0].kind, ArtifactKind::Image);
        assert_eq!(plan.names[2].target, at("/p/b.glb"));
    }

    #[test]
    fn a_missing_mesh_leaves_the_public_meshes_unchanged() {
        let artifacts = [both().remove(1)];
        let plan = plan(job(), &artifacts, &targets(&["/p/flux.png"], &["/p/a.glb"]));
        assert_eq!(plan.expect("a good plan").names.len(), 1);
    }

    #[test]
    fn names_that_cannot_work_are_refused() {
        let refused = |image: &str, mesh: &str| plan(job(), &both(), &targets(&[image], &[mesh]));
        assert_eq!(refused("a.png", "/b.glb"), Err(PlanError::NotAbsolute("a.png".into())));
        assert_eq!(refused("/", "/b.glb"), Err(PlanError::NoFileName(at("/"))));
        assert_eq!(refused("/x", "/x"), Err(PlanError::Twice(at("/x"))));
        let swept = "/p/.conjured-x.part";
        assert_eq!(refused(swept, "/b.glb"), Err(PlanError::Temporary(at(swept))));
    }

    #[test]
    fn only_the_named_kind_is_dated() {
        let when = WallTime::from_unix_millis(5);
        let plan = plan(job(), &both(), &targets(&["/p/flux.png"], &["/p/a.glb"]))
            .expect("a good plan")
            .with_file_time(ArtifactKind::Mesh, when);
        assert_eq!(plan.names[0].modified, None);
        assert_eq!(plan.names[1].modified, Some(when));
    }

    #[test]
    fn another_programs_file_never_counts_as_our_temporary_file() {
        for stranger in [".conjured-.part", "x.part", ".conjured-a.glb", "conjured-a.part", ""] {
            assert!(!is_temporary(stranger), "{stranger:?}");
        }
    }

    proptest! {
        #[test]
        fn every_plan_keeps_the_order_and_serves_each_name_once(
            image in proptest::collection::vec("/[a-c]{1,2}/[a-c]{1,2}\\.png", 0..6),
            mesh in proptest::collection::vec("/[a-c]{1,2}/[a-c]{1,2}\\.glb", 0..6),
            has_image: bool,
            has_mesh: bool,
        ) {
            let mut artifacts = both();
            artifacts.retain(|artifact| match artifact.kind {
                ArtifactKind::Image => has_image,
                ArtifactKind::Mesh => has_mesh,
            });
            let wanted: BTreeSet<PathBuf> = (if has_image { image.iter() } else { [].iter() })
                .chain(if has_mesh { mesh.iter() } else { [].iter() })
                .map(|name| at(name))
                .collect();
            let targets = Targets {
                image: image.iter().map(|name| at(name)).collect(),
                mesh: mesh.iter().map(|name| at(name)).collect(),
            };
            let plan = plan(job(), &artifacts, &targets).expect("the names are good");

            let served: BTreeSet<_> = plan.names.iter().map(|name| name.target.clone()).collect();
            prop_assert_eq!(served.len(), plan.names.len());
            prop_assert_eq!(served, wanted);
            let temporaries: BTreeSet<_> = plan.names.iter().map(|name| &name.temporary).collect();
            prop_assert_eq!(temporaries.len(), plan.names.len());
            prop_assert!(temporaries.iter().all(|name| is_temporary(name)));

            let at = |wanted: PlacementStep| plan.steps.iter().position(|step| *step == wanted);
            for number in 0..plan.names.len() {
                let shown = at(PlacementStep::Publish(number)).expect("every name is shown");
                prop_assert!((0..plan.names.len()).all(|other| at(PlacementStep::Write(other)) < Some(shown)));
                for (other, name) in plan.names.iter().enumerate() {
                    if name.kind < plan.names[number].kind {
                        prop_assert!(at(PlacementStep::Publish(other)) < Some(shown));
                    }
                }
            }
            if !plan.names.is_empty() {
                prop_assert_eq!(plan.steps.last(), Some(&PlacementStep::SyncFolders));
                prop_assert_eq!(plan.steps.len(), 2 * plan.names.len() + 1);
            }
        }
    }
}
