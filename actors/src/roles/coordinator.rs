//! The coordinator: on the leader of an epoch. Counts votes, calls steps stable, publishes checkpoints, begins the next epoch.
//!
//! Supervised by [`super::node`]. Its decisions are those of [`Coordinator`]; here they meet the store and the wire, and what they
//! need not know: partial norms, metrics, records of parts. Its death ends its node's part in the run; another node leads then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::checkpoint::PartRecord;
use crate::event::{Event, Fault};
use crate::net::mailbox::ActorStats;
use crate::protocol::coordinator::{Act, Coordinator, Creation, Fact, Note, Outside, Rules};
use crate::protocol::ids::{Epoch, NodeId, ShardId, Step};
use crate::protocol::pace::Pace;
use crate::protocol::record::{EpochRecord, Member};
use crate::protocol::tree;
use crate::protocol::word::{Outcome, Word};
use crate::wire::message::{Control, LaneMetrics, ShardPartials};

mod saving;
mod sums;

use self::saving::Saving;
use self::sums::Gathered;

/// Steps after which the ledger is written, where no checkpoint does it before.
const LEDGER_EVERY: u64 = 64;

/// What the coordinator is told.
#[derive(Debug)]
pub enum CoordinatorMsg {
    /// This node has created the record of an epoch: it leads from now on.
    Lead {
        /// The record.
        record: EpochRecord,
        /// The one before it.
        before: Option<EpochRecord>,
    },
    /// A member or newcomer says something.
    Said {
        /// Who (proven by its certificate).
        node: NodeId,
        /// What.
        message: Control,
    },
    /// Something else that its decisions turn on.
    Fact(Fact),
    /// The manifest of a checkpoint was published, or could not be.
    Published {
        /// Steps committed in it.
        step: Step,
        /// Its size in bytes, or one sentence.
        result: Result<u64, String>,
    },
    /// What it waits for cannot be had: one sentence.
    Stuck(String),
    /// An operator asks who is let in and not in the epoch.
    Outside(oneshot::Sender<Vec<(Member, Outside)>>),
    /// Time has passed.
    Tick,
}

impl CoordinatorMsg {
    /// A node is gone.
    pub fn lost(node: NodeId, proven: bool, because: String) -> Self {
        Self::Fact(Fact::Lost { node, proven, because })
    }
    /// What became of a record.
    pub fn created(creation: Creation) -> Self {
        Self::Fact(Fact::Created(creation))
    }
    /// The newest intact checkpoint.
    pub fn checkpoint(step: Option<Step>) -> Self {
        Self::Fact(Fact::Checkpoint(step))
    }
    /// The newest record in the store; `None` when the store does not answer.
    pub fn newest(newest: Option<(Epoch, String)>) -> Self {
        Self::Fact(Fact::Newest(newest))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Lead { .. } => "lead",
            Self::Said { .. } => "said",
            Self::Fact(_) => "fact",
            Self::Published { .. } => "published",
            Self::Stuck(_) => "stuck",
            Self::Outside(_) => "outside",
            Self::Tick => "tick",
        }
    }
}

/// What the coordinator needs of its node.
pub trait Office: Send + Sync + 'static {
    /// Sends to a node, or delivers here when it is this one.
    fn send(&self, to: NodeId, message: Control);
    /// Creates a record in the background; answers with [`CoordinatorMsg::created`].
    fn create(&self, record: EpochRecord);
    /// Looks for the newest intact checkpoint; answers with [`CoordinatorMsg::checkpoint`].
    fn look_for_checkpoint(&self);
    /// Looks for the newest record in the background; answers with [`CoordinatorMsg::newest`].
    fn look_for_newer(&self);
    /// Publishes a checkpoint from its parts, in the background; answers with [`CoordinatorMsg::Published`].
    fn publish(&self, epoch: Epoch, step: Step, parts: Vec<PartRecord>);
    /// Moves the lease of this epoch, or lets it stand still.
    fn lease(&self, epoch: Option<Epoch>);
    /// This node leads this epoch.
    fn leads(&self, epoch: Epoch);
    /// This node leads no more; another one does, or will.
    fn deposed(&self);
    /// The run is over for this node.
    fn over(&self, outcome: Outcome, because: String);
    /// Writes the ledger.
    fn save_ledger(&self);
    /// Gives the lines of the ledger that are not durable to all members.
    fn share_ledger(&self);
    /// Sends [`CoordinatorMsg::Tick`] after this time.
    fn wake(&self, after: Duration);
    /// Records an event.
    fn record(&self, event: Event);
}

/// The run, as far as the coordinator decides about it.
#[derive(Debug, Clone)]
pub struct Orders {
    /// What the run asks of its epochs.
    pub rules: Rules,
    /// Tensors of each unit.
    pub tensors: Vec<usize>,
    /// A loss beyond this makes a step bad.
    pub loss_max: f64,
}

