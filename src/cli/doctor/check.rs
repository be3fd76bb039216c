//! One check: what was looked at, how it stands, what was found, and the one sentence on how to put it right.
//!
//! Owns the shape and how it looks, on a terminal and as JSON.

use serde_json::{Value, json};

use crate::cli::out::{Out, plain};

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and a person should look.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be looked at, or there was no need.
    Skipped,
}

impl Verdict {
    /// Returns the word in JSON.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// What was looked at; stable, machines rely on it.
    pub(super) name: &'static str,
    /// The project it is about, where there are several things of the same name.
    pub(super) project: Option<String>,
    /// How it stands.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What to do, in a sentence; for warnings and failures.
    pub(super) fix: Option<String>,
    /// The exit code when this is the first that failed.
    pub(super) code: u8,
    /// Whether what fails is only not there: wrong is worse, as somebody meant it.
    is_missing: bool,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: String, fix: Option<String>) -> Self {
        Self { name, project: None, verdict, found, fix, code: 0, is_missing: false }
    }

    /// Says that something is as it should be.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found.into(), None)
    }

    /// Says that a person should look at something.
    pub(super) fn warn(
        name: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Warn, found.into(), Some(fix.into()))
    }

    /// Says that something does not work.
    pub(super) fn fail(
        name: &'static str,
        code: u8,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { code, ..Self::new(name, Verdict::Fail, found.into(), Some(fix.into())) }
    }

    /// Says that something is not there without which RunComfy does nothing.
    pub(super) fn missing(
        name: &'static str,
        code: u8,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { is_missing: true, ..Self::fail(name, code, found, fix) }
    }

    /// Makes a warning of something that is not there, for somebody else does the work.
    pub(super) fn soften_what_is_missing(&mut self) {
        if self.is_missing {
            self.verdict = Verdict::Warn;
            self.found.push_str("; every job runs locally");
        }
    }

    /// Says that something was not looked at, and why.
    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skipped, why.into(), None)
    }

    /// Names the project.
    pub(super) fn of(self, project: &str) -> Self {
        Self { project: Some(project.to_owned()), ..self }
    }

    /// Returns the stable JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "project": self.project,
            "verdict": self.verdict.word(),
            "found": self.found,
            "fix": self.fix,
        })
    }

    /// Prints it for a person. `width` is that of the longest name, `several` whether projects must be told apart.
    pub(super) fn print(&self, out: &Out, width: usize, several: bool) {
        let mark = match self.verdict {
            Verdict::Ok => out.paint("32", "ok  "),
            Verdict::Warn => out.paint("33;1", "warn"),
            Verdict::Fail => out.paint("31;1", "FAIL"),
            Verdict::Skipped => out.paint("2", "skip"),
        };
        let project = self.project.as_ref().filter(|_| several);
        let project = project.map(|name| format!("{}: ", plain(name))).unwrap_or_default();
        // Several lines, as the complaints about a configuration are, keep to their column.
        let column = format!("\n{:1$}", "", width + 7);
        let lines: Vec<String> = self.found.lines().map(plain).collect();
        let found = lines.join(&column);
        out.data(format!("{mark}  {:width$} {project}{found}", self.name));
        if let Some(fix) = &self.fix {
            let fix: Vec<String> = fix.lines().map(plain).collect();
            out.data(format!("{:1$}→ {2}", "", width + 7, fix.join(&column)));
        }
    }
}
