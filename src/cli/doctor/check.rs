//! The result of one check: its name, verdict, findings, and how to fix the problem.
//!
//! Owns the structure and how it is printed, on a terminal and as JSON.

use serde_json::{Value, json};

use crate::cli::out::{Out, plain};

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckStatus {
    /// Everything is fine.
    Ok,
    /// It works, but the user should look at it.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be checked, or did not need to be.
    Skipped,
}

impl CheckStatus {
    /// Returns the verdict's name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The checked thing. Stable, because programs rely on it.
    pub(super) name: &'static str,
    /// The project concerned, if several things have the same name.
    pub(super) project: Option<String>,
    pub(super) status: CheckStatus,
    pub(super) found: String,
    /// What to do, in one sentence; for warnings and failures.
    pub(super) fix: Option<String>,
    /// The exit code if this is the first failed check.
    pub(super) code: u8,
    /// Whether the failure is only that something is missing. A wrong value is worse, because the
    /// user set it on purpose.
    is_missing: bool,
}

impl Check {
    fn new(name: &'static str, verdict: CheckStatus, found: String, fix: Option<String>) -> Self {
        Self { name, project: None, status: verdict, found, fix, code: 0, is_missing: false }
    }

    /// Reports that something is fine.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Ok, found.into(), None)
    }

    /// Reports something that the user should look at.
    pub(super) fn warn(
        name: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(name, CheckStatus::Warn, found.into(), Some(fix.into()))
    }

    /// Reports that something does not work.
    pub(super) fn fail(
        name: &'static str,
        code: u8,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { code, ..Self::new(name, CheckStatus::Fail, found.into(), Some(fix.into())) }
    }

    /// Reports that something is missing without which RunComfy cannot be used.
    pub(super) fn missing(
        name: &'static str,
        code: u8,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { is_missing: true, ..Self::fail(name, code, found, fix) }
    }

    /// Turns the failure into a warning if something is only missing, because another backend does
    /// the work.
    pub(super) fn soften_missing(&mut self) {
        if self.is_missing {
            self.status = CheckStatus::Warn;
            self.found.push_str("; every job runs locally");
        }
    }

    /// Reports that something was not checked, and why.
    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Skipped, why.into(), None)
    }

    /// Sets the project concerned.
    pub(super) fn for_project(self, project: &str) -> Self {
        Self { project: Some(project.to_owned()), ..self }
    }

    /// Returns the stable JSON form.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "project": self.project,
            "verdict": self.status.name(),
            "found": self.found,
            "fix": self.fix,
        })
    }

    /// Prints the check for a person. `width` is the length of the longest name; `several` says
    /// whether to show the project.
    pub(super) fn print(&self, out: &Out, width: usize, several: bool) {
        let mark = match self.status {
            CheckStatus::Ok => out.paint("32", "ok  "),
            CheckStatus::Warn => out.paint("33;1", "warn"),
            CheckStatus::Fail => out.paint("31;1", "FAIL"),
            CheckStatus::Skipped => out.paint("2", "skip"),
        };
        let project = self.project.as_ref().filter(|_| several);
        let project = project.map(|name| format!("{}: ", plain(name))).unwrap_or_default();
        // Findings of several lines, such as configuration errors, stay in their column.
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
