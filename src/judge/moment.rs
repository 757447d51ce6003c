//! Moments and spans as people type and read them. Everything is UTC, and every moment that is shown can be typed back.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};

const DAY_MS: u64 = 86_400_000;

/// A moment as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So many milliseconds before now.
    Ago(u64),
    /// A time of the day, milliseconds since midnight UTC.
    Clock(u64),
    /// A date and a time, milliseconds since the Unix epoch.
    At(u64),
}

impl Moment {
    /// Reads `-10m`, `10m`, `02:14`, `02:14:30`, `2026-11-24`, `2026-11-24T02:14` or `2026-11-24T02:14:30Z`.
    ///
    /// # Errors
    /// One sentence that says what can be typed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(ms) = span(text.strip_prefix('-').unwrap_or(text)) {
            return Ok(Self::Ago(ms));
        }
        let plain = text.strip_suffix(['Z', 'z']).unwrap_or(text).replace(' ', "T");
        let time = ["%H:%M", "%H:%M:%S%.f"].into_iter().find_map(|form| NaiveTime::parse_from_str(&plain, form).ok());
        if let Some(time) = time {
            let seconds = u64::from(time.num_seconds_from_midnight());
            return Ok(Self::Clock(seconds * 1000 + u64::from(time.nanosecond() / 1_000_000).min(999)));
        }
        let date = NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
        let whole =
            ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"].into_iter().find_map(|form| NaiveDateTime::parse_from_str(&plain, form).ok());
        let at = whole.or(date).and_then(|at| u64::try_from(at.and_utc().timestamp_millis()).ok());
        at.map(Self::At).ok_or_else(|| format!("{text:?} is no moment: type 02:14, 2026-11-24T02:14 (both UTC) or -10m"))
    }

    /// Milliseconds since the Unix epoch. A time of the day is the last one within what is known (`known`: first and last moment
    /// of it), else the last one before now: a run of last week is asked about as easily as one of today.
    pub fn resolve(self, now_ms: u64, known: Option<(u64, u64)>) -> u64 {
        match self {
            Self::Ago(ms) => now_ms.saturating_sub(ms),
            Self::At(ms) => ms,
            Self::Clock(ms) => {
                let last_before = |limit: u64| {
                    let today = limit / DAY_MS * DAY_MS + ms;
                    if today <= limit { Some(today) } else { today.checked_sub(DAY_MS) }
                };
                let within = known.and_then(|(first, last)| last_before(last).filter(|at| *at >= first));
                within.or_else(|| last_before(now_ms)).unwrap_or(0)
            }
        }
    }
}

/// Milliseconds of a span such as `250ms`, `10s`, `10m`, `1h30m`, `2d`.
///
/// # Errors
/// One sentence that says what can be typed.
pub fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no span of time: type a number and a unit, such as 250ms, 10s, 10m, 1h30m or 2d");
    let (mut rest, mut total) = (text.trim(), 0.0_f64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 1.0,
            "s" | "sec" => 1e3,
            "m" | "min" => 60e3,
            "h" => 3600e3,
            "d" => DAY_MS as f64,
            _ => return Err(wrong()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if total.is_finite() && total < 1e15 { Ok(total.round() as u64) } else { Err(wrong()) }
}

/// `2026-11-24T02:14:05Z`.
pub fn utc(at_ms: u64) -> String {
    let moment = i64::try_from(at_ms).ok().and_then(DateTime::from_timestamp_millis);
    moment.map_or_else(|| format!("{at_ms} ms"), |moment| moment.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `02:14:05`, for where the day is said elsewhere.
pub fn clock(at_ms: u64) -> String {
    let seconds = at_ms % DAY_MS / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_521_600_000;

    #[test]
    fn spans_are_read_and_wrong_ones_say_what_can_be_typed() {
        let read = ["250ms", "10s", "10m", "1h30m", "2d", "0.5s"].map(|text| span(text).unwrap());
        assert_eq!(read, [250, 10_000, 600_000, 5_400_000, 172_800_000, 500]);
        for wrong in ["", "10", "m", "10 apples", "1e99d", "-3s", "10m5", "99999999999999999999d"] {
            assert!(span(wrong).unwrap_err().contains("1h30m"), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed_back() {
        assert_eq!(utc(NOON), "2026-11-24T12:00:00Z");
        assert_eq!(Moment::parse(&utc(NOON)), Ok(Moment::At(NOON)));
        assert_eq!(Moment::parse("2026-11-24 12:00"), Ok(Moment::At(NOON)));
        assert_eq!(Moment::parse("2026-11-24"), Ok(Moment::At(NOON - DAY_MS / 2)));
        assert_eq!(Moment::parse("-10m"), Ok(Moment::Ago(600_000)));
        assert_eq!(Moment::parse("02:14:05.5"), Ok(Moment::Clock(8_045_500)));
        assert!(Moment::parse("yesterday").unwrap_err().contains("2026-11-24T02:14"));
        assert_eq!(clock(NOON + 61_000), "12:01:01");
    }

    #[test]
    fn a_time_of_the_day_is_the_last_one_that_the_run_knows() {
        let at = Moment::parse("02:14").unwrap();
        let today = NOON - DAY_MS / 2 + 8_040_000;
        assert_eq!(at.resolve(NOON, None), today);
        assert_eq!(at.resolve(NOON - DAY_MS / 2, None), today - DAY_MS, "not yet today");
        let last_week = (today - 7 * DAY_MS - 60_000, today - 7 * DAY_MS + 60_000);
        assert_eq!(at.resolve(NOON, Some(last_week)), today - 7 * DAY_MS);
        let later_that_day = (last_week.0 + 60_001, last_week.1);
        assert_eq!(at.resolve(NOON, Some(later_that_day)), today, "outside what is known: the last one before now");
        assert_eq!(Moment::Clock(5).resolve(0, None), 0);
    }
}
