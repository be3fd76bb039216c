//! The WebSocket of one request.
//!
//! Owns the handshake and the kinds of frames. The socket is an upgraded HTTP connection, so TLS,
//! certificate checks, proxies and the rule about plain HTTP are the same as for every other call.
//! No task reads it in the background: each `observe` reads the frames that have arrived. An
//! unreadable frame, a binary frame or the end of the socket is never an error of the job.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{FutureExt, StreamExt};
use reqwest::{
    Method, Upgraded,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::wire::Wire;

/// The time limit of the handshake: progress is not worth a longer wait.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of frames that are read at once. A run has some hundred.
const MAX_FRAMES: usize = 4096;

/// The largest frame: a preview is a picture of some hundred kilobytes.
const MAX_FRAME: usize = 16 * 1024 * 1024;

pub(super) struct Socket(WebSocketStream<Upgraded>);

/// The result of reading a socket.
pub(super) enum DrainEnd {
    /// Everything that had arrived was read, which may be nothing.
    Drained,
    /// The socket is closed or broken.
    Closed,
}

impl Socket {
    /// Opens the socket of a client id. Returns the reason if it cannot be opened.
    pub(super) async fn open(wire: &Wire, client_id: &str) -> Result<Self, String> {
        let opened =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, Self::handshake(wire, client_id)).await;
        opened.unwrap_or_else(|_| Err("no answer within the time-out".to_owned()))
    }

    async fn handshake(wire: &Wire, client_id: &str) -> Result<Self, String> {
        let mut url = wire.url(&["ws"]);
        url.query_pairs_mut().append_pair("clientId", client_id);
        // A nonce, so that no cache answers for the server (RFC 6455, 4.1).
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let request = wire
            .request(Method::GET, url)
            .await?
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        let is_agreed = response.status().as_u16() == 101
            && accept.is_some_and(|value| value == derive_accept_key(key.as_bytes()).as_str());
        if !is_agreed {
            return Err(format!("HTTP {} instead of a WebSocket", response.status()));
        }
        let stream = response.upgrade().await.map_err(|error| error.without_url().to_string())?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        Ok(Self(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await))
    }

    /// Passes every text frame that has arrived to `hear`. If none has, it waits up to `linger` for
    /// the first.
    pub(super) async fn drain(&mut self, linger: Duration, mut hear: impl FnMut(&str)) -> DrainEnd {
        // The runtime notices arrived data only between two polls.
        tokio::task::yield_now().await;
        let mut count = 0;
        while count < MAX_FRAMES {
            let next = match self.0.next().now_or_never() {
                Some(next) => next,
                None if count == 0 && !linger.is_zero() => {
                    match tokio::time::timeout(linger, self.0.next()).await {
                        Ok(next) => next,
                        Err(_) => break,
                    }
                }
                None => break,
            };
            match next {
                Some(Ok(Message::Text(text))) => hear(&text),
                // A preview or something new. The library answers pings.
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return DrainEnd::Closed,
            }
            count += 1;
        }
        DrainEnd::Drained
    }
}
