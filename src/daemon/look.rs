//! One look at a project's two inputs: read, check, fingerprint. Blocking, for the pool.
//!
//! Owns the memory that makes a second look at unchanged files cheap (their stamps). It decides nothing: what is seen goes to
//! the engine as two [`Sight`]s, and the content stays with the caller until a job needs it.

use std::path::PathBuf;

use bytes::Bytes;

use crate::{
    disk::{
        read::{self, Reading},
        stamp::Seen as Memory,
    },
    domain::{
        moment::Moment,
        picture, png,
        prompt::{self, IgnorePatterns, Prompt},
        settle::Sight,
    },
};

/// A render larger than this is no render: 16384² in 16-bit RGBA, incompressible, would be 2 GB; Blender's have 0.8 MB.
pub(crate) const MAX_RENDER: u64 = 64 * 1024 * 1024;

/// What a look at one file brought.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T> {
    pub(crate) sight: Sight,
    /// The content, when whole and usable.
    pub(crate) content: Option<T>,
    /// A remark for the log (decoded as Windows-1252, …).
    pub(crate) remark: Option<&'static str>,
    memory: Option<Memory>,
}

impl<T> Seen<T> {
    fn without(sight: Sight) -> Self {
        Self { sight, content: None, remark: None, memory: None }
    }
}

/// Looks at one project's inputs.
#[derive(Debug)]
pub(crate) struct Eyes {
    prompt_path: PathBuf,
    render_path: PathBuf,
    epoch: u64,
    last: Option<(Seen<Prompt>, Seen<Bytes>)>,
}

/// What changed since the last look; `None` = the file is the same one, untouched.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) prompt: Seen<Prompt>,
    pub(crate) render: Seen<Bytes>,
}

impl Eyes {
    /// Makes eyes for two files. The `epoch` tells them from those for other files or rules.
    pub(crate) fn new(prompt_path: PathBuf, render_path: PathBuf, epoch: u64) -> Self {
        Self { prompt_path, render_path, epoch, last: None }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Looks at both files. A file whose stamp is unchanged is not read again.
    pub(crate) fn look(&mut self, ignore: &IgnorePatterns, began: Moment) -> Look {
        let (last_prompt, last_render) = match self.last.take() {
            Some((prompt, render)) => (Some(prompt), Some(render)),
            None => (None, None),
        };
        let prompt =
            see(&self.prompt_path, prompt::READ_LIMIT as u64, last_prompt, began, |bytes| {
                see_prompt(&bytes, ignore)
            });
        let render = see(&self.render_path, MAX_RENDER, last_render, began, see_render);
        self.last = Some((prompt.clone(), render.clone()));
        Look { prompt, render }
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
    match read::read_whole(path, limit) {
        Ok(Reading::Whole { bytes, stamp }) => {
            let mut seen = judge(bytes);
            seen.memory = Some(Memory::after(memory, stamp, began));
            seen
        }
        Ok(Reading::Changing) => Seen::without(Sight::Unfinished { size: u64::MAX }),
        Ok(Reading::Missing) => Seen::without(Sight::Missing),
        Err(error) => Seen::without(Sight::Refused(error.to_string())),
    }
}

fn see_prompt(bytes: &[u8], ignore: &IgnorePatterns) -> Seen<Prompt> {
    match prompt::read(bytes, ignore) {
        Ok(prompt) => {
            let remark = prompt
                .windows_1252
                .then_some("the prompt is not UTF-8; it was read as Windows-1252");
            let sight = Sight::Whole(prompt.fingerprint);
            Seen { sight, content: Some(prompt), remark, memory: None }
        }
        Err(refusal) => Seen::without(Sight::Refused(refusal.to_string())),
    }
}

fn see_render(bytes: Vec<u8>) -> Seen<Bytes> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let facts = match png::check(&bytes) {
        Ok(facts) => facts,
        Err(fault) if fault.may_pass() => return Seen::without(Sight::Unfinished { size }),
        Err(fault) => {
            return Seen::without(Sight::Refused(format!("the render cannot be used: {fault}")));
        }
    };
    match picture::single_colour(&bytes) {
        Ok(None) => Seen {
            sight: Sight::Whole(facts.fingerprint),
            content: Some(Bytes::from(bytes)),
            remark: None,
            memory: None,
        },
        Ok(Some([red, green, blue, _])) => Seen::without(Sight::Refused(format!(
            "the render has a single colour (#{red:02x}{green:02x}{blue:02x}): it is a placeholder, not a scene"
        ))),
        Err(fault) => {
            Seen::without(Sight::Refused(format!("the render cannot be decoded: {fault}")))
        }
    }
}
