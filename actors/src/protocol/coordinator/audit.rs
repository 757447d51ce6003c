//! Steps whose result is not believed at once: audits, in which every lane is computed again by another node, and bad steps.

use super::*;
use crate::protocol::audit::{Call, Computation, outvoted};
use crate::protocol::ids::Lane;

/// What is done about results that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Care {
    /// Every so many steps one is computed twice, each lane by another node the second time; 0 for never.
    pub audit_every: u64,
    /// What becomes of a step whose gradients are not finite, or whose loss is beyond a bound.
    pub on_bad_step: OnBadStep,
    /// So many bad steps in a row end the run.
    pub bad_steps_max: u32,
}

/// What becomes of a bad step. It never changes weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadStep {
    /// All ranks skip its update.
    Skip,
    /// The run goes back to the version before it and computes it again, each lane on another node; it is skipped only if it
    /// comes out the same.
    Recheck,
    /// The run ends after a checkpoint of the version before it.
    Stop,
}

impl Default for Care {
    fn default() -> Self {
        Self { audit_every: 0, on_bad_step: OnBadStep::Skip, bad_steps_max: 20 }
    }
}

impl Care {
    /// Whether the step is one of those that are computed twice.
    pub fn audits(&self, step: Step) -> bool {
        self.audit_every > 0 && step.0 > 0 && step.0.is_multiple_of(self.audit_every)
    }
}

/// A step that is being computed more than once.
#[derive(Debug, Clone)]
pub(super) struct Audit {
    step: Step,
    done: Vec<Computation>,
    /// Computations in all, those too that count no more because of who took part.
    times: u32,
    odd: BTreeSet<NodeId>,
}

/// A bad step, and how many before it were bad.
#[derive(Debug, Clone, Default)]
pub(super) struct Bad {
    step: Option<(Step, String)>,
    row: u32,
}

impl Coordinator {
    /// Calls of lanes in the step in flight.
    pub(super) fn traced(&mut self, epoch: Epoch, step: Step, lanes: Vec<(u32, Vec<Call>)>) {
        if epoch == self.record.epoch && self.step() == Some(step) {
            self.traces.extend(lanes);
        }
    }

    pub(super) fn is_bad(&mut self, epoch: Epoch, step: Step, because: String) {
        if epoch == self.record.epoch && self.step() == Some(step) {
            self.bad.step = Some((step, because));
        }
    }

    /// All agree on a step. Whether it is computed again before it counts.
    pub(super) fn computes_again(&mut self, now: Duration, step: Step, acts: &mut Vec<Act>) -> bool {
        let traces = std::mem::take(&mut self.traces);
        let bad = self.bad.step.as_ref().is_some_and(|(at, _)| *at == step);
        let begun = self.audit.as_ref().is_some_and(|audit| audit.step == step);
        let due = begun || self.rules.care.audits(step) || (bad && self.rules.care.on_bad_step == OnBadStep::Recheck);
        let Stage::Stepping(life) = &self.stage else { return false };
        if !due || self.record.members.len() < 2 {
            self.audit = None;
            return false;
        }
        let computation = Computation { lanes: self.lanes(), digests: life.agreed().clone(), traces };
        let mut audit = self.audit.take().filter(|audit| audit.step == step).unwrap_or(Audit {
            step,
            done: Vec::new(),
            times: 0,
            odd: BTreeSet::new(),
        });
        audit.times += 1;
        if audit.done.iter().any(|earlier| computation.confirms(earlier)) {
            let wrong = audit.done.iter().filter(|earlier| earlier.digests != computation.digests);
            self.convicted = wrong.flat_map(|wrong| wrong.odd(&computation)).collect();
            let odd = self.convicted.union(&audit.odd).copied().collect();
            acts.push(Act::Note(Note::Audited { step, computations: audit.times, odd }));
            return false;
        }
        audit.done.push(computation);
        self.bad.step = None;
        let outvoted = outvoted(&audit.done);
        if !outvoted.is_empty() {
            // Nothing in which they took part is evidence any more.
            audit.done.clear();
            audit.odd.extend(&outvoted);
            self.audit = Some(audit);
            self.convicted = outvoted;
            self.reject_next(acts);
            self.put_out_convicted(now, acts);
            return true;
        }
        let (first, times) = (&audit.done[0].digests, audit.done.len());
        let differ = audit.done.iter().any(|computation| computation.digests != *first);
        if times >= self.rules.attempts as usize && differ {
            let because = format!(
                "step {} came out differently {times} times, and no two machines agree on it: have the machines of {} checked",
                step.0,
                self.record.members.iter().map(|member| self.record.name(member.node)).collect::<Vec<_>>().join(", ")
            );
            self.over(Outcome::Lost, because, acts);
            return true;
        }
        if times >= self.rules.attempts as usize {
            // The same every time, though members changed so that some lane was always with the same node.
            return false;
        }
        let why = if bad {
            "it looks bad"
        } else if differ {
            "its results differ"
        } else {
            "audit"
        };
        self.audit = Some(audit);
        self.reject_next(acts);
        self.next_epoch(format!("step {} is computed again with its lanes on other ranks: {why}", step.0), acts);
        true
    }

    /// Who computes each lane in this epoch.
    fn lanes(&self) -> Vec<NodeId> {
        let plan = self.begun.iter().map(|(plan, _)| plan);
        let of = plan.flat_map(|plan| (0..self.rules.lanes).filter_map(|lane| plan.rank_of(Lane(lane))));
        of.filter_map(|rank| self.record.members.get(rank.0 as usize)).map(|member| member.node).collect()
    }

    /// In a step that is computed again each lane goes to another rank than before.
    pub(super) fn turn_lanes(&self, plan: &mut Plan) {
        if let Some(audit) = &self.audit {
            let ranks = plan.lanes.len().max(1);
            plan.lanes.rotate_right(audit.times as usize % ranks);
        }
    }

    /// A step counts from now on: was it bad, and are there too many of them?
    pub(super) fn count_bad(&mut self, step: Step, acts: &mut Vec<Act>) {
        let Some((_, because)) = self.bad.step.take().filter(|(at, _)| *at == step) else {
            self.bad.row = 0;
            return;
        };
        self.bad.row += 1;
        acts.push(Act::Note(Note::Skipped(step, because.clone())));
        let care = &self.rules.care;
        if self.stop.is_none() && (care.on_bad_step == OnBadStep::Stop || self.bad.row >= care.bad_steps_max) {
            let row = self.bad.row;
            let remedy = "look at the images and the learning rate, and go on with `everstep fork` from an earlier step";
            self.stop = Some(format!("{row} steps in a row were bad, the last one because {because}; {remedy}"));
            self.spoiled = true;
        }
    }

    /// Who computed the step wrongly is put out now that it counts.
    pub(super) fn put_out_convicted(&mut self, now: Duration, acts: &mut Vec<Act>) {
        for node in std::mem::take(&mut self.convicted) {
            acts.push(Act::Note(Note::Odd(node, "two others computed its lanes alike, and it otherwise".into())));
            self.put_out(now, node, "it computed a lane wrongly: have the machine checked".into(), acts);
        }
    }

    /// The version that the step in flight would have made is never gone on from: by nobody.
    pub(super) fn reject_next(&mut self, acts: &mut Vec<Act>) {
        if let Some((_, version)) = &self.begun {
            let (epoch, version) = (self.record.epoch, Version { step: version.step.next(), epoch: self.record.epoch });
            self.rejected.insert(version);
            // The next leader may be another one, and may see only one of the copies.
            acts.extend(self.record.members.iter().map(|member| Act::Send(member.node, Word::Reject { epoch, version })));
        }
    }
}
