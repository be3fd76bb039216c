//! The HTTP clients of all adapters: connections, time-outs and certificate checks.
//!
//! Owns how we connect: HTTP/1.1 over rustls with ring and the platform's certificate authorities,
//! kept-alive connections, explicit time-outs, no redirects, no decompression, no cookies, no
//! retries of any kind. It does not own the content: the allowed hosts of downloads belong to
//! [`super::download`], messages and codes to the adapters.
//!
//! # A request is sent once
//! - `reqwest` is configured never to retry. Below it, `hyper-util` moves a request to another
//!   connection if a kept-alive connection turned out to be closed. It does so only if no
//!   connection has begun to write the request (it gets the untouched request back), so the server
//!   cannot receive it twice. [`send`] verifies this independently: the body is handed out behind a
//!   gate, and the gate records whether any byte of it was requested.
//! - A kept-alive connection that the server closed *before* we send is detected: [`send`] first
//!   lets the runtime check its sockets. If it is closed *while* we send, the outcome is unknown
//!   and is reported as unknown.
//!
//! # Proxies
//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured for hosts beyond this machine, always as
//! a tunnel, so that a proxy sees neither the token nor the picture. Loopback never uses a proxy.
//! Plain HTTP is used for loopback only.

pub mod answer;
pub mod send;
mod trust;
pub mod message;
#[cfg(test)]
pub(crate) mod fake;

use std::{sync::Once, time::Duration};

use tokio::sync::OnceCell;
use url::{Host, Url};

/// The `User-Agent` header. RunComfy's storage answers 403 to the default names of some
/// libraries.
pub const USER_AGENT: &str = concat!("conjured/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: longer than a debounce window and longer than any delay
/// between two status calls, so that a connection opened early is still there when it is needed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// When the kernel begins to probe a silent connection: earlier than the minute after which home
/// routers drop it.
const KEEPALIVE_DELAY: Duration = Duration::from_secs(20);

/// The time-outs of a [`Connector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the name look-up, TCP and TLS together.
    pub connect: Duration,
    /// For the head of the answer, and then for each piece of its body.
    pub read_idle: Duration,
}

/// Why there is no client for a URL. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The URL is neither HTTPS nor plain HTTP on this machine.
    #[error(
        "unencrypted connection to `{host}` refused: outside this machine only `https://` is allowed"
    )]
    Unencrypted {
        /// The host.
        host: String,
    },
    /// TLS cannot be set up, usually because the machine has no certificate authorities.
    #[error(
        "no secure connection is possible, because the certificate authorities of this system could not be loaded \
         ({reason}): install the package `ca-certificates`, or point SSL_CERT_FILE at a bundle"
    )]
    NoTrust {
        /// The error text of the TLS library.
        reason: String,
    },
}

/// Creates and keeps one client for each kind of connection, each at its first use. So a machine
/// without certificate authorities can still talk to its own ComfyUI, and an idle daemon loads
/// no certificates. A client is created on the blocking pool: reading all certificates takes longer
/// than the event loop may be blocked.
#[derive(Debug)]
pub struct Connector {
    timeouts: Timeouts,
    plain_loopback: OnceCell<reqwest::Client>,
    tls_loopback: OnceCell<reqwest::Client>,
    remote: OnceCell<reqwest::Client>,
}

/// The kinds of way.
#[derive(Clone, Copy, Debug)]
enum ClientKind {
    PlainLoopback,
    TlsLoopback,
    Remote,
}

impl Connector {
    /// Creates a connector. Nothing is loaded or opened yet.
    pub const fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            plain_loopback: OnceCell::const_new(),
            tls_loopback: OnceCell::const_new(),
            remote: OnceCell::const_new(),
        }
    }

    /// Returns the client for `url`. If creating a client failed, the next call tries again.
    pub async fn client(&self, url: &Url) -> Result<&reqwest::Client, ConnectorError> {
        let (cell, kind) = match (url.scheme(), is_loopback(url)) {
            ("http", true) => (&self.plain_loopback, ClientKind::PlainLoopback),
            ("https", true) => (&self.tls_loopback, ClientKind::TlsLoopback),
            ("https", false) => (&self.remote, ClientKind::Remote),
            _ => {
                return Err(ConnectorError::Unencrypted {
                    host: url.host_str().unwrap_or_default().to_owned(),
                });
            }
        };
        let timeouts = self.timeouts;
        cell.get_or_try_init(async || {
            match tokio::task::spawn_blocking(move || build_client(kind, timeouts)).await {
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

fn build_client(kind: ClientKind, timeouts: Timeouts) -> Result<reqwest::Client, ConnectorError> {
    install_crypto_provider();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read_idle)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_keepalive(KEEPALIVE_DELAY)
        .tcp_keepalive_interval(KEEPALIVE_DELAY)
        .tcp_nodelay(true);
    let builder = match kind {
        // No certificates: they would take milliseconds and megabytes for nothing.
        ClientKind::PlainLoopback => builder.no_proxy().tls_certs_only([]),
        ClientKind::TlsLoopback => builder.no_proxy(),
        ClientKind::Remote => builder.https_only(true),
    };
    builder.build().map_err(|error| ConnectorError::NoTrust { reason: send::cause(&error) })
}

/// Starts to build a client for a server on this machine that speaks plain HTTP, such as the socket
/// of a daemon.
pub fn plain_client() -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
}

/// Installs the cryptography provider of this process, once.
fn install_crypto_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error only means that another part of this process was faster; its provider works
        // as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Returns whether `url` names this machine: 127.0.0.0/8, `::1` or `localhost`.
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
