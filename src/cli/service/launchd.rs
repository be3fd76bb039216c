//! The property list for launchd: text in, text out, on every platform.
//!
//! Owns its keys (`launchd.plist(5)`) and XML's escaping. Nothing here touches a file or runs a
//! command. Not tried on a Mac: `tests/real/launchd` checks the keys and their types.

use super::facts::{Scope, ServiceSpec};

/// The job's label, and the file's name without `.plist`.
pub(super) const LABEL: &str = "org.conjured.daemon";

/// The property list for installation by hand.
const FILE: &str = include_str!("../../../launchd/org.conjured.daemon.plist");

/// A text that only our own files contain.
pub(super) const MARK: &str = "Written by `conjured service install`.";

pub(super) fn plist(wanted: &ServiceSpec) -> String {
    let mut text = format!(
        "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- {MARK} The next install overwrites changes. -->
<plist version=\"1.0\">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
"
    );
    for word in [&wanted.program].into_iter().chain(&wanted.arguments) {
        text += &format!("    <string>{}</string>\n", escaped(word));
    }
    text += "  </array>\n";
    let home = wanted.home.iter().map(|home| ("HOME".to_owned(), home.clone()));
    let variables: Vec<_> = home.chain(wanted.environment.iter().cloned()).collect();
    if !variables.is_empty() {
        text += "  <key>EnvironmentVariables</key>\n  <dict>\n";
        for (name, value) in variables {
            text += &format!(
                "    <key>{}</key>\n    <string>{}</string>\n",
                escaped(&name),
                escaped(&value)
            );
        }
        text += "  </dict>\n";
    }
    if let (Scope::System, Some(user)) = (wanted.scope, &wanted.user) {
        text += &format!("  <key>UserName</key>\n  <string>{}</string>\n", escaped(user));
    }
    text += common();
    if let Some(folder) = &wanted.log_dir {
        // The daemon's own log has every line; this file gets the output before logging starts, and
        // a panic.
        let file = escaped(&format!("{folder}/launchd.err"));
        text += &format!("  <key>StandardErrorPath</key>\n  <string>{file}</string>\n");
    }
    text + "</dict>\n</plist>\n"
}

/// Returns the keys that are the same in every property list, as they stand in the one for
/// installation by hand, between its arguments and its end.
fn common() -> &'static str {
    let after = FILE.split_once("  </array>\n").map_or(FILE, |(_, after)| after);
    after.split_once("</dict>\n</plist>").map_or(after, |(keys, _)| keys)
}

/// Escapes a text for XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
