//! OpenTelemetry traces of a run, made from its durable events: one of every Nth step and one of every change of epoch.
//!
//! Ids are hashes of what they name, so that a trace that is sent twice is the same trace.

pub mod otlp;
pub mod send;

#[cfg(test)]
mod tests;

use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::ids::Epoch;

use otlp::{Attribute, Request, Span, SpanEvent};

/// Phases in the order in which a rank goes through them; others follow.
const PHASES: [&str; 5] = ["data", "compute", "exchange", "update", "vote"];

/// Spans of one request.
const BATCH: usize = 512;

/// What led to the epoch that begins next.
#[derive(Debug, Default)]
struct Change {
    /// When the first sign of it was recorded.
    from_ms: Option<u64>,
    told: Vec<SpanEvent>,
    /// Epoch, first step, ranks, reason and when it began.
    began: Option<(Epoch, u64, usize, String, u64)>,
}

/// Spans of every `every`th step (none for 0) and of each change of epoch whose first step is committed.
pub fn spans(run: &str, events: &[Recorded], every: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut change = Change::default();
    for recorded in events {
        let at_ms = recorded.at_ms;
        match &recorded.event {
            Event::NodeLost { .. } | Event::Waiting { .. } | Event::Hung { .. } => {
                change.from_ms.get_or_insert(at_ms);
                change.told.push(SpanEvent::new(at_ms, recorded.event.sentence()));
            }
            Event::EpochBegan { epoch, step, members, because, .. } => {
                change.began = Some((*epoch, step.0, members.len(), because.clone(), at_ms));
                change.told.push(SpanEvent::new(at_ms, recorded.event.sentence()));
            }
            Event::StepCommitted { step, epoch, .. } => {
                if change.began.as_ref().is_some_and(|(began, ..)| began == epoch) {
                    change_spans(run, std::mem::take(&mut change), at_ms, &mut spans);
                } else {
                    // Steps go on in the old epoch: whatever it was, it led to nothing.
                    change.from_ms = None;
                    change.told.clear();
                }
                if every > 0 && step.0.is_multiple_of(every) {
                    step_spans(run, recorded, &mut spans);
                }
            }
            _ => {}
        }
    }
    spans
}

fn change_spans(run: &str, change: Change, committed_ms: u64, spans: &mut Vec<Span>) {
    let Some((epoch, step, ranks, because, began_ms)) = change.began else { return };
    let from_ms = change.from_ms.unwrap_or(began_ms).min(began_ms);
    let trace = format!("{run} epoch {}", epoch.0);
    let mut root = Span::new(&trace, "epoch change", None, (from_ms as f64, committed_ms.max(began_ms) as f64));
    root.attributes = vec![
        Attribute::int("everstep.epoch", epoch.0),
        Attribute::int("everstep.step", step),
        Attribute::int("everstep.ranks", ranks as u64),
        Attribute::text("everstep.because", because),
    ];
    root.events = change.told;
    let agree = Span::new(&trace, "notice and agree", Some(&root), (from_ms as f64, began_ms as f64));
    let first = Span::new(&trace, "first step", Some(&root), (began_ms as f64, committed_ms.max(began_ms) as f64));
    spans.extend([root, agree, first]);
}

/// A step and its phases. Phases are means over ranks: they are drawn one after the other from the step's start, and shortened alike
/// if together they are longer than the step.
fn step_spans(run: &str, recorded: &Recorded, spans: &mut Vec<Span>) {
    let Event::StepCommitted { step, epoch, metrics, seconds, images, wait, phases, .. } = &recorded.event else { return };
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let end_ms = recorded.at_ms as f64;
    let mut at_ms = (end_ms - seconds * 1000.0).max(0.0);
    let trace = format!("{run} epoch {} step {} at {}", epoch.0, step.0, recorded.at_ms);
    let mut root = Span::new(&trace, "step", None, (at_ms, end_ms));
    root.attributes = vec![
        Attribute::int("everstep.step", step.0),
        Attribute::int("everstep.epoch", epoch.0),
        Attribute::int("everstep.images", *images),
        Attribute::number("everstep.wait_share", *wait),
    ];
    root.attributes.extend(metrics.iter().map(|(name, value)| Attribute::number(&format!("everstep.{name}"), *value)));
    let mut named: Vec<(&str, f64)> =
        phases.iter().map(|(name, s)| (name.as_str(), *s)).filter(|(_, s)| s.is_finite() && *s > 0.0).collect();
    named.sort_by_key(|(name, _)| PHASES.iter().position(|phase| phase == name).unwrap_or(PHASES.len()));
    let sum: f64 = named.iter().map(|(_, s)| s).sum();
    let scale = if sum > seconds { seconds / sum } else { 1.0 };
    let mut children = Vec::new();
    for (name, s) in named {
        let until = (at_ms + s * scale * 1000.0).min(end_ms);
        let mut child = Span::new(&trace, name, Some(&root), (at_ms, until));
        child.attributes.push(Attribute::number("everstep.mean_seconds", s));
        children.push(child);
        at_ms = until;
    }
    spans.push(root);
    spans.extend(children);
}

/// The spans as requests to a collector.
pub fn requests(run: &str, spans: Vec<Span>) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut rest = spans.into_iter().peekable();
    while rest.peek().is_some() {
        requests.push(Request::new(run, rest.by_ref().take(BATCH).collect()));
    }
    requests
}
