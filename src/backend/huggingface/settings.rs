//! The settings of the Spaces adapter.
//!
//! Owns the values and their defaults, which are CONJURE's. It never shows the token, and checks
//! only what can be checked without other values.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::address::SpaceAddress;

/// The settings of the adapter.
#[derive(Clone)]
pub struct Settings {
    /// The Space that makes the picture.
    pub flux: SpaceAddress,
    /// The Space that makes the mesh.
    pub mesh: SpaceAddress,
    /// The Hub that has the records of Spaces.
    pub hub: Url,
    /// A token of the service; public Spaces need none.
    pub token: Option<SecretString>,
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For every call except a stream, from connecting to the end of its answer. Uploads
    /// are included.
    pub call_timeout: Duration,
    /// How long a stream or a download may stay silent. Gradio sends a heartbeat every 15 seconds.
    pub read_idle_timeout: Duration,
    /// How long each function may take in all, including its queue. Heartbeats would keep a stream
    /// alive for ever.
    pub deadline: Duration,
    /// The maximum size of a file in bytes.
    pub max_artifact: u64,
    /// Whether `/process_image` is called in between, which CONJURE does not do.
    pub process_image: bool,
}

impl Default for Settings {
    /// Returns the settings for the Spaces that CONJURE uses, without a token.
    fn default() -> Self {
        let named = |owner: &str, name: &str| SpaceAddress::Named {
            owner: owner.to_owned(),
            name: name.to_owned(),
        };
        Self {
            flux: named("black-forest-labs", "FLUX.1-Depth-dev"),
            mesh: named("nvidia", "PartPacker"),
            hub: Url::parse("https://huggingface.co").expect("a constant that is a URL"),
            token: None,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            read_idle_timeout: Duration::from_secs(45),
            // CONJURE gave up after 5 and 10 minutes. A queue may take as long again.
            deadline: Duration::from_secs(1200),
            max_artifact: 512 * 1024 * 1024,
            process_image: false,
        }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let token =
            |settings: &Self| settings.token.as_ref().map(|token| token.expose_secret().to_owned());
        let rest = |settings: &Self| {
            let timeouts =
                (settings.connect_timeout, settings.call_timeout, settings.read_idle_timeout);
            (timeouts, settings.deadline, settings.max_artifact, settings.process_image)
        };
        (&self.flux, &self.mesh, &self.hub) == (&other.flux, &other.mesh, &other.hub)
            && rest(self) == rest(other)
            && token(self) == token(other)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("flux", &self.flux.to_string())
            .field("mesh", &self.mesh.to_string())
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The token cannot be part of a header.
    #[error(
        "HUGGINGFACE_HUB_ACCESS_TOKEN contains characters that no token has; public Spaces need no token"
    )]
    Token,
}
