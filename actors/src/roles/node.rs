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
use crate::protocol::ids::{Epoch, NodeId, Rank, ShardId, Step};
use crate::protocol::membership::Terms;
use crate::protocol::record::{EpochRecord, Member, Origin, Phase};
use crate::protocol::shard::{Shard, UnitShape, cut};
use crate::store::{Store, StoreError};
use crate::wire::message::{Control, DataHeader, Join, Outcome};
use crate::workload::{Source, Sums, Workload};

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

/// What links, actors and tasks of a node share.
struct Shared {
    me: NodeId,
    host: String,
    links: DashMap<NodeId, Link<Control>>,
    linked: watch::Sender<u64>,
    node: OnceLock<Mailbox<NodeMsg>>,
    rank: OnceLock<Mailbox<RankMsg>>,
    aggregator: OnceLock<Mailbox<AggregatorMsg>>,
    coordinator: OnceLock<Mailbox<CoordinatorMsg>>,
    desk: OnceLock<Mailbox<DeskMsg>>,
    term: RwLock<Option<Arc<TermView>>>,
    leader: RwLock<Option<NodeId>>,
    events: mpsc::Sender<Recorded>,
    unsaved: Mutex<Vec<Recorded>>,
    store: Store,
}

/// The epoch as links see it.
struct TermView {
    exchange: Arc<Exchange>,
    ranks: BTreeMap<NodeId, Rank>,
}

// ---- the ways messages take -------------------------------------------------------------------

impl Shared {
    fn tell<M: Send + std::fmt::Debug + 'static>(&self, mailbox: &OnceLock<Mailbox<M>>, what: &'static str, message: M) {
        let Some(mailbox) = mailbox.get() else { return };
        if let Err(error) = mailbox.try_send(message) {
            let because = format!("the {what} cannot take a message: {error}");
            if let Some(node) = self.node.get().filter(|_| what != "node") {
                // If the node is gone too there is nobody left to tell.
                let _ = node.try_send(NodeMsg::Broken(because));
            } else {
                tracing::error!("{because}");
            }
        }
    }

    fn leader(&self) -> Option<NodeId> {
        *self.leader.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn term(&self) -> Option<Arc<TermView>> {
        self.term.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, event: Event) {
        let recorded = Recorded { at_ms: crate::clock::wall_ms(), recorded_by: self.me, event };
        self.tell(&self.desk, "desk", DeskMsg::Happened(recorded.clone()));
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).push(recorded.clone());
        if self.events.try_send(recorded).is_err() {
            tracing::warn!("an event was not shown: its reader does not keep up");
        }
    }

    /// Sends to a node, or delivers here when it is this one.
    fn send(self: &Arc<Self>, to: NodeId, message: Control) {
        if to == self.me {
            return self.route(to, message);
        }
        let Some(link) = self.links.get(&to).map(|link| link.clone()) else { return };
        if let Err(error) = link.try_control(&message) {
            let because = format!("its link takes no more control messages: {error}");
            self.tell(&self.node, "node", NodeMsg::Down { peer: to, because });
        }
    }

    /// The one translator from wire words to mailbox words.
    fn route(self: &Arc<Self>, from: NodeId, message: Control) {
        match message {
            Control::Join(_)
            | Control::Ready { .. }
            | Control::Reduced { .. }
            | Control::Prepared { .. }
            | Control::Parts { .. }
            | Control::PartsFailed { .. }
            | Control::Stop { .. }
            | Control::Failed { .. } => self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Said { node: from, message }),
            Control::Go { epoch, step } if self.leader() == Some(from) => self.tell(&self.rank, "rank", RankMsg::Go { epoch, step }),
            Control::Sums { epoch, step, norms, nonfinite } if self.leader() == Some(from) => {
                self.tell(&self.rank, "rank", RankMsg::Sums { epoch, step, sums: Sums { norms, nonfinite } });
            }
            Control::Stable { epoch, step, checkpoint, last, .. } if self.leader() == Some(from) => {
                self.tell(&self.rank, "rank", RankMsg::Stable { epoch, step, checkpoint, last });
            }
            Control::Refused { .. }
            | Control::Begin { .. }
            | Control::Published { .. }
            | Control::SaveFailed { .. }
            | Control::Bye { .. } => {
                self.tell(&self.node, "node", NodeMsg::Said { from, message });
            }
            Control::AskStatus => self.answer_status(from),
            Control::Go { .. } | Control::Sums { .. } | Control::Stable { .. } | Control::Status { .. } => {
                tracing::warn!(%from, "a message from a node that does not lead was turned away");
            }
        }
    }

    fn answer_status(self: &Arc<Self>, to: NodeId) {
        let (reply, view) = oneshot::channel();
        self.tell(&self.desk, "desk", DeskMsg::Ask { reply });
        let shared = self.clone();
        tokio::spawn(async move {
            if let Ok(view) = view.await
                && let Ok(json) = serde_json::to_string(&view)
            {
                shared.send(to, Control::Status { json });
            }
        });
    }
}

