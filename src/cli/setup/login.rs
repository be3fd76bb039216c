//! `conjured login` and `logout`: read a token without showing it, check it free of charge, and
//! store it for this user only.
//!
//! Owns the order: a token that the service rejected is not stored, and the previous one stays
//! intact until the new one is on the disk. [`crate::config::secrets`] knows where tokens are kept;
//! a token is never printed.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::ask;
use crate::{
    cli::{
        args::{LoginArgs, LogoutArgs},
        context::Context,
        daemon_client::DaemonClient,
        exit::{CANNOT_WRITE, Failure, TOKEN, UNAVAILABLE, USAGE},
    },
    config::{
        secrets::{self, TokenSource},
        settings::Config,
    },
    daemon::services::probes::{ProbeError, Service},
    disk::{dirs, place::sweep},
    domain::money::MicroUsd,
};

/// The most that is read from standard input; a token has a few dozen bytes.
const LIMIT: u64 = 64 * 1024;

/// Checks a token and stores it.
pub(in crate::cli) fn login(context: &Context, args: &LoginArgs) -> Result<(), Failure> {
    if args.token_option.is_some() || !args.token_words.is_empty() {
        return Err(Failure::new(
            USAGE,
            "a token is never an argument: every program on this machine can read arguments, and \
             your shell has just saved this one in its history. Nothing was stored. Create a new \
             token on RunComfy's profile page, then type it at `conjured login`, or pipe it in \
             with --token-stdin",
        ));
    }
    // Load before the token is typed, so that a configuration error appears first.
    let config = context.load()?.config;
    let secret = read(args)?;
    crate::cli::on_runtime(try_and_store(context, args, &config, secret))
}

fn read(args: &LoginArgs) -> Result<SecretString, Failure> {
    let bytes = if ask::is_typed() {
        let question = "RunComfy token (from www.runcomfy.com/profile; typing is not shown):";
        ask::prompt_hidden(question).map(Some)
    } else {
        ask::all_of_stdin(LIMIT)
    };
    let no_token = |why: &str| {
        let how = if args.token_stdin || ask::is_typed() {
            ""
        } else {
            ". There is no terminal to type it: use a pipe, as in `conjured login --token-stdin < \
             FILE`"
        };
        Failure::new(TOKEN, format!("this is not a token: {why}{how}. Nothing was stored"))
    };
    if bytes.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::Interrupted) {
        return Err(Failure::new(TOKEN, "interrupted; nothing was stored"));
    }
    let bytes = bytes
        .map_err(|error| no_token(&format!("it could not be read ({error})")))?
        .ok_or_else(|| no_token("it is larger than 64 KB"))?;
    secrets::parse_typed_token(&bytes).map_err(no_token)
}

async fn try_and_store(
    context: &Context,
    args: &LoginArgs,
    config: &Config,
    secret: SecretString,
) -> Result<(), Failure> {
    let balance = if args.no_check { None } else { Some(check(config, &secret).await?) };
    let path = store(context, config, &secret)?;
    let mut remarks = overriding_sources(context, config, &path);
    if balance.is_some_and(|balance| balance.0 <= 0) {
        remarks.push(
            "the balance is empty: top up on RunComfy, then check with `conjured doctor` whether \
             the deployment is still enabled"
                .to_owned(),
        );
    }
    remarks.extend(tell_daemon(config).await);
    let out = &context.out;
    if args.json {
        out.json(&json!({
            "checked": balance.is_some(),
            "balance_micro_usd": balance.map(|balance| balance.0),
            "stored": path.display().to_string(),
            "remarks": remarks,
        }));
        return Ok(());
    }
    match balance {
        Some(balance) => out.data(format!("The token is valid. Balance: {balance}")),
        None => out.data("The token was not checked (--no-check)."),
    }
    out.data(format!("Stored in {} ({PERMISSIONS}).", path.display()));
    for remark in remarks {
        out.info(format!("Note: {remark}."));
    }
    Ok(())
}

/// Who can read the stored file. On Windows a file has its folder's permissions, which are neither
/// set nor checked here.
const PERMISSIONS: &str = if cfg!(windows) {
    "readable by your account, administrators and the system, like your profile's folders"
} else {
    "0600"
};

