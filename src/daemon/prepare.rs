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
        png,
        product::Kind,
        workflow::role::Role,
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
    /// The same bytes do not come out any more.
    #[error("{0}; nothing was sent")]
    NotTheSame(String),
}

/// Whose sampling steps a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Those that are configured now.
    Configured,
    /// Those that the earlier job was sent with; the rest must be as it was too.
    AsSent,
}

/// Limits for the picture's size that a request may have been made with: today's, the default, and none.
const PICTURE_LIMITS: [Option<u32>; 2] = [Some(256), None];

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
    let (prompt, render) = inputs_of(&history.past(row.id))?;
    body(live, &prompt, &render, row.inputs.render, seeds_of(row))
}

/// Prepares an earlier job's work as a new job's: its inputs from history, its seeds.
pub(crate) fn prepare_again(
    live: &Live,
    history: &History,
    row: &JobRow,
    steps: Steps,
) -> Result<Ready, PrepareFault> {
    let (prompt, render) = inputs_of(&history.past(row.id))?;
    let same = Fingerprint::of(prompt.as_bytes()) == row.inputs.prompt
        && png::check(&render).is_ok_and(|facts| facts.fingerprint == row.inputs.render);
    if !same {
        let text = "its inputs in the history folder are not what was sent then";
        return Err(PrepareFault::NotTheSame(text.to_owned()));
    }
    let seeds = seeds_of(row);
    let body = match steps {
        Steps::Configured => body(live, &prompt, &render, row.inputs.render, seeds)?,
        Steps::AsSent => same_body(live, &prompt, &render, seeds, row)?,
    };
    let staged = history.stage(prompt.as_bytes(), &render)?;
    Ok(Ready { inputs: row.inputs, prompt, seeds, body, staged })
}

fn seeds_of(row: &JobRow) -> Seeds {
    let derived = overrides::seeds(SeedChoice::Derived, &row.inputs, 0);
    Seeds { image: row.seed.unwrap_or(derived.image), mesh: row.mesh_seed.unwrap_or(derived.mesh) }
}

/// Builds the very bytes that an earlier job sent, or says why they cannot be had.
fn same_body(
    live: &Live,
    prompt: &str,
    render: &Bytes,
    seeds: Seeds,
    row: &JobRow,
) -> Result<Body, PrepareFault> {
    let gone = |what: &str| {
        Err(PrepareFault::NotTheSame(format!(
            "{what} since, so the same request cannot be made again; `conjured once` takes a prompt, a render and a seed"
        )))
    };
    if live.bindings.version() != row.workflow_version {
        return gone("the workflow has changed");
    }
    let sent: serde_json::Value = serde_json::from_str(&row.summary).unwrap_or_default();
    let steps = |role| match live.bindings.input(role) {
        Some((node, input)) => {
            sent[node]["inputs"][input].as_u64().and_then(|steps| u32::try_from(steps).ok())
        }
        None => None,
    };
    let steps = (steps(Role::StepsFlux), steps(Role::StepsPartpacker));
    let today = live.config.generation.image_max_base64_kb;
    for limit in std::iter::once(today).chain(PICTURE_LIMITS) {
        let body = body_with(live, prompt, render, row.inputs.render, seeds, steps, limit)?;
        if body.digest == row.body_digest {
            return Ok(body);
        }
    }
    gone("the settings or conjured itself have changed")
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
    let steps = (Some(generation.steps_flux), Some(generation.steps_partpacker));
    body_with(live, prompt, render, fingerprint, seeds, steps, generation.image_max_base64_kb)
}

fn body_with(
    live: &Live,
    prompt: &str,
    render: &Bytes,
    fingerprint: Fingerprint,
    seeds: Seeds,
    (steps_flux, steps_partpacker): (Option<u32>, Option<u32>),
    limit: Option<u32>,
) -> Result<Body, PrepareFault> {
    let encoded = picture::best_form(render.clone(), limit.unwrap_or(0))?;
    if encoded.form == Form::Original {
        // Other forms were decoded to be made; this one must not carry pixels that nobody can decode.
        picture::check_image(&encoded.bytes)?;
    }
    let plan = BodyPlan::new(&live.workflow, &live.bindings, Carrier::Overrides)
        .map_err(|fault| PrepareFault::Bindings(fault.to_string()))?;
    let values = Values { prompt, seeds, steps_flux, steps_partpacker };
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
