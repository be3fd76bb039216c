//! The hosts that downloads may come from.
//!
//! Owns the list of allowed hosts and the rules for a URL: HTTPS (plain HTTP only to this machine),
//! no user name, and a host from the list. The check uses the same WHATWG parser that builds the
//! request, so no spelling of a URL can mean one host in the check and another host in the request.

use url::{Host, Url};

use crate::backend::{FetchError, http::is_loopback};

/// An entry that is not a valid host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a host: write `files.example.com`, `.example.com` for every host below it, or `127.0.0.1:8080`"
)]
pub struct NotAHost(pub String);

/// The allowed hosts.
///
/// An entry is a host (`files.example.com`, `127.0.0.1`, `[::1]`), or a domain with a leading dot,
/// which matches every host below the domain but not the domain itself. If the entry has a port,
/// the URL must use that port; without one, any port is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts(Vec<HostEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct HostEntry {
    /// The host as a URL writes it; for a domain, including the leading dot.
    host: String,
    is_domain: bool,
    port: Option<u16>,
}

impl AllowedHosts {
    /// Parses the entries of a configuration.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, NotAHost> {
        entries
            .iter()
            .map(|entry| HostEntry::parse(entry.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Checks the URL of one hop of a download.
    pub fn check(&self, url: &Url) -> Result<(), FetchError> {
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(Self::forbidden_text(url.as_str(), "it is not a URL with a host"));
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(url) => {}
            "http" => return Err(Self::forbidden(url, "its URL is not encrypted (`https://`)")),
            _ => return Err(Self::forbidden(url, "its URL is not `https://`")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Self::forbidden(url, "its URL contains a user name"));
        }
        let port = url.port_or_known_default();
        if self.0.iter().any(|entry| entry.allows(host, port)) {
            Ok(())
        } else {
            Err(Self::forbidden(url, "it is not in `serverless.download_hosts`"))
        }
    }

    /// Returns the error for a URL that has a host.
    pub(super) fn forbidden(url: &Url, reason: &'static str) -> FetchError {
        Self::forbidden_text(url.host_str().unwrap_or_default(), reason)
    }

    /// Returns the error for a host, or for a URL without a host. The query is removed, and the
    /// text is shortened.
    pub(super) fn forbidden_text(text: &str, reason: &'static str) -> FetchError {
        let visible = text.split(['?', '#']).next().unwrap_or_default().chars();
        let host = visible.filter(|c| !c.is_control()).take(100).collect();
        FetchError::Forbidden { host, reason }
    }
}

impl HostEntry {
    fn parse(text: &str) -> Result<Self, NotAHost> {
        let error = || NotAHost(text.chars().take(100).collect());
        let trimmed = text.trim();
        let (rest, is_domain) = match trimmed.strip_prefix('.') {
            Some(rest) => (rest, true),
            None => (trimmed, false),
        };
        // The last colon separates the port, except inside the brackets of an IPv6 address.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| error())?))
            }
            _ => (rest, None),
        };
        let parsed = Host::parse(host).map_err(|_| error())?;
        let is_name = matches!(parsed, Host::Domain(_));
        if is_domain && !is_name {
            return Err(error());
        }
        let host = if is_domain { format!(".{parsed}") } else { parsed.to_string() };
        Ok(Self { host, is_domain, port })
    }

    fn allows(&self, host: &str, port: Option<u16>) -> bool {
        let is_here = if self.is_domain {
            // The dot is part of the entry: `evilruncomfy.net` does not end in `.runcomfy.net`.
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        };
        is_here && self.port.is_none_or(|wanted| Some(wanted) == port)
    }
}
