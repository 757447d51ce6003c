//! A step's life on the coordinator: all partial sums are in → everyone may update; all votes are
//! in → the step is stable. Anything else leaves no trace.

use std::collections::BTreeSet;

use super::ids::{Epoch, Rank, Step};

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ranks compute gradients; partial norms come in.
    Computing,
    /// The global sums went out; owners compute the new versions beside the old ones.
    Updating,
}

/// What a rank says about the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Its shards' mean gradients are there, and these are their partial sums.
    Reduced,
    /// Its shards' new versions lie beside the old ones.
    Prepared,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing yet.
    Wait,
    /// Add up all partial sums and send them to everyone.
    SendSums,
    /// The step is stable: tell everyone, go on with the next.
    Stable,
    /// The message is of another time; it changes nothing.
    Stale,
}

/// One step in flight.
#[derive(Debug, Clone)]
pub struct StepLife {
    epoch: Epoch,
    step: Step,
    ranks: u32,
    stage: Stage,
    heard: BTreeSet<Rank>,
}

impl StepLife {
    /// A step that `ranks` ranks begin to compute.
    pub fn new(epoch: Epoch, step: Step, ranks: u32) -> Self {
        Self { epoch, step, ranks, stage: Stage::Computing, heard: BTreeSet::new() }
    }
    /// The step.
    pub fn step(&self) -> Step {
        self.step
    }
    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }
    /// Ranks whose word is still missing in this stage.
    pub fn missing(&self) -> Vec<Rank> {
        (0..self.ranks).map(Rank).filter(|rank| !self.heard.contains(rank)).collect()
    }

    /// Takes a rank's word. Votes are tied to (epoch, step, stage): others are stale, and so is a second one.
    pub fn on(&mut self, rank: Rank, epoch: Epoch, step: Step, said: Said) -> Effect {
        let expected = match self.stage {
            Stage::Computing => Said::Reduced,
            Stage::Updating => Said::Prepared,
        };
        if epoch != self.epoch || step != self.step || said != expected || rank.0 >= self.ranks || !self.heard.insert(rank) {
            return Effect::Stale;
        }
        if self.heard.len() < self.ranks as usize {
            return Effect::Wait;
        }
        self.heard.clear();
        match self.stage {
            Stage::Computing => {
                self.stage = Stage::Updating;
                Effect::SendSums
            }
            Stage::Updating => {
                self.stage = Stage::Computing;
                self.step = self.step.next();
                Effect::Stable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_becomes_stable_when_all_have_prepared() {
        use Effect::{SendSums, Stable, Stale, Wait};
        use Said::{Prepared, Reduced};
        let (e, s) = (Epoch(3), Step(7));
        let table = [
            (0, e, s, Reduced, Wait),
            (0, e, s, Reduced, Stale),
            (1, e, s, Prepared, Stale),
            (1, Epoch(2), s, Reduced, Stale),
            (1, e, Step(6), Reduced, Stale),
            (2, e, s, Reduced, Stale),
            (1, e, s, Reduced, SendSums),
            (1, e, s, Reduced, Stale),
            (1, e, s, Prepared, Wait),
            (0, e, s.next(), Reduced, Stale),
            (0, e, s, Prepared, Stable),
            (0, e, s, Prepared, Stale),
            (0, e, s.next(), Reduced, Wait),
        ];
        let mut life = StepLife::new(e, s, 2);
        for (line, (rank, epoch, step, said, effect)) in table.into_iter().enumerate() {
            assert_eq!(life.on(Rank(rank), epoch, step, said), effect, "line {line}");
        }
        assert_eq!(life.missing(), [Rank(1)]);
    }
}
