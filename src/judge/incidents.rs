//! Incidents: what broke a run's pace, from the first sign to the next committed step.
//!
//! What happens while an incident is open belongs to it; an order that is carried out after the step in flight, and the same trouble
//! within a minute, belong to the incident that they go on from.

use std::collections::{BTreeMap, BTreeSet};

use everstep_actors::event::{Event, Recorded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::story::{Story, Told};
use super::timeline::Timeline;

/// What goes on within this time of an incident's end is the same incident.
const SAME_WITHIN_MS: u64 = 60_000;

/// Something that broke the pace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Its number, from 1.
    pub number: u32,
    /// What kind of trouble it was.
    pub kind: IncidentKind,
    /// The first sign of it, milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// The step that was committed after it; absent while it goes on.
    pub end_ms: Option<u64>,
    /// One sentence.
    pub cause: String,
    /// References of the nodes that it was about.
    pub nodes: Vec<String>,
    /// Committed steps that had to be computed and committed again.
    pub steps_redone: u64,
    /// Seconds in which no step was computed because of it.
    pub stalled_s: f64,
    /// Epochs that began because of it.
    pub epochs: Vec<u64>,
    /// How many events belong to it.
    pub events: u32,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// The run waited.
    Wait,
    /// Members changed as planned.
    Change,
    /// An operator ordered something.
    Order,
    /// A checkpoint could not be saved.
    Checkpoint,
    /// A step changed no weights.
    Skipped,
    /// A node was lost.
    Loss,
    /// Part of a node hung.
    Hang,
    /// A node computed something else than the others.
    Corruption,
    /// Every process ended with a failure.
    Failure,
}

impl IncidentKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Change => "change",
            Self::Order => "order",
            Self::Checkpoint => "checkpoint",
            Self::Skipped => "skipped",
            Self::Loss => "loss",
            Self::Hang => "hang",
            Self::Corruption => "corruption",
            Self::Failure => "failure",
        }
    }

    /// Whether steps stop for it.
    fn stops(self) -> bool {
        !matches!(self, Self::Checkpoint | Self::Skipped)
    }

    /// Whether it is more of a symptom than of a cause.
    fn is_weak(self) -> bool {
        matches!(self, Self::Wait | Self::Change)
    }
}

/// All incidents of a run, oldest first.
pub fn incidents(events: &[Recorded]) -> Vec<Incident> {
    of(&Story::of(events))
}

/// All incidents of a story, oldest first.
pub fn of(story: &Story) -> Vec<Incident> {
    Timeline::of(story).incidents
}

/// Incidents as they come up while a story is walked.
#[derive(Debug, Default)]
pub(super) struct Log {
    incidents: Vec<Incident>,
    open: Option<usize>,
    pause: Option<usize>,
    by_epoch: BTreeMap<u64, usize>,
    nodes: Vec<BTreeSet<String>>,
}

impl Log {
    /// Takes in an event that is no committed step; `calm` where no steps are expected, so that waiting and new members are no trouble.
    pub(super) fn on(&mut self, told: &Told, calm: bool) {
        let event = told.event();
        if let Event::Ended { outcome, .. } = event
            && (outcome == "done" || outcome == "stopped")
        {
            self.close(told.at_ms());
            self.pause = None;
            return;
        }
        if let Event::Ordered { order, .. } = event
            && order.starts_with("resume")
        {
            let pause = self.pause.take();
            self.open = self.open.or(pause);
            return;
        }
        let Some(kind) = kind(event) else { return };
        let expected = calm && kind.is_weak() || matches!(event, Event::Waiting { because } if because.starts_with("stopping"));
        if self.open.is_none() && !expected {
            self.begin(told, kind);
        }
        let Some(index) = self.open else { return };
        self.join(index, told, kind);
        if matches!(event, Event::Ordered { order, .. } if order.starts_with("pause")) {
            self.pause = Some(index);
        }
    }

    fn begin(&mut self, told: &Told, kind: IncidentKind) {
        let cause = cause(told.event());
        if let Some((index, last)) = self.incidents.iter().enumerate().next_back() {
            let near = last.end_ms.is_some_and(|end| told.at_ms().saturating_sub(end) <= SAME_WITHIN_MS);
            let carried_out = last.kind == IncidentKind::Order && kind != IncidentKind::Order;
            if near && (carried_out || last.kind == kind && last.cause == cause) {
                self.open = Some(index);
                return;
            }
        }
        self.open = Some(self.incidents.len());
        self.nodes.push(BTreeSet::new());
        self.incidents.push(Incident {
            number: u32::try_from(self.incidents.len() + 1).unwrap_or(u32::MAX),
            kind,
            start_ms: told.at_ms(),
            end_ms: None,
            cause,
            nodes: Vec::new(),
            steps_redone: 0,
            stalled_s: 0.0,
            epochs: Vec::new(),
            events: 0,
        });
    }

