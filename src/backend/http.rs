//! The HTTP clients of every adapter: connections, time-outs, trust, and one request that is sent once.
//!
//! Owns how we connect: HTTP/1.1 over rustls with ring and the platform's certificate authorities, kept-alive
//! connections, explicit time-outs, no redirects, no decompression, no cookies, no retry of any kind. It does not own
//! what is said: hosts of downloads are [`super::download`]'s rule, words and codes the adapter's.
//!
//! # A request is sent once
//! - `reqwest` is told never to retry. Below it, `hyper-util` moves a request to another connection when a kept-alive
//!   one turned out to be closed; it does so only for a request that no connection has begun to write (it gets the
//!   untouched request back), so the server cannot see it twice. [`send`] keeps an independent record of that: the body
//!   is handed out behind a gate, and the gate says whether a byte of it was ever asked for.
//! - A kept-alive connection that the server closed *before* we send is noticed: [`send`] lets the runtime look at its
//!   sockets first. One that is closed *while* we send is an unknown outcome, and is reported as such.
//!
//! # Proxies
//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured for hosts beyond this machine, always as a tunnel, so that a
//! proxy sees neither token nor picture. Loopback is never proxied. Plain HTTP is spoken to loopback only.

pub mod answer;
pub mod send;
mod trust;
pub mod words;
#[cfg(test)]
pub(crate) mod fake;

use std::{sync::Once, time::Duration};

use tokio::sync::OnceCell;
use url::{Host, Url};

/// How we name ourselves. RunComfy's storage answers 403 to the default names of some libraries.
pub const USER_AGENT: &str = concat!("conjured/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: longer than a quiet window and any wait between two status calls, so that
/// what was opened early is still there when it is needed.
const KEEP_IDLE: Duration = Duration::from_secs(90);

/// When the kernel begins to probe a silent connection: below the minute after which home routers forget it.
const PROBE_AFTER: Duration = Duration::from_secs(20);

/// The time-outs of a [`Connector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For name, TCP and TLS together.
    pub connect: Duration,
    /// For the answer's head, and then for each piece of its body.
    pub read_idle: Duration,
}

/// Why no client can be had for a URL. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The URL is neither HTTPS nor plain HTTP on this machine.
    #[error(
        "refused to speak unencrypted to `{host}`: only `https://` is allowed beyond this machine"
    )]
    Unencrypted {
        /// The host.
        host: String,
    },
    /// TLS cannot be set up, most often because the machine has no certificate authorities.
    #[error(
        "no server can be trusted, because the certificate authorities of this system could not be loaded \
         ({reason}): install the package `ca-certificates`, or point SSL_CERT_FILE at a bundle"
    )]
    NoTrust {
        /// What the TLS library says.
        reason: String,
    },
}

/// Makes and keeps the clients, one for each kind of way, each at its first use: a machine without
/// certificate authorities can still talk to a ComfyUI of its own, and a daemon with nothing to do
/// loads no certificates. A client is made on the blocking pool: reading all certificates takes
/// longer than a loop may stand still.
#[derive(Debug)]
pub struct Connector {
    timeouts: Timeouts,
    plain_loopback: OnceCell<reqwest::Client>,
    tls_loopback: OnceCell<reqwest::Client>,
    far: OnceCell<reqwest::Client>,
}

/// The kinds of way.
#[derive(Clone, Copy, Debug)]
enum Way {
    PlainLoopback,
    TlsLoopback,
    Far,
}

impl Connector {
    /// Makes a connector. Nothing is loaded or opened yet.
    pub const fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            plain_loopback: OnceCell::const_new(),
            tls_loopback: OnceCell::const_new(),
            far: OnceCell::const_new(),
        }
    }

    /// Returns the client for `url`. A client that could not be made is tried again the next time.
    pub async fn client(&self, url: &Url) -> Result<&reqwest::Client, ConnectorError> {
        let (cell, way) = match (url.scheme(), is_loopback(url)) {
            ("http", true) => (&self.plain_loopback, Way::PlainLoopback),
            ("https", true) => (&self.tls_loopback, Way::TlsLoopback),
            ("https", false) => (&self.far, Way::Far),
            _ => {
                return Err(ConnectorError::Unencrypted {
                    host: url.host_str().unwrap_or_default().to_owned(),
                });
            }
        };
        let timeouts = self.timeouts;
        cell.get_or_try_init(async || {
            match tokio::task::spawn_blocking(move || made(way, timeouts)).await {
                Ok(made) => made,
                Err(error) => match error.try_into_panic() {
                    Ok(payload) => std::panic::resume_unwind(payload),
                    // The runtime is shutting down: nobody waits for this call any more.
                    Err(_) => std::future::pending().await,
                },
            }
        })
        .await
    }
}

fn made(way: Way, timeouts: Timeouts) -> Result<reqwest::Client, ConnectorError> {
    provide();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read_idle)
        .pool_idle_timeout(KEEP_IDLE)
        .tcp_keepalive(PROBE_AFTER)
        .tcp_keepalive_interval(PROBE_AFTER)
        .tcp_nodelay(true);
    let builder = match way {
        // No certificates: they would take milliseconds and megabytes for nothing.
        Way::PlainLoopback => builder.no_proxy().tls_certs_only([]),
        Way::TlsLoopback => builder.no_proxy(),
        Way::Far => builder.https_only(true),
    };
    builder.build().map_err(|error| ConnectorError::NoTrust { reason: send::cause(&error) })
}

/// Begins a client for a server of this machine that speaks plain HTTP, such as a daemon's own socket.
pub fn plain_client() -> reqwest::ClientBuilder {
    provide();
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
}

/// Chooses the cryptography of this process, once.
fn provide() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error only says that somebody in this process was quicker; theirs is then as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Tells whether `url` names this machine: 127.0.0.0/8, `::1` or `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests;
