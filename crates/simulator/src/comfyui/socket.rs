//! One socket of a client: it forwards what the world sends, until either end closes.
//!
//! Owns nothing but the forwarding. Which socket gets which message, and what is forgotten when one
//! closes, is the world's decision.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Shared;

/// A message to a client.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

/// Forwards frames. When the world drops its end, the connection closes without a close frame.
pub(super) async fn hold(
    mut socket: WebSocket,
    mut frames: UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
    sid: String,
    serial: u64,
) {
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let sent = match frame {
                    Some(Frame::Text(text)) => socket.send(Message::Text(text.into())).await,
                    Some(Frame::Binary(bytes)) => socket.send(Message::Binary(bytes.into())).await,
                    None => break,
                };
                if sent.is_err() {
                    break;
                }
            }
            said = socket.recv() => match said {
                // A client's first frame may list the features it supports; nothing here needs it.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    shared.lock().leave(&sid, serial);
}
