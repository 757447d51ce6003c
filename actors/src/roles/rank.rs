//! The rank: drives one device. Its lanes compute, its shards are updated, its votes are cast.
//!
//! Supervised by [`super::node`]; its death ends the node, because its shards die with it. Handlers
//! stay short: lanes run on their own threads, sums of large vectors and updates on blocking ones,
//! and all of them answer by message.
//!
//! Invariant: committed copies are never written. A step's new versions lie beside them in the vault until
//! the step is stable; whatever happens before leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::exchange::{Exchange, Lanes};
use super::lane::{LaneBoard, Watched};
use super::loader::LoaderMsg;
use super::phases::{Moment, PhaseBoard};
use super::vault::{ShardState, Shards, Vault};
use crate::aside::aside;
use crate::net::mailbox::{ActorStats, Mailbox};
use crate::protocol::coordinator::Care;
use crate::protocol::ids::{Epoch, Lane, ShardId, Step, Version};
use crate::protocol::word::{Held, Outcome, Word};
use crate::wire::message::{Control, LaneMetrics, ShardPartials};
use crate::workload::{LaneError, LaneReport, NewShard, Peers, SourceError, Sums, Workload};

/// What the rank is told.
#[derive(Debug)]
pub enum RankMsg {
    /// An epoch begins with these shards; wait for [`RankMsg::Go`].
    Begin {
        /// The collectives of the epoch.
        exchange: Arc<Exchange>,
        /// Our lanes.
        lanes: Range<u32>,
        /// Our copies as of the first step.
        shards: Shards,
    },
    /// All members are ready: run this step.
    Go {
        /// In this epoch.
        epoch: Epoch,
        /// First step.
        step: Step,
    },
    /// A lane has ended.
    LaneDone {
        /// In this epoch.
        epoch: Epoch,
        /// Its step.
        step: Step,
        /// Which lane.
        lane: Lane,
        /// How.
        result: Result<LaneReport, LaneFailure>,
        /// Seconds from its start.
        busy_s: f32,
        /// Number of its samples and the hash of their ids.
        samples: (u32, u64),
    },
    /// The mean gradients of our shards are complete.
    Reduced {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
    },
    /// The partial sums of our shards were computed; the gradients come back.
    Partials {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// The sums.
        partials: Vec<ShardPartials>,
        /// The mean gradients.
        gradients: Gradients,
    },
    /// The global sums.
    Sums {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// The sums.
        sums: Sums,
    },
    /// The new versions were computed.
    Updated {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// The new versions with their digests.
        shards: Vec<(ShardId, u64, ShardState)>,
    },
    /// The step is stable.
    Stable {
        /// In this epoch.
        epoch: Epoch,
        /// This step.
        step: Step,
        /// Whether to offer a snapshot of the state after it.
        checkpoint: bool,
        /// Whether the next step waits for [`RankMsg::Go`].
        hold: bool,
    },
    /// Offer a snapshot of the state as it is.
    Snapshot {
        /// In this epoch.
        epoch: Epoch,
        /// Steps committed.
        step: Step,
    },
    /// The epoch has ended: drop what is in flight, never vote in it again, and say what is held.
    Fence {
        /// Read every copy again first, and drop those that are not what their digest says.
        rehash: bool,
        /// What is held then.
        reply: oneshot::Sender<Vec<Held>>,
    },
}

/// Mean gradients of the copies.
pub type Gradients = BTreeMap<ShardId, Arc<Vec<f32>>>;

/// Why a lane failed, with what that means for the run.
#[derive(Debug, Clone)]
pub enum LaneFailure {
    /// The epoch ended.
    Aborted,
    /// The lane itself failed.
    Failed(String),
    /// Its data cannot be used.
    Data(SourceError),
}

/// What the rank asks of its node.
pub trait Superior: Send + Sync + 'static {
    /// Sends to the leader.
    fn tell_leader(&self, message: Control);
    /// Offers the owned shards' state after a step to the checkpoint writer. Costs the rank only reference counts.
    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64);
    /// Copies were found whose content is not what their digest says; they were dropped.
    fn corrupt(&self, copies: Vec<Held>);
}

/// The actor; see the module's text.
pub struct RankActor<W> {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// What it computes.
    pub workload: Arc<W>,
    /// Where its batches come from.
    pub loader: Mailbox<LoaderMsg>,
    /// What this node holds.
    pub vault: Arc<Vault>,
    /// Its node.
    pub superior: Arc<dyn Superior>,
    /// One past the last step of the run.
    pub end: Step,
    /// What its lanes are doing.
    pub board: Arc<LaneBoard>,
    /// Where its steps' time went.
    pub phases: Arc<PhaseBoard>,
    /// Which steps are audited.
    pub care: Care,
}

