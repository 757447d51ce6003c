//! The node: the root actor of a process. It finds the run's leader or becomes it, starts the
//! other actors, brings an epoch's members together, and ends everything in good order.
//!
//! Its decisions are those of [`Membership`]; here they meet the store, the links and the rank. It supervises every actor of the
//! process. None of them is started anew within an epoch: an actor that dies takes a step in flight with it, so its node
//! leaves the run with its reason, and comes back as a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use dashmap::DashMap;
use futures::FutureExt;
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::aggregator::{Aggregator, AggregatorMsg};
use super::coordinator::{CoordinatorActor, CoordinatorMsg, Office, Orders};
use super::desk::{Desk, DeskMsg};
use super::exchange::{Exchange, Inward, Layout, Outbound, Outgoing};
use super::lane::LaneBoard;
use super::lease::{BEAT, Lease, SILENCE};
use super::ledger::{Line, Tail};
use super::loader::{Loader, LoaderMsg};
use super::log::Log;
use super::phases::{self, PhaseBoard};
use super::rank::{RankActor, RankMsg, Superior};
use super::records;
use super::transfer::Transfers;
use super::vault::{Shards, Vault};
use super::watchdog::{self, Master, Patience};
use crate::aside::aside;
use crate::checkpoint::writer::{CheckpointWriter, Snapshot, WriterConfig, WriterMessage};
use crate::checkpoint::{self, Digest, Draft, OnBad, PartRecord, SnapshotShard};
use crate::event::{Event, Fault, MemberInfo, Recorded};
use crate::net::endpoint::{BindError, Endpoint, Options, Socket};
use crate::net::link::{Link, LinkDown, Payload};
use crate::net::mailbox::{ActorStats, ActorTable, Mailbox};
use crate::net::tls::{Denied, Identity, Peer, Role};
use crate::net::{Reject, Router};
use crate::protocol::coordinator::{Care, Creation, Rules};
use crate::protocol::ids::{Epoch, NodeId, Rank, ShardId, Step};
use crate::protocol::membership::{Act, Fact, LeaseView, Membership, Settings};
use crate::protocol::plan::Plan;
use crate::protocol::record::{EpochRecord, Member};
use crate::protocol::shard::{Shard, UnitShape, cut};
use crate::protocol::terms::Terms;
use crate::protocol::word::{Beginning, Held, Origin, Outcome, Word};
use crate::store::{Store, StoreError};
use crate::wire::message::{Control, DataHeader, DataKind};
use crate::workload::{Source, Sums, Workload};

mod answer;
mod deny;
mod dial;
pub mod enter;
mod given;
mod hang;
pub mod look;
mod mourn;
mod obey;
mod office;
mod permits;
mod routes;
mod start;

use self::answer::{Answering, Asked};
use self::dial::{Dials, dial};
use self::enter::Loaded;
use self::given::Given;
use self::obey::Pausing;
use self::office::{LeaderOffice, nonce, save_all, save_events, save_ledger, save_older};
use self::routes::{Desks, NodeRouter, Shared, TermView, Wires};
pub use self::start::run;

/// Control messages that wait in an actor's mailbox at most: some per peer and step, for hundreds of peers.
const MAILBOX_MAX: usize = 16_384;
/// How long a leader waits for its last words to be read.
const PARTING_MAX: Duration = Duration::from_secs(1);

/// How many ranks a run wants, and how safe its state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Ranks that a start waits for.
    pub ranks_start: u32,
    /// Ranks without which nothing is computed.
    pub ranks_min: u32,
    /// Ranks that compute at most; more stand by.
    pub ranks_max: u32,
    /// Copies of a shard besides its owner's.
    pub replicas: u32,
    /// Whether unlike hardware is let in.
    pub mixed: bool,
}

