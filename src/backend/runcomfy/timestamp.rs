//! RunComfy's timestamps.
//!
//! Owns the known formats: with microseconds or any other fraction, with `Z`, with `±hh:mm`, or
//! without a zone, which means UTC (docs.runcomfy.com shows the last form; a client of 2025
//! received the numeric offset).

use jiff::{Timestamp, civil::DateTime, tz::Offset};
use serde_json::Value;

use crate::domain::time::WallTime;

/// No timestamp is longer, so longer texts are not parsed.
const MAX_LEN: usize = 64;

/// Parses a timestamp. Returns `None` if it is absent or unreadable, which is harmless.
pub(super) fn parse(value: Option<&Value>) -> Option<WallTime> {
    let text = value?.as_str()?.trim();
    if text.len() > MAX_LEN {
        return None;
    }
    let with_zone = text.parse::<Timestamp>();
    let timestamp =
        with_zone.or_else(|_| Offset::UTC.to_timestamp(text.parse::<DateTime>()?)).ok()?;
    Some(WallTime::from_unix_millis(timestamp.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Option<i64> {
        parse(Some(&Value::from(text))).map(WallTime::unix_millis)
    }

    #[test]
    fn every_form_that_was_seen_is_read() {
        let table = [
            ("2025-09-15T12:00:00", 0),
            ("2025-09-15T12:00:00Z", 0),
            ("2025-09-15 12:00:00", 0),
            ("2025-09-15T12:00:00.5", 500),
            ("2025-09-15T12:00:00.123456", 123),
            ("2025-09-15T12:00:00.123456789Z", 123),
            ("2025-09-15T12:00:00.123456+00:00", 123),
            ("2025-09-15T14:30:00.000001+02:30", 0),
            ("2025-09-15T04:00:00-08:00", 0),
            (" 2025-09-15T12:00:00Z\n", 0),
        ];
        for (text, fraction) in table {
            assert_eq!(millis(text), Some(1_757_937_600_000 + fraction), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_none() {
        for text in ["", "soon", "2025-13-01T00:00:00", "2025-09-15T25:00:00Z", "1757937600"] {
            assert_eq!(millis(text), None, "{text:?}");
        }
        assert_eq!(parse(Some(&Value::from(17))), None);
        assert_eq!(parse(Some(&Value::Null)), None);
        assert_eq!(parse(None), None);
        assert_eq!(millis(&format!("2025-09-15T12:00:00.{}Z", "0".repeat(100))), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = millis(&text);
        }

        #[test]
        fn digits_and_marks_do_not_panic(text in "[0-9TZ:+. -]{0,40}") {
            let _ = millis(&text);
        }

        #[test]
        fn any_offset_means_the_same_moment(
            minutes in -23 * 60..23 * 60_i32,
            seconds in 0_i64..4_000_000_000,
        ) {
            let offset = Offset::from_seconds(minutes * 60).expect("within a day");
            let timestamp = Timestamp::from_second(seconds).expect("in range");
            let civil = offset.to_datetime(timestamp);
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hour, minute) = (minutes.abs() / 60, minutes.abs() % 60);
            let text = format!("{civil}{sign}{hour:02}:{minute:02}");
            prop_assert_eq!(millis(&text), Some(seconds * 1000));
        }
    }
}
