//! Checks whether conjured is installed as a service.
//!
//! Owns where systemd and launchd keep their service files. It runs no program: whether the service
//! is running is seen from whether a daemon answers.

use std::path::PathBuf;

use crate::config::sources::Sources;

/// Finds an installed service.
pub(super) fn installed(sources: &Sources) -> Option<String> {
    let user = sources.user_config_dir.iter().map(|dir| dir.join("systemd/user/conjured.service"));
    let agents = sources
        .folders
        .home
        .iter()
        .map(|home| home.join("Library/LaunchAgents/org.conjured.daemon.plist"));
    let system = ["conjured.service", "conjured-system.service"]
        .map(|name| PathBuf::from("/etc/systemd/system").join(name));
    let places = user.chain(agents).chain(system);
    places.into_iter().find(|path| path.exists()).map(|path| path.display().to_string())
}
