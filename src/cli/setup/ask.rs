//! Interactive questions, and reading from standard input.
//!
//! Owns the terminal as an input. Questions go to standard error, so that standard output carries
//! only data. Without a terminal no question is asked; the caller names the flag that answers it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

/// Longer than any answer; the rest of a longer line is not read into memory.
const MAX_ANSWER_BYTES: u64 = 1024;

/// Returns whether questions can be shown and answered: standard input and standard error
/// are terminals.
pub(in crate::cli) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Returns whether standard input is a terminal.
pub(in crate::cli) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// Asks for one line; returns `None` at the end of input.
fn line(question: &str) -> Option<String> {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "{question} ").and_then(|()| stderr.flush()));
    let mut answer = String::new();
    match io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut answer) {
        Ok(0) => {
            drop(writeln!(stderr));
            None
        }
        Ok(_) => Some(answer.trim().to_owned()),
        Err(_) => None,
    }
}

/// Asks a yes/no question; anything that is not clearly yes counts as no.
pub(in crate::cli) fn yes(question: &str) -> bool {
    line(&format!("{question} [y/N]"))
        .is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for one of `count` choices, numbered from 1; an empty answer means the first. Returns the
/// index, counted from 0.
pub(in crate::cli) fn prompt_choice(question: &str, count: usize) -> Option<usize> {
    let answer = line(&format!("{question} [1-{count}, Enter = 1]"))?;
    if answer.is_empty() {
        return Some(0);
    }
    answer.parse::<usize>().ok().filter(|number| (1..=count).contains(number)).map(|n| n - 1)
}

/// Asks for input that is not shown while it is typed. Ctrl-C returns an error of
/// kind `Interrupted`.
#[cfg(unix)]
pub(in crate::cli) fn prompt_hidden(question: &str) -> io::Result<Vec<u8>> {
    use std::sync::{Arc, atomic::AtomicBool};

    use signal_hook::consts::SIGINT;

    // The library raises the signal for Ctrl-C; if it ended the process, the terminal would stay
    // without echo.
    let interrupted = Arc::new(AtomicBool::new(false));
    let caught = signal_hook::flag::register(SIGINT, interrupted)?;
    let typed = rpassword::prompt_password(format!("{question} "));
    signal_hook::low_level::unregister(caught);
    // From here on Ctrl-C ends the process again.
    signal_hook::flag::register_conditional_default(SIGINT, Arc::new(AtomicBool::new(true)))?;
    typed.map(String::into_bytes)
}

/// Asks for input that is not shown while it is typed. Ctrl-C ends the process; the console's shell
/// restores the echo.
#[cfg(windows)]
pub(in crate::cli) fn prompt_hidden(question: &str) -> io::Result<Vec<u8>> {
    rpassword::prompt_password(format!("{question} ")).map(String::into_bytes)
}

/// Reads all of standard input, at most `limit` bytes; returns `None` if there is more.
pub(in crate::cli) fn all_of_stdin(limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Asks for a deployment id until the answer is a valid one; an empty answer means none.
pub(in crate::cli) fn deployment() -> Option<String> {
    loop {
        let answer = line("Deployment id (RunComfy's dashboard shows it; Enter = later):")?;
        if answer.is_empty() {
            return None;
        }
        if let Ok(id) = crate::cli::args::deployment(&answer) {
            return Some(id);
        }
        drop(writeln!(
            io::stderr(),
            "This is not a deployment id, which contains only letters, digits, `-`, `_` and `.`."
        ));
    }
}
