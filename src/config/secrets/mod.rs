//! RunComfy's token: where it is looked for, and a wrapper that never shows it. The Hugging Face
//! token is in `huggingface`.
//!
//! The search order; the first one found is used:
//! 1. the systemd credential `runcomfy_token` (`$CREDENTIALS_DIRECTORY`);
//! 2. the file named by `serverless.token_file`;
//! 3. `RUNCOMFY_API_TOKEN`, `RUNCOMFY_TOKEN`, `RUNCOMFY_API_KEY` in the environment;
//! 4. the file `runcomfy_token` next to the user's configuration, then in the state folder;
//! 5. the token file of RunComfy's own command line (`token.json` in `$RUNCOMFY_CONFIG_DIR`, or
//!    else `runcomfy/token.json` in the user's configuration folder; its member `access_token`).
//!    Its expiry is not checked: the service reports an expired token.
//!
//! `conjured login` stores a token at number 4 ([`login_files`]). The operating system's key ring
//! is not used: a daemon that starts at boot or over SSH finds it locked or absent, and a token
//! stored there would be missing exactly then; see `docs/login.md`. Nothing is written here, and no
//! message repeats a token.

pub(crate) mod shape;
mod huggingface;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

pub use self::huggingface::{
    HUGGINGFACE_TOKEN_NAME, HUGGINGFACE_TOKEN_VARIABLES, find_huggingface_token,
};
use super::{
    settings::Config,
    sources::{
        Sources,
        files::{ReadError, is_readable_by_others, read_small},
    },
};

/// The name of the systemd credential and of our own token file.
pub const TOKEN_NAME: &str = "runcomfy_token";

/// The variables that may contain the token, in this order.
pub const TOKEN_VARIABLES: [&str; 3] = ["RUNCOMFY_API_TOKEN", "RUNCOMFY_TOKEN", "RUNCOMFY_API_KEY"];

/// The longest token that is accepted; it must fit into a header.
const MAX_TOKEN_BYTES: usize = 4096;

/// The largest token file that is read; the official one contains a little JSON.
const FILE_LIMIT: u64 = 64 * 1024;

/// A token and where it was found.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token: visible ASCII, valid in a header.
    pub secret: SecretString,
    /// Where it was found.
    pub source: TokenSource,
}

impl PartialEq for Token {
    /// Compares the token that is sent, so that a reload notices a change.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

/// Where a token was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The systemd credential, in this file.
    Credential(PathBuf),
    /// A file that contains only the token.
    File(PathBuf),
    /// An environment variable.
    Variable(&'static str),
    /// A variable in a checkout's `.env`.
    Dotenv(PathBuf, &'static str),
    /// The token file of RunComfy's own command line.
    OfficialCli(PathBuf),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(path) => write!(f, "systemd credential {}", path.display()),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Dotenv(path, name) => write!(f, "{name} in {}", path.display()),
            Self::OfficialCli(path) => {
                write!(f, "file {} of RunComfy's command line", path.display())
            }
        }
    }
}

/// The result of the search.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSearch {
    /// The token; `None` if none was found.
    pub token: Option<Token>,
    /// Problems that the user should fix, one sentence each.
    pub warnings: Vec<String>,
}

