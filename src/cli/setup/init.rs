//! `conjured init`: writes a commented configuration for a CONJURE checkout, with the settings from
//! CONJURE's environment.
//!
//! Owns the search for the checkout, the questions and the report. [`crate::config::starter`]
//! writes the text and [`crate::disk::checkout`] recognizes a checkout. A token is mentioned by its
//! variable's name and never copied.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::ask;
use crate::{
    cli::{
        args::{InitArgs, ModeArg},
        context::Context,
        exit::{CANNOT_WRITE, CONFIGURATION, Failure, MISSING_INPUT, USAGE},
    },
    config::{
        self,
        enums::{Keyword as _, Mode},
        secrets::{self, TOKEN_VARIABLES},
        settings::Config,
        sources::{Sources, dotenv},
        starter::{SettingChange, imported_changes, is_conjure_variable, starter},
    },
    disk::{
        checkout, dirs,
        read::{self, ReadOutcome},
    },
};

/// The largest `.env` that is read.
const DOTENV_LIMIT: u64 = 64 * 1024;

/// The prefix of most copied settings.
const PREFIX: &str = "RUNCOMFY_";

/// The checkout, and why it was chosen.
struct Checkout {
    root: PathBuf,
    why: String,
    others: Vec<PathBuf>,
}

/// CONJURE's variables; the process's values override those in the checkout's `.env`.
struct DetectedSettings {
    settings: BTreeMap<String, String>,
    in_dotenv: Option<PathBuf>,
    /// The variable that holds a token, and where it is set.
    token: Option<String>,
}

pub(in crate::cli) fn init(context: &Context, args: &InitArgs) -> Result<(), Failure> {
    let found = find(context, args)?;
    let around = detect_settings(context, &found.root);
    let changes = collect_changes(context, args, &found.root, &around)?;
    let text = starter(&found.root, &changes).ok_or_else(|| {
        let path = found.root.display();
        Failure::new(
            CONFIGURATION,
            format!(
                "{path} is not UTF-8, so it cannot be written into a configuration; nothing was \
                 written"
            ),
        )
    })?;
    if args.print {
        context.out.data(text.trim_end());
        return Ok(());
    }
    let target = target(context)?;
    let kept = back_up_existing(context, args, &target)?;
    let failed = |error: crate::disk::DiskError| Failure::new(CANNOT_WRITE, error.to_string());
    if let Some(folder) = target.parent() {
        dirs::make_private(folder).map_err(failed)?;
    }
    dirs::write_private(&target, text.as_bytes()).map_err(failed)?;
    print_summary(context, args, &found, &around, &changes, &target, kept.as_deref());
    Ok(())
}

fn find(context: &Context, args: &InitArgs) -> Result<Checkout, Failure> {
    let folders = &context.sources.folders;
    if let Some(root) = &context.sources.root {
        let root = folders.current.join(root);
        let root = dirs::canonical(&root);
        if !root.is_dir() {
            return Err(Failure::new(
                MISSING_INPUT,
                format!("the folder {} does not exist; nothing was written", root.display()),
            ));
        }
        let why = match checkout::found_markers(&root)[..] {
            [] => "given with --root, although it does not look like a CONJURE checkout".to_owned(),
            ref signs => format!("given with --root; it has {}", signs.join(", ")),
        };
        return Ok(Checkout { root, why, others: Vec::new() });
    }
    let usual = folders.home.as_deref().map(checkout::find_usual).unwrap_or_default();
    if let Some(root) = checkout::find_enclosing(&folders.current) {
        let signs = checkout::found_markers(&root).join(", ");
        let why = if root == folders.current {
            format!("the working folder; it has {signs}")
        } else {
            format!("contains the working folder; it has {signs}")
        };
        let real = dirs::canonical(&root);
        let others = usual.into_iter().filter(|other| dirs::canonical(other) != real).collect();
        return Ok(Checkout { root, why, others });
    }
    let at = match usual.len() {
        0 => {
            return Err(Failure::new(
                MISSING_INPUT,
                "no CONJURE checkout was found, neither around the working folder nor in the \
                 usual locations in the home folder. Give its folder: conjured init --root DIR",
            ));
        }
        1 => 0,
        _ if args.yes => 0,
        count => choose(context, &usual, count)?,
    };
    let mut others = usual;
    let root = others.remove(at);
    let why = format!("a usual location; it has {}", checkout::found_markers(&root).join(", "));
    Ok(Checkout { root, why, others })
}

fn choose(context: &Context, usual: &[PathBuf], count: usize) -> Result<usize, Failure> {
    let list: Vec<String> = usual
        .iter()
        .enumerate()
        .map(|(at, root)| format!("  {}. {}", at + 1, root.display()))
        .collect();
    let list = list.join("\n");
    if !ask::is_interactive() {
        return Err(Failure::new(
            USAGE,
            format!("several CONJURE checkouts were found; choose one with --root DIR:\n{list}"),
        ));
    }
    context.out.error(format!("Several CONJURE checkouts were found:\n{list}"));
    ask::prompt_choice("Which one?", count)
        .ok_or_else(|| Failure::new(USAGE, "none was chosen; nothing was written"))
}

