//! The steps to take: printed by `--dry-run`, otherwise carried out.
//!
//! Owns the order of steps on each platform and their commands. A plan is a value: making it
//! changes nothing, and what `--dry-run` prints is what would be done.

use std::path::{Path, PathBuf};

use super::{
    facts::{Scope, ServiceSpec},
    launchd, systemd, task_scheduler,
};

/// The Task Scheduler's own command.
const SCHTASKS: &str = "schtasks";

/// The system's service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    Systemd,
    Launchd,
    TaskScheduler,
}

impl Platform {
    /// Returns this machine's service manager.
    pub(super) const fn current() -> Self {
        if cfg!(target_os = "macos") {
            Self::Launchd
        } else if cfg!(windows) {
            Self::TaskScheduler
        } else {
            Self::Systemd
        }
    }

    /// Returns the text that every file written by conjured contains.
    pub(super) const fn marker(self) -> &'static str {
        match self {
            Self::Systemd => systemd::MARK,
            Self::Launchd => launchd::MARK,
            Self::TaskScheduler => task_scheduler::MARK,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServiceStep {
    /// Write this file.
    Write(PathBuf, String),
    /// Remove this file, if it is there.
    Remove(PathBuf),
    /// Ask the daemon to stop, and wait for it; if none answers, or it takes too long, the next
    /// step ends it.
    RequestStop,
    /// Run this command; if it fails, the plan stops.
    Run(Vec<String>),
    /// Run this command; it is expected to fail if there is nothing to do.
    Try(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceLocation {
    /// The service manager.
    pub platform: Platform,
    /// Whose service it is.
    pub scope: Scope,
    /// The service's file.
    pub file: PathBuf,
    /// Our user id, for launchd.
    pub user_id: u32,
}

impl ServiceLocation {
    /// Determines the service's file. `config` is the user's configuration folder, `home` the
    /// user's home, and `data` where the Task Scheduler's file is kept.
    pub(super) fn new(
        platform: Platform,
        scope: Scope,
        config: Option<&Path>,
        home: Option<&Path>,
        data: Option<&Path>,
        user_id: u32,
    ) -> Option<Self> {
        let file = match (platform, scope) {
            (Platform::Systemd, Scope::System) => {
                Path::new("/etc/systemd/system").join(systemd::UNIT)
            }
            (Platform::Systemd, Scope::User) => config?.join("systemd/user").join(systemd::UNIT),
            (Platform::Launchd, Scope::System) => {
                Path::new("/Library/LaunchDaemons").join(format!("{}.plist", launchd::LABEL))
            }
            (Platform::Launchd, Scope::User) => {
                home?.join("Library/LaunchAgents").join(format!("{}.plist", launchd::LABEL))
            }
            (Platform::TaskScheduler, _) => data?.join("service.xml"),
        };
        Some(Self { platform, scope, file, user_id })
    }

    /// Returns the text of the service's file. `version` is systemd's version.
    pub(super) fn text(&self, wanted: &ServiceSpec, version: Option<u32>) -> String {
        match self.platform {
            Platform::Systemd => systemd::unit(wanted, version),
            Platform::Launchd => launchd::plist(wanted),
            Platform::TaskScheduler => task_scheduler::task(wanted),
        }
    }

    /// Returns the steps to install; `again` says that the file existed before.
    pub(super) fn install(&self, text: String, again: bool) -> Vec<ServiceStep> {
        let mut steps = vec![ServiceStep::Write(self.file.clone(), text)];
        match self.platform {
            Platform::Systemd => {
                steps.push(ServiceStep::Run(self.systemctl(&["daemon-reload"])));
                steps.push(ServiceStep::Run(self.systemctl(&["enable", "--now", systemd::UNIT])));
                if again {
                    // A service that is already running still uses the old file.
                    steps.push(ServiceStep::Run(self.systemctl(&["restart", systemd::UNIT])));
                }
            }
            Platform::Launchd => {
                if again {
                    steps.push(ServiceStep::Try(to_strings(&[
                        "launchctl",
                        "bootout",
                        &self.target(),
                    ])));
                }
                steps.push(ServiceStep::Run(to_strings(&["launchctl", "enable", &self.target()])));
                steps.push(ServiceStep::Run(to_strings(&[
                    "launchctl",
                    "bootstrap",
                    &self.domain(),
                    &self.file.to_string_lossy(),
                ])));
            }
            Platform::TaskScheduler => {
                let file = self.file.to_string_lossy();
                if again {
                    steps.extend(end_task());
                }
                steps.push(ServiceStep::Run(schtasks(&["/create", "/xml", &file, "/f"])));
                steps.push(ServiceStep::Run(schtasks(&["/run"])));
            }
        }
        steps
    }

    /// Returns the steps to remove what `install` created.
    pub(super) fn uninstall(&self) -> Vec<ServiceStep> {
        match self.platform {
            Platform::Systemd => vec![
                ServiceStep::Try(self.systemctl(&["disable", "--now", systemd::UNIT])),
                ServiceStep::Remove(self.file.clone()),
                // `systemctl` creates this link, and removes it if there is a manager to talk to.
                ServiceStep::Remove(self.wants_link()),
                ServiceStep::Run(self.systemctl(&["daemon-reload"])),
                ServiceStep::Try(self.systemctl(&["reset-failed", systemd::UNIT])),
            ],
            Platform::Launchd => vec![
                ServiceStep::Try(to_strings(&["launchctl", "bootout", &self.target()])),
                ServiceStep::Remove(self.file.clone()),
            ],
            Platform::TaskScheduler => {
                let mut steps = Vec::from(end_task());
                steps.push(ServiceStep::Try(schtasks(&["/delete", "/f"])));
                steps.push(ServiceStep::Remove(self.file.clone()));
                steps
            }
        }
    }

    pub(super) fn start(&self) -> Vec<ServiceStep> {
        vec![ServiceStep::Run(match self.platform {
            Platform::Systemd => self.systemctl(&["start", systemd::UNIT]),
            Platform::Launchd => to_strings(&["launchctl", "kickstart", &self.target()]),
            Platform::TaskScheduler => schtasks(&["/run"]),
        })]
    }

    /// Returns the steps to stop. launchd keeps what it has loaded and starts it again at the
    /// next login.
    pub(super) fn stop(&self) -> Vec<ServiceStep> {
        match self.platform {
            Platform::Systemd => vec![ServiceStep::Run(self.systemctl(&["stop", systemd::UNIT]))],
            Platform::Launchd => {
                vec![ServiceStep::Run(to_strings(&[
                    "launchctl",
                    "kill",
                    "SIGTERM",
                    &self.target(),
                ]))]
            }
            Platform::TaskScheduler => end_task().into(),
        }
    }

    pub(super) fn restart(&self) -> Vec<ServiceStep> {
        match self.platform {
            Platform::Systemd => {
                vec![ServiceStep::Run(self.systemctl(&["restart", systemd::UNIT]))]
            }
            Platform::Launchd => {
                vec![ServiceStep::Run(to_strings(&[
                    "launchctl",
                    "kickstart",
                    "-k",
                    &self.target(),
                ]))]
            }
            Platform::TaskScheduler => {
                let mut steps = Vec::from(end_task());
                steps.push(ServiceStep::Run(schtasks(&["/run"])));
                steps
            }
        }
    }

    /// Returns the command that shows the status.
    pub(super) fn status(&self) -> Vec<String> {
        match self.platform {
            Platform::Systemd => {
                self.systemctl(&["status", "--no-pager", "--lines=10", systemd::UNIT])
            }
            Platform::Launchd => to_strings(&["launchctl", "print", &self.target()]),
            Platform::TaskScheduler => schtasks(&["/query", "/v", "/fo", "list"]),
        }
    }

    /// Returns the command that shows the log; `None` if there are only the daemon's own files.
    pub(super) fn logs(&self, follow: bool, lines: u32) -> Option<Vec<String>> {
        if self.platform != Platform::Systemd {
            return None;
        }
        let unit = match self.scope {
            // Not `--user --unit`: if the journal is kept in memory, users have no journal file of
            // their own.
            Scope::User => format!("--user-unit={}", systemd::UNIT),
            Scope::System => format!("--unit={}", systemd::UNIT),
        };
        let lines = format!("--lines={lines}");
        let mut command = to_strings(&["journalctl", &unit, "--no-pager", &lines]);
        if follow {
            command.push("--follow".to_owned());
        }
        Some(command)
    }

    fn systemctl(&self, rest: &[&str]) -> Vec<String> {
        let scope: &[&str] = if self.scope == Scope::User { &["--user"] } else { &[] };
        to_strings(&[&["systemctl"], scope, rest].concat())
    }

    fn wants_link(&self) -> PathBuf {
        let target = match self.scope {
            Scope::User => "default.target.wants",
            Scope::System => "multi-user.target.wants",
        };
        self.file.with_file_name(target).join(systemd::UNIT)
    }

    fn domain(&self) -> String {
        match self.scope {
            Scope::User => format!("gui/{}", self.user_id),
            Scope::System => "system".to_owned(),
        }
    }

    fn target(&self) -> String {
        format!("{}/{}", self.domain(), launchd::LABEL)
    }
}

/// The Task Scheduler cannot ask a task to stop: it kills it at once, even with a request under
/// way. So the daemon is asked first; then the task is over, and ending it has nothing left to do.
fn end_task() -> [ServiceStep; 2] {
    [ServiceStep::RequestStop, ServiceStep::Try(schtasks(&["/end"]))]
}

fn schtasks(rest: &[&str]) -> Vec<String> {
    let (verb, options) = rest.split_at(1);
    to_strings(&[&[SCHTASKS], verb, &["/tn", task_scheduler::TASK], options].concat())
}

fn to_strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Returns a command as a person would type it.
pub(super) fn display_command(command: &[String]) -> String {
    let plain = |word: &&String| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c))
    };
    if command.first().is_some_and(|program| program == SCHTASKS) {
        let words: Vec<String> =
            command.iter().map(|word| task_scheduler::argument(word)).collect();
        return words.join(" ");
    }
    let quote = |word: &String| match Some(word).filter(plain) {
        Some(word) => word.clone(),
        None => format!("'{}'", word.replace('\'', "'\\''")),
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}