/// What links hand to the node.
#[derive(Clone)]
pub struct NodeRouter(Arc<Shared>);

impl std::fmt::Debug for NodeRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeRouter({})", self.0.me)
    }
}

impl Router for NodeRouter {
    type Control = Control;

    fn linked(&self, link: Link<Control>) {
        self.0.links.insert(link.peer(), link);
        self.0.linked.send_modify(|count| *count += 1);
    }

    fn control(&self, from: NodeId, message: Control) {
        let role = self.0.links.get(&from).map(|link| link.certificate().role);
        if role != Some(Role::Node) && message != Control::AskStatus {
            tracing::warn!(%from, "an operator's message that only nodes may send was turned away");
            return;
        }
        self.0.route(from, message);
    }

    fn admit(&self, from: NodeId, header: &DataHeader) -> Result<(), Reject> {
        let term = self.0.term().ok_or_else(|| Reject("no epoch is being run".into()))?;
        if !term.ranks.contains_key(&from) {
            return Err(Reject("its sender is no member of the epoch".into()));
        }
        term.exchange.admit(header).map_err(|rejected| Reject(rejected.to_string()))
    }

    fn data(&self, from: NodeId, header: DataHeader, values: Vec<f32>) {
        if let Some(term) = self.0.term()
            && let Some(rank) = term.ranks.get(&from)
        {
            term.exchange.on_data(*rank, header, values);
        }
    }

    fn down(&self, peer: NodeId, cause: LinkDown) {
        self.0.links.remove(&peer);
        self.0.tell(&self.0.node, "node", NodeMsg::Down { peer, because: cause.to_string() });
    }
}

struct Wires {
    shared: Arc<Shared>,
    members: Vec<NodeId>,
}

impl Outbound for Wires {
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        let link = self.members.get(frame.to.0 as usize).and_then(|node| self.shared.links.get(node).map(|link| link.clone()));
        async move {
            // A peer that is gone ends the epoch through its link; nothing is to be done here.
            if let Some(link) = link {
                let payload = if frame.range.is_empty() { Ok(Payload::empty()) } else { Payload::shared(frame.values, frame.range) };
                if let Ok(payload) = payload {
                    let _ = link.send(&frame.header, payload).await;
                }
            }
        }
        .boxed()
    }
}

struct Desks(Arc<Shared>);

impl Inward for Desks {
    fn reduced(&self, step: Step) {
        if let Some(term) = self.0.term() {
            self.0.tell(&self.0.rank, "rank", RankMsg::Reduced { epoch: term.exchange.epoch(), step });
        }
    }
    fn partial(&self, header: DataHeader, values: Vec<f32>) {
        if let Some(term) = self.0.term() {
            let exchange = term.exchange.clone();
            self.0.tell(&self.0.aggregator, "Sinkhorn aggregator", AggregatorMsg::Partial { exchange, header, values });
        }
    }
    fn broken(&self, because: String) {
        self.0.tell(&self.0.node, "node", NodeMsg::Broken(because));
    }
}

