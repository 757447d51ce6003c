//! `everstep logs`: what nodes said while they ran, of all hosts, in order of time.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::Fields;
use everstep_actors::store::Store;
use serde_json::{Map, Value};

use crate::cli::desk::{At, LogsArgs};
use crate::cli::{ExitCode, Failure};
use crate::judge::layout::{WIDTH, data, fit, talk};
use crate::report::tame;
use crate::views::fields::Field;
use crate::views::output::Output;
use crate::views::select::{List, newest, sorts_what_ends};
use crate::views::talk::cut;

/// How often a followed log is read again: launchers write theirs every two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// What any line may have.
const STANDARD: [&str; 10] = ["time", "level", "run", "node", "epoch", "step", "actor", "target", "message", "slot"];
/// One launcher's lines are a megabyte at most.
const BYTES_MAX: u64 = 8 << 20;

/// Prints the lines in the form that was asked for.
///
/// # Errors
/// What is asked for cannot be, the run or its store cannot be read, or stdout takes no more.
pub async fn run(args: &At<LogsArgs>) -> Result<ExitCode, Failure> {
    let store = Store::open_existing(&args.at.run)?;
    let usual = if io::stdout().is_terminal() { Output::Table } else { Output::Jsonl };
    print(&args.what, &store, args.what.output.unwrap_or(usual), &mut io::stdout()).await
}

