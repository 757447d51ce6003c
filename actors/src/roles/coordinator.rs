//! The coordinator: on the leader of an epoch. Gathers members, begins the epoch, counts votes,
//! calls steps stable, publishes checkpoints, ends the run.
//!
//! Supervised by [`super::node`]. Its decisions are the machines of [`crate::protocol`]; here they
//! meet the store and the wire. Its death ends the epoch, as the leader's node's death does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::checkpoint::PartRecord;
use crate::event::Event;
use crate::net::mailbox::ActorStats;
use crate::protocol::ids::{Epoch, NodeId, Rank, ShardId, Step};
use crate::protocol::membership::{Gathering, Terms, Verdict};
use crate::protocol::plan::plan;
use crate::protocol::record::{EpochRecord, Member, Origin, Phase};
use crate::protocol::recovery::newest_covered;
use crate::protocol::shard::Shard;
use crate::protocol::step::{Effect, Said, StepLife};
use crate::protocol::tree;
use crate::wire::message::{Control, Join, LaneMetrics, Outcome, ShardPartials};

/// Newcomers that are kept waiting for this node to learn that it leads.
const EARLY_MAX: usize = 4_096;

/// What the coordinator is told.
#[derive(Debug)]
pub enum CoordinatorMsg {
    /// This node has created a gathering epoch: it leads from now on.
    Lead {
        /// The epoch.
        epoch: Epoch,
    },
    /// A member or newcomer says something.
    Said {
        /// Who (proven by its certificate).
        node: NodeId,
        /// What.
        message: Control,
    },
    /// A member's link is down, or its launcher saw it die.
    Lost {
        /// Who.
        node: NodeId,
        /// How it was noticed.
        because: String,
    },
    /// The manifest of a checkpoint was published, or could not be.
    Published {
        /// Steps committed in it.
        step: Step,
        /// Its size in bytes, or one sentence.
        result: Result<u64, String>,
    },
}

/// What the coordinator needs of its node.
pub trait Office: Send + Sync + 'static {
    /// Sends to a node, or delivers here when it is this one.
    fn send(&self, to: NodeId, message: Control);
    /// Creates the record of the epoch. `Err` is a sentence that ends the run.
    fn create_epoch(&self, record: EpochRecord) -> futures::future::BoxFuture<'static, Result<(), String>>;
    /// The newest intact checkpoint's step, if there is one.
    fn newest_checkpoint(&self) -> futures::future::BoxFuture<'static, Result<Option<Step>, String>>;
    /// Publishes a checkpoint from its parts, in the background; answers with [`CoordinatorMsg::Published`].
    fn publish(&self, epoch: Epoch, step: Step, parts: Vec<PartRecord>);
    /// Records an event.
    fn record(&self, event: Event);
    /// A new random nonce.
    fn nonce(&self) -> String;
}

/// The run, as far as the coordinator decides about it.
#[derive(Debug, Clone)]
pub struct Orders {
    /// What members must share.
    pub terms: Terms,
    /// Ranks that the run begins with.
    pub ranks: u32,
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Images of the global batch.
    pub images: u64,
    /// Every shard of the model.
    pub shards: Vec<Shard>,
    /// Tensors of each unit.
    pub tensors: Vec<usize>,
    /// Steps of the run.
    pub steps: Step,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

/// The actor; see the module's text.
pub struct Coordinator {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// This node.
    pub me: NodeId,
    /// The run.
    pub orders: Orders,
    /// The node that it works in.
    pub office: Arc<dyn Office>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coordinator({})", self.me)
    }
}

/// Gathering, then training, then over.
#[derive(Debug)]
pub struct State {
    epoch: Epoch,
    /// Newcomers that found the record before this node knew that it leads.
    early: Vec<(NodeId, Join)>,
    gathering: Gathering,
    term: Option<Term>,
    stop: Option<String>,
    over: bool,
}

/// A training epoch.
#[derive(Debug)]
struct Term {
    members: Vec<Member>,
    ready: BTreeSet<NodeId>,
    first: Step,
    life: StepLife,
    partials: BTreeMap<ShardId, ShardPartials>,
    metrics: BTreeMap<u32, LaneMetrics>,
    committed_at: Instant,
    metrics_of_step: (BTreeMap<String, f64>, f64),
    saving: BTreeMap<Step, Saving>,
    last: bool,
}

/// A checkpoint whose parts come in.
#[derive(Debug)]
struct Saving {
    began: Instant,
    parts: BTreeMap<u32, Vec<PartRecord>>,
    stall_ms: f64,
}

