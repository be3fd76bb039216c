//! `init`, `login`, `logout` and `doctor`: the real program at the first setup, and when
//! nothing happens.
//!
//! Owns what the three share: a `conjured` without a token, and one that runs as a user other than
//! root, because root may read and write everything.

mod doctor;
mod init;
mod login;
mod modes;

use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::stage::DemoProject;

/// The user `nobody`, on every system that has users.
const NOBODY: u32 = 65_534;

/// Returns `conjured` for a stage, without the token that the stage usually puts into
/// the environment.
fn without_token(stage: &DemoProject, arguments: &[&str]) -> Command {
    let mut command = stage.command(arguments);
    command.env_remove("RUNCOMFY_API_TOKEN").stdin(Stdio::null());
    command
}

/// Returns `conjured` as a user other than root; the stage's files become that user's. A user other
/// than root stays the same. Returns `None`, with a message, if only root can access the folder for
/// temporary files.
fn as_nobody(stage: &DemoProject, arguments: &[&str]) -> Option<Command> {
    let command = without_token(stage, arguments);
    if !rustix::process::geteuid().is_root() {
        return Some(command);
    }
    let world = stage.path("");
    let open = |folder: &Path| {
        std::fs::metadata(folder).is_ok_and(|about| about.permissions().mode() & 0o001 != 0)
    };
    // The last one is the stage's own, whose owner is changed below.
    if !world.ancestors().skip(1).filter(|folder| folder.is_absolute()).all(open) {
        skipped("another user cannot reach the folder for temporary files");
        return None;
    }
    // The build folder may be accessible only to root.
    let own = stage.path("conjured");
    let made = std::fs::hard_link(env!("CARGO_BIN_EXE_conjured"), &own);
    made.or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_conjured"), &own).map(drop))
        .expect("copies");
    let mut mine = Command::new(&own);
    mine.args(command.get_args()).env_clear();
    mine.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    mine.current_dir(stage.path("")).stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
    give_away(&world, NOBODY);
    Some(mine)
}

fn give_away(path: &Path, user: u32) {
    // The program is a hard link to the build's file, which must keep its owner.
    if path.file_name().is_some_and(|name| name == "conjured") && path.is_file() {
        return;
    }
    std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("root may");
    if path.is_symlink() {
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        give_away(&entry.path(), user);
    }
}

/// Runs an `sh` script in its own namespace, where it may mount and lower limits without affecting
/// others. Returns `None`, with a message, if the system does not allow that.
fn apart(script: &str, command: &Command) -> Option<Output> {
    let allowed = Command::new("unshare").args(["-rm", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        skipped("this system makes no namespaces for its users");
        return None;
    }
    let mut apart = Command::new("unshare");
    apart.args(["-rm", "sh", "-ec", &format!("{script}\nexec \"$0\" \"$@\"")]);
    apart.arg(command.get_program()).args(command.get_args()).env_clear();
    apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    apart.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    Some(apart.output().expect("unshare starts"))
}

#[expect(clippy::print_stderr, reason = "what could not be tried is said aloud")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Returns everything that a command printed.
fn said(output: &Output) -> String {
    let (data, rest) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(data), String::from_utf8_lossy(rest))
}
