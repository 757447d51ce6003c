//! Faults strike and pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everstep_actors::protocol::membership;

use super::dice::{below, up_to};
use super::event::Event;
use super::network::{Places, Trouble};
use super::store;
use super::world::World;
use crate::fault::{Fault, Kind, Mode};
use crate::history::{Entry, Happening, Who};
use crate::scenario::{Candidate, Scenario, Target, When};

/// What has to be undone when a strike passes.
#[derive(Debug)]
enum Undo {
    Thaw(Vec<Who>),
    Wake(Vec<Who>),
    /// By how much, and the steps that were computed slowly before.
    Speed(Vec<Who>, u32, u64),
    Path,
    Store,
}

/// Which faults are still to come, and which are at work.
#[derive(Debug)]
pub(super) struct Faults {
    /// Faults that no trigger has set off yet.
    pending: BTreeSet<usize>,
    /// Happenings of each name so far.
    seen: BTreeMap<&'static str, u32>,
    by_event: bool,
    /// Strikes that are planned and have not come.
    planned: u32,
    active: BTreeMap<u32, Undo>,
    strikes: u32,
    joined: u32,
    /// Until when something that a fault began goes on.
    until: Duration,
    /// Places that are started again when their node has left.
    pub(super) restarts: BTreeMap<u32, Duration>,
    /// Since when no fault strikes any more.
    pub(super) calm: Option<Duration>,
}

impl Faults {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            pending: (0..scenario.faults.len()).collect(),
            seen: BTreeMap::new(),
            by_event: scenario.faults.iter().any(|fault| matches!(fault.at.when, When::Event { .. })),
            planned: 0,
            active: BTreeMap::new(),
            strikes: 0,
            joined: 0,
            until: Duration::ZERO,
            restarts: BTreeMap::new(),
            calm: None,
        }
    }
}

