//! The address of a Space: `owner/name`, or the base URL of a private copy.
//!
//! Owns the syntax of both, the host that follows from a name, and what the Hub's record of a Space
//! may add. The rule for the host is what the Hub's own clients did for years, but it is not
//! guaranteed; `host` in the record is more reliable if it is available.

use std::{fmt, str::FromStr};

use serde_json::Value;
use url::Url;

use crate::backend::http::is_loopback;

/// The parent domain of every Space of the public service.
const DOMAIN: &str = "hf.space";

/// The configured address of a Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpaceAddress {
    /// A Space of the public service.
    Named {
        /// A person or an organisation.
        owner: String,
        /// The name of the Space.
        name: String,
    },
    /// A base URL: a copy on another server, or a test server.
    Base(Url),
}

/// A text that is not a valid address of a Space.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a Space: write `owner/name`, or an `https://` address without user, query or fragment (plain `http://` only on this \
     machine)"
)]
pub struct NotASpace(pub String);

impl FromStr for SpaceAddress {
    type Err = NotASpace;

    fn from_str(text: &str) -> Result<Self, NotASpace> {
        let trimmed = text.trim().trim_end_matches('/');
        let error = || NotASpace(text.chars().filter(|c| !c.is_control()).take(100).collect());
        // The URL of a Space's page, as copied from a browser, stands for its name.
        let page = ["https://huggingface.co/spaces/", "huggingface.co/spaces/"];
        let named = page.iter().find_map(|start| trimmed.strip_prefix(start)).unwrap_or(trimmed);
        if named.contains("://") {
            let mut url = Url::parse(named).map_err(|_| error())?;
            let is_bare = url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none();
            let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
            if !is_bare || !is_safe || !url.has_host() {
                return Err(error());
            }
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&path);
            return Ok(Self::Base(url));
        }
        match named.split_once('/') {
            Some((owner, name)) if is_plain(owner) && is_plain(name) => {
                Ok(Self::Named { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(error()),
        }
    }
}

/// Returns whether `part` can be used in an address without encoding.
fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=96).contains(&part.len()) && part.chars().all(plain) && part.chars().any(|c| c != '.')
}

