//! Daily files for the log, which is written line by line and never read by us.
//!
//! Owns their names, when a new file starts, and which old ones are removed: by age and by total
//! size, so that even one busy day cannot fill a disk. Nothing else in their folder may have such a
//! name. It does not interpret the lines, and the caller passes in the day.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The prefix and suffix of a name.
const NAME: (&str, &str) = ("conjured.", ".log");

/// The minimum number of files that the total size is divided into. The oldest is removed if there
/// is no room for a new one.
const MIN_PARTS: u64 = 8;

/// The open file of the day, and its size.
#[derive(Debug)]
struct OpenFile {
    day: String,
    file: File,
    bytes: u64,
    /// A full disk cut a line, so the next one must start on a new line.
    cut_line: bool,
}

/// A writer for the daily files of one folder. It takes whole lines, one per call.
pub struct DailyFiles {
    folder: PathBuf,
    keep_days: usize,
    keep_bytes: u64,
    /// Returns the civil day, as `2026-11-23`.
    today: fn() -> String,
    open: Option<OpenFile>,
}

impl DailyFiles {
    /// Writes into `folder`, and keeps the files of `keep_days` days and at most `keep_bytes` in
    /// all. No file is opened before the first line.
    pub fn new(folder: &Path, keep_days: usize, keep_bytes: u64, today: fn() -> String) -> Self {
        let keep_days = keep_days.max(1);
        Self { folder: folder.to_owned(), keep_days, keep_bytes, today, open: None }
    }

    fn part_limit(&self) -> u64 {
        self.keep_bytes / MIN_PARTS
    }

    /// Returns a file with room for `more` bytes: the day's last one or a new one.
    fn file_with_room(&mut self, more: u64) -> io::Result<&mut OpenFile> {
        let today = (self.today)();
        let limit = self.part_limit();
        let fits =
            |open: &OpenFile| open.day == today && (open.bytes == 0 || open.bytes + more <= limit);
        let open = match self.open.take().filter(fits) {
            Some(open) => open,
            None => self.open_next(&today, more)?,
        };
        Ok(self.open.insert(open))
    }

    fn open_next(&self, today: &str, more: u64) -> io::Result<OpenFile> {
        let mut names = self.names();
        let of_today = |name: &&String| name[NAME.0.len()..].starts_with(today);
        let last = names.iter().rfind(of_today).cloned();
        let size = |name: &String| fs::metadata(self.folder.join(name)).map_or(0, |it| it.len());
        let name = match last {
            None => format!("{}{today}{}", NAME.0, NAME.1),
            Some(name) if size(&name) + more <= self.part_limit() => name,
            // The number of a part follows `_`, which sorts after the `.` of the first file.
            Some(name) => {
                let number =
                    name.trim_end_matches(NAME.1).rsplit_once('_').map(|(_, number)| number);
                let number = number.and_then(|number| number.parse::<u32>().ok()).unwrap_or(1);
                format!("{}{today}_{:03}{}", NAME.0, number.saturating_add(1), NAME.1)
            }
        };
        names.retain(|other| *other != name);
        self.prune(&names, today);
        let mut options = File::options();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.folder.join(&name))?;
        let bytes = file.metadata()?.len();
        Ok(OpenFile { day: today.to_owned(), file, bytes, cut_line: false })
    }

    /// Removes files that are too old or exceed the total size, oldest first. `names` are all but
    /// the newest.
    fn prune(&self, names: &[String], today: &str) {
        let mut days = vec![today];
        let mut room = self.keep_bytes.saturating_sub(self.part_limit());
        for name in names.iter().rev() {
            let day = name[NAME.0.len()..].trim_end_matches(NAME.1).split('_').next().unwrap_or("");
            if days.last() != Some(&day) {
                days.push(day);
            }
            let path = self.folder.join(name);
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let fits = size <= room && days.len() <= self.keep_days;
            room = if fits { room - size } else { 0 };
            if !fits {
                // A file that cannot be removed is tried again when the next file starts.
                drop(fs::remove_file(path));
            }
        }
    }

    /// Lists our files, oldest first.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_ours(name))
            .collect();
        names.sort();
        names
    }
}

/// Returns whether `name` is like `conjured.2026-11-23.log` or `conjured.2026-11-23_002.log`.
fn is_ours(name: &str) -> bool {
    let middle = name.strip_prefix(NAME.0).and_then(|rest| rest.strip_suffix(NAME.1));
    middle.is_some_and(|middle| {
        let (day, part) = middle.split_once('_').unwrap_or((middle, "1"));
        let digit_or_dash =
            |(at, c): (usize, u8)| if at == 4 || at == 7 { c == b'-' } else { c.is_ascii_digit() };
        day.len() == 10
            && day.bytes().enumerate().all(digit_or_dash)
            && !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_digit())
    })
}

impl Write for DailyFiles {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let open = self.file_with_room(line.len() as u64)?;
        if std::mem::take(&mut open.cut_line) {
            open.file.write_all(b"\n")?;
        }
        let written = open.file.write_all(line);
        open.cut_line = written.is_err();
        open.bytes += line.len() as u64;
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |open| open.file.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static DAY: Cell<u32> = const { Cell::new(1) };
    }

    fn today() -> String {
        format!("2026-11-{:02}", DAY.get())
    }

    fn files(folder: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(folder).expect("lists").flatten();
        let mut files: Vec<_> = entries
            .map(|entry| {
                (
                    entry.file_name().into_string().expect("UTF-8"),
                    entry.metadata().expect("a file").len(),
                )
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_day_has_its_file_and_only_the_last_days_are_kept() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        fs::write(temp.path().join("conjured.notes.log"), "a person's").expect("writes");
        for day in 1..=5 {
            DAY.set(day);
            // The log is opened twice each day: the second time appends to the existing file.
            for _ in 0..2 {
                let mut log = DailyFiles::new(temp.path(), 3, 1 << 20, today);
                log.write_all(b"a line\n").expect("writes");
            }
        }
        let expected = [
            ("conjured.2026-11-03.log".to_owned(), 14),
            ("conjured.2026-11-04.log".to_owned(), 14),
            ("conjured.2026-11-05.log".to_owned(), 14),
            ("conjured.notes.log".to_owned(), 10),
        ];
        assert_eq!(files(temp.path()), expected, "somebody else's file stays");
    }

    #[test]
    fn one_loud_day_cannot_take_more_than_the_size_in_all() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        DAY.set(7);
        let mut log = DailyFiles::new(temp.path(), 14, 8_000, today);
        for number in 0..1_000 {
            log.write_all(format!("line {number:04} of a storm\n").as_bytes()).expect("writes");
            let all: u64 = files(temp.path()).iter().map(|(_, size)| size).sum();
            assert!(all <= 8_000, "{all} bytes after line {number}");
        }
        let files = files(temp.path());
        assert!(files.len() >= 7, "most of the room is used: {files:?}");
        let (newest, _) = files.last().expect("a file");
        let text = fs::read_to_string(temp.path().join(newest)).expect("reads");
        assert!(text.ends_with("line 0999 of a storm\n"), "the newest lines are kept: {text}");
    }

    #[test]
    fn a_folder_that_comes_back_is_written_again() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().join("logs");
        let mut log = DailyFiles::new(&folder, 14, 8_000, today);
        log.write_all(b"lost\n").expect_err("there is no folder");
        fs::create_dir(&folder).expect("makes");
        log.write_all(b"a line\n").expect("writes");
        assert_eq!(files(&folder).len(), 1);
    }
}
