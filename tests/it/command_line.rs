//! The real program, run as a person runs it: the arguments, the output on each stream, and the
//! exit code.
//!
//! Owns what needs neither a daemon nor a service. Every run has its own home and nothing else
//! from this machine's environment; what must be true for every run is checked in one
//! function, [`ManagerInbox::run`].

mod configuration;
mod endings;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tempfile::TempDir;

/// An invented token; no output may ever contain it.
const TOKEN: &str = "not-a-real-token-of-the-command-line-tests";

/// A program that takes longer is considered to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A separate home, CONJURE checkout and environment.
struct Terminal {
    home: TempDir,
    env: Vec<(String, String)>,
}

/// The output of a run, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Terminal {
    /// Creates a home with only an empty checkout in it, and a token in the environment.
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let terminal = Self { home, env: Vec::new() }
            .with("RUNCOMFY_API_TOKEN", TOKEN)
            // The default mode would use public services on the internet when the paid one
            // is unavailable.
            .with("CONJURED__MODE", "serverless");
        for folder in
            ["tmp", "proj/data/generated_text", "proj/data/generated_images/gestureCamera"]
        {
            fs::create_dir_all(terminal.path(folder)).expect("makes a folder");
        }
        terminal
    }

    fn with(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().expect("UTF-8").to_owned();
        self.env.push((name.to_owned(), value));
        self
    }

    fn without_token(mut self) -> Self {
        self.env.retain(|(name, _)| name != "RUNCOMFY_API_TOKEN");
        self
    }

    /// Sets a deployment at an address where nothing listens: no test here may get as far as
    /// calling it.
    fn with_deployment(self) -> Self {
        self.with("RUNCOMFY_DEPLOYMENT_ID", "nobodys")
            .with("CONJURED__SERVERLESS__API_URL", "http://127.0.0.1:9")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("writes a file");
        path
    }

    fn environment(&self) -> Vec<(String, PathBuf)> {
        let folders = [("HOME", ""), ("TMPDIR", "tmp")];
        let folders = folders.map(|(name, folder)| (name.to_owned(), self.path(folder)));
        // On Windows the home does not depend on variables: without this the runs would share the
        // user's own ledger.
        #[cfg(windows)]
        let folders =
            folders.into_iter().chain([("CONJURED__STATE_DIR".to_owned(), self.path("state"))]);
        let own = self.env.iter().map(|(name, value)| (name.clone(), PathBuf::from(value)));
        folders.into_iter().chain(own).collect()
    }

    /// Runs `conjured` with the words of `line`; `{}` stands for the home folder.
    #[track_caller]
    fn run(&self, line: &str) -> Said {
        let home = self.home.path().to_str().expect("UTF-8");
        let words = line.split_whitespace().map(|word| word.replace("{}", home));
        self.run_words(words)
    }

    /// Runs `conjured` with these words.
    #[track_caller]
    fn run_words(&self, words: impl IntoIterator<Item = impl Into<String>>) -> Said {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_conjured"))
            .args(&words)
            .current_dir(self.home.path())
            .env_clear()
            .envs(self.environment())
            .timeout(PATIENCE)
            .output()
            .expect("it runs");
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).expect("it says UTF-8");
        let said = Said {
            code: status.code().unwrap_or_else(|| panic!("{words:?} was ended: {status}")),
            stdout: text(stdout),
            stderr: text(stderr),
        };
        for stream in [&said.stdout, &said.stderr] {
            assert!(!stream.contains(TOKEN), "{words:?} showed the token: {said:?}");
            assert!(!stream.contains("panicked at"), "{words:?}: {said:?}");
            let painted = stream.contains('\x1b');
            let asked = words.iter().any(|word| word == "--color=always");
            assert!(!painted || asked, "{words:?} painted without a terminal: {said:?}");
        }
        said
    }

    /// Runs a line that must end with `code`, with `words` on standard error and nothing on
    /// standard output.
    #[track_caller]
    fn refused(&self, line: &str, code: i32, message: &str) {
        let said = self.run(line);
        assert_eq!(said.code, code, "{line}: {said:?}");
        assert!(said.stderr.contains(message), "{line}: no {message:?} in {said:?}");
        assert_eq!(said.stdout, "", "{line}");
    }

    /// Runs a line that must succeed, and returns its standard output.
    #[track_caller]
    fn done(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.stdout
    }

    /// Runs a line that must succeed and print only JSON on standard output.
    #[track_caller]
    fn json(&self, line: &str) -> serde_json::Value {
        let text = self.done(line);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }
}
