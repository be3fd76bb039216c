//! Detects whether hands are in CONJURE's picture, from the file that its tracker writes.
//!
//! Owns the parsing of `fingertips.json` and how long it stays valid. The file is rewritten in
//! place for every camera frame, so a partial read is common: while the file is fresh, that means
//! that the tracker is alive, and the file is read again. Anything unexpected or old counts as no
//! hands, because a hold based on garbage would never end.

use std::time::Duration;

use serde_json::Value;

use crate::time::WallTime;

/// The maximum age of the file. The tracker writes with every camera frame, 15 to 60 times a
/// second, and the slowest stutter of a busy machine is far below this limit; a tracker that has
/// ended leaves its last hands in the file forever.
pub const MAX_AGE: Duration = Duration::from_secs(2);

/// Returns whether a hand is in the picture. `modified` is the file's time; if it is more than
/// [`MAX_AGE`] in the future, it comes from another clock and says nothing.
pub fn hand_in_picture(bytes: &[u8], modified: WallTime, now: WallTime) -> bool {
    let age = now.since(modified).max(modified.since(now));
    if age > MAX_AGE {
        return false;
    }
    let file = match serde_json::from_slice(bytes) {
        Ok(Value::Object(file)) => file,
        Ok(_) => return false,
        // Incomplete and fresh: a running tracker is in the middle of a frame. If it died there,
        // the file is soon too old.
        Err(_) => return true,
    };
    let tracked = |key: &str| match file.get(key) {
        Some(Value::Object(hand)) => !hand.is_empty(),
        Some(Value::Array(points)) => !points.is_empty(),
        _ => false,
    };
    tracked("left_hand") || tracked("right_hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_millis(1_000_000);

    fn tracked(text: &str) -> bool {
        hand_in_picture(text.as_bytes(), NOW, NOW)
    }

    #[test]
    fn a_hand_that_is_not_null_is_in_the_picture() {
        assert!(tracked(r#"{"command": "none", "left_hand": null, "right_hand": {"x": 1}}"#));
        assert!(tracked(r#"{"left_hand": [[0.1, 0.2]], "right_hand": null}"#));
        assert!(!tracked(r#"{"command": "none", "left_hand": null, "right_hand": null}"#));
    }

    #[test]
    fn a_torn_file_waits_for_the_next_frame_and_no_longer_than_it_is_fresh() {
        for text in ["", "{", r#"{"left_hand": {"x": 1}"#] {
            assert!(tracked(text), "{text}");
            let old = WallTime::from_unix_millis(NOW.unix_millis() - 2100);
            assert!(!hand_in_picture(text.as_bytes(), old, NOW), "{text}");
        }
    }

    #[test]
    fn whatever_is_odd_is_no_hand() {
        for text in [
            "null",
            "[]",
            r#"{"left_hand": true}"#,
            r#"{"left_hand": "here", "right_hand": 1}"#,
            r#"{"left_hand": {}, "right_hand": []}"#,
            "{}",
        ] {
            assert!(!tracked(text), "{text}");
        }
    }

    #[test]
    fn a_tracker_that_has_ended_holds_nothing() {
        let hand = br#"{"left_hand": {"x": 1}}"#;
        let at = |age: i64| WallTime::from_unix_millis(NOW.unix_millis() - age);
        assert!(hand_in_picture(hand, at(1900), NOW));
        assert!(!hand_in_picture(hand, at(2100), NOW));
        assert!(hand_in_picture(hand, at(-1900), NOW), "a clock a little ahead");
        assert!(!hand_in_picture(hand, at(-60_000), NOW), "another clock");
    }
}
