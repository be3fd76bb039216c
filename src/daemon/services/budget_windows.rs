//! When the budget's current day and month began.
//!
//! Owns the conversion from the clock to local midnights. [`crate::domain::money::budget`] and the
//! ledger count from there.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::domain::{money::budget::BudgetWindows, time::WallTime};

/// Returns when the calendar day and month of `now` began, in the machine's time zone.
pub(crate) fn windows(now: WallTime) -> BudgetWindows {
    windows_in(now, TimeZone::system())
}

/// Returns when the calendar day and month of `now` began in a zone. A day begins with its first
/// moment, which is not midnight if a clock change skips midnight.
fn windows_in(now: WallTime, zone: TimeZone) -> BudgetWindows {
    let civil = || {
        let zoned = Timestamp::from_millisecond(now.unix_millis())?.to_zoned(zone);
        Ok::<_, jiff::Error>((zoned.start_of_day()?, zoned.first_of_month()?.start_of_day()?))
    };
    let wall = |at: &Zoned| WallTime::from_unix_millis(at.timestamp().as_millisecond());
    match civil() {
        Ok((day, month)) => BudgetWindows { day_start: wall(&day), month_start: wall(&month) },
        // A clock outside every calendar: everything ever spent counts.
        Err(_) => {
            let unix = WallTime::from_unix_millis(0);
            BudgetWindows { day_start: unix, month_start: unix }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    // In POSIX's form, because a machine need not have a time zone database. The last two change
    // their clocks in unusual ways: Lord Howe by half an hour, Havana at midnight, so that one day
    // a year has no midnight and another has two.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
    const KATHMANDU: &str = "<+0545>-5:45";
    const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
    const HAVANA: &str = "CST5CDT,M3.2.0/0,M11.1.0/1";

    const ZONES: [&str; 6] = ["UTC0", BERLIN, NEW_YORK, KATHMANDU, LORD_HOWE, HAVANA];

    fn zone(posix: &str) -> TimeZone {
        TimeZone::posix(posix).expect("a zone")
    }

    fn at(utc: &str) -> WallTime {
        let timestamp: Timestamp = utc.parse().expect("a time");
        WallTime::from_unix_millis(timestamp.as_millisecond())
    }

    #[test]
    fn a_day_begins_at_its_own_midnight_also_when_the_clocks_change_that_day() {
        let cases = [
            (BERLIN, "2026-06-30T21:59:59Z", "2026-06-29T22:00:00Z", "2026-05-31T22:00:00Z"),
            (BERLIN, "2026-06-30T22:00:00Z", "2026-06-30T22:00:00Z", "2026-06-30T22:00:00Z"),
            // The day of 23 hours, and the last moment of the day of 25.
            (BERLIN, "2026-03-29T21:59:59Z", "2026-03-28T23:00:00Z", "2026-02-28T23:00:00Z"),
            (BERLIN, "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-09-30T22:00:00Z"),
            (BERLIN, "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z", "2026-09-30T22:00:00Z"),
            // The month began before the clock change.
            (NEW_YORK, "2026-03-31T23:00:00Z", "2026-03-31T04:00:00Z", "2026-03-01T05:00:00Z"),
            (NEW_YORK, "2026-11-30T12:00:00Z", "2026-11-30T05:00:00Z", "2026-11-01T04:00:00Z"),
            (KATHMANDU, "2026-12-31T18:15:00Z", "2026-12-31T18:15:00Z", "2026-12-31T18:15:00Z"),
            (KATHMANDU, "2026-12-31T18:14:59Z", "2026-12-30T18:15:00Z", "2026-11-30T18:15:00Z"),
            (LORD_HOWE, "2026-04-05T12:00:00Z", "2026-04-04T13:00:00Z", "2026-03-31T13:00:00Z"),
            // No midnight: the day begins at one o'clock, the moment after the last one of the
            // previous day.
            (HAVANA, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-01T05:00:00Z"),
            // Two midnights: the first one counts. It is also the first day of the month.
            (HAVANA, "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            ("UTC0", "2028-02-29T23:59:59Z", "2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z"),
        ];
        for (posix, now, day, month) in cases {
            let wanted = BudgetWindows { day_start: at(day), month_start: at(month) };
            assert_eq!(windows_in(at(now), zone(posix)), wanted, "{posix} {now}");
        }
    }

    #[test]
    fn a_clock_outside_of_all_calendars_counts_everything() {
        for millis in [i64::MIN, i64::MAX] {
            let windows = windows_in(WallTime::from_unix_millis(millis), zone(BERLIN));
            assert_eq!(windows.month_start, WallTime::from_unix_millis(0));
        }
    }

    proptest! {
        /// No moment is in two days and none is in no day, so money can neither count twice nor
        /// disappear between two days.
        #[test]
        fn the_days_of_a_zone_lie_end_to_end(
            second in 1_750_000_000_i64..1_900_000_000, which in 0_usize..ZONES.len(),
        ) {
            let now = WallTime::from_unix_millis(second * 1000);
            let windows = |at| windows_in(at, zone(ZONES[which]));
            let today = windows(now);
            prop_assert!(today.month_start <= today.day_start && today.day_start <= now);
            prop_assert!(now.since(today.day_start) < Duration::from_secs(25 * 3600));
            prop_assert_eq!(windows(today.day_start).day_start, today.day_start);
            let before = windows(today.day_start.minus(Duration::from_millis(1)));
            prop_assert!(before.day_start < today.day_start);
            prop_assert!(today.day_start.since(before.day_start) >= Duration::from_secs(23 * 3600));
        }
    }
}
