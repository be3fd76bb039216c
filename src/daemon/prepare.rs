//! The early work of the quiet window: the picture in its best form, the body in one buffer, the inputs on the disk.
//!
//! Owns what a job is made of before it has a name. Blocking, for the pool; nothing in here leaves the machine or costs money.

use std::io::Read as _;

use bytes::Bytes;

use super::live::Live;
use crate::{
    disk::{
        DiskError,
        history::{History, JobFolder, Staged, artifact_name},
        read::{self, Reading},
    },
    domain::{
        fingerprint::Fingerprint,
        glb,
        job::{Inputs, JobId},
        overrides::{self, Body, BodyPlan, Carrier, Picture, SeedChoice, Seeds, Values},
        picture::{self, Form, PictureFault},
        product::Kind,
    },
    ledger::rows::{Artifact, JobRow},
};

/// One whole snapshot in memory.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    pub(crate) inputs: Inputs,
    pub(crate) prompt: String,
    pub(crate) render: Bytes,
}

/// A request that is ready to leave.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) inputs: Inputs,
    pub(crate) prompt: String,
    pub(crate) seeds: Seeds,
    pub(crate) body: Body,
    pub(crate) staged: Staged,
}

/// Why no request can be made of a snapshot. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareFault {
    /// The picture cannot be used.
    #[error("the render cannot be sent: {0}; nothing was sent")]
    Picture(#[from] PictureFault),
    /// The workflow's bindings do not fit it.
    #[error("{0}; nothing was sent")]
    Bindings(String),
    /// History cannot be written or read.
    #[error("the inputs cannot be kept in history: {0}; nothing was sent")]
    Disk(#[from] DiskError),
    /// The inputs of an older job are gone.
    #[error("its inputs are no longer in the history folder; nothing was sent")]
    InputsLost,
}

/// Prepares a snapshot. `random` is used for seeds that are to be random.
pub(crate) fn prepare(
    live: &Live,
    history: &History,
    material: Material,
    seed: SeedChoice,
    random: u64,
) -> Result<Ready, PrepareFault> {
    let Material { inputs, prompt, render } = material;
    let seeds = overrides::seeds(seed, &inputs, random);
    let body = body(live, &prompt, &render, inputs.render, seeds)?;
    let staged = history.stage(prompt.as_bytes(), &render)?;
    Ok(Ready { inputs, prompt, seeds, body, staged })
}

/// Builds the body of an older job again, with its own seeds, from its inputs in history.
pub(crate) fn rebuild(live: &Live, history: &History, row: &JobRow) -> Result<Body, PrepareFault> {
    let folder = history.job(row.id)?;
    let (prompt, render) = inputs_of(&folder)?;
    let derived = overrides::seeds(SeedChoice::Derived, &row.inputs, 0);
    let seeds = Seeds {
        image: row.seed.unwrap_or(derived.image),
        mesh: row.mesh_seed.unwrap_or(derived.mesh),
    };
    body(live, &prompt, &render, row.inputs.render, seeds)
}

/// Reads the inputs that a job was made of.
pub(crate) fn inputs_of(folder: &JobFolder) -> Result<(String, Bytes), PrepareFault> {
    let whole = |path: &std::path::Path| match read::read_whole(path, u64::from(u32::MAX)) {
        Ok(Reading::Whole { bytes, .. }) => Ok(bytes),
        Ok(Reading::Changing | Reading::Missing) | Err(_) => Err(PrepareFault::InputsLost),
    };
    let prompt =
        String::from_utf8(whole(&folder.prompt())?).map_err(|_| PrepareFault::InputsLost)?;
    Ok((prompt, Bytes::from(whole(&folder.render())?)))
}

fn body(
    live: &Live,
    prompt: &str,
    render: &Bytes,
    fingerprint: Fingerprint,
    seeds: Seeds,
) -> Result<Body, PrepareFault> {
    let generation = &live.config.generation;
    let encoded = picture::best_form(render.clone(), generation.image_max_base64_kb.unwrap_or(0))?;
    if encoded.form == Form::Original {
        // Other forms were decoded to be made; this one must not carry pixels that nobody can decode.
        picture::check_image(&encoded.bytes)?;
    }
    let plan = BodyPlan::new(&live.workflow, &live.bindings, Carrier::Overrides)
        .map_err(|fault| PrepareFault::Bindings(fault.to_string()))?;
    let values = Values {
        prompt,
        seeds,
        steps_flux: Some(generation.steps_flux),
        steps_partpacker: Some(generation.steps_partpacker),
    };
    let picture = Picture { bytes: &encoded.bytes, mime: encoded.mime, fingerprint };
    Ok(plan.build(&values, &picture))
}

/// Describes a finished artifact: size, digest, vertices.
pub(crate) fn describe(folder: &JobFolder, job: JobId, kind: Kind) -> Result<Artifact, String> {
    let path = folder.artifact(kind).ok_or_else(|| format!("the {kind} is gone from history"))?;
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
        Kind::Image => None,
        Kind::Mesh => {
            let mut reader = crate::disk::dirs::open(&path).map_err(|error| error.to_string())?;
            glb::check(&mut reader, bytes).ok().map(|facts| facts.vertices)
        }
    };
    let blake3 = Fingerprint::from_bytes(*hasher.finalize().as_bytes());
    Ok(Artifact { kind, path: format!("{job}/{}", artifact_name(kind)), bytes, blake3, vertices })
}
