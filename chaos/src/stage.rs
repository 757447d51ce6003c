//! What the tiers of real nodes share: the driver that waits for triggers, draws targets and strikes, and the history of it all.
//!
//! A tier is a [`Stage`]: it starts nodes, hears what they tell, and knows how to do to them what a fault says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use everstep_actors::event::Recorded;
use everstep_actors::protocol::ids::NodeId;
use everstep_actors::protocol::record::EpochRecord;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::fault::{Fault, Kind};
use crate::history::{Happening, History, Who};
use crate::scenario::{Candidate, Scenario, ScenarioError, Target, When};

mod damage;
pub(crate) mod timeline;

use timeline::{Books, Timeline};

/// How long a run is watched after it got well.
const CODA: Duration = Duration::from_secs(2);
/// How long a stage is waited for at most before the clock is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long after its end a node that the run has put out is started again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long after the run's end its nodes may still be there.
const PARTING: Duration = Duration::from_secs(30);

/// What a stage tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// A node was started at a place.
    Started(NodeId, u32),
    /// Something happened at a node.
    Event(Box<Recorded>),
    /// A node has ended by itself, and whether it is to be started again.
    Gone(NodeId, bool, String),
    /// All steps are done, and all processes have ended in good order.
    Done,
}

/// A strike, resolved.
#[derive(Debug)]
pub(crate) struct Strike<'a> {
    /// Its number.
    pub(crate) number: u32,
    /// The fault.
    pub(crate) fault: &'a Fault,
    /// Places that it strikes, or whose paths.
    pub(crate) whom: Vec<u32>,
    /// Paths: to whom.
    pub(crate) to: Vec<u32>,
}

/// A tier of real nodes.
pub(crate) trait Stage: Books {
    /// Why a fault cannot be had here, and where it can.
    fn refuses(&self, fault: &Fault) -> Option<String>;
    /// Where the run lives.
    fn folder(&self) -> &Path;
    /// Starts nodes at places.
    fn start(&mut self, slots: &[u32]) -> Result<(), String>;
    /// What has happened; waits for something so long at most.
    fn wait(&mut self, most: Duration) -> Vec<Told>;
    /// Ends processes at once; `host`: with everything that runs beside them.
    fn kill(&mut self, slots: &[u32], host: bool);
    /// Ends processes for want of memory; where that cannot be had, as any other.
    fn starve(&mut self, slots: &[u32]) {
        self.kill(slots, false);
    }
    /// Whether processes that were killed alone come back by themselves.
    fn revives(&self) -> bool;
    /// Asks nodes to leave.
    fn drain(&mut self, slots: &[u32], lead: Option<Duration>);
    /// Takes that back.
    fn stay(&mut self, slots: &[u32]);
    /// Does what lasts; whom it struck.
    fn afflict(&mut self, strike: &Strike<'_>) -> Vec<u32>;
    /// Ends it; how often it showed: nodes that stood still, datagrams and requests that it met.
    fn relieve(&mut self, number: u32) -> u64;
    /// Ends everything.
    fn finish(&mut self);
}

/// What is due at a time.
#[derive(Debug, Clone)]
enum Due {
    Strike(usize),
    Pass(u32),
    Start(Vec<u32>),
    Stay(Vec<u32>),
    Deadline(Vec<NodeId>),
}

/// What came of a play.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) history: History,
    pub(crate) struck: usize,
    pub(crate) took: Duration,
    pub(crate) done: bool,
    /// Steps that were committed at most.
    pub(crate) reached: u64,
}

struct Driver<'a, S> {
    scenario: &'a Scenario,
    stage: &'a mut S,
    rng: ChaCha8Rng,
    timeline: Timeline,
    due: BTreeMap<(Duration, u64), Due>,
    laid: u64,
    /// Who lives at a place.
    places: BTreeMap<u32, NodeId>,
    pending: BTreeSet<usize>,
    planned: usize,
    strikes: u32,
    active: BTreeSet<u32>,
    damaged: Vec<u64>,
    /// Places that left and come back so long after.
    returns: BTreeMap<u32, Duration>,
    joined: u32,
    /// The ranks of the start have been together.
    whole: bool,
    calm: Option<Duration>,
    well: Option<Duration>,
    done: Option<Duration>,
}

