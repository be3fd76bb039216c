//! One scan of a project's two inputs: read, check, fingerprint. Blocking, for the pool.
//!
//! Owns the memory that makes a second scan of unchanged files cheap (their stamps). It decides
//! nothing: the result goes to the engine as two [`InputState`]s, and the content stays with the
//! caller until a job needs it. A render that no job waits for is released (a thousand projects
//! would hold 600 MB of them) and read again when the prompt changes.

use std::path::PathBuf;

use bytes::Bytes;

use crate::{
    disk::{
        read::{self, ReadOutcome},
        stamp::ReadMemory as Memory,
    },
    domain::{
        inputs::{
            debounce::InputState,
            png,
            prompt::{self, IgnorePatterns, Prompt},
        },
        picture,
        time::Moment,
    },
};

/// A larger file is not a render: 16384² in 16-bit RGBA, incompressible, would be 2 GB; Blender's
/// have 0.8 MB.
pub(crate) const MAX_RENDER: u64 = 64 * 1024 * 1024;

/// The result of scanning one file.
#[derive(Clone, Debug)]
pub(crate) struct FileScan<T> {
    pub(crate) state: InputState,
    /// The content, if it is complete and usable.
    pub(crate) content: Option<T>,
    /// A remark for the log (decoded as Windows-1252, …).
    pub(crate) remark: Option<&'static str>,
    memory: Option<Memory>,
}

impl<T> FileScan<T> {
    fn rejected(state: InputState) -> Self {
        Self { state, content: None, remark: None, memory: None }
    }

    fn was_released(&self) -> bool {
        self.content.is_none() && matches!(self.state, InputState::Complete(_))
    }

    fn last_read(&self) -> LastRead {
        match (&self.state, self.memory) {
            (_, Some(memory)) => LastRead::Read(memory),
            (InputState::Missing, None) => LastRead::Absent,
            (_, None) => LastRead::Nothing,
        }
    }
}

#[derive(Debug)]
pub(crate) struct InputReader {
    prompt_path: PathBuf,
    render_path: PathBuf,
    epoch: u64,
    last: Option<(FileScan<Prompt>, FileScan<Bytes>)>,
}

/// The result of one scan of both files.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) prompt: FileScan<Prompt>,
    pub(crate) render: FileScan<Bytes>,
}