impl<W> std::fmt::Debug for RankActor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RankActor(end: {})", self.end)
    }
}

/// What an epoch means to the rank.
#[derive(Debug)]
struct Term {
    exchange: Arc<Exchange>,
    lanes: Range<u32>,
    committed: Shards,
    flight: Flight,
}

/// One step in flight.
#[derive(Debug, Default)]
struct Flight {
    step: Step,
    reports: BTreeMap<u32, LaneMetrics>,
    reduced: bool,
    summing: bool,
    partials: Option<Vec<ShardPartials>>,
    gradients: Option<Gradients>,
    next: Option<Shards>,
}

/// The rank's state: nothing before the first epoch.
#[derive(Debug, Default)]
pub struct State {
    term: Option<Term>,
}

impl<W: Workload> Actor for RankActor<W> {
    type Msg = RankMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RankMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(&self, myself: ActorRef<RankMsg>, message: RankMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let _at_work = self.stats.handling(message.name());
        let myself = Mailbox::new(myself, self.stats.clone());
        match message {
            RankMsg::Begin { exchange, lanes, shards } => self.begin(state, exchange, lanes, shards).await,
            RankMsg::Fence { rehash, reply } => self.fence(state, rehash, reply),
            other => {
                let Some(term) = state.term.as_mut().filter(|term| other.belongs(term)) else { return Ok(()) };
                match other {
                    RankMsg::Go { step, .. } => self.go(&myself, term, step),
                    RankMsg::LaneDone { lane, result, busy_s, samples, .. } => {
                        self.lane_done(&myself, term, lane, result, (busy_s, samples));
                    }
                    RankMsg::Reduced { .. } => {
                        term.flight.reduced = true;
                        self.add_up(&myself, term);
                    }
                    RankMsg::Partials { partials, gradients, .. } => {
                        term.flight.partials = Some(partials);
                        term.flight.gradients = Some(gradients);
                        self.report(term);
                    }
                    RankMsg::Sums { sums, .. } => self.update(&myself, term, sums),
                    RankMsg::Updated { step, shards, .. } => self.prepared(term, step, shards),
                    RankMsg::Stable { checkpoint, hold, .. } => self.commit(&myself, term, checkpoint, hold),
                    RankMsg::Snapshot { step, .. } => self.offer(term, step),
                    RankMsg::Begin { .. } | RankMsg::Fence { .. } => {}
                }
            }
        }
        Ok(())
    }
}

impl RankMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::Go { .. } => "go",
            Self::LaneDone { .. } => "lane_done",
            Self::Reduced { .. } => "reduced",
            Self::Partials { .. } => "partials",
            Self::Sums { .. } => "sums",
            Self::Updated { .. } => "updated",
            Self::Stable { .. } => "stable",
            Self::Snapshot { .. } => "snapshot",
            Self::Fence { .. } => "fence",
        }
    }

    /// Whether the message is of this epoch and of the step in flight; `Go` sets the step.
    fn belongs(&self, term: &Term) -> bool {
        let (epoch, step) = match self {
            Self::Begin { .. } | Self::Fence { .. } => return true,
            Self::Go { epoch, .. } => (epoch, &term.flight.step),
            Self::Snapshot { epoch, step } => (epoch, step),
            Self::LaneDone { epoch, step, .. }
            | Self::Reduced { epoch, step }
            | Self::Partials { epoch, step, .. }
            | Self::Sums { epoch, step, .. }
            | Self::Updated { epoch, step, .. }
            | Self::Stable { epoch, step, .. } => (epoch, step),
        };
        *epoch == term.exchange.epoch() && *step == term.flight.step
    }
}

fn abort(state: &mut State) {
    if let Some(term) = &mut state.term {
        term.exchange.abort();
        term.flight = Flight { step: term.flight.step, ..Flight::default() };
    }
}

impl<W: Workload> RankActor<W> {
    /// Ends the epoch for this rank. What is held stays, new versions that were not called stable among it.
    fn fence(&self, state: &mut State, rehash: bool, reply: oneshot::Sender<Vec<Held>>) {
        abort(state);
        state.term = None;
        self.phases.at(Moment::Aborted);
        let (vault, superior) = (self.vault.clone(), self.superior.clone());
        let report = move || {
            if rehash {
                let bad = vault.rehash();
                if !bad.is_empty() {
                    superior.corrupt(bad);
                }
            }
            // A node that asks and goes has ended.
            let _ = reply.send(vault.held());
        };
        if rehash { drop(aside(report)) } else { report() }
    }

