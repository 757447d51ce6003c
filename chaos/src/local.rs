//! The local tier: several real nodes in one process, over loopback QUIC, on the ledger. And the paused tier: the same nodes over the
//! same QUIC and TLS on one thread, with datagrams in memory, under tokio's paused clock.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use everstep_actors::checkpoint::{self, Digest, OnBad};
use everstep_actors::clock;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::net::endpoint::{Options, Socket};
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::protocol::coordinator::Care;
use everstep_actors::protocol::ids::{NodeId, Step};
use everstep_actors::protocol::terms::Terms;
use everstep_actors::roles::node::{self, Cluster, Ended, NodeArgs, NodeError, Order};
use everstep_actors::roles::watchdog::Patience;
use everstep_actors::store::Store;
use everstep_actors::workload::{Source, Workload};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use crate::checks;
use crate::history::Promise;
use crate::ledger::Ledger;
use crate::scenario::{Scenario, ScenarioError};
use crate::tier::checks_of;
use crate::{sim, stage as tier};

mod net;
mod stage;
mod work;

/// What a simulated wall clock shows at first: the same in each process, and late enough to be a plausible date.
const BEGAN_MS: u64 = 1_767_225_600_000;

/// Plays a scenario with real nodes. `seed` decides whom faults strike; when, among the steps of a node, no seed decides here.
///
/// # Errors
/// The scenario asks for a fault that real nodes in one process cannot have, or a node cannot be started.
pub fn play(scenario: &Scenario, seed: u64) -> Result<sim::Run, ScenarioError> {
    let nodes = stage::Nodes::new(scenario, seed).map_err(ScenarioError::Malformed)?;
    judged(scenario, seed, nodes)
}

/// Plays a scenario with real nodes on this thread alone. `seed` decides everything: keys and ids, how long paths take, whom faults
/// strike and when. Time passes only while all nodes wait.
///
/// # Errors
/// The scenario asks for a fault that nodes on one thread cannot have, or a node cannot be started.
///
/// # Panics
/// Within a runtime: it brings its own.
pub fn play_paused(scenario: &Scenario, seed: u64) -> Result<sim::Run, ScenarioError> {
    let runtime = paused().map_err(|error| ScenarioError::Malformed(format!("no runtime can be had: {error}")))?;
    let _inside = runtime.enter();
    let _simulated = clock::simulate(BEGAN_MS);
    let nodes = stage::Nodes::paused(scenario, seed, &runtime).map_err(ScenarioError::Malformed)?;
    judged(scenario, seed, nodes)
}

/// A runtime of this thread whose clock moves on when all its tasks wait.
fn paused() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().start_paused(true).build()
}

fn judged(scenario: &Scenario, seed: u64, mut nodes: stage::Nodes<'_>) -> Result<sim::Run, ScenarioError> {
    let played = tier::play(scenario, seed, &mut nodes)?;
    let (ledger, shards) = nodes.plain();
    let promise = Promise::of(scenario, work::undisturbed(&ledger, &shards, played.reached));
    let violations = checks::run(&checks_of(scenario), &played.history, &promise);
    let tier::Played { history, struck, took, done, .. } = played;
    let net::Trace { datagrams, hash: trace } = nodes.trace();
    let events = datagrams.max(history.entries.len() as u64);
    Ok(sim::Run { history, promise, violations, trace, events, struck, took, done, standing: Vec::new() })
}

/// A run on the ledger.
#[derive(Debug, Clone)]
pub struct Run {
    /// The workload.
    pub ledger: Ledger,
    /// Steps of the run.
    pub steps: Step,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Values of a shard at most.
    pub shard_values: usize,
    /// Gathered values that may be kept within a step; small, so that units are gathered anew.
    pub gathered_values_max: usize,
    /// Ranks without which nothing is computed.
    pub ranks_min: u32,
    /// Ranks that compute at most.
    pub ranks_max: u32,
    /// Copies of each shard besides the owner's.
    pub replicas: u32,
    /// What is done about results that may be wrong.
    pub care: Care,
    /// How long parts of a node may stand still.
    pub patience: Patience,
}

