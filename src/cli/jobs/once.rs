//! `conjured once`: runs one job now, with the project's inputs or with others.
//!
//! Owns the request. The daemon finds problems before money is spent, and [`super::one_job`] runs
//! the job.

use std::path::PathBuf;

use super::one_job::{self, FollowOptions};
use crate::{
    cli::{
        args::OnceArgs,
        context::Context,
        exit::{Failure, MISSING_INPUT},
    },
    daemon::services::{command::OnceRequest, runtime_config::RuntimeConfig},
};

/// Runs one job and returns when it is over.
pub(in crate::cli) async fn once(context: &Context, args: &OnceArgs) -> Result<(), Failure> {
    let loaded = context.load_to_serve()?;
    let request = request(args)?;
    let config = RuntimeConfig::new(loaded.config.clone(), &context.sources)?;
    Box::pin(one_job::run(context, loaded, config, request, FollowOptions::default())).await
}

fn request(args: &OnceArgs) -> Result<OnceRequest, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            Failure::new(crate::cli::exit::USAGE, format!("{}: {error}", path.display()))
        })
    };
    let render = args.render.as_ref().map(absolute).transpose()?;
    if let Some(render) = &render
        && !render.exists()
    {
        let message = format!("{} does not exist; nothing was sent", render.display());
        return Err(Failure::new(MISSING_INPUT, message));
    }
    let out = args.out.as_ref().map(absolute).transpose()?;
    Ok(OnceRequest {
        project: args.project.clone(),
        prompt: args.prompt.clone(),
        render,
        seed: args.seed,
        out,
        again: None,
    })
}
