//! Settings that are addresses: the API's origin, download hosts, a Space, the page's socket.
//!
//! Owns which addresses are valid. Whether anything answers there is found out when the address
//! is used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::{Host, Url};

use super::reader::RawValue;
use crate::config::{errors::ConfigProblem, secrets::shape::quoted, settings::SpaceSetting};

/// CONJURE's own port. Its clean-up ends any process that listens there.
const CONJURE_RESERVED_PORT: u16 = 8000;

/// Parses the API's origin: https, or http on loopback.
pub(in crate::config) fn api_url(value: &RawValue<'_>) -> Result<Url, ConfigProblem> {
    let url = http_url(value)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(value.rule(
            "must begin with https://, because the token is sent there; http:// is for this \
             machine only (127.0.0.1, localhost)",
        ));
    }
    if !matches!(url.path(), "" | "/") {
        return Err(value.rule(
            "must be an origin without a path, such as https://api.runcomfy.net; `serverless.api_version` chooses the path",
        ));
    }
    Ok(url)
}

/// Parses an http or https URL without user, query or fragment.
pub(in crate::config) fn http_url(value: &RawValue<'_>) -> Result<Url, ConfigProblem> {
    let text = value.text()?.trim();
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
    });
    let Some(url) = url else {
        // Not repeated if it could contain a password.
        let shown = if text.contains('@') { "that".to_owned() } else { quoted(text) };
        return Err(value.rule(format!(
            "must be a URL such as https://host or http://127.0.0.1:8188, not {shown}"
        )));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(value.rule("must not contain a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(value.rule("must not contain `?` or `#`"));
    }
    Ok(url)
}

/// The hub, where the path `/spaces/owner/name` is a Space's web page and not the Space itself.
const HUB: &str = "huggingface.co";

/// Parses a Hugging Face Space: `owner/name`, the URL of its page on the hub (which means the
/// same), or the base URL of any other Space: https, or http on loopback.
pub(in crate::config) fn space(value: &RawValue<'_>) -> Result<SpaceSetting, ConfigProblem> {
    let text = value.text()?.trim();
    if !text.contains("://") {
        return named_space(text).ok_or_else(|| {
            // The most likely mistake is a host without a scheme.
            let hint = if text.contains('/') { "" } else { "; an address begins with https://" };
            value.rule(format!(
                "must name a Space as \"owner/name\", or by its base URL, not {}{hint}",
                quoted(text)
            ))
        });
    }
    let mut url = http_url(value)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(value.rule(
            "must begin with https://, because your picture and perhaps a token are sent there; \
             http:// is for this machine only (127.0.0.1, localhost)",
        ));
    }
    if url.host_str() == Some(HUB) {
        let path = url.path().trim_matches('/');
        return path
            .strip_prefix("spaces/")
            .and_then(named_space)
            .ok_or_else(|| value.rule("must name one Space of the hub, as \"owner/name\""));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(SpaceSetting::At(url))
}

/// Accepts `owner/name` as the hub allows names: letters, digits, `-`, `_` and `.`, at most
/// 96 of them, with no `-` or `.` first or last
/// (<https://huggingface.co/docs/huggingface_hub>, `validate_repo_id`).
fn named_space(text: &str) -> Option<SpaceSetting> {
    let (owner, name) = text.split_once('/')?;
    let sound = |part: &str| {
        (1..=96).contains(&part.len())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    (sound(owner) && sound(name)).then(|| SpaceSetting::Named(text.to_owned()))
}

/// Returns a placeholder for a URL that could not be parsed. It is never used, because the error
/// rejects the configuration.
pub(in crate::config) fn placeholder_url() -> Url {
    Url::parse("http://localhost").expect("the literal is a URL")
}

/// Returns whether a URL leads to this machine.
pub(in crate::config) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Parses a host that may be downloaded from: `.domain`, a host or an IP literal, each with an
/// optional `:port`.
pub(in crate::config) fn download_host(value: &RawValue<'_>) -> Result<String, ConfigProblem> {
    let text = value.text()?.trim().to_ascii_lowercase();
    let refused = |rule: &str| Err(value.rule(format!("contains {}, {rule}", quoted(&text))));
    if text.contains("://") || text.contains(['/', '@', '*', '?', '#']) {
        return refused(
            "but only hosts are allowed: \".runcomfy.net\" for a domain, \"files.runcomfy.net\" \
             for one host",
        );
    }
    // A bare IPv6 address contains colons and has no port.
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text.as_str(), None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return refused("whose port is not a number from 1 to 65535");
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(text);
    }
    let name = host.strip_prefix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return refused("which is not a host name");
    }
    if host.starts_with('.') && !name.contains('.') {
        return refused(
            "which is a whole top-level domain; name a domain such as \".runcomfy.net\"",
        );
    }
    Ok(text)
}

/// Parses the page's address; an empty one means no page.
pub(in crate::config) fn listen_address(
    value: &RawValue<'_>,
) -> Result<Option<SocketAddr>, ConfigProblem> {
    let text = value.text()?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    };
    let Some(address) = address else {
        return Err(value.rule(format!(
            "must be an address and a port such as \"127.0.0.1:7717\", or \"\" for no page, not {}",
            quoted(text)
        )));
    };
    if !address.ip().is_loopback() {
        return Err(value.rule(
            "must be an address of this machine only (127.0.0.1 or [::1]), because the page can \
             spend money",
        ));
    }
    if address.port() == CONJURE_RESERVED_PORT {
        return Err(value.rule(
            "must not be port 8000: that is CONJURE's own, and CONJURE ends any program that \
             listens there",
        ));
    }
    Ok(Some(address))
}