fn detect_settings(context: &Context, root: &Path) -> DetectedSettings {
    let is_token = |name: &str| TOKEN_VARIABLES.contains(&name);
    let is_ours = |name: &str| name.starts_with(PREFIX) || is_conjure_variable(name);
    let file = root.join(".env");
    let text = match read::read_complete(&file, DOTENV_LIMIT) {
        Ok(ReadOutcome::Complete { bytes, .. }) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(ReadOutcome::Changing | ReadOutcome::Missing) => String::new(),
        Err(error) => {
            context.out.error(format!("Note: {error}"));
            String::new()
        }
    };
    let set = |map: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let mine = map.iter().filter(|(name, text)| is_ours(name) && !text.trim().is_empty());
        mine.map(|(name, text)| (name.clone(), text.clone())).collect()
    };
    let of_file = set(&dotenv::read(&text, is_ours));
    let of_process = set(&context.sources.env);
    let token = of_process.keys().find(|name| is_token(name)).cloned().or_else(|| {
        let name = of_file.keys().find(|name| is_token(name))?;
        Some(format!("{name} of {}", file.display()))
    });
    let in_dotenv = of_file.keys().any(|name| !is_token(name)).then_some(file);
    let mut settings = of_file;
    settings.extend(of_process);
    // From here on the token cannot be copied by mistake.
    settings.retain(|name, _| !is_token(name));
    DetectedSettings { settings, in_dotenv, token }
}

/// Collects what differs from the defaults; options override variables.
fn collect_changes(
    context: &Context,
    args: &InitArgs,
    root: &Path,
    around: &DetectedSettings,
) -> Result<Vec<SettingChange>, Failure> {
    // Parsed as a configuration would be, so that a wrong value is refused now and not at the
    // first start.
    let alone = Sources {
        env: around.settings.clone(),
        root: Some(root.to_path_buf()),
        explicit: None,
        system_file: None,
        user_file: None,
        ..context.sources.clone()
    };
    let wrong = |errors: config::errors::ConfigErrors| {
        let file = around.in_dotenv.as_ref();
        let also = file.map(|file| format!(" (also read: {})", file.display()));
        let also = also.unwrap_or_default();
        Failure::new(CONFIGURATION, format!("{errors}\nNothing was written{also}."))
    };
    config::load(&alone).map_err(wrong)?;
    let mut changes = imported_changes(&around.settings).map_err(wrong)?;
    let given = [
        ("", "mode", args.mode.map(|mode| mode.name().to_owned()), "--mode"),
        ("serverless", "deployment_id", deployment(args, &changes), "--deployment"),
    ];
    for (section, key, value, from) in given {
        if let Some(value) = value {
            changes
                .retain(|change| (change.section.as_str(), change.key.as_str()) != (section, key));
            let usual = section.is_empty() && value == "auto";
            if !usual {
                changes.push(SettingChange::text(section, key, &value, from));
            }
        }
    }
    Ok(changes)
}

fn deployment(args: &InitArgs, changes: &[SettingChange]) -> Option<String> {
    let known = changes.iter().any(|change| change.key == "deployment_id");
    // Neither a ComfyUI nor a rented machine has a deployment.
    if matches!(args.mode, Some(ModeArg::Local | ModeArg::Cloud)) {
        return args.deployment.clone();
    }
    if args.deployment.is_some() || known || args.yes || args.print || !ask::is_interactive() {
        return args.deployment.clone();
    }
    ask::deployment()
}

fn target(context: &Context) -> Result<PathBuf, Failure> {
    let sources = &context.sources;
    let file = sources.explicit.as_ref().or(sources.user_file.as_ref()).ok_or_else(|| {
        Failure::new(
            CONFIGURATION,
            "there is no home folder (HOME is not set): give the file to write with --config FILE",
        )
    })?;
    // A symbolic link is kept, and the file it points to is replaced.
    Ok(dirs::canonical(&sources.folders.current.join(file)))
}

