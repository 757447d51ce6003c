//! What was at a moment, and what happened around it, from durable events alone: it is answerable after everything has died.

use std::collections::BTreeSet;

use everstep_actors::event::{Event, MemberInfo};
use everstep_actors::protocol::ids::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::incidents::{self, Incident};
use super::layout::{WIDTH, count, fit, named, table};
use super::moment::utc;
use super::story::{Story, Told};
use super::telling;
use crate::report::duration;

/// Members that are told one by one to people.
const MEMBERS_MAX: usize = 12;

/// What `everstep history --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The version of this schema.
    pub schema_version: u32,
    /// The run at the moment that was asked for.
    pub at: Option<Then>,
    /// The incidents that were asked for; absent where only a moment was.
    pub incidents: Option<Vec<Incident>>,
}

/// A run at a moment of the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Then {
    /// The version of this schema.
    pub schema_version: u32,
    /// The moment, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `unknown` before the first event, else `starting`, `training`, `waiting`, `paused` or `ended`.
    pub state: String,
    /// The epoch, 0 before the first.
    pub epoch: u64,
    /// Why it began.
    pub epoch_because: String,
    /// Reference of the leader's node.
    pub leader: String,
    /// Who computed.
    pub members: Vec<Member>,
    /// Steps committed.
    pub step: u64,
    /// The loss of the last of them.
    pub loss: Option<f64>,
    /// When it was committed.
    pub step_ms: Option<u64>,
    /// Why nothing was computed.
    pub waiting: Option<String>,
    /// The newest checkpoint's step.
    pub checkpoint: Option<u64>,
    /// When it was saved.
    pub checkpoint_ms: Option<u64>,
    /// The incident that was going on.
    pub incident: Option<Incident>,
    /// What happened around the moment, oldest first: events with their fields.
    pub around: Vec<Value>,
    #[serde(skip)]
    alive: BTreeSet<NodeId>,
    #[serde(skip)]
    lines: Vec<String>,
    #[serde(skip)]
    around_ms: u64,
}

/// A member of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its rank.
    pub rank: u32,
    /// Reference of its node.
    pub node: String,
    /// Its host.
    pub host: String,
}

/// The run at a moment, with what happened within `around_ms` of it.
pub fn at(story: &Story, at_ms: u64, around_ms: u64) -> Then {
    let mut then = Then {
        schema_version: super::SCHEMA_VERSION,
        at_ms,
        state: "unknown".into(),
        epoch: 0,
        epoch_because: String::new(),
        leader: String::new(),
        members: Vec::new(),
        step: 0,
        loss: None,
        step_ms: None,
        waiting: None,
        checkpoint: None,
        checkpoint_ms: None,
        incident: None,
        around: Vec::new(),
        alive: BTreeSet::new(),
        lines: Vec::new(),
        around_ms,
    };
    story.events().take_while(|told| told.at_ms() <= at_ms).for_each(|told| then.after(told));
    let ongoing = |incident: &Incident| incident.start_ms <= at_ms && incident.end_ms.is_none_or(|end| end > at_ms);
    then.incident = incidents::of(story).into_iter().rfind(ongoing);
    let (from, to) = (at_ms.saturating_sub(around_ms), at_ms.saturating_add(around_ms));
    let near = || story.events().filter(|told| (from..=to).contains(&told.at_ms()));
    then.around = near().map(|told| telling::json(&told.recorded)).collect();
    then.lines = telling::stretch(near());
    then
}

