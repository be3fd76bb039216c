//! The preparation during the debounce window: the picture in its best form, the body in one
//! buffer, the inputs on the disk.
//!
//! Owns what a job is made of before it has an id. Blocking, for the pool; nothing in here leaves
//! the machine or costs money.

use std::io::Read as _;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    backend::work::{GraphPayload, Payload, SpacesPayload, Upload},
    daemon::services::{
        command::CommandErrorKind,
        runtime_config::{RuntimeConfig, bound_workflow::BoundWorkflow},
    },
    disk::{
        DiskError,
        history::{History, JobFolder, Staged, artifact_name},
        read::{self, ReadOutcome},
    },
    domain::{
        fingerprint::Fingerprint,
        inputs::png,
        job::{Inputs, JobId, artifact::ArtifactKind, choose_backend::BackendKind},
        mesh,
        picture::{self, ImageForm, PictureFault},
        request::{
            overrides::{self, Body, BodyPlan, Picture, SeedChoice, Seeds, WorkflowInputs},
            workflow::role::Role,
        },
    },
    ledger::rows::{ArtifactRow, JobRow},
};

/// One complete snapshot in memory.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotContent {
    pub(crate) inputs: Inputs,
    pub(crate) prompt: String,
    pub(crate) render: Bytes,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(crate) struct PreparedRequest {
    pub(crate) inputs: Inputs,
    pub(crate) prompt: String,
    /// The render as it was read, because another backend may need another form.
    pub(crate) render: Bytes,
    pub(crate) seeds: Seeds,
    pub(crate) built: BuiltRequest,
    pub(crate) staged: Staged,
}

/// What is sent to one backend.
#[derive(Debug)]
pub(crate) struct BuiltRequest {
    pub(crate) backend: BackendKind,
    pub(crate) payload: Payload,
    /// Equal digests mean equal work, on backends that run the same workflow.
    pub(crate) digest: Fingerprint,
    /// The size of what is sent, without the protocol's own overhead.
    pub(crate) bytes: u64,
    /// The values without the picture, for people.
    pub(crate) summary: Value,
    /// The name and the fingerprint of the workflow.
    pub(crate) workflow: String,
    pub(crate) version: Fingerprint,
}

/// Why no request can be made from a snapshot. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareFault {
    /// The picture cannot be used.
    #[error("the render cannot be sent: {0}; nothing was sent")]
    Picture(#[from] PictureFault),
    /// The workflow's bindings do not fit it.
    #[error("{0}; nothing was sent")]
    Bindings(String),
    /// The history cannot be written or read.
    #[error("the inputs cannot be saved in the history: {0}; nothing was sent")]
    Disk(#[from] DiskError),
    /// The inputs of an older job are gone.
    #[error("its inputs are no longer in the history folder; nothing was sent")]
    InputsLost,
    /// The same bytes can no longer be produced.
    #[error("{0}; nothing was sent")]
    NotReproducible(String),
}

impl PrepareFault {
    /// Returns how a command is refused that needs this request.
    pub(crate) const fn kind(&self) -> CommandErrorKind {
        match self {
            Self::Disk(_) => CommandErrorKind::TryAgain,
            Self::Bindings(_) => CommandErrorKind::Configuration,
            Self::Picture(_) | Self::InputsLost | Self::NotReproducible(_) => {
                CommandErrorKind::BadInput
            }
        }
    }
}

/// The sampling steps of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Those configured now.
    Configured,
    /// Those of the earlier job; everything else must be the same too.
    AsSent,
}

/// Limits on the picture's size with which an earlier request may have been made, besides the
/// present one: the default, and none.
const PICTURE_LIMITS: [Option<u32>; 2] = [Some(256), None];

/// Prepares a snapshot for a backend. `random` is used for random seeds.
pub(crate) fn prepare(
    config: &RuntimeConfig,
    backend: BackendKind,
    history: &History,
    material: SnapshotContent,
    seed: SeedChoice,
    random: u64,
) -> Result<PreparedRequest, PrepareFault> {
    let SnapshotContent { inputs, prompt, render } = material;
    let seeds = overrides::seeds(seed, &inputs, random);
    let built = build_request(config, backend, &prompt, &render, inputs.render, seeds)?;
    let staged = history.stage(prompt.as_bytes(), &render)?;
    Ok(PreparedRequest { inputs, prompt, render, seeds, built, staged })
}

/// Converts a prepared request into one for another backend.
pub(crate) fn rebuild_for_backend(
    config: &RuntimeConfig,
    backend: BackendKind,
    request: &PreparedRequest,
) -> Result<BuiltRequest, PrepareFault> {
    build_request(
        config,
        backend,
        &request.prompt,
        &request.render,
        request.inputs.render,
        request.seeds,
    )
}

