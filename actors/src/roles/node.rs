//! The node: the root actor of a process. It finds the run's leader or becomes it, starts the
//! other actors, brings an epoch's members together, and ends everything in good order.
//!
//! It supervises every actor of the process. None of them is started anew within an epoch: an
//! actor that dies takes a step in flight with it, so its death ends the epoch with its reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use futures::FutureExt;
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::aggregator::{Aggregator, AggregatorMsg};
use super::coordinator::{Coordinator, CoordinatorMsg, Office, Orders};
use super::desk::{Desk, DeskMsg};
use super::exchange::{Exchange, Inward, Layout, Outbound, Outgoing};
use super::finding::{self, Found};
use super::lease::{BEAT, Lease};
use super::loader::{Loader, LoaderMsg};
use super::rank::{RankActor, RankMsg, ShardState, Shards, Superior};
use crate::checkpoint::writer::{CheckpointWriter, Snapshot, WriterConfig, WriterMessage};
use crate::checkpoint::{self, Digest, Draft, OnBad, PartRecord, SnapshotShard};
use crate::event::{Event, MemberInfo, Recorded};
use crate::net::endpoint::{BindError, Endpoint, Options};
use crate::net::link::{Link, LinkDown, Payload};
use crate::net::mailbox::{ActorStats, ActorTable, Mailbox};
use crate::net::tls::{Identity, Role};
use crate::net::{Reject, Router};
use crate::protocol::ids::{Epoch, NodeId, Rank, Step};
use crate::protocol::membership::Terms;
use crate::protocol::record::{EpochRecord, Member, Origin, Phase};
use crate::protocol::shard::{Shard, UnitShape, cut};
use crate::store::{Store, StoreError};
use crate::wire::message::{Control, DataHeader, Join, Outcome};
use crate::workload::{Source, Sums, Workload};

mod office;
mod routes;
mod start;

use self::office::{LeaderOffice, nonce, save_events};
use self::routes::{Desks, NodeRouter, Shared, TermView, Wires};
pub use self::start::run;

/// Control messages that wait in an actor's mailbox at most: some per peer and step, for hundreds of peers.
const MAILBOX_MAX: usize = 16_384;
/// How long members wait for each other's connections when an epoch begins.
const MEETING_MAX: Duration = Duration::from_secs(15);
/// How long a leader waits for its last words to be read.
const PARTING_MAX: Duration = Duration::from_secs(1);

/// What a node is started with.
pub struct NodeArgs<W> {
    /// What the run computes.
    pub workload: Arc<W>,
    /// Where its batches come from.
    pub source: Arc<dyn Source>,
    /// Where the run lives.
    pub store: Store,
    /// The run's name, as its certificates carry it.
    pub run: String,
    /// This process's certificate.
    pub identity: Identity,
    /// Where to listen.
    pub bind: SocketAddr,
    /// Failure domain.
    pub host: String,
    /// Place on the host.
    pub slot: u32,
    /// What the members of the run must share.
    pub terms: Terms,
    /// Digest of the recipe, for manifests.
    pub config: Digest,
    /// Ranks that the run begins with.
    pub ranks: u32,
    /// Images of one step.
    pub images: u64,
    /// Steps of the run.
    pub steps: Step,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub checkpoint_keep: usize,
    /// Values of a shard at most.
    pub shard_values: usize,
    /// Gathered values kept for reuse within a step.
    pub gathered_values_max: usize,
    /// Steps of batches that the loader keeps ahead.
    pub loader_ahead: u64,
    /// Batches decoded at the same time.
    pub loader_threads: usize,
    /// Where events go.
    pub events: mpsc::Sender<Recorded>,
    /// What the launcher or a signal wants.
    pub orders: mpsc::Receiver<Order>,
}

impl<W> std::fmt::Debug for NodeArgs<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeArgs({}, slot {})", self.run, self.slot)
    }
}

/// What reaches a node from outside the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End the run in good order.
    Stop {
        /// One sentence.
        because: String,
    },
    /// A process of this host has died.
    Died {
        /// Which.
        pid: u32,
        /// How.
        because: String,
    },
}

/// How the run ended for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What it means for the next start.
    pub outcome: Outcome,
    /// One sentence.
    pub because: String,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An actor could not be started.
    #[error("the {0} could not be started: {1}")]
    Spawn(&'static str, String),
}