/// Makes or fetches the next certificate of an identity, or says in one sentence why not.
pub type Renewal = Arc<dyn Fn(Identity) -> BoxFuture<'static, Result<Identity, String>> + Send + Sync>;

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
    /// How it gets the next one, for the same key; without it the first has to last.
    pub renewal: Option<Renewal>,
    /// Where to listen.
    pub bind: SocketAddr,
    /// Bounds and times of its links.
    pub net: Options,
    /// A socket that is there already, to be used instead of one at `bind`.
    pub socket: Option<Socket>,
    /// Where others dial this node, if that is another address (NAT, several interfaces); port 0 stands for the one listened on.
    pub advertise: Option<SocketAddr>,
    /// Failure domain: the machine.
    pub host: String,
    /// Failure domain around it; empty where nobody said.
    pub zone: String,
    /// Place on the host.
    pub slot: u32,
    /// The process id by which its launcher speaks of it.
    pub pid: u32,
    /// What the members of the run must share.
    pub terms: Terms,
    /// Digest of the recipe, for manifests.
    pub config: Digest,
    /// How many ranks, and how safe.
    pub cluster: Cluster,
    /// What is done about results that may be wrong.
    pub care: Care,
    /// How long parts of it may stand still before they count as hanging.
    pub patience: Patience,
    /// A step whose loss is beyond this is bad; infinite for none.
    pub loss_max: f64,
    /// Images of one step.
    pub images: u64,
    /// Steps of the run.
    pub steps: Step,
    /// How often its launcher has started it anew.
    pub restarts: u32,
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
    /// What is seen beside the actors, such as a sample that cannot be decoded.
    pub noted: mpsc::Receiver<Event>,
    /// What the launcher, a signal or an operator wants.
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
    /// Hand over what is held and leave; the run goes on.
    Leave {
        /// One sentence.
        because: String,
        /// How long this node will be there, if that is known.
        deadline: Option<Duration>,
    },
    /// Stay after all.
    Stay,
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
    /// Something that its membership turns on.
    Fact(Fact),
    /// A link is down.
    Down {
        /// Whose.
        peer: NodeId,
        /// Whether its process is known to have ended.
        proven: bool,
        /// How it was noticed.
        because: String,
    },
    /// The shards of an epoch are here and its members are connected.
    Loaded {
        /// The epoch.
        epoch: Epoch,
        /// Our copies, or what is to be said to the leader.
        result: Loaded,
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
    /// A checkpoint was published or failed, as the leader says.
    Told(NodeId, Control),
    /// From outside.
    Ordered(Order),
    /// The coordinator of this node has ended the run.
    Over(Outcome, String),
    /// Something within the node went wrong for good.
    Broken(String),
}

/// Who waits for the node's end; told once.
type Finished = Arc<Mutex<Option<oneshot::Sender<Ended>>>>;

/// The actor; see the module's text.
pub struct NodeActor<W> {
    stats: Arc<ActorStats>,
    shared: Arc<Shared>,
    workload: Arc<W>,
    endpoint: Arc<Endpoint<NodeRouter>>,
    writer: ActorRef<WriterMessage>,
    writing: Arc<ActorStats>,
    gathered_values_max: usize,
    settings: Settings,
    began: Instant,
    finished: Finished,
}

impl<W> std::fmt::Debug for NodeActor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeActor({})", self.shared.me)
    }
}

/// The machine, the epoch that is being entered, and when to come back.
#[derive(Debug)]
pub struct State {
    machine: Membership,
    begun: Option<(EpochRecord, Box<Beginning>)>,
    wake: Option<(Duration, tokio::task::AbortHandle)>,
    over: bool,
}

impl<W: Workload> Actor for NodeActor<W> {
    type Msg = NodeMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NodeMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        // Its first look into the store comes with the first tick, when all other actors are there.
        let (machine, _) = Membership::new(self.settings.clone());
        Ok(State { machine, begun: None, wake: None, over: false })
    }

    async fn handle(&self, _: ActorRef<NodeMsg>, message: NodeMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let _at_work = self.stats.handling(message.name());
        if state.over {
            return Ok(());
        }
        match message {
            NodeMsg::Fact(fact) => self.learn(state, fact),
            NodeMsg::Down { peer, proven, because } => self.down(state, peer, proven, because),
            NodeMsg::Loaded { epoch, result } => self.loaded(state, epoch, result),
            NodeMsg::Snapshot { epoch, step, shards, stall_ms } => self.snapshot(epoch, step, shards, stall_ms),
            NodeMsg::Told(from, message) => self.told(state, from, message),
            NodeMsg::Ordered(Order::Stop { because }) => self.learn(state, Fact::Stop(because)),
            NodeMsg::Ordered(Order::Leave { because, deadline }) => {
                *self.shared.draining.lock().unwrap_or_else(PoisonError::into_inner) = Some(because.clone());
                self.learn(state, Fact::Leave(because, deadline));
            }
            NodeMsg::Ordered(Order::Stay) => {
                self.shared.draining.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.learn(state, Fact::Stay);
            }
            NodeMsg::Ordered(Order::Died { pid, because }) => self.died(state, pid, because),
            NodeMsg::Over(outcome, because) => self.end(state, outcome, because),
            NodeMsg::Broken(because) => self.broken(state, because, None),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<NodeMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let failed = match event {
            SupervisionEvent::ActorFailed(actor, error) => Some((actor, error)),
            SupervisionEvent::ActorTerminated(actor, _, Some(reason)) if reason == mourn::KILLED => Some((actor, mourn::Killed.into())),
            _ => None,
        };
        if let Some((actor, error)) = failed
            && !state.over
        {
            let (because, fault) = mourn::failed(&self.shared.table, self.shared.me, &self.stats, actor.get_id(), error.as_ref());
            if self.shared.desk.get().is_some_and(|desk| desk.actor().get_id() == actor.get_id()) {
                tracing::warn!("{because}: this node answers no questions any more");
                return Ok(());
            }
            if self.shared.coordinator.get().is_some_and(|coordinator| coordinator.actor().get_id() == actor.get_id()) {
                self.give_up_leading(state, because.clone(), fault.clone());
            }
            if state.over {
                return Ok(());
            }
            self.broken(state, because, fault);
        }
        Ok(())
    }
}

