//! Points in time that clouds name, as time that is left.

use std::time::Duration;

use chrono::{DateTime, Utc};
use everstep_actors::clock;

use super::http::Reply;

/// What a `Date` header cuts off at most.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Time from a reply to a moment, never too long. The server's clock set the moment, so it is compared with its own `Date` where
/// there is one: clocks of machines may be wrong by more than the time that is left.
pub(super) fn until(moment: DateTime<Utc>, reply: &Reply) -> Duration {
    let now = reply.date().or_else(wall);
    let left = now.and_then(|now| (moment - now).to_std().ok());
    left.unwrap_or_default().saturating_sub(CUT_OFF)
}

fn wall() -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(clock::wall_ms()).ok()?)
}

/// `2026-09-18T08:22:00Z`, as EC2 writes it.
pub(super) fn rfc3339(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.to_utc())
}

/// `Fri, 18 Sep 2026 08:22:00 GMT`, as Azure writes it.
pub(super) fn rfc2822(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|moment| moment.to_utc())
}