impl Then {
    fn after(&mut self, told: &Told) {
        let recorded = &told.recorded;
        match told.event() {
            Event::EpochBegan { epoch, step, leader, members, because, .. } => {
                (self.epoch, self.step) = (epoch.0, step.0);
                (self.leader, self.epoch_because) = (format!("node/{leader}"), because.clone());
                let member =
                    |member: &MemberInfo| Member { rank: member.rank, node: format!("node/{}", member.node), host: member.host.clone() };
                self.members = members.iter().map(member).collect();
                self.alive = members.iter().map(|member| member.node).collect();
                self.is("starting", Some("members connect and load their shards"));
            }
            Event::StepCommitted { step, epoch, metrics, .. } => {
                (self.step, self.epoch, self.step_ms) = (step.0 + 1, epoch.0, Some(recorded.at_ms));
                self.loss = metrics.get(crate::report::names::LOSS).copied();
                // The step in flight is committed also after the order to pause.
                if self.state != "paused" {
                    self.is("training", None);
                }
            }
            // A node that is not in waits until it is let in: the run does not.
            Event::Waiting { .. } if !self.alive.is_empty() && told.tellers.iter().all(|(teller, _)| !self.alive.contains(teller)) => {}
            Event::Waiting { because } if self.state == "paused" => self.waiting = Some(because.clone()),
            Event::Waiting { because } => self.is("waiting", Some(because)),
            Event::NodeLost { node, rank, .. } => {
                self.alive.remove(node);
                if rank.is_some() {
                    self.is("waiting", Some(&recorded.event.sentence()));
                }
            }
            Event::Ordered { answer, .. } if incidents::refused(answer) => {}
            Event::Ordered { order, .. } if order.starts_with("pause") => self.is("paused", Some(&recorded.event.sentence())),
            Event::Ordered { order, .. } if order.starts_with("resume") => self.is("waiting", Some("resumed")),
            Event::CheckpointSaved { step, .. } => (self.checkpoint, self.checkpoint_ms) = (Some(step.0), Some(recorded.at_ms)),
            Event::Ended { outcome, because, .. } => {
                self.alive.retain(|node| told.tellers.iter().all(|(teller, _)| teller != node));
                if matches!(outcome.as_str(), "done" | "stopped") || self.alive.is_empty() && outcome != "left" {
                    self.is("ended", Some(&format!("{outcome}: {because}")));
                }
            }
            _ => {}
        }
        if self.state == "unknown" {
            "starting".clone_into(&mut self.state);
        }
    }

    fn is(&mut self, state: &str, waiting: Option<&str>) {
        state.clone_into(&mut self.state);
        self.waiting = waiting.map(str::to_owned);
    }

    /// For people.
    pub fn text(&self) -> Vec<String> {
        let ago = |at_ms: Option<u64>| {
            at_ms.map(|at| format!(", {} before", duration(self.at_ms.saturating_sub(at) as f64 / 1e3))).unwrap_or_default()
        };
        let mut facts = vec![("at", utc(self.at_ms)), ("state", self.state.clone())];
        facts.extend(self.waiting.clone().map(|because| ("because", because)));
        if self.state != "unknown" {
            facts.push(("step", format!("{} committed{}", self.step, ago(self.step_ms))));
        }
        facts.extend(self.loss.map(|loss| ("loss", format!("{loss:.4}"))));
        if self.epoch > 0 {
            facts.push(("epoch", format!("{}: {}", self.epoch, self.epoch_because)));
            facts.push(("leader", self.leader.clone()));
            let told = |member: &Member| format!("r{} {} {}", member.rank, member.node.trim_start_matches("node/"), member.host);
            let mut members: Vec<String> = self.members.iter().take(MEMBERS_MAX).map(told).collect();
            members.extend((self.members.len() > MEMBERS_MAX).then(|| format!("and {} more", self.members.len() - MEMBERS_MAX)));
            facts.push(("members", format!("{}: {}", count(self.members.len() as u64, "rank"), members.join(", "))));
        }
        facts.push((
            "checkpoint",
            self.checkpoint.map_or_else(|| "none yet".into(), |step| format!("step {step}{}", ago(self.checkpoint_ms))),
        ));
        facts.extend(
            self.incident
                .as_ref()
                .map(|incident| ("incident", format!("{} ({}): {}", incident.number, incident.kind.name(), incident.cause))),
        );
        let mut lines: Vec<String> = facts.iter().flat_map(|(name, text)| named(name, text, 11)).collect();
        lines.push(String::new());
        lines.push(format!("within {} of it:", duration(self.around_ms as f64 / 1e3)));
        lines.extend(self.lines.iter().cloned());
        if self.lines.is_empty() {
            lines.push("nothing happened".into());
        }
        lines
    }
}

/// The incidents of a run in a table, oldest first; nothing if there are none.
pub fn timeline(incidents: &[Incident]) -> Vec<String> {
    if incidents.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["NO", "BEGAN", "KIND", "STALLED", "REDONE", "CAUSE"].map(str::to_owned)];
    rows.extend(incidents.iter().map(|incident| {
        let so_far = if incident.end_ms.is_none() { " so far" } else { "" };
        [
            incident.number.to_string(),
            utc(incident.start_ms),
            incident.kind.name().to_owned(),
            format!("{}{so_far}", duration(incident.stalled_s)),
            incident.steps_redone.to_string(),
            incident.cause.clone(),
        ]
    }));
    table(&rows, Some(WIDTH)).into_iter().map(|line| fit(&line, WIDTH)).collect()
}

#[cfg(test)]
mod tests;