/// Why a scenario cannot be played on a stage.
///
/// # Errors
/// The first fault that cannot be had there.
pub(crate) fn check(scenario: &Scenario, stage: &impl Stage) -> Result<(), ScenarioError> {
    for (fault, number) in scenario.faults.iter().zip(1..) {
        if let Some(because) = stage.refuses(fault) {
            return Err(ScenarioError::Fault { number, kind: fault.kind.to_string(), because });
        }
    }
    Ok(())
}

/// Plays a scenario on a stage.
///
/// # Errors
/// A fault cannot be had there, or a node cannot be started.
pub(crate) fn play(scenario: &Scenario, seed: u64, stage: &mut impl Stage) -> Result<Played, ScenarioError> {
    check(scenario, stage)?;
    let batch = u64::from(scenario.workload.lanes) * u64::from(scenario.workload.samples_per_lane);
    let timeline = Timeline::new(stage.folder(), batch);
    let driver = Driver {
        scenario,
        stage,
        rng: ChaCha8Rng::seed_from_u64(seed),
        timeline,
        due: BTreeMap::new(),
        laid: 0,
        places: BTreeMap::new(),
        pending: (0..scenario.faults.len()).collect(),
        planned: 0,
        strikes: 0,
        active: BTreeSet::new(),
        damaged: Vec::new(),
        returns: BTreeMap::new(),
        joined: 0,
        whole: false,
        calm: None,
        well: None,
        done: None,
    };
    driver.play().map_err(ScenarioError::Malformed)
}

/// The machine of a place, and its zone.
pub(crate) fn host(scenario: &Scenario, slot: u32) -> (u32, String) {
    let cluster = &scenario.cluster;
    let host = slot / cluster.nodes_per_host.max(1);
    (host, char::from(b'a' + (host % cluster.zones.clamp(1, 26)) as u8).to_string())
}

