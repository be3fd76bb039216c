//! One request, sent once, and an honest word on whether it left.
//!
//! Owns the line between "surely did not arrive" and "nobody knows". Everything that may cost money stands on it.
//!
//! The line is not drawn by reading error texts. The body of a POST is handed to the HTTP library behind a gate:
//! as long as the library has not asked for the body, no server can hold a whole request; and once we have given
//! up, the gate is shut, so that it cannot leave afterwards either. Name look-up, TCP, TLS, a proxy's refusal and a
//! time-out on the way to a connection all come before; whatever comes later is unknown.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Body, RequestBuilder, Response, header::CONTENT_LENGTH};
use tokio::time::Sleep;

use super::answer::{Answer, read_body};
use crate::failpoint::{self, Point, Side};

/// Why a POST brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// No byte of its body left this process, and none will.
    NotSent(String),
    /// It left, wholly or in part.
    Unknown(String),
}

/// How long an answer may take to be read that lies in the socket already when the time is over.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What is said of an answer that does not come.
const TOO_LATE: &str = "no answer within the time-out";

/// Sends `body` with `request`, waiting for the answer's head and body (of at most `limit` bytes) no longer than `timeout` in
/// all. When that is over, the socket is looked at once more: a process that was stopped meanwhile (SIGSTOP, a frozen
/// container, a suspended machine) finds both the time-out and the answer, and the answer is what counts.
pub async fn post_once(
    request: RequestBuilder,
    body: Bytes,
    timeout: Duration,
    limit: usize,
) -> Result<Answer, SendFault> {
    look_at_sockets().await;
    let gate = Arc::new(Gate::default());
    let behind_gate = {
        let (gate, body) = (Arc::clone(&gate), body.clone());
        futures_util::stream::once(async move {
            if gate.pass() { Ok(body) } else { Err(io::Error::other("the sender has given up")) }
        })
    };
    failpoint::hit(Point::SubmitPost, Side::Before);
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let head = request
        // A stream has no length of its own; with this header it goes as it is, not in chunks.
        .header(CONTENT_LENGTH, body.len())
        .body(Body::wrap_stream(behind_gate))
        .send();
    let head = before(deadline.as_mut(), head).await;
    failpoint::hit(Point::SubmitPost, Side::After);
    let reason = match head {
        Some(Ok(mut response)) => {
            let mut answer = Answer::head(&response);
            answer.body = before(deadline, read_body(&mut response, limit))
                .await
                .unwrap_or_else(|| Err(TOO_LATE.to_owned()));
            return Ok(answer);
        }
        Some(Err(error)) => describe(&error),
        None => TOO_LATE.to_owned(),
    };
    Err(if gate.shut() { SendFault::NotSent(reason) } else { SendFault::Unknown(reason) })
}

/// Waits for something until the deadline, and then no longer than it takes to read what has come already.
async fn before<T>(deadline: Pin<&mut Sleep>, wanted: impl Future<Output = T>) -> Option<T> {
    let mut wanted = std::pin::pin!(wanted);
    tokio::select! {
        biased;
        done = &mut wanted => return Some(done),
        () = deadline => {}
    }
    // The connection has a task of its own, which must have its turn before the answer is here.
    tokio::time::timeout(LAST_LOOK, wanted).await.ok()
}

/// Sends a request without a body whose repetition would harm nobody.
pub async fn send(request: RequestBuilder) -> Result<Response, String> {
    look_at_sockets().await;
    request.send().await.map_err(|error| describe(&error))
}

/// Lets the runtime ask the kernel about its sockets before one is chosen. Without it a kept-alive connection
/// whose end has already arrived looks alive to a daemon that was busy until now, and the request is lost in it.
async fn look_at_sockets() {
    tokio::task::yield_now().await;
}

/// Decides a race once: either the body was asked for, or it never will be.
#[derive(Default)]
struct Gate(AtomicU8);

impl Gate {
    const WAITING: u8 = 0;
    const PASSED: u8 = 1;
    const SHUT: u8 = 2;

    /// The library asks for the body; false when it must not have it any more.
    fn pass(&self) -> bool {
        self.settle(Self::PASSED) != Self::SHUT
    }

    /// The sender gives up; true when the body was never asked for.
    fn shut(&self) -> bool {
        self.settle(Self::SHUT) != Self::PASSED
    }

    /// Returns the state after an attempt to leave `WAITING` for `wanted`.
    fn settle(&self, wanted: u8) -> u8 {
        let tried =
            self.0.compare_exchange(Self::WAITING, wanted, Ordering::SeqCst, Ordering::SeqCst);
        tried.map_or_else(|found| found, |_| wanted)
    }
}

/// Says in a fragment what went wrong, without the URL.
pub fn describe(error: &reqwest::Error) -> String {
    if let Some(tls) = super::trust::tls_fault(error) {
        let host = error.url().and_then(url::Url::host_str).unwrap_or("the service");
        return super::trust::words(tls, host);
    }
    match (error.is_connect(), error.is_timeout()) {
        _ if error.is_dns() => format!("its name could not be looked up ({})", cause(error)),
        (true, true) => "no connection within the time-out".to_owned(),
        (true, false) => format!("no connection ({})", cause(error)),
        (false, true) => TOO_LATE.to_owned(),
        (false, false) => format!("the connection failed ({})", cause(error)),
    }
}

/// Returns the innermost cause in its own words: the outer ones repeat each other and the URL.
pub fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_the_gate_is_never_called_unsent_and_what_is_unsent_never_passes() {
        let first = Gate::default();
        assert!(first.pass() && first.pass(), "asked twice is still asked");
        assert!(!first.shut());
        let second = Gate::default();
        assert!(second.shut());
        assert!(!second.pass());
    }
}
