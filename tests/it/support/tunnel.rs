//! A connection to the service that a test may disturb: a port that forwards to the service, with
//! TLS or without.
//!
//! Owns the port and the thread. The test chooses what the certificates say; they are made in the
//! test and trusted by no one. A port on which nothing listens yet, or never, is a [`Port`]: it
//! stays reserved, so no other test can be given it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread::{Builder, JoinHandle},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// The port's protocol.
#[derive(Clone)]
#[cfg_attr(windows, expect(dead_code, reason = "some of its users are for Unix"))]
pub(crate) enum Speaks {
    /// The service's own plain HTTP.
    Plain,
    /// TLS, and behind it the service.
    Tls(Arc<ServerConfig>),
    /// These bytes, whatever arrives, and then the end.
    Bytes(&'static [u8]),
    /// An HTTP proxy that records its requests. `CONNECT` leads to the service behind TLS, or
    /// is forbidden.
    Proxy {
        /// The heads of its requests.
        asked: Arc<Mutex<Vec<String>>>,
        /// The TLS configuration of the far side.
        behind: Option<Arc<ServerConfig>>,
    },
}

/// A port of this machine that is bound and does not listen: connections to it are refused.
pub(crate) struct Port {
    /// Its address.
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
}

impl Port {
    /// Reserves any port.
    pub(crate) fn closed() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self { address: socket.local_addr().expect("bound"), socket }
    }

    /// Returns its address as a URL, quoted as TOML wants it.
    pub(crate) fn url(&self) -> String {
        format!("\"http://{}\"", self.address)
    }
}

/// A port that forwards.
pub(crate) struct Tunnel {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Listens on `at` and forwards to `to`.
    pub(crate) fn open(at: Port, to: SocketAddr, speaks: Speaks) -> Self {
        let (started, ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = at.socket.listen(64).expect("the port is ours");
                started.send(at.address).expect("the test waits");
                tokio::select! {
                    () = accept(&listener, to, &speaks) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = Builder::new().name("tunnel".to_owned()).spawn(serve).expect("a thread");
        let address = ready.recv().expect("the tunnel opens");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the connections of a test's peer end with its runtime"
)]
async fn accept(listener: &TcpListener, to: SocketAddr, speaks: &Speaks) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(forward(stream, to, speaks.clone()));
    }
}

async fn forward(mut stream: TcpStream, to: SocketAddr, speaks: Speaks) {
    // Errors are what the tests order; only the client's side of them is checked.
    match speaks {
        Speaks::Bytes(bytes) => drop(stream.write_all(bytes).await),
        Speaks::Plain => {
            if let Ok(mut far) = TcpStream::connect(to).await {
                drop(copy_bidirectional(&mut stream, &mut far).await);
            }
        }
        Speaks::Tls(config) => tls(stream, to, config).await,
        Speaks::Proxy { asked, behind } => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            asked.lock().expect("no panic").push(String::from_utf8_lossy(&head).into_owned());
            match behind {
                Some(config) => {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
                    tls(stream, to, config).await;
                }
                None => {
                    let refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
                    drop(stream.write_all(refusal).await);
                }
            }
        }
    }
}

async fn tls(stream: TcpStream, to: SocketAddr, config: Arc<ServerConfig>) {
    if let Ok(mut near) = TlsAcceptor::from(config).accept(stream).await
        && let Ok(mut far) = TcpStream::connect(to).await
    {
        drop(copy_bidirectional(&mut near, &mut far).await);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}