    async fn begin(&self, state: &mut State, exchange: Arc<Exchange>, lanes: Range<u32>, shards: Shards) {
        abort(state);
        let flight = Flight { step: exchange.step(), ..Flight::default() };
        state.term = Some(Term { exchange, lanes, committed: shards, flight });
    }

    fn go(&self, myself: &Mailbox<RankMsg>, term: &mut Term, step: Step) {
        let follow = LoaderMsg::Follow { step, lanes: term.lanes.clone(), end: self.end };
        if self.loader.try_send(follow).is_err() {
            return self.fail(term, Outcome::Lost, "the loader does not keep up with its mailbox".into());
        }
        self.start(myself, term, step);
    }

    fn start(&self, myself: &Mailbox<RankMsg>, term: &mut Term, step: Step) {
        term.flight = Flight { step, ..Flight::default() };
        let turn = self.board.begin(self.care.audits(step));
        self.phases.at(Moment::Began);
        for lane in term.lanes.clone() {
            self.start_lane(myself, term, step, Lane(lane), turn);
        }
        // A rank without lanes may have had all gradients of the step before it learnt that it may start.
        term.flight.reduced = term.exchange.is_reduced();
        self.add_up(myself, term);
    }

    fn start_lane(&self, myself: &Mailbox<RankMsg>, term: &Term, step: Step, lane: Lane, turn: u64) {
        let epoch = term.exchange.epoch();
        let (reply, batch) = oneshot::channel();
        self.board.load(turn, lane.0);
        if self.loader.try_send(LoaderMsg::Take { step, lane, reply }).is_err() {
            return self.fail(term, Outcome::Lost, "the loader does not keep up with its mailbox".into());
        }
        let watched = Watched::new(Arc::new(Lanes(term.exchange.clone())), self.board.clone(), turn);
        let peers = Peers::new(step, lane, Arc::new(watched), tokio::runtime::Handle::current());
        let board = self.board.clone();
        let (workload, rank) = (self.workload.clone(), myself.clone());
        tokio::spawn(async move {
            let batch = batch.await.unwrap_or_else(|_| Err(SourceError(format!("the loader ended before {step} {lane} was decoded"))));
            let began = Instant::now();
            board.start(turn, lane.0);
            let samples = batch.as_ref().map_or((0, 0), |batch| (batch.samples.len() as u32, hash_of(&batch.samples)));
            let result = match batch {
                Err(error) => Err(LaneFailure::Data(error)),
                Ok(batch) => workload.lane(step, batch, peers).await.map_err(|error| match error {
                    LaneError::Aborted(_) => LaneFailure::Aborted,
                    LaneError::Failed(because) => LaneFailure::Failed(because),
                }),
            };
            board.end(turn, lane.0);
            let busy_s = began.elapsed().as_secs_f32();
            // A rank that is gone needs no report.
            let _ = rank.try_send(RankMsg::LaneDone { epoch, step, lane, result, busy_s, samples });
        });
    }

    fn lane_done(
        &self,
        myself: &Mailbox<RankMsg>,
        term: &mut Term,
        lane: Lane,
        result: Result<LaneReport, LaneFailure>,
        work: (f32, (u32, u64)),
    ) {
        match result {
            Ok(report) => {
                let (busy_s, (samples, samples_hash)) = work;
                self.board.took(lane.0, busy_s, report.wait_s);
                let metrics = report.metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                term.flight
                    .reports
                    .insert(lane.0, LaneMetrics { lane: lane.0, metrics, wait_s: report.wait_s, busy_s, samples, samples_hash });
                self.add_up(myself, term);
            }
            Err(LaneFailure::Aborted) => {}
            Err(LaneFailure::Failed(because)) => {
                self.fail(term, Outcome::Lost, format!("lane {lane} failed at step {}: {because}", term.flight.step.0))
            }
            Err(LaneFailure::Data(error)) => self.fail(term, Outcome::Unusable, error.to_string()),
        }
    }

