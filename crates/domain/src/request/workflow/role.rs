//! The names for the values that a job changes in a graph, and for the outputs that it collects.
//!
//! Owns the nine roles and their spelling in `[generation.bind]`. [`super::bind`] decides which
//! node has which role.

use std::{fmt, str::FromStr};

use super::naming::nearest;

/// The role of a node in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The input picture: a data URI, a URL or a file name.
    Image,
    /// The prompt.
    Prompt,
    /// The second text of a FLUX encoder. It is sent as an empty string on purpose.
    PromptClip,
    /// The seed of the image.
    Seed,
    /// The seed of the mesh.
    MeshSeed,
    /// The sampling steps of the image.
    StepsFlux,
    /// The sampling steps of the mesh.
    StepsPartpacker,
    /// The output node of the image.
    Flux,
    /// The output node of the mesh.
    Mesh,
}

/// The error for a word that is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a role of a workflow; {hint}")]
pub struct UnknownRole {
    /// The word.
    pub name: String,
    /// The most similar role, or all of them.
    pub hint: String,
}

impl Role {
    /// Every role; inputs before outputs, in the order of a request.
    pub const ALL: [Self; 9] = [
        Self::Image,
        Self::Prompt,
        Self::PromptClip,
        Self::Seed,
        Self::MeshSeed,
        Self::StepsFlux,
        Self::StepsPartpacker,
        Self::Flux,
        Self::Mesh,
    ];

    /// Returns the word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Prompt => "prompt",
            Self::PromptClip => "prompt_clip",
            Self::Seed => "seed",
            Self::MeshSeed => "mesh_seed",
            Self::StepsFlux => "steps_flux",
            Self::StepsPartpacker => "steps_partpacker",
            Self::Flux => "flux",
            Self::Mesh => "mesh",
        }
    }

    /// Returns whether this role is an output node rather than a node's input.
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Flux | Self::Mesh)
    }

    /// Returns whether a job is impossible without it: no picture, no prompt, or no mesh to
    /// wait for.
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Image | Self::Prompt | Self::Mesh)
    }

    /// Returns whether its input is a text; the others are whole numbers.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Image | Self::Prompt | Self::PromptClip)
    }

    /// Returns the usual names of its input, the most specific first.
    pub(super) const fn usual_inputs(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image", "value", "url", "path"],
            Self::Prompt => &["t5xxl", "text", "value", "prompt", "string", "text_g"],
            Self::PromptClip => &["clip_l", "value", "text", "string"],
            Self::Seed | Self::MeshSeed => &["noise_seed", "seed", "value", "int", "number"],
            Self::StepsFlux | Self::StepsPartpacker => {
                &["steps", "num_inference_steps", "value", "int", "number"]
            }
            Self::Flux | Self::Mesh => &[],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        if let Some(role) = Self::ALL.into_iter().find(|role| role.name() == word) {
            return Ok(role);
        }
        let words = Self::ALL.map(Self::name);
        let hint = match nearest(word, words).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the roles are {}", words.join(", ")),
        };
        Err(UnknownRole { name: word.chars().take(60).collect(), hint })
    }
}
