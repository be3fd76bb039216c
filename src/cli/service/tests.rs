//! Checks the texts of services: what is written for which paths, and that the units for
//! installation by hand are the same.

use std::path::Path;

use super::{
    facts::{Scope, ServiceSpec},
    launchd,
    plan::{Platform, ServiceLocation, ServiceStep, display_command},
    systemd, task_scheduler,
};

fn wanted(scope: Scope) -> ServiceSpec {
    let system = scope == Scope::System;
    ServiceSpec {
        scope,
        program: "/usr/local/bin/conjured".to_owned(),
        arguments: vec!["run".to_owned()],
        environment: Vec::new(),
        user: system.then(|| "artist".to_owned()),
        home: Some("/people/artist".to_owned()),
        writable: vec!["/srv/CONJURE".to_owned()],
        in_homes: false,
        token_file: system.then(|| "/etc/conjured/runcomfy_token".to_owned()),
        log_dir: Some("/people/artist/logs".to_owned()),
    }
}

/// Returns the settings of a unit, without comments, in order.
fn settings(unit: &str) -> Vec<&str> {
    unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_units_for_installing_by_hand_are_what_install_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a unit");
    let mut user = wanted(Scope::User);
    user.program = "/PROGRAM".to_owned();
    let written = systemd::unit(&user, None).replace("/PROGRAM", "%h/.cargo/bin/conjured");
    assert_eq!(settings(&written), settings(&read("conjured.service")));
    let written = systemd::unit(&wanted(Scope::System), Some(252));
    assert_eq!(settings(&written), settings(&read("conjured-system.service")));
}

#[test]
fn a_newer_systemd_gets_what_an_older_one_would_complain_about() {
    let old = systemd::unit(&wanted(Scope::System), Some(252));
    assert!(settings(&old).contains(&"Type=notify"), "{old}");
    assert!(!settings(&old).iter().any(|line| line.starts_with("RestartSteps")), "{old}");
    let new = systemd::unit(&wanted(Scope::System), Some(254));
    for line in ["Type=notify-reload", "RestartSteps=8", "RestartMaxDelaySec=5min"] {
        assert!(settings(&new).contains(&line), "{line}: {new}");
    }
    assert!(!new.contains("ExecReload=/"), "{new}");
    assert_eq!(systemd::version("systemd 252 (252.39-1~deb12u1)\n+PAM"), Some(252));
    assert_eq!(systemd::version("systemd 257.1"), Some(257));
    assert_eq!(systemd::version("no systemd"), None);
}