/// Builds the request of an older job again, with its own seeds, from its inputs in the history.
pub(crate) fn rebuild(
    config: &RuntimeConfig,
    backend: BackendKind,
    history: &History,
    row: &JobRow,
) -> Result<BuiltRequest, PrepareFault> {
    let (prompt, render) = inputs_of(&history.past(row.id))?;
    build_request(config, backend, &prompt, &render, row.inputs.render, seeds_of(row))
}

/// Prepares an earlier job's work for a new job: its inputs from the history, its seeds.
pub(crate) fn prepare_from_history(
    config: &RuntimeConfig,
    backend: BackendKind,
    history: &History,
    row: &JobRow,
    steps: Steps,
) -> Result<PreparedRequest, PrepareFault> {
    let (prompt, render) = inputs_of(&history.past(row.id))?;
    let same = Fingerprint::of(prompt.as_bytes()) == row.inputs.prompt
        && png::check(&render).is_ok_and(|facts| facts.fingerprint == row.inputs.render);
    if !same {
        let text = "its inputs in the history folder have changed since it was sent";
        return Err(PrepareFault::NotReproducible(text.to_owned()));
    }
    let seeds = seeds_of(row);
    let built = match steps {
        Steps::Configured => {
            build_request(config, backend, &prompt, &render, row.inputs.render, seeds)?
        }
        Steps::AsSent => rebuild_exactly(config, backend, &prompt, &render, seeds, row)?,
    };
    let staged = history.stage(prompt.as_bytes(), &render)?;
    Ok(PreparedRequest { inputs: row.inputs, prompt, render, seeds, built, staged })
}

fn seeds_of(row: &JobRow) -> Seeds {
    let derived = overrides::seeds(SeedChoice::Derived, &row.inputs, 0);
    Seeds { image: row.seed.unwrap_or(derived.image), mesh: row.mesh_seed.unwrap_or(derived.mesh) }
}

/// Builds exactly the request that an earlier job sent, or returns why that is impossible.
fn rebuild_exactly(
    config: &RuntimeConfig,
    backend: BackendKind,
    prompt: &str,
    render: &Bytes,
    seeds: Seeds,
    row: &JobRow,
) -> Result<BuiltRequest, PrepareFault> {
    let gone = |what: &str| {
        Err(PrepareFault::NotReproducible(format!(
            "{what} since, so the same request cannot be made again; `conjured once` takes a prompt, a render and a seed"
        )))
    };
    if row.backend != backend.name() {
        return gone(&format!("its backend {} is no longer configured", row.backend));
    }
    let workflow = config.workflows.at(backend);
    if workflow.version() != row.workflow_version {
        return gone("the workflow has changed");
    }
    let sent: Value = serde_json::from_str(&row.summary).unwrap_or_default();
    let steps = |role| match workflow.input(role) {
        Some((node, input)) => {
            sent[node]["inputs"][input].as_u64().and_then(|steps| u32::try_from(steps).ok())
        }
        None => None,
    };
    let steps = (steps(Role::StepsFlux), steps(Role::StepsPartpacker));
    let today = config.settings.generation.image_max_base64_kb;
    for limit in std::iter::once(today).chain(PICTURE_LIMITS) {
        let built = build_request_with(
            config,
            backend,
            prompt,
            render,
            row.inputs.render,
            seeds,
            steps,
            limit,
        )?;
        if built.digest == row.body_digest {
            return Ok(built);
        }
    }
    gone("the settings or conjured itself have changed")
}

pub(crate) fn inputs_of(folder: &JobFolder) -> Result<(String, Bytes), PrepareFault> {
    let whole = |path: &std::path::Path| match read::read_complete(path, u64::from(u32::MAX)) {
        Ok(ReadOutcome::Complete { bytes, .. }) => Ok(bytes),
        Ok(ReadOutcome::Changing | ReadOutcome::Missing) | Err(_) => Err(PrepareFault::InputsLost),
    };
    let prompt =
        String::from_utf8(whole(&folder.prompt())?).map_err(|_| PrepareFault::InputsLost)?;
    Ok((prompt, Bytes::from(whole(&folder.render())?)))
}

fn build_request(
    config: &RuntimeConfig,
    backend: BackendKind,
    prompt: &str,
    render: &Bytes,
    fingerprint: Fingerprint,
    seeds: Seeds,
) -> Result<BuiltRequest, PrepareFault> {
    let generation = &config.settings.generation;
    let steps = (Some(generation.steps_flux), Some(generation.steps_partpacker));
    let limit = generation.image_max_base64_kb;
    build_request_with(config, backend, prompt, render, fingerprint, seeds, steps, limit)
}

