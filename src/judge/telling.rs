//! Events as lines: for people one line each, for programs the event's own fields.

use everstep_actors::event::{Event, Recorded};
use serde_json::Value;

use super::layout::{WIDTH, fit};
use super::moment::{clock, utc};
use super::story::Told;

/// One line: when, how bad, what happened in words; a wide one with the event's name, and nothing is cut.
pub(crate) fn line(recorded: &Recorded, wide: bool) -> String {
    let event = &recorded.event;
    let (when, severity, text) = (utc(recorded.at_ms), event.severity().name(), event.sentence());
    match wide {
        true => fit(&format!("{when}  {severity:<7}  {:<16}  {text}", event.name()), usize::MAX),
        false => fit(&format!("{when}  {severity:<7}  {text}"), WIDTH),
    }
}

/// As [`line`], where the day is said elsewhere.
fn short(at_ms: u64, severity: &str, text: &str) -> String {
    fit(&format!("{}  {severity:<7}  {text}", clock(at_ms)), WIDTH)
}

/// The event's own fields, `at_ms`, `recorded_by`, and `severity` and `text` as people read them.
pub(crate) fn json(recorded: &Recorded) -> Value {
    let event = &recorded.event;
    let mut value = serde_json::to_value(event).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("at_ms".into(), recorded.at_ms.into());
        fields.insert("recorded_by".into(), format!("node/{}", recorded.recorded_by).into());
        fields.insert("severity".into(), event.severity().name().into());
        fields.insert("text".into(), event.sentence().into());
    }
    value
}

/// Lines of a stretch of the story; steps in a row are one line.
pub(crate) fn stretch<'a>(story: impl Iterator<Item = &'a Told>) -> Vec<String> {
    let (mut lines, mut steps): (Vec<String>, Vec<&Told>) = (Vec::new(), Vec::new());
    for told in story {
        if matches!(told.event(), Event::StepCommitted { .. }) {
            steps.push(told);
            continue;
        }
        lines.extend(in_a_row(&std::mem::take(&mut steps)));
        lines.push(one(told));
    }
    lines.extend(in_a_row(&steps));
    lines
}

fn in_a_row(steps: &[&Told]) -> Option<String> {
    let (first, last) = (steps.first()?, steps.last()?);
    if steps.len() == 1 {
        return Some(one(first));
    }
    let step = |told: &Told| told.event().step().map_or(0, |step| step.0);
    let loss = |told: &Told| match told.event() {
        Event::StepCommitted { metrics, .. } => metrics.get(crate::report::names::LOSS).copied(),
        _ => None,
    };
    let losses = loss(first).zip(loss(last)).map(|(first, last)| format!(", loss {first:.4} to {last:.4}")).unwrap_or_default();
    let text = format!("steps {} to {} committed by {}, {} in all{losses}", step(first), step(last), clock(last.at_ms()), steps.len());
    Some(short(first.at_ms(), "info", &text))
}

fn one(told: &Told) -> String {
    short(told.at_ms(), told.event().severity().name(), &told.event().sentence())
}
