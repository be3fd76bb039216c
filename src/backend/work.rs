//! What an attempt sends, in the form that each kind of backend takes.
//!
//! Owns plain values, built in the quiet window so that only bytes leave. Which of them a backend takes is settled where it is
//! chosen; one that is handed another's work refuses it as never sent.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::SubmitError;
use crate::domain::job::RequestId;

/// One attempt's request.
#[derive(Clone, Debug)]
pub struct Submission {
    /// An id of our own for the request ([`RequestId::for_job`]): a backend that lets its clients choose takes it as the
    /// request's, so that a lost answer can be looked up. The others do not get to see it.
    pub key: RequestId,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Work {
    /// A RunComfy Serverless request: its finished JSON.
    Body(Bytes),
    /// A graph for a ComfyUI server, and the picture that it loads.
    Graph(GraphWork),
    /// What functions of Hugging Face Spaces are called with.
    Spaces(SpacesWork),
}

/// A graph with every value in its place but the picture's name, which the server gives when it is uploaded.
#[derive(Clone, Debug)]
pub struct GraphWork {
    /// The nodes, in API format.
    pub graph: Map<String, Value>,
    /// The node that loads the picture, and its input.
    pub image: (String, String),
    /// The picture.
    pub picture: Upload,
    /// The bound output nodes, image and mesh: one that the server drops makes the run worthless.
    pub outputs: Vec<String>,
}

/// A picture to be uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// A plain ASCII file name of its own for each picture: with a name used twice, a job still in the queue would see the new
    /// picture.
    pub name: String,
    /// Its media type, such as `image/png`.
    pub mime: String,
    /// The file.
    pub bytes: Bytes,
}

/// What the two Spaces get: a picture of the sentence and the render, then a mesh of that picture.
#[derive(Clone, Debug)]
pub struct SpacesWork {
    /// The sentence.
    pub prompt: String,
    /// The render.
    pub picture: Upload,
    /// The picture's seed, at most 2147483647.
    pub seed: u64,
    /// The mesh's seed, at most 2147483647.
    pub mesh_seed: u64,
    /// The sampling steps of the image.
    pub steps_flux: u32,
    /// The sampling steps of the mesh.
    pub steps_partpacker: u32,
}

impl Work {
    /// What an adapter says that was handed another's work: a fault of ours, and nothing was sent.
    pub(super) fn foreign(&self) -> SubmitError {
        let kind = match self {
            Self::Body(_) => "a serverless request",
            Self::Graph(_) => "a graph",
            Self::Spaces(_) => "a call of Spaces",
        };
        SubmitError::NotSent {
            reason: format!("the job was prepared as {kind}, which this backend does not take"),
            retry_after: None,
        }
    }
}
