//! One scan of a project's two inputs: read, check, fingerprint. Blocking, for the pool.
//!
//! Owns the memory that makes a second scan of unchanged files cheap (their stamps). It decides
//! nothing: the result goes to the engine as two [`InputState`]s, and the content stays with the caller
//! until a job needs it. A render that no job waits for is released (a thousand projects would hold
//! 600 MB of them) and read again when the prompt changes.

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
pub(crate) struct Seen<T> {
    pub(crate) sight: InputState,
    /// The content, if it is complete and usable.
    pub(crate) content: Option<T>,
    /// A remark for the log (decoded as Windows-1252, …).
    pub(crate) remark: Option<&'static str>,
    memory: Option<Memory>,
}

impl<T> Seen<T> {
    fn without(state: InputState) -> Self {
        Self { sight: state, content: None, remark: None, memory: None }
    }

    fn was_let_go(&self) -> bool {
        self.content.is_none() && matches!(self.sight, InputState::Complete(_))
    }

    fn known(&self) -> Known {
        match (&self.sight, self.memory) {
            (_, Some(memory)) => Known::Read(memory),
            (InputState::Missing, None) => Known::Absent,
            (_, None) => Known::Nothing,
        }
    }
}

/// Scans one project's inputs.
#[derive(Debug)]
pub(crate) struct Eyes {
    prompt_path: PathBuf,
    render_path: PathBuf,
    epoch: u64,
    last: Option<(Seen<Prompt>, Seen<Bytes>)>,
}

/// The result of one scan of both files.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) prompt: Seen<Prompt>,
    pub(crate) render: Seen<Bytes>,
}