/// What the node actor is told.
#[derive(Debug)]
pub enum NodeMsg {
    /// A leader or peer says something that concerns the whole node.
    Said {
        /// Who.
        from: NodeId,
        /// What.
        message: Control,
    },
    /// A link is down.
    Down {
        /// Whose.
        peer: NodeId,
        /// How.
        because: String,
    },
    /// The shards of an epoch are loaded and its members are connected.
    Loaded {
        /// The epoch.
        epoch: Epoch,
        /// Our shards, or one sentence.
        result: Result<Shards, String>,
    },
    /// The rank offers a snapshot.
    Snapshot {
        /// When it was offered.
        epoch: Epoch,
        /// Steps committed.
        step: Step,
        /// The shards.
        shards: Shards,
        /// How long the rank was held up, milliseconds.
        stall_ms: f64,
    },
    /// From outside.
    Ordered(Order),
    /// Something within the node went wrong for good.
    Broken(String),
}

/// The actor; see the module's text.
pub struct NodeActor<W> {
    stats: Arc<ActorStats>,
    shared: Arc<Shared>,
    workload: Arc<W>,
    endpoint: Arc<Endpoint<NodeRouter>>,
    shards: Arc<Vec<Shard>>,
    writer: ActorRef<WriterMessage>,
    gathered_values_max: usize,
    finished: Mutex<Option<oneshot::Sender<Ended>>>,
}

impl<W> std::fmt::Debug for NodeActor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeActor({})", self.shared.me)
    }
}

/// The epoch that this node is in, and whether it is over.
#[derive(Debug, Default)]
pub struct State {
    record: Option<EpochRecord>,
    over: bool,
}

impl<W: Workload> Actor for NodeActor<W> {
    type Msg = NodeMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NodeMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(&self, _: ActorRef<NodeMsg>, message: NodeMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let _at_work = self.stats.handling(message.name());
        if state.over {
            return Ok(());
        }
        match message {
            NodeMsg::Said { from, message } => self.said(state, from, message),
            NodeMsg::Down { peer, because } => self.down(state, peer, because),
            NodeMsg::Loaded { epoch, result } => self.loaded(state, epoch, result),
            NodeMsg::Snapshot { epoch, step, shards, stall_ms } => self.snapshot(epoch, step, shards, stall_ms),
            NodeMsg::Ordered(Order::Stop { because }) => self.stop(state, because),
            NodeMsg::Ordered(Order::Died { pid, because }) => self.died(state, pid, because),
            NodeMsg::Broken(because) => self.broken(state, because),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<NodeMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event
            && !state.over
        {
            self.broken(state, format!("an actor of this node failed: {error}"));
        }
        Ok(())
    }
}

impl NodeMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Said { .. } => "said",
            Self::Down { .. } => "down",
            Self::Loaded { .. } => "loaded",
            Self::Snapshot { .. } => "snapshot",
            Self::Ordered(_) => "ordered",
            Self::Broken(_) => "broken",
        }
    }
}

impl<W: Workload> NodeActor<W> {
    fn said(&self, state: &mut State, from: NodeId, message: Control) {
        let from_leader = self.shared.leader() == Some(from);
        match message {
            Control::Begin { record } if from_leader => self.begin(state, &record),
            Control::Refused { because } if from_leader => self.end(state, Outcome::Unusable, because),
            Control::Bye { outcome, because } if from_leader => self.end(state, outcome, because),
            Control::Published { step, bytes, seconds, stall_ms } if from_leader && from != self.shared.me => {
                self.shared.record(Event::CheckpointSaved { step, bytes, seconds, stall_ms });
            }
            Control::SaveFailed { step, because } if from_leader && from != self.shared.me => {
                self.shared.record(Event::CheckpointFailed { step, because });
            }
            _ => {}
        }
    }

    // ---- an epoch begins ----------------------------------------------------------------------

