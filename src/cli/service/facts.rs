//! Derives the wanted service from this process and the configuration.
//!
//! Owns [`ServiceSpec`], from which each platform's file is written, and one difficulty: a service
//! does not see the shell that it is installed from. So the configuration is read once more as the
//! service will read it, without this shell's variables and with its own user's home, and what
//! would be lost is reported.

use std::path::{Component, Path, PathBuf};

use super::host;
use crate::{
    cli::{
        context::Context,
        exit::{CONFIGURATION, Failure, USAGE},
    },
    config::{self, Loaded, enums::Mode, secrets, sources::Sources, starter::is_conjure_variable},
    disk::dirs,
};

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One user's service, running from login to logout.
    User,
    /// The machine's service, running from boot.
    System,
}

/// A service. Every path is absolute, UTF-8 and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceSpec {
    /// Whose service it is.
    pub scope: Scope,
    /// The program's path.
    pub program: String,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// Variables of this shell that decide where files are.
    pub environment: Vec<(String, String)>,
    /// The user that the machine's service runs as.
    pub user: Option<String>,
    /// That user's home folder.
    pub home: Option<String>,
    /// Writable folders besides its own.
    pub writable: Vec<String>,
    /// Whether any of its paths is below the home folders.
    pub in_homes: bool,
    /// The file that systemd passes on as a credential.
    pub token_file: Option<String>,
    /// The folder of the daemon's own log files.
    pub log_dir: Option<String>,
}

/// Variables that decide where files are: the service gets their present values.
const PASSED_VARIABLES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "RUNCOMFY_CONFIG_DIR"];

/// The machine's token file: only root can read it, and systemd passes it to the daemon.
const SYSTEM_TOKEN: &str = "/etc/conjured/runcomfy_token";

/// A service, and remarks for the user.
pub(super) struct ServiceFacts {
    pub spec: ServiceSpec,
    /// Remarks of one sentence each.
    pub remarks: Vec<String>,
}

/// The requested scope, user and token file.
pub(super) struct ServiceOptions<'a> {
    /// The requested scope.
    pub scope: Scope,
    /// `--as USER`.
    pub user: Option<&'a str>,
    /// `--token-file FILE`.
    pub token_file: Option<&'a Path>,
}

/// Determines the wanted service. Fails where the daemon would fail at its start, so that a broken
/// service is not installed.
pub(super) fn find(context: &Context, asked: &ServiceOptions<'_>) -> Result<ServiceFacts, Failure> {
    let mut remarks = Vec::new();
    let sources = &context.sources;
    let user = user(context, asked)?;
    let there = service_sources(sources, asked.scope, user.as_ref());
    let loaded = load(&there, &mut remarks)?;
    let program = sources.program.as_ref().ok_or_else(|| {
        Failure::new(CONFIGURATION, "cannot find the path of this program; nothing was installed")
    })?;

    let mut arguments = Vec::new();
    for (flag, path) in [
        ("--config", &sources.explicit),
        ("--root", &sources.root),
        ("--state-dir", &sources.state_dir),
    ] {
        if let Some(path) = path {
            let path = absolute(sources, path);
            arguments.extend([flag.to_owned(), text(flag, &path)?]);
        }
    }
    arguments.push("run".to_owned());

    let environment = match asked.scope {
        // The machine's service runs as another user, who does not have our variables.
        Scope::System => Vec::new(),
        Scope::User => passed_variables(sources)?,
    };
    if cfg!(windows) && !environment.is_empty() {
        let names: Vec<&str> = environment.iter().map(|(name, _)| name.as_str()).collect();
        remarks.push(format!(
            "a task has no variables of its own; set {} for your account with setx",
            names.join(", ")
        ));
    }
    let token_file = token_file(context, asked, &mut remarks)?;
    lost_variables(sources, &mut remarks);
    if loaded.config.mode != Mode::Local
        && secrets::find_token(&there, &loaded.config).is_ok_and(|found| found.token.is_none())
        && token_file.is_none()
    {
        remarks.push(match asked.scope {
            Scope::System if !cfg!(windows) => format!(
                "there is no token yet, so no job is sent: write it into {SYSTEM_TOKEN} (owner \
                 root, mode 0600) and install again"
            ),
            Scope::System | Scope::User => {
                let beside = there.user_file.as_deref().and_then(Path::parent);
                let file = beside.unwrap_or(Path::new(".")).join(secrets::TOKEN_NAME);
                format!(
                    "there is no token yet: run `conjured login`, or write it into {} and let \
                     only your user read that file",
                    file.display()
                )
            }
        });
    }

    let mut writable = writable(&loaded, asked.scope, &there);
    writable.sort();
    writable.dedup();
    let covered: Vec<PathBuf> = writable.clone();
    writable
        .retain(|folder| !covered.iter().any(|other| other != folder && folder.starts_with(other)));
    let program = text("the program's path", program)?;
    let mut places = vec![PathBuf::from(&program)];
    places.extend(writable.iter().cloned());
    places.extend(
        loaded
            .config
            .projects
            .iter()
            .flat_map(|project| [project.prompt.clone(), project.render.clone()]),
    );
    places.extend(loaded.files.iter().cloned());
    let in_homes = places
        .iter()
        .any(|place| ["/home", "/root", "/run/user"].iter().any(|home| place.starts_with(home)));
    let wanted = ServiceSpec {
        scope: asked.scope,
        program,
        arguments,
        environment,
        home: there
            .folders
            .home
            .as_deref()
            .map(|home| text("the home folder", home))
            .transpose()?,
        user: user.map(|user| user.name),
        writable: writable
            .iter()
            .map(|folder| text("a folder of the configuration", folder))
            .collect::<Result<_, _>>()?,
        in_homes,
        token_file,
        log_dir: loaded.config.log.dir.as_deref().map(|dir| text("`log.dir`", dir)).transpose()?,
    };
    Ok(ServiceFacts { spec: wanted, remarks })
}

