//! Checkpoints that are published or not, and how a run ends: with a last one of them.

use super::*;

/// How soon a checkpoint of a state that no step follows is tried again, and how seldom after many failures.
const SAVE_AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// A checkpoint that could not be saved and is tried again, as no later one would hold what it holds.
#[derive(Debug, Clone)]
pub(super) struct Unsaved {
    step: Step,
    /// When it is tried again.
    at: Duration,
    /// Failures in a row.
    times: u32,
}

impl Coordinator {
    pub(super) fn was_saved(&mut self, step: Step, acts: &mut Vec<Act>) {
        self.saved = self.saved.max(Some(step));
        self.attempted = self.attempted.max(step);
        if self.saving == Some(step) {
            self.saving = None;
        }
        self.unsaved.take_if(|unsaved| unsaved.step <= step);
        if self.stage == Stage::Finishing(step) {
            self.finish(step, acts);
        } else if self.stage == Stage::Idle {
            self.go(acts);
            self.save_if_asked(acts);
        }
    }

    /// While steps follow, the next checkpoint is due soon. Where none does, the members hold what nothing else holds: they wait
    /// until it can be saved.
    pub(super) fn save_failed(&mut self, now: Duration, step: Step, because: String, acts: &mut Vec<Act>) {
        if self.saving == Some(step) {
            self.saving = None;
        }
        let waiting = match self.stage {
            Stage::Finishing(last) if last == step => format!(
                "the last checkpoint, after step {}, cannot be saved: {because}; it is tried again until it is \
                 (`everstep stop --now --yes` ends the run without it)",
                step.0
            ),
            Stage::Idle if self.is_short() && self.begun.as_ref().is_some_and(|(_, version)| version.step == step) => {
                format!("{}; the state after {} steps is kept twice, but cannot be saved: {because}", self.ranks_there(), step.0)
            }
            _ => return,
        };
        let times = self.unsaved.take().map_or(0, |before| before.times);
        let [soon, seldom] = SAVE_AGAIN;
        let at = now + (soon * 2u32.saturating_pow(times)).min(seldom);
        self.unsaved = Some(Unsaved { step, at, times: times + 1 });
        acts.push(Act::WakeAt(at));
        self.wait(&waiting, acts);
    }

    /// Tries again what could not be saved.
    pub(super) fn save_again(&mut self, now: Duration, acts: &mut Vec<Act>) {
        let Some(Unsaved { step, .. }) = self.unsaved.as_ref().filter(|unsaved| self.saving.is_none() && now >= unsaved.at) else { return };
        let step = *step;
        // Else steps follow again.
        if self.stage != Stage::Finishing(step) && !(self.stage == Stage::Idle && self.is_short()) {
            return self.unsaved = None;
        }
        self.saving = Some(step);
        acts.push(Act::Save(self.record.epoch, step));
    }

    pub(super) fn give_up(&mut self, acts: &mut Vec<Act>) {
        let newest = match self.saved {
            Some(step) => format!("the newest checkpoint that is known is the one after step {}", step.0),
            None => "no checkpoint is known".into(),
        };
        self.over(Outcome::Stopped, format!("ended by an operator without a last checkpoint; {newest}"), acts);
    }

    pub(super) fn finish(&mut self, step: Step, acts: &mut Vec<Act>) {
        let (outcome, because) = match &self.stop {
            Some(_) if step == Step(0) => (Outcome::Stopped, "stopped before the first step".into()),
            Some(because) if self.spoiled => (Outcome::Unusable, because.clone()),
            Some(because) if step < self.rules.steps => {
                (Outcome::Stopped, format!("{because}; the checkpoint after {} steps holds everything", step.0))
            }
            _ => (Outcome::Done, format!("all {} steps are done and saved", self.rules.steps.0)),
        };
        self.over(outcome, because, acts);
    }

    pub(super) fn stop(&mut self, because: String, acts: &mut Vec<Act>) {
        if self.stop.is_some() {
            return;
        }
        acts.push(Act::Note(Note::Waiting(format!("stopping after this step and a checkpoint: {because}"))));
        self.stop = Some(because);
        match (&self.stage, &self.begun) {
            (Stage::Stepping(_) | Stage::Finishing(_), _) => {}
            // Nothing was computed since the state that the store has.
            (_, None) => self.over(Outcome::Stopped, "stopped before the first step".into(), acts),
            (Stage::Idle, Some((_, version))) => self.save_last(version.step, acts),
            _ => {}
        }
    }

    /// Nothing is computed: a checkpoint that was asked for meanwhile is taken now.
    pub(super) fn save_if_asked(&mut self, acts: &mut Vec<Act>) {
        if self.stage == Stage::Idle && std::mem::take(&mut self.save_now) {
            self.save_as_asked(acts);
        }
    }

    /// A checkpoint that an operator asks for: at the next step's end, or now where none is being computed.
    pub(super) fn save_as_asked(&mut self, acts: &mut Vec<Act>) {
        match (&self.stage, &self.begun) {
            (Stage::Idle, Some((_, version))) if self.saving.is_none() && self.saved != Some(version.step) => {
                let step = version.step;
                (self.saving, self.attempted) = (Some(step), step);
                acts.push(Act::Save(self.record.epoch, step));
            }
            (Stage::Idle, Some((_, version))) if self.saved == Some(version.step) => {}
            _ => self.save_now = true,
        }
    }

    /// Writes the last checkpoint of a state that no step will follow.
    pub(super) fn save_last(&mut self, step: Step, acts: &mut Vec<Act>) {
        if self.saved == Some(step) {
            return self.finish(step, acts);
        }
        self.stage = Stage::Finishing(step);
        if self.saving != Some(step) {
            self.saving = Some(step);
            acts.push(Act::Save(self.record.epoch, step));
        }
    }

    pub(super) fn over(&mut self, outcome: Outcome, because: String, acts: &mut Vec<Act>) {
        self.stage = Stage::Over;
        for node in self.roster.keys().filter(|node| **node != self.me) {
            acts.push(Act::Send(*node, Word::Bye { outcome, because: because.clone() }));
        }
        acts.push(Act::Over(outcome, because));
    }
}