impl Actor for Coordinator {
    type Msg = CoordinatorMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CoordinatorMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let gathering = Gathering::new(self.orders.terms.clone(), self.orders.ranks);
        Ok(State { epoch: Epoch(0), early: Vec::new(), gathering, term: None, stop: None, over: false })
    }

    async fn handle(&self, _: ActorRef<CoordinatorMsg>, message: CoordinatorMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let _at_work = self.stats.handling(message.name());
        if state.over {
            return Ok(());
        }
        match message {
            CoordinatorMsg::Lead { epoch } => self.lead(state, epoch).await,
            CoordinatorMsg::Said { node, message } => self.said(state, node, message).await,
            CoordinatorMsg::Lost { node, because } => self.lost(state, node, because),
            CoordinatorMsg::Published { step, result } => self.published(state, step, result),
        }
        Ok(())
    }
}

impl CoordinatorMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Lead { .. } => "lead",
            Self::Said { .. } => "said",
            Self::Lost { .. } => "lost",
            Self::Published { .. } => "published",
        }
    }
}

impl Coordinator {
    async fn said(&self, state: &mut State, node: NodeId, message: Control) {
        if let Control::Join(join) = message {
            return self.join(state, node, join).await;
        }
        if let Control::Stop { because } = message {
            return self.stop(state, because);
        }
        let epoch = state.epoch;
        let Some(term) = &mut state.term else { return };
        let Some(rank) = term.members.iter().position(|member| member.node == node).map(|rank| Rank(rank as u32)) else { return };
        match message {
            Control::Ready { epoch: of } if of == epoch => self.ready(epoch, term, node),
            Control::Reduced { epoch: of, step, partials, lanes } => {
                let effect = term.life.on(rank, of, step, Said::Reduced);
                if effect != Effect::Stale {
                    term.partials.extend(partials.into_iter().map(|partials| (partials.shard, partials)));
                    term.metrics.extend(lanes.into_iter().map(|lane| (lane.lane, lane)));
                }
                if effect == Effect::SendSums {
                    self.send_sums(epoch, term);
                }
            }
            Control::Prepared { epoch: of, step } => {
                let effect = term.life.on(rank, of, step, Said::Prepared);
                if effect == Effect::Stable {
                    self.stable(epoch, term, step, state.stop.is_some());
                }
            }
            Control::Parts { epoch: of, step, records, stall_ms } if of == epoch => self.parts(epoch, term, rank, step, &records, stall_ms),
            Control::PartsFailed { epoch: of, step, because } if of == epoch => {
                let because = format!("{} could not write its parts: {because}", name(&term.members[rank.0 as usize], rank));
                self.save_failed(state, step, because);
            }
            Control::Failed { epoch: of, outcome, because } if of == epoch => {
                let who = name(&term.members[rank.0 as usize], rank);
                let because = if outcome == Outcome::Unusable { because } else { format!("{who}: {because}") };
                self.end(state, outcome, because);
            }
            _ => {}
        }
    }

    // ---- beginning ----------------------------------------------------------------------------

    async fn lead(&self, state: &mut State, epoch: Epoch) {
        state.epoch = epoch;
        for (node, join) in std::mem::take(&mut state.early) {
            self.join(state, node, join).await;
        }
    }

    async fn join(&self, state: &mut State, node: NodeId, join: Join) {
        if state.epoch == Epoch(0) {
            // The record is seen in the store before its creator hears that the create went through.
            if state.early.len() < EARLY_MAX {
                state.early.push((node, join));
            }
            return;
        }
        let member = Member { node, address: join.address, host: join.host, pid: join.pid, slot: join.slot };
        let terms = Terms { build: join.build, recipe: join.recipe, hardware: join.hardware };
        match state.gathering.join(member, &terms) {
            Verdict::Refuse(because) => self.office.send(node, Control::Refused { because }),
            Verdict::Wait { missing } => {
                self.office.record(Event::Waiting { because: format!("waiting for {missing} more of {} ranks", self.orders.ranks) })
            }
            Verdict::Begin(members) => {
                if let Err(because) = self.begin(state, members).await {
                    self.end(state, Outcome::Lost, because);
                }
            }
        }
    }

