//! Walks along a path as the kernel would, and reports each name, each symlink and the end.
//!
//! `canonicalize` works only if everything exists. Watching needs the names on the way (each may
//! change), and placing needs the end of a dangling symlink. Nothing is changed here; a caller that
//! needs a missing folder creates it and repeats the step.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::drive::reach;

/// The maximum number of symlinks in one path: Linux' own limit (`path_resolution(7)`).
const MAX_LINKS: u8 = 40;

/// The kind of a name in a folder.
#[derive(Debug)]
pub(super) enum EntryKind {
    /// A folder; the walk continues in it.
    Folder,
    /// Something else; the walk ends here.
    File(fs::Metadata),
    /// A symlink; the walk follows it.
    Link,
    /// Nothing; the walk ends here, unless [`Walk::revisit`] is called.
    Missing,
    /// The system denies access, or there are too many links; the walk ends here.
    Refused(io::Error),
}

/// One name of the path.
#[derive(Debug)]
pub(super) struct WalkEntry {
    /// The name, in the folder [`Walk::folder`].
    pub(super) name: OsString,
    pub(super) kind: EntryKind,
    /// Whether it is the last name: no more will come unless it is a link.
    pub(super) last: bool,
    /// The index of the component in the original path; `None` if a symlink led here.
    pub(super) position: Option<usize>,
}

enum WalkMove {
    Enter(OsString),
    Follow(PathBuf),
    Stay,
    Stop,
}

/// A walk along one absolute path.
pub(super) struct Walk {
    folder: PathBuf,
    ahead: VecDeque<(PathPart, Option<usize>)>,
    next: WalkMove,
    links: u8,
}

enum PathPart {
    Up,
    Name(OsString),
}

impl Walk {
    /// Starts at the root of `path`, which must be absolute.
    pub(super) fn new(path: &Path) -> Self {
        let mut walk =
            Self { folder: PathBuf::new(), ahead: VecDeque::new(), next: WalkMove::Stay, links: 0 };
        walk.continue_at(path, true);
        walk
    }

    /// Returns the folder of the last name: an existing path without symlinks.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the next step repeat the same name, after the caller created it.
    pub(super) fn revisit(&mut self, sight: WalkEntry) {
        self.next = WalkMove::Stay;
        self.ahead.push_front((PathPart::Name(sight.name), sight.position));
    }

    fn continue_at(&mut self, path: &Path, original: bool) {
        let mut ahead = VecDeque::new();
        let mut start = PathBuf::new();
        for (position, component) in path.components().enumerate() {
            let position = original.then_some(position);
            match component {
                Component::Prefix(_) | Component::RootDir => start.push(component),
                Component::CurDir => {}
                Component::ParentDir => ahead.push_back((PathPart::Up, position)),
                Component::Normal(name) => {
                    ahead.push_back((PathPart::Name(name.to_os_string()), position));
                }
            }
        }
        if !start.as_os_str().is_empty() {
            self.folder = start;
        }
        ahead.append(&mut self.ahead);
        self.ahead = ahead;
    }

    fn inspect(&mut self, name: &OsString) -> EntryKind {
        let path = self.folder.join(name);
        reach(&path);
        let seen = fs::symlink_metadata(&path).and_then(|metadata| {
            let target = if metadata.is_symlink() { Some(fs::read_link(&path)?) } else { None };
            Ok((metadata, target))
        });
        let (found, next) = match seen {
            Ok((_, Some(_))) if self.links == MAX_LINKS => {
                let circle = io::Error::other("its symlinks form a circle");
                (EntryKind::Refused(circle), WalkMove::Stop)
            }
            Ok((_, Some(target))) => {
                self.links += 1;
                (EntryKind::Link, WalkMove::Follow(target))
            }
            Ok((metadata, None)) if metadata.is_dir() => {
                (EntryKind::Folder, WalkMove::Enter(name.clone()))
            }
            Ok((metadata, None)) => (EntryKind::File(metadata), WalkMove::Stop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (EntryKind::Missing, WalkMove::Stop)
            }
            Err(error) => (EntryKind::Refused(error), WalkMove::Stop),
        };
        self.next = next;
        found
    }
}

impl Iterator for Walk {
    type Item = WalkEntry;

    fn next(&mut self) -> Option<WalkEntry> {
        match std::mem::replace(&mut self.next, WalkMove::Stay) {
            WalkMove::Enter(name) => self.folder.push(name),
            WalkMove::Follow(target) => self.continue_at(&target, false),
            WalkMove::Stay => {}
            WalkMove::Stop => return None,
        }
        loop {
            let (piece, position) = self.ahead.pop_front()?;
            match piece {
                PathPart::Up => {
                    self.folder.pop();
                }
                PathPart::Name(name) => {
                    let found = self.inspect(&name);
                    return Some(WalkEntry {
                        name,
                        kind: found,
                        last: self.ahead.is_empty(),
                        position,
                    });
                }
            }
        }
    }
}
