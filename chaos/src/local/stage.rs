//! The stage of the tiers local and paused: nodes in this process, each on a runtime of its own or all on one, and how faults reach
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use everstep_actors::net::endpoint::Options;
use everstep_actors::net::link::Heartbeat;
use everstep_actors::net::tls::{Identity, Role, RunCa, TlsError};
use everstep_actors::protocol::coordinator::Care;
use everstep_actors::protocol::ids::Step;
use everstep_actors::protocol::shard::{Shard, UnitShape, cut};
use everstep_actors::protocol::word::Outcome;
use everstep_actors::roles::node::Order;
use everstep_actors::roles::watchdog::Patience;
use everstep_actors::store::Store;
use everstep_actors::store::faulty::{self, Faulty};
use everstep_actors::workload::Workload;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::runtime::Runtime;

use super::net::{Net, Trace, Trouble};
use super::work::{Gate, Observed, Sheet};
use super::{Run, Running, Seat};
use crate::fault::{Fault, Kind, Mode};
use crate::ledger::Ledger;
use crate::scenario::Scenario;
use crate::stage::timeline::{Books, Committed};
use crate::stage::{Stage, Strike, Told, host};

/// A store that is away says so after this.
const AWAY: Duration = Duration::from_millis(500);
/// A late store answers after this.
const LATE: Duration = Duration::from_secs(2);
/// Where the parts of checkpoints lie.
const PARTS: &str = "checkpoints/parts";
/// How long certificates last: longer than a play.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Trouble of a store whose node is dead: above all numbers of strikes.
const DEAD: u32 = u32::MAX;

/// Holds a runtime's only thread.
#[derive(Debug, Default)]
struct Freeze {
    frozen: Mutex<bool>,
    thawed: Condvar,
}

impl Freeze {
    fn thaw(&self) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.thawed.notify_all();
    }

    fn hold(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        while *frozen {
            frozen = self.thawed.wait(frozen).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Debug)]
struct Node {
    running: Running,
    pid: u32,
    gate: Arc<Gate>,
    mute: Arc<AtomicBool>,
    store: Arc<Faulty>,
    frozen: BTreeMap<u32, Arc<Freeze>>,
}

#[derive(Debug)]
enum Undo {
    Thaw(Vec<u32>),
    Open(Vec<u32>),
    Speed(Vec<u32>, u32),
    Path,
    Store,
}

/// What nodes stand on.
#[derive(Debug)]
enum Ground<'a> {
    /// A runtime and a key of its own for each.
    Threads,
    /// This runtime for all, and keys from the seed.
    Paused(&'a Runtime, Box<Keys>),
}

/// What makes keys, and makes the same again from the same seed.
#[derive(Debug)]
struct Keys {
    authority: RunCa,
    rng: ChaCha8Rng,
}

impl Keys {
    fn new(seed: u64) -> Result<Self, TlsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self { authority: RunCa::seeded("ledger", drawn(&mut rng))?, rng })
    }

    /// The next node's identity, and what its endpoint draws from.
    fn another(&mut self) -> Result<(Identity, [u8; 32]), TlsError> {
        let identity = Identity::seeded(&self.authority, Role::Node, LIFE, drawn(&mut self.rng))?;
        Ok((identity, drawn(&mut self.rng)))
    }
}

/// 32 bytes, each time others.
fn drawn(rng: &mut ChaCha8Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    scenario: &'a Scenario,
    ground: Ground<'a>,
    run: Run,
    ledger: Arc<Ledger>,
    folder: Folder,
    net: Net,
    sheet: Arc<Sheet>,
    nodes: BTreeMap<u32, Node>,
    started: u32,
    telling: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    undo: BTreeMap<u32, Undo>,
    /// Troubles of the stores of all nodes, those that are yet to come included.
    away: BTreeMap<u32, faulty::Trouble>,
}

/// Of a node's links: all that measures silence is as many times longer than by default as their heartbeats are slower.
fn bounds(scenario: &Scenario, seed: Option<[u8; 32]>) -> Options {
    let options = Options::default();
    let Heartbeat { interval, floor, ceiling } = options.heartbeat;
    let slower = scenario.cluster.beat.0.max(Duration::from_millis(1)).div_duration_f64(interval);
    let [interval, floor, ceiling, idle] = [interval, floor, ceiling, options.idle].map(|time| time.mul_f64(slower));
    Options { heartbeat: Heartbeat { interval, floor, ceiling }, idle, seed, ..options }
}

