//! How an epoch begins: created, opened, reported to, planned, ready, gone.

use super::*;
use crate::protocol::plan::{self, Site};
use crate::protocol::recovery::{Covered, newest_covered};
use crate::protocol::word::{Beginning, Move};

/// How long no change of members is tried after the store was found away.
const FREEZE: Duration = Duration::from_secs(5);
/// How long a start waits for its ranks before it goes on with fewer.
const START_MAX: Duration = Duration::from_secs(20);

impl Coordinator {
    pub(super) fn created(&mut self, now: Duration, creation: Creation, acts: &mut Vec<Act>) {
        let whole = self.roster_is_whole();
        let Stage::Creating { record, between, retry_at, lost } = &mut self.stage else { return };
        match creation {
            // Nothing was lost: training goes on as it is, and the same number is asked for again later.
            Creation::Unknown(because) if *between && lost.is_none() && self.begun.is_some() && whole => {
                let Stage::Creating { record, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
                self.unresolved = Some(record);
                self.frozen_until = now + FREEZE;
                acts.push(Act::WakeAt(self.frozen_until));
                acts.push(Act::Note(Note::Waiting(format!("the store is away, membership is frozen: {because}"))));
                self.go(acts);
            }
            Creation::Unknown(because) => {
                *retry_at = Some(now + RETRY);
                acts.push(Act::WakeAt(now + RETRY));
                self.wait(&format!("the store is away, membership is frozen: {because}"), acts);
            }
            Creation::Taken => {
                // Members that hear this node and not the new leader would wait here for ever.
                self.resign("another node was first to create the next epoch".into(), acts);
            }
            Creation::Mine => {
                let lost = lost.take();
                self.record = record.clone();
                self.begun = None;
                self.uneven = false;
                // Parts of a checkpoint that was under way may have gone with their writer: it is due again.
                self.unsaved = None;
                if let Some(step) = self.saving.take() {
                    self.attempted = Step(step.0.saturating_sub(1));
                }
                self.open(acts);
                if let Some(because) = lost {
                    self.at_once(now, because, acts);
                }
            }
        }
    }

    fn roster_is_whole(&self) -> bool {
        self.record.members.iter().all(|member| self.roster.contains_key(&member.node))
    }

    pub(super) fn open(&mut self, acts: &mut Vec<Act>) {
        self.stage = Stage::Reporting(BTreeMap::new());
        let rehash = std::mem::take(&mut self.rehash);
        let record = Arc::new(self.record.clone());
        acts.extend(record.everyone().map(|member| Act::Send(member.node, Word::Open { record: record.clone(), rehash })));
    }

    pub(super) fn reported(&mut self, now: Duration, from: NodeId, mut held: Vec<Held>, acts: &mut Vec<Act>) {
        held.retain(|copy| !self.rejected.contains(&copy.version));
        let Stage::Reporting(holdings) = &mut self.stage else { return };
        if !self.record.includes(from) {
            return;
        }
        holdings.insert(from, held);
        if holdings.len() < self.record.everyone().count() {
            return;
        }
        let holdings = std::mem::take(holdings);
        let nothing = holdings.values().all(Vec::is_empty);
        if self.settle.is_some() {
            self.run_short(acts);
            acts.extend(self.settle.map(Act::WakeAt));
        } else if let Some(covered) = newest_covered(&self.shard_ids, &holdings) {
            self.go_on_from(now, covered, acts);
        } else if nothing && !self.enough(now) {
            self.stage = Stage::Idle;
            let missing = self.rules.ranks_start.max(self.rules.ranks_min).saturating_sub(self.record.members.len() as u32);
            self.wait(&format!("waiting for {missing} more of {} ranks", self.rules.ranks_start.max(self.rules.ranks_min)), acts);
            acts.push(Act::WakeAt(self.since + START_MAX));
            // A run whose steps are all done needs no ranks.
            acts.push(Act::LookForCheckpoint);
        } else if (nothing && self.fallback) || (self.unheard() == 0 && self.nobody_left(now)) {
            self.stage = Stage::Looking;
            acts.push(Act::LookForCheckpoint);
        } else if self.unheard() > 0 {
            self.next_epoch("nodes that may hold copies have come".into(), acts);
        } else {
            self.run_short(acts);
        }
    }

    /// Copies of every shard are there. They may be those of a node that was away for long: whoever is out of sight, and the store,
    /// may have newer ones.
    fn go_on_from(&mut self, now: Duration, covered: Covered, acts: &mut Vec<Act>) {
        if self.known.is_some_and(|known| covered.version.step >= known) {
            self.begin(covered.version, Origin::Copies, Some(&covered), acts);
        } else if self.known.is_none() || self.nobody_left(now) {
            self.candidate = Some(covered);
            self.stage = Stage::Looking;
            acts.push(Act::LookForCheckpoint);
        } else if self.unheard() > 0 {
            self.next_epoch("nodes that may hold newer copies have come".into(), acts);
        } else {
            self.run_short(acts);
        }
    }

    /// Whether there are as many ranks as a start wants. A run that goes on, or has waited long enough, does with fewer.
    pub(super) fn enough(&self, now: Duration) -> bool {
        let there = self.roster.values().filter(|seat| seat.leaving.is_none()).count() as u32;
        let goes_on = self.known.is_some() || now >= self.since + START_MAX;
        there >= self.rules.ranks_start.max(self.rules.ranks_min) || (there >= self.rules.ranks_min && goes_on)
    }

    pub(super) fn found(&mut self, step: Option<Step>, acts: &mut Vec<Act>) {
        if let (Stage::Idle, None, Some(step)) = (&self.stage, &self.begun, step.filter(|step| *step >= self.rules.steps)) {
            return self.finish(step, acts);
        }
        if self.stage != Stage::Looking {
            return;
        }
        self.saved = step;
        self.attempted = step.unwrap_or_default();
        if let Some(covered) = self.candidate.take().filter(|covered| Some(covered.version.step) >= step) {
            return self.begin(covered.version, Origin::Copies, Some(&covered), acts);
        }
        let origin = step.map_or(Origin::Seed, |step| Origin::Checkpoint { step });
        self.begin(Version { step: step.unwrap_or_default(), epoch: Epoch(0) }, origin, None, acts);
    }

    fn begin(&mut self, version: Version, origin: Origin, covered: Option<&Covered>, acts: &mut Vec<Act>) {
        let everyone: Vec<NodeId> = self.record.everyone().map(|member| member.node).collect();
        let number = |node: &NodeId| everyone.iter().position(|other| other == node).map(|at| at as u32);
        // Everyone's number; those below the count of members are ranks.
        let holders: BTreeMap<ShardId, (u64, Vec<u32>)> = covered
            .into_iter()
            .flat_map(|covered| &covered.holders)
            .map(|(shard, (digest, nodes))| (*shard, (*digest, nodes.iter().filter_map(number).collect())))
            .collect();
        let ranks = self.record.members.len() as u32;
        let held = holders.iter().map(|(shard, (_, numbers))| (*shard, numbers.iter().filter(|n| **n < ranks).map(|n| Rank(*n)).collect()));
        let sites: Vec<Site> = self.record.members.iter().map(|member| self.site(member)).collect();
        let mut plan = plan::plan(&sites, self.rules.lanes, self.rules.replicas, &self.rules.shards, &held.collect());
        self.add_judges(&mut plan);
        self.turn_lanes(&mut plan);
        let (moves, moved) = self.moves(&plan, &holders);
        acts.push(Act::Note(Note::Begun { origin, version, moved }));
        self.attempted = self.attempted.max(Step(version.step.0.saturating_sub(1)));
        let plan = Arc::new(plan);
        self.begun = Some((plan.clone(), version));
        self.known = Some(version.step);
        self.candidate = None;
        self.stage = Stage::Moving(BTreeSet::new());
        let beginning = Box::new(Beginning { version, origin, plan, moves });
        let epoch = self.record.epoch;
        acts.extend(everyone.iter().map(|node| Act::Send(*node, Word::Begin { epoch, beginning: beginning.clone() })));
    }

    fn site(&self, member: &Member) -> Site {
        let speed = self.speeds.get(&member.node).copied().unwrap_or(100);
        Site { host: member.host.clone(), zone: member.zone.clone(), speed }
    }

    /// Copies that the plan wants where none are, each from the holder that has given least so far.
    fn moves(&self, plan: &Plan, holders: &BTreeMap<ShardId, (u64, Vec<u32>)>) -> (Vec<Move>, u64) {
        let mut given: BTreeMap<u32, usize> = BTreeMap::new();
        let (mut moves, mut moved) = (Vec::new(), 0);
        for (place, shard) in plan.places.iter().zip(self.rules.shards.iter()) {
            let Some((digest, numbers)) = holders.get(&place.shard) else { continue };
            for rank in place.copies().filter(|rank| !numbers.contains(&rank.0)) {
                let Some(from) = numbers.iter().copied().min_by_key(|number| (given.get(number).copied().unwrap_or(0), *number)) else {
                    continue;
                };
                *given.entry(from).or_default() += shard.range.len();
                moved += shard.range.len() as u64;
                moves.push(Move { shard: place.shard, from, to: rank.0, digest: *digest });
            }
        }
        (moves, moved)
    }

    pub(super) fn ready(&mut self, from: NodeId, acts: &mut Vec<Act>) {
        let Some(rank) = self.record.rank_of(from) else { return };
        let Stage::Moving(ready) = &mut self.stage else { return };
        ready.insert(rank);
        if ready.len() == self.record.members.len() {
            self.stage = Stage::Idle;
            self.led = true;
            let members = self.record.members.iter().map(|member| member.node).collect();
            self.placed.extend(self.begun.as_ref().map(|(plan, _)| (plan.clone(), members)));
            self.go(acts);
        }
    }

    /// Whether fewer ranks are there than steps need.
    pub(super) fn is_short(&self) -> bool {
        (self.record.members.len() as u32) < self.rules.ranks_min
    }

    pub(super) fn ranks_there(&self) -> String {
        format!("{} of at least {} ranks are there", self.record.members.len(), self.rules.ranks_min)
    }

    /// Shards are placed: runs steps, or says why not.
    pub(super) fn go(&mut self, acts: &mut Vec<Act>) {
        let Some((_, version)) = self.begun else { return };
        let step = version.step;
        if step >= self.rules.steps || self.stop.is_some() {
            let saved = version.epoch == Epoch(0);
            // No step will say so: all members hold what the plan gives them.
            self.dismiss(acts);
            return if saved { self.finish(step, acts) } else { self.save_last(step, acts) };
        }
        if self.is_short() {
            self.dismiss(acts);
            if self.unsaved.is_some() {
                return;
            }
            if self.saved.is_none_or(|saved| saved < step) && self.saving.is_none() {
                self.saving = Some(step);
                acts.push(Act::Save(self.record.epoch, step));
            }
            return self.wait(&format!("{}; the state after {} steps is kept twice and saved", self.ranks_there(), step.0), acts);
        }
        if self.paused {
            self.wait("paused by an operator", acts);
            return self.save_if_asked(acts);
        }
        self.waiting = None;
        let epoch = self.record.epoch;
        self.stage = Stage::Stepping(StepLife::new(epoch, step, self.record.members.len() as u32));
        acts.extend(self.record.members.iter().map(|member| Act::Send(member.node, Word::Go { epoch, step })));
    }
}
