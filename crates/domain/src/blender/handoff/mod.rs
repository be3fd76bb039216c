//! Telling CONJURE of a new mesh: the words of the protocol, and what `state.json` says.
//!
//! Owns names and meanings. What to do next is [`decide`]'s, the text of the file [`document`]'s; nothing in here reads or writes.
//! CONJURE's Blender add-on imports a mesh when `command` asks for it, thirty looks a second, and then writes back the
//! state that it had *before* the import. So the file alone tells what became of a request, and only a mark of our own
//! tells whose request it was.

pub mod decide;
pub mod document;
// Their folder is `/c/results`, which is no whole path on Windows.
#[cfg(all(test, unix))]
mod tests;

use std::path::Path;

use crate::job::JobId;

/// The command that makes Blender import `mesh_path`. CONJURE takes this text for the command wherever it stands in the file.
pub const COMMAND: &str = "import_and_process_mesh";

/// The member that carries our mark.
pub const MARKER: &str = "daemon_import_id";

/// Where CONJURE keeps its state, from the root of a checkout.
pub const STATE_FILE: &str = "data/input/state.json";

/// Where CONJURE's hand tracker writes, from the root of a checkout.
pub const HANDS_FILE: &str = "data/input/fingertips.json";

/// A path that holds this makes CONJURE split a mesh of one object into its loose parts.
pub const SPLITS: &str = "genMesh";

/// What `state.json` says, as far as imports are concerned. `None` is `null`, an empty text, or no such key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `running` while a launcher lives, or died without saying so.
    pub app_status: Option<String>,
    /// What Blender is asked to do.
    pub command: Option<String>,
    /// The mesh that an import would read.
    pub mesh_path: Option<String>,
    /// Our mark.
    pub marker: Option<String>,
    /// `new` while CONJURE's own pipeline is wanted or at work.
    pub flux_pipeline_request: Option<String>,
    /// Which pipeline that is.
    pub generation_mode: Option<String>,
    /// The import command stands in another place than `command`: Blender imports at every look.
    pub elsewhere: bool,
}

impl Seen {
    /// Tells whether a launcher says that it lives.
    pub fn is_running(&self) -> bool {
        self.app_status.as_deref() == Some("running")
    }

    /// Tells whether a launcher says that it begins to live: it will reset the file.
    pub fn is_starting(&self) -> bool {
        self.app_status.as_deref() == Some("initializing")
    }
}

/// A job's right to ask: its mark, and the copy of its mesh that Blender is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    job: JobId,
    /// Tells requests for the same mesh apart; one that was called back is never believed again.
    turn: u64,
    folder: String,
}

/// Why a mesh in this folder cannot be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnameable {
    /// Blender would look for it in its own working folder.
    #[error("the folder {0} is not an absolute path")]
    Relative(String),
    /// JSON holds Unicode only.
    #[error("the folder {0} has a name that is not Unicode")]
    NotUnicode(String),
    /// It would be taken for a command that never ends.
    #[error(
        "the folder {0} has a name that holds `{COMMAND}`, which CONJURE would take for a command"
    )]
    Command(String),
}

impl Ticket {
    /// Makes the ticket of a job whose copy lies in `folder`.
    pub fn new(job: JobId, turn: u64, folder: &Path) -> Result<Self, Unnameable> {
        let shown = folder.display().to_string();
        if !folder.is_absolute() {
            return Err(Unnameable::Relative(shown));
        }
        let Some(text) = folder.to_str() else { return Err(Unnameable::NotUnicode(shown)) };
        if text.contains(COMMAND) {
            return Err(Unnameable::Command(shown));
        }
        Ok(Self { job, turn, folder: text.to_owned() })
    }

    /// Returns the job.
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// Returns the path of the copy: the job's own, absolute, never written again.
    pub fn path(&self) -> String {
        self.path_of(self.turn)
    }

    fn path_of(&self, turn: u64) -> String {
        let mark = self.mark_of(turn).replace('.', "-");
        let joined = Path::new(&self.folder).join(format!("{COPY_PREFIX}{mark}{COPY_SUFFIX}"));
        joined.to_string_lossy().into_owned()
    }

    /// Returns the mark of a request that is out.
    pub fn mark(&self) -> String {
        self.mark_of(self.turn)
    }

    fn mark_of(&self, turn: u64) -> String {
        match turn {
            0 => self.job.to_string(),
            turn => format!("{}.{turn}", self.job),
        }
    }

    /// Returns the mark while only the path is there, and no command yet.
    pub fn staged_mark(&self) -> String {
        format!("{}{STAGED}", self.mark())
    }

    /// Reads a mark of this job: its turn, and whether it is only staged.
    fn read(&self, mark: &str) -> Option<(u64, bool)> {
        let (mark, staged) = match mark.strip_suffix(STAGED) {
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

const STAGED: &str = " staged";

/// How the name of every copy begins. It says to a person what it is; the launcher imports `partpacker_result_0.glb` alone by
/// itself.
pub const COPY_PREFIX: &str = "partpacker_result_";

/// How the name of every copy ends.
pub const COPY_SUFFIX: &str = ".glb";

/// Returns the job whose copy bears this file name; `None` for every name that we did not give.
pub fn copy_of(name: &str) -> Option<JobId> {
    let mark = name.strip_prefix(COPY_PREFIX)?.strip_suffix(COPY_SUFFIX)?;
    let (job, turn) = mark.split_once('-').unwrap_or((mark, "0"));
    turn.parse::<u64>().ok()?;
    let parsed: JobId = job.parse().ok()?;
    // Only the spelling that we use.
    (parsed.to_string() == job).then_some(parsed)
}