async fn print(args: &LogsArgs, store: &Store, form: Output, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    sorts_what_ends(args.follow, &args.selection)?;
    let read = lines(store).await?;
    let (all, mut named) = (said(&read), BTreeSet::new());
    let asked = list(&all).question(&args.selection)?;
    let (shown, matched) = newest(wanted(all, args.actor.as_deref()), Line::fields, &asked);
    if matched == 0 && !args.follow {
        talk(if read.is_empty() { "no line was written: nodes log warnings; set RUST_LOG=info for more" } else { "there is no such line" });
    }
    cut(shown.len(), matched).iter().for_each(|sentence| talk(sentence));
    let asked = Question { limit: None, ..asked };
    let mut turn = tokio::time::interval(EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    turn.tick().await;
    let (mut known, mut fresh): (BTreeSet<String>, _) = (read.into_iter().collect(), shown);
    loop {
        for text in fresh.iter().filter_map(|line| line.shape(form, &mut named)) {
            if !data(out, &text)? {
                return Ok(ExitCode::Done);
            }
        }
        if !args.follow {
            return Ok(ExitCode::Done);
        }
        turn.tick().await;
        let read = lines(store).await?;
        let news = said(read.iter().filter(|line| !known.contains(*line)));
        (fresh, _) = newest(wanted(news, args.actor.as_deref()), Line::fields, &asked);
        // What has left the store needs not be remembered.
        known = read.into_iter().collect();
    }
}

/// A line as it was written, and what it says.
#[derive(Debug)]
struct Line {
    text: String,
    value: Value,
}

fn said<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<Line> {
    let line = |text: &String| Line { text: text.clone(), value: serde_json::from_str(text).unwrap_or_default() };
    lines.into_iter().map(line).collect()
}

fn wanted(mut lines: Vec<Line>, actor: Option<&str>) -> Vec<Line> {
    lines.retain(|line| actor.is_none_or(|actor| line.value["actor"].as_str() == Some(actor)));
    lines
}

/// Lines have the fields of the log, and what is particular to one or another.
fn list(lines: &[Line]) -> List {
    let particular = lines.iter().filter_map(|line| line.value.as_object()).flat_map(Map::keys).map(String::as_str);
    let names: BTreeSet<&str> = STANDARD.into_iter().chain(particular).collect();
    List { name: "these lines", fields: names.into_iter().map(Field::any).collect(), headings: &[] }
}

impl Line {
    fn fields(&self) -> Fields {
        let mut value = self.value.clone();
        // Lines that were no objects of the log have a number in its place.
        if let Some(fields) = value.as_object_mut() {
            fields.insert("time".into(), time(&self.value).into());
        }
        Fields::of(&value)
    }

    /// In a form; its node's name where names are asked for, once.
    fn shape(&self, form: Output, named: &mut BTreeSet<String>) -> Option<String> {
        match form {
            Output::Table => Some(fit(&self.readable(), WIDTH)),
            Output::Wide => Some(self.readable()),
            Output::Json | Output::Jsonl => Some(self.text.clone()),
            Output::Name => {
                let name = format!("node/{}", tame(self.value["node"].as_str()?));
                named.insert(name.clone()).then_some(name)
            }
        }
    }

    fn readable(&self) -> String {
        let word = |name: &str| tame(self.value[name].as_str().unwrap_or("-"));
        format!("{} {:<5} {:<11} {:<12} {}", time(&self.value), word("level"), word("node"), word("actor"), word("message"))
    }
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
    lines.sort_by_cached_key(|line| time(&serde_json::from_str(line).unwrap_or_default()));
    Ok(lines)
}

fn time(line: &Value) -> String {
    let by_number = || line["at_ms"].as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    let text = line["time"].as_str().map(str::to_owned);
    text.or_else(|| by_number().map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::cli::selection::Selection;

    #[tokio::test]
    async fn lines_of_all_hosts_come_in_order_of_time() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        let early = r#"{"at_ms":1000,"message":"a"}"#;
        let late = r#"{"time":"1970-01-01T00:00:02.000Z","message":"b","actor":"node"}"#;
        store.put("logs/x.jsonl", bytes::Bytes::from(format!("{late}\n"))).await.unwrap();
        store.put("logs/y.jsonl", bytes::Bytes::from(format!("{early}\n"))).await.unwrap();
        assert_eq!(lines(&store).await.unwrap(), [early, late]);
        let told = async |args: LogsArgs| {
            let mut out = Vec::new();
            print(&args, &store, args.output.unwrap(), &mut out).await?;
            Ok::<_, Failure>(String::from_utf8(out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let form = |form: Output, limit: Option<u64>| {
            let selection = Selection { limit, ..Selection::default() };
            LogsArgs { follow: false, actor: None, selection, output: Some(form) }
        };
        assert_eq!(told(LogsArgs { actor: Some("node".into()), ..form(Output::Json, None) }).await.unwrap(), [late]);
        let named = r#"{"at_ms":3000,"node":"n0a1b2c3d","message":"c","level":"warn"}"#;
        store.put("logs/z.jsonl", bytes::Bytes::from(format!("{named}\n{named}\n"))).await.unwrap();
        assert_eq!(told(form(Output::Json, None)).await.unwrap(), [early, late, named, named]);
        assert_eq!(told(form(Output::Jsonl, Some(2))).await.unwrap(), [named, named], "the newest stay");
        assert_eq!(told(form(Output::Name, None)).await.unwrap(), ["node/n0a1b2c3d"]);
        assert!(told(form(Output::Table, Some(1))).await.unwrap()[0].contains("warn  n0a1b2c3d   -            c"));
        let late_told = told(LogsArgs { actor: Some("node".into()), ..form(Output::Wide, None) }).await.unwrap();
        assert!(late_told[0].contains("1970-01-01T00:00:02.000Z -     -           node         b"), "{late_told:?}");
        let asked = |filter: &str, sort: Option<&str>, limit: Option<u64>| {
            let selection = Selection { filter: vec![filter.into()], sort: sort.map(str::to_owned), limit };
            LogsArgs { selection, ..form(Output::Jsonl, None) }
        };
        assert_eq!(told(asked("node=n0a1b2c3d", None, Some(1))).await.unwrap(), [named]);
        assert_eq!(told(asked("time<1970-01-01T00:00:02.5", Some("-message"), None)).await.unwrap(), [late, early]);
        assert_eq!(told(asked("message!=c", Some("message"), Some(1))).await.unwrap(), [early], "the limit comes after the filter");
        let wrong = told(asked("levl=warn", None, None)).await.unwrap_err();
        assert!(wrong.code == ExitCode::Usage && wrong.sentence.contains("these lines have actor, at_ms, epoch"), "{wrong}");
        assert_eq!(told(LogsArgs { follow: true, ..asked("step>1", Some("step"), None) }).await.unwrap_err().code, ExitCode::Usage);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_followed_is_chosen_too_and_a_limit_holds_for_the_beginning() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        let line = |at_ms: u64, level: &str| format!("{{\"at_ms\":{at_ms},\"level\":\"{level}\",\"message\":\"m\"}}\n");
        let put = async |text: String| store.put("logs/x.jsonl", bytes::Bytes::from(text)).await.unwrap();
        let begin = [line(1, "warn"), line(2, "info"), line(3, "warn")].concat();
        put(begin.clone()).await;
        let selection = Selection { filter: vec!["level=warn".into()], limit: Some(1), ..Selection::default() };
        let args = LogsArgs { follow: true, actor: None, selection, output: None };
        let mut out = Vec::new();
        let following = print(&args, &store, Output::Jsonl, &mut out);
        let writing = async {
            tokio::time::sleep(EVERY / 2).await;
            put([begin, line(4, "info"), line(5, "warn"), line(6, "warn")].concat()).await;
            tokio::time::sleep(2 * EVERY).await;
        };
        tokio::select! { ended = following => panic!("{ended:?}"), () = writing => {} }
        let told = String::from_utf8(out).unwrap();
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(told, [3, 5, 6].map(|at_ms| line(at_ms, "warn").trim_end().to_owned()));
    }
}