impl NodeMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Fact(_) => "fact",
            Self::Down { .. } => "down",
            Self::Loaded { .. } => "loaded",
            Self::Snapshot { .. } => "snapshot",
            Self::Told(..) => "told",
            Self::Ordered(_) => "ordered",
            Self::Over(..) => "over",
            Self::Broken(_) => "broken",
        }
    }
}

impl<W: Workload> NodeActor<W> {
    /// Gives a fact to the machine and does what it says.
    fn learn(&self, state: &mut State, fact: Fact) {
        let acts = state.machine.on(self.began.elapsed(), fact);
        for act in acts {
            self.act(state, act);
        }
    }

    fn act(&self, state: &mut State, act: Act) {
        match act {
            Act::Look => drop(tokio::spawn(look(self.shared.clone()))),
            Act::Dial(member) => drop(tokio::spawn(dial(self.shared.clone(), self.endpoint.clone(), member))),
            Act::Send(to, word) => self.shared.send(to, Control::Word(word)),
            Act::Create(record) => drop(tokio::spawn(create(self.shared.clone(), record))),
            Act::Lead(record, before) => self.shared.lead(record, before),
            Act::Enter { record, rehash } => self.enter(state, record, rehash),
            Act::Begin(epoch, beginning) => self.begin(state, epoch, beginning),
            Act::Fence(epoch) => self.fence(epoch),
            Act::Reject(version) => self.shared.vault.reject(version),
            Act::Waiting(because) => self.shared.record(Event::Waiting { because }),
            Act::WakeAt(at) => self.wake_at(state, at),
            Act::End(outcome, because) => self.end(state, outcome, because),
        }
    }

