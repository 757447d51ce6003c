//! What the program says of itself while it runs: lines for people, or JSON objects with run, node, epoch, step and actor.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use everstep_actors::event::{Event as Happened, Recorded};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// How a launcher tells its nodes to write JSON.
pub const FORMAT_VARIABLE: &str = "EVERSTEP_LOG_FORMAT";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Where this process stands: the same for all that it says.
#[derive(Debug)]
struct Standing {
    run: OnceLock<String>,
    node: OnceLock<String>,
    epoch: AtomicU64,
    step: AtomicU64,
}

static STANDING: Standing = Standing { run: OnceLock::new(), node: OnceLock::new(), epoch: AtomicU64::new(0), step: AtomicU64::new(0) };

/// From now on lines say that they are of this run.
pub fn is_of(run: &str) {
    // The first word stands.
    let _ = STANDING.run.set(run.to_owned());
}

/// Something happened on this process's node: lines after it say so.
pub fn follow(recorded: &Recorded) {
    let _ = STANDING.node.set(recorded.recorded_by.to_string());
    match &recorded.event {
        Happened::EpochBegan { epoch, step, .. } => {
            STANDING.epoch.store(epoch.0, Ordering::Relaxed);
            STANDING.step.store(step.0, Ordering::Relaxed);
        }
        Happened::StepCommitted { step, .. } => STANDING.step.store(step.0 + 1, Ordering::Relaxed),
        _ => {}
    }
}

/// Begins to write, at the level that `RUST_LOG` asks for; warnings by default.
pub fn start(format: Format) {
    let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_target(false).without_time().with_ansi(std::io::stderr().is_terminal() && colour()).init(),
        Format::Json => builder.event_format(Json).init(),
    }
}

/// Whether people want colour: <https://no-color.org>.
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let mut line = Map::new();
        let now = DateTime::<Utc>::from_timestamp_millis(i64::try_from(everstep_actors::clock::wall_ms()).unwrap_or(0)).unwrap_or_default();
        line.insert("time".into(), now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into());
        line.insert("level".into(), meta.level().as_str().to_ascii_lowercase().into());
        for (name, value) in [("run", STANDING.run.get()), ("node", STANDING.node.get())] {
            if let Some(value) = value {
                line.insert(name.into(), value.clone().into());
            }
        }
        line.insert("epoch".into(), STANDING.epoch.load(Ordering::Relaxed).into());
        line.insert("step".into(), STANDING.step.load(Ordering::Relaxed).into());
        line.insert("actor".into(), actor(meta.target()).into());
        line.insert("target".into(), meta.target().into());
        for (name, value) in fields.0 {
            // What an event calls `node` is the one that it is about.
            let name = if line.contains_key(&name) { format!("event_{name}") } else { name };
            line.insert(name, value);
        }
        let text = serde_json::to_string(&Value::Object(line)).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

/// The actor that a module belongs to.
fn actor(target: &str) -> &str {
    let mut parts = target.split("::").skip(1);
    match (parts.next(), parts.next()) {
        (Some("roles"), Some(role)) => role,
        (Some("net"), Some(part)) => part,
        (Some("checkpoint"), _) => "checkpoint_writer",
        (Some("launch"), Some("node")) => "process",
        (Some("launch"), _) => "launcher",
        (Some(part), _) => part,
        (None, _) => target,
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_that_says_where_it_is_from() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(
            subscriber,
            || tracing::warn!(target: "everstep_actors::roles::coordinator::saving", bytes = 3, "a \"line\"\nbreak"),
        );
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (value["level"].as_str(), value["actor"].as_str(), value["bytes"].as_u64()),
            (Some("warn"), Some("coordinator"), Some(3))
        );
        assert!(value["message"].as_str().is_some_and(|text| text.contains("\"line\"\n")), "{value}");
        assert!(value["epoch"].is_u64() && value["step"].is_u64() && value["time"].is_string());
    }

    #[test]
    fn modules_are_known_by_their_actor() {
        for (target, name) in [
            ("everstep_actors::roles::node::routes", "node"),
            ("everstep_actors::net::link::send", "link"),
            ("everstep::launch", "launcher"),
            ("quinn", "quinn"),
        ] {
            assert_eq!(actor(target), name);
        }
    }
}
