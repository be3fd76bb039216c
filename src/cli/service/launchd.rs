//! The property list for launchd: text in, text out, on every platform.
//!
//! Owns its keys (`launchd.plist(5)`) and XML's escaping. Nothing here touches a file or runs a
//! command. Not tried on a Mac: `tests/real/launchd` checks the keys and their types.

use super::wanted::{Scope, ServiceSpec};

/// The job's label, and the file's name without `.plist`.
pub(super) const LABEL: &str = "org.conjured.daemon";

/// A text that only our own files contain.
pub(super) const MARK: &str = "Written by `conjured service install`.";

/// Returns the property list.
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
    text += "  <key>RunAtLoad</key>
  <true/>
  <!-- Restarted after a failure, not after a stop. launchd ignores exit codes, so it also retries with an invalid configuration. -->
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <!-- SIGTERM ends it within 5 seconds. -->
  <key>ExitTimeOut</key>
  <integer>10</integer>
  <!-- Not Background, which slows down disk and network, because an artist waits for the result. -->
  <key>ProcessType</key>
  <string>Standard</string>
  <!-- The program makes private files private. 18 is 022. -->
  <key>Umask</key>
  <integer>18</integer>
";
    if let Some(folder) = &wanted.log_dir {
        // The daemon's own log has every line; this file gets the output before logging starts, and
        // a panic.
        let file = escaped(&format!("{folder}/launchd.err"));
        text += &format!("  <key>StandardErrorPath</key>\n  <string>{file}</string>\n");
    }
    text + "</dict>\n</plist>\n"
}

/// Escapes a text for XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
