//! Checks generated texts: nothing panics, every error names its line, and no secret is repeated.

use proptest::prelude::*;

use super::ConfigFixture;
use crate::config::EXAMPLE;

/// Generates the example with a few characters replaced: almost correct, which random text
/// never is.
fn damaged_example() -> impl Strategy<Value = String> {
    let damage =
        prop::collection::vec((0..EXAMPLE.len(), "[\\[\\]{}=\"'#\n.,a0-9_ é-]{0,3}"), 1..6);
    damage.prop_map(|damage| {
        let mut text = EXAMPLE.to_owned();
        for (at, with) in damage {
            let at =
                (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(at);
            text.replace_range(at..end, &with);
        }
        text
    })
}

fn toml_like() -> impl Strategy<Value = String> {
    let keys = "(mode|trigger|project|serverless|generation|bind|on|seed|root|api_url|listen|dir|x|\"\\.\")";
    let value = "(1|-9|1e400|nan|0x7fffffffffffffff|99999999999999999999|true|\"\"|\"a\"|\"~\"|1979-05-27|\\[\\]|\\[1,\"b\"\\]|\\{a=1\\})";
    let line =
        format!(r"{keys}={value}|{keys}\.{keys}={value}|\[{keys}(\.{keys})?\]|\[\[{keys}\]\]");
    let line = prop::string::string_regex(&line).expect("a pattern");
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

fn every_complaint_has_a_line(text: &[u8]) {
    let mut fixture = ConfigFixture::new();
    fixture.sources.explicit = Some(fixture.write("config.toml", text));
    if let Err(errors) = fixture.load() {
        assert!(!errors.0.is_empty());
        let lines = text.split(|byte| *byte == b'\n').count();
        for error in errors.0 {
            let line = error.origin.line().expect("a file's complaint has a line");
            assert!((1..=lines).contains(&line), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_load_or_are_refused_by_line(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        every_complaint_has_a_line(&bytes);
    }

    #[test]
    fn any_text_loads_or_is_refused_by_line(text in "\\PC{0,80}(\n\\PC{0,40}){0,4}") {
        every_complaint_has_a_line(text.as_bytes());
    }

    #[test]
    fn anything_like_toml_loads_or_is_refused_by_line(text in toml_like()) {
        every_complaint_has_a_line(text.as_bytes());
    }

    #[test]
    fn a_damaged_example_loads_or_is_refused_by_line(text in damaged_example()) {
        every_complaint_has_a_line(text.as_bytes());
    }

    #[test]
    fn any_variables_load_or_are_refused_by_name(
        name in "(MODE|PROJECT|TRIGGER|GENERATION|PAGE)(__(ON|SEED|BIND|LISTEN|IGNORE_PROMPTS|X)){0,3}|[A-Z_]{0,12}",
        text in "[\\[{]?\\PC{0,30}",
    ) {
        let name = format!("CONJURED__{name}");
        if let Err(errors) = ConfigFixture::new().set(&name, &text).load() {
            for error in errors.0 {
                prop_assert!(error.to_string().starts_with(&format!("environment variable {name}: ")), "{error}");
            }
        }
    }

    #[test]
    fn a_long_secret_never_comes_back(
        secret in "[a-f]{4}[0-9][a-zA-Z0-9]{20,40}",
        line in "(token *=|\\[serverless\\]\ntoken =|mode =|deployment_id|x = \\[|)",
        open in "[\"']?",
        close in "[\"'] ?",
    ) {
        let fixture = ConfigFixture::with(&format!("{line} {open}{secret}{close}\n"));
        if let Err(errors) = fixture.load() {
            prop_assert!(!errors.to_string().contains(&secret), "{errors}");
            prop_assert!(!format!("{errors:?}").contains(&secret), "{errors:?}");
        }
    }
}

#[test]
fn depth_and_number_of_errors_are_bounded() {
    every_complaint_has_a_line("a=[".repeat(20_000).as_bytes());
    every_complaint_has_a_line(format!("a{}=1", ".a".repeat(20_000)).as_bytes());
    let complaints = ConfigFixture::with(&"= =\n".repeat(10_000)).complaints();
    assert!(complaints.ends_with("9980 more errors follow"), "{}", complaints.len());
    assert!(complaints.len() < 4000);
    let unknown: Vec<_> = (0..1000).map(|number| format!("k{number} = 1")).collect();
    assert!(
        ConfigFixture::with(&unknown.join("\n")).complaints().ends_with("900 more errors follow")
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_content() {
    let fixture =
        ConfigFixture::with("\u{feff}mode = \"serverless\"\r\n[log]\r\nkeep_days = 0\r\n");
    assert_eq!(
        fixture.complaints(),
        "config.toml:3: `log.keep_days` is 0, but must be between 1 and 3650"
    );
}

#[test]
fn a_byte_order_mark_is_no_column() {
    let complaints = ConfigFixture::with("\u{feff}on = either").complaints();
    assert!(complaints.starts_with("config.toml:1: column 6: "), "{complaints}");
}

#[test]
fn a_complaint_shows_the_part_of_a_long_line_that_is_wrong() {
    let complaints =
        ConfigFixture::with(&format!("x = [{} oops ]", "1, ".repeat(500))).complaints();
    let lines: Vec<_> = complaints.lines().collect();
    assert!(lines[1].len() < 120, "{complaints}");
    let caret = lines[2].find('^').expect("a caret");
    assert_eq!(&lines[1][caret..caret + 4], "oops", "{complaints}");
}
