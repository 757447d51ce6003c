//! `everstep logs`: what nodes said while they ran, of all hosts, in order of time.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use everstep_actors::store::Store;
use serde_json::Value;

use crate::cli::desk::{At, LogsArgs};
use crate::cli::{ExitCode, Failure};
use crate::judge::layout::{WIDTH, data, fit, talk};
use crate::report::tame;
use crate::views::output::Output;

/// How often a followed log is read again: launchers write theirs every two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// One launcher's lines are a megabyte at most.
const BYTES_MAX: u64 = 8 << 20;

/// Prints the lines in the form that was asked for.
///
/// # Errors
/// The run or its store cannot be read, or stdout takes no more.
pub async fn run(args: &At<LogsArgs>) -> Result<ExitCode, Failure> {
    let store = Store::open_existing(&args.at.run)?;
    let usual = if io::stdout().is_terminal() { Output::Table } else { Output::Jsonl };
    print(&args.what, &store, args.what.output.unwrap_or(usual), &mut io::stdout()).await
}

async fn print(args: &LogsArgs, store: &Store, form: Output, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let (mut shown, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut turn = tokio::time::interval(EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        turn.tick().await;
        let lines = lines(store).await?;
        let mut fresh: Vec<&String> = lines.iter().filter(|line| wanted(line, args.actor.as_deref()) && !shown.contains(*line)).collect();
        if first && fresh.is_empty() && !args.follow {
            talk("no line was written: nodes log warnings; set RUST_LOG=info for more");
        }
        if let Some(cut) = args.limit.filter(|_| first).and_then(|limit| fresh.len().checked_sub(limit)).filter(|cut| *cut > 0) {
            talk(&format!("note: {cut} older ones are cut by --limit {}", fresh.len() - cut));
            fresh.drain(..cut);
        }
        first = false;
        for line in fresh {
            if let Some(text) = shape(line, form, &mut named)
                && !data(out, &text)?
            {
                return Ok(ExitCode::Done);
            }
        }
        if !args.follow {
            return Ok(ExitCode::Done);
        }
        // What has left the store needs not be remembered.
        shown = lines.into_iter().collect();
    }
}

/// A line in a form; its node's name where names are asked for, once.
fn shape(line: &str, form: Output, named: &mut BTreeSet<String>) -> Option<String> {
    match form {
        Output::Table => Some(fit(&readable(line), WIDTH)),
        Output::Wide => Some(readable(line)),
        Output::Json | Output::Jsonl => Some(line.to_owned()),
        Output::Name => {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            let name = format!("node/{}", tame(value["node"].as_str()?));
            named.insert(name.clone()).then_some(name)
        }
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
        let told = async |form: Output, limit: Option<usize>| {
            let mut out = Vec::new();
            let args = LogsArgs { follow: false, actor: None, limit, output: Some(form) };
            assert_eq!(print(&args, &store, form, &mut out).await, Ok(ExitCode::Done));
            String::from_utf8(out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let named = r#"{"at_ms":3000,"node":"n0a1b2c3d","message":"c","level":"warn"}"#;
        store.put("logs/z.jsonl", bytes::Bytes::from(format!("{named}\n{named}\n"))).await.unwrap();
        assert_eq!(told(Output::Json, None).await, [early, late, named, named]);
        assert_eq!(told(Output::Jsonl, Some(2)).await, [named, named], "the newest stay");
        assert_eq!(told(Output::Name, None).await, ["node/n0a1b2c3d"]);
        assert!(told(Output::Table, Some(1)).await[0].contains("warn  n0a1b2c3d   -            c"));
        assert!(readable(late).contains("1970-01-01T00:00:02.000Z -     -           node         b"), "{}", readable(late));
    }
}