/// Refuses to replace a configuration without permission; renames the old file next to the new one
/// and returns its path.
fn back_up_existing(
    context: &Context,
    args: &InitArgs,
    target: &Path,
) -> Result<Option<PathBuf>, Failure> {
    if target.symlink_metadata().is_err() {
        return Ok(None);
    }
    let shown = target.display();
    let refused = |why: &str| Err(Failure::new(USAGE, format!("{shown} already exists{why}")));
    if !target.is_file() {
        return refused(" and is not a file; nothing was written");
    }
    if !args.force {
        if args.yes || !ask::is_interactive() {
            return refused(
                "; nothing was written. --force replaces it (the old file is kept), --print shows \
                 the new one",
            );
        }
        context.out.error(format!("{shown} already exists."));
        if !ask::yes("Replace it? The old file is kept next to it.") {
            return refused("; it was not changed");
        }
    }
    let failed = |error: crate::disk::DiskError| Failure::new(CANNOT_WRITE, error.to_string());
    let kept = target.with_extension("toml.before");
    dirs::copy(target, &kept).map_err(failed)?;
    #[cfg(unix)]
    dirs::restrict_file(&kept).map_err(failed)?;
    Ok(Some(kept))
}

/// Lists what still has to be set in the new file, and what conflicts with it.
fn remaining_steps(config: &Config, args: &InitArgs) -> Vec<String> {
    let mut lines = Vec::new();
    match config.mode {
        Mode::Serverless | Mode::Auto if config.serverless.deployment_id.is_none() => {
            let meanwhile = match config.mode {
                Mode::Auto => "; until then jobs can only run locally",
                _ => "",
            };
            lines.push(format!(
                "set serverless.deployment_id in this file: RunComfy's dashboard shows the id{meanwhile}; docs/runcomfy.md shows each step"
            ));
        }
        Mode::Cloud => {
            for (key, value, what) in [
                ("user_id", &config.cloud.user_id, "RunComfy's profile page shows it"),
                (
                    "workflow_version_id",
                    &config.cloud.workflow_version_id,
                    "the page of your saved workflow shows it",
                ),
            ] {
                if value.is_none() {
                    lines.push(format!("set cloud.{key} in this file: {what}"));
                }
            }
        }
        Mode::Local => lines.push(format!(
            "start ComfyUI so that it answers at {}, or change [local] in this file",
            config.local.comfyui_url.as_str().trim_end_matches('/')
        )),
        Mode::Serverless | Mode::Auto => {}
    }
    if let Some(wanted) = args.mode.filter(|mode| mode.name() != config.mode.word()) {
        lines.push(format!(
            "this shell's variables set the mode \"{}\" instead of \"{}\": unset \
             RUNCOMFY_FALLBACK_TO_LOCAL, RUNCOMFY_FALLBACK_ENABLED or CONJURED__MODE",
            config.mode,
            wanted.name()
        ));
    }
    lines
}

fn print_summary(
    context: &Context,
    args: &InitArgs,
    found: &Checkout,
    around: &DetectedSettings,
    changes: &[SettingChange],
    target: &Path,
    kept: Option<&Path>,
) {
    let out = &context.out;
    out.data(format!("{} {} ({})", out.bold("Checkout:"), found.root.display(), found.why));
    for other in &found.others {
        out.data(format!("  also found: {}", other.display()));
    }
    for change in changes {
        let dot = if change.section.is_empty() { "" } else { "." };
        out.data(format!(
            "  {}{dot}{} = {}  (from {})",
            change.section, change.key, change.value, change.from
        ));
    }
    if let Some(file) = &around.in_dotenv {
        out.data(format!("  {} was read", file.display()));
    }
    out.data(format!("{} {}", out.bold("Wrote:"), target.display()));
    if let Some(kept) = kept {
        out.data(format!("  the old file is now {}", kept.display()));
    }
    let own = context.sources.user_file.as_deref() == Some(target);
    let with = if own { String::new() } else { format!(" --config {}", target.display()) };
    out.data(out.bold("Next:"));
    let sources = Sources { explicit: Some(target.to_path_buf()), ..context.sources.clone() };
    let loaded = config::load(&sources).ok();
    let loaded = loaded.as_ref().map(|loaded| &loaded.config);
    let mode = loaded.map_or(Mode::Auto, |config| config.mode);
    for line in loaded.map(|config| remaining_steps(config, args)).unwrap_or_default() {
        out.data(format!("  {line}"));
    }
    let stored = loaded.and_then(|config| {
        let search = secrets::find_token(&sources, config).ok()?;
        search.token.map(|token| token.source.to_string())
    });
    let login = match (stored, &around.token) {
        (Some(place), None) => format!("only needed for another token; found one: {place}"),
        (_, Some(name)) => format!("stores your token; the one in {name} was found but not copied"),
        (None, None) => {
            "stores your RunComfy token (docs/runcomfy.md shows where to get one)".to_owned()
        }
    };
    if mode == Mode::Local {
        let token =
            loaded.and_then(|config| secrets::find_huggingface_token(&sources, config).ok()?.token);
        if let Some(token) = token {
            out.data(format!("  no login needed; found a Hugging Face token: {}", token.source));
        }
    } else {
        out.data(format!("  conjured{with} login     {login}"));
    }
    out.data(format!("  conjured{with} doctor    checks the whole setup"));
    out.data(format!(
        "  conjured{with} run       starts the daemon; the first start spends nothing"
    ));
}
