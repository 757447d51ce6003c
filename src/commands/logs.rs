//! `everstep logs`: what nodes said while they ran, of all hosts, in order of time.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use everstep_actors::store::Store;
use serde_json::Value;

use crate::cli::desk::{At, LogsArgs};
use crate::cli::{ExitCode, Failure};
use crate::report::tame;

/// How often a followed log is read again: launchers write theirs every two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// One launcher's lines are a megabyte at most.
const BYTES_MAX: u64 = 8 << 20;

/// Prints the lines: text on a terminal, JSON on a pipe.
///
/// # Errors
/// The run or its store cannot be read.
pub async fn run(args: &At<LogsArgs>) -> Result<ExitCode, Failure> {
    let store = Store::open_existing(&args.at.run)?;
    let mut shown = BTreeSet::new();
    let mut turn = tokio::time::interval(EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        let lines = lines(&store).await?;
        let fresh: Vec<&String> = lines.iter().filter(|line| wanted(line, args.what.actor.as_deref()) && !shown.contains(*line)).collect();
        for line in &fresh {
            let text = if std::io::stdout().is_terminal() { readable(line) } else { (*line).clone() };
            if writeln!(std::io::stdout(), "{text}").is_err() {
                // Nobody reads any more.
                return Ok(ExitCode::Done);
            }
        }
        if shown.is_empty() && fresh.is_empty() && !args.what.follow {
            // Talk goes to stderr, which may be closed.
            let _ = writeln!(std::io::stderr(), "no line was written: nodes log warnings; set RUST_LOG=info for more");
        }
        if !args.what.follow {
            return Ok(ExitCode::Done);
        }
        // What has left the store needs not be remembered.
        shown = lines.into_iter().collect();
    }
}

fn wanted(line: &str, actor: Option<&str>) -> bool {
    actor.is_none_or(|actor| serde_json::from_str::<Value>(line).is_ok_and(|value| value["actor"].as_str() == Some(actor)))
}

/// All lines of all launchers, in order of time.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn lines(store: &Store) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for entry in store.list("logs").await? {
        let body = store.get(&entry.key, BYTES_MAX).await?;
        lines.extend(String::from_utf8_lossy(&body).lines().map(str::to_owned));
    }
    lines.sort_by_cached_key(|line| time(line));
    Ok(lines)
}

fn time(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let by_number = || value["at_ms"].as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    let text = value["time"].as_str().map(str::to_owned);
    text.or_else(|| by_number().map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))).unwrap_or_default()
}

fn readable(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let word = |name: &str| tame(value[name].as_str().unwrap_or("-"));
    format!("{} {:<5} {:<11} {:<12} {}", time(line), word("level"), word("node"), word("actor"), word("message"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn lines_of_all_hosts_come_in_order_of_time() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        let early = r#"{"at_ms":1000,"message":"a"}"#;
        let late = r#"{"time":"1970-01-01T00:00:02.000Z","message":"b","actor":"node"}"#;
        store.put("logs/x.jsonl", bytes::Bytes::from(format!("{late}\n"))).await.unwrap();
        store.put("logs/y.jsonl", bytes::Bytes::from(format!("{early}\n"))).await.unwrap();
        assert_eq!(lines(&store).await.unwrap(), [early, late]);
        assert!(wanted(late, Some("node")) && !wanted(early, Some("node")) && wanted(early, None));
        assert!(readable(late).contains("1970-01-01T00:00:02.000Z -     -           node         b"), "{}", readable(late));
    }
}