/// Why the search stopped at a source that should contain a token. No other source is then tried,
/// because a source that was configured is the one that is wanted.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{what} {} cannot be read: {cause}; {fix}", path.display())]
    Unreadable {
        /// The kind of file.
        what: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
        /// What to do about it.
        fix: &'static str,
    },
    /// What was found is not a token.
    #[error("{origin} does not contain a token: {why}")]
    NotAToken {
        /// Where it was found.
        origin: TokenSource,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Looks for the token. It reads only the given sources and files, never the process or
/// the network.
pub fn find_token(sources: &Sources, config: &Config) -> Result<TokenSearch, SecretError> {
    let mut warnings = Vec::new();
    let token = search(sources, config, &mut warnings)?;
    Ok(TokenSearch { token, warnings })
}

fn search(
    sources: &Sources,
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Option<Token>, SecretError> {
    // systemd sets this folder if there is any credential; this one may be absent.
    if let Some(path) = sources.credential(TOKEN_NAME)
        && let Some(bytes) = read_if_there(&path, "the systemd credential")?
    {
        return token_in(&bytes, TokenSource::Credential(path)).map(Some);
    }
    if let Some(path) = &config.serverless.token_file {
        let what = "the file set with `serverless.token_file`,";
        let Some(bytes) = read_if_there(path, what)? else {
            let cause = io::Error::from(io::ErrorKind::NotFound);
            let fix = "write the token into it, or correct `serverless.token_file`";
            return Err(SecretError::Unreadable { what, path: path.clone(), cause, fix });
        };
        warn_if_readable_by_others(path, warnings);
        return token_in(&bytes, TokenSource::File(path.clone())).map(Some);
    }
    for name in TOKEN_VARIABLES {
        if let Some(text) = sources.variable(name) {
            return token_in(text.as_bytes(), TokenSource::Variable(name)).map(Some);
        }
    }
    for path in login_files(sources, config) {
        if let Some(bytes) = read_if_there(&path, "the token file")? {
            warn_if_readable_by_others(&path, warnings);
            return token_in(&bytes, TokenSource::File(path)).map(Some);
        }
    }
    Ok(official_files(sources).into_iter().find_map(|path| official_token(&path, warnings)))
}

/// Lists the files that `login` may have written, the preferred one first.
pub fn login_files(sources: &Sources, config: &Config) -> Vec<PathBuf> {
    stored_files(sources, config, TOKEN_NAME)
}

fn stored_files(sources: &Sources, config: &Config, name: &str) -> Vec<PathBuf> {
    let beside = sources.user_file.as_deref().and_then(Path::parent);
    beside.into_iter().chain([config.state_dir.as_path()]).map(|dir| dir.join(name)).collect()
}

/// Accepts a token that was typed or piped in. The error says what is wrong with it and never
/// repeats it.
pub fn parse_typed_token(bytes: &[u8]) -> Result<SecretString, &'static str> {
    validated_token(bytes)
}

fn read_if_there(path: &Path, what: &'static str) -> Result<Option<Vec<u8>>, SecretError> {
    let unreadable =
        |cause, fix| SecretError::Unreadable { what, path: path.to_path_buf(), cause, fix };
    match read_small(path, FILE_LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError::Missing(_)) => Ok(None),
        Err(ReadError::Io(cause)) => {
            Err(unreadable(cause, "give read permission to the user that conjured runs as"))
        }
        Err(ReadError::TooLarge) => {
            let cause = io::Error::other("it is larger than 64 KB");
            Err(unreadable(cause, "a token file must contain only the token"))
        }
    }
}

fn warn_if_readable_by_others(path: &Path, warnings: &mut Vec<String>) {
    if is_readable_by_others(path) {
        warnings.push(format!(
            "{} contains a token and can be read by others; run: chmod 600 {}",
            path.display(),
            path.display()
        ));
    }
}

/// Accepts a token that is valid in a header.
fn token_in(bytes: &[u8], source: TokenSource) -> Result<Token, SecretError> {
    match validated_token(bytes) {
        Ok(secret) => Ok(Token { secret, source }),
        Err(why) => Err(SecretError::NotAToken { origin: source, why }),
    }
}

fn validated_token(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    if text.is_empty() {
        Err("it is empty")
    } else if text.len() > MAX_TOKEN_BYTES {
        Err("it has more than 4096 bytes; it must contain only the token")
    } else if !text.iter().all(u8::is_ascii_graphic) {
        Err("it contains white space, a control character or a character beyond ASCII; it must \
            contain only the token")
    } else {
        // Every byte is ASCII, so nothing is lost.
        Ok(SecretString::from(String::from_utf8_lossy(text).into_owned()))
    }
}

/// Lists the files in which RunComfy's own command line may keep its token.
fn official_files(sources: &Sources) -> Vec<PathBuf> {
    let own = sources
        .variable("RUNCOMFY_CONFIG_DIR")
        .map(|folder| sources.folders.on_command_line(Path::new(folder)));
    let xdg = sources.variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let usual =
        xdg.filter(|folder| folder.is_absolute()).or_else(|| sources.user_config_dir.clone());
    // A folder that was set explicitly is the only one that counts.
    match (own, usual) {
        (Some(own), _) => vec![own.join("token.json"), own.join("runcomfy").join("token.json")],
        (None, Some(usual)) => vec![usual.join("runcomfy").join("token.json")],
        (None, None) => Vec::new(),
    }
}

/// Reads the token of RunComfy's own command line. A problem in that file, which is not ours, is
/// only a warning.
fn official_token(path: &Path, warnings: &mut Vec<String>) -> Option<Token> {
    let mut useless = |why: &str| {
        warnings.push(format!(
            "the token of RunComfy's command line is not used: {} {why}",
            path.display()
        ));
        None
    };
    let bytes = match read_small(path, FILE_LIMIT) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing(_)) => return None,
        Err(ReadError::Io(cause)) => return useless(&format!("cannot be read: {cause}")),
        Err(ReadError::TooLarge) => return useless("is larger than 64 KB"),
    };
    // The parser's message could quote the file.
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return useless("is not JSON");
    };
    let Some(text) = json.get("access_token").and_then(serde_json::Value::as_str) else {
        return useless("has no `access_token`");
    };
    match token_in(text.as_bytes(), TokenSource::OfficialCli(path.to_path_buf())) {
        Ok(token) => {
            warn_if_readable_by_others(path, warnings);
            Some(token)
        }
        Err(_) => useless("has an `access_token` that is not a token"),
    }
}

#[cfg(test)]
mod tests;
