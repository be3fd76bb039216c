//! Output: data on standard output, everything else on standard error, colour only where it
//! is wanted.
//!
//! Owns printing. A reader that closes the pipe (`conjured jobs list | head -1`) ends the output
//! and is not an error.

use std::io::{IsTerminal as _, Write as _};

use super::args::Color;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// Whether standard output gets colours.
    pub colour: bool,
    /// Whether standard error is a terminal that shows progress bars.
    pub bars: bool,
    /// How much is printed besides the data: -1 = only errors, 0 = normal, 1 and more = details.
    pub verbosity: i8,
}

/// Returns whether the terminal understands escape sequences. An older Windows console must be
/// switched to them first.
fn takes_colour() -> bool {
    #[cfg(windows)]
    return anstyle_query::windows::enable_ansi_colors() != Some(false);
    #[cfg(not(windows))]
    true
}

impl Out {
    /// Decides from the flags, `NO_COLOR` (<https://no-color.org>) and the terminals.
    pub fn new(color: Color, verbosity: i8, no_color: bool) -> Self {
        let colour = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && std::io::stdout().is_terminal() && takes_colour(),
        };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let bars = std::io::stderr().is_terminal() && !dumb && verbosity >= 0;
        Self { colour, bars, verbosity }
    }

    /// Prints data.
    pub fn data(&self, text: impl AsRef<str>) {
        let mut stdout = std::io::stdout().lock();
        // The reader may close the pipe.
        drop(writeln!(stdout, "{}", text.as_ref()).and_then(|()| stdout.flush()));
    }

    /// Prints a JSON value as data, over several lines.
    pub fn json(&self, value: &serde_json::Value) {
        self.data(serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// Prints a message besides the data.
    pub fn info(&self, text: impl AsRef<str>) {
        if self.verbosity >= 0 {
            self.error(text);
        }
    }

    /// Prints an error.
    pub fn error(&self, text: impl AsRef<str>) {
        drop(writeln!(std::io::stderr().lock(), "{}", text.as_ref()));
    }

    /// Asks a person at a terminal to type `word`; returns `None` without a terminal, so that a
    /// script cannot confirm by accident.
    pub fn confirm(&self, question: &str, word: &str) -> Option<bool> {
        let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
        if !stdin.is_terminal() || !stderr.is_terminal() {
            return None;
        }
        drop(
            write!(stderr, "{question} Type `{word}` to continue: ").and_then(|()| stderr.flush()),
        );
        let mut line = String::new();
        let read = stdin.read_line(&mut line);
        Some(read.is_ok() && line.trim() == word)
    }

    /// Returns `text` in bold if colours are on.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Returns `text` in bold red if colours are on, for what must not be overlooked.
    pub fn bold_red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Returns `text` dimmed if colours are on.
    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Returns `text` in the colour of a state: green for success, red for failure, yellow if the
    /// user should look.
    pub fn state(&self, state: crate::domain::job::JobState) -> String {
        use crate::domain::job::JobState;
        let code = match state {
            JobState::Done => "32",
            JobState::Failed => "31",
            JobState::Unknown => "33;1",
            JobState::Cancelled | JobState::Replaced => "2",
            _ => "36",
        };
        self.paint(code, state.name())
    }

    /// Returns `text` in an ANSI style if colours are on.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns a duration in a readable form: `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns a time in the local time zone: `2026-11-23 16:40:02`.
pub fn time(at: crate::domain::time::WallTime) -> String {
    jiff::Timestamp::from_millisecond(at.unix_millis()).map_or_else(
        |_| at.unix_millis().to_string(),
        |timestamp| {
            timestamp
                .to_zoned(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// Returns text from outside without the characters that could move a terminal's cursor.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(span(Duration::from_millis(4_240)), "4.2 s");
        assert_eq!(span(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(span(Duration::from_secs(7_500)), "2 h 5 min");
    }

    #[test]
    fn a_terminal_cannot_be_moved_by_foreign_text() {
        assert_eq!(plain("a\x1b[2Jb\rc"), "a [2Jb c");
    }
}