    fn begin(&self, state: &mut State, record: &str) {
        let record: EpochRecord = match serde_json::from_str(record) {
            Ok(record) => record,
            Err(error) => return self.broken(state, format!("the leader's epoch record cannot be read: {error}")),
        };
        let Phase::Training { plan, step, origin } = record.phase.clone() else { return };
        let Some(rank) = record.rank_of(self.shared.me) else { return };
        let members = record.members.iter().zip(&plan.lanes).enumerate().map(|(rank, (member, lanes))| MemberInfo {
            node: member.node,
            rank: rank as u32,
            host: member.host.clone(),
            pid: member.pid,
            lanes: (lanes.start, lanes.end),
        });
        let state_from = match origin {
            Origin::Seed => "seed".to_owned(),
            Origin::Checkpoint { step } => format!("checkpoint {}", step.0),
        };
        self.shared.record(Event::EpochBegan {
            epoch: record.epoch,
            step,
            leader: record.leader,
            members: members.collect(),
            because: record.because.clone(),
            state_from,
        });
        let mine: Vec<Shard> =
            self.shards.iter().zip(&plan.owners).filter(|(_, (_, owner))| owner.0 == rank).map(|(shard, _)| shard.clone()).collect();
        let (shared, endpoint, workload, epoch, peers) =
            (self.shared.clone(), self.endpoint.clone(), self.workload.clone(), record.epoch, record.members.clone());
        tokio::spawn(async move {
            let loading = load_shards(&shared.store, workload, mine, origin);
            let meeting = meet(&shared, &endpoint, &peers);
            let result = match tokio::join!(loading, meeting) {
                (Ok(shards), Ok(())) => Ok(shards),
                (Err(because), _) | (_, Err(because)) => Err(because),
            };
            shared.tell(&shared.node, "node", NodeMsg::Loaded { epoch, result });
        });
        state.record = Some(record);
    }

    fn loaded(&self, state: &mut State, epoch: Epoch, result: Result<Shards, String>) {
        let Some(record) = state.record.clone().filter(|record| record.epoch == epoch) else { return };
        let Phase::Training { plan, step, .. } = record.phase else { return };
        let shards = match result {
            Ok(shards) => shards,
            Err(because) => return self.tell_leader_failed(epoch, because),
        };
        let Some(rank) = record.members.iter().position(|member| member.node == self.shared.me) else { return };
        let lanes = plan.lanes[rank].clone();
        let layout = Layout {
            epoch,
            rank: Rank(rank as u32),
            lanes: self.workload.lanes(),
            plan,
            shards: self.shards.to_vec(),
            gathered_values_max: self.gathered_values_max,
        };
        let committed = shards.iter().map(|(id, shard)| (*id, shard.values.clone())).collect();
        let outbound = Arc::new(Wires { shared: self.shared.clone(), members: record.members.iter().map(|member| member.node).collect() });
        let exchange = Exchange::new(layout, step, committed, outbound, Arc::new(Desks(self.shared.clone())));
        let ranks = record.members.iter().enumerate().map(|(rank, member)| (member.node, Rank(rank as u32))).collect();
        *self.shared.term.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(TermView { exchange: exchange.clone(), ranks }));
        self.shared.tell(&self.shared.rank, "rank", RankMsg::Begin { exchange, lanes, shards });
        self.shared.send(record.leader, Control::Ready { epoch });
    }

    // ---- checkpoints --------------------------------------------------------------------------

    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64) {
        let shared = self.shared.clone();
        let writer = self.writer.clone();
        tokio::spawn(async move {
            let shards = shards
                .into_iter()
                .map(|(id, shard)| SnapshotShard { id, start: shard.start, values: shard.values, slots: shard.slots })
                .collect();
            let snapshot = Snapshot { epoch, step, shards };
            let saved = ractor::call!(writer, |reply| WriterMessage::Save { snapshot, reply });
            let message = match saved {
                Ok(Ok(saved)) => match serde_json::to_string(&saved.parts) {
                    Ok(records) => Control::Parts { epoch, step, records, stall_ms },
                    Err(error) => Control::PartsFailed { epoch, step, because: error.to_string() },
                },
                Ok(Err(error)) => Control::PartsFailed { epoch, step, because: error.to_string() },
                Err(error) => Control::PartsFailed { epoch, step, because: format!("the checkpoint writer is gone: {error}") },
            };
            if let Some(leader) = shared.leader() {
                shared.send(leader, message);
            }
        });
    }

    // ---- trouble and the end ------------------------------------------------------------------

    fn down(&self, state: &mut State, peer: NodeId, because: String) {
        if self.shared.leader() == Some(self.shared.me) {
            self.shared.tell(&self.shared.coordinator, "coordinator", CoordinatorMsg::Lost { node: peer, because });
            return;
        }
        let member = state.record.as_ref().and_then(|record| Some((record, record.members.iter().position(|member| member.node == peer)?)));
        if self.shared.leader() == Some(peer) {
            let who = member.map_or_else(|| format!("the leader ({peer})"), |(record, rank)| format!("the leader, {}", name(record, rank)));
            if let Some((_, rank)) = member {
                self.shared.record(Event::NodeLost { node: peer, rank: rank as u32, because: because.clone() });
            }
            self.end(state, Outcome::Lost, format!("{who} was lost: {because}"));
        } else if let Some((record, rank)) = member {
            self.tell_leader_failed(record.epoch, format!("its link to {} is down: {because}", name(record, rank)));
        }
    }

    fn died(&self, state: &mut State, pid: u32, because: String) {
        let Some(record) = &state.record else { return };
        let dead = record.members.iter().find(|member| member.pid == pid && member.host == self.shared.host);
        if let Some(peer) = dead.map(|member| member.node) {
            self.down(state, peer, because);
        }
    }

    fn stop(&self, state: &mut State, because: String) {
        match self.shared.leader() {
            Some(leader) => self.shared.send(leader, Control::Stop { because }),
            None => self.end(state, Outcome::Stopped, because),
        }
    }

    fn broken(&self, state: &mut State, because: String) {
        match (&state.record, self.shared.leader()) {
            (Some(record), Some(_)) => self.tell_leader_failed(record.epoch, because),
            _ => self.end(state, Outcome::Lost, because),
        }
    }

    fn tell_leader_failed(&self, epoch: Epoch, because: String) {
        if let Some(leader) = self.shared.leader() {
            self.shared.send(leader, Control::Failed { epoch, outcome: Outcome::Lost, because });
        }
    }

    fn end(&self, state: &mut State, outcome: Outcome, because: String) {
        state.over = true;
        self.shared.tell(&self.shared.rank, "rank", RankMsg::Abort);
        if let Some(finished) = self.finished.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // `run` waits for this as long as the node lives.
            let _ = finished.send(Ended { outcome, because });
        }
    }
}