/// Returns the user of a machine's service: the given one, otherwise the owner of the checkout.
fn user(context: &Context, asked: &ServiceOptions<'_>) -> Result<Option<host::User>, Failure> {
    if cfg!(windows) {
        return own_account(&context.sources, asked.user).map(Some);
    }
    if asked.scope == Scope::User {
        return Ok(None);
    }
    if let Some(name) = asked.user {
        return host::user(name).map(Some).ok_or_else(|| {
            Failure::new(USAGE, format!("this machine has no user `{name}`; nothing was installed"))
        });
    }
    // As long as the user's home is unknown, only the machine's file and the flags can be read.
    let there = service_sources(&context.sources, Scope::System, None);
    let owner = match config::load(&there) {
        Ok(loaded) => loaded.config.projects.first().and_then(|project| dirs::owner(&project.root)),
        Err(_) => None,
    };
    owner.and_then(|id| host::user(&id.to_string())).map(Some).ok_or_else(|| {
        Failure::new(
            USAGE,
            "give the user that the service should run as, the owner of the CONJURE checkout: \
             --as USER; nothing was installed",
        )
    })
}

/// Returns our own account. On Windows a task always belongs to a user, and the service's folders
/// are found in its account.
fn own_account(sources: &Sources, named: Option<&str>) -> Result<host::User, Failure> {
    let variable = |name: &str| sources.env.get(name).map(String::as_str).unwrap_or_default();
    let (domain, name) = (variable("USERDOMAIN"), variable("USERNAME"));
    if name.is_empty() {
        let message =
            "cannot find the name of this account (USERNAME is not set); nothing was installed";
        return Err(Failure::new(CONFIGURATION, message));
    }
    if named.is_some_and(|named| !named.eq_ignore_ascii_case(name)) {
        let message = "on Windows, install it from the account that it should run as, without --as; \
            nothing was installed";
        return Err(Failure::new(USAGE, message));
    }
    let whole = if domain.is_empty() { name.to_owned() } else { format!(r"{domain}\{name}") };
    Ok(host::User { name: whole, home: sources.folders.home.clone() })
}

/// Returns the sources as the service will find them.
fn service_sources(sources: &Sources, scope: Scope, user: Option<&host::User>) -> Sources {
    let mut there = sources.clone();
    let own_account = scope == Scope::User || cfg!(windows);
    there.env.retain(|name, _| own_account && PASSED_VARIABLES.contains(&name.as_str()));
    for path in [&mut there.explicit, &mut there.root, &mut there.state_dir] {
        *path = path.take().map(|path| absolute(sources, &path));
    }
    if !own_account {
        let home = user.and_then(|user| user.home.clone());
        there.user_config_dir = home.as_ref().map(|home| home.join(".config"));
        there.user_file = home.as_ref().map(|home| home.join(".config/conjured/config.toml"));
        // The folder that systemd creates because of `StateDirectory=`.
        there.default_state_dir = Some(PathBuf::from("/var/lib/conjured"));
        if cfg!(target_os = "linux") {
            there.default_log_dir = Some(PathBuf::from("/var/log/conjured"));
        }
        if home.is_some() {
            there.folders.home = home;
        }
    }
    there
}