    async fn begin(&self, state: &mut State, members: Vec<Member>) -> Result<(), String> {
        let shard_ids: Vec<ShardId> = self.orders.shards.iter().map(|shard| shard.id).collect();
        // Members of a first epoch hold nothing, so the newest intact checkpoint is what is held.
        let held = newest_covered(&shard_ids, &[]);
        let (step, origin) = match (&held, self.office.newest_checkpoint().await?) {
            (Some((version, _)), _) => (version.step, Origin::Seed),
            (None, Some(step)) => (step, Origin::Checkpoint { step }),
            (None, None) => (Step(0), Origin::Seed),
        };
        let ranks = members.len() as u32;
        let plan = plan(ranks, self.orders.lanes, &self.orders.shards, &held.map(|(_, held)| held).unwrap_or_default());
        let epoch = Epoch(state.epoch.0 + 1);
        let record = EpochRecord {
            epoch,
            nonce: self.office.nonce(),
            leader: self.me,
            members: members.clone(),
            phase: Phase::Training { plan, step, origin: origin.clone() },
            because: format!("all {ranks} ranks are there"),
        };
        self.office.create_epoch(record.clone()).await?;
        state.epoch = epoch;
        let json = serde_json::to_string(&record).map_err(|error| format!("the record of {epoch} cannot be written as JSON: {error}"))?;
        for member in &members {
            self.office.send(member.node, Control::Begin { record: json.clone() });
        }
        state.term = Some(Term {
            life: StepLife::new(epoch, step, ranks),
            members,
            ready: BTreeSet::new(),
            first: step,
            partials: BTreeMap::new(),
            metrics: BTreeMap::new(),
            committed_at: Instant::now(),
            metrics_of_step: (BTreeMap::new(), 0.0),
            saving: BTreeMap::new(),
            last: false,
        });
        Ok(())
    }

    fn ready(&self, epoch: Epoch, term: &mut Term, node: NodeId) {
        term.ready.insert(node);
        if term.ready.len() < term.members.len() {
            return;
        }
        term.committed_at = Instant::now();
        if term.first >= self.orders.steps {
            let because = format!("all {} steps were done before", self.orders.steps.0);
            return self.farewell(term, Outcome::Done, &because);
        }
        self.broadcast(term, &Control::Go { epoch, step: term.first });
    }

    // ---- a step -------------------------------------------------------------------------------

    /// Adds up the squared norms of every tensor over its shards, canonically, and tells everyone.
    fn send_sums(&self, epoch: Epoch, term: &mut Term) {
        let mut pieces: Vec<Vec<Vec<(f64, f64)>>> = self.orders.tensors.iter().map(|tensors| vec![Vec::new(); *tensors]).collect();
        let mut nonfinite = 0;
        for (shard, partials) in std::mem::take(&mut term.partials) {
            nonfinite += partials.nonfinite;
            for (tensor, values, gradients) in partials.norms {
                if let Some(pieces) = pieces.get_mut(shard.unit.0 as usize).and_then(|unit| unit.get_mut(tensor as usize)) {
                    pieces.push((values, gradients));
                }
            }
        }
        let total = |pieces: Vec<(f64, f64)>| {
            let (values, gradients): (Vec<f64>, Vec<f64>) = pieces.into_iter().unzip();
            (tree::sum(&values).unwrap_or(0.0), tree::sum(&gradients).unwrap_or(0.0))
        };
        let norms = pieces.into_iter().map(|unit| unit.into_iter().map(total).collect()).collect();
        term.metrics_of_step = means(std::mem::take(&mut term.metrics));
        self.broadcast(term, &Control::Sums { epoch, step: term.life.step(), norms, nonfinite });
    }

    fn stable(&self, epoch: Epoch, term: &mut Term, step: Step, stopping: bool) {
        let done = step.next();
        let finished = done >= self.orders.steps;
        let last = finished || stopping;
        // One checkpoint is in flight at a time; only the last one does not wait for the one before it.
        let checkpoint = last || (done.0.is_multiple_of(self.orders.checkpoint_every.max(1)) && term.saving.is_empty());
        let (metrics, wait) = std::mem::take(&mut term.metrics_of_step);
        if checkpoint {
            term.saving.insert(done, Saving { began: Instant::now(), parts: BTreeMap::new(), stall_ms: 0.0 });
        }
        term.last = last;
        let stable = Control::Stable { epoch, step, checkpoint, last, metrics: metrics.clone().into_iter().collect(), wait };
        self.broadcast(term, &stable);
        let seconds = term.committed_at.elapsed().as_secs_f64();
        term.committed_at = Instant::now();
        self.office.record(Event::StepCommitted { step, epoch, metrics, seconds, images: self.orders.images, wait });
    }

    // ---- checkpoints --------------------------------------------------------------------------

