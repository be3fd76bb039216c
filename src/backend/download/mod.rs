//! Downloads from the storage of a backend, as a stream that can be resumed.
//!
//! Owns which hosts are allowed (every hop is checked against [`AllowedHosts`]), how a download is
//! resumed, and how large a file may be. It writes no files, checks no content, retries nothing and
//! never has a token.
//!
//! # Resuming
//! `Range: bytes=N-` is sent with `If-Range` if the storage gave this process a strong `ETag` for
//! the same URL. If the answer does not begin at N (ranges are not supported, the file has changed,
//! or the range is beyond the end), the download starts from the beginning, and [`Download::start`]
//! says so.
//!
//! # Limit
//! Hosts are checked by name. A name in an allowed domain that resolves to an address of this
//! machine is not detected (DNS rebinding); over HTTPS such an address still needs a certificate
//! for the name.

mod hosts;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use reqwest::{
    Response,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
        LOCATION, RANGE,
    },
};
use url::Url;

pub use self::hosts::{AllowedHosts, NotAHost};
use super::{
    Download, FetchError,
    http::{
        Connector, Timeouts,
        answer::retry_after,
        send::{self, describe},
    },
};

/// The maximum number of redirects. Storage networks use one or two.
const MAX_HOPS: usize = 5;

/// How many validators are kept: enough for the files of a few jobs.
const MAX_VALIDATORS: usize = 32;

/// Opens downloads.
pub struct Downloader {
    connector: Connector,
    hosts: AllowedHosts,
    max: u64,
    /// Strong `ETag`s by URL, the newest last. A std mutex, because it is never held across
    /// an await.
    validators: Mutex<VecDeque<(String, String)>>,
}

impl Downloader {
    /// Creates a downloader for files of at most `max` bytes.
    pub fn new(timeouts: Timeouts, hosts: AllowedHosts, max: u64) -> Self {
        Self { connector: Connector::new(timeouts), hosts, max, validators: Mutex::default() }
    }

    /// Starts the download of `address` at byte `from`.
    pub async fn open(&self, address: &str, from: u64) -> Result<Download, FetchError> {
        if from > self.max {
            return Err(self.too_large());
        }
        if from > 0 {
            let response = self.get(address, from).await?;
            if let Some(download) = self.read_partial(response, address, from)? {
                return Ok(download);
            }
        }
        let response = self.get(address, 0).await?;
        self.read_whole(response, address)
    }

