//! The model of a rank: it reports, fetches, computes, votes, and keeps its copies by the rules of the shelf.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everstep_actors::protocol::ids::{Epoch, Rank, ShardId, Step, Version};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::protocol::shelf::Shelf;
use everstep_actors::protocol::word::{Beginning, Held, Origin, Outcome, Word};

use super::Bug;
use super::content;
use super::dice::up_to;
use super::event::{Ask, Event, Said, who_of};
use super::node::{Ledger, RankModel, Work};
use super::world::World;
use crate::history::{Happening, Who};

/// Steps that ended without a word and are remembered.
const UNSAID: usize = 64;
const MS: Duration = Duration::from_millis(1);

/// Who used which samples, the first and one past the last.
pub(super) type Used = Vec<(Who, u64, u64)>;

/// The gradients of one step in one epoch.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The sum of the weights that ranks gathered.
    weights: u64,
    members: Vec<Who>,
    sums: BTreeMap<Who, u64>,
    pub(super) used: Used,
}

impl World<'_> {
    // ---- an epoch begins ----------------------------------------------------------------------

    pub(super) fn enter(&mut self, me: Who, record: &EpochRecord, rehash: bool) {
        let node = &mut self.nodes[me as usize];
        let epoch = record.epoch;
        let stable = node.stable;
        let members: Vec<Who> = record.members.iter().map(who_of).collect();
        node.rank = RankModel {
            epoch,
            leader: record.leading().map_or(0, who_of),
            rank: members.iter().position(|member| *member == me).map(|rank| rank as u32),
            everyone: record.everyone().map(who_of).collect(),
            members,
            ..RankModel::new()
        };
        if rehash {
            // What is not stable was computed from copies of which one may have been bad.
            node.shelf.begin(stable);
            let bad: Vec<(ShardId, Version)> = held_of(&node.shelf)
                .filter(|(held, content)| content::digest(*content) != held.digest)
                .map(|(held, _)| (held.shard, held.version))
                .collect();
            bad.into_iter().for_each(|(shard, version)| node.shelf.forget(shard, version));
        }
        let at = self.now + if rehash { 20 * MS } else { MS };
        self.queue.push(at, Event::Report { who: me, epoch });
        self.meet(me, epoch);
    }

    pub(super) fn report(&mut self, me: Who, epoch: Epoch) {
        if self.nodes[me as usize].rank.epoch != epoch {
            return;
        }
        let held = self.held(me);
        let leader = self.nodes[me as usize].rank.leader;
        self.send(me, leader, Said::Word(Box::new(Word::Holdings { epoch, held })));
    }

    /// What a node holds.
    fn held(&mut self, me: Who) -> Vec<Held> {
        let node = &mut self.nodes[me as usize];
        if self.bug == Some(Bug::CoverageByStep) {
            let copies: Vec<(Held, u64)> = held_of(&node.shelf).collect();
            node.shelf = Shelf::default();
            for (held, content) in copies {
                node.shelf.put(held.shard, Version { step: held.version.step, epoch: Epoch(0) }, held.digest, content);
            }
        }
        node.shelf.held()
    }

    /// Nothing more is voted in this epoch.
    pub(super) fn fence(&mut self, me: Who) -> Vec<Held> {
        let node = &mut self.nodes[me as usize];
        node.rank.epoch = Epoch(0);
        node.rank.work = Work::Resting;
        self.held(me)
    }

    pub(super) fn begin(&mut self, me: Who, epoch: Epoch, beginning: Beginning) {
        let node = &mut self.nodes[me as usize];
        if node.rank.epoch != epoch || node.rank.plan.is_some() {
            return;
        }
        let Beginning { version, origin, plan, moves } = beginning;
        node.shelf.begin(version);
        (node.stable, node.rank.version) = (version, version);
        if let Some(rank) = node.rank.rank {
            node.rank.mine = plan.shards_of(Rank(rank)).collect();
        }
        if self.bug == Some(Bug::CopyDroppedEarly) {
            node.shelf.settle(version, &node.rank.mine);
        }
        let missing = node.rank.mine.iter().copied().filter(|shard| node.shelf.get(*shard, version).is_none());
        node.rank.missing = missing.collect();
        node.rank.plan = Some(plan);
        let Some(rank) = node.rank.rank else { return };
        match origin {
            Origin::Seed => {
                for shard in std::mem::take(&mut node.rank.missing) {
                    let content = content::seed(shard);
                    node.shelf.put(shard, version, content::digest(content), content);
                }
            }
            Origin::Checkpoint { step } => self.ask(me, Ask::Restore { epoch, step: step.0 }),
            Origin::Copies => {
                let mut fetches: BTreeMap<Who, Vec<(ShardId, u64)>> = BTreeMap::new();
                for copy in moves.iter().filter(|copy| copy.to == rank) {
                    let from = node.rank.everyone.get(copy.from as usize).copied().unwrap_or(me);
                    fetches.entry(from).or_default().push((copy.shard, copy.digest));
                }
                for (from, shards) in fetches {
                    let at = self.now + (4 + shards.len() as u32) * MS + up_to(&mut self.rng, MS);
                    self.queue.push(at, Event::Fetch { who: me, epoch, from, shards });
                }
            }
        }
        self.try_ready(me);
    }

    pub(super) fn fetch(&mut self, me: Who, epoch: Epoch, from: Who, shards: Vec<(ShardId, u64)>) {
        let rank = &self.nodes[me as usize].rank;
        if rank.epoch != epoch {
            return;
        }
        let version = rank.version;
        let works = from == me || (self.network.linked(me, from) && !self.network.broken.contains(&super::network::pair(me, from)));
        if !works || self.nodes[from as usize].hung > 0 {
            return self.queue.push(self.now + 50 * MS, Event::Fetch { who: me, epoch, from, shards });
        }
        for (shard, digest) in shards {
            match self.nodes[from as usize].shelf.get(shard, version).map(|(said, content)| (said, *content)) {
                // Who sends reads its copy first: a bad one is its own trouble.
                Some((said, content)) if said == digest && content::digest(content) == digest => {
                    let node = &mut self.nodes[me as usize];
                    node.shelf.put(shard, version, digest, content);
                    node.rank.missing.remove(&shard);
                }
                Some((said, _)) if said == digest => {
                    self.nodes[from as usize].shelf.forget(shard, version);
                    return self.failed(from, epoch, &format!("its copy of {shard} has gone bad"));
                }
                _ => {
                    self.say(me, Happening::Note { text: format!("node {from} holds no {shard} at {version}, and the plan says so") });
                    return self.failed(me, epoch, &format!("there is no {shard} at node {from}"));
                }
            }
        }
        self.try_ready(me);
    }

    pub(super) fn restored(&mut self, me: Who, epoch: Epoch, step: u64, contents: Option<Vec<(ShardId, u64)>>) {
        let node = &mut self.nodes[me as usize];
        if node.rank.epoch != epoch {
            return;
        }
        let version = node.rank.version;
        let Some(contents) = contents else { return self.failed(me, epoch, &format!("the checkpoint after {step} steps is gone")) };
        for (shard, value) in contents {
            node.shelf.put(shard, version, content::digest(value), value);
            node.rank.missing.remove(&shard);
        }
        self.try_ready(me);
    }

    pub(super) fn try_ready(&mut self, me: Who) {
        let rank = &self.nodes[me as usize].rank;
        if rank.plan.is_none() || rank.rank.is_none() || rank.ready || !rank.missing.is_empty() {
            return;
        }
        let met = |other: &Who| *other == me || self.network.linked(me, *other);
        // From where the last look ended, so that all looks together are one round; links before that may have ended since.
        let (before, after) = rank.members.split_at(rank.unmet.min(rank.members.len()));
        let ahead = after.iter().position(|other| !met(other)).map(|at| before.len() + at);
        if let Some(unmet) = ahead.or_else(|| before.iter().position(|other| !met(other))) {
            self.nodes[me as usize].rank.unmet = unmet;
            return;
        }
        let (epoch, leader) = (rank.epoch, rank.leader);
        self.nodes[me as usize].rank.ready = true;
        self.send(me, leader, Said::Word(Box::new(Word::Ready { epoch })));
    }

    fn failed(&mut self, me: Who, epoch: Epoch, because: &str) {
        let leader = self.nodes[me as usize].rank.leader;
        let word = Word::Failed { epoch, outcome: Outcome::Lost, because: because.into(), fault: None };
        self.send(me, leader, Said::Word(Box::new(word)));
    }

    // ---- a step -------------------------------------------------------------------------------

    pub(super) fn go(&mut self, me: Who, epoch: Epoch, step: Step) {
        let rank = &self.nodes[me as usize].rank;
        if rank.epoch == epoch && rank.ready && rank.work == Work::Resting {
            self.start_step(me, step);
        }
    }

    fn start_step(&mut self, me: Who, step: Step) {
        let rank = &self.nodes[me as usize].rank;
        let epoch = rank.epoch;
        if rank.version.step != step {
            return self.failed(me, epoch, &format!("it is at {} and is to run step {}", rank.version, step.0));
        }
        if !self.exchanges.contains_key(&(epoch, step)) {
            let Some(weights) = self.gather(me) else { return self.failed(me, epoch, "weights cannot be gathered") };
            let members = rank.members.clone();
            self.exchanges.insert((epoch, step), Exchange { weights, members, sums: BTreeMap::new(), used: Vec::new() });
            self.faults_by_step(step.0);
        }
        let node = &mut self.nodes[me as usize];
        node.rank.work = Work::Computing(step);
        node.slowed += u64::from(node.slow > 1);
        let time = self.scenario.workload.step_time.0 * node.slow;
        let at = self.now + time + up_to(&mut self.rng, time / 10);
        self.queue.push(at, Event::Computed { who: me, epoch, step });
    }

    /// The sum of all weights, from the shards' owners.
    fn gather(&self, me: Who) -> Option<u64> {
        let rank = &self.nodes[me as usize].rank;
        rank.plan.as_ref()?.places.iter().try_fold(0u64, |sum, place| {
            let owner = rank.members.get(place.owner.0 as usize)?;
            let (_, content) = self.nodes[*owner as usize].shelf.get(place.shard, rank.version)?;
            Some(sum.wrapping_add(content::weight(place.shard, *content)))
        })
    }

    pub(super) fn computed(&mut self, me: Who, epoch: Epoch, step: Step) {
        let node = &mut self.nodes[me as usize];
        if node.rank.epoch != epoch || node.rank.work != Work::Computing(step) {
            return;
        }
        node.rank.work = Work::Waiting(step);
        node.ran = if node.ran.0 == step { (step, node.ran.1 + 1) } else { (step, 1) };
        let (Some(plan), Some(rank)) = (&node.rank.plan, node.rank.rank) else { return };
        let lanes = plan.lanes_of(Rank(rank));
        let Some(exchange) = self.exchanges.get_mut(&(epoch, step)) else { return };
        let workload = &self.scenario.workload;
        let first = |lane: u32| (step.0 * u64::from(workload.lanes) + u64::from(lane)) * u64::from(workload.samples_per_lane);
        let one = |lane: u32| content::gradient(u64::from(lane), step.0, exchange.weights, first(lane));
        let mut sum = lanes.clone().fold(0u64, |sum, lane| sum.wrapping_add(one(lane)));
        if self.bug == Some(Bug::SumByPlacement) {
            sum &= !0xff;
        }
        exchange.sums.insert(me, sum);
        exchange.used.push((me, first(lanes.start), first(lanes.end)));
        if exchange.sums.len() == exchange.members.len() {
            self.reduce(epoch, step);
        }
    }

    /// All gradients are out: whoever has working links to all members gets the mean.
    fn reduce(&mut self, epoch: Epoch, step: Step) {
        let Some(exchange) = self.exchanges.get(&(epoch, step)) else { return };
        if exchange.sums.len() < exchange.members.len() {
            return;
        }
        let members: BTreeSet<Who> = exchange.members.iter().copied().collect();
        let inside = |(a, b): &&(Who, Who)| members.contains(a) && members.contains(b);
        let broken: BTreeSet<Who> = self.network.broken.iter().filter(inside).flat_map(|(a, b)| [*a, *b]).collect();
        for me in exchange.members.clone() {
            let node = &self.nodes[me as usize];
            let waits = node.alive && node.rank.epoch == epoch && node.rank.work == Work::Waiting(step);
            let cut = || node.rank.cut.iter().any(|other| members.contains(&other) && !self.network.linked(me, other));
            if waits && !broken.contains(&me) && !cut() {
                let at = self.now + 2 * MS + up_to(&mut self.rng, MS);
                self.queue.push(at, Event::Reduced { who: me, epoch, step });
            }
        }
    }

    pub(super) fn reduce_all(&mut self) {
        let keys: Vec<(Epoch, Step)> = self.exchanges.keys().copied().collect();
        keys.into_iter().for_each(|(epoch, step)| self.reduce(epoch, step));
    }

    pub(super) fn reduced(&mut self, me: Who, epoch: Epoch, step: Step) {
        let Some(exchange) = self.exchanges.get(&(epoch, step)) else { return };
        let mean = exchange.sums.values().fold(0u64, |sum, part| sum.wrapping_add(*part));
        let rank = &mut self.nodes[me as usize].rank;
        if rank.epoch != epoch || rank.work != Work::Waiting(step) {
            return;
        }
        rank.work = Work::Reduced(step);
        rank.mean = mean;
        let (Some(plan), Some(number)) = (&rank.plan, rank.rank) else { return };
        let owned = plan.places.iter().filter(|place| place.owner == Rank(number));
        let partial = owned.fold(0u64, |sum, place| sum.wrapping_add(content::partial(place.shard, mean)));
        let leader = rank.leader;
        let used = exchange.used.iter().find(|(who, ..)| *who == me).map_or((0, 0), |(_, from, to)| (*from, *to));
        self.send(me, leader, Said::Reduced { epoch, step, partial, used });
    }

    /// Where the leader keeps what members say of a step, if that is the one in flight.
    pub(super) fn ledger(&mut self, leader: Who, epoch: Epoch, step: Step) -> Option<&mut Ledger> {
        let office = self.nodes[leader as usize].office.as_mut()?;
        if office.machine.record().epoch != epoch || office.machine.step() != Some(step) {
            return None;
        }
        if office.ledger.of != (epoch, step) {
            office.ledger = Ledger { of: (epoch, step), ..Ledger::default() };
        }
        Some(&mut office.ledger)
    }

    pub(super) fn send_sums(&mut self, me: Who, epoch: Epoch, step: Step) {
        let Some(office) = &self.nodes[me as usize].office else { return };
        let sums = office.ledger.partials.values().fold(0u64, |sum, part| sum.wrapping_add(*part));
        self.tell_members(me, &Said::Sums { epoch, step, sums });
    }

    pub(super) fn sums(&mut self, me: Who, epoch: Epoch, step: Step, sums: u64, unchecked: bool) {
        let rank = &mut self.nodes[me as usize].rank;
        if (rank.epoch != epoch && !unchecked) || rank.work != Work::Reduced(step) {
            return;
        }
        rank.work = Work::Updating(step);
        let current = rank.epoch;
        if current != epoch {
            self.say(me, Happening::Applied { said: epoch.0, current: current.0, step: step.0 });
        }
        let at = self.now + 3 * MS + up_to(&mut self.rng, MS);
        self.queue.push(at, Event::Updated { who: me, epoch: current, step, sums });
    }

    pub(super) fn updated(&mut self, me: Who, epoch: Epoch, step: Step, sums: u64) {
        let twice = self.bug == Some(Bug::UpdateTwice);
        let buffers = self.bug == Some(Bug::BufferTwice);
        let strike = self.nodes[me as usize].flip_update;
        let flip = strike.map(|_| up_to(&mut self.rng, Duration::from_nanos(64)).as_nanos() as u32);
        let node = &mut self.nodes[me as usize];
        if node.rank.epoch != epoch || node.rank.work != Work::Updating(step) {
            return;
        }
        node.rank.work = Work::Prepared(step);
        let next = Version { step: step.next(), epoch };
        let mut digests = Vec::with_capacity(node.rank.mine.len());
        let plan = node.rank.plan.as_ref();
        let compared =
            |shard: ShardId| plan.is_some_and(|plan| plan.places.iter().any(|place| place.shard == shard && !place.replicas.is_empty()));
        for shard in &node.rank.mine {
            let Some((_, content)) = node.shelf.get(*shard, node.rank.version) else {
                let because = format!("it holds no {shard} at {}", node.rank.version);
                return self.failed(me, epoch, &because);
            };
            let before = node.updated.get(shard).filter(|(at, _)| twice && *at == step).map_or(*content, |(_, content)| *content);
            let mut new = content::update(before, node.rank.mean, sums, *shard, step.0);
            if buffers && content::is_buffer(*shard) {
                new = (1..node.ran.1).fold(new, |content, _| content::update(content, node.rank.mean, sums, *shard, step.0));
            }
            // A bit that turns over in the only copy there is shows nowhere.
            if let Some(bit) = flip.filter(|_| compared(*shard) && node.flip_update.is_some()) {
                new ^= 1 << bit;
                node.flip_update = None;
            }
            node.updated.insert(*shard, (step, new));
            let digest = content::digest(new);
            node.shelf.put(*shard, next, digest, new);
            digests.push((*shard, digest));
        }
        let leader = node.rank.leader;
        let flipped = strike.filter(|_| node.flip_update.is_none());
        self.send(me, leader, Said::Prepared { epoch, step, digests });
        if let Some(strike) = flipped {
            self.say(me, Happening::Felt { strike, times: 1 });
        }
    }

    /// The leader calls a step stable.
    pub(super) fn call_stable(&mut self, me: Who, epoch: Epoch, step: Step, checkpoint: bool, hold: bool) {
        let Some(office) = &mut self.nodes[me as usize].office else { return };
        if checkpoint {
            office.saving = Some((step.next(), BTreeMap::new()));
        }
        let Ledger { used, digests, .. } = std::mem::take(&mut office.ledger);
        let digest = digests.into_iter().fold(0u64, |sum, (shard, digest)| sum.wrapping_add(content::of_state(shard, digest)));
        self.say(me, Happening::Stable { epoch: epoch.0, step: step.0, digest, used });
        let ahead = self.exchanges.split_off(&(epoch, step.next()));
        let behind = std::mem::replace(&mut self.exchanges, ahead);
        self.unsaid.extend(behind.into_iter().filter(|(of, _)| *of != (epoch, step)).map(|(of, exchange)| (of, exchange.used)));
        while self.unsaid.len() > UNSAID {
            self.unsaid.pop_first();
        }
        self.reached = self.reached.max(step.0 + 1);
        self.note_well(epoch);
        self.tell_members(me, &Said::Stable { epoch, step, checkpoint, hold });
    }

    /// All is well once faults are over, everyone who lives is in the newest epoch, and a step of it is stable.
    fn note_well(&mut self, epoch: Epoch) {
        if self.faults.calm.is_none() || self.well.is_some() || self.newest.0 != epoch.0 {
            return;
        }
        let wanted = self.places.len().min(self.rules.ranks_max as usize);
        if self.newest.2.len() == wanted && self.newest.2.iter().all(|who| self.nodes[*who as usize].alive) {
            self.well = Some(self.now);
        }
    }

    pub(super) fn stable(&mut self, me: Who, epoch: Epoch, step: Step, checkpoint: bool, hold: bool, unchecked: bool) {
        let node = &mut self.nodes[me as usize];
        if (node.rank.epoch != epoch && !unchecked) || node.rank.work != Work::Prepared(step) {
            return;
        }
        let current = node.rank.epoch;
        node.rank.version = Version { step: step.next(), epoch: current };
        node.stable = node.rank.version;
        node.shelf.settle(node.rank.version, &node.rank.mine);
        node.rank.work = Work::Resting;
        self.history.push(self.now, me, Happening::Applied { said: epoch.0, current: current.0, step: step.0 });
        if checkpoint {
            self.save(me, current, step.next());
        }
        if !hold {
            self.start_step(me, step.next());
        }
    }

    // ---- checkpoints --------------------------------------------------------------------------

    pub(super) fn save(&mut self, me: Who, epoch: Epoch, step: Step) {
        let node = &self.nodes[me as usize];
        let rank = &node.rank;
        let (Some(plan), Some(number)) = (&rank.plan, rank.rank) else { return };
        if rank.epoch != epoch || rank.version.step != step {
            return;
        }
        let owned = plan.places.iter().filter(|place| place.owner == Rank(number));
        let held = owned.filter_map(|place| Some((place.shard, node.shelf.get(place.shard, rank.version)?)));
        let parts: Vec<(ShardId, u64, u64)> = held.map(|(shard, (digest, content))| (shard, digest, *content)).collect();
        let (leader, version) = (rank.leader, rank.version);
        // What is written is read first: a copy that has gone bad does not get into the store.
        if let Some((shard, ..)) = parts.iter().find(|(_, digest, content)| content::digest(*content) != *digest) {
            self.nodes[me as usize].shelf.forget(*shard, version);
            return self.failed(me, epoch, &format!("its copy of {shard} has gone bad"));
        }
        let parts: Vec<(ShardId, u64)> = parts.into_iter().map(|(shard, _, content)| (shard, content)).collect();
        if !parts.is_empty() {
            self.ask(me, Ask::Parts { epoch, step, leader, parts });
        }
    }

    pub(super) fn parts_written(&mut self, me: Who, epoch: Epoch, step: Step, leader: Who, parts: Vec<(ShardId, u64)>) {
        self.send(me, leader, Said::Parts { epoch, step, parts });
    }

    pub(super) fn parts(&mut self, me: Who, epoch: Epoch, step: Step, parts: Vec<(ShardId, u64)>) {
        let shards = self.shards.len();
        let Some(office) = &mut self.nodes[me as usize].office else { return };
        if office.machine.record().epoch != epoch {
            return;
        }
        let Some((at, contents)) = &mut office.saving else { return };
        if *at != step {
            return;
        }
        if parts.is_empty() {
            office.saving = None;
            let because = "parts could not be written".to_owned();
            return self.leader(me, everstep_actors::protocol::coordinator::Fact::SaveFailed(step, because));
        }
        contents.extend(parts);
        if contents.len() == shards
            && let Some((_, contents)) = office.saving.take()
        {
            self.ask(me, Ask::Manifest { step: step.0, contents });
        }
    }
}

/// What is held, with its content.
fn held_of(shelf: &Shelf<u64>) -> impl Iterator<Item = (Held, u64)> + '_ {
    shelf.held().into_iter().filter_map(|held| Some((held, *shelf.get(held.shard, held.version)?.1)))
}