    fn join(&mut self, index: usize, told: &Told, kind: IncidentKind) {
        let incident = &mut self.incidents[index];
        incident.end_ms = None;
        incident.events += 1;
        if incident.kind.is_weak() && !kind.is_weak() {
            (incident.kind, incident.cause) = (kind, cause(told.event()));
        }
        let nodes = match told.event() {
            Event::EpochBegan { epoch, .. } => {
                incident.epochs.push(epoch.0);
                self.by_epoch.insert(epoch.0, index);
                return;
            }
            Event::NodeLost { node, .. } | Event::Hung { node, .. } | Event::NodeOdd { node, .. } | Event::Ordered { node, .. } => {
                vec![*node]
            }
            Event::StepAudited { odd, .. } => odd.clone(),
            _ => return,
        };
        self.nodes[index].extend(nodes.iter().map(|node| format!("node/{node}")));
    }

    /// A step was committed.
    pub(super) fn committed(&mut self, at_ms: u64) {
        self.close(at_ms);
    }

    /// A step was committed that had been committed before.
    pub(super) fn redone(&mut self, epoch: u64) {
        let index = self.by_epoch.get(&epoch).copied().or(self.open).or_else(|| self.incidents.len().checked_sub(1));
        if let Some(incident) = index.and_then(|index| self.incidents.get_mut(index)) {
            incident.steps_redone += 1;
        }
    }

    fn close(&mut self, at_ms: u64) {
        if let Some(index) = self.open.take() {
            self.incidents[index].end_ms = Some(at_ms);
        }
    }

    /// The incident that goes on.
    pub(super) fn open(&self) -> Option<usize> {
        self.open
    }

    /// The incident that goes on when nothing more is known: a pause outlives the step that was in flight.
    pub(super) fn at_the_end(&mut self) -> Option<usize> {
        let index = self.open.or(self.pause)?;
        self.incidents[index].end_ms = None;
        Some(index)
    }

    /// Whether steps stop for it.
    pub(super) fn stops(&self, index: usize) -> bool {
        self.incidents.get(index).is_some_and(|incident| incident.kind.stops())
    }

    pub(super) fn incidents(self) -> Vec<Incident> {
        let nodes = self.nodes.into_iter().map(|nodes| nodes.into_iter().collect());
        self.incidents.into_iter().zip(nodes).map(|(incident, nodes)| Incident { nodes, ..incident }).collect()
    }
}

fn kind(event: &Event) -> Option<IncidentKind> {
    Some(match event {
        Event::Waiting { .. } => IncidentKind::Wait,
        Event::EpochBegan { .. } => IncidentKind::Change,
        Event::Ordered { order, answer, .. } => {
            let breaks = ["drain", "pause", "kill"].iter().any(|word| order.starts_with(word));
            return (breaks && !refused(answer)).then_some(IncidentKind::Order);
        }
        Event::CheckpointFailed { .. } => IncidentKind::Checkpoint,
        Event::StepSkipped { .. } => IncidentKind::Skipped,
        Event::NodeLost { .. } => IncidentKind::Loss,
        Event::Hung { .. } => IncidentKind::Hang,
        Event::CopiesDiffered { .. } | Event::NodeOdd { .. } => IncidentKind::Corruption,
        Event::StepAudited { odd, .. } if !odd.is_empty() => IncidentKind::Corruption,
        Event::Ended { outcome, .. } if outcome == "failed" || outcome == "unusable" => IncidentKind::Failure,
        Event::StepCommitted { .. }
        | Event::StepAudited { .. }
        | Event::StandsBy { .. }
        | Event::CheckpointSaved { .. }
        | Event::Evaluated { .. }
        | Event::SampleReplaced { .. }
        | Event::Ended { .. } => return None,
    })
}

/// Whether a node did not do what it was ordered.
pub(super) fn refused(answer: &str) -> bool {
    answer.to_lowercase().starts_with("refused")
}

fn cause(event: &Event) -> String {
    match event {
        Event::EpochBegan { because, .. } => because.clone(),
        // The same trouble at one step and the next is one incident: the step is not part of its name.
        Event::CheckpointFailed { because, .. } => format!("a checkpoint failed: {because}"),
        Event::StepSkipped { because, .. } => format!("steps changed no weights: {because}"),
        other => other.sentence(),
    }
}

#[cfg(test)]
mod tests;