/// Checks the token with a call that costs nothing.
async fn check(config: &Config, secret: &SecretString) -> Result<MicroUsd, Failure> {
    let origin = &config.serverless.api_url;
    let service = Service::new(&config.serverless, secret)
        .map_err(|error| Failure::new(UNAVAILABLE, format!("{error}. Nothing was stored")))?;
    service.balance().await.1.map_err(|problem| match problem {
        ProbeError::Token(message) => Failure::new(
            TOKEN,
            format!(
                "RunComfy rejected the token ({message}). Nothing was stored. Copy it again from \
                 www.runcomfy.com/profile"
            ),
        ),
        problem => Failure::new(
            UNAVAILABLE,
            format!(
                "the token could not be checked at {origin}: {}. Nothing was stored. Try again, or store it unchecked with --no-check",
                problem.message().trim_end_matches('.')
            ),
        ),
    })
}

/// Writes the token where the daemon looks for it; the old one stays intact until the new one is on
/// the disk.
fn store(context: &Context, config: &Config, secret: &SecretString) -> Result<PathBuf, Failure> {
    let failed = |error: crate::disk::DiskError| {
        Failure::new(CANNOT_WRITE, format!("the token was not stored: {error}"))
    };
    let path = secrets::login_files(&context.sources, config).swap_remove(0);
    if let Some(folder) = path.parent() {
        dirs::make_private(folder).map_err(failed)?;
        // A login that was killed may have left half a token in one of our temporary files.
        sweep::sweep(&[folder.to_path_buf()], |_| false);
    }
    let line = zeroizing_line(secret);
    dirs::write_private(&path, line.expose_secret().as_bytes()).map_err(failed)?;
    Ok(path)
}

fn zeroizing_line(secret: &SecretString) -> SecretString {
    SecretString::from(format!("{}\n", secret.expose_secret()))
}

/// Lists the sources that would be used instead of the token in `path`.
fn overriding_sources(context: &Context, config: &Config, path: &Path) -> Vec<String> {
    let mut remarks = Vec::new();
    match secrets::find_token(&context.sources, config) {
        Ok(search) => {
            let used = search.token.map(|token| token.source);
            if let Some(used) = used.filter(|used| *used != TokenSource::File(path.to_path_buf())) {
                remarks.push(format!("another token has precedence and is used instead: {used}"));
            }
            remarks.extend(search.warnings);
        }
        Err(error) => remarks.push(error.to_string()),
    }
    remarks
}

/// Asks a running daemon to look for its token again.
async fn tell_daemon(config: &Config) -> Option<String> {
    let (daemon, _) = DaemonClient::find(&config.state_dir).await?;
    Some(match daemon.reload().await {
        Ok(_) => "the running daemon has reloaded its token".to_owned(),
        Err(failure) => {
            format!("the running daemon could not reload its token: {}", failure.message)
        }
    })
}

/// Removes what `login` stored.
pub(in crate::cli) async fn logout(context: &Context, args: LogoutArgs) -> Result<(), Failure> {
    let config = context.load()?.config;
    let mut removed = Vec::new();
    for path in secrets::login_files(&context.sources, &config) {
        if let Some(folder) = path.parent() {
            sweep::sweep(&[folder.to_path_buf()], |_| false);
        }
        let there = path.symlink_metadata().is_ok();
        dirs::remove_if_there(&path)
            .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
        if there {
            removed.push(path.display().to_string());
        }
    }
    let mut remarks = Vec::new();
    match secrets::find_token(&context.sources, &config) {
        Ok(search) => remarks.extend(
            search.token.map(|token| format!("another token can still be found: {}", token.source)),
        ),
        Err(error) => remarks.push(error.to_string()),
    }
    if !removed.is_empty() {
        remarks.extend(tell_daemon(&config).await);
    }
    let out = &context.out;
    if args.json {
        out.json(&json!({"removed": removed, "remarks": remarks}));
        return Ok(());
    }
    if removed.is_empty() {
        out.data("No token was stored.");
    }
    for path in &removed {
        out.data(format!(
            "Removed {path}. To invalidate the token, regenerate it on RunComfy's profile page."
        ));
    }
    for remark in remarks {
        out.info(format!("Note: {remark}."));
    }
    Ok(())
}