    /// All lanes have ended and all gradients are in: computes the partial sums of our shards.
    fn add_up(&self, myself: &Mailbox<RankMsg>, term: &mut Term) {
        let lanes = (term.lanes.end - term.lanes.start) as usize;
        if !term.flight.reduced || term.flight.reports.len() < lanes || std::mem::replace(&mut term.flight.summing, true) {
            return;
        }
        let (epoch, step) = (term.exchange.epoch(), term.flight.step);
        let gradients = term.exchange.take_reduced();
        let (workload, committed, rank) = (self.workload.clone(), term.committed.clone(), myself.clone());
        let exchange = term.exchange.clone();
        aside(move || {
            // Each shard counts once: its owner's partial sums.
            let partials = committed.iter().filter(|(id, _)| exchange.owns(**id)).filter_map(|(id, shard)| {
                let sums = workload.partials(shard.view(*id), gradients.get(id)?);
                Some(ShardPartials { shard: *id, norms: sums.norms, nonfinite: sums.nonfinite })
            });
            let partials = partials.collect();
            let _ = rank.try_send(RankMsg::Partials { epoch, step, partials, gradients });
        });
    }

    fn report(&self, term: &mut Term) {
        let Some(partials) = term.flight.partials.take() else { return };
        let lanes = std::mem::take(&mut term.flight.reports).into_values().collect();
        let (computed_s, traces) = self.board.result();
        let (epoch, step) = (term.exchange.epoch(), term.flight.step);
        self.phases.at(Moment::Reduced { data: self.board.loaded().as_secs_f64(), compute: computed_s });
        let phases = self.phases.last().map(|seconds| seconds.map(|seconds| seconds as f32).to_vec()).unwrap_or_default();
        self.superior.tell_leader(Control::Reduced { epoch, step, partials, lanes, computed_s, traces, phases });
    }

    /// Computes the new versions beside the old ones.
    fn update(&self, myself: &Mailbox<RankMsg>, term: &mut Term, sums: Sums) {
        let Some(gradients) = term.flight.gradients.take() else { return };
        self.phases.at(Moment::Summed);
        let (epoch, step) = (term.exchange.epoch(), term.flight.step);
        let (workload, committed, rank) = (self.workload.clone(), term.committed.clone(), myself.clone());
        aside(move || {
            let updated = committed.iter().filter_map(|(id, shard)| {
                let NewShard { values, slots } = workload.update(step, shard.view(*id), gradients.get(id)?, &sums);
                let next = ShardState { start: shard.start, values: Arc::new(values), slots: Arc::new(slots) };
                Some((*id, next.digest(), next))
            });
            let shards = updated.collect();
            let _ = rank.try_send(RankMsg::Updated { epoch, step, shards });
        });
    }

    /// The vote: from here on the new versions count among what is held.
    fn prepared(&self, term: &mut Term, step: Step, shards: Vec<(ShardId, u64, ShardState)>) {
        let epoch = term.exchange.epoch();
        let version = Version { step: step.next(), epoch };
        let digests = shards.iter().map(|(id, digest, _)| (*id, *digest)).collect();
        for (id, digest, shard) in &shards {
            self.vault.put(*id, version, *digest, shard.clone());
        }
        term.flight.next = Some(shards.into_iter().map(|(id, _, shard)| (id, shard)).collect());
        self.phases.at(Moment::Prepared);
        self.superior.tell_leader(Control::Prepared { epoch, step, digests });
    }

    /// The step is stable: the new versions take the place of the old ones, and the next step starts.
    fn commit(&self, myself: &Mailbox<RankMsg>, term: &mut Term, checkpoint: bool, hold: bool) {
        let Some(next) = term.flight.next.take() else {
            return self.fail(term, Outcome::Lost, format!("step {} was called stable before this rank had voted", term.flight.step.0));
        };
        let step = term.flight.step;
        let version = Version { step: step.next(), epoch: term.exchange.epoch() };
        self.phases.at(Moment::Committed);
        term.committed = next;
        self.vault.settle(version, &term.committed.keys().copied().collect::<BTreeSet<_>>());
        let values = term.committed.iter().map(|(id, shard)| (*id, shard.values.clone())).collect();
        term.exchange.commit(step, values);
        term.flight = Flight { step: step.next(), ..Flight::default() };
        if checkpoint {
            self.offer(term, step.next());
        }
        if !hold {
            self.start(myself, term, step.next());
        }
    }

    fn offer(&self, term: &Term, step: Step) {
        let began = Instant::now();
        let owned = term.committed.iter().filter(|(id, _)| term.exchange.owns(**id));
        let shards = owned.map(|(id, shard)| (*id, shard.clone())).collect();
        self.superior.snapshot(term.exchange.epoch(), step, shards, began.elapsed().as_secs_f64() * 1e3);
    }

    fn fail(&self, term: &Term, outcome: Outcome, because: String) {
        self.superior.tell_leader(Control::Word(Word::Failed { epoch: term.exchange.epoch(), outcome, because, fault: None }));
    }
}

/// The first 8 bytes of the BLAKE3 hash of ids, each as a little-endian u64.
pub fn hash_of(ids: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
