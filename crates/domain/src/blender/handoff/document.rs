//! CONJURE's `state.json` as a value: parses what it says about imports, and writes it back with a
//! few members changed.
//!
//! Owns parsing and writing. Every part of CONJURE rewrites the whole file, so everything that we
//! do not change is preserved: every key, their order, every number to its last digit. The output
//! is ASCII, because CONJURE's readers open the file in the locale's encoding. A text that is not a
//! JSON object is never used as the base of a write.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};

use super::{COMMAND, ConjureState, MARKER};

/// A parsed `state.json`.
#[derive(Debug)]
pub struct StateDocument {
    members: Vec<(String, Box<RawValue>)>,
}

/// Why a text is not a valid state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is empty: a write is in progress or was interrupted.
    #[error("it is empty")]
    Empty,
    /// It is not a JSON object: incomplete or damaged.
    #[error("it is not a JSON object ({0})")]
    Malformed(String),
}

impl StateDocument {
    /// Parses the whole text.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.trim_ascii().is_empty() {
            return Err(StateError::Empty);
        }
        serde_json::from_slice(bytes).map_err(|error| StateError::Malformed(error.to_string()))
    }

    /// Returns what it says about imports.
    pub fn conjure_state(&self) -> ConjureState {
        let command = self.name("command");
        let elsewhere = self.members.iter().any(|(key, value)| {
            key.contains(COMMAND)
                || (value.get().contains(COMMAND)
                    && !(key == "command" && command.as_deref() == Some(COMMAND)))
        });
        ConjureState {
            app_status: self.name("app_status"),
            command,
            mesh_path: self.name("mesh_path"),
            marker: self.name(MARKER),
            flux_pipeline_request: self.name("flux_pipeline_request"),
            generation_mode: self.name("generation_mode"),
            command_misplaced: elsewhere,
        }
    }

    /// Returns a member as CONJURE's Python interprets it: `null`, `""` and missing keys are
    /// `None`; values of other types are returned as they are written.
    fn name(&self, key: &str) -> Option<String> {
        // The last one counts, as in Python.
        let (_, raw) = self.members.iter().rev().find(|(name, _)| name == key)?;
        match serde_json::from_str(raw.get()) {
            Ok(Value::Null | Value::Bool(false)) => None,
            Ok(Value::String(text)) => (!text.is_empty()).then_some(text),
            Ok(_) | Err(_) => Some(raw.get().to_owned()),
        }
    }

    /// Returns the state with `changes`: an existing member keeps its position, a new one
    /// is appended.
    pub fn with(&self, changes: &[(&str, Value)]) -> Vec<u8> {
        let mut members: Vec<(&str, String)> = Vec::with_capacity(self.members.len());
        for (key, value) in &self.members {
            // If a key occurs twice, Python sees the last one; one is enough.
            members.retain(|(earlier, _)| earlier != key);
            members.push((key, value.get().to_owned()));
        }
        for (key, value) in changes {
            match members.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value.to_string(),
                None => members.push((key, value.to_string())),
            }
        }
        let lines: Vec<String> = members
            .into_iter()
            .map(|(key, value)| format!("  {}: {value}", Value::from(key)))
            .collect();
        ascii(&format!("{{\n{}\n}}", lines.join(",\n"))).into_bytes()
    }
}

/// Escapes non-ASCII characters. In JSON they can only occur within strings.
fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            plain.push(letter);
        } else {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                plain.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    plain
}

impl<'de> Deserialize<'de> for StateDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = StateDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StateDocument, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push(member);
                }
                Ok(StateDocument { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn seen(text: &str) -> ConjureState {
        StateDocument::parse(text.as_bytes()).expect("a state").conjure_state()
    }

    #[test]
    fn what_is_not_changed_stays_as_it_stands_and_in_its_place() {
        let text = r#"{"b": 1.10, "command": null, "a": 123456789012345678901234567890, "x": {"y": [1e2]}}"#;
        let state = StateDocument::parse(text.as_bytes()).expect("a state");
        let written = state.with(&[("command", json!("go")), ("new", json!(0.001))]);
        let written = String::from_utf8(written).expect("text");
        let lines: Vec<&str> = written.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "{",
                r#""b": 1.10,"#,
                r#""command": "go","#,
                r#""a": 123456789012345678901234567890,"#,
                r#""x": {"y": [1e2]},"#,
                r#""new": 0.001"#,
                "}"
            ]
        );
    }

    #[test]
    fn the_output_is_ascii_even_if_the_input_is_not() {
        let text = "{\"text\": \"Lehm\u{e4}hnlich \u{2014} \u{1f54a}\", \"\u{fc}\": 1}";
        let state = StateDocument::parse(text.as_bytes()).expect("a state");
        let written = state.with(&[("mesh_path", json!("/c/jos\u{e9}/m.glb"))]);
        assert!(written.is_ascii());
        let back: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(back["text"], "Lehm\u{e4}hnlich \u{2014} \u{1f54a}");
        assert_eq!(back["mesh_path"], "/c/jos\u{e9}/m.glb");
        assert_eq!(back["\u{fc}"], 1);
    }

    #[test]
    fn torn_states_are_none() {
        let whole = r#"{"app_status": "running", "command": null}"#;
        for end in 0..whole.len() {
            assert!(StateDocument::parse(&whole.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for text in ["[]", "null", "\"x\"", "{} {}", "{\"a\": NaN}", "\u{feff}{}"] {
            assert!(StateDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(StateDocument::parse(b" \n").err(), Some(StateError::Empty));
        assert!(StateDocument::parse(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}']).is_err());
    }

    #[test]
    fn the_words_are_read_as_python_takes_them() {
        let state = seen(r#"{"command": "", "app_status": "running", "mesh_path": null}"#);
        assert_eq!((state.command, state.mesh_path), (None, None));
        assert_eq!(state.app_status.as_deref(), Some("running"));
        assert_eq!(seen(r#"{"command": 7}"#).command.as_deref(), Some("7"));
        let twice = seen(r#"{"command": "a", "command": null}"#);
        assert_eq!(twice.command, None, "the last one counts");
    }

    #[test]
    fn an_import_command_outside_of_its_key_is_noticed() {
        assert!(!seen(r#"{"command": "import_and_process_mesh"}"#).command_misplaced);
        assert!(
            seen(r#"{"command": null, "log": "did import_and_process_mesh"}"#).command_misplaced
        );
        assert!(seen(r#"{"import_and_process_mesh": 1}"#).command_misplaced);
        assert!(seen(r#"{"x": {"y": "import_and_process_mesh"}}"#).command_misplaced);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(state) = StateDocument::parse(&bytes) {
                prop_assert!(StateDocument::parse(&state.with(&[])).is_ok());
            }
        }

        #[test]
        fn a_rewrite_says_the_same(
            members in proptest::collection::btree_map(".{0,8}", any::<(Option<String>, f64)>(), 0..8)
        ) {
            let members: serde_json::Map<String, Value> = members
                .into_iter()
                .map(|(key, (text, number))| (key, json!([text, number])))
                .collect();
            let text = Value::Object(members).to_string();
            let again = StateDocument::parse(text.as_bytes()).expect("an object").with(&[]);
            let before: Value = serde_json::from_str(&text).expect("JSON");
            let after: Value = serde_json::from_slice(&again).expect("JSON");
            prop_assert_eq!(before, after);
        }
    }
}