fn load(there: &Sources, remarks: &mut Vec<String>) -> Result<Loaded, Failure> {
    let loaded = config::load(there).map_err(|errors| {
        let whole = format!(
            "the service would not start with its configuration, so nothing was installed:\n{errors}"
        );
        Failure::new(CONFIGURATION, whole)
    })?;
    for project in &loaded.config.projects {
        if !project.root.is_dir() {
            if loaded.default_project {
                return Err(Failure::new(
                    CONFIGURATION,
                    format!(
                        "the service would find no project, and there is no {}: set a CONJURE \
                         checkout with --root DIR, or with a [[project]] section in a \
                         configuration file; nothing was installed",
                        project.root.display()
                    ),
                ));
            }
            remarks.push(format!(
                "the checkout {} does not exist; its project waits until it does",
                project.root.display()
            ));
        }
    }
    Ok(loaded)
}

/// Lists what must be writable besides the service's own folders.
fn writable(loaded: &Loaded, scope: Scope, there: &Sources) -> Vec<PathBuf> {
    let config = &loaded.config;
    let mut folders = Vec::new();
    for project in &config.projects {
        folders.push(project.root.clone());
        let names = project.image.iter().chain(&project.mesh);
        folders.extend(names.filter_map(|name| name.parent().map(Path::to_path_buf)));
        // A name that is a symbolic link is followed.
        let targets = project.image.iter().chain(&project.mesh).map(|name| dirs::canonical(name));
        folders.extend(targets.filter_map(|name| name.parent().map(Path::to_path_buf)));
    }
    if scope == Scope::User || Some(&config.state_dir) != there.default_state_dir.as_ref() {
        folders.push(config.state_dir.clone());
    }
    if let Some(dir) = &config.log.dir
        && (scope == Scope::User || Some(dir) != there.default_log_dir.as_ref())
    {
        folders.push(dir.clone());
    }
    folders
}

fn token_file(
    context: &Context,
    asked: &ServiceOptions<'_>,
    remarks: &mut Vec<String>,
) -> Result<Option<String>, Failure> {
    if let Some(file) = asked.token_file {
        let file = absolute(&context.sources, file);
        if !file.is_file() {
            remarks.push(format!(
                "{} does not exist; the service does not start without it",
                file.display()
            ));
        }
        return text("--token-file", &file).map(Some);
    }
    let usual = Path::new(SYSTEM_TOKEN);
    Ok((asked.scope == Scope::System && usual.is_file()).then(|| SYSTEM_TOKEN.to_owned()))
}

/// Reports which settings of this shell the service will not have. Names only: values may
/// be secret.
fn lost_variables(sources: &Sources, remarks: &mut Vec<String>) {
    let ours = |name: &str| {
        name.starts_with("CONJURED__")
            || (name.starts_with("RUNCOMFY_") && !PASSED_VARIABLES.contains(&name))
            || is_conjure_variable(name)
            || name == secrets::HUGGINGFACE_TOKEN_VARIABLES[0]
    };
    let lost: Vec<&str> =
        sources.env.keys().map(String::as_str).filter(|name| ours(name)).collect();
    if !lost.is_empty() {
        remarks.push(format!(
            "the service does not get this shell's {}: put settings into the configuration file, \
             and a token into its own file",
            lost.join(", ")
        ));
    }
}

fn passed_variables(sources: &Sources) -> Result<Vec<(String, String)>, Failure> {
    let mut carried = Vec::new();
    for name in PASSED_VARIABLES {
        if let Some(value) = sources.env.get(name).filter(|value| !value.is_empty()) {
            carried.push((name.to_owned(), text(name, Path::new(value))?));
        }
    }
    Ok(carried)
}

fn absolute(sources: &Sources, path: &Path) -> PathBuf {
    let path = sources.folders.current.join(path);
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// Accepts a path that can be written into every kind of service file.
fn text(what: &str, path: &Path) -> Result<String, Failure> {
    let refuse = |why: &str| {
        let shown = path.to_string_lossy().escape_debug().to_string();
        Failure::new(CONFIGURATION, format!("{what} ({shown}) {why}; nothing was installed"))
    };
    let text = path
        .to_str()
        .ok_or_else(|| refuse("is not UTF-8, so it cannot be written into a service file"))?;
    if text.contains(char::is_control) {
        return Err(refuse(
            "contains a control character, so it cannot be written into a service file",
        ));
    }
    Ok(text.to_owned())
}