impl Superior for Desks {
    fn tell_leader(&self, message: Control) {
        if let Some(leader) = self.0.leader() {
            self.0.send(leader, message);
        }
    }
    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64) {
        self.0.tell(&self.0.node, "node", NodeMsg::Snapshot { epoch, step, shards, stall_ms });
    }
}

// ---- the actor --------------------------------------------------------------------------------

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

// ---- the leader's office ----------------------------------------------------------------------

struct LeaderOffice {
    shared: Arc<Shared>,
    draft: Draft,
    keep: usize,
}

impl Office for LeaderOffice {
    fn send(&self, to: NodeId, message: Control) {
        self.shared.send(to, message);
    }

    fn create_epoch(&self, record: EpochRecord) -> BoxFuture<'static, Result<(), String>> {
        let store = self.shared.store.clone();
        async move {
            match finding::create_record(&store, &record).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("{} was begun by another node: this one no longer leads; start it again to join", record.epoch)),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }

    fn newest_checkpoint(&self) -> BoxFuture<'static, Result<Option<Step>, String>> {
        let shared = self.shared.clone();
        async move {
            let found = checkpoint::newest_intact(&shared.store, OnBad::SetAside).await.map_err(|error| error.to_string())?;
            for passed in found.passed_over {
                shared.record(Event::CheckpointFailed {
                    step: passed.step,
                    because: format!("set aside: {}: {}", passed.place, passed.damage),
                });
            }
            Ok(found.manifest.map(|manifest| manifest.step))
        }
        .boxed()
    }

    fn publish(&self, epoch: Epoch, step: Step, parts: Vec<PartRecord>) {
        let (shared, keep) = (self.shared.clone(), self.keep);
        let draft = Draft { epoch, step, ..self.draft.clone() };
        tokio::spawn(async move {
            let result = publish(&shared, draft, parts, keep).await;
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Published { step, result });
        });
    }

    fn record(&self, event: Event) {
        self.shared.record(event);
    }

    fn nonce(&self) -> String {
        nonce(self.shared.me)
    }
}

async fn publish(shared: &Shared, draft: Draft, parts: Vec<PartRecord>, keep: usize) -> Result<u64, String> {
    let manifest = checkpoint::assemble(draft, parts).map_err(|error| error.to_string())?;
    checkpoint::publish(&shared.store, &manifest).await.map_err(|error| error.to_string())?;
    save_events(shared, manifest.epoch, manifest.step).await;
    if let Err(error) = checkpoint::prune(&shared.store, keep).await {
        tracing::warn!(%error, "old checkpoints could not be deleted");
    }
    Ok(manifest.bytes())
}

/// The run's log: what happened since the last save, one object of JSON lines.
async fn save_events(shared: &Shared, epoch: Epoch, step: Step) {
    let events = std::mem::take(&mut *shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner));
    let lines: Vec<String> = events.iter().filter_map(|event| serde_json::to_string(event).ok()).collect();
    let key = format!("events/{:010}-{:010}-{}.jsonl", epoch.0, step.0, nonce(shared.me));
    if !lines.is_empty()
        && let Err(error) = shared.store.put(&key, bytes::Bytes::from(lines.join("\n") + "\n")).await
    {
        tracing::warn!(%error, "the run's log could not be saved");
    }
}

/// Unique to this process and moment: told apart by who reads a record back, never by chance.
fn nonce(me: NodeId) -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{me}-{}-{count}-{}", std::process::id(), crate::clock::wall_ms())
}

// ---- starting a node --------------------------------------------------------------------------

