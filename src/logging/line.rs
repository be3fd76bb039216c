//! Formats one line of the log for people: time, level, job, and what happened.
//!
//! Owns the format: `2026-11-23T16:40:02.123+01:00 WARN  job 01K…: what happened (detail: value)`.
//! In systemd's journal, which has its own times and levels, a line is
//! `<4>job 01K…: what happened`. Text from outside cannot move a terminal's cursor or imitate a
//! line of the log.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use crate::clock::Clock;

/// The format of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// For the journal: with the priorities of `sd-daemon(3)` instead of times and levels.
    pub journal: bool,
}

/// Keeps only the job of a span's fields, for the lines within the span.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobOnly;

impl<'writer> FormatFields<'writer> for JobOnly {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut words = Words::default();
        fields.record(&mut words);
        writer.write_str(words.job.as_deref().unwrap_or_default())
    }
}

#[derive(Debug, Default)]
struct Words {
    message: String,
    job: Option<String>,
    rest: Vec<(&'static str, String)>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, format!("{value:.1}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, value.to_string());
    }
}

impl Words {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "job" => self.job = Some(value),
            name => self.rest.push((name, value)),
        }
    }

    /// Returns the whole text of the line.
    fn sentence(&self, job_around: Option<&str>) -> String {
        let mut said = String::new();
        if let Some(job) = self.job.as_deref().or(job_around) {
            said += &format!("job {job}: ");
        }
        // The reason belongs to the sentence; the other fields are details.
        let error = self.rest.iter().find(|(name, _)| *name == "error");
        said += &self.message;
        if let Some((_, error)) = error {
            said += &format!(": {error}");
        }
        let details = self.rest.iter().filter(|(name, _)| *name != "error");
        let details: Vec<String> =
            details.map(|(name, value)| format!("{}: {value}", name.replace('_', " "))).collect();
        if !details.is_empty() {
            said += &format!(" ({})", details.join(", "));
        }
        said
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut words = Words::default();
        event.record(&mut words);
        let scope = context.event_scope().into_iter().flatten();
        let mut around = scope.filter_map(|span| {
            let extensions = span.extensions();
            extensions.get::<FormattedFields<N>>().map(|fields| fields.fields.clone())
        });
        let around = around.find(|job| !job.is_empty());
        let sentence = words.sentence(around.as_deref());
        let level = *event.metadata().level();
        if self.journal {
            return write_journal(&mut writer, level, &sentence);
        }
        let time = jiff::Timestamp::from_millisecond(Clock.now().wall.unix_millis())
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z");
        let (name, colour) = level_name(level);
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{name:<5}\x1b[0m ")?;
        } else {
            write!(writer, "{time} {name:<5} ")?;
        }
        for (number, line) in sentence.lines().enumerate() {
            if number > 0 {
                writer.write_str("\n    ")?;
            }
            writer.write_str(&replace_controls(line))?;
        }
        writer.write_char('\n')
    }
}

/// Writes each line as a separate entry of the journal, with its own priority (`sd-daemon(3)`).
fn write_journal(writer: &mut Writer<'_>, level: Level, sentence: &str) -> fmt::Result {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    sentence.lines().try_for_each(|line| writeln!(writer, "<{priority}>{}", replace_controls(line)))
}

fn level_name(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => ("WARN", "33"),
        Level::INFO => ("INFO", "32"),
        Level::DEBUG => ("DEBUG", "34"),
        Level::TRACE => ("TRACE", "35"),
    }
}

fn replace_controls(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{Registry, fmt as format, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(journal: bool, speak: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = format::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .fmt_fields(JobOnly)
            .event_format(Line { journal });
        tracing::subscriber::with_default(Registry::default().with(layer), speak);
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_line_has_its_job_whether_it_names_it_or_only_is_within_it() {
        let text = said(true, || {
            let error = io::Error::other("no room");
            tracing::warn!(job = "A", %error, failures = 2, "cannot write");
            let span = tracing::error_span!("job", job = %"B");
            span.in_scope(|| tracing::info!("goes on"));
            tracing::error!("no job");
        });
        let expected =
            "<4>job A: cannot write: no room (failures: 2)\n<6>job B: goes on\n<3>no job\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn text_from_outside_cannot_pass_for_a_line_or_move_the_cursor() {
        let text = said(false, || tracing::warn!("they said \x1b[2J\n2026-01-01 ERROR forged"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("WARN  they said  [2J"), "{text:?}");
        assert_eq!(lines[1], "    2026-01-01 ERROR forged");
        let text = said(true, || tracing::warn!("one\ntwo"));
        assert_eq!(text, "<4>one\n<4>two\n", "each entry of the journal has its priority");
    }
}
