//! The protocol for handing a new mesh over to CONJURE, and the meaning of `state.json`.
//!
//! Owns names and meanings. [`decide`] owns the next step, [`document`] the text of the file;
//! nothing here reads or writes files. CONJURE's Blender add-on imports a mesh when `command` asks
//! for it, polls thirty times a second, and then writes back the state that it had *before* the
//! import. So only the file shows what happened to a request, and only a marker of our own shows
//! whose request it was.

pub mod decide;
pub mod document;
// The folder in these tests is `/c/results`, which is not an absolute path on Windows.
#[cfg(all(test, unix))]
mod tests;

use std::path::Path;

use crate::job::JobId;

/// The command that makes Blender import `mesh_path`. CONJURE accepts this text as a command
/// anywhere in the file.
pub const COMMAND: &str = "import_and_process_mesh";

/// The member that contains our marker.
pub const MARKER: &str = "daemon_import_id";

/// The path of CONJURE's state file, relative to the root of a checkout.
pub const STATE_FILE: &str = "data/input/state.json";

/// The path of the hand tracker's file, relative to the root of a checkout.
pub const HANDS_FILE: &str = "data/input/fingertips.json";

/// If a path contains this text, CONJURE splits a mesh of one object into its loose parts.
pub const SPLIT_MARKER: &str = "genMesh";

/// The members of `state.json` that matter for imports. `None` means `null`, an empty text, or a
/// missing key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConjureState {
    /// `running` while a launcher is alive, or after it died without an update.
    pub app_status: Option<String>,
    /// The command for Blender.
    pub command: Option<String>,
    /// The mesh that an import would read.
    pub mesh_path: Option<String>,
    /// Our marker.
    pub marker: Option<String>,
    /// `new` while CONJURE's own pipeline is requested or running.
    pub flux_pipeline_request: Option<String>,
    /// The pipeline that it selects.
    pub generation_mode: Option<String>,
    /// Whether the import command appears outside of `command`: then Blender imports at every poll.
    pub command_misplaced: bool,
}

impl ConjureState {
    /// Returns whether a launcher reports that it is running.
    pub fn is_running(&self) -> bool {
        self.app_status.as_deref() == Some("running")
    }

    /// Returns whether a launcher reports that it is starting: it will reset the file.
    pub fn is_starting(&self) -> bool {
        self.app_status.as_deref() == Some("initializing")
    }
}

/// The request of one job: its marker, and the copy of its mesh that Blender must read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoffTicket {
    job: JobId,
    /// Distinguishes requests for the same mesh; a withdrawn one is never valid again.
    sequence: u64,
    folder: String,
}

/// Why a mesh in this folder cannot be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableFolder {
    /// Blender would look for it in its own working folder.
    #[error("the folder {0} is not an absolute path")]
    Relative(String),
    /// JSON contains only Unicode.
    #[error("the folder {0} has a name that is not Unicode")]
    NotUnicode(String),
    /// It would be interpreted as a command that never ends.
    #[error(
        "the folder {0} has a name with `{COMMAND}` in it, which CONJURE would take as a command"
    )]
    Command(String),
}

impl HandoffTicket {
    /// Creates the request of a job whose copy is in `folder`.
    pub fn new(job: JobId, turn: u64, folder: &Path) -> Result<Self, UnusableFolder> {
        let shown = folder.display().to_string();
        if !folder.is_absolute() {
            return Err(UnusableFolder::Relative(shown));
        }
        let Some(text) = folder.to_str() else { return Err(UnusableFolder::NotUnicode(shown)) };
        if text.contains(COMMAND) {
            return Err(UnusableFolder::Command(shown));
        }
        Ok(Self { job, sequence: turn, folder: text.to_owned() })
    }

    /// Returns the job.
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// Returns the path of the copy: unique to the job, absolute, never written again.
    pub fn path(&self) -> String {
        self.path_of(self.sequence)
    }

    fn path_of(&self, turn: u64) -> String {
        let mark = self.mark_of(turn).replace('.', "-");
        let joined = Path::new(&self.folder).join(format!("{COPY_PREFIX}{mark}{COPY_SUFFIX}"));
        joined.to_string_lossy().into_owned()
    }

    /// Returns the marker of a request with a command.
    pub fn mark(&self) -> String {
        self.mark_of(self.sequence)
    }

    fn mark_of(&self, turn: u64) -> String {
        match turn {
            0 => self.job.to_string(),
            turn => format!("{}.{turn}", self.job),
        }
    }

    /// Returns the marker while the path is written, but no command yet.
    pub fn staged_mark(&self) -> String {
        format!("{}{STAGED_SUFFIX}", self.mark())
    }

    /// Parses a marker of this job: its turn, and whether it is only staged.
    fn read(&self, mark: &str) -> Option<(u64, bool)> {
        let (mark, staged) = match mark.strip_suffix(STAGED_SUFFIX) {
            Some(mark) => (mark, true),
            None => (mark, false),
        };
        let rest = mark.strip_prefix(&self.job.to_string())?;
        let turn = match rest.strip_prefix('.') {
            Some(turn) => turn.parse().ok()?,
            None if rest.is_empty() => 0,
            None => return None,
        };
        Some((turn, staged))
    }
}

const STAGED_SUFFIX: &str = " staged";

/// The prefix of every copy's name. It tells people what the file is; the launcher automatically
/// imports only `partpacker_result_0.glb`.
pub const COPY_PREFIX: &str = "partpacker_result_";

/// The suffix of every copy's name.
pub const COPY_SUFFIX: &str = ".glb";

/// Returns the job whose copy has this file name; `None` for every name that is not ours.
pub fn job_of_copy(name: &str) -> Option<JobId> {
    let mark = name.strip_prefix(COPY_PREFIX)?.strip_suffix(COPY_SUFFIX)?;
    let (job, turn) = mark.split_once('-').unwrap_or((mark, "0"));
    turn.parse::<u64>().ok()?;
    let parsed: JobId = job.parse().ok()?;
    // Accept only our own spelling.
    (parsed.to_string() == job).then_some(parsed)
}