    fn parts(&self, epoch: Epoch, term: &mut Term, rank: Rank, step: Step, records: &str, stall_ms: f64) {
        let records: Vec<PartRecord> = match serde_json::from_str(records) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%step, %rank, %error, "the records of a checkpoint's parts cannot be read");
                return;
            }
        };
        let Some(saving) = term.saving.get_mut(&step) else { return };
        saving.parts.insert(rank.0, records);
        saving.stall_ms = saving.stall_ms.max(stall_ms);
        if saving.parts.len() == term.members.len() {
            let parts = std::mem::take(&mut saving.parts).into_values().flatten().collect();
            self.office.publish(epoch, step, parts);
        }
    }

    fn published(&self, state: &mut State, step: Step, result: Result<u64, String>) {
        match result {
            Err(because) => self.save_failed(state, step, because),
            Ok(bytes) => {
                let Some(term) = &mut state.term else { return };
                let Some(saving) = term.saving.remove(&step) else { return };
                let (seconds, stall_ms) = (saving.began.elapsed().as_secs_f64(), saving.stall_ms);
                self.office.record(Event::CheckpointSaved { step, bytes, seconds, stall_ms });
                self.broadcast(term, &Control::Published { step, bytes, seconds, stall_ms });
                if term.last && step == term.life.step() {
                    let (outcome, because) = self.ending(state.stop.as_deref(), step);
                    self.end(state, outcome, because);
                }
            }
        }
    }

    /// A failed save never stops training; only the last one has nothing to wait for any more.
    fn save_failed(&self, state: &mut State, step: Step, because: String) {
        let Some(term) = &mut state.term else { return };
        if term.saving.remove(&step).is_none() {
            return;
        }
        self.office.record(Event::CheckpointFailed { step, because: because.clone() });
        self.broadcast(term, &Control::SaveFailed { step, because: because.clone() });
        if term.last && step == term.life.step() {
            let because = format!("the last checkpoint, after step {}, could not be saved: {because}", step.0);
            self.end(state, Outcome::Lost, because);
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    fn stop(&self, state: &mut State, because: String) {
        if state.stop.is_some() {
            return;
        }
        self.office.record(Event::Waiting { because: format!("stopping after this step and a checkpoint: {because}") });
        state.stop = Some(because);
        let idle = state.term.as_ref().is_none_or(|term| term.ready.len() < term.members.len());
        if idle {
            let because = "stopped before the first step".to_owned();
            self.end(state, Outcome::Stopped, because);
        }
    }

    fn ending(&self, stop: Option<&str>, step: Step) -> (Outcome, String) {
        match stop {
            Some(because) if step < self.orders.steps => {
                (Outcome::Stopped, format!("{because}; the checkpoint after {} steps holds everything", step.0))
            }
            _ => (Outcome::Done, format!("all {} steps are done and saved", self.orders.steps.0)),
        }
    }

    fn lost(&self, state: &mut State, node: NodeId, because: String) {
        state.gathering.leave(node);
        let Some(term) = &state.term else { return };
        let Some(rank) = term.members.iter().position(|member| member.node == node) else { return };
        let who = name(&term.members[rank], Rank(rank as u32));
        self.office.record(Event::NodeLost { node, rank: rank as u32, because: because.clone() });
        self.end(state, Outcome::Lost, format!("{who} was lost at step {}: {because}", term.life.step().0));
    }

    fn end(&self, state: &mut State, outcome: Outcome, because: String) {
        state.over = true;
        match &state.term {
            Some(term) => self.farewell(term, outcome, &because),
            None => self.office.send(self.me, Control::Bye { outcome, because }),
        }
    }

    fn farewell(&self, term: &Term, outcome: Outcome, because: &str) {
        self.broadcast(term, &Control::Bye { outcome, because: because.to_owned() });
    }

    fn broadcast(&self, term: &Term, message: &Control) {
        for member in &term.members {
            self.office.send(member.node, message.clone());
        }
    }
}

fn name(member: &Member, rank: Rank) -> String {
    format!("rank {} ({}, pid {})", rank.0, member.host, member.pid)
}

/// Means over lanes, in lane order along the canonical tree, and the share of time spent waiting.
fn means(lanes: BTreeMap<u32, LaneMetrics>) -> (BTreeMap<String, f64>, f64) {
    let count = lanes.len().max(1) as f64;
    let (waited, busy) =
        lanes.values().fold((0.0, 0.0), |(waited, busy), lane| (waited + f64::from(lane.wait_s), busy + f64::from(lane.busy_s)));
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in lanes.into_values().flat_map(|lane| lane.metrics) {
        columns.entry(name).or_default().push(f64::from(value));
    }
    let metrics = columns.into_iter().map(|(name, values)| (name, tree::sum(&values).unwrap_or(0.0) / count)).collect();
    (metrics, if busy > 0.0 { waited / busy } else { 0.0 })
}
