//! The words for what a job changes in a graph, and what it takes out of it.
//!
//! Owns the nine roles and their spelling in `[generation.bind]`. Which node plays which role is
//! [`super::bind`]'s business.

use std::{fmt, str::FromStr};

use super::naming::nearest;

/// A part that a node of the graph plays in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The picture that goes in: a data URI, a URL or a file name.
    Image,
    /// The sentence.
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

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a role of a workflow; {hint}")]
pub struct UnknownRole {
    /// The word.
    pub word: String,
    /// The nearest role, or all of them.
    pub hint: String,
}

impl Role {
    /// Every role; inputs before outputs, in the order in which they stand in a request.
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

    /// Returns the word of the configuration.
    pub const fn word(self) -> &'static str {
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

    /// Tells whether this role is an output node rather than an input of one.
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Flux | Self::Mesh)
    }

    /// Tells whether a job is impossible without it: no picture, no sentence or no mesh to wait for.
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Image | Self::Prompt | Self::Mesh)
    }

    /// Tells whether its input holds a text; the others hold a whole number.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Image | Self::Prompt | Self::PromptClip)
    }

    /// Returns the usual names of its input, the most telling first.
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
        f.pad(self.word())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        if let Some(role) = Self::ALL.into_iter().find(|role| role.word() == word) {
            return Ok(role);
        }
        let words = Self::ALL.map(Self::word);
        let hint = match nearest(word, words).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the roles are {}", words.join(", ")),
        };
        Err(UnknownRole { word: word.chars().take(60).collect(), hint })
    }
}
