//! The task for Windows' Task Scheduler: text in, text out, on every platform.
//!
//! Owns the elements of the task (schema 1.2 of
//! `http://schemas.microsoft.com/windows/2004/02/mit/task`, in which order matters) and the quoting
//! of a Windows command line. Nothing here touches a file or runs a command. The elements were
//! compared with the published schema by eye; no Task Scheduler has read them yet.

use super::{
    facts::{Scope, ServiceSpec},
    launchd::escaped,
};

/// The task's name.
pub(super) const TASK: &str = "conjured";

/// A text that only our own files contain.
pub(super) const MARK: &str = "Written by `conjured service install`.";

/// Starts the daemon without a window. A console program that the Task Scheduler starts in a user's
/// session gets a window, and closing it would end the daemon. `--headless` creates a hidden
/// console; the daemon stays a child of the task, so the task runs as long as the daemon and ends
/// with it.
const CONHOST: &str = r"%SystemRoot%\System32\conhost.exe";

/// Returns the task. A user's own task names its user, because only an administrator may create one
/// for every user. It restarts as often as the schema allows (an unsigned byte), and runs at normal
/// priority instead of a background task's 7. The Task Scheduler requires the declared encoding to
/// be the file's: see [`bytes`].
pub(super) fn task(wanted: &ServiceSpec) -> String {
    let program = ["--headless", &wanted.program];
    let words = program.into_iter().chain(wanted.arguments.iter().map(String::as_str));
    let arguments: Vec<String> = words.map(argument).collect();
    let (trigger, logon) = match wanted.scope {
        Scope::User => ("LogonTrigger", "InteractiveToken"),
        // Runs from boot and without a password, so without that user's network drives. Only an
        // administrator may create it.
        Scope::System => ("BootTrigger", "S4U"),
    };
    let user = wanted.user.as_deref().map(escaped);
    let of_user = user.as_ref().map(|user| format!("      <UserId>{user}</UserId>\n"));
    let trigger_user = of_user.clone().filter(|_| wanted.scope == Scope::User).unwrap_or_default();
    format!(
        "\
<?xml version=\"1.0\" encoding=\"UTF-16\"?>
<Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">
  <RegistrationInfo>
    <Description>The background daemon of CONJURE. {MARK}</Description>
  </RegistrationInfo>
  <Triggers>
    <{trigger}>
      <Enabled>true</Enabled>
{trigger_user}    </{trigger}>
  </Triggers>
  <Principals>
    <Principal id=\"Author\">
{of_user}      <LogonType>{logon}</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
      <RestartOnIdle>false</RestartOnIdle>
    </IdleSettings>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
    <Priority>5</Priority>
  </Settings>
  <Actions Context=\"Author\">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
",
        of_user = of_user.unwrap_or_default(),
        command = CONHOST,
        arguments = escaped(&arguments.join(" ")),
    )
}

/// Returns the file's bytes: UTF-16 with a byte order mark, as `schtasks` exports it and reads it
/// in every language.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let text = text.replace('\n', "\r\n");
    let units = [0xfeff].into_iter().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// Quotes one argument for the C library of Windows, in which backslashes are special only before
/// a quote.
pub(super) fn argument(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"';
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                quoted.push_str(&"\\".repeat(backslashes * 2 + 1));
                quoted.push('"');
                backslashes = 0;
            }
            _ => {
                quoted.push_str(&"\\".repeat(backslashes));
                backslashes = 0;
                quoted.push(c);
            }
        }
    }
    quoted.push_str(&"\\".repeat(backslashes * 2));
    quoted.push('"');
    quoted
}
