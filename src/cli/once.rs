//! `conjured once`: one job now, of the project's inputs or of others.
//!
//! Owns what is asked for, and that what cannot work is found out before money is spent. How it goes is [`super::one_job`]'s.

use std::path::PathBuf;

use super::{
    args::OnceArgs,
    context::Context,
    exit::{CANNOT_WRITE, Failure, MISSING_INPUT},
    one_job::{self, How},
};
use crate::{config::Loaded, daemon::live::Live, disk::dirs, web::OnceRequest};

/// Runs one job and returns when it is over.
pub(super) async fn once(context: &Context, args: &OnceArgs) -> Result<(), Failure> {
    let loaded = context.load_to_serve()?;
    let request = request(args, &loaded)?;
    let live = Live::new(loaded.config.clone(), &context.sources)?;
    Box::pin(one_job::run(context, loaded, live, request, How::default())).await
}

fn request(args: &OnceArgs, loaded: &Loaded) -> Result<OnceRequest, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            Failure::new(super::exit::USAGE, format!("{}: {error}", path.display()))
        })
    };
    let render = args.render.as_ref().map(absolute).transpose()?;
    if let Some(render) = &render
        && !render.exists()
    {
        let message = format!("there is no {}; nothing was sent", render.display());
        return Err(Failure::new(MISSING_INPUT, message));
    }
    let out = args.out.as_ref().map(absolute).transpose()?;
    if let Some(folder) = &out {
        // Its own folder is made, a checkout that is gone is not.
        let gone = |root: &&PathBuf| folder.starts_with(root) && !root.is_dir();
        if let Some(root) = loaded.config.projects.iter().map(|project| &project.root).find(gone) {
            let message =
                format!("the project's root {} is not there; nothing was sent", root.display());
            return Err(Failure::new(CANNOT_WRITE, message));
        }
        // Found out before money is spent.
        dirs::try_to_write(folder)
            .map_err(|error| Failure::new(CANNOT_WRITE, format!("{error}; nothing was sent")))?;
    }
    Ok(OnceRequest {
        project: args.project.clone(),
        prompt: args.prompt.clone(),
        render,
        seed: args.seed,
        out,
        again: None,
    })
}
