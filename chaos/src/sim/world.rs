//! The world of a simulation: the clock, the nodes, the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::protocol::coordinator::{self, Care, Rules};
use everstep_actors::protocol::ids::{Epoch, ShardId, Step, Version};
use everstep_actors::protocol::membership::{self, Membership, Settings};
use everstep_actors::protocol::record::Member;
use everstep_actors::protocol::shard::Shard;
use everstep_actors::protocol::shelf::Shelf;
use everstep_actors::protocol::terms::Terms;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::content::{self, mix};
use super::dice::up_to;
use super::event::Event;
use super::faults::Faults;
use super::network::Network;
use super::node::{self, Node, RankModel};
use super::queue::Queue;
use super::rank::{Exchange, Used};
use super::store::Store;
use super::{Bug, Run};
use crate::history::{Happening, History, Promise, Who, last_stable};
use crate::scenario::Scenario;

/// The pace at which a node asks the store again.
const PACE: Duration = Duration::from_millis(250);
/// Wakes of a node in a second, and of a new one, at most.
const WAKES_MAX: u64 = 60;
/// Nodes whose machines are printed at most.
const SHOWN: usize = 16;
/// How often sizes are looked at.
const MEASURE: Duration = Duration::from_secs(5);
/// How long a run is watched after it got well.
const CODA: Duration = Duration::from_secs(2);

