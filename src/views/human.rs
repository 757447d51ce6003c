//! Numbers, times and references as people read them.

use chrono::DateTime;
use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::report::{bytes, duration};

/// The time of day in UTC (`02:14:03`); `-` where it is not known.
pub(crate) fn clock(at_ms: u64) -> String {
    moment(at_ms, "%H:%M:%S")
}

/// Date and time in UTC (`2026-11-28 02:14:03`); `-` where it is not known.
pub(crate) fn date(at_ms: u64) -> String {
    moment(at_ms, "%Y-%m-%d %H:%M:%S")
}

fn moment(at_ms: u64, format: &str) -> String {
    let at = i64::try_from(at_ms).ok().filter(|at| *at > 0).and_then(DateTime::from_timestamp_millis);
    at.map_or_else(|| "-".into(), |at| at.format(format).to_string())
}

/// Milliseconds in a few characters, for cells (`12ms`, `1.2s`, `3m05s`).
pub(crate) fn brief(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1000;
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..9950 => format!("{:.1}s", ms as f64 / 1e3),
        _ if seconds < 60 => format!("{seconds}s"),
        _ if seconds < 3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Seconds in a few characters, for cells; `-` for what is no length of time.
pub(crate) fn brief_seconds(seconds: f64) -> String {
    if seconds.is_finite() && seconds >= 0.0 { brief((seconds * 1e3).round() as u64) } else { "-".into() }
}

/// How long ago, for cells; `-` where it is not known.
pub(crate) fn age(at_ms: u64, now_ms: u64) -> String {
    if at_ms == 0 { "-".into() } else { brief(now_ms.saturating_sub(at_ms)) }
}

/// How long ago, for sentences (`1 min 15 s ago`); `None` where it is not known.
pub(crate) fn ago(at_ms: u64, now_ms: u64) -> Option<String> {
    (at_ms > 0).then(|| format!("{} ago", duration(now_ms.saturating_sub(at_ms) as f64 / 1e3)))
}

/// Milliseconds in sentences.
pub(crate) fn span(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { duration(ms as f64 / 1e3) }
}

/// Without the kind: `n0a1b2c3d` of `node/n0a1b2c3d`.
pub(crate) fn bare(reference: &str) -> &str {
    reference.split_once('/').map_or(reference, |(_, name)| name)
}

/// What stands there, or `-`.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.to_owned() }
}

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A text in at most so many columns; what is cut is cut from the middle, because names differ at their ends.
pub(crate) fn elide(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let left = columns.saturating_sub(1);
    let tail: String = {
        let kept: Vec<char> = fitting(text.chars().rev(), left / 2).collect();
        kept.into_iter().rev().collect()
    };
    let head: String = fitting(text.chars(), left - left / 2).collect();
    if columns == 0 { String::new() } else { format!("{head}…{tail}") }
}

fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> impl Iterator<Item = char> {
    let mut used = 0;
    chars.take_while(move |c| {
        used += c.width().unwrap_or(0);
        used <= columns
    })
}

/// Fields that are points in time; others that end in `_ms` are lengths of time.
pub(crate) fn is_moment(field: &str) -> bool {
    ["at_ms", "since_ms", "as_of_ms", "started_ms", "until_ms"].iter().any(|end| field.ends_with(end))
}

/// The value of a field with its unit, which its name tells.
pub(crate) fn value(field: &str, value: &Value, now_ms: u64) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::String(text) => or_dash(text),
        Value::Number(number) => {
            let (whole, real) = (number.as_u64(), number.as_f64().unwrap_or_default());
            match whole {
                Some(at) if is_moment(field) => point(at, now_ms),
                Some(ms) if field.ends_with("_ms") => span(ms),
                Some(count) if field.ends_with("bytes") => bytes(count),
                _ if field.ends_with("_ms") => format!("{real:.1} ms"),
                // A pace is not a length of time.
                _ if field.ends_with("per_s") => format!("{real:.1}/s"),
                _ if field.ends_with("_s") || field.ends_with("seconds") => seconds(real),
                Some(count) => count.to_string(),
                None if field == "pace" => format!("{real:.2} × the median"),
                None if real.fract() == 0.0 => format!("{real:.0}"),
                None => format!("{real:.4}"),
            }
        }
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) if field == "lanes" && values.len() == 2 => format!("{}..{}", values[0], values[1]),
        Value::Array(values) => values.iter().map(|one| self::value(field, one, now_ms)).collect::<Vec<_>>().join(", "),
        Value::Object(values) if values.is_empty() => "-".into(),
        Value::Object(values) => {
            let one = |name: &str, one: &Value| match one.as_f64() {
                Some(length) if field == "phases" => seconds(length),
                _ => self::value(name, one, now_ms),
            };
            let mut pairs: Vec<String> = values.iter().map(|(name, value)| format!("{name} {}", one(name, value))).collect();
            pairs.sort();
            pairs.join(", ")
        }
    }
}