impl InputReader {
    /// Creates a scanner for two files. The `epoch` distinguishes it from those for other files
    /// or rules.
    pub(crate) fn new(prompt_path: PathBuf, render_path: PathBuf, epoch: u64) -> Self {
        Self { prompt_path, render_path, epoch, last: None }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Scans both files. A file whose stamp is unchanged is not read again.
    pub(crate) fn scan(&mut self, ignore: &IgnorePatterns, began: Moment) -> Scan {
        let (last_prompt, last_render) = match self.last.take() {
            Some((prompt, render)) => (Some(prompt), Some(render)),
            None => (None, None),
        };
        let last_prompt_sight = last_prompt.as_ref().map(|prompt| prompt.state.clone());
        let prompt =
            scan_file(&self.prompt_path, prompt::READ_LIMIT as u64, last_prompt, began, |bytes| {
                scan_prompt(&bytes, ignore)
            });
        let same_prompt = last_prompt_sight.as_ref() == Some(&prompt.state);
        // Without its content the render is read whatever its stamp says.
        let last_render = last_render.filter(|render| same_prompt || !render.was_released());
        let render = scan_file(&self.render_path, MAX_RENDER, last_render, began, scan_render);
        self.last = Some((prompt.clone(), render.clone()));
        Scan { prompt, render }
    }

    /// Releases the render's content, but not what is known about it.
    pub(crate) fn release_render(&mut self) {
        if let Some((_, render)) = &mut self.last {
            render.content = None;
        }
    }

    /// Returns what is needed to check later, cheaply, whether a scan could find anything new.
    pub(crate) fn stamp_check(&self) -> StampCheck {
        let files = self.last.as_ref().map(|(prompt, render)| {
            [
                (self.prompt_path.clone(), prompt.last_read()),
                (self.render_path.clone(), render.last_read()),
            ]
        });
        StampCheck { files }
    }
}

/// What is known about two files, to compare them with.
#[derive(Debug)]
pub(crate) struct StampCheck {
    files: Option<[(PathBuf, LastRead); 2]>,
}

#[derive(Debug)]
enum LastRead {
    Absent,
    Read(Memory),
    Nothing,
}

impl StampCheck {
    /// Returns whether a scan is needed. Blocking, for the pool; it costs one stat per file.
    pub(crate) fn differs(&self) -> bool {
        self.files.as_ref().is_none_or(|files| {
            files.iter().any(|(path, known)| match (known, read::stamp(path)) {
                (LastRead::Absent, Ok(None)) => false,
                (LastRead::Read(memory), Ok(Some(stamp))) => !memory.is_current(&stamp),
                _ => true,
            })
        })
    }
}

fn scan_file<T: Clone>(
    path: &std::path::Path,
    limit: u64,
    last: Option<FileScan<T>>,
    began: Moment,
    judge: impl FnOnce(Vec<u8>) -> FileScan<T>,
) -> FileScan<T> {
    let memory = last.as_ref().and_then(|last| last.memory);
    if let (Some(last), Some(memory)) = (last, memory)
        && matches!(read::stamp(path), Ok(Some(stamp)) if memory.is_current(&stamp))
    {
        return last;
    }
    match read::read_complete(path, limit) {
        Ok(ReadOutcome::Complete { bytes, stamp }) => {
            let mut seen = judge(bytes);
            seen.memory = Some(Memory::after(memory, stamp, began));
            seen
        }
        Ok(ReadOutcome::Changing) => FileScan::rejected(InputState::Incomplete { size: u64::MAX }),
        Ok(ReadOutcome::Missing) => FileScan::rejected(InputState::Missing),
        Err(error) => FileScan::rejected(InputState::Refused(error.to_string())),
    }
}

fn scan_prompt(bytes: &[u8], ignore: &IgnorePatterns) -> FileScan<Prompt> {
    match prompt::read(bytes, ignore) {
        Ok(prompt) => {
            let remark = prompt
                .windows_1252
                .then_some("the prompt is not UTF-8; it was read as Windows-1252");
            let state = InputState::Complete(prompt.fingerprint);
            FileScan { state, content: Some(prompt), remark, memory: None }
        }
        Err(refusal) => FileScan::rejected(InputState::Refused(refusal.to_string())),
    }
}

fn scan_render(bytes: Vec<u8>) -> FileScan<Bytes> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let facts = match png::check(&bytes) {
        Ok(facts) => facts,
        Err(fault) if fault.is_transient() => {
            return FileScan::rejected(InputState::Incomplete { size });
        }
        Err(fault) => {
            return FileScan::rejected(InputState::Refused(format!(
                "the render cannot be used: {fault}"
            )));
        }
    };
    match picture::single_colour(&bytes) {
        Ok(None) => FileScan {
            state: InputState::Complete(facts.fingerprint),
            content: Some(Bytes::from(bytes)),
            remark: None,
            memory: None,
        },
        Ok(Some([red, green, blue, _])) => FileScan::rejected(InputState::Refused(format!(
            "the render has a single colour (#{red:02x}{green:02x}{blue:02x}): it is a placeholder, not a scene"
        ))),
        Err(fault) => FileScan::rejected(InputState::Refused(format!(
            "the render cannot be decoded: {fault}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_render_that_was_let_go_comes_back_with_another_prompt() {
        let folder = tempfile::tempdir().expect("a folder");
        let (prompt, render) = (folder.path().join("p.txt"), folder.path().join("r.png"));
        std::fs::write(&prompt, "a chair").expect("written");
        let picture =
            image::RgbImage::from_fn(9, 9, |x, _| image::Rgb([u8::try_from(x).expect("small"); 3]));
        picture.save(&render).expect("written");
        let ignore = IgnorePatterns::new(&[]).expect("none");
        let mut reader = InputReader::new(prompt.clone(), render.clone(), 0);
        // Three scans, so far apart that the stamps alone show that nothing changed.
        let looks =
            [0, 1, 2].map(|hour| reader.scan(&ignore, Moment::from_millis(hour * 3_600_000)));
        assert!(looks.iter().all(|scan| scan.render.content.is_some()));
        assert!(!reader.stamp_check().differs(), "nothing changed");

        reader.release_render();
        let idle = reader.scan(&ignore, Moment::from_millis(3 * 3_600_000));
        assert!(idle.render.content.is_none(), "nobody needs it");
        assert_eq!(idle.render.state, looks[0].render.state);

        std::fs::write(&prompt, "a throne").expect("written");
        assert!(reader.stamp_check().differs(), "the prompt is another one");
        let wanted = reader.scan(&ignore, Moment::from_millis(4 * 3_600_000));
        assert_eq!(wanted.render.content, looks[0].render.content);

        std::fs::remove_file(&render).expect("removed");
        assert!(reader.stamp_check().differs(), "the render is gone");
    }
}
