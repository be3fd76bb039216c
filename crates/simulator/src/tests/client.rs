//! A minimal HTTP client that can observe a broken answer: one call, one connection, every byte
//! that arrived.

use std::{io, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
    /// Whether the connection stayed silent for ten minutes, instead of being closed or broken.
    pub(super) silent: bool,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Returns whether the body is as long as the head declared.
    pub(super) fn is_whole(&self) -> bool {
        self.header("content-length").and_then(|n| n.parse().ok()) == Some(self.body.len())
    }
}

/// Makes one call. `Err` when not even a head arrived.
pub(super) async fn call(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let rest = url.strip_prefix("http://").expect("tests talk plain HTTP");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).await?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (key, value) in headers {
        head.extend([key, ": ", value, "\r\n"]);
    }
    head.extend(["content-length: ", &body.len().to_string(), "\r\n\r\n"]);
    stream.write_all(head.as_bytes()).await?;
    // This fails if the peer breaks the connection early; what it sent before still counts.
    let _ = stream.write_all(body).await;
    let (mut received, mut silent) = (Vec::new(), false);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout(Duration::from_secs(600), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(read)) => received.extend(&buffer[..read]),
            Err(_) => {
                silent = true;
                break;
            }
        }
    }
    let end = received.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head, body: received.split_off(end + 4), silent })
}
