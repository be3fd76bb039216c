//! The payload of an attempt, in the form that each kind of backend takes.
//!
//! Owns plain values. They are built during the debounce window, so that submitting only has to
//! send bytes. The code that chooses the backend also chooses the matching payload; an adapter that
//! receives another adapter's payload rejects it as not sent.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::SubmitError;
use crate::domain::job::RequestId;

/// The request of one attempt.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Our own id for the request ([`RequestId::for_job`]). A backend that lets its clients choose
    /// the id uses it, so that a request with a lost answer can be looked up. The other backends
    /// never see it.
    pub key: RequestId,
    /// The payload.
    pub payload: Payload,
}

/// The payload for one kind of backend.
#[derive(Clone, Debug)]
pub enum Payload {
    /// The complete JSON of a RunComfy Serverless request.
    Body(Bytes),
    /// A graph for a ComfyUI server, and the picture that the graph loads.
    Graph(GraphPayload),
    /// The arguments for functions of Hugging Face Spaces.
    Spaces(SpacesPayload),
}

/// A graph in which all values are set except the name of the picture: the server assigns that name
/// when the picture is uploaded.
#[derive(Clone, Debug)]
pub struct GraphPayload {
    /// The nodes, in API format.
    pub graph: Map<String, Value>,
    /// The node that loads the picture, and the name of its input.
    pub image: (String, String),
    /// The picture.
    pub picture: Upload,
    /// The bound output nodes, image and mesh. If the server drops one of them, the run is useless.
    pub outputs: Vec<String>,
}

/// A picture to upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// A plain ASCII file name, unique for each picture. If a name were reused, a job that is still
    /// queued would load the new picture.
    pub name: String,
    /// The media type, such as `image/png`.
    pub mime: String,
    /// The file's content.
    pub bytes: Bytes,
}

/// The arguments for the two Spaces: the first makes an image from the prompt and the render, the
/// second makes a mesh from that image.
#[derive(Clone, Debug)]
pub struct SpacesPayload {
    /// The prompt.
    pub prompt: String,
    /// The render.
    pub picture: Upload,
    /// The seed of the image, at most 2147483647.
    pub seed: u64,
    /// The seed of the mesh, at most 2147483647.
    pub mesh_seed: u64,
    /// The sampling steps of the image.
    pub steps_flux: u32,
    /// The sampling steps of the mesh.
    pub steps_partpacker: u32,
}

impl Payload {
    /// Returns the error of an adapter that received another adapter's payload. This is a bug of
    /// ours, and nothing was sent.
    pub(super) fn wrong_backend_error(&self) -> SubmitError {
        let kind = match self {
            Self::Body(_) => "a RunComfy Serverless request",
            Self::Graph(_) => "a ComfyUI graph",
            Self::Spaces(_) => "a call of Hugging Face Spaces",
        };
        SubmitError::NotSent {
            reason: format!(
                "the job was prepared as {kind}, which this backend does not accept; nothing was sent"
            ),
            retry_after: None,
        }
    }
}
