//! The demo's surroundings: a temporary CONJURE project, its configuration, and a camera that
//! renders it repeatedly.
//!
//! Owns the folders. They stay when the demo is over, so that the user can look at them; the
//! system's clean-up of temporary files removes them eventually.

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;

use crate::{
    cli::{
        context::Context,
        exit::{CANNOT_WRITE, Failure},
    },
    config::sources::Sources,
    disk::dirs,
    simulator::{
        Settings, Simulator,
        gesture_camera::{GestureCamera, say, write_like_blender},
    },
};

/// The interval between two renders of CONJURE's auto-refresh.
const REFRESH: Duration = Duration::from_secs(3);

/// The paths and settings of the demo.
pub(super) struct Stage {
    /// The temporary CONJURE checkout.
    pub(super) root: PathBuf,
    /// The daemon's state folder.
    pub(super) state_dir: PathBuf,
    /// The prompt file.
    pub(super) prompt: PathBuf,
    render: PathBuf,
    /// The public name of the image.
    pub(super) image: PathBuf,
    pub(super) mesh: Vec<PathBuf>,
    /// The sources of the demo daemon's configuration.
    pub(super) sources: Sources,
}

impl Stage {
    /// Creates the project with an initial scene and prompt.
    pub(super) fn build(
        context: &Context,
        simulator: &Simulator,
        settings: &Settings,
        seed: Option<u64>,
    ) -> Result<Self, Failure> {
        let failed = |error: String| Failure::new(CANNOT_WRITE, error);
        let folder =
            dirs::temporary("conjured-demo-").map_err(|error| failed(error.to_string()))?;
        let (root, state_dir) = (folder.join("CONJURE"), folder.join("state"));
        let data = root.join("data");
        let prompt = data.join("generated_text").join("userPrompt.txt");
        let render = data.join("generated_images").join("gestureCamera").join("render.png");
        for file in [&prompt, &render] {
            if let Some(parent) = file.parent() {
                dirs::make_private(parent).map_err(|error| failed(error.to_string()))?;
            }
        }
        say(&prompt, "a placeholder from yesterday").map_err(|error| failed(error.to_string()))?;

        // This process's environment is left out: neither a real token nor other settings may reach
        // the demo.
        let env = [
            ("CONJURED__MODE", "serverless".to_owned()),
            ("CONJURED__SERVERLESS__API_URL", simulator.api_url()),
            ("CONJURED__SERVERLESS__DOWNLOAD_HOSTS", "127.0.0.1".to_owned()),
            ("CONJURED__LOG__DIR", "-".to_owned()),
            ("RUNCOMFY_DEPLOYMENT_ID", settings.deployment.clone()),
            ("RUNCOMFY_API_TOKEN", settings.token.clone()),
        ];
        let mut env: std::collections::BTreeMap<String, String> =
            env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(seed) = seed {
            env.insert("CONJURED__GENERATION__SEED".to_owned(), seed.to_string());
        }
        let sources = Sources {
            root: Some(root.clone()),
            state_dir: Some(state_dir.clone()),
            env,
            folders: context.sources.folders.clone(),
            ..Sources::default()
        };
        let models = data.join("generated_models").join("partpacker_results");
        Ok(Self {
            image: data.join("generated_images").join("flux").join("flux.png"),
            mesh: vec![models.join("result.glb"), models.join("partpacker_result_0.glb")],
            root,
            state_dir,
            prompt,
            render,
            sources,
        })
    }

    /// Renders the scene repeatedly, as Blender does. Ends only if the file cannot be written.
    pub(super) async fn film(&self, mut scenes: watch::Receiver<u32>) -> Failure {
        let mut camera = GestureCamera::new();
        loop {
            let scene = *scenes.borrow_and_update();
            let frame = camera.frame(scene);
            if let Err(error) = write_like_blender(&self.render, &frame).await {
                return Failure::new(CANNOT_WRITE, format!("{}: {error}", self.render.display()));
            }
            // Blender's timer starts again after each render, whether or not anything changed.
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Writes the prompt, as CONJURE's agent does.
    pub(super) fn write_prompt(&self, message: &str) -> Result<(), Failure> {
        say(&self.prompt, message).map_err(|error| {
            Failure::new(CANNOT_WRITE, format!("{}: {error}", self.prompt.display()))
        })
    }
}