/// A folder that goes with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("everstep-local-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}; set TMPDIR to a folder that can be written", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nodes that were killed may still be writing their last object.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl<'a> Nodes<'a> {
    /// A stage for a scenario, without nodes.
    pub(super) fn new(scenario: &'a Scenario, seed: u64) -> Result<Self, String> {
        let net = Net::loopback(seed).map_err(|error| format!("no thread can be started: {error}"))?;
        Self::on(Ground::Threads, net, scenario)
    }

    /// The same on a runtime whose clock is paused; to be called within it.
    pub(super) fn paused(scenario: &'a Scenario, seed: u64, runtime: &'a Runtime) -> Result<Self, String> {
        let keys = Keys::new(seed).map_err(|error| error.to_string())?;
        Self::on(Ground::Paused(runtime, Box::new(keys)), Net::in_memory(seed), scenario)
    }

    fn on(ground: Ground<'a>, net: Net, scenario: &'a Scenario) -> Result<Self, String> {
        let work = &scenario.workload;
        let lengths = [33, 64 * (work.shards.max(3) as usize - 2)];
        let ledger = Ledger::new(work.lanes, work.samples_per_lane, 50, &lengths);
        let run = Run {
            ledger: ledger.clone(),
            steps: Step(work.steps),
            checkpoint_every: if work.checkpoint_every == 0 { u64::MAX } else { work.checkpoint_every },
            shard_values: 64,
            gathered_values_max: 1_300,
            ranks_min: scenario.cluster.ranks_min,
            ranks_max: scenario.cluster.ranks_max,
            replicas: scenario.cluster.replicas,
            care: Care::default(),
            patience: Patience::default(),
        };
        let (telling, told) = mpsc::channel();
        Ok(Self {
            scenario,
            ground,
            run,
            ledger: Arc::new(ledger),
            folder: Folder::new()?,
            net,
            sheet: Arc::default(),
            nodes: BTreeMap::new(),
            started: 0,
            telling,
            told,
            undo: BTreeMap::new(),
            away: BTreeMap::new(),
        })
    }

    /// What its network has carried.
    pub(super) fn trace(&self) -> Trace {
        self.net.trace()
    }

    /// The ledger and its shards, for a plain loop.
    pub(super) fn plain(&self) -> (Arc<Ledger>, Vec<Shard>) {
        let shapes: Vec<UnitShape> = self.ledger.units().iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
        (self.ledger.clone(), cut(&shapes, self.run.shard_values))
    }

    fn start_one(&mut self, slot: u32) -> Result<(), String> {
        let place = |error: &dyn std::fmt::Display| format!("the node of place {slot} cannot be started: {error}");
        let store = Store::open(&self.folder.0.display().to_string()).map_err(|error| place(&error))?;
        let store = if matches!(self.ground, Ground::Paused(..)) { store.known_as("run") } else { store };
        let (store, faulty) = store.behind_faults();
        self.away.iter().for_each(|(number, trouble)| faulty.trouble(*number, *trouble));
        let (gate, mute) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
        let work = Arc::new(Observed {
            ledger: self.ledger.clone(),
            gate: gate.clone(),
            sheet: self.sheet.clone(),
            step_time: self.scenario.workload.step_time.0,
        });
        let (runtime, identity, net) = match &mut self.ground {
            Ground::Threads => (Some(Running::runtime()), Run::identity(&self.folder.0), bounds(self.scenario, None)),
            Ground::Paused(_, keys) => {
                let (identity, seed) = keys.another().map_err(|error| place(&error))?;
                (None, identity, bounds(self.scenario, Some(seed)))
            }
        };
        let socket = {
            let _inside = runtime.as_ref().map(Runtime::enter);
            self.net.socket(slot, mute.clone()).map_err(|error| place(&error))?
        };
        let (machine, zone) = host(self.scenario, slot);
        let pid = 1_000 + self.started;
        self.started += 1;
        let seat = Seat {
            workload: work.clone(),
            source: work,
            store,
            net,
            socket: Some(socket),
            host: format!("host{machine}"),
            zone,
            slot,
            pid,
            ranks: self.scenario.ranks_start(),
        };
        let telling = self.telling.clone();
        let ending = self.telling.clone();
        // Told before it can end.
        let _ = self.telling.send(Told::Started(identity.id(), slot));
        let running = self.run.launch(
            identity,
            seat,
            runtime,
            // A driver that has ended hears nothing more.
            move |recorded| drop(telling.send(Told::Event(Box::new(recorded)))),
            move |id, ended| {
                let (again, because) = match ended {
                    Ok(ended) => (ended.outcome == Outcome::Lost, format!("{:?}: {}", ended.outcome, ended.because)),
                    Err(error) => (true, error.to_string()),
                };
                let _ = ending.send(Told::Gone(*id, again, because));
            },
        );
        self.nodes.insert(slot, Node { running, pid, gate, mute, store: faulty, frozen: BTreeMap::new() });
        Ok(())
    }

    fn each(&self, slots: &[u32]) -> impl Iterator<Item = &Node> {
        slots.iter().filter_map(|slot| self.nodes.get(slot))
    }

    fn order(&self, slots: &[u32], order: &Order) {
        for node in self.each(slots) {
            // A node that takes no orders any more is about to end.
            let _ = node.running.orders.try_send(order.clone());
        }
    }

    fn freeze(&mut self, number: u32, slots: &[u32]) {
        for slot in slots {
            let Some(node) = self.nodes.get_mut(slot) else { continue };
            let freeze = Arc::new(Freeze { frozen: Mutex::new(true), thawed: Condvar::new() });
            node.frozen.insert(number, freeze.clone());
            node.running.spawn(async move { freeze.hold() });
        }
    }

    fn trouble_stores(&mut self, strike: &Strike<'_>) {
        let trouble = match strike.fault.mode {
            Some(Mode::Late) => faulty::Trouble::Late(LATE),
            Some(Mode::Unknown) => faulty::Trouble::Unknown,
            Some(Mode::ReadOnly) => faulty::Trouble::ReadOnly,
            Some(Mode::Full) => faulty::Trouble::Full(PARTS),
            _ => faulty::Trouble::Away(AWAY),
        };
        if strike.fault.target.is_none() {
            self.away.insert(strike.number, trouble);
            self.nodes.values().for_each(|node| node.store.trouble(strike.number, trouble));
        } else {
            self.each(&strike.whom).for_each(|node| node.store.trouble(strike.number, trouble));
        }
    }
}