impl World<'_> {
    // ---- triggers -----------------------------------------------------------------------------

    pub(super) fn faults_by_time(&mut self) {
        let scenario = self.scenario;
        for (number, fault) in scenario.faults.iter().enumerate() {
            if let When::Time(at) = fault.at.when {
                self.plan(number, at);
            }
        }
    }

    pub(super) fn faults_by_step(&mut self, step: u64) {
        let scenario = self.scenario;
        for (number, fault) in scenario.faults.iter().enumerate() {
            if fault.at.when == When::Step(step) {
                self.plan(number, self.now);
            }
        }
    }

    pub(super) fn faults_by_event(&mut self, what: &Happening) {
        if !self.faults.by_event {
            return;
        }
        let name = what.name();
        let seen = self.faults.seen.entry(name).or_default();
        *seen += 1;
        let seen = *seen;
        let scenario = self.scenario;
        for (number, fault) in scenario.faults.iter().enumerate() {
            if matches!(&fault.at.when, When::Event { name: of, nth } if of == name && *nth == seen) {
                self.plan(number, self.now);
            }
        }
    }

    fn plan(&mut self, number: usize, at: Duration) {
        if !self.faults.pending.remove(&number) || self.faults.calm.is_some() {
            return;
        }
        let fault = &self.scenario.faults[number];
        for later in fault.strikes() {
            self.faults.planned += 1;
            self.queue.push(at + fault.at.after + later, Event::Strike { fault: number });
        }
    }

    // ---- strikes ------------------------------------------------------------------------------

    fn pick(&mut self, target: &Target) -> Vec<Who> {
        let (_, leader, members) = &self.newest;
        let candidate = |(slot, who): (&u32, &Who)| {
            let (host, zone) = self.host(*slot);
            let rank = members.iter().position(|member| member == who).map(|rank| rank as u32);
            Candidate { slot: *slot, host, zone, rank, leads: who == leader }
        };
        let nodes: Vec<Candidate> = self.places.iter().map(candidate).collect();
        let rng = &mut self.rng;
        let slots = target.pick(&nodes, |n| below(rng, n));
        slots.iter().filter_map(|slot| self.places.get(slot).copied()).collect()
    }

    pub(super) fn strike(&mut self, number: usize) {
        if self.faults.calm.is_some() {
            return;
        }
        self.faults.planned -= 1;
        let fault = &self.scenario.faults[number];
        let place = self.history.entries.len();
        let struck = match fault.kind {
            Kind::Cut | Kind::Link => self.strike_paths(number),
            Kind::Join => self.strike_join(fault),
            Kind::Store => {
                let targets = fault.target.clone().map(|target| self.pick(&target)).unwrap_or_default();
                let slots = targets.iter().map(|who| self.nodes[*who as usize].slot).collect();
                let (strike, mode) = (self.faults.strikes, fault.mode.unwrap_or(Mode::Away));
                self.store.troubles.push(store::Trouble { strike, mode, places: slots, felt: 0 });
                Some((targets, Some(Undo::Store)))
            }
            Kind::Checkpoint => self.strike_checkpoint(),
            _ => {
                let targets = fault.target.clone().map(|target| self.pick(&target)).unwrap_or_default();
                self.strike_nodes(fault, targets)
            }
        };
        if let Some((targets, undo)) = struck {
            let strike = self.faults.strikes;
            self.faults.strikes += 1;
            let times = targets.len().max(1) as u64;
            // It is told before what follows from it.
            let what = Happening::Struck { fault: number, strike, kind: fault.kind, targets };
            self.faults_by_event(&what);
            self.history.entries.insert(place, Entry { at: self.now, who: 0, what });
            // What lasts is felt as long as it lasts, and an update that is to go wrong when it does.
            if undo.is_none() && fault.mode != Some(Mode::Update) {
                self.say(0, Happening::Felt { strike, times });
            }
            if let Some(undo) = undo {
                self.faults.active.insert(strike, undo);
                self.lasts(self.now + fault.lasts());
                self.queue.push(self.now + fault.lasts(), Event::Pass { fault: number, strike });
            }
        }
        self.look_for_calm();
    }

    fn lasts(&mut self, until: Duration) {
        self.faults.until = self.faults.until.max(until);
    }

    fn strike_paths(&mut self, number: usize) -> Option<(Vec<Who>, Option<Undo>)> {
        let fault = &self.scenario.faults[number];
        let from = self.pick(fault.from.as_ref()?);
        let others: Vec<Who> = self.places.values().copied().filter(|who| !from.contains(who)).collect();
        let to = fault.to.as_ref().map_or(others, |target| self.pick(target));
        if from.is_empty() || to.is_empty() {
            return None;
        }
        let slots = |whom: &[Who]| whom.iter().map(|who| self.nodes[*who as usize].slot).collect::<Places>();
        self.network.troubles.push(Trouble {
            fault: self.faults.strikes as usize,
            from: slots(&from),
            to: slots(&to),
            one_way: fault.one_way,
            cut: fault.kind == Kind::Cut,
            loss: fault.loss.unwrap_or(0.0),
            delay: fault.delay.map_or(Duration::ZERO, |span| span.0),
            duplicate: fault.duplicate.unwrap_or(0.0),
            reorder: fault.reorder.map_or(Duration::ZERO, |span| span.0),
            felt: 0,
        });
        self.look_at(None);
        // The smaller side is the one that is cut off.
        let mut hidden = match from.len().cmp(&to.len()) {
            std::cmp::Ordering::Less => from,
            std::cmp::Ordering::Greater => to,
            std::cmp::Ordering::Equal => from.into_iter().chain(to).collect(),
        };
        hidden.sort_unstable();
        Some((hidden, Some(Undo::Path)))
    }

    fn strike_join(&mut self, fault: &Fault) -> Option<(Vec<Who>, Option<Undo>)> {
        let first = self.scenario.cluster.nodes + self.faults.joined;
        let count = fault.count.unwrap_or(1);
        self.faults.joined += count;
        for slot in first..first + count {
            let at = self.now + up_to(&mut self.rng, Duration::from_millis(100));
            self.lasts(at);
            self.queue.push(at, Event::Start { slot });
        }
        Some((Vec::new(), None))
    }

    fn strike_checkpoint(&mut self) -> Option<(Vec<Who>, Option<Undo>)> {
        let (step, saved) = self.store.checkpoints.iter_mut().rfind(|(_, saved)| !saved.damaged)?;
        saved.damaged = true;
        let step = *step;
        self.say(0, Happening::Damaged { step });
        Some((Vec::new(), None))
    }

    fn strike_nodes(&mut self, fault: &Fault, targets: Vec<Who>) -> Option<(Vec<Who>, Option<Undo>)> {
        if targets.is_empty() {
            return None;
        }
        let undo = match fault.kind {
            Kind::Kill | Kind::Oom => {
                targets.iter().for_each(|who| self.kill(*who, true));
                self.restart(fault, &targets);
                None
            }
            Kind::KillHost => {
                let hosts: BTreeSet<u32> = targets.iter().map(|who| self.host(self.nodes[*who as usize].slot).0).collect();
                let all: Vec<Who> =
                    self.places.iter().filter(|(slot, _)| hosts.contains(&self.host(**slot).0)).map(|(_, who)| *who).collect();
                all.iter().for_each(|who| self.kill(*who, false));
                self.restart(fault, &all);
                return Some((all, None));
            }
            Kind::Stop => {
                for who in &targets {
                    self.nodes[*who as usize].frozen += 1;
                    self.look_at(Some(*who));
                }
                Some(Undo::Thaw(targets.clone()))
            }
            Kind::Hang => {
                targets.iter().for_each(|who| self.nodes[*who as usize].hung += 1);
                Some(Undo::Wake(targets.clone()))
            }
            Kind::Slow => {
                let factor = fault.factor.unwrap_or(3).max(1);
                targets.iter().for_each(|who| self.nodes[*who as usize].slow *= factor);
                Some(Undo::Speed(targets.clone(), factor, self.slowed(&targets)))
            }
            Kind::Drain => {
                self.drain(fault, &targets);
                None
            }
            Kind::BitFlip => {
                let flipped: Vec<Who> = targets.into_iter().filter(|who| self.flip(*who, fault.mode)).collect();
                return (!flipped.is_empty()).then_some((flipped, None));
            }
            _ => return None,
        };
        Some((targets, undo))
    }

    /// A process ends at once. Its launcher tells the others of its host, if it lives.
    pub(super) fn kill(&mut self, who: Who, told: bool) {
        let slot = self.nodes[who as usize].slot;
        if !self.nodes[who as usize].alive {
            return;
        }
        self.say(who, Happening::Died);
        self.bury(who);
        self.look_at(Some(who));
        if told {
            let (host, _) = self.host(slot);
            let beside: Vec<Who> = self.places.iter().filter(|(slot, _)| self.host(**slot).0 == host).map(|(_, who)| *who).collect();
            for to in beside {
                let at = self.now + Duration::from_millis(5) + up_to(&mut self.rng, Duration::from_millis(10));
                self.queue.push(at, Event::Exited { to, dead: who });
            }
        }
    }

    fn restart(&mut self, fault: &Fault, whom: &[Who]) {
        let Some(after) = fault.restart else { return };
        for who in whom {
            let slot = self.nodes[*who as usize].slot;
            let at = self.now + after.0 + up_to(&mut self.rng, Duration::from_millis(20));
            self.lasts(at);
            self.queue.push(at, Event::Start { slot });
        }
    }

    fn drain(&mut self, fault: &Fault, whom: &[Who]) {
        let lead = fault.lead.map(|span| span.0);
        for who in whom {
            let slot = self.nodes[*who as usize].slot;
            if let Some(after) = fault.restart {
                self.faults.restarts.insert(slot, after.0);
            }
            self.queue.push(self.now, Event::Member(*who, Box::new(membership::Fact::Leave("a notice came".into(), lead))));
        }
        match (fault.cancel, lead) {
            (Some(after), _) => {
                self.lasts(self.now + after.0);
                self.queue.push(self.now + after.0, Event::Stay { whom: whom.to_vec() });
            }
            (None, Some(lead)) => {
                self.lasts(self.now + lead);
                self.queue.push(self.now + lead, Event::Deadline { whom: whom.to_vec() });
            }
            (None, None) => {}
        }
    }

    /// Turns a bit over: in a copy at rest, or in the next update.
    fn flip(&mut self, who: Who, mode: Option<Mode>) -> bool {
        let bit = below(&mut self.rng, 64);
        let node = &mut self.nodes[who as usize];
        if mode == Some(Mode::Update) {
            node.flip_update = node.rank.rank.map(|_| self.faults.strikes);
            return node.flip_update.is_some();
        }
        let version = node.rank.version;
        let held: Vec<_> = node.shelf.of(version).map(|(shard, _)| shard).collect();
        let Some(shard) = held.get(below(&mut self.rng, held.len())).copied() else { return false };
        let node = &mut self.nodes[who as usize];
        let Some((digest, content)) = node.shelf.get(shard, version).map(|(digest, content)| (digest, *content)) else { return false };
        node.shelf.put(shard, version, digest, content ^ (1 << bit));
        true
    }

    // ---- and pass -----------------------------------------------------------------------------

    pub(super) fn pass(&mut self, _fault: usize, strike: u32) {
        let Some(undo) = self.faults.active.remove(&strike) else { return };
        self.undo(strike, undo);
        self.look_for_calm();
    }

    /// Steps that nodes have computed slowly.
    fn slowed(&self, whom: &[Who]) -> u64 {
        whom.iter().map(|who| self.nodes[*who as usize].slowed).sum()
    }

    /// How often a strike that is about to pass has shown.
    fn felt(&self, strike: u32, undo: &Undo) -> u64 {
        // Who was put an end to while it stood still has felt it too.
        let stood = |who: &Who| {
            let node = &self.nodes[*who as usize];
            if node.alive { node.deferred.len() as u64 } else { 1 }
        };
        match undo {
            Undo::Thaw(whom) | Undo::Wake(whom) => whom.iter().map(stood).sum(),
            Undo::Speed(whom, _, before) => self.slowed(whom) - before,
            Undo::Path => self.network.troubles.iter().find(|trouble| trouble.fault == strike as usize).map_or(0, |trouble| trouble.felt),
            Undo::Store => self.store.troubles.iter().find(|trouble| trouble.strike == strike).map_or(0, |trouble| trouble.felt),
        }
    }

    fn undo(&mut self, strike: u32, undo: Undo) {
        let times = self.felt(strike, &undo);
        if times > 0 {
            self.say(0, Happening::Felt { strike, times });
        }
        match undo {
            Undo::Thaw(whom) => whom.into_iter().for_each(|who| {
                let frozen = &mut self.nodes[who as usize].frozen;
                *frozen = frozen.saturating_sub(1);
                self.resume(who);
            }),
            Undo::Wake(whom) => whom.into_iter().for_each(|who| {
                let hung = &mut self.nodes[who as usize].hung;
                *hung = hung.saturating_sub(1);
                self.resume(who);
            }),
            Undo::Speed(whom, factor, _) => whom.into_iter().for_each(|who| self.nodes[who as usize].slow /= factor),
            Undo::Path => {
                self.network.troubles.retain(|trouble| trouble.fault != strike as usize);
                self.look_at(None);
            }
            Undo::Store => self.store.troubles.retain(|trouble| trouble.strike != strike),
        }
        self.say(0, Happening::Passed { strike });
    }

    /// What has come meanwhile is taken in, in its order.
    fn resume(&mut self, who: Who) {
        let node = &mut self.nodes[who as usize];
        if !node.alive || node.frozen > 0 {
            return;
        }
        let deferred = std::mem::take(&mut node.deferred);
        deferred.into_iter().for_each(|event| self.queue.push(self.now, event));
        self.look_at(Some(who));
    }

    pub(super) fn stay(&mut self, whom: &[Who]) {
        for who in whom.iter().filter(|who| self.nodes[**who as usize].alive) {
            self.queue.push(self.now, Event::Member(*who, Box::new(membership::Fact::Stay)));
        }
    }

    pub(super) fn deadline(&mut self, whom: &[Who]) {
        for who in whom {
            let slot = self.nodes[*who as usize].slot;
            if self.nodes[*who as usize].alive {
                self.kill(*who, true);
                if let Some(after) = self.faults.restarts.remove(&slot) {
                    self.queue.push(self.now + after, Event::Start { slot });
                }
            }
        }
    }

    fn look_for_calm(&mut self) {
        let faults = &self.faults;
        if faults.pending.is_empty() && faults.planned == 0 && faults.active.is_empty() {
            let at = faults.until.max(self.now) + Duration::from_millis(1);
            self.queue.push(at, Event::Storm);
        }
    }

    /// Faults end: because all have struck and passed, or because their time is over.
    pub(super) fn storm_ends(&mut self) {
        let over = self.now >= self.scenario.probe.end.storm.0;
        let faults = &self.faults;
        let spent = faults.pending.is_empty() && faults.planned == 0 && faults.active.is_empty() && self.now >= faults.until;
        if faults.calm.is_some() || !(over || spent) {
            return;
        }
        std::mem::take(&mut self.faults.active).into_iter().for_each(|(strike, undo)| self.undo(strike, undo));
        self.faults.calm = Some(self.now);
        self.say(0, Happening::Calm);
    }
}
