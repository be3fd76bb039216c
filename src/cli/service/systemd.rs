//! The unit file for systemd: text in, text out, on every platform.
//!
//! Owns the unit's settings, their escaping, and which of them an older systemd does not know.
//! Nothing here touches a file or runs a command. `systemd/*.service` are the same units for
//! installation by hand; a test compares them.

use super::wanted::{Scope, ServiceSpec};

/// The unit's name.
pub(super) const UNIT: &str = "conjured.service";

/// The first line of a unit that conjured wrote; a unit without it belongs to someone else.
pub(super) const MARK: &str = "# Written by `conjured service install`. Changes are lost at the next one; `systemctl edit` keeps them.";

/// Exit codes that a restart cannot fix, but a person can: usage, workflow, input, token,
/// configuration; and systemd's own code for a missing credential. 73 (the disk is full) and 75
/// (locked) can pass without help.
const GIVE_UP: &str = "64 65 66 77 78 CREDENTIALS";

/// How long the event loop may stay silent. It feeds the watchdog twice in that time, so it wakes
/// up once a minute for it.
const WATCHDOG_S: u32 = 120;

/// Returns the unit. `version` is systemd's version, if it is known.
pub(super) fn unit(wanted: &ServiceSpec, version: Option<u32>) -> String {
    let knows = |since: u32| version.is_some_and(|version| version >= since);
    let mut lines = vec![
        MARK.to_owned(),
        String::new(),
        "[Unit]".to_owned(),
        "Description=conjured, the background daemon of CONJURE".to_owned(),
        "# Not after network-online.target: the daemon waits for the network itself and loses no change.".to_owned(),
        "# Restarts are limited by growing delays (below) and never given up.".to_owned(),
        "StartLimitIntervalSec=0".to_owned(),
        String::new(),
        "[Service]".to_owned(),
    ];
    let mut add = |line: &str| lines.push(line.to_owned());
    if knows(253) {
        add("Type=notify-reload");
    } else {
        add("# systemd 253 and newer: Type=notify-reload, and no ExecReload.");
        add("Type=notify");
        add("# The shell's built-in kill, because not every machine has the program.");
        add(r#"ExecReload=/bin/sh -c "kill -HUP $$MAINPID""#);
    }
    add("NotifyAccess=main");
    add(&format!("ExecStart={}", command_line(wanted)));
    for (name, value) in &wanted.environment {
        add(&format!("Environment={}", quoted(&format!("{name}={value}"))));
    }
    if let (Scope::System, Some(user)) = (wanted.scope, &wanted.user) {
        add("# The owner of the checkout, because Blender must be able to replace the results.");
        add(&format!("User={}", user.replace('%', "%%")));
    }
    if let Some(file) = &wanted.token_file {
        add(
            "# The start fails if this file is missing. It has precedence over other tokens; a new one needs a restart.",
        );
        add(&format!("LoadCredential=runcomfy_token:{}", file.replace('%', "%%")));
    }
    add("# The daemon's event loop feeds the watchdog; a daemon that hangs is restarted.");
    add(&format!("WatchdogSec={WATCHDOG_S}"));
    add("# Disks may be slow and inputs many: the start ends when all of them were scanned once.");
    add("TimeoutStartSec=90");
    add(
        "# SIGTERM ends it within 5 seconds; jobs continue at the service, and the next start picks them up.",
    );
    add("TimeoutStopSec=10");
    add("Restart=on-failure");
    add(
        "# Usage, workflow, input, token, configuration: a restart fixes none of these, only a person can.",
    );
    add(&format!("RestartPreventExitStatus={GIVE_UP}"));
    if knows(254) {
        add("RestartSec=5");
        add("# From 5 seconds to 5 minutes.");
        add("RestartSteps=8");
        add("RestartMaxDelaySec=5min");
    } else {
        add(
            "# systemd 254 and newer: RestartSec=5 with RestartSteps=8 and RestartMaxDelaySec=5min.",
        );
        add("RestartSec=15");
    }
    add("# Memory contains the token.");
    add("LimitCORE=0");
    add("");
    match wanted.scope {
        Scope::User => USER_WALLS.lines().for_each(&mut add),
        Scope::System => system_walls(wanted).iter().for_each(|line| add(line)),
    }
    WALLS.lines().for_each(&mut add);
    add("");
    add("[Install]");
    add(match wanted.scope {
        Scope::User => "WantedBy=default.target",
        Scope::System => "WantedBy=multi-user.target",
    });
    lines.join("\n") + "\n"
}

const USER_WALLS: &str = "\
# What a user's manager can enforce without user namespaces, which some kernels and distributions
# forbid. No UMask: the program makes private files private, and the results should have the same
# permissions as CONJURE's own files.";

/// The restrictions for both scopes.
const WALLS: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
# The C library uses Netlink to list this machine's addresses.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# A result keeps the group of the file that it replaces.
SystemCallFilter=@chown
SystemCallErrorNumber=EPERM";

/// The restrictions for the system manager, which may create namespaces.
fn system_walls(wanted: &ServiceSpec) -> Vec<String> {
    let mut lines: Vec<String> = [
        "# $STATE_DIRECTORY and $LOGS_DIRECTORY: ledger and history, daily logs.",
        "StateDirectory=conjured",
        "StateDirectoryMode=0700",
        "LogsDirectory=conjured",
        "LogsDirectoryMode=0700",
        "",
        "# The whole disk is read-only, except the two folders above and the configured output folders.",
        "ProtectSystem=strict",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    if wanted.in_homes {
        lines.push("# The checkout, the configuration or the program is in a home folder, so these are not hidden.".to_owned());
        lines.push("ProtectHome=read-only".to_owned());
    } else {
        lines.push(
            "# Empty, not forbidden: a missing personal configuration is not an error.".to_owned(),
        );
        lines.push("ProtectHome=tmpfs".to_owned());
    }
    if !wanted.writable.is_empty() {
        lines.push("# The whole checkout, because the daemon's lock file is in its root. `-`: a missing one (a drive".to_owned());
        lines.push("# that is mounted later) does not stop the others.".to_owned());
    }
    for folder in &wanted.writable {
        lines.push(format!("ReadWritePaths={}", quoted(&format!("-{folder}"))));
    }
    let in_tmp = |path: &String| path.starts_with("/tmp/") || path.starts_with("/var/tmp/");
    if wanted.writable.iter().chain([&wanted.program]).any(in_tmp) {
        lines.push(
            "# No PrivateTmp: one of its paths is in the folder for temporary files.".to_owned(),
        );
    } else {
        lines.push("PrivateTmp=yes".to_owned());
    }
    let rest = "\
# No UMask: the program makes private files private, and Blender and its user's group must be able to
# read the results.
CapabilityBoundingSet=
PrivateDevices=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes";
    lines.extend(rest.lines().map(ToOwned::to_owned));
    lines
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
