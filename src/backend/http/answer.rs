//! Reads an answer completely, up to a size limit, and the delay that it asks for.
//!
//! Owns the size limits of API answers and the `Retry-After` and `Date` headers. It does not parse
//! the body.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Response,
    header::{DATE, HeaderMap, RETRY_AFTER},
};

use super::send::describe;
use crate::domain::job::backoff::RETRY_AFTER_CAP;

/// The delay for a `Retry-After` date if the answer has no `Date` to compare it with.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// An answer with its body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The delay that the service asks for, at most [`RETRY_AFTER_CAP`].
    pub retry_after: Option<Duration>,
    /// The time of the server (its `Date` header), in Unix seconds.
    pub date: Option<i64>,
    /// The body, or why it could not be read.
    pub body: Result<Bytes, String>,
}

impl Answer {
    /// Reads `response` to its end. A body of more than `limit` bytes is aborted as soon as its
    /// size is known.
    pub async fn read(mut response: Response, limit: usize) -> Self {
        Self { body: read_body(&mut response, limit).await, ..Self::head(&response) }
    }

    /// Reads the head alone: a body that has not come is empty.
    pub(super) fn head(response: &Response) -> Self {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let date = date(response.headers());
        Self { status, retry_after, date, body: Ok(Bytes::new()) }
    }
}

pub(super) async fn read_body(response: &mut Response, limit: usize) -> Result<Bytes, String> {
    let too_large = || format!("the answer is larger than {} KiB", limit / 1024);
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// Returns the delay from `Retry-After`, given in seconds or as a date. A date is compared with the
/// answer's own `Date`, so that our clock does not matter. An invalid value counts as absent, a
/// date in the past as no delay, and [`RETRY_AFTER_CAP`] is the maximum.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number with too many digits is still a number, and an absurdly large one.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_CAP));
    }
    let until = http_date(text)?;
    let Some(now) = date(headers) else { return Some(DEFAULT_RETRY_AFTER) };
    let seconds = u64::try_from(until.saturating_sub(now)).unwrap_or(0);
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_CAP))
}

/// Returns the answer's own time in Unix seconds. An invalid value counts as absent.
fn date(headers: &HeaderMap) -> Option<i64> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// Parses an HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`) into Unix seconds.
fn http_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let parse = |text: &str| parser.parse_timestamp(text).ok().map(jiff::Timestamp::as_second);
    // The last day of 9999, often used to write "never", is beyond the library's range. One year
    // earlier has the same effect.
    parse(text.trim()).or_else(|| parse(&text.trim().replace(" 9999 ", " 9998 ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn wait(retry_after_text: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after_text).expect("a header"));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).expect("a header"));
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn both_forms_of_retry_after_are_read_and_rubbish_is_not() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let table = [
            ("7", None, Some(7)),
            (" 7 ", None, Some(7)),
            ("0", None, Some(0)),
            ("86400", None, Some(900)),
            ("99999999999999999999999999", None, Some(900)),
            ("1000000000000", None, Some(900)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", date, Some(900)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", None, Some(5)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", date, Some(0)),
            ("-5", None, None),
            ("1.5", None, None),
            ("soon", None, None),
            ("", None, None),
            ("Sun, 06 Nov 1994 08:49:57 GMT", date, Some(20)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", date, Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", date, Some(900)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", None, Some(5)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some("rubbish"), Some(5)),
        ];
        for (text, date, expected) in table {
            assert_eq!(wait(text, date), expected, "{text:?} at {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_header_value_panics_or_exceeds_the_cap(value: Vec<u8>, date: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, bytes) in [(RETRY_AFTER, value), (DATE, date)] {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    headers.insert(name, value);
                }
            }
            prop_assert!(retry_after(&headers).is_none_or(|wait| wait <= RETRY_AFTER_CAP));
        }
    }
}
