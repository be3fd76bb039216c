//! Settings that are one of a few words: each is an enum whose variants know their word.
//!
//! Owns the words, not their effects, which are decided where each setting is used.

use std::fmt;

use crate::domain::inputs::trigger::{AtStart, TriggerOn, WhenBusy};

/// A setting that is one of a few words.
pub trait Keyword: Copy + 'static {
    /// Every word, in the order in which an error lists them.
    const ALL: &'static [Self];

    /// Returns the word as written in a file.
    fn word(self) -> &'static str;
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl Keyword for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// Where jobs run.
    Mode {
        /// RunComfy's Serverless API, or a local backend if it is unavailable.
        Auto = "auto",
        /// RunComfy's Serverless API.
        Serverless = "serverless",
        /// The local backends.
        Local = "local",
        /// A rented RunComfy machine.
        Cloud = "cloud",
    }
}

/// CONJURE's own names for a mode, and what each means here. Its plan's LOCAL, CLOUD, SERVERLESS
/// and AUTO are the same as our own words, in any case.
pub(super) const CONJURE_MODES: [(&str, Mode, Option<Provider>); 4] = [
    ("cloud_legacy", Mode::Cloud, None),
    ("local_comfyui", Mode::Local, Some(Provider::Comfyui)),
    ("comfyui", Mode::Local, Some(Provider::Comfyui)),
    ("huggingface", Mode::Local, Some(Provider::Huggingface)),
];

impl Mode {
    /// Finds the mode for a text: one of our words or one of CONJURE's, in any case.
    pub(super) fn named(text: &str) -> Option<Self> {
        let text = text.trim();
        let ours = Self::ALL.iter().copied().find(|mode| mode.word().eq_ignore_ascii_case(text));
        ours.or_else(|| Self::from_conjure(text).map(|(_, mode, _)| mode))
    }

    /// Finds CONJURE's own name: its spelling, what it means here, and the only provider that it
    /// stands for, if any.
    pub(super) fn from_conjure(text: &str) -> Option<(&'static str, Self, Option<Provider>)> {
        let text = text.trim();
        CONJURE_MODES.into_iter().find(|(word, ..)| word.eq_ignore_ascii_case(text))
    }
}

/// Defines the words of types that are defined elsewhere.
macro_rules! words_of {
    ($name:ty { $($variant:ident = $word:literal,)+ }) => {
        impl Keyword for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words_of! { TriggerOn { Either = "either", Prompt = "prompt", Render = "render", Both = "both", } }
words_of! { WhenBusy { ReplaceQueued = "replace_queued", Wait = "wait", Cancel = "cancel", } }
words_of! { AtStart { Changed = "changed", Always = "always", Never = "never", } }

words! {
    /// How files are watched.
    Watch {
        /// Native if it works, otherwise polling.
        Auto = "auto",
        /// With the system's change notifications.
        Native = "native",
        /// By checking at intervals.
        Poll = "poll",
    }
}

words! {
    /// The version segment of the API's paths.
    ApiVersion {
        /// `/prod/v1`.
        V1 = "v1",
        /// `/prod/v2`.
        V2 = "v2",
    }
}

words! {
    /// A local backend.
    Provider {
        /// A ComfyUI server.
        Comfyui = "comfyui",
        /// The Hugging Face Spaces that CONJURE uses.
        Huggingface = "huggingface",
    }
}

words! {
    /// A machine type of RunComfy's Server API.
    ServerType {
        /// Medium.
        Medium = "medium",
        /// Large.
        Large = "large",
        /// Extra large.
        ExtraLarge = "extra-large",
        /// Twice extra large.
        TwoXLarge = "2x-large",
        /// Twice extra large, turbo.
        TwoXLTurbo = "2xl-turbo",
    }
}

words! {
    /// How CONJURE is asked to import a mesh.
    Handoff {
        /// Through its protocol if a launcher is running, otherwise not at all.
        Auto = "auto",
        /// Through its HTTP API.
        Api = "api",
        /// Through its `state.json`.
        State = "state",
        /// Not at all.
        Off = "off",
    }
}

words! {
    /// How much is logged.
    Level {
        /// Errors only.
        Error = "error",
        /// Also warnings.
        Warn = "warn",
        /// Also what is done.
        Info = "info",
        /// Also why it is done.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl Level {
    /// Returns the same level as the log's own type.
    pub const fn filter(self) -> tracing::level_filters::LevelFilter {
        use tracing::level_filters::LevelFilter as Filter;
        match self {
            Self::Error => Filter::ERROR,
            Self::Warn => Filter::WARN,
            Self::Info => Filter::INFO,
            Self::Debug => Filter::DEBUG,
            Self::Trace => Filter::TRACE,
        }
    }
}

impl Keyword for crate::domain::money::BillingPlan {
    const ALL: &'static [Self] = &[Self::Hobby, Self::Pro];

    fn word(self) -> &'static str {
        match self {
            Self::Hobby => "hobby",
            Self::Pro => "pro",
        }
    }
}
