//! A step's life on the coordinator: all partial sums are in → everyone may update; all votes are
//! in and the copies of every shard agree → the step is stable. Anything else leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{Epoch, Rank, ShardId, Step};

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ranks compute gradients; partial norms come in.
    Computing,
    /// The global sums went out; owners and replicas compute the new versions beside the old ones.
    Updating,
}

/// What a rank says about the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Its shards' mean gradients are there, and their partial sums were sent with this.
    Reduced,
    /// Its shards' new versions lie beside the old ones; their digests.
    Prepared(Vec<(ShardId, u64)>),
}

/// Copies of a shard that should be equal and are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Which shard.
    pub shard: ShardId,
    /// What each rank computed.
    pub digests: Vec<(Rank, u64)>,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing yet.
    Wait,
    /// Add up all partial sums and send them to everyone.
    SendSums,
    /// The step is stable: tell everyone, go on with the next.
    Stable,
    /// All have voted and copies of these shards differ: the step must not become stable.
    Disagree(Vec<Disagreement>),
    /// The message is of another time; it changes nothing.
    Stale,
}

/// One step in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLife {
    epoch: Epoch,
    step: Step,
    ranks: u32,
    stage: Stage,
    heard: BTreeSet<Rank>,
    digests: BTreeMap<ShardId, Vec<(Rank, u64)>>,
    agreed: BTreeMap<ShardId, u64>,
}

impl StepLife {
    /// A step that `ranks` ranks begin to compute.
    pub fn new(epoch: Epoch, step: Step, ranks: u32) -> Self {
        Self { epoch, step, ranks, stage: Stage::Computing, heard: BTreeSet::new(), digests: BTreeMap::new(), agreed: BTreeMap::new() }
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

    /// The digests of the step that became stable last.
    pub fn agreed(&self) -> &BTreeMap<ShardId, u64> {
        &self.agreed
    }

    /// Takes a rank's word. Votes are tied to (epoch, step, stage): others are stale, and so is a second one.
    pub fn on(&mut self, rank: Rank, epoch: Epoch, step: Step, said: Said) -> Effect {
        let due = matches!((self.stage, &said), (Stage::Computing, Said::Reduced) | (Stage::Updating, Said::Prepared(_)));
        if epoch != self.epoch || step != self.step || !due || rank.0 >= self.ranks || !self.heard.insert(rank) {
            return Effect::Stale;
        }
        if let Said::Prepared(digests) = said {
            digests.into_iter().for_each(|(shard, digest)| self.digests.entry(shard).or_default().push((rank, digest)));
        }
        if self.heard.len() < self.ranks as usize {
            return Effect::Wait;
        }
        self.heard.clear();
        if self.stage == Stage::Computing {
            self.stage = Stage::Updating;
            return Effect::SendSums;
        }
        let agreed = self.digests.iter().filter_map(|(shard, copies)| Some((*shard, copies.first()?.1)));
        self.agreed = agreed.collect();
        let differs = |copies: &[(Rank, u64)]| copies.windows(2).any(|pair| pair[0].1 != pair[1].1);
        let digests = std::mem::take(&mut self.digests).into_iter().filter(|(_, copies)| differs(copies));
        let disagreements: Vec<_> = digests.map(|(shard, digests)| Disagreement { shard, digests }).collect();
        if !disagreements.is_empty() {
            return Effect::Disagree(disagreements);
        }
        self.stage = Stage::Computing;
        self.step = self.step.next();
        Effect::Stable
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::UnitId;
    use super::*;

    #[test]
    fn a_step_becomes_stable_when_all_have_prepared() {
        use Effect::{SendSums, Stable, Stale, Wait};
        use Said::Reduced;
        let (e, s) = (Epoch(3), Step(7));
        let prepared = || Said::Prepared(Vec::new());
        let table = [
            (0, e, s, Reduced, Wait),
            (0, e, s, Reduced, Stale),
            (1, e, s, prepared(), Stale),
            (1, Epoch(2), s, Reduced, Stale),
            (1, e, Step(6), Reduced, Stale),
            (2, e, s, Reduced, Stale),
            (1, e, s, Reduced, SendSums),
            (1, e, s, Reduced, Stale),
            (1, e, s, prepared(), Wait),
            (0, e, s.next(), Reduced, Stale),
            (0, e, s.next(), prepared(), Stale),
            (0, e, s, prepared(), Stable),
            (0, e, s, prepared(), Stale),
            (0, e, s.next(), Reduced, Wait),
        ];
        let mut life = StepLife::new(e, s, 2);
        for (line, (rank, epoch, step, said, effect)) in table.into_iter().enumerate() {
            assert_eq!(life.on(Rank(rank), epoch, step, said), effect, "line {line}");
        }
        assert_eq!(life.missing(), [Rank(1)]);
    }

    #[test]
    fn copies_that_differ_keep_a_step_from_becoming_stable() {
        let (e, s) = (Epoch(3), Step(7));
        let shard = |index| ShardId { unit: UnitId(0), index };
        let mut life = StepLife::new(e, s, 2);
        for rank in [0, 1] {
            life.on(Rank(rank), e, s, Said::Reduced);
        }
        assert_eq!(life.on(Rank(0), e, s, Said::Prepared(vec![(shard(0), 1), (shard(1), 2)])), Effect::Wait);
        let odd = Disagreement { shard: shard(1), digests: vec![(Rank(0), 2), (Rank(1), 3)] };
        assert_eq!(life.on(Rank(1), e, s, Said::Prepared(vec![(shard(0), 1), (shard(1), 3)])), Effect::Disagree(vec![odd]));
    }
}
