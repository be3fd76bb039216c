//! Checks whether the system reports file changes: whether a watch is available, and whether the
//! drive supports it.
//!
//! Owns the judgement by `trigger.watch`: polling also works, but notices changes later and wakes
//! up more often.

use std::path::Path;

use super::check::Check;
use crate::{
    cli::exit::CONFIGURATION,
    config::{
        enums::Watch,
        settings::{ProjectConfig, TriggerConfig},
    },
    disk::probe::{self, Drive, WatchRefusal},
};

const NAME: &str = "watching";

/// Creates one real watch and asks for the type of drive.
pub(super) fn inspect(project: &ProjectConfig, trigger: &TriggerConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    for input in [&project.prompt, &project.render] {
        let folder = input.parent().unwrap_or(input);
        if !folder.is_dir() {
            continue;
        }
        let drive = check_drive(probe::drive_of(folder), folder, trigger);
        let watch = (trigger.watch != Watch::Poll)
            .then(|| check_watch(&probe::try_watch(folder), trigger))
            .flatten();
        checks.extend([drive, watch].into_iter().flatten());
    }
    // Both inputs are usually on one drive and under one limit.
    checks.dedup();
    if checks.is_empty() {
        let how = match trigger.watch {
            Watch::Poll => {
                format!("polling every {} ms, as configured", trigger.poll_interval.as_millis())
            }
            Watch::Auto | Watch::Native => "the system reports file changes".to_owned(),
        };
        checks.push(Check::ok(NAME, how));
    }
    checks
}

fn check_watch(tried: &Result<(), WatchRefusal>, trigger: &TriggerConfig) -> Option<Check> {
    let (found, fix) = match tried {
        Ok(()) => return None,
        Err(WatchRefusal::Watches) => (
            "the limit on watched folders is reached (fs.inotify.max_user_watches)".to_owned(),
            "raise it: sudo sysctl fs.inotify.max_user_watches=524288, and a line in \
             /etc/sysctl.d to keep it; or close the program that uses so many watches, often an \
             editor or a sync program",
        ),
        Err(WatchRefusal::Instances) => (
            "the limit on watchers, or on open files, is reached (fs.inotify.max_user_instances, ulimit -n)".to_owned(),
            "raise it: sudo sysctl fs.inotify.max_user_instances=1024, and a line in /etc/sysctl.d to keep it",
        ),
        Err(WatchRefusal::Other(message)) => (
            format!("an input's folder cannot be watched: {message}"),
            "check the permissions of the folder, or set trigger.watch = \"poll\"",
        ),
    };
    Some(limited(found, fix, trigger))
}

/// In `auto` the daemon switches to polling, so this is a warning. `native` says that polling is
/// not acceptable.
fn limited(found: String, fix: &str, trigger: &TriggerConfig) -> Check {
    match trigger.watch {
        Watch::Native => Check::fail(NAME, CONFIGURATION, found, fix),
        Watch::Auto | Watch::Poll => {
            let every = trigger.poll_interval.as_millis();
            Check::warn(NAME, format!("{found}; files are polled every {every} ms instead"), fix)
        }
    }
}

fn check_drive(drive: Drive, folder: &Path, trigger: &TriggerConfig) -> Option<Check> {
    let shown = folder.display();
    let Drive::Network(kind) = drive else { return None };
    let found = format!(
        "{shown} is on a {kind} drive, which does not report changes made on other computers"
    );
    match trigger.watch {
        Watch::Poll => None,
        Watch::Auto => Some(limited(
            found,
            "set trigger.watch = \"poll\" if that is intended, or keep the checkout on a local \
             drive",
            trigger,
        )),
        Watch::Native => Some(Check::fail(
            NAME,
            CONFIGURATION,
            found,
            "set trigger.watch = \"auto\" or \"poll\": with \"native\" such changes are not noticed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::CheckStatus, *};
    use crate::config::{load, sources::Sources};

    fn trigger(watch: Watch) -> TriggerConfig {
        let sources = Sources {
            default_state_dir: Some("/state".into()),
            root: Some("/srv/CONJURE".into()),
            ..Sources::default()
        };
        let mut trigger = load(&sources).expect("the defaults").config.trigger;
        trigger.watch = watch;
        trigger
    }

    #[test]
    fn a_network_drive_is_a_warning_where_it_is_polled_and_a_failure_where_it_is_not() {
        let of = |drive, watch| {
            check_drive(drive, Path::new("/mnt/x"), &trigger(watch)).map(|check| check.status)
        };
        for kind in ["NFS", "SMB", "CIFS", "FUSE", "9p"] {
            assert_eq!(of(Drive::Network(kind), Watch::Auto), Some(CheckStatus::Warn), "{kind}");
            assert_eq!(of(Drive::Network(kind), Watch::Native), Some(CheckStatus::Fail), "{kind}");
            assert_eq!(of(Drive::Network(kind), Watch::Poll), None, "{kind}");
        }
        for drive in [Drive::Local, Drive::Overlay, Drive::Unknown] {
            assert_eq!(of(drive, Watch::Native), None);
        }
    }

    #[test]
    fn a_limit_names_the_setting_that_raises_it() {
        let of = |tried| check_watch(&Err(tried), &trigger(Watch::Auto)).expect("a limit");
        assert!(of(WatchRefusal::Watches).found.contains("max_user_watches"));
        assert!(of(WatchRefusal::Instances).found.contains("max_user_instances"));
        assert!(of(WatchRefusal::Other("gone".into())).found.contains("gone"));
        let native =
            check_watch(&Err(WatchRefusal::Watches), &trigger(Watch::Native)).expect("a limit");
        assert_eq!(native.status, CheckStatus::Fail);
        assert_eq!(check_watch(&Ok(()), &trigger(Watch::Native)), None);
    }
}