/// The actor; see the module's text.
pub struct CoordinatorActor {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// This node.
    pub me: NodeId,
    /// The run.
    pub orders: Orders,
    /// The node that it works in.
    pub office: Arc<dyn Office>,
}

impl std::fmt::Debug for CoordinatorActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CoordinatorActor({})", self.me)
    }
}

/// Nothing while another node leads.
#[derive(Debug)]
pub struct State {
    began: Instant,
    machine: Option<Coordinator>,
    leasing: bool,
    gathered: Gathered,
    pace: Pace,
    saving: BTreeMap<Step, Saving>,
    /// The actor whose failure is being told, of which node and with its first cause.
    fault: Option<(NodeId, Fault)>,
}

impl State {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            machine: None,
            leasing: false,
            gathered: Gathered::default(),
            pace: Pace::default(),
            saving: BTreeMap::new(),
            fault: None,
        }
    }
}

impl Actor for CoordinatorActor {
    type Msg = CoordinatorMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CoordinatorMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::new())
    }

    async fn handle(&self, _: ActorRef<CoordinatorMsg>, message: CoordinatorMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let _at_work = self.stats.handling(message.name());
        match message {
            CoordinatorMsg::Lead { record, before } => self.lead(state, record, before.as_ref()),
            CoordinatorMsg::Said { node, message } => self.said(state, node, message),
            CoordinatorMsg::Fact(fact) => self.learn(state, fact),
            CoordinatorMsg::Published { step, result } => self.published(state, step, result),
            CoordinatorMsg::Stuck(because) => self.stuck(state, because),
            CoordinatorMsg::Outside(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(state.machine.as_ref().map(Coordinator::outside).unwrap_or_default());
            }
            CoordinatorMsg::Tick => self.learn(state, Fact::Tick),
        }
        Ok(())
    }
}

impl CoordinatorActor {
    fn lead(&self, state: &mut State, record: EpochRecord, before: Option<&EpochRecord>) {
        let (machine, acts) = Coordinator::new(self.orders.rules.clone(), self.me, record, before, state.began.elapsed());
        if let Some((before, how)) = before.and_then(|before| Some((before, machine.record().leader_was_lost(before)?))) {
            // Nobody led who could have recorded it.
            let (node, rank) = (before.leader, before.rank_of(before.leader).map(|rank| rank.0));
            self.office.record(Event::NodeLost { node, rank, because: how.to_owned(), fault: None });
        }
        state.machine = Some(machine);
        self.fresh(state);
        self.follow(state, acts);
    }

    fn said(&self, state: &mut State, node: NodeId, message: Control) {
        match message {
            Control::Word(word) => {
                state.fault = fault_of(node, &word);
                self.learn(state, Fact::Said { from: node, word });
                state.fault = None;
            }
            Control::Reduced { epoch, step, partials, lanes, computed_s, traces, phases } => {
                // Payload first: the machine may find the step complete.
                let due = state.machine.as_ref().and_then(Coordinator::flight).is_some_and(|(at, _)| at == step);
                if due && state.machine.as_ref().is_some_and(|machine| machine.record().epoch == epoch) {
                    state.pace.add(node, lanes.len() as u32, computed_s);
                    state.gathered.add(partials, lanes, phases);
                    if !traces.is_empty() {
                        self.learn(state, Fact::Traces { epoch, step, lanes: traces });
                    }
                    self.learn(state, Fact::Reduced { from: node, epoch, step });
                }
            }
            Control::Prepared { epoch, step, digests } => self.learn(state, Fact::Prepared { from: node, epoch, step, digests }),
            Control::Parts { step, records, stall_ms, .. } => self.parts(state, node, step, &records, stall_ms),
            Control::PartsFailed { step, because, .. } => {
                let who = state.machine.as_ref().map(|machine| machine.record().name(node)).unwrap_or_default();
                self.save_failed(state, step, format!("{who} could not write its parts: {because}"));
            }
            _ => {}
        }
    }

    fn learn(&self, state: &mut State, fact: Fact) {
        let Some(machine) = &mut state.machine else { return };
        let epoch = machine.record().epoch;
        let acts = machine.on(state.began.elapsed(), fact);
        if machine.record().epoch != epoch {
            self.fresh(state);
        }
        self.follow(state, acts);
    }