    /// Follows redirects and returns the first answer that is not a redirect.
    async fn get(&self, address: &str, from: u64) -> Result<Response, FetchError> {
        let mut url = Url::parse(address)
            .map_err(|_| AllowedHosts::forbidden_text(address, "it is not a URL with a host"))?;
        for _ in 0..=MAX_HOPS {
            self.hosts.check(&url)?;
            let response = self.request(&url, address, from).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| FetchError::Transient {
                reason: format!("{} redirects without naming a target", host_of(&url)),
            })?;
        }
        Err(AllowedHosts::forbidden(&url, "it redirects too many times"))
    }

    async fn request(&self, url: &Url, address: &str, from: u64) -> Result<Response, FetchError> {
        let passing = |reason: String| FetchError::Transient {
            reason: format!("could not reach {}: {reason}", host_of(url)),
        };
        let client =
            self.connector.client(url).await.map_err(|error| passing(error.to_string()))?;
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(validator) = self.validator(address) {
                request = request.header(IF_RANGE, validator);
            }
        }
        let response = send::send(request).await.map_err(passing)?;
        let encoding = response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if encoding.is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
        {
            return Err(AllowedHosts::forbidden(
                url,
                "it sent a compressed body that was not requested",
            ));
        }
        Ok(response)
    }

    /// Reads the answer to a range request. Returns `None` if the download must start from
    /// the beginning.
    fn read_partial(
        &self,
        response: Response,
        address: &str,
        from: u64,
    ) -> Result<Option<Download>, FetchError> {
        let range = ContentRange::of(response.headers());
        match response.status().as_u16() {
            206 if range.is_some_and(|range| range.start == Some(from)) => {
                let total = range.and_then(|range| range.total);
                self.stream(response, address, from, total).map(Some)
            }
            // All bytes were already received; only the end was not seen.
            416 if range.is_some_and(|range| range.total == Some(from)) => Ok(Some(Download {
                start: from,
                total: Some(from),
                chunks: stream::empty().boxed(),
            })),
            200 => self.read_whole(response, address).map(Some),
            206 | 416 => Ok(None),
            status => Err(refused(status, &response)),
        }
    }

    /// Reads the answer to a request for the whole file.
    pub(super) fn read_whole(
        &self,
        response: Response,
        address: &str,
    ) -> Result<Download, FetchError> {
        match response.status().as_u16() {
            200 => self.stream(response, address, 0, None),
            // Some storages answer 206 although the whole file was requested.
            206 if ContentRange::of(response.headers())
                .is_some_and(|range| range.start == Some(0)) =>
            {
                let total = ContentRange::of(response.headers()).and_then(|range| range.total);
                self.stream(response, address, 0, total)
            }
            status => Err(refused(status, &response)),
        }
    }

    fn stream(
        &self,
        response: Response,
        address: &str,
        start: u64,
        total: Option<u64>,
    ) -> Result<Download, FetchError> {
        let announced = response.content_length().map(|length| start.saturating_add(length));
        let total = total.or(announced);
        if total.into_iter().chain(announced).any(|size| size > self.max) {
            return Err(self.too_large());
        }
        self.store_validator(address, response.headers());
        let (max, limit_mb) = (self.max, self.limit_mb());
        let chunks = stream::try_unfold((response, start), move |(mut response, at)| async move {
            let chunk = response.chunk().await.map_err(|error| FetchError::Transient {
                reason: format!("the download was cut at byte {at}: {}", describe(&error)),
            })?;
            let Some(chunk) = chunk else {
                return match total {
                    Some(total) if at < total => Err(FetchError::Transient {
                        reason: format!("the download ended at byte {at} of {total}"),
                    }),
                    _ => Ok(None),
                };
            };
            let at = at.saturating_add(chunk.len() as u64);
            if at > max {
                return Err(FetchError::TooLarge { limit_mb });
            }
            Ok(Some((chunk, (response, at))))
        });
        Ok(Download { start, total, chunks: chunks.boxed() })
    }

    const fn limit_mb(&self) -> u64 {
        self.max.div_ceil(1024 * 1024)
    }

    const fn too_large(&self) -> FetchError {
        FetchError::TooLarge { limit_mb: self.limit_mb() }
    }

    fn validator(&self, address: &str) -> Option<String> {
        let validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let known = validators.iter().rev().find(|(known, _)| known == address);
        known.map(|(_, validator)| validator.clone())
    }

    /// Keeps a strong validator. A weak one must not be used in `If-Range` (RFC 9110, 13.1.5).
    fn store_validator(&self, address: &str, headers: &HeaderMap) {
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok());
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        validators.retain(|(known, _)| known != address);
        if let Some(etag) = etag.filter(|etag| etag.starts_with('"') && etag.len() <= 256) {
            validators.push_back((address.to_owned(), etag.to_owned()));
        }
        if validators.len() > MAX_VALIDATORS {
            validators.pop_front();
        }
    }
}

impl fmt::Debug for Downloader {
    /// Leaves out the known URLs, because they may be signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloader")
            .field("hosts", &self.hosts)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Maps a status without a file to an error: problems of the storage itself are temporary, the
/// others are permanent.
fn refused(status: u16, response: &Response) -> FetchError {
    match status {
        408 | 425 | 429 | 500..600 => {
            let reason = format!("{} answered HTTP {status}", host_of(response.url()));
            match retry_after(response.headers()) {
                Some(retry_after) => FetchError::Busy { reason, retry_after },
                None => FetchError::Transient { reason },
            }
        }
        400..500 => FetchError::Gone { status },
        _ => FetchError::Transient {
            reason: format!("{} answered HTTP {status} instead of a file", host_of(response.url())),
        },
    }
}

/// The header `Content-Range: bytes 7-99/100`. Both values may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.split_once('/')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
        Some(Self { start, total: total.trim().parse().ok() })
    }
}