impl fmt::Display for SpaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { owner, name } => write!(f, "{owner}/{name}"),
            Self::Base(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

impl SpaceAddress {
    /// Returns the base URL: the configured one, or one made from owner and name in lower case,
    /// with dashes for dots and underscores.
    pub fn base(&self) -> Url {
        match self {
            Self::Base(url) => url.clone(),
            Self::Named { owner, name } => {
                let label: String = format!("{owner}-{name}")
                    .chars()
                    .map(|c| if matches!(c, '.' | '_') { '-' } else { c.to_ascii_lowercase() })
                    .collect();
                Url::parse(&format!("https://{}.{DOMAIN}", label.trim_matches('-')))
                    .expect("letters, digits and dashes are a host")
            }
        }
    }

    /// Returns the address of the Hub's record, or `None` for a base URL, which is used as it is.
    pub(super) fn record(&self, hub: &Url) -> Option<Url> {
        let Self::Named { owner, name } = self else { return None };
        let mut url = hub.clone();
        let path = format!("{}/api/spaces/{owner}/{name}", hub.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HubRecord {
    /// Its base URL, if the token may be sent there.
    pub(super) base: Option<Url>,
    /// Its stage, in the Hub's capitals.
    pub(super) stage: Option<String>,
}

/// What a stage means for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// A call is possible. This includes stages that no reference documents: the Space itself
    /// will answer.
    Ready,
    /// It is being built or started: try later.
    NotYet(&'static str),
    /// Its owner must do something first.
    OwnerMustAct(&'static str),
}

impl HubRecord {
    /// Reads the Hub's answer. A host outside the public service's domain is not trusted, unless
    /// both the Hub and the host are on this machine (tests).
    pub(super) fn read(body: &Value, hub: &Url) -> Self {
        let host = body.get("host").and_then(Value::as_str).and_then(|text| Url::parse(text).ok());
        let base = host.filter(|url| {
            let name = url.host_str().unwrap_or_default();
            let is_service = url.scheme() == "https"
                && name.strip_suffix(DOMAIN).is_some_and(|rest| rest.ends_with('.'));
            let bare =
                url.username().is_empty() && url.password().is_none() && url.query().is_none();
            bare && (is_service || (is_loopback(hub) && is_loopback(url)))
        });
        let stage = body.pointer("/runtime/stage").and_then(Value::as_str);
        Self { base, stage: stage.map(|text| text.trim().to_ascii_uppercase()) }
    }

    /// Returns what its stage means.
    pub(super) fn readiness(&self) -> Readiness {
        match self.stage.as_deref() {
            Some("BUILDING" | "APP_STARTING") => Readiness::NotYet("is being built or started"),
            Some("PAUSED") => Readiness::OwnerMustAct("is paused; its owner must restart it"),
            Some("STOPPED") => Readiness::OwnerMustAct("is stopped; its owner must restart it"),
            Some("DELETING") => Readiness::OwnerMustAct("is being deleted"),
            Some("BUILD_ERROR" | "CONFIG_ERROR" | "NO_APP_FILE" | "RUNTIME_ERROR") => {
                Readiness::OwnerMustAct("is broken; its owner must repair it")
            }
            // A call wakes a sleeping Space.
            _ => Readiness::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base(text: &str) -> String {
        text.parse::<SpaceAddress>().expect("a Space").base().to_string()
    }

    #[test]
    fn a_name_becomes_the_documented_host_and_a_base_url_wins() {
        let flux = "https://black-forest-labs-flux-1-depth-dev.hf.space/";
        assert_eq!(base("black-forest-labs/FLUX.1-Depth-dev"), flux);
        assert_eq!(base("https://huggingface.co/spaces/black-forest-labs/FLUX.1-Depth-dev/"), flux);
        assert_eq!(base("nvidia/PartPacker"), "https://nvidia-partpacker.hf.space/");
        assert_eq!(base("Ada_L/My_Space"), "https://ada-l-my-space.hf.space/");
        assert_eq!(base(" https://gpu.example/copy/ "), "https://gpu.example/copy");
        assert_eq!(base("http://127.0.0.1:7860"), "http://127.0.0.1:7860/");
    }

    #[test]
    fn what_could_send_a_token_astray_is_no_address() {
        let table = [
            "",
            "flux",
            "a/b/c",
            "a/..",
            "a b/c",
            "/x",
            "http://gpu.example",
            "ftp://gpu.example/",
            "https://u:p@gpu.example",
            "https://gpu.example/?x=1",
            "https://gpu.example/#x",
            "a/b?c",
        ];
        for bad in table {
            assert!(bad.parse::<SpaceAddress>().is_err(), "{bad}");
        }
        assert!(
            "x\u{1b}[31m".parse::<SpaceAddress>().is_err_and(|error| !error.0.contains('\u{1b}'))
        );
    }

    #[test]
    fn the_hub_is_believed_only_within_the_services_domain() {
        let hub = Url::parse("https://huggingface.co").expect("a URL");
        let host = |text: &str| HubRecord::read(&json!({"host": text}), &hub).base;
        assert!(host("https://nvidia-partpacker.hf.space").is_some());
        for bad in [
            "https://evil.example",
            "https://evilhf.space",
            "http://a.hf.space",
            "http://127.0.0.1:1",
            "x",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
        let near = Url::parse("http://127.0.0.1:9").expect("a URL");
        assert!(HubRecord::read(&json!({"host": "http://127.0.0.1:1"}), &near).base.is_some());
        assert_eq!(HubRecord::read(&json!([1]), &hub), HubRecord::default());
    }

    #[test]
    fn stages_are_ready_later_or_a_matter_for_the_owner() {
        let of = |stage: &str| HubRecord { stage: Some(stage.to_owned()), base: None }.readiness();
        for ready in ["RUNNING", "RUNNING_BUILDING", "SLEEPING", "A_NEW_WORD"] {
            assert_eq!(of(ready), Readiness::Ready, "{ready}");
        }
        assert!(matches!(of("BUILDING"), Readiness::NotYet(_)));
        for never in ["PAUSED", "RUNTIME_ERROR", "BUILD_ERROR", "STOPPED"] {
            assert!(matches!(of(never), Readiness::OwnerMustAct(_)), "{never}");
        }
        assert_eq!(HubRecord::default().readiness(), Readiness::Ready);
    }
}