impl<S: Stage> Driver<'_, S> {
    fn play(mut self) -> Result<Played, String> {
        let slots: Vec<u32> = (0..self.scenario.cluster.nodes).collect();
        self.stage.start(&slots)?;
        let scenario = self.scenario;
        for (number, fault) in scenario.faults.iter().enumerate() {
            if let When::Time(at) = fault.at.when {
                self.plan(number, at);
            }
        }
        while !self.is_over() {
            let now = self.timeline.now();
            let next = self.due.keys().next().map_or(LOOK, |(at, _)| at.saturating_sub(now));
            let told = self.stage.wait(next.min(LOOK));
            told.into_iter().for_each(|told| self.hear(told));
            self.notice();
            self.do_what_is_due()?;
            self.look_for_calm();
        }
        let took = self.timeline.now();
        if !self.places.is_empty() && self.timeline.is_done() {
            let what = Happening::Size { of: "nodes that outlive the run".into(), is: self.places.len() as u64, bound: 0 };
            self.timeline.push(took, 0, what);
        }
        // What the run's end came before has shown all the same.
        let active: Vec<u32> = self.active.iter().copied().collect();
        active.into_iter().for_each(|strike| self.pass(strike));
        self.stage.finish();
        let last = self.stage.wait(Duration::ZERO);
        last.into_iter().for_each(|told| self.hear(told));
        let reached = self.timeline.reached().unwrap_or(0);
        let done = self.timeline.is_done();
        let history = self.timeline.finish();
        let struck = history.struck().count();
        Ok(Played { history, struck, took, done, reached })
    }

    fn is_over(&mut self) -> bool {
        let now = self.timeline.now();
        if self.timeline.is_done() {
            let since = *self.done.get_or_insert(now);
            return self.places.is_empty() || now > since + PARTING;
        }
        let Some(calm) = self.calm else { return false };
        let end = &self.scenario.probe.end;
        if end.finish {
            return now > calm.max(self.timeline.last_stable()) + end.recover_within.0;
        }
        now > calm + end.recover_within.0 || self.well.is_some_and(|well| now > well + CODA && !self.ends_soon())
    }

    /// Whether few enough steps are left to wait for the end.
    fn ends_soon(&self) -> bool {
        let left = self.scenario.workload.steps.saturating_sub(self.timeline.reached().unwrap_or(0));
        self.scenario.workload.step_time.0 * u32::try_from(left).unwrap_or(u32::MAX) < self.scenario.probe.end.recover_within.0 / 4
    }

    fn hear(&mut self, told: Told) {
        let now = self.timeline.now();
        match told {
            Told::Started(node, slot) => {
                let who = self.timeline.who(node);
                self.places.insert(slot, node);
                self.well = None;
                self.timeline.push(now, who, Happening::Started { slot });
            }
            Told::Event(recorded) => self.timeline.hear(&recorded, self.stage),
            Told::Gone(node, again, because) => {
                let who = self.timeline.who(node);
                let Some(slot) = self.slot(node) else { return };
                self.places.remove(&slot);
                let comes_back = self.returns.remove(&slot).or_else(|| (again && self.scenario.cluster.relaunch).then_some(AGAIN));
                self.timeline.push(now, who, Happening::Ended { comes_back: comes_back.is_some(), because });
                if let Some(after) = comes_back {
                    self.lay(now + after, Due::Start(vec![slot]));
                }
            }
            Told::Done => {
                self.timeline.is_over(now, 0);
                self.places.clear();
            }
        }
    }

    fn slot(&self, node: NodeId) -> Option<u32> {
        self.places.iter().find(|(_, at)| **at == node).map(|(slot, _)| *slot)
    }

    // ---- triggers -----------------------------------------------------------------------------

    fn notice(&mut self) {
        let now = self.timeline.now();
        let news = self.timeline.news();
        let reached = self.timeline.reached();
        let scenario = self.scenario;
        // Launchers are not alike in speed: the first may have made steps before the last one is there.
        let known = |node: NodeId| self.places.values().any(|at| *at == node);
        let together = |record: &EpochRecord| {
            record.members.len() as u32 >= scenario.ranks_start() && record.members.iter().all(|member| known(member.node))
        };
        self.whole |= self.timeline.newest.as_ref().is_some_and(together);
        for (number, fault) in scenario.faults.iter().enumerate() {
            let due = match &fault.at.when {
                When::Step(step) => self.whole && reached.is_some_and(|reached| reached >= *step),
                When::Event { name, nth } => news.iter().any(|(of, count)| of == name && count == nth),
                When::Time(_) => false,
            };
            if due {
                self.plan(number, now);
            }
        }
    }

    fn plan(&mut self, number: usize, at: Duration) {
        if !self.pending.remove(&number) || self.calm.is_some() {
            return;
        }
        let fault = &self.scenario.faults[number];
        for later in fault.strikes() {
            self.planned += 1;
            self.lay(at + fault.at.after + later, Due::Strike(number));
        }
    }

    fn lay(&mut self, at: Duration, due: Due) {
        self.laid += 1;
        self.due.insert((at, self.laid), due);
    }

    fn do_what_is_due(&mut self) -> Result<(), String> {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.timeline.now()) {
            match entry.remove() {
                Due::Strike(number) => {
                    self.planned -= 1;
                    if self.calm.is_none() {
                        self.strike(number);
                    }
                }
                Due::Pass(strike) => self.pass(strike),
                Due::Start(slots) => {
                    let free: Vec<u32> = slots.into_iter().filter(|slot| !self.places.contains_key(slot)).collect();
                    if !free.is_empty() && !self.timeline.is_done() {
                        self.stage.start(&free)?;
                    }
                }
                Due::Stay(slots) => self.stage.stay(&slots),
                Due::Deadline(nodes) => {
                    let still: Vec<u32> = nodes.into_iter().filter_map(|node| self.slot(node)).collect();
                    self.kill(&still, false);
                    for slot in still {
                        if let Some(after) = self.returns.remove(&slot) {
                            self.lay(self.timeline.now() + after, Due::Start(vec![slot]));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    // ---- strikes ------------------------------------------------------------------------------

    fn draw(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n.max(1) as u64) as usize
    }

    fn pick(&mut self, target: Option<&Target>) -> Vec<u32> {
        let Some(target) = target else { return Vec::new() };
        self.timeline.look();
        let record = self.timeline.newest.as_ref();
        let candidate = |(slot, node): (&u32, &NodeId)| {
            let (host, zone) = host(self.scenario, *slot);
            let rank = record.and_then(|record| record.rank_of(*node)).map(|rank| rank.0);
            Candidate { slot: *slot, host, zone, rank, leads: record.is_some_and(|record| record.leader == *node) }
        };
        let nodes: Vec<Candidate> = self.places.iter().map(candidate).collect();
        let rng = &mut self.rng;
        target.pick(&nodes, |n| (rng.next_u64() % n.max(1) as u64) as usize)
    }

    fn whos(&mut self, slots: &[u32]) -> Vec<Who> {
        let nodes: Vec<NodeId> = slots.iter().filter_map(|slot| self.places.get(slot).copied()).collect();
        nodes.into_iter().map(|node| self.timeline.who(node)).collect()
    }

    fn strike(&mut self, number: usize) {
        let scenario = self.scenario;
        let fault = &scenario.faults[number];
        let whom = self.pick(fault.target.as_ref().or(fault.from.as_ref()));
        let selects = fault.target.is_some() || fault.from.is_some();
        if selects && whom.is_empty() {
            return;
        }
        let now = self.timeline.now();
        match fault.kind {
            Kind::Kill | Kind::KillHost | Kind::Oom => self.strike_dead(number, whom),
            Kind::Drain => self.strike_drain(number, &whom),
            Kind::Join => {
                let first = scenario.cluster.nodes + self.joined;
                let count = fault.count.unwrap_or(1);
                self.joined += count;
                self.struck(number, &[]);
                self.lay(now, Due::Start((first..first + count).collect()));
            }
            Kind::Checkpoint => {
                let folder = self.stage.folder().to_owned();
                let damaged = std::mem::take(&mut self.damaged);
                let mode = fault.mode.unwrap_or(crate::fault::Mode::Torn);
                let step = damage::damage(&folder, mode, &damaged, |n| self.draw(n));
                self.damaged = damaged;
                if let Some(step) = step {
                    self.damaged.push(step);
                    self.timeline.push(now, 0, Happening::Damaged { step });
                    self.struck(number, &[]);
                }
            }
            _ => self.strike_lasting(number, whom),
        }
    }

    fn strike_dead(&mut self, number: usize, mut whom: Vec<u32>) {
        let fault = &self.scenario.faults[number];
        let whole = fault.kind == Kind::KillHost;
        if whole {
            let hosts: BTreeSet<u32> = whom.iter().map(|slot| host(self.scenario, *slot).0).collect();
            whom = self.places.keys().copied().filter(|slot| hosts.contains(&host(self.scenario, *slot).0)).collect();
        }
        self.struck(number, &whom);
        self.end(&whom, |stage| if fault.kind == Kind::Oom { stage.starve(&whom) } else { stage.kill(&whom, whole) });
        if let Some(after) = fault.restart.filter(|_| whole || !self.stage.revives()) {
            self.lay(self.timeline.now() + after.0, Due::Start(whom));
        }
    }

    fn kill(&mut self, slots: &[u32], whole: bool) {
        self.end(slots, |stage| stage.kill(slots, whole));
    }

    fn end(&mut self, slots: &[u32], how: impl FnOnce(&mut S)) {
        let now = self.timeline.now();
        for who in self.whos(slots) {
            self.timeline.push(now, who, Happening::Died);
        }
        self.places.retain(|slot, _| !slots.contains(slot));
        how(self.stage);
    }

    fn strike_drain(&mut self, number: usize, whom: &[u32]) {
        let fault = &self.scenario.faults[number];
        let lead = fault.lead.map(|span| span.0);
        self.struck(number, whom);
        if let Some(after) = fault.restart {
            self.returns.extend(whom.iter().map(|slot| (*slot, after.0)));
        }
        self.stage.drain(whom, lead);
        let now = self.timeline.now();
        match (fault.cancel, lead) {
            (Some(after), _) => self.lay(now + after.0, Due::Stay(whom.to_vec())),
            (None, Some(lead)) => {
                let nodes = whom.iter().filter_map(|slot| self.places.get(slot).copied()).collect();
                self.lay(now + lead, Due::Deadline(nodes));
            }
            (None, None) => {}
        }
    }

    fn strike_lasting(&mut self, number: usize, whom: Vec<u32>) {
        let fault = &self.scenario.faults[number];
        let to = match (&fault.to, fault.kind) {
            (Some(to), _) => self.pick(Some(to)),
            (None, Kind::Cut | Kind::Link) => self.places.keys().copied().filter(|slot| !whom.contains(slot)).collect(),
            _ => Vec::new(),
        };
        let paths = matches!(fault.kind, Kind::Cut | Kind::Link);
        if paths && to.is_empty() {
            return;
        }
        let strike = Strike { number: self.strikes, fault, whom, to };
        let now = self.timeline.now();
        let struck = self.stage.afflict(&strike);
        if struck.is_empty() && fault.target.is_some() {
            return;
        }
        // Of paths the smaller side is the one that is cut off.
        let hidden = match (paths, strike.whom.len().cmp(&strike.to.len())) {
            (false, _) => struck,
            (true, std::cmp::Ordering::Less) => strike.whom,
            (true, std::cmp::Ordering::Greater) => strike.to,
            (true, std::cmp::Ordering::Equal) => strike.whom.into_iter().chain(strike.to).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let number_of_strike = self.struck_at(now, number, &hidden);
        if fault.kind != Kind::BitFlip {
            self.active.insert(number_of_strike);
            self.lay(now + fault.lasts(), Due::Pass(number_of_strike));
        } else {
            self.timeline.push(now, 0, Happening::Felt { strike: number_of_strike, times: hidden.len() as u64 });
        }
    }

    fn struck(&mut self, number: usize, slots: &[u32]) {
        let now = self.timeline.now();
        let strike = self.struck_at(now, number, slots);
        // What is done at once has shown by that.
        self.timeline.push(now, 0, Happening::Felt { strike, times: slots.len().max(1) as u64 });
    }

    fn struck_at(&mut self, at: Duration, number: usize, slots: &[u32]) -> u32 {
        let strike = self.strikes;
        self.strikes += 1;
        let targets = self.whos(slots);
        let kind = self.scenario.faults[number].kind;
        self.timeline.push(at, 0, Happening::Struck { fault: number, strike, kind, targets });
        strike
    }

    fn pass(&mut self, strike: u32) {
        if self.active.remove(&strike) {
            let times = self.stage.relieve(strike);
            self.timeline.push(self.timeline.now(), 0, Happening::Felt { strike, times });
            self.timeline.push(self.timeline.now(), 0, Happening::Passed { strike });
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    fn look_for_calm(&mut self) {
        let now = self.timeline.now();
        if self.calm.is_none() {
            let spent = self.pending.is_empty() && self.planned == 0 && self.active.is_empty() && self.due.is_empty();
            let over = now >= self.scenario.probe.end.storm.0;
            if spent || over {
                let active: Vec<u32> = self.active.iter().copied().collect();
                active.into_iter().for_each(|strike| self.pass(strike));
                self.calm = Some(now);
                self.timeline.push(now, 0, Happening::Calm);
            }
            return;
        }
        self.timeline.look();
        let Some(record) = &self.timeline.newest else { return };
        let wanted = self.places.len().min(self.scenario.cluster.ranks_max as usize);
        let inside = record.members.iter().filter(|member| self.places.values().any(|node| *node == member.node)).count();
        let all = inside == record.members.len() && inside >= wanted;
        if !(all && self.due.is_empty() && self.timeline.steps_in(record.epoch)) {
            self.well = None;
        } else if self.well.is_none() {
            self.well = Some(now);
        }
    }
}