impl Books for Nodes<'_> {
    fn digest(&mut self, committed: Committed<'_>) -> u64 {
        self.sheet.state(committed.step)
    }

    fn used_its_own(&self, committed: Committed<'_>) -> bool {
        committed.samples_hash == self.ledger.samples_hash(Step(committed.step))
    }
}

impl Stage for Nodes<'_> {
    fn refuses(&self, fault: &Fault) -> Option<String> {
        match (fault.kind, fault.mode) {
            (Kind::Nan, _) => Some("the ledger has no rule for a gradient that is not a number: the program's own tests have".into()),
            (Kind::Stop, _) if matches!(self.ground, Ground::Paused(..)) => {
                Some("all nodes share one thread here, and whoever stops it stops all: play it in the local tier".into())
            }
            (Kind::BitFlip, Some(Mode::Copy)) => {
                Some("copies at rest lie in the memory of real nodes, out of reach: play it in the simulated tier".into())
            }
            _ => None,
        }
    }

    fn folder(&self) -> &Path {
        &self.folder.0
    }

    fn start(&mut self, slots: &[u32]) -> Result<(), String> {
        slots.iter().try_for_each(|slot| self.start_one(*slot))
    }

    fn wait(&mut self, most: Duration) -> Vec<Told> {
        let first = match &self.ground {
            Ground::Threads => self.told.recv_timeout(most).ok(),
            Ground::Paused(runtime, _) => {
                runtime.block_on(tokio::time::sleep(most));
                None
            }
        };
        let all: Vec<Told> = first.into_iter().chain(self.told.try_iter()).collect();
        for told in &all {
            if let Told::Gone(node, ..) = told {
                self.nodes.retain(|_, at| at.running.id != *node);
            }
        }
        all
    }

    fn kill(&mut self, slots: &[u32], whole: bool) {
        let dead: Vec<(u32, Node)> = slots.iter().filter_map(|slot| self.nodes.remove_entry(slot)).collect();
        let mut ended = Vec::new();
        for (slot, node) in dead {
            // It says nothing more, whatever its threads are still at.
            node.mute.store(true, Ordering::Release);
            node.store.trouble(DEAD, faulty::Trouble::Away(Duration::ZERO));
            let Node { running, frozen, pid, gate, .. } = node;
            running.kill();
            // On a runtime that others share its lanes would wait there for ever.
            gate.shut.send_replace(0);
            frozen.values().for_each(|freeze| freeze.thaw());
            ended.push((host(self.scenario, slot).0, pid));
        }
        if whole {
            return;
        }
        for (machine, pid) in ended {
            let beside: Vec<u32> = self.nodes.keys().copied().filter(|slot| host(self.scenario, *slot).0 == machine).collect();
            self.order(&beside, &Order::Died { pid, because: "its process was killed by signal 9 (SIGKILL)".into() });
        }
    }

    fn revives(&self) -> bool {
        false
    }

    fn drain(&mut self, slots: &[u32], lead: Option<Duration>) {
        self.order(slots, &Order::Leave { because: "a notice came".into(), deadline: lead });
    }

    fn stay(&mut self, slots: &[u32]) {
        self.order(slots, &Order::Stay);
    }

    fn afflict(&mut self, strike: &Strike<'_>) -> Vec<u32> {
        let (fault, whom) = (strike.fault, &strike.whom);
        let undo = match fault.kind {
            Kind::Stop => {
                self.freeze(strike.number, whom);
                Undo::Thaw(whom.clone())
            }
            Kind::Hang => {
                self.each(whom).for_each(|node| node.gate.shut.send_modify(|shut| *shut += 1));
                Undo::Open(whom.clone())
            }
            Kind::Slow => {
                let factor = fault.factor.unwrap_or(3).max(1);
                self.each(whom).for_each(|node| node.gate.quicken(|slow| slow * factor));
                Undo::Speed(whom.clone(), factor)
            }
            Kind::Cut | Kind::Link => {
                let set = |slots: &[u32]| slots.iter().copied().collect::<BTreeSet<u32>>();
                let span = |span: Option<crate::scenario::Span>| span.map_or(Duration::ZERO, |span| span.0);
                let trouble = Trouble {
                    from: set(whom),
                    to: set(&strike.to),
                    one_way: fault.one_way,
                    cut: fault.kind == Kind::Cut,
                    loss: fault.loss.unwrap_or(0.0),
                    delay: span(fault.delay),
                    duplicate: fault.duplicate.unwrap_or(0.0),
                    reorder: span(fault.reorder),
                    ..Trouble::default()
                };
                self.net.lay(strike.number, trouble);
                Undo::Path
            }
            Kind::Store => {
                self.trouble_stores(strike);
                Undo::Store
            }
            Kind::BitFlip => {
                self.each(whom).for_each(|node| node.gate.flips.store(true, Ordering::Relaxed));
                return whom.clone();
            }
            _ => return Vec::new(),
        };
        self.undo.insert(strike.number, undo);
        whom.clone()
    }

    fn relieve(&mut self, number: u32) -> u64 {
        match self.undo.remove(&number) {
            Some(Undo::Thaw(slots)) => {
                for slot in &slots {
                    if let Some(freeze) = self.nodes.get_mut(slot).and_then(|node| node.frozen.remove(&number)) {
                        freeze.thaw();
                    }
                }
                slots.len() as u64
            }
            Some(Undo::Open(slots)) => {
                self.each(&slots).for_each(|node| node.gate.shut.send_modify(|shut| *shut = shut.saturating_sub(1)));
                slots.len() as u64
            }
            Some(Undo::Speed(slots, factor)) => {
                self.each(&slots).for_each(|node| {
                    node.gate.quicken(|slow| (slow / factor).max(1));
                });
                slots.len() as u64
            }
            Some(Undo::Path) => self.net.lift(number),
            Some(Undo::Store) => {
                self.away.remove(&number);
                self.nodes.values().map(|node| node.store.mend(number)).sum()
            }
            None => 0,
        }
    }

    fn finish(&mut self) {
        let slots: Vec<u32> = self.nodes.keys().copied().collect();
        self.kill(&slots, true);
        self.net.close();
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
