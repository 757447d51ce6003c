//! A run in Prometheus' text format: base units, bounded labels, one `HELP` and one `TYPE` line for each family.
//!
//! Labels are words of ours (`state`, `actor_kind`, `phase`, `reason`, `direction`): never a node, an actor's name, a step or a text
//! from elsewhere, so that the number of series does not grow with the run.

mod families;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::desk::view::View;
use everstep_actors::event::Recorded;

/// Links grow with the square of the nodes: with more nodes than this they are not asked for all at once, and not measured.
pub const MANY_NODES: usize = 100;

/// The text of one scrape: from what was seen last and from all that is durable of what happened.
///
/// What is not known is left out: a family without a sample has no lines at all.
pub fn text(view: &View, events: &[Recorded]) -> String {
    let mut text = Text::default();
    families::build(&mut text, view);
    if let Some(run) = view.run() {
        families::run(&mut text, run);
    }
    families::members(&mut text, view);
    families::actors(&mut text, view);
    families::links(&mut text, view);
    families::checkpoints(&mut text, view, events);
    families::history(&mut text, events);
    text.0
}

/// What a family is.
#[derive(Debug, Clone, Copy)]
enum Type {
    Gauge,
    Counter,
    Histogram,
}

/// Text that grows by families.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, of: Type, help: &str) {
        let of = match of {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
            Type::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        writeln!(self.0, "# HELP everstep_{name} {help}\n# TYPE everstep_{name} {of}").ok();
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        write!(self.0, "everstep_{name}").ok();
        for (at, (label, value)) in labels.iter().enumerate() {
            write!(self.0, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(value)).ok();
        }
        writeln!(self.0, "{} {}", if labels.is_empty() { "" } else { "}" }, number(value)).ok();
    }

    /// A family of one sample.
    fn one(&mut self, name: &str, of: Type, help: &str, value: f64) {
        self.head(name, of, help);
        self.sample(name, &[], value);
    }

    /// A family with one label; nothing if there are no samples.
    fn by(&mut self, name: &str, of: Type, help: &str, label: &str, samples: &BTreeMap<String, f64>) {
        if samples.is_empty() {
            return;
        }
        self.head(name, of, help);
        for (word, value) in samples {
            self.sample(name, &[(label, word)], *value);
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}
