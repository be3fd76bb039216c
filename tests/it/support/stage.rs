//! A test's world: a temporary CONJURE project, its configuration, the service, and the results.
//!
//! Owns the folders and the configuration file. The debounce windows are short, and the limits on
//! money and on jobs per hour are off: a test about one of them sets it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bytes::Bytes;
use conjured::{
    domain::job::{JobState, placement::is_temporary},
    ledger::{
        FILE, Ledger,
        rows::{JobFilter, JobRow},
    },
    simulator::{
        Settings,
        gesture_camera::{GestureCamera, say},
    },
};
use tempfile::TempDir;

use super::{
    daemon::TestDaemon,
    media,
    patience::eventually,
    service::{Service, TOKEN, quick},
};

/// The side of a test's renders, in pixels.
const SIDE: u32 = 64;

/// A test's world.
pub(crate) struct DemoProject {
    /// The service.
    pub(crate) service: Service,
    mode: &'static str,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    camera: GestureCamera,
    folder: TempDir,
}

impl DemoProject {
    /// Creates a project with a prompt and a render, and a fast service.
    pub(crate) fn new() -> Self {
        Self::with(quick())
    }

    /// Creates a project with a prompt and a render, and this service.
    pub(crate) fn with(settings: Settings) -> Self {
        let deployment = settings.deployment.clone();
        let service = Service::start(settings);
        let folder = tempfile::Builder::new().prefix("conjured-it-").tempdir().expect("a folder");
        let api_url = service.api_url();
        let camera = GestureCamera::with_side(SIDE);
        let mut stage =
            Self { service, mode: "serverless", settings: BTreeMap::new(), camera, folder };
        for (key, value) in [
            ("trigger.prompt_quiet_ms", "150"),
            ("trigger.render_quiet_ms", "350"),
            ("trigger.min_interval_s", "0"),
            ("trigger.max_jobs_per_hour", "3600"),
            ("trigger.after_result_hold_s", "0"),
            ("serverless.poll_min_ms", "50"),
            ("serverless.poll_max_ms", "150"),
            ("serverless.download_hosts", r#"["127.0.0.1"]"#),
            ("budget.per_session_usd", "0"),
            ("placement.handoff", r#""off""#),
            ("page.listen", r#""""#),
            ("log.level", r#""debug""#),
        ] {
            stage.put(key, value);
        }
        stage.put("serverless.api_url", &toml_text(&api_url));
        stage.put("serverless.deployment_id", &toml_text(&deployment));
        stage.put("log.dir", &toml_text(&stage.path("log").display().to_string()));
        for path in [stage.prompt(), stage.render()] {
            fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        }
        fs::create_dir(stage.path("home")).expect("makes");
        stage.say("a placeholder from yesterday");
        stage.film(0);
        stage.save_config();
        stage
    }

    /// Changes a setting (`section.key`, value as TOML) and saves the configuration.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.put(key, value);
        self.save_config();
    }

    fn put(&mut self, key: &str, value: &str) {
        let (section, key) = key.split_once('.').expect("section.key");
        let section = self.settings.entry(section.to_owned()).or_default();
        section.insert(key.to_owned(), value.to_owned());
    }

    /// Changes the mode and saves the configuration.
    pub(crate) fn set_mode(&mut self, mode: &'static str) {
        self.mode = mode;
        self.save_config();
    }

    /// Removes a setting and saves the configuration.
    pub(crate) fn unset(&mut self, section: &str, key: &str) {
        self.settings.get_mut(section).and_then(|keys| keys.remove(key)).expect("it was set");
        self.save_config();
    }

    fn save_config(&self) {
        let (mode, root) = (self.mode, toml_text(&self.root().display().to_string()));
        let mut text =
            format!("mode = \"{mode}\"\n\n[[project]]\nname = \"test\"\nroot = {root}\n");
        for (section, keys) in &self.settings {
            text.push_str(&format!("\n[{section}]\n"));
            for (key, value) in keys {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        fs::write(self.config(), text).expect("writes");
    }

    // Paths.

    /// Returns a path in the test's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("conjured.toml")
    }

    /// Returns the CONJURE checkout.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("CONJURE")
    }

    /// Returns the state folder.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// Returns the prompt's path.
    pub(crate) fn prompt(&self) -> PathBuf {
        self.root().join("data/generated_text/userPrompt.txt")
    }

    /// Returns the render's path.
    pub(crate) fn render(&self) -> PathBuf {
        self.root().join("data/generated_images/gestureCamera/render.png")
    }

    /// Returns the public names: the picture, then the two of the mesh.
    pub(crate) fn public(&self) -> [PathBuf; 3] {
        [
            "data/generated_images/flux/flux.png",
            "data/generated_models/partpacker_results/result.glb",
            "data/generated_models/partpacker_results/partpacker_result_0.glb",
        ]
        .map(|name| self.root().join(name))
    }

    // What the artist does.

    /// Writes the prompt.
    pub(crate) fn say(&self, message: &str) {
        say(&self.prompt(), message).expect("writes");
    }

    /// Renders a scene without saving it.
    pub(crate) fn frame(&mut self, scene: u32) -> Bytes {
        self.camera.frame(scene)
    }

    /// Renders a scene and saves it; returns the file's content.
    pub(crate) fn film(&mut self, scene: u32) -> Bytes {
        let frame = self.frame(scene);
        fs::write(self.render(), &frame).expect("writes");
        frame
    }

    // Processes.

    /// Returns a command line of `conjured` for this project.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_with(&self.state_dir(), arguments)
    }

    /// Returns a command line of `conjured` for this project and another state folder.
    pub(crate) fn command_with(&self, state_dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conjured"));
        command.env_clear().env("HOME", self.path("home")).env("RUNCOMFY_API_TOKEN", TOKEN);
        command.env("TMPDIR", self.folder.path()).current_dir(self.folder.path());
        // Without the first variable Windows has no network; the second is its folder for
        // temporary files.
        #[cfg(windows)]
        command
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .env("TMP", self.folder.path());
        command.arg("--config").arg(self.config()).arg("--state-dir").arg(state_dir);
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs a command that must succeed, and reads its JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Starts the daemon and waits until it has scanned the inputs.
    #[track_caller]
    pub(crate) fn start(&self) -> TestDaemon {
        TestDaemon::spawn(self.command(&["run"]), self.state_dir(), self.path("stderr")).ready()
    }

    // The results.

    /// Returns how many submits the service accepted, each of which would be billed.
    pub(crate) fn accepted(&self) -> u64 {
        self.service.stats().accepted
    }

    /// Returns how many submits arrived, accepted or not.
    pub(crate) fn submits(&self) -> u64 {
        self.service.stats().submits
    }

    /// Returns the ledger's jobs, oldest first.
    pub(crate) fn jobs(&self) -> Vec<JobRow> {
        let Ok(reader) = Ledger::open_read_only(&self.state_dir().join(FILE)) else {
            return Vec::new();
        };
        let mut rows = reader.jobs(&JobFilter::default()).unwrap_or_default();
        rows.reverse();
        rows
    }

    /// Waits until the newest job is in `state`.
    #[track_caller]
    pub(crate) fn newest_is(&self, state: JobState) -> JobRow {
        eventually(&format!("the newest job is `{state}`"), || {
            self.jobs().pop().filter(|job| job.state == state)
        })
    }

    /// Waits until there are `count` jobs and all have ended; returns them, oldest first.
    #[track_caller]
    pub(crate) fn ended(&self, count: usize) -> Vec<JobRow> {
        eventually(&format!("{count} jobs have ended"), || {
            let jobs = self.jobs();
            assert!(jobs.len() <= count, "more than {count} jobs: {jobs:#?}");
            (jobs.len() == count && jobs.iter().all(|job| job.state.is_final())).then_some(jobs)
        })
    }

    /// Waits until `count` jobs have ended, all of them `done`, with complete public files and
    /// nothing left over.
    #[track_caller]
    pub(crate) fn done(&self, count: usize) -> Vec<JobRow> {
        let jobs = self.ended(count);
        for job in &jobs {
            assert_eq!(job.state, JobState::Done, "{:?}", job.reason);
        }
        self.assert_public_whole();
        jobs
    }

    /// Fails the test unless every public file is complete, and there is no other file.
    #[track_caller]
    pub(crate) fn assert_public_whole(&self) {
        for path in self.public() {
            assert_eq!(media::fault(&path), None);
        }
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }

    /// Returns our temporary files in the public folders.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        files_below(&self.root())
            .into_iter()
            .filter(|path| {
                path.file_name().is_some_and(|name| is_temporary(&name.to_string_lossy()))
            })
            .collect()
    }

    /// Returns the contents of the public files.
    pub(crate) fn public_bytes(&self) -> [Vec<u8>; 3] {
        self.public().map(|path| fs::read(path).unwrap_or_default())
    }
}

/// Returns every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// Returns whether a number occurs anywhere in a JSON value, as a value of its own.
pub(crate) fn holds_number(value: &serde_json::Value, number: u64) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(|item| holds_number(item, number)),
        serde_json::Value::Object(members) => {
            members.values().any(|member| holds_number(member, number))
        }
        value => value.as_u64() == Some(number),
    }
}

/// Formats a text as TOML; JSON's notation is valid there for what occurs in paths and addresses.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