#[expect(clippy::too_many_arguments, reason = "all values in which two requests can differ")]
fn build_request_with(
    config: &RuntimeConfig,
    backend: BackendKind,
    prompt: &str,
    render: &Bytes,
    fingerprint: Fingerprint,
    seeds: Seeds,
    (steps_flux, steps_partpacker): (Option<u32>, Option<u32>),
    limit: Option<u32>,
) -> Result<BuiltRequest, PrepareFault> {
    // The limit is RunComfy's advice for a picture inside a request; other backends get the picture
    // as a separate file.
    let limit = if backend == BackendKind::Serverless { limit.unwrap_or(0) } else { 0 };
    let encoded = picture::best_form(render.clone(), limit)?;
    if encoded.form == ImageForm::Original {
        // Other forms were decoded when they were made; this one must be checked for pixels that
        // cannot be decoded.
        picture::check_image(&encoded.bytes)?;
    }
    let bound = config.workflows.at(backend);
    let name = format!("conjured-{:.16}.png", fingerprint.to_string());
    let upload = Upload { name, mime: encoded.mime.to_owned(), bytes: encoded.bytes.clone() };
    // `generation.steps_flux` is for FLUX; a local workflow's model is tuned to the steps in
    // its graph.
    let steps = if backend == BackendKind::Comfyui { None } else { steps_flux };
    let values = WorkflowInputs { prompt, seeds, steps_flux: steps, steps_partpacker };
    let picture = Picture { bytes: &encoded.bytes, mime: encoded.mime, fingerprint };
    let foreign = |fault: overrides::ForeignBindings| PrepareFault::Bindings(fault.to_string());
    let (payload, digest, bytes, summary) = match bound {
        BoundWorkflow::Graph(graph) if backend == BackendKind::Serverless => {
            let plan = BodyPlan::new(&graph.0, &graph.1).map_err(foreign)?;
            let Body { bytes, digest, summary } = plan.build(&values, &picture);
            let size = bytes.len();
            (Payload::Body(bytes), digest, size, summary)
        }
        BoundWorkflow::Graph(graph) => {
            let (workflow, bindings) = (&graph.0, &graph.1);
            let nodes =
                overrides::merged(workflow, bindings, &values, &upload.name).map_err(foreign)?;
            let summary = overrides::summary_of(bindings, &values, &picture);
            let text = serde_json::to_vec(&nodes).unwrap_or_default();
            let (digest, size) = (Fingerprint::of(&text), text.len() + upload.bytes.len());
            let Some((node, input)) = bindings.input(Role::Image) else {
                let text = "the workflow has no input for the picture (role `image`)";
                return Err(PrepareFault::Bindings(text.to_owned()));
            };
            let outputs =
                ArtifactKind::ALL.map(|kind| bound.output(kind).to_owned()).into_iter().collect();
            let image = (node.to_owned(), input.to_owned());
            let work = GraphPayload { graph: nodes, image, picture: upload, outputs };
            (Payload::Graph(work), digest, size, summary)
        }
        BoundWorkflow::Spaces { .. } => {
            // Sliders: their real limits are not published, and 0 to 2147483647 is the usual range.
            let work = SpacesPayload {
                prompt: prompt.to_owned(),
                seed: seeds.image % overrides::MESH_SEED_LIMIT,
                mesh_seed: seeds.mesh,
                steps_flux: steps_flux.unwrap_or(config.settings.generation.steps_flux),
                steps_partpacker: steps_partpacker
                    .unwrap_or(config.settings.generation.steps_partpacker),
                picture: upload,
            };
            let summary = json!({
                "prompt": prompt, "seed": work.seed, "mesh_seed": work.mesh_seed,
                "steps_flux": work.steps_flux, "steps_partpacker": work.steps_partpacker,
                "image": {"fingerprint": fingerprint, "bytes": encoded.bytes.len(), "mime": encoded.mime},
            });
            let digest = Fingerprint::of(summary.to_string().as_bytes());
            let size = encoded.bytes.len() + prompt.len();
            (Payload::Spaces(work), digest, size, summary)
        }
    };
    Ok(BuiltRequest {
        backend,
        payload,
        digest,
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        summary,
        workflow: bound.name().to_owned(),
        version: bound.version(),
    })
}

/// Returns a finished artifact's size, digest and vertices.
pub(crate) fn describe(
    folder: &JobFolder,
    job: JobId,
    kind: ArtifactKind,
) -> Result<ArtifactRow, String> {
    let path =
        folder.artifact(kind).ok_or_else(|| format!("the {kind} is no longer in the history"))?;
    let mut file = crate::disk::dirs::open(&path).map_err(|error| error.to_string())?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0_u64);
    let mut piece = vec![0_u8; 64 * 1024];
    loop {
        let read = file.read(&mut piece).map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        bytes += u64::try_from(read).unwrap_or(0);
    }
    let vertices = match kind {
        ArtifactKind::Image => None,
        ArtifactKind::Mesh => {
            let mut reader = crate::disk::dirs::open(&path).map_err(|error| error.to_string())?;
            mesh::check(&mut reader, bytes).ok().map(|facts| facts.vertices)
        }
    };
    let blake3 = Fingerprint::from_bytes(*hasher.finalize().as_bytes());
    Ok(ArtifactRow {
        kind,
        path: format!("{job}/{}", artifact_name(kind)),
        bytes,
        blake3,
        vertices,
    })
}