fn name(record: &EpochRecord, rank: usize) -> String {
    let member = &record.members[rank];
    format!("rank {rank} ({}, pid {})", member.host, member.pid)
}

/// Connects to every member: the lower id dials, the other waits.
async fn meet(shared: &Arc<Shared>, endpoint: &Endpoint<NodeRouter>, members: &[Member]) -> Result<(), String> {
    let me = shared.me;
    for member in members.iter().filter(|member| member.node > me && !shared.links.contains_key(&member.node)) {
        let address: SocketAddr =
            member.address.parse().map_err(|_| format!("{} has no address that can be dialled: {:?}", member.node, member.address))?;
        let link = endpoint.connect(address, Some(member.node)).await;
        link.map_err(|error| format!("{} ({}, pid {}) cannot be reached: {error}", member.node, member.host, member.pid))?;
    }
    let mut linked = shared.linked.subscribe();
    let absent = || members.iter().find(|member| member.node != me && !shared.links.contains_key(&member.node));
    let all = async {
        while absent().is_some() {
            if linked.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(MEETING_MAX, all).await.map_err(|_| match absent() {
        Some(member) => format!(
            "{} ({}, pid {}) did not connect within {} s; check that nodes reach each other by UDP",
            member.node,
            member.host,
            member.pid,
            MEETING_MAX.as_secs()
        ),
        None => "members did not connect in time".to_owned(),
    })
}

async fn load_shards<W: Workload>(store: &Store, workload: Arc<W>, mine: Vec<Shard>, origin: Origin) -> Result<Shards, String> {
    match origin {
        Origin::Seed => {
            let seeded = tokio::task::spawn_blocking(move || {
                let shards = mine.into_iter().map(|shard| {
                    let values = workload.init(shard.id.unit, shard.range.clone());
                    let slots = vec![vec![0.0; values.len()]; workload.slots()];
                    (shard.id, ShardState { start: shard.range.start, values: Arc::new(values), slots: Arc::new(slots) })
                });
                shards.collect()
            });
            seeded.await.map_err(|error| format!("the initial values could not be made: {error}"))
        }
        Origin::Checkpoint { step } => {
            let manifest = checkpoint::load(store, step).await.map_err(|error| error.to_string())?;
            let mut shards = BTreeMap::new();
            for shard in mine {
                let part = checkpoint::read_part(store, &manifest, shard.id).await.map_err(|error| error.to_string())?;
                if part.start != shard.range.start || part.values.len() != shard.range.len() || part.slots.len() != workload.slots() {
                    return Err(format!(
                        "shard {} of the checkpoint after step {} has another shape than the recipe's; use the recipe of the run",
                        shard.id, step.0
                    ));
                }
                shards.insert(shard.id, ShardState { start: part.start, values: Arc::new(part.values), slots: Arc::new(part.slots) });
            }
            Ok(shards)
        }
    }
}
