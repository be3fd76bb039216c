//! Arguments of `conjured cost`: grouping, period and output format.

use clap::{Args, ValueEnum};

/// Options of `cost`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CostArgs {
    /// Group the rows by this.
    #[arg(long, value_name = "WORD", value_enum, default_value_t)]
    pub by: By,
    /// Count only jobs since then: a day such as 2026-11-01, or a period such as 7d, 12h or 2w.
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values (RFC 4180).
    #[arg(long)]
    pub csv: bool,
}

/// What one row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// One run of the daemon.
    Session,
    /// A calendar day.
    #[default]
    Day,
    /// A calendar month.
    Month,
    /// A project.
    Project,
    /// A deployment.
    Deployment,
    /// A mode.
    Mode,
    /// A workflow version.
    Workflow,
}

/// The start of the reported period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The beginning of a calendar day.
    Day(jiff::civil::Date),
    /// This many hours ago.
    Hours(u32),
}

fn since(text: &str) -> Result<Since, String> {
    let text = text.trim();
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        return Ok(Since::Day(day));
    }
    let wrong = || {
        format!("`{text}` is neither a day such as 2026-11-01 nor a period such as 7d, 12h or 2w")
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(hours).map(Since::Hours).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_spans_are_understood_and_rubbish_is_named() {
        assert_eq!(since("7d"), Ok(Since::Hours(168)));
        assert_eq!(since("2026-11-01"), Ok(Since::Day(jiff::civil::date(2026, 11, 1))));
        for rubbish in ["", "d", "-3d", "2026-13-01", "7", "9999999999w", "é"] {
            assert!(since(rubbish).is_err(), "{rubbish}");
        }
    }
}