    /// Another epoch is led: what was in flight before it is gone.
    fn fresh(&self, state: &mut State) {
        let Some(machine) = &state.machine else { return };
        state.gathered = Gathered::default();
        self.office.leads(machine.record().epoch);
        // A checkpoint whose parts are all there is being published, whoever is a member now.
        let (publishing, unfinished): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut state.saving).into_iter().partition(|(_, saving)| saving.publishing);
        state.saving = publishing;
        for step in unfinished.into_keys() {
            self.office
                .record(Event::CheckpointFailed { step, because: "members changed while it was written; the next one is due soon".into() });
        }
    }

    fn follow(&self, state: &mut State, acts: Vec<Act>) {
        let stable = acts.iter().any(|act| matches!(act, Act::Stable { .. }));
        for act in acts {
            match act {
                Act::Create(record) => self.office.create(record),
                Act::Send(to, word) => self.office.send(to, Control::Word(word)),
                Act::SendSums { epoch, step } => {
                    let (norms, mut nonfinite) = state.gathered.sums(&self.orders.tensors);
                    if let Some(because) = state.gathered.is_bad(nonfinite, self.orders.loss_max) {
                        nonfinite = nonfinite.max(1);
                        self.learn(state, Fact::Bad { epoch, step, because });
                    }
                    let told = state.gathered.take();
                    let (metrics, wait, phases) = (told.metrics.into_iter().collect(), told.wait, told.phases);
                    let (samples, samples_hash) = (told.samples, told.samples_hash);
                    self.broadcast(state, &Control::Sums { epoch, step, norms, nonfinite, metrics, wait, samples, samples_hash, phases });
                }
                Act::Stable { epoch, step, checkpoint, hold } => self.stable(state, epoch, step, checkpoint, hold),
                Act::Save(epoch, step) => {
                    self.begin_saving(state, step);
                    self.broadcast(state, &Control::Snapshot { epoch, step });
                }
                Act::LookForCheckpoint => self.office.look_for_checkpoint(),
                Act::LookForNewer => self.office.look_for_newer(),
                Act::Lease(moves) => state.leasing = moves,
                Act::Deposed => {
                    state.machine = None;
                    state.saving.clear();
                    self.office.deposed();
                }
                Act::Note(note) => self.note(state, note),
                Act::WakeAt(at) => self.office.wake(at.saturating_sub(state.began.elapsed())),
                Act::Over(outcome, because) => {
                    self.office.over(outcome, because);
                }
            }
        }
        if stable {
            self.judge(state);
        }
        if let Some(machine) = &state.machine {
            self.office.lease(state.leasing.then_some(machine.record().epoch));
        }
    }

    fn stable(&self, state: &mut State, epoch: Epoch, step: Step, checkpoint: bool, hold: bool) {
        if checkpoint {
            self.begin_saving(state, step.next());
        }
        self.broadcast(state, &Control::Stable { epoch, step, checkpoint, hold });
        if step.next().0.is_multiple_of(LEDGER_EVERY) {
            self.office.save_ledger();
        }
    }

    /// Ranks that have become unlike in speed get lanes in proportion at the next step's end.
    fn judge(&self, state: &mut State) {
        let placed = state.machine.as_ref().and_then(|machine| Some((machine.record(), machine.begun()?)));
        let Some((record, (plan, _))) = placed else { return };
        let members: Vec<NodeId> = record.members.iter().map(|member| member.node).collect();
        if let Some(speeds) = state.pace.speeds(&members, &plan.lanes) {
            self.learn(state, Fact::Speeds(speeds));
        }
    }

    fn note(&self, state: &State, note: Note) {
        let record = state.machine.as_ref().map(Coordinator::record);
        match note {
            Note::Waiting(because) => self.office.record(Event::Waiting { because }),
            Note::Lost(node, because) => {
                let rank = record.and_then(|record| record.rank_of(node)).map(|rank| rank.0);
                let fault = state.fault.as_ref().filter(|(of, _)| *of == node).map(|(_, fault)| fault.clone());
                self.office.record(Event::NodeLost { node, rank, because, fault });
            }
            // Every node tells of the beginning itself; the leader makes the ledger of the epoch before durable.
            Note::Begun { .. } => {
                self.office.share_ledger();
                self.office.save_ledger();
            }
            Note::Differ(shards) => {
                let epoch = record.map(|record| record.epoch).unwrap_or_default();
                let shards = shards.into_iter().map(|(shard, nodes)| (shard.to_string(), nodes)).collect();
                self.office.record(Event::CopiesDiffered { epoch, shards });
            }
            Note::Odd(node, because) => self.office.record(Event::NodeOdd { node, because }),
            Note::Audited { step, computations, odd } => self.office.record(Event::StepAudited { step, computations, odd }),
            Note::Skipped(step, because) => self.office.record(Event::StepSkipped { step, because }),
            Note::StandsBy(node) => self.office.record(Event::StandsBy { node }),
        }
    }

    fn stuck(&self, state: &mut State, because: String) {
        if let Some(machine) = &state.machine {
            for member in machine.record().everyone() {
                let because = because.clone();
                self.office.send(member.node, Control::Word(Word::Bye { outcome: Outcome::Lost, because }));
            }
        }
    }

    fn broadcast(&self, state: &State, message: &Control) {
        for member in state.machine.iter().flat_map(|machine| &machine.record().members) {
            self.office.send(member.node, message.clone());
        }
    }
}

fn fault_of(node: NodeId, word: &Word) -> Option<(NodeId, Fault)> {
    match word {
        Word::Failed { fault: Some((actor, root_cause)), .. } => {
            Some((node, Fault { actor: actor.clone(), root_cause: root_cause.clone() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