/// Runs a node until the run ends for it.
///
/// # Errors
/// [`NodeError`] when it could not be started; how the run itself ends is [`Ended`].
pub async fn run<W: Workload>(args: NodeArgs<W>) -> Result<Ended, NodeError> {
    let shared = Arc::new(Shared {
        me: args.identity.id(),
        host: args.host.clone(),
        links: DashMap::new(),
        linked: watch::channel(0).0,
        node: OnceLock::new(),
        rank: OnceLock::new(),
        aggregator: OnceLock::new(),
        coordinator: OnceLock::new(),
        desk: OnceLock::new(),
        term: RwLock::new(None),
        leader: RwLock::new(None),
        events: args.events,
        unsaved: Mutex::default(),
        store: args.store.clone(),
    });
    let router = Arc::new(NodeRouter(shared.clone()));
    let endpoint = Arc::new(Endpoint::bind(args.bind, args.identity, Options::default(), router, None)?);
    let address = endpoint.local_addr().map_err(|error| BindError::Io { address: args.bind, error })?.to_string();
    let me = Member { node: shared.me, address, host: args.host, pid: std::process::id(), slot: args.slot };
    args.store.probe(&nonce(shared.me)).await?;
    let table = Arc::new(ActorTable::default());
    let units: Arc<[_]> = args.workload.units().into();
    let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
    let shards = Arc::new(cut(&shapes, args.shard_values));

    let (finished, ended) = oneshot::channel();
    let (writer, _) = CheckpointWriter::spawn(
        None,
        CheckpointWriter,
        WriterConfig { in_flight: 2, ..WriterConfig::new(args.store.clone(), &args.run, units.clone()) },
    )
    .await
    .map_err(|error| NodeError::Spawn("checkpoint writer", error.to_string()))?;
    let stats = table.register("node", MAILBOX_MAX);
    let node = NodeActor {
        stats: stats.clone(),
        shared: shared.clone(),
        workload: args.workload.clone(),
        endpoint: endpoint.clone(),
        shards: shards.clone(),
        writer: writer.clone(),
        gathered_values_max: args.gathered_values_max,
        finished: Mutex::new(Some(finished)),
    };
    let (node, node_task) = Actor::spawn(None, node, ()).await.map_err(|error| NodeError::Spawn("node", error.to_string()))?;
    writer.link(node.get_cell());
    let _ = shared.node.set(Mailbox::new(node.clone(), stats));
    let superior = node.get_cell();
    macro_rules! start {
        ($slot:expr, $name:literal, $make:expr, $arguments:expr) => {{
            let stats = table.register($name, MAILBOX_MAX);
            let make = $make;
            let (actor, _) = Actor::spawn_linked(None, make(stats.clone()), $arguments, superior.clone())
                .await
                .map_err(|error| NodeError::Spawn($name, error.to_string()))?;
            let mailbox = Mailbox::new(actor, stats);
            let _ = $slot.set(mailbox.clone());
            mailbox
        }};
    }
    start!(shared.desk, "desk", |stats| Desk { stats, table: table.clone(), me: me.node, steps: args.steps }, ());
    start!(shared.aggregator, "aggregator", |stats| Aggregator { stats, inward: Arc::new(Desks(shared.clone())) }, ());
    let threads = Arc::new(Semaphore::new(args.loader_threads.max(1)));
    let loader: OnceLock<Mailbox<LoaderMsg>> = OnceLock::new();
    let source = args.source.clone();
    let loader = start!(loader, "loader", |stats| Loader { stats, source, ahead_max: args.loader_ahead, threads }, ());
    let workload = args.workload.clone();
    let desks = Arc::new(Desks(shared.clone()));
    start!(shared.rank, "rank", |stats| RankActor { stats, workload, loader, superior: desks, end: args.steps }, ());

    // Before the search: whoever finds a record of ours may ask to join at once.
    let orders = Orders {
        terms: args.terms.clone(),
        ranks: args.ranks,
        lanes: args.workload.lanes(),
        images: args.images,
        shards: shards.to_vec(),
        tensors: units.iter().map(|unit| unit.tensors.len()).collect(),
        steps: args.steps,
        checkpoint_every: args.checkpoint_every,
    };
    let draft = Draft {
        run: args.run.clone(),
        config: args.config,
        epoch: Epoch(0),
        step: Step(0),
        units: units.to_vec(),
        slots: args.workload.slots() as u32,
    };
    let office = Arc::new(LeaderOffice { shared: shared.clone(), draft, keep: args.checkpoint_keep });
    start!(shared.coordinator, "coordinator", |stats| Coordinator { stats, me: me.node, orders, office }, ());

    let accepting = tokio::spawn(accept(endpoint.clone()));
    let ordering = tokio::spawn(obey(args.orders, shared.clone()));

    let search = finding::find_or_lead(&args.store, &endpoint, &me, || nonce(me.node), |because| shared.record(Event::Waiting { because }));
    let leader_of = match search.await? {
        Found::Lead(epoch) => {
            *shared.leader.write().unwrap_or_else(PoisonError::into_inner) = Some(me.node);
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Lead { epoch });
            Some(epoch)
        }
        Found::Follow(leader) => {
            *shared.leader.write().unwrap_or_else(PoisonError::into_inner) = Some(leader);
            None
        }
    };
    let beating = leader_of.map(|_| tokio::spawn(beat(shared.clone())));
    if let Some(leader) = shared.leader() {
        let Terms { build, recipe, hardware } = args.terms;
        let join = Join { address: me.address.clone(), host: me.host.clone(), pid: me.pid, slot: me.slot, build, recipe, hardware };
        shared.send(leader, Control::Join(join));
    }

    let lost = || Ended { outcome: Outcome::Lost, because: "the node's root actor ended without a word".into() };
    let ended = ended.await.unwrap_or_else(|_| lost());
    let outcome = match ended.outcome {
        Outcome::Done => "done",
        Outcome::Stopped => "stopped",
        Outcome::Lost => "failed",
        Outcome::Unusable => "unusable",
    };
    let (step, epoch) = shared.term().map_or((Step(0), Epoch(0)), |term| (term.exchange.step(), term.exchange.epoch()));
    shared.record(Event::Ended { step, outcome: outcome.into(), because: ended.because.clone() });
    accepting.abort();
    ordering.abort();
    if let Some(beating) = beating {
        beating.abort();
        part(&shared, epoch.max(leader_of.unwrap_or_default())).await;
    }
    endpoint.close(&ended.because).await;
    node.stop(None);
    // The root actor stops its children first.
    let _ = node_task.await;
    Ok(ended)
}