/// Where a node sits and what it works on.
struct Seat<W> {
    workload: Arc<W>,
    source: Arc<dyn Source>,
    store: Store,
    net: Options,
    socket: Option<Socket>,
    host: String,
    zone: String,
    slot: u32,
    pid: u32,
    /// Ranks that the run's start waits for.
    ranks: u32,
}

/// A node that runs, on a tokio runtime of its own, so that it can be killed without a last word; or, in the paused tier, on one that
/// it shares, where what is left of it after that is deaf and mute.
#[derive(Debug)]
pub struct Running {
    /// Who it is.
    pub id: NodeId,
    /// Its place.
    pub slot: u32,
    /// Orders to it; dropped, it goes on alone.
    pub orders: mpsc::Sender<Order>,
    task: JoinHandle<Result<Ended, NodeError>>,
    /// Who passes on what it tells, where that is a task.
    telling: Option<AbortHandle>,
    runtime: Option<Runtime>,
}

impl Running {
    /// Waits for the run's end on this node.
    ///
    /// # Errors
    /// The node could not be started.
    pub async fn ended(mut self) -> Result<Ended, NodeError> {
        (&mut self.task).await.expect("a node does not panic")
    }

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a test can have threads")
    }

    /// Has a task run among those of the node.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Kills the node: its tasks, its sockets, its state. Nobody is told.
    pub fn kill(self) {
        self.telling.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What happened on all nodes of a run, in the order in which it was told.
#[derive(Debug, Clone, Default)]
pub struct Log {
    events: Arc<Mutex<Vec<Recorded>>>,
    told: Arc<Notify>,
}

impl Log {
    fn push(&self, recorded: Recorded) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
        self.told.notify_waiters();
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Recorded> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `find` finds what it looks for among the events so far.
    ///
    /// # Panics
    /// After a minute, with the last events: the story has gone wrong.
    pub async fn until<T>(&self, what: &str, find: impl Fn(&[Recorded]) -> Option<T>) -> T {
        let found = async {
            loop {
                let told = self.told.notified();
                if let Some(found) = find(&self.events.lock().unwrap_or_else(PoisonError::into_inner)) {
                    return found;
                }
                told.await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(60), found).await {
            Ok(found) => found,
            Err(_) => {
                let events = self.events();
                let last: Vec<String> = events.iter().rev().take(30).rev().map(|event| format!("{event:?}")).collect();
                panic!("waited in vain for {what}; the last events:\n{}", last.join("\n"))
            }
        }
    }

    /// Waits until a step has been committed; who led then.
    pub async fn committed(&self, step: Step) -> NodeId {
        let committed = |events: &[Recorded]| {
            let there = events.iter().any(|event| matches!(event.event, Event::StepCommitted { step: at, .. } if at >= step));
            let leader = |event: &Recorded| match event.event {
                Event::EpochBegan { leader, .. } => Some(leader),
                _ => None,
            };
            there.then(|| events.iter().rev().find_map(leader))?
        };
        self.until(&format!("{step} to be committed"), committed).await
    }
}

impl Run {
    /// Starts one of `ranks` nodes of the run that lives in `folder`.
    ///
    /// # Panics
    /// When the folder cannot be used: the harness itself is broken then.
    pub fn start(&self, folder: &Path, ranks: u32, slot: u32, log: &Log) -> Running {
        self.start_with(Arc::new(self.ledger.clone()), folder, ranks, slot, log)
    }

    /// The same with a workload that does not do on this node what it does on others.
    ///
    /// # Panics
    /// As [`Run::start`].
    pub fn start_with<W: Workload>(&self, workload: Arc<W>, folder: &Path, ranks: u32, slot: u32, log: &Log) -> Running {
        self.start_as(Self::identity(folder), workload, folder, ranks, slot, log)
    }

    /// The same as a node that is known before: of two nodes the one with the lower id dials.
    ///
    /// # Panics
    /// As [`Run::start`].
    pub fn start_as<W: Workload>(&self, identity: Identity, workload: Arc<W>, folder: &Path, ranks: u32, slot: u32, log: &Log) -> Running {
        let seat = Seat {
            workload,
            source: Arc::new(self.ledger.clone()),
            store: Store::open(&folder.display().to_string()).expect("the folder of a test can be written"),
            net: Options::default(),
            socket: None,
            host: format!("host{slot}"),
            zone: String::new(),
            slot,
            pid: std::process::id(),
            ranks,
        };
        let log = log.clone();
        self.launch(identity, seat, Some(Running::runtime()), move |recorded| log.push(recorded), |_, _| {})
    }

    /// A new node of the run that lives in `folder`.
    ///
    /// # Panics
    /// As [`Run::start`].
    pub fn identity(folder: &Path) -> Identity {
        let ca = RunCa::load_or_create(&folder.join("secrets"), "ledger").expect("the folder of a test can hold a certificate authority");
        Identity::issue(&ca, Role::Node, std::time::Duration::from_secs(3_600)).expect("a certificate can be issued")
    }

    /// Starts a node on a runtime of its own, or on that of the caller. What happens is told to `happened`, its end to `ended`; from
    /// threads of their own in the first case.
    fn launch<W: Workload>(
        &self,
        identity: Identity,
        seat: Seat<W>,
        runtime: Option<Runtime>,
        happened: impl Fn(Recorded) + Send + 'static,
        ended: impl FnOnce(&NodeId, &Result<Ended, NodeError>) + Send + 'static,
    ) -> Running {
        let (events_in, mut events) = mpsc::channel(65_536);
        let (id, slot) = (identity.id(), seat.slot);
        let (orders, orders_in) = mpsc::channel(16);
        let args = NodeArgs {
            restarts: 0,
            renewal: None,
            noted: mpsc::channel(1).1,
            workload: seat.workload,
            source: seat.source,
            store: seat.store,
            run: "ledger".into(),
            identity,
            bind: ([127, 0, 0, 1], 0).into(),
            net: seat.net,
            socket: seat.socket,
            advertise: None,
            host: seat.host,
            zone: seat.zone,
            slot,
            pid: seat.pid,
            terms: Terms { build: "test".into(), recipe: "ledger".into(), hardware: "any".into() },
            config: Digest::of(b"ledger"),
            cluster: Cluster {
                ranks_start: seat.ranks,
                ranks_min: self.ranks_min,
                ranks_max: self.ranks_max,
                replicas: self.replicas,
                mixed: false,
            },
            care: self.care,
            patience: self.patience,
            loss_max: f64::INFINITY,
            images: u64::from(self.ledger.lanes * self.ledger.samples_per_lane),
            steps: self.steps,
            checkpoint_every: self.checkpoint_every,
            checkpoint_keep: 3,
            shard_values: self.shard_values,
            gathered_values_max: self.gathered_values_max,
            loader_ahead: 2,
            loader_threads: 1,
            events: events_in,
            orders: orders_in,
        };
        let life = async move {
            let end = node::run(args).await;
            ended(&id, &end);
            end
        };
        let Some(runtime) = runtime else {
            let telling = tokio::spawn(async move {
                while let Some(recorded) = events.recv().await {
                    happened(recorded);
                }
            });
            return Running { id, slot, orders, task: tokio::spawn(life), telling: Some(telling.abort_handle()), runtime: None };
        };
        // A thread of its own: what was told is heard even while the node stands still.
        std::thread::spawn(move || {
            while let Some(recorded) = events.blocking_recv() {
                happened(recorded);
            }
        });
        Running { id, slot, orders, task: runtime.spawn(life), telling: None, runtime: Some(runtime) }
    }

    /// Runs `ranks` nodes to their end.
    ///
    /// # Errors
    /// The first node that could not be started.
    pub async fn to_end(&self, folder: &Path, ranks: u32) -> Result<Vec<Ended>, NodeError> {
        let log = Log::default();
        let running: Vec<Running> = (0..ranks).map(|slot| self.start(folder, ranks, slot, &log)).collect();
        let mut ended = Vec::new();
        for node in running {
            ended.push(node.ended().await?);
        }
        Ok(ended)
    }

    /// The weights in the newest intact checkpoint, with its step.
    ///
    /// # Panics
    /// When there is none.
    pub async fn saved(&self, folder: &Path) -> (Step, Vec<Vec<f32>>) {
        let store = Store::open(&folder.display().to_string()).expect("the folder of a test can be read");
        let found = checkpoint::newest_intact(&store, OnBad::Leave).await.expect("checkpoints can be read");
        let manifest = found.manifest.expect("a checkpoint was saved");
        let mut units: Vec<Vec<f32>> = self.ledger.units().iter().map(|unit| vec![0.0; unit.len()]).collect();
        for part in &manifest.parts {
            let shard = checkpoint::read_part(&store, &manifest, part.shard).await.expect("an intact part can be read");
            units[part.shard.unit.0 as usize][shard.start..shard.start + shard.values.len()].copy_from_slice(&shard.values);
        }
        (manifest.step, units)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use everstep_actors::protocol::ids::Step;

    use super::*;
    use crate::stage::{Stage, Told};

    /// What is left of a killed node on a runtime that others share takes no part any more, and comes to its end.
    #[test]
    fn nodes_that_are_killed_on_one_thread_leave_no_task_behind() {
        let scenario = Scenario::parse("name = 'x'\nworkload = { steps = 1000000, step_time = '20ms' }").unwrap();
        let runtime = paused().unwrap();
        let _inside = runtime.enter();
        let _simulated = clock::simulate(BEGAN_MS);
        let alive = || runtime.metrics().num_alive_tasks();
        let mut nodes = stage::Nodes::paused(&scenario, 1, &runtime).unwrap();
        let before = alive();
        nodes.start(&[0, 1, 2, 3]).unwrap();
        let fifth = |told: &Told| matches!(told, Told::Event(told) if matches!(told.event, Event::StepCommitted { step: Step(5), .. }));
        while !nodes.wait(Duration::from_millis(20)).iter().any(fifth) {}
        assert!(alive() > 100, "{} tasks are no run of four nodes", alive());
        nodes.kill(&[0, 1, 2, 3], true);
        assert!(nodes.wait(Duration::from_secs(30)).is_empty(), "a dead node has told something");
        assert_eq!(alive(), before, "so many tasks are still there");
    }

    /// Ten thousand nodes are killed in a row by a plan: each that stayed would keep its sockets and threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_that_are_killed_leave_nothing_behind() {
        let run = Run {
            ledger: Ledger::new(4, 3, 50, &[700, 33]),
            steps: Step(1_000_000),
            checkpoint_every: 10,
            shard_values: 256,
            gathered_values_max: 1_300,
            ranks_min: 1,
            ranks_max: u32::MAX,
            replicas: 1,
            care: Care::default(),
            patience: Patience::default(),
        };
        let folder = std::env::temp_dir().join(format!("everstep-killed-{}", std::process::id()));
        let log = Log::default();
        let nodes: Vec<Running> = (0..4).map(|slot| run.start(&folder, 4, slot, &log)).collect();
        log.committed(Step(5)).await;
        nodes.into_iter().for_each(Running::kill);
        let began = Instant::now();
        // A thread hears each node as long as anything of it is there.
        while Arc::strong_count(&log.events) > 1 && began.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = Arc::strong_count(&log.events) - 1;
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left, 0, "so many nodes are still there");
    }
}
