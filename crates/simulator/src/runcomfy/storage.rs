//! The storage's origin: the target of result URLs.
//!
//! Owns the rules that were observed there (public, no bearer token, no library User-Agent, files
//! that expire), ranges, and the faults of a stream. The content of a file is [`crate::produce`]'s.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::time::sleep;

use super::{
    graph::Graph,
    queue::Phase,
    request::Outcome,
    server::{ErrorReply, respond},
    state::Shared,
};
use crate::{
    faults::{Call, Fault},
    produce::{Content, Product},
    wire::{ConnectionHandle, TransportFault},
};

/// How many bytes are handed to the network at a time.
const PIECE: usize = 64 << 10;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/deployment_requests/{request}/{kind}/{*path}", get(download))
        .route(
            "/object_info.json",
            get(async || respond(Ok((StatusCode::OK, Graph::saved().object_info())))),
        )
        .fallback(async || respond(Err(ErrorReply::not_found("File"))))
        .with_state(shared)
}

/// Which part of a file is sent, and how.
struct Sending {
    content: Content,
    /// The first byte, and the byte after the last.
    range: (u64, u64),
    partial: bool,
    ranges: bool,
    kind: &'static str,
    etag: String,
}

async fn download(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path((request, kind, path)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    shared.take_fault(Call::Download);
    let product = match path.rsplit_once('.') {
        Some((_, "glb")) => Product::Mesh,
        _ => Product::Image,
    };
    let fault = shared.lock().0.orders.at(Call::Download, Some(product));
    let mishap = TransportFault::of(fault.as_ref());
    let normal = match find(&shared, &headers, &request, &kind, &path, product, fault.as_ref()) {
        _ if mishap.void => respond(Err(ErrorReply::not_found("File"))),
        Err(refusal) => respond(Err(refusal)),
        Ok(sending) => match &fault {
            Some(Fault::Redirect { url }) => redirect(url),
            _ => send(shared, sending, fault.as_ref()),
        },
    };
    mishap.deliver(&connection, normal).await
}

fn redirect(url: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(place) = HeaderValue::from_str(url) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn find(
    shared: &Shared,
    headers: &HeaderMap,
    request: &str,
    kind: &str,
    path: &str,
    product: Product,
    fault: Option<&Fault>,
) -> Result<Sending, ErrorReply> {
    let (mut state, now) = shared.lock();
    let no = |status, message: &str| Err(ErrorReply(status, json!({"message": message})));
    if headers.contains_key(header::AUTHORIZATION) {
        state.counts.authorization_leaks += 1;
        return no(StatusCode::FORBIDDEN, "Only one auth mechanism allowed");
    }
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    let library = agent.is_empty() || agent.to_ascii_lowercase().starts_with(b"python-urllib");
    if library && state.behaviour.refuse_library_agents {
        state.counts.agents_refused += 1;
        return no(StatusCode::FORBIDDEN, "Access denied");
    }
    let gone = ErrorReply::not_found("File");
    let Some(at) = state.find(request, Call::Download, now) else { return Err(gone) };
    if state.outcome(at, now) != Outcome::Succeeded {
        return Err(gone);
    }
    let expired = match state.phase(at, now) {
        Phase::Ended { at, .. } => now.since(at) >= state.settings.retention,
        Phase::Waiting { .. } | Phase::Running { .. } => false,
    };
    if expired {
        let status = StatusCode::from_u16(state.behaviour.expired_status);
        return no(status.unwrap_or(StatusCode::FORBIDDEN), "Request has expired");
    }
    let (spoiled, work) = (state.request(at).spoiled(product), &state.request(at).work);
    let nodes = if product == Product::Mesh { &work.meshes } else { &work.images };
    let plain = if product == Product::Mesh { "glb" } else { "png" };
    let extension = spoiled.map_or(plain, |spoiled| spoiled.extension(product));
    let listed = kind == "output"
        && nodes.iter().any(|node| {
            let folder = if node.subfolder.is_empty() { "" } else { "/" };
            path == format!("{}{folder}{}_00001_.{extension}", node.subfolder, node.stem)
        });
    let content = if listed {
        state.content(at, product)
    } else if matches!(kind, "output" | "temp") && path.ends_with(&format!("_00001_.{extension}")) {
        // A preview, a second file of the same name, a sub-graph's picture: real pictures, but not
        // the product.
        state.other_picture(at)
    } else {
        return Err(gone);
    };
    let ranges = state.behaviour.ranges && fault != Some(&Fault::NoRange);
    let etag = format!("\"{request}-{}\"", path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let size = content.len();
    let unchanged = headers.get(header::IF_RANGE).is_none_or(|known| known == etag.as_str());
    let asked = headers.get(header::RANGE).filter(|_| ranges && unchanged);
    let asked = asked.and_then(|value| value.to_str().ok()).and_then(|value| range(value, size));
    let sending = |range, partial| {
        let kind = match extension {
            "glb" => "model/gltf-binary",
            "webp" => "image/webp",
            "jpg" => "image/jpeg",
            _ => "image/png",
        };
        Sending { content, range, partial, ranges, kind, etag }
    };
    match asked {
        None => Ok(sending((0, size), false)),
        Some((from, _)) if from >= size => {
            no(StatusCode::RANGE_NOT_SATISFIABLE, "The requested range is not satisfiable")
        }
        Some(range) => Ok(sending(range, true)),
    }
}

/// Reads `bytes=a-` and `bytes=a-b`; other forms are ignored, as HTTP allows.
fn range(value: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let to = match to {
        "" => size,
        to => to.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (from < to || from >= size).then_some((from, to))
}

fn send(shared: Arc<Shared>, sending: Sending, fault: Option<&Fault>) -> Response<Body> {
    let (from, to) = sending.range;
    let size = sending.content.len();
    let claimed = match fault {
        Some(Fault::ContentLength { claimed }) => *claimed,
        _ => to - from,
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sending.kind));
    headers.insert(header::CONTENT_LENGTH, claimed.into());
    if let Ok(etag) = HeaderValue::from_str(&sending.etag) {
        headers.insert(header::ETAG, etag);
    }
    if sending.ranges {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if sending.partial {
        let told = format!("bytes {from}-{}/{size}", to.saturating_sub(1));
        if let Ok(told) = HeaderValue::from_str(&told) {
            headers.insert(header::CONTENT_RANGE, told);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *response.body_mut() =
        Body::from_stream(stream_body(shared, sending, TransferFaults::of(fault)));
    response
}

/// The timing and the fault of a stream.
#[derive(Clone, Copy, Default)]
struct TransferFaults {
    /// Bytes per second.
    bytes_per_second: Option<u64>,
    /// The fraction after which it goes wrong.
    halt: Option<f64>,
    /// Whether the connection then breaks (otherwise it stalls).
    breaks: bool,
    /// Whether the head declared another length: the connection will break at the end.
    wrong_length: bool,
}

impl TransferFaults {
    fn of(fault: Option<&Fault>) -> Self {
        let plain = Self::default();
        match fault {
            Some(Fault::SlowStream { bytes_per_second }) => {
                Self { bytes_per_second: Some((*bytes_per_second).max(1)), ..plain }
            }
            Some(Fault::StallAt { fraction }) => Self { halt: Some(*fraction), ..plain },
            Some(Fault::CutAt { fraction }) => {
                Self { halt: Some(*fraction), breaks: true, ..plain }
            }
            Some(Fault::ContentLength { .. }) => Self { wrong_length: true, ..plain },
            _ => plain,
        }
    }
}

/// Time for the sent bytes to leave the machine before the connection breaks.
const FLUSH_DELAY: Duration = Duration::from_millis(20);

fn stream_body(
    shared: Arc<Shared>,
    sending: Sending,
    course: TransferFaults,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    let (from, to) = sending.range;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a file below 4 GB, to the byte or nearly; the float is clamped to 0..=1"
    )]
    let halt = course.halt.map(|part| from + ((to - from) as f64 * part.clamp(0.0, 1.0)) as u64);
    let stop = halt.unwrap_or(to).min(to);
    // Twenty pieces per second, or smaller and rarer ones at a very low rate.
    let most = course
        .bytes_per_second
        .map_or(PIECE, |pace| usize::try_from(pace / 20).unwrap_or(PIECE).clamp(1, PIECE));
    stream::unfold((shared, sending.content, from), move |(shared, content, offset)| async move {
        if offset >= stop {
            if course.wrong_length {
                sleep(FLUSH_DELAY).await;
            }
            halt?;
            if !course.breaks {
                return std::future::pending().await;
            }
            sleep(FLUSH_DELAY).await;
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            return Some((Err(broken), (shared, content, offset)));
        }
        let left = usize::try_from(stop - offset).unwrap_or(usize::MAX);
        let piece = content.read(offset, most.min(left));
        if let Some(pace) = course.bytes_per_second {
            sleep(Duration::from_micros(piece.len() as u64 * 1_000_000 / pace)).await;
        }
        let next = offset + piece.len() as u64;
        shared.lock().0.counts.bytes_downloaded += piece.len() as u64;
        Some((Ok(piece), (shared, content, next)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_writes_them() {
        assert_eq!(range("bytes=10-", 100), Some((10, 100)));
        assert_eq!(range("bytes=10-19", 100), Some((10, 20)));
        assert_eq!(range("bytes=10-999", 100), Some((10, 100)));
        assert_eq!(range("bytes=100-", 100), Some((100, 100)), "answered with 416");
        for ignored in ["bytes=-5", "bytes=9-3", "lines=1-2", "bytes=a-b", ""] {
            assert_eq!(range(ignored, 100), None, "{ignored}");
        }
    }
}