/// See the module's text.
pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) bug: Option<Bug>,
    pub(super) seed: u64,
    pub(super) now: Duration,
    pub(super) queue: Queue<Event>,
    pub(super) rng: ChaCha8Rng,
    pub(super) nodes: Vec<Node>,
    /// Who lives at a place.
    pub(super) places: BTreeMap<u32, Who>,
    pub(super) network: Network,
    pub(super) store: Store,
    pub(super) exchanges: BTreeMap<(Epoch, Step), Exchange>,
    /// What steps used that ended without a word: the newest of them.
    pub(super) unsaid: BTreeMap<(Epoch, Step), Used>,
    pub(super) history: History,
    pub(super) faults: Faults,
    pub(super) rules: Rules,
    pub(super) shards: BTreeSet<ShardId>,
    /// The newest epoch that was recorded, and its members.
    pub(super) newest: (u64, Who, Vec<Who>),
    /// How many steps were committed at most.
    pub(super) reached: u64,
    /// When all was well again.
    pub(super) well: Option<Duration>,
    pub(super) done: bool,
    /// Wakes that machines asked for.
    woken: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64, bug: Option<Bug>) -> Self {
        let workload = &scenario.workload;
        let cluster = &scenario.cluster;
        let shards: Arc<[Shard]> = (0..workload.shards).map(|n| Shard { id: content::shard(n), range: 0..1_000 }).collect();
        let rules = Rules {
            terms: terms(),
            mixed: false,
            lanes: workload.lanes,
            replicas: cluster.replicas,
            shards: shards.clone(),
            steps: Step(workload.steps),
            ranks_start: scenario.ranks_start(),
            ranks_min: cluster.ranks_min,
            ranks_max: cluster.ranks_max,
            checkpoint_every: workload.checkpoint_every,
            grace: cluster.grace.0,
            quiet: Duration::from_millis(300),
            care: Care::default(),
            attempts: 4,
        };
        let mut world = Self {
            scenario,
            bug,
            seed,
            now: Duration::ZERO,
            queue: Queue::new(),
            rng: ChaCha8Rng::seed_from_u64(mix(seed, 3)),
            nodes: Vec::new(),
            places: BTreeMap::new(),
            network: Network::default(),
            store: Store::default(),
            exchanges: BTreeMap::new(),
            unsaid: BTreeMap::new(),
            history: History::default(),
            faults: Faults::new(scenario),
            shards: rules.shards.iter().map(|shard| shard.id).collect(),
            rules,
            newest: (0, 0, Vec::new()),
            reached: 0,
            well: None,
            done: false,
            woken: 0,
        };
        for slot in 0..cluster.nodes {
            let at = up_to(&mut world.rng, Duration::from_millis(200));
            world.queue.push(at, Event::Start { slot });
        }
        world.queue.push(scenario.probe.end.storm.0, Event::Storm);
        world.queue.push(MEASURE, Event::Measure);
        world
    }

    pub(super) fn play(mut self) -> Run {
        let (mut trace, mut events) = (0, 0);
        self.faults_by_time();
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            trace = mix(trace, mix(at.as_nanos() as u64, event.mark()));
            events += 1;
            self.take(event);
            if self.is_over() {
                break;
            }
        }
        let last = self.history.stable().map(|(_, _, step, _)| step + 1).max().unwrap_or(0);
        let workload = &self.scenario.workload;
        // A machine that asks to be woken in the past spins.
        let (woken, most) = (self.woken, WAKES_MAX * (self.nodes.len() as u64 + self.now.as_secs() * self.places.len() as u64 + 1));
        self.history.push(self.now, 0, Happening::Size { of: "wakes".into(), is: woken, bound: most });
        let promise = Promise::of(self.scenario, content::undisturbed(workload.shards, workload.lanes, workload.samples_per_lane, last));
        let struck = self.history.struck().count();
        let (took, done) = (self.now, self.done);
        let machine = |(_, who): (&u32, &Who)| {
            let node = &self.nodes[*who as usize];
            (*who, format!("{:?} {:?}", node.membership, node.office.as_ref().map(|office| &office.machine)))
        };
        let standing = self.places.iter().take(SHOWN).map(machine).collect();
        Run { history: self.history.in_order(), promise, violations: Vec::new(), trace, events, struck, took, done, standing }
    }

    fn is_over(&mut self) -> bool {
        if self.done {
            return true;
        }
        let Some(calm) = self.faults.calm else { return false };
        let end = &self.scenario.probe.end;
        if end.finish {
            return self.now > calm.max(last_stable(&self.history.entries)) + end.recover_within.0;
        }
        self.now > calm + end.recover_within.0 || self.well.is_some_and(|well| self.now > well + CODA)
    }

    /// Lets something happen, or puts it aside while its node stands still.
    pub(super) fn take(&mut self, event: Event) {
        if let Some((who, of_rank)) = event.at() {
            let node = &mut self.nodes[who as usize];
            if !node.alive {
                return;
            }
            if node.frozen > 0 || (of_rank && node.hung > 0) {
                if node.frozen > 0
                    && let Event::Said { from, to, made, said, .. } = event
                {
                    // It lies in the process's own memory or its kernel's.
                    let still = self.network.link(from, to).is_some_and(|link| link.made == made) || from == to;
                    if still {
                        node.deferred.push(Event::Said { from, to, made, said, arrived: true });
                    }
                } else {
                    node.deferred.push(event);
                }
                return;
            }
        }
        match event {
            Event::Start { slot } => self.start(slot),
            Event::Said { from, to, made, said, arrived } => self.arrive(from, to, made, said, arrived),
            Event::Member(who, fact) => self.member(who, *fact),
            Event::Linked(who, other) => self.member(who, membership::Fact::Linked(self.nodes[other as usize].member.node)),
            Event::Leader(who, fact) => self.leader(who, *fact),
            Event::Wake(who) => self.wake(who),
            Event::Down { who, other, proven, because } => self.told_down(who, other, proven, &because),
            Event::Dialled { from, to, since, meeting } => self.dialled(from, to, since, meeting),
            Event::Undialled { from, to } => self.undialled(from, to),
            Event::Exited { to, dead } => self.exited(to, dead),
            Event::Silent { a, b, made, since } => self.silent(a, b, made, since),
            Event::Beat { a, b, made } => self.beat(a, b, made),
            Event::Closed { a, b, made, by } => self.closed(a, b, made, by),
            Event::Meeting { who, epoch } => self.meeting(who, epoch),
            Event::Report { who, epoch } => self.report(who, epoch),
            Event::Fetch { who, epoch, from, shards } => self.fetch(who, epoch, from, shards),
            Event::Computed { who, epoch, step } => self.computed(who, epoch, step),
            Event::Reduced { who, epoch, step } => self.reduced(who, epoch, step),
            Event::Updated { who, epoch, step, sums } => self.updated(who, epoch, step, sums),
            Event::Asked { who, ask, told_at, answered } => self.asked(who, *ask, told_at, answered),
            Event::Unanswered { who, ask } => self.unanswered(who, *ask),
            Event::Restored { who, epoch, step, contents } => self.restored(who, epoch, step, contents),
            Event::PartsWritten { who, epoch, step, leader, parts } => self.parts_written(who, epoch, step, leader, parts),
            Event::Lease { who, epoch } => self.lease(who, epoch),
            Event::Watch { who, epoch } => self.watch(who, epoch),
            Event::Strike { fault } => self.strike(fault),
            Event::Pass { fault, strike } => self.pass(fault, strike),
            Event::Stay { whom } => self.stay(&whom),
            Event::Deadline { whom } => self.deadline(&whom),
            Event::Storm => self.storm_ends(),
            Event::Measure => self.measure(),
        }
    }

    pub(super) fn say(&mut self, who: Who, what: Happening) {
        self.faults_by_event(&what);
        self.history.push(self.now, who, what);
    }

    /// The machine of a place, and its zone.
    pub(super) fn host(&self, slot: u32) -> (u32, String) {
        let cluster = &self.scenario.cluster;
        let host = slot / cluster.nodes_per_host.max(1);
        let zone = char::from(b'a' + (host % cluster.zones.clamp(1, 26)) as u8);
        (host, zone.to_string())
    }

    fn start(&mut self, slot: u32) {
        if self.places.contains_key(&slot) {
            return;
        }
        if self.bug == Some(Bug::EpochReused) && self.places.is_empty() && !self.nodes.is_empty() {
            self.store.records.clear();
            self.store.lease = None;
        }
        let who = self.nodes.len() as Who;
        let (host, zone) = self.host(slot);
        let member = Member {
            host: format!("h{host:03}"),
            slot,
            node: node::identity(self.seed, who),
            address: format!("h{host:03}:{}", 4000 + slot),
            zone,
            pid: 1000 + who,
        };
        let settings = Settings { me: member.clone(), terms: terms(), shards: self.shards.clone(), grace: self.rules.grace, pace: PACE };
        let (membership, acts) = Membership::new(settings);
        self.nodes.push(Node {
            slot,
            member,
            alive: true,
            frozen: 0,
            hung: 0,
            slow: 1,
            slowed: 0,
            membership: Some(membership),
            office: None,
            shelf: Shelf::default(),
            rank: RankModel::new(),
            stable: Version::default(),
            deferred: Vec::new(),
            wakes: BTreeSet::new(),
            flip_update: None,
            ran: (Step(0), 0),
            updated: BTreeMap::new(),
        });
        self.places.insert(slot, who);
        self.well = None;
        self.say(who, Happening::Started { slot });
        self.member_acts(who, acts);
    }

    /// Gives a node's membership a fact.
    pub(super) fn member(&mut self, who: Who, fact: membership::Fact) {
        let now = self.now;
        let Some(machine) = self.nodes[who as usize].membership.as_mut() else { return };
        let acts = machine.on(now, fact);
        self.member_acts(who, acts);
    }

    /// Gives a node's coordinator a fact, if it leads.
    pub(super) fn leader(&mut self, who: Who, fact: coordinator::Fact) {
        let now = self.now;
        let Some(office) = self.nodes[who as usize].office.as_mut() else { return };
        let acts = office.machine.on(now, fact);
        self.leader_acts(who, acts);
    }

    fn wake(&mut self, who: Who) {
        let now = self.now;
        self.woken += 1;
        let node = &mut self.nodes[who as usize];
        node.wakes = node.wakes.split_off(&(now + Duration::from_nanos(1)));
        self.member(who, membership::Fact::Tick);
        self.leader(who, coordinator::Fact::Tick);
    }

    pub(super) fn wake_at(&mut self, who: Who, at: Duration) {
        let at = at.max(self.now + Duration::from_micros(10));
        if self.nodes[who as usize].wakes.insert(at) {
            self.queue.push(at, Event::Wake(who));
        }
    }

    fn measure(&mut self) {
        let most = 4 * self.shards.len() as u64;
        let living: Vec<Who> = self.places.values().copied().collect();
        for who in living {
            let node = &self.nodes[who as usize];
            let copies = node.shelf.held().len() as u64;
            self.history.push(self.now, who, Happening::Size { of: "copies".into(), is: copies, bound: most });
        }
        if self.places.len() < 64 {
            let sizes: Vec<(Who, u64)> = self
                .places
                .values()
                .map(|who| {
                    let node = &self.nodes[*who as usize];
                    let office = node.office.as_ref().map(|office| &office.machine);
                    (*who, format!("{:?}{office:?}", node.membership).len() as u64)
                })
                .collect();
            let bound = 20_000 + 4_000 * u64::from(self.scenario.cluster.nodes + 16) + 600 * self.shards.len() as u64 * 16;
            for (who, is) in sizes {
                self.history.push(self.now, who, Happening::Size { of: "bytes of machines, printed,".into(), is, bound });
            }
        }
        self.queue.push(self.now + MEASURE, Event::Measure);
    }
}

/// What all nodes of a simulation compute with.
fn terms() -> Terms {
    Terms { build: "sim".into(), recipe: "sim".into(), hardware: "sim".into() }
}
