//! `conjured completions` and `conjured man`: files that packagers ship with the binary.

use std::path::Path;

use clap::CommandFactory as _;

use crate::{
    cli::{
        args::Cli,
        context::Context,
        exit::{CANNOT_WRITE, Failure},
    },
    disk::dirs,
};

pub(in crate::cli) fn completions(context: &Context, shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "conjured", &mut script);
    context.out.data(String::from_utf8_lossy(&script).trim_end());
}

/// Prints the manual page, or writes the pages of all commands into a folder.
pub(in crate::cli) fn man(context: &Context, dir: Option<&Path>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(CANNOT_WRITE, error.to_string());
    let mut command = Cli::command();
    command.build();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
        context.out.data(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    dirs::make_private(dir).map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
    clap_mangen::generate_to(command, dir).map_err(failed)?;
    context.out.data(dir.display().to_string());
    Ok(())
}