#[test]
fn odd_paths_reach_systemd_as_they_are() {
    let mut odd = wanted(Scope::System);
    odd.program = "/opt/a b/100%/con\"jured".to_owned();
    odd.arguments = vec!["--root".to_owned(), "/srv/$HOME/it's\\C".to_owned(), "run".to_owned()];
    odd.writable = vec!["/srv/$HOME/it's\\C".to_owned(), "/srv/50% of it".to_owned()];
    odd.token_file = Some("/etc/my 100% token".to_owned());
    let unit = systemd::unit(&odd, None);
    let has = |line: &str| assert!(settings(&unit).contains(&line), "{line}\nis not in\n{unit}");
    has(r#"ExecStart=:"/opt/a b/100%%/con\"jured" --root "/srv/$HOME/it's\\C" run"#);
    has(r#"ReadWritePaths="-/srv/$HOME/it's\\C""#);
    has(r#"ReadWritePaths="-/srv/50%% of it""#);
    has("LoadCredential=runcomfy_token:/etc/my 100%% token");
}

#[test]
fn homes_are_hidden_unless_something_of_ours_is_there() {
    let mut wanted = wanted(Scope::System);
    assert!(systemd::unit(&wanted, None).contains("\nProtectHome=tmpfs\n"));
    wanted.in_homes = true;
    assert!(systemd::unit(&wanted, None).contains("\nProtectHome=read-only\n"));
    assert!(systemd::unit(&wanted, None).contains("\nPrivateTmp=yes\n"));
    wanted.writable = vec!["/tmp/CONJURE".to_owned()];
    assert!(!systemd::unit(&wanted, None).contains("\nPrivateTmp=yes\n"));
}

#[test]
fn a_property_list_says_what_is_to_run_in_xml() {
    let mut odd = wanted(Scope::User);
    odd.arguments = vec!["--root".to_owned(), "/people/a/<b> & \"c\"".to_owned(), "run".to_owned()];
    let plist = launchd::plist(&odd);
    assert!(plist.contains("<string>/people/a/&lt;b&gt; &amp; &quot;c&quot;</string>"), "{plist}");
    assert!(plist.contains("<key>HOME</key>\n    <string>/people/artist</string>"), "{plist}");
    assert!(!plist.contains("UserName"), "{plist}");
    let keys =
        plist.lines().filter_map(|line| line.strip_prefix("  <key>")?.strip_suffix("</key>"));
    // The keys whose types tests/real/launchd checks in the file for installation by hand, and
    // three that depend on the user.
    let known = [
        "Label",
        "ProgramArguments",
        "EnvironmentVariables",
        "RunAtLoad",
        "KeepAlive",
        "ThrottleInterval",
        "ExitTimeOut",
        "ProcessType",
        "Umask",
        "StandardErrorPath",
    ];
    assert_eq!(keys.collect::<Vec<_>>(), known);
    // A real parser reads exactly this text in `tests/real/launchd`.
    assert_eq!(plist, include_str!("../../../tests/real/launchd/user.plist"));
    let system = ServiceSpec { arguments: odd.arguments, ..wanted(Scope::System) };
    let plist = launchd::plist(&system);
    assert_eq!(plist, include_str!("../../../tests/real/launchd/system.plist"));
    assert!(plist.contains("<key>UserName</key>\n  <string>artist</string>"), "{plist}");
}

#[test]
fn a_task_runs_without_a_limit_and_quotes_as_windows_does() {
    let mut windows = wanted(Scope::User);
    windows.program = r"C:\Program Files\conjured.exe".to_owned();
    windows.user = Some(r"STUDIO\An Artist".to_owned());
    windows.arguments =
        [r"C:\my files\", r"C:\plain\", r#"a"b"#, "", "run"].map(ToOwned::to_owned).to_vec();
    let task = task_scheduler::task(&windows);
    assert!(task.contains(r"<Command>%SystemRoot%\System32\conhost.exe</Command>"), "{task}");
    let arguments = r"<Arguments>--headless &quot;C:\Program Files\conjured.exe&quot; &quot;C:\my files\\&quot; C:\plain\ &quot;a\&quot;b&quot; &quot;&quot; run</Arguments>";
    assert!(task.contains(arguments), "{task}");
    assert!(task.contains("<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>"), "{task}");
    assert!(task.contains("<LogonTrigger>") && task.contains("<RestartOnFailure>"), "{task}");
    let users = task.matches(r"<UserId>STUDIO\An Artist</UserId>").count();
    assert_eq!(users, 2, "the trigger's and the principal's: {task}");
    let count = task.split_once("<Count>").and_then(|(_, rest)| rest.split_once("</Count>"));
    count.and_then(|(count, _)| count.parse::<u8>().ok()).expect("the schema's unsigned byte");
    assert!(task_scheduler::task(&wanted(Scope::System)).contains("<BootTrigger>"));
    let bytes = task_scheduler::bytes("<a>\n");
    assert_eq!(bytes, [0xff, 0xfe, b'<', 0, b'a', 0, b'>', 0, b'\r', 0, b'\n', 0]);
}

fn place(platform: Platform, scope: Scope) -> ServiceLocation {
    let home = Some(Path::new("/h"));
    ServiceLocation::new(platform, scope, home, home, home, 501).expect("there is a home")
}

fn commands(steps: &[ServiceStep]) -> Vec<String> {
    let shown = |step: &ServiceStep| match step {
        ServiceStep::Run(command) | ServiceStep::Try(command) => Some(display_command(command)),
        ServiceStep::RequestStop => Some("(ask)".to_owned()),
        ServiceStep::Write(..) | ServiceStep::Remove(_) => None,
    };
    steps.iter().filter_map(shown).collect()
}

// Paths are joined with this system's separator.
#[cfg(unix)]
#[test]
fn each_platform_is_told_in_its_own_words() {
    let user = place(Platform::Systemd, Scope::User);
    assert_eq!(user.file, Path::new("/h/systemd/user/conjured.service"));
    let install = commands(&user.install(String::new(), false));
    assert_eq!(
        install,
        ["systemctl --user daemon-reload", "systemctl --user enable --now conjured.service"]
    );
    let again = commands(&user.install(String::new(), true));
    assert_eq!(again.last().map(String::as_str), Some("systemctl --user restart conjured.service"));
    let system = place(Platform::Systemd, Scope::System);
    assert_eq!(commands(&system.stop()), ["systemctl stop conjured.service"]);
    let link = Path::new("/etc/systemd/system/multi-user.target.wants/conjured.service");
    assert!(system.uninstall().contains(&ServiceStep::Remove(link.to_owned())));
    assert!(system.uninstall().contains(&ServiceStep::Remove(system.file.clone())));

    let mac = place(Platform::Launchd, Scope::User);
    assert_eq!(mac.file, Path::new("/h/Library/LaunchAgents/org.conjured.daemon.plist"));
    let install = commands(&mac.install(String::new(), false));
    let bootstrap = "launchctl bootstrap gui/501 /h/Library/LaunchAgents/org.conjured.daemon.plist";
    assert_eq!(install, ["launchctl enable gui/501/org.conjured.daemon", bootstrap]);
    assert_eq!(
        commands(&place(Platform::Launchd, Scope::System).restart()),
        ["launchctl kickstart -k system/org.conjured.daemon"]
    );

    let windows = place(Platform::TaskScheduler, Scope::User);
    let install = commands(&windows.install(String::new(), false));
    assert_eq!(install[0], "schtasks /create /tn conjured /xml /h/service.xml /f");
    assert_eq!(commands(&windows.stop()), ["(ask)", "schtasks /end /tn conjured"]);
    assert_eq!(
        commands(&windows.restart()),
        ["(ask)", "schtasks /end /tn conjured", "schtasks /run /tn conjured"]
    );
    let file = Path::new(r"C:\An Artist\service.xml");
    let windows = ServiceLocation { file: file.to_owned(), ..windows };
    let install = commands(&windows.install(String::new(), true));
    let create = r#"schtasks /create /tn conjured /xml "C:\An Artist\service.xml" /f"#;
    let end = "schtasks /end /tn conjured";
    assert_eq!(install, ["(ask)", end, create, "schtasks /run /tn conjured"]);
    let uninstall = ["(ask)", "schtasks /end /tn conjured", "schtasks /delete /tn conjured /f"];
    assert_eq!(commands(&windows.uninstall()), uninstall);
}