impl Eyes {
    /// Creates a scanner for two files. The `epoch` distinguishes it from those for other files
    /// or rules.
    pub(crate) fn new(prompt_path: PathBuf, render_path: PathBuf, epoch: u64) -> Self {
        Self { prompt_path, render_path, epoch, last: None }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Scans both files. A file whose stamp is unchanged is not read again.
    pub(crate) fn look(&mut self, ignore: &IgnorePatterns, began: Moment) -> Look {
        let (last_prompt, last_render) = match self.last.take() {
            Some((prompt, render)) => (Some(prompt), Some(render)),
            None => (None, None),
        };
        let last_prompt_sight = last_prompt.as_ref().map(|prompt| prompt.sight.clone());
        let prompt =
            see(&self.prompt_path, prompt::READ_LIMIT as u64, last_prompt, began, |bytes| {
                see_prompt(&bytes, ignore)
            });
        let same_prompt = last_prompt_sight.as_ref() == Some(&prompt.sight);
        // Without its content the render is read whatever its stamp says.
        let last_render = last_render.filter(|render| same_prompt || !render.was_let_go());
        let render = see(&self.render_path, MAX_RENDER, last_render, began, see_render);
        self.last = Some((prompt.clone(), render.clone()));
        Look { prompt, render }
    }

    /// Releases the render's content, but not what is known about it.
    pub(crate) fn let_go(&mut self) {
        if let Some((_, render)) = &mut self.last {
            render.content = None;
        }
    }

    /// Returns what is needed to check later, cheaply, whether a scan could find anything new.
    pub(crate) fn glance(&self) -> Glance {
        let files = self.last.as_ref().map(|(prompt, render)| {
            [(self.prompt_path.clone(), prompt.known()), (self.render_path.clone(), render.known())]
        });
        Glance { files }
    }
}

/// What is known about two files, to compare them with.
#[derive(Debug)]
pub(crate) struct Glance {
    files: Option<[(PathBuf, Known); 2]>,
}

#[derive(Debug)]
enum Known {
    Absent,
    Read(Memory),
    Nothing,
}

impl Glance {
    /// Returns whether a scan is needed. Blocking, for the pool; it costs one stat per file.
    pub(crate) fn differs(&self) -> bool {
        self.files.as_ref().is_none_or(|files| {
            files.iter().any(|(path, known)| match (known, read::stamp(path)) {
                (Known::Absent, Ok(None)) => false,
                (Known::Read(memory), Ok(Some(stamp))) => !memory.still_holds(&stamp),
                _ => true,
            })
        })
    }
}

fn see<T: Clone>(
    path: &std::path::Path,
    limit: u64,
    last: Option<Seen<T>>,
    began: Moment,
    judge: impl FnOnce(Vec<u8>) -> Seen<T>,
) -> Seen<T> {
    let memory = last.as_ref().and_then(|last| last.memory);
    if let (Some(last), Some(memory)) = (last, memory)
        && matches!(read::stamp(path), Ok(Some(stamp)) if memory.still_holds(&stamp))
    {
        return last;
    }
    match read::read_complete(path, limit) {
        Ok(ReadOutcome::Complete { bytes, stamp }) => {
            let mut seen = judge(bytes);
            seen.memory = Some(Memory::after(memory, stamp, began));
            seen
        }
        Ok(ReadOutcome::Changing) => Seen::without(InputState::Incomplete { size: u64::MAX }),
        Ok(ReadOutcome::Missing) => Seen::without(InputState::Missing),
        Err(error) => Seen::without(InputState::Refused(error.to_string())),
    }
}

fn see_prompt(bytes: &[u8], ignore: &IgnorePatterns) -> Seen<Prompt> {
    match prompt::read(bytes, ignore) {
        Ok(prompt) => {
            let remark = prompt
                .windows_1252
                .then_some("the prompt is not UTF-8; it was read as Windows-1252");
            let state = InputState::Complete(prompt.fingerprint);
            Seen { sight: state, content: Some(prompt), remark, memory: None }
        }
        Err(refusal) => Seen::without(InputState::Refused(refusal.to_string())),
    }
}

fn see_render(bytes: Vec<u8>) -> Seen<Bytes> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let facts = match png::check(&bytes) {
        Ok(facts) => facts,
        Err(fault) if fault.is_transient() => {
            return Seen::without(InputState::Incomplete { size });
        }
        Err(fault) => {
            return Seen::without(InputState::Refused(format!(
                "the render cannot be used: {fault}"
            )));
        }
    };
    match picture::single_colour(&bytes) {
        Ok(None) => Seen {
            sight: InputState::Complete(facts.fingerprint),
            content: Some(Bytes::from(bytes)),
            remark: None,
            memory: None,
        },
        Ok(Some([red, green, blue, _])) => Seen::without(InputState::Refused(format!(
            "the render has a single colour (#{red:02x}{green:02x}{blue:02x}): it is a placeholder, not a scene"
        ))),
        Err(fault) => {
            Seen::without(InputState::Refused(format!("the render cannot be decoded: {fault}")))
        }
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
        let mut eyes = Eyes::new(prompt.clone(), render.clone(), 0);
        // Three scans, so far apart that the stamps alone show that nothing changed.
        let looks = [0, 1, 2].map(|hour| eyes.look(&ignore, Moment::from_millis(hour * 3_600_000)));
        assert!(looks.iter().all(|look| look.render.content.is_some()));
        assert!(!eyes.glance().differs(), "nothing changed");

        eyes.let_go();
        let idle = eyes.look(&ignore, Moment::from_millis(3 * 3_600_000));
        assert!(idle.render.content.is_none(), "nobody needs it");
        assert_eq!(idle.render.sight, looks[0].render.sight);

        std::fs::write(&prompt, "a throne").expect("written");
        assert!(eyes.glance().differs(), "the prompt is another one");
        let wanted = eyes.look(&ignore, Moment::from_millis(4 * 3_600_000));
        assert_eq!(wanted.render.content, looks[0].render.content);

        std::fs::remove_file(&render).expect("removed");
        assert!(eyes.glance().differs(), "the render is gone");
    }
}
