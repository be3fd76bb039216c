//! The unit file for systemd: text in, text out, on every platform.
//!
//! Owns which settings of `systemd/*.service`, the units for installation by hand, depend on the
//! service and on systemd's version, and their escaping. Nothing here touches a file or runs a
//! command. Of these units' comments, those that begin with `CHANGE` and those about an example
//! (`#Setting=`) are for people only.

use super::facts::{Scope, ServiceSpec};

/// The unit's name.
pub(super) const UNIT: &str = "conjured.service";

/// The first line of a unit that conjured wrote; a unit without it belongs to someone else.
pub(super) const MARK: &str = "# Written by `conjured service install`. Changes are lost at the next one; `systemctl edit` keeps them.";

/// The units for installation by hand, which [`unit`] fills in.
const USER: &str = include_str!("../../../systemd/conjured.service");
const SYSTEM: &str = include_str!("../../../systemd/conjured-system.service");

/// Returns the unit. `version` is systemd's version, if it is known.
pub(super) fn unit(wanted: &ServiceSpec, version: Option<u32>) -> String {
    let file = match wanted.scope {
        Scope::User => USER,
        Scope::System => SYSTEM,
    };
    let mut lines = vec![MARK.to_owned(), String::new()];
    let mut comments = Vec::new();
    for line in file.lines().skip_while(|line| *line != "[Unit]") {
        if line.starts_with("# ") {
            comments.push(line.to_owned());
        } else if line.starts_with('#') {
            // An example for people, with its explanation.
            comments.clear();
        } else if !line.is_empty() {
            comments.retain(|comment: &String| !comment.starts_with("# CHANGE"));
            lines.extend(setting(line, &comments, wanted, version));
            comments.clear();
        } else if lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(String::new());
        }
    }
    lines.join("\n") + "\n"
}

/// Returns what stands in the place of a line and its comments in this service's unit.
fn setting(
    line: &str,
    comments: &[String],
    wanted: &ServiceSpec,
    version: Option<u32>,
) -> Vec<String> {
    let knows = |since: u32| version.is_some_and(|version| version >= since);
    let own = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    let each = |values: Vec<String>| {
        if values.is_empty() { values } else { [comments, &values].concat() }
    };
    let credential = wanted.token_file.iter();
    let credential =
        credential.map(|file| format!("LoadCredential=runcomfy_token:{}", file.replace('%', "%%")));
    match line.split('=').next().unwrap_or_default() {
        "Type" if knows(253) => own(&["Type=notify-reload"]),
        "ExecReload" if knows(253) => Vec::new(),
        "ExecStart" => {
            let variables = wanted
                .environment
                .iter()
                .map(|(name, value)| format!("Environment={}", quoted(&format!("{name}={value}"))));
            let mut lines = vec![format!("ExecStart={}", command_line(wanted))];
            lines.extend(variables);
            if let (Scope::User, Some(_)) = (wanted.scope, &wanted.token_file) {
                lines.push("# The start fails if this file is missing. It has precedence over other tokens; a new one needs a restart.".to_owned());
                lines.extend(credential);
            }
            lines
        }
        "User" => {
            let user = wanted.user.iter();
            each(user.map(|user| format!("User={}", user.replace('%', "%%"))).collect())
        }
        "LoadCredential" => each(credential.collect()),
        "RestartSec" if knows(254) => own(&[
            "RestartSec=5",
            "# From 5 seconds to 5 minutes.",
            "RestartSteps=8",
            "RestartMaxDelaySec=5min",
        ]),
        "ProtectHome" if wanted.in_homes => own(&[
            "# The checkout, the configuration or the program is in a home folder, so these are not hidden.",
            "ProtectHome=read-only",
        ]),
        "ReadWritePaths" => {
            let folders = wanted.writable.iter();
            each(
                folders
                    .map(|path| format!("ReadWritePaths={}", quoted(&format!("-{path}"))))
                    .collect(),
            )
        }
        "PrivateTmp"
            if wanted.writable.iter().chain([&wanted.program]).any(|path| in_tmp(path)) =>
        {
            own(&["# No PrivateTmp: one of its paths is in the folder for temporary files."])
        }
        _ => each(vec![line.to_owned()]),
    }
}

fn in_tmp(path: &str) -> bool {
    path.starts_with("/tmp/") || path.starts_with("/var/tmp/")
}

/// Returns the program and its arguments. systemd expands `$` in every word but the first, and a
/// `:` before the first word turns that off (`systemd.service(5)`, "Command lines").
fn command_line(wanted: &ServiceSpec) -> String {
    let words: Vec<&String> = [&wanted.program].into_iter().chain(&wanted.arguments).collect();
    let literal = if words.iter().any(|word| word.contains('$')) { ":" } else { "" };
    let words: Vec<String> = words.into_iter().map(|word| quoted(word)).collect();
    format!("{literal}{}", words.join(" "))
}

/// Escapes a word for systemd: `%` begins a specifier, white space ends a word, and `\` and quotes
/// must follow a `\` (`systemd.syntax(7)`, "Quoting").
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Parses systemd's version from the output of `systemctl --version`: `systemd
/// 252 (252.39-1~deb12u1)`.
pub(super) fn version(said: &str) -> Option<u32> {
    let number = said.strip_prefix("systemd ")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}