/// Seconds that may be short.
pub(crate) fn seconds(seconds: f64) -> String {
    if (0.0..0.95).contains(&seconds) { format!("{:.0} ms", seconds * 1e3) } else { duration(seconds) }
}

/// A moment with how far away it is.
fn point(at_ms: u64, now_ms: u64) -> String {
    match at_ms {
        0 => "-".into(),
        _ if at_ms > now_ms => format!("{} (in {})", date(at_ms), span(at_ms - now_ms)),
        _ => format!("{} ({} ago)", date(at_ms), span(now_ms - at_ms)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_short() {
        let told = [0, 999, 1200, 9_949, 9_950, 59_499, 59_500, 185_000, 7_260_000, 90_000_000].map(brief);
        assert_eq!(told, ["0ms", "999ms", "1.2s", "9.9s", "10s", "59s", "1m00s", "3m05s", "2h01m", "1d01h"]);
        assert!(brief(u64::MAX).len() < 20);
        assert_eq!([brief_seconds(0.0125), brief_seconds(f64::NAN), brief_seconds(-1.0)], ["13ms", "-", "-"].map(str::to_owned));
        assert_eq!([age(0, 5), age(5, 5), age(9, 5)], ["-", "0ms", "0ms"].map(str::to_owned));
    }

    #[test]
    fn moments_that_cannot_be_do_no_harm() {
        assert_eq!((clock(0).as_str(), clock(u64::MAX).as_str(), date(u64::MAX / 2).as_str()), ("-", "-", "-"));
        assert_eq!((clock(1_795_832_043_000).as_str(), date(1_795_832_043_000).as_str()), ("02:14:03", "2026-11-28 02:14:03"));
    }

    #[test]
    fn what_is_too_long_loses_its_middle() {
        assert_eq!([elide("abcdefghij", 10), elide("abcdefghij", 7), elide("abcdefghij", 2)], ["abcdefghij", "abc…hij", "a…"]);
        assert_eq!([elide("ab", 1), elide("ab", 0), elide("", 0)], ["…", "", ""]);
        for columns in 0..12 {
            assert!(width(&elide("幅の広い文字です", columns)) <= columns);
        }
    }

    #[test]
    fn names_of_fields_tell_their_units() {
        let told = |field: &str, json: Value| value(field, &json, 1_795_832_043_000);
        assert_eq!(told("resident_bytes", json!(1_250_000)), "1.2 MB");
        assert_eq!(told("oldest_ms", json!(75_000)), "1 min 15 s");
        assert_eq!(told("at_ms", json!(1_795_832_042_000u64)), "2026-11-28 02:14:02 (1.0 s ago)");
        assert_eq!(told("certificate_until_ms", json!(1_795_832_103_000u64)), "2026-11-28 02:15:03 (in 1 min 00 s)");
        assert_eq!(told("since_ms", json!(0)), "-");
        assert_eq!(told("cpu_s", json!(61.0)), "1 min 01 s");
        assert_eq!(told("images_per_s", json!(431.44)), "431.4/s");
        assert_eq!(told("lanes", json!([2, 4])), "2..4");
        assert_eq!(told("copies", json!(["rank/2", "rank/3"])), "rank/2, rank/3");
        assert_eq!(told("leads", json!(true)), "yes");
        assert_eq!(told("phases", json!({"b": 2.0, "a": 0.25})), "a 250 ms, b 2.0 s");
        assert_eq!(told("metrics", json!({"loss": 4.1, "n": 2.0})), "loss 4.1000, n 2");
        assert_eq!(told("pace", json!(1.5)), "1.50 × the median");
    }
}