    fn wake_at(&self, state: &mut State, at: Duration) {
        let pending = state.wake.as_ref().filter(|(_, task)| !task.is_finished());
        if pending.is_some_and(|(earlier, _)| *earlier <= at) {
            return;
        }
        if let Some((_, task)) = state.wake.take() {
            task.abort();
        }
        let (shared, when) = (self.shared.clone(), self.began + at);
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(when).await;
            shared.tell(&shared.node, "node", NodeMsg::Fact(Fact::Tick));
        });
        state.wake = Some((at, task.abort_handle()));
    }

    // ---- checkpoints --------------------------------------------------------------------------

    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64) {
        let shared = self.shared.clone();
        let (writer, writing) = (self.writer.clone(), self.writing.clone());
        tokio::spawn(async move {
            let at_work = writing.handling("save");
            let shards = shards
                .into_iter()
                .map(|(id, shard)| SnapshotShard { id, start: shard.start, values: shard.values, slots: shard.slots })
                .collect();
            let snapshot = Snapshot { epoch, step, shards };
            let saved = ractor::call!(writer, |reply| WriterMessage::Save { snapshot, reply });
            if matches!(saved, Ok(Ok(_))) {
                writing.succeeded();
            }
            let message = match saved {
                Ok(Ok(saved)) => match serde_json::to_string(&saved.parts) {
                    Ok(records) => Control::Parts { epoch, step, records, stall_ms },
                    Err(error) => Control::PartsFailed { epoch, step, because: error.to_string() },
                },
                Ok(Err(error)) => {
                    let (message, root_cause) = (format!("the parts after step {} were not saved", step.0), error.to_string());
                    writing.failed(message, root_cause.clone(), String::new());
                    Control::PartsFailed { epoch, step, because: root_cause }
                }
                Err(error) => Control::PartsFailed { epoch, step, because: format!("the checkpoint writer is gone: {error}") },
            };
            drop(at_work);
            if let Some(leader) = shared.leader() {
                shared.send(leader, message);
            }
        });
    }

    fn told(&self, state: &mut State, from: NodeId, message: Control) {
        if state.machine.leader() != Some(from) {
            return;
        }
        match message {
            Control::Published { step, bytes, seconds, stall_ms } => {
                self.shared.record(Event::CheckpointSaved { step, bytes, seconds, stall_ms });
            }
            Control::SaveFailed { step, because } => self.shared.record(Event::CheckpointFailed { step, because }),
            Control::Lines { lines } => {
                let line = |(step, epoch, samples, samples_hash)| Line { step, epoch, samples, samples_hash };
                self.shared.tail.learn(lines.into_iter().map(line));
            }
            Control::Logged { from, step } if self.shared.tail.trim(&(from..step)) => {
                tokio::spawn(save_older(self.shared.clone(), from));
            }
            _ => {}
        }
    }

    // ---- trouble and the end ------------------------------------------------------------------

    fn down(&self, state: &mut State, node: NodeId, proven: bool, because: String) {
        if self.shared.leads() {
            self.shared.tell(&self.shared.coordinator, "coordinator", CoordinatorMsg::lost(node, proven, because.clone()));
        }
        self.learn(state, Fact::Down { node, proven, because });
    }

    fn died(&self, state: &mut State, pid: u32, because: String) {
        let here = |member: &&Member| member.pid == pid && member.host == self.shared.host;
        let dead = self.shared.epoch().and_then(|epoch| epoch.record.everyone().find(here).map(|member| member.node));
        let Some(peer) = dead.filter(|node| *node != self.shared.me) else { return };
        if let Some((_, link)) = self.shared.links.remove(&peer) {
            tokio::spawn(async move { link.close("its process has ended").await });
        }
        self.down(state, peer, true, because);
    }

    fn broken(&self, state: &mut State, because: String, fault: Option<(String, String)>) {
        match state.machine.record() {
            Some(record) => {
                let (leader, epoch) = (record.leader, record.epoch);
                self.shared.send(leader, Control::Word(Word::Failed { epoch, outcome: Outcome::Lost, because, fault }));
            }
            None => self.end(state, Outcome::Lost, because),
        }
    }

    /// The coordinator cannot say any more that this node leads no longer: the node says it in its place, and ends.
    fn give_up_leading(&self, state: &mut State, because: String, fault: Option<(String, String)>) {
        let me = self.shared.me;
        let Some(record) = state.machine.record().filter(|record| record.leader == me) else { return };
        let (epoch, rank) = (record.epoch, record.rank_of(me).map(|rank| rank.0));
        let fault = fault.map(|(actor, root_cause)| Fault { actor, root_cause });
        self.shared.record(Event::NodeLost { node: me, rank, because: because.clone(), fault });
        for member in record.everyone().filter(|member| member.node != me) {
            self.shared.send(member.node, Control::Word(Word::Resign { epoch, because: because.clone() }));
        }
        self.shared.lease.send_replace(None);
        self.shared.leading.send_replace(None);
        self.end(state, Outcome::Lost, because);
    }

    fn end(&self, state: &mut State, outcome: Outcome, because: String) {
        state.over = true;
        if let Some((_, task)) = state.wake.take() {
            task.abort();
        }
        self.shared.close_epoch();
        let (reply, _) = oneshot::channel();
        self.shared.tell(&self.shared.rank, "rank", RankMsg::Fence { rehash: false, reply });
        // A node that hangs hands its copies over like one that leaves, and is to be started anew.
        let (outcome, because) = match self.shared.hung.get() {
            Some(hung) => (Outcome::Lost, hung.clone()),
            None => (outcome, because),
        };
        if let Some(finished) = self.finished.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // `run` waits for this as long as the node lives.
            let _ = finished.send(Ended { outcome, because });
        }
    }
}

async fn look(shared: Arc<Shared>) {
    let seen = async {
        let record = records::newest(&shared.store).await?;
        let lease = Lease::read(&shared.store).await?;
        Ok::<_, StoreError>(Fact::Seen(
            record,
            lease.map(|lease| LeaseView { epoch: lease.epoch, beat: lease.beat, released: lease.released }),
        ))
    };
    let fact = seen.await.unwrap_or_else(|error| Fact::Unseen(error.to_string()));
    shared.tell(&shared.node, "node", NodeMsg::Fact(fact));
}

async fn create(shared: Arc<Shared>, record: EpochRecord) {
    // Who was denied while nobody could tell it finds itself alone, and must not begin an epoch that nobody can follow.
    let unread = shared.read_denied().await;
    if shared.is_denied() {
        return;
    }
    if let Err(error) = unread {
        return shared.tell(&shared.node, "node", NodeMsg::Fact(Fact::Created(Creation::Unknown(error.to_string()))));
    }
    let creation = records::create(&shared.store, &record).await;
    shared.tell(&shared.node, "node", NodeMsg::Fact(Fact::Created(creation)));
}