/// The leader goes last: its farewell is read, its lease released, its log saved.
async fn part(shared: &Arc<Shared>, epoch: Epoch) {
    let gone = async {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while !shared.links.is_empty() {
            turn.tick().await;
        }
    };
    // Members that do not close their links in time have the reason in their last message.
    let _ = tokio::time::timeout(PARTING_MAX, gone).await;
    let step = shared.term().map_or(Step(0), |term| term.exchange.step());
    save_events(shared, epoch, step).await;
    if let Err(error) = (Lease { epoch, beat: 0, released: true }).write(&shared.store).await {
        tracing::warn!(%error, "the lease could not be released: the next start waits until it has been silent long enough");
    }
}

/// Links announce themselves to the router; what is left to do is to keep the door open.
async fn accept(endpoint: Arc<Endpoint<NodeRouter>>) {
    while endpoint.accept().await.is_some() {}
}

async fn obey(mut orders: mpsc::Receiver<Order>, shared: Arc<Shared>) {
    while let Some(order) = orders.recv().await {
        shared.tell(&shared.node, "node", NodeMsg::Ordered(order));
    }
}

async fn beat(shared: Arc<Shared>) {
    let mut turn = tokio::time::interval(BEAT);
    let mut beat = 0;
    loop {
        turn.tick().await;
        beat += 1;
        let epoch = match shared.term() {
            Some(term) => term.exchange.epoch(),
            None => match finding::newest_record(&shared.store).await {
                Ok(Some(record)) => record.epoch,
                _ => continue,
            },
        };
        if let Err(error) = (Lease { epoch, beat, released: false }).write(&shared.store).await {
            tracing::warn!(%error, "the lease could not be moved; training goes on, membership is frozen");
        }
    }
}

/// Shards of a model, for those who look at a run from outside.
pub fn shards_of(units: &[crate::workload::Unit], shard_values: usize) -> Vec<(ShardId, std::ops::Range<usize>)> {
    let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
    cut(&shapes, shard_values).into_iter().map(|shard| (shard.id, shard.range)).collect()
}
