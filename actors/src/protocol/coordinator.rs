//! What the leader of an epoch decides: who is in, what is gone on from, when a step is stable, when the next epoch is due.
//!
//! A machine: facts and the time go in, acts come out. The same code runs under the coordinator actor and in simulations.
//!
//! - `CO-1` It never calls a step stable unless every member has voted for it in its epoch.
//! - `CO-2` It creates the next epoch before anything of it is said, and stops for good when another node was first.
//! - `CO-3` It goes on from the newest version of which every shard has an intact copy. The store counts only where no such
//!   version is, and not while a node that may hold copies is neither proven dead nor absent for [`Rules::grace`].
//! - `CO-5` It calls no step stable unless the store has named no newer record for half of [`Rules::grace`], or was away.
//! - `CO-4` Newcomers and leavers wait for a step's end; losses do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ids::{Epoch, NodeId, Rank, ShardId, Step, Version};
use super::plan::Plan;
use super::record::{Claim, EpochRecord, Member};
use super::recovery::Covered;
use super::shard::Shard;
use super::step::{Disagreement, Effect, Said, StepLife};
use super::terms::Terms;
use super::word::{Held, Origin, Outcome, Word};

mod audit;
mod begin;
mod change;
mod doubt;
mod end;
mod steps;
mod stuck;
#[cfg(test)]
mod tests;

pub use self::audit::{Care, OnBadStep};
use super::audit::Call;

/// How long a leader that took over because of silence waits for nodes that live to come.
const SETTLE: Duration = Duration::from_millis(1500);
/// The pace at which a store that is away is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// What a run asks of its epochs.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What members must share.
    pub terms: Terms,
    /// Whether unlike hardware is let in.
    pub mixed: bool,
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Copies of a shard besides its owner's.
    pub replicas: u32,
    /// Every shard of the model.
    pub shards: Arc<[Shard]>,
    /// Steps of the run.
    pub steps: Step,
    /// Ranks that a start waits for.
    pub ranks_start: u32,
    /// Ranks without which nothing is computed.
    pub ranks_min: u32,
    /// Ranks that compute at most; more stand by.
    pub ranks_max: u32,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// How long copies that are out of sight are waited for before the store is used.
    pub grace: Duration,
    /// How long after a newcomer others are waited for, so that many of them make one epoch.
    pub quiet: Duration,
    /// Attempts at one step that may fail before the run ends.
    pub attempts: u32,
    /// What is done about results that may be wrong.
    pub care: Care,
}

/// What the coordinator learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A node says something.
    Said {
        /// Who (proven by its certificate).
        from: NodeId,
        /// What.
        word: Word,
    },
    /// A member's mean gradients are there; its partial sums came with this.
    Reduced {
        /// Who.
        from: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
    },
    /// A member votes: its new versions lie beside the old ones.
    Prepared {
        /// Who.
        from: NodeId,
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// Digests of its copies.
        digests: Vec<(ShardId, u64)>,
    },
    /// What lanes gave to collective calls of a step and got from them; comes before the word that their gradients are there.
    Traces {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// Lanes and their calls.
        lanes: Vec<(u32, Vec<Call>)>,
    },
    /// The gradients of a step cannot be used: all ranks skip its update.
    Bad {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// One sentence.
        because: String,
    },
    /// A node is gone.
    Lost {
        /// Who.
        node: NodeId,
        /// Whether its process is known to have ended, and its copies with it.
        proven: bool,
        /// How it was noticed.
        because: String,
    },
    /// What became of [`Act::Create`].
    Created(Creation),
    /// Number and nonce of the newest record in the store, asked for with [`Act::LookForNewer`]; `None` when it does not answer.
    Newest(Option<(Epoch, String)>),
    /// The newest intact checkpoint, asked for with [`Act::LookForCheckpoint`].
    Checkpoint(Option<Step>),
    /// A checkpoint after so many steps can be relied on.
    Saved(Step),
    /// A checkpoint was not saved.
    SaveFailed(Step, String),
    /// How fast ranks are relative to each other has changed: lanes may move.
    Speeds(BTreeMap<NodeId, u32>),
    /// An operator wants the run to stand still, or to go on.
    Pause(bool),
    /// An operator wants a checkpoint after the step in flight, or of the state as it is where no step is.
    SaveNow,
    /// An operator ends the run without a last checkpoint.
    GiveUp,
    /// Time has passed.
    Tick,
}

/// What became of the creation of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there and it is ours.
    Mine,
    /// Another node created that number first.
    Taken,
    /// The store did not answer: one sentence. Ask again with the same record.
    Unknown(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Create this record, if its number is free.
    Create(EpochRecord),
    /// Tell a node, this one too.
    Send(NodeId, Word),
    /// Add up the partial sums of the step and send them to all members.
    SendSums {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
    },
    /// Tell all members that the step is stable.
    Stable {
        /// In this epoch.
        epoch: Epoch,
        /// This step.
        step: Step,
        /// Whether owners offer a snapshot of the state after it.
        checkpoint: bool,
        /// Whether the next step waits for a new epoch or for ever.
        hold: bool,
    },
    /// Have owners offer a snapshot of the state as it is, after so many steps.
    Save(Epoch, Step),
    /// Find the newest intact checkpoint.
    LookForCheckpoint,
    /// Find number and nonce of the newest record: another node may lead where this one's lease has stood still.
    LookForNewer,
    /// Move the lease in the store, or let it stand still.
    Lease(bool),
    /// Another node leads by now; this machine is done.
    Deposed,
    /// Something that people want to know.
    Note(Note),
    /// Come back at this time at the latest.
    WakeAt(Duration),
    /// The run is over for this node: all others have been told.
    Over(Outcome, String),
}

/// What people want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// Nothing is computed, and why.
    Waiting(String),
    /// A member is gone.
    Lost(NodeId, String),
    /// An epoch goes on from here.
    Begun {
        /// Where its state comes from.
        origin: Origin,
        /// The version.
        version: Version,
        /// Values that move.
        moved: u64,
    },
    /// Copies of shards differed.
    Differ(Vec<(ShardId, Vec<NodeId>)>),
    /// This node's computations were the odd ones.
    Odd(NodeId, String),
    /// A step was computed more than once.
    Audited {
        /// Which.
        step: Step,
        /// How often.
        computations: u32,
        /// Who had computed it wrongly.
        odd: Vec<NodeId>,
    },
    /// A step changed nothing, because of this.
    Skipped(Step, String),
    /// This node waits for a place: as many ranks compute as may.
    StandsBy(NodeId),
}

/// How a node is there that is let in and not in the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// It comes in with the next epoch.
    Waits,
    /// As many ranks compute as may: it waits for a place.
    StandsBy,
    /// It goes without having been in.
    Leaves,
}

/// A node that is linked to the leader and let in.
#[derive(Debug, Clone)]
struct Seat {
    member: Member,
    since: Duration,
    leaving: Option<Leaving>,
}

#[derive(Debug, Clone)]
struct Leaving {
    because: String,
    /// When a step's end is waited for no longer.
    at_once: Option<Duration>,
}

/// A node that was in the epoch and is out of sight.
#[derive(Debug, Clone, Copy)]
struct Absent {
    since: Duration,
    proven: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// A record is being created; `between` steps, so that training can go on if the store is away; `lost` when one of its nodes
    /// is gone already.
    Creating { record: EpochRecord, between: bool, retry_at: Option<Duration>, lost: Option<String> },
    /// Everyone of the epoch reports what it holds.
    Reporting(BTreeMap<NodeId, Vec<Held>>),
    /// Copies are out of sight.
    Short,
    /// The store is asked for a checkpoint.
    Looking,
    /// Members fetch their shards and meet.
    Moving(BTreeSet<Rank>),
    /// Steps are run.
    Stepping(StepLife),
    /// Too few ranks, or an operator's pause; shards are placed if the epoch has begun.
    Idle,
    /// The last checkpoint is being written; then the run is over.
    Finishing(Step),
    /// Nothing is decided here any more.
    Over,
}

/// The machine; see the module's text.
#[derive(Debug)]
pub struct Coordinator {
    rules: Rules,
    me: NodeId,
    shard_ids: BTreeSet<ShardId>,
    record: EpochRecord,
    stage: Stage,
    roster: BTreeMap<NodeId, Seat>,
    absent: BTreeMap<NodeId, Absent>,
    /// Nodes that were out of sight and have come back since the last stable step: their copies count even if they only stand by.
    returned: BTreeSet<NodeId>,
    /// Whether the store may be used when nobody holds anything, although nodes of earlier epochs may hold copies.
    fallback: bool,
    /// A leader that took over because of silence cannot judge whose copies are newest: until then it waits for those who may hold
    /// newer ones.
    settle: Option<Duration>,
    /// The plan and version of this epoch, once it has begun.
    begun: Option<(Arc<Plan>, Version)>,
    /// Who had copies by which plan: of the last stable version, and of this epoch once all were ready.
    placed: Vec<(Arc<Plan>, Vec<NodeId>)>,
    /// This node took over from releases, or shards have been placed under it: it may be the one that is cut off.
    led: bool,
    /// A member is out of sight: when the next epoch is due because of it, and why. Until then others may follow.
    losing: Option<(Duration, String)>,
    /// Steps that are known to be committed; `None` before a leader that took over by silence or from the store knows any.
    known: Option<Step>,
    /// Copies that may be older than what the store has.
    candidate: Option<Covered>,
    /// When the first epoch of this leader began: a start waits for its ranks.
    since: Duration,
    /// When the last newcomer came.
    arrival: Duration,
    /// The newest checkpoint that is known, and the one that is being written.
    saved: Option<Step>,
    saving: Option<Step>,
    /// A checkpoint is wanted at the next step's end.
    save_now: bool,
    /// A checkpoint of a state that no step follows could not be saved: it is tried again.
    unsaved: Option<end::Unsaved>,
    /// When the store is asked for a newer record, and when it answered last or was found away.
    look_at: Duration,
    checked: Duration,
    /// All have voted for this step, and it is not known whether this node still leads.
    voted: Option<Step>,
    /// No checkpoint is due for steps up to this one.
    attempted: Step,
    /// A record whose creation has no known result: its number is asked for again before any other.
    unresolved: Option<EpochRecord>,
    /// It is in the store, and this node's: its epoch begins at the next step's end.
    resolved: bool,
    /// Records asked for; part of their nonces.
    created: u64,
    /// The store was away: no change of members is tried before.
    frozen_until: Duration,
    speeds: BTreeMap<NodeId, u32>,
    uneven: bool,
    attempts: u32,
    /// Complaints of members about members that they cannot reach, since the last stable step, and the epoch of the first.
    unmet: BTreeMap<(NodeId, NodeId), Epoch>,
    /// A first complaint, and when it counts: until then the one complained about may turn out to be dead.
    complaint: Option<(Duration, NodeId, NodeId)>,
    suspects: BTreeMap<ShardId, Vec<(NodeId, u64)>>,
    /// Versions of which copies differed: never gone on from.
    rejected: BTreeSet<Version>,
    rehash: bool,
    /// Whether anything gets on.
    progress: stuck::Progress,
    /// The step that is being computed more than once, what its lanes did, and who was found wrong.
    audit: Option<audit::Audit>,
    traces: BTreeMap<u32, Vec<Call>>,
    convicted: BTreeSet<NodeId>,
    bad: audit::Bad,
    /// The run ends because of bad steps.
    spoiled: bool,
    stop: Option<String>,
    paused: bool,
    waiting: Option<String>,
}

impl Coordinator {
    /// The leader of an epoch whose record was created by this node. `before` is the record of the epoch before it, whose members
    /// may hold copies; where nobody holds anything the store is used at once if the claim allows it.
    pub fn new(rules: Rules, me: NodeId, record: EpochRecord, before: Option<&EpochRecord>, now: Duration) -> (Self, Vec<Act>) {
        let seat = |member: &Member, leaving: Option<Leaving>| (member.node, Seat { member: member.clone(), since: now, leaving });
        let members = record.members.iter().map(|member| seat(member, None));
        let leaving = || Some(Leaving { because: "it leaves".into(), at_once: None });
        let others = record.others.iter().map(|member| seat(member, leaving()));
        let roster = members.chain(others).collect();
        let shard_ids = rules.shards.iter().map(|shard| shard.id).collect();
        let elsewhere = before.into_iter().flat_map(EpochRecord::everyone).map(|member| member.node).filter(|node| !record.includes(*node));
        let absent = elsewhere.map(|node| (node, Absent { since: now, proven: false })).collect();
        let fallback = matches!(record.claim, Claim::Fresh | Claim::Silence);
        // Who leads by releases has made sure that the newest copies are among them.
        let known = matches!(record.claim, Claim::Releases(_)).then_some(Step(0));
        let settle = (record.claim == Claim::Silence).then_some(now + SETTLE);
        let mut coordinator = Self {
            rules,
            me,
            shard_ids,
            record,
            stage: Stage::Over,
            roster,
            absent,
            returned: BTreeSet::new(),
            fallback,
            settle,
            begun: None,
            placed: Vec::new(),
            led: known.is_some(),
            losing: None,
            known,
            candidate: None,
            since: now,
            arrival: now,
            saved: None,
            saving: None,
            save_now: false,
            unsaved: None,
            look_at: now,
            checked: now,
            voted: None,
            attempted: Step(0),
            unresolved: None,
            resolved: false,
            created: 0,
            frozen_until: Duration::ZERO,
            speeds: BTreeMap::new(),
            uneven: false,
            attempts: 0,
            unmet: BTreeMap::new(),
            complaint: None,
            suspects: BTreeMap::new(),
            rejected: BTreeSet::new(),
            rehash: false,
            progress: stuck::Progress::default(),
            audit: None,
            traces: BTreeMap::new(),
            convicted: BTreeSet::new(),
            bad: audit::Bad::default(),
            spoiled: false,
            stop: None,
            paused: false,
            waiting: None,
        };
        let mut acts = vec![Act::Lease(true), Act::WakeAt(now)];
        coordinator.open(&mut acts);
        (coordinator, acts)
    }

    /// The epoch that is led.
    pub fn record(&self) -> &EpochRecord {
        &self.record
    }

    /// The plan and the version that the epoch goes on from, once it has begun.
    pub fn begun(&self) -> Option<&(Arc<Plan>, Version)> {
        self.begun.as_ref()
    }

    /// The step in flight.
    pub fn step(&self) -> Option<Step> {
        match &self.stage {
            Stage::Stepping(life) => Some(life.step()),
            _ => None,
        }
    }

    /// The step in flight and the ranks whose word is missing.
    pub fn flight(&self) -> Option<(Step, Vec<Rank>)> {
        match &self.stage {
            Stage::Stepping(life) => Some((life.step(), life.missing())),
            _ => None,
        }
    }

    /// Whose word is waited for, in whatever stage the epoch is.
    pub fn awaited(&self) -> Vec<NodeId> {
        let node = |rank: Rank| self.record.members.get(rank.0 as usize).map(|member| member.node);
        match &self.stage {
            Stage::Reporting(holdings) => {
                self.record.everyone().map(|member| member.node).filter(|node| !holdings.contains_key(node)).collect()
            }
            Stage::Moving(ready) => {
                (0..self.record.members.len() as u32).map(Rank).filter(|rank| !ready.contains(rank)).filter_map(node).collect()
            }
            Stage::Stepping(life) => life.missing().into_iter().filter_map(node).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes in a fact.
    pub fn on(&mut self, now: Duration, fact: Fact) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.stage == Stage::Over {
            return acts;
        }
        match fact {
            Fact::Said { from, word } => self.said(now, from, word, &mut acts),
            Fact::Reduced { from, epoch, step } => self.voted(now, from, epoch, step, Said::Reduced, &mut acts),
            Fact::Prepared { from, epoch, step, digests } => self.voted(now, from, epoch, step, Said::Prepared(digests), &mut acts),
            Fact::Traces { epoch, step, lanes } => self.traced(epoch, step, lanes),
            Fact::Bad { epoch, step, because } => self.is_bad(epoch, step, because),
            Fact::Lost { node, proven, because } => self.lost(now, node, proven, because, &mut acts),
            Fact::Created(creation) => self.created(now, creation, &mut acts),
            Fact::Newest(newest) => self.newest(now, newest, &mut acts),
            Fact::Checkpoint(step) => self.found(step, &mut acts),
            Fact::Saved(step) => self.was_saved(step, &mut acts),
            Fact::SaveFailed(step, because) => self.save_failed(now, step, because, &mut acts),
            Fact::Speeds(speeds) => {
                self.uneven = speeds != self.speeds;
                self.speeds = speeds;
            }
            Fact::Pause(pause) => {
                self.paused = pause;
                if self.stage == Stage::Idle {
                    self.go(&mut acts);
                }
            }
            Fact::SaveNow => self.save_as_asked(&mut acts),
            Fact::GiveUp => self.give_up(&mut acts),
            Fact::Tick => {}
        }
        self.tick(now, &mut acts);
        acts
    }

    fn said(&mut self, now: Duration, from: NodeId, word: Word, acts: &mut Vec<Act>) {
        let epoch = self.record.epoch;
        match word {
            Word::Join { member, terms } if member.node == from => self.join(now, member, &terms, acts),
            Word::Holdings { epoch: of, held } if of == epoch => self.reported(now, from, held, acts),
            Word::Ready { epoch: of } if of == epoch => self.ready(from, acts),
            Word::Ended { epoch: of, node } if of == epoch && self.beside(from, node) => {
                self.lost(now, node, true, "its launcher saw it end".into(), acts);
            }
            Word::Unmet { epoch: of, nodes } if of == epoch => self.cannot_reach(now, from, nodes, acts),
            Word::BadCopy { epoch: of, holder, shard } if of == epoch => {
                self.rehash = true;
                let because = format!("the copy of shard {shard} on {} is not what its digest says", self.record.name(holder));
                self.at_once(now, because, acts);
            }
            Word::Failed { epoch: of, outcome, because, .. } if of == epoch => self.failed(now, from, outcome, because, acts),
            Word::Leave { because, deadline_ms } => {
                // Half of the time for the step's end, half for the move.
                let at_once = deadline_ms.map(|deadline| now + Duration::from_millis(deadline / 2));
                if let Some(seat) = self.roster.get_mut(&from) {
                    seat.leaving = Some(Leaving { because, at_once });
                    acts.extend(at_once.map(Act::WakeAt));
                }
            }
            Word::Stay => {
                if let Some(seat) = self.roster.get_mut(&from) {
                    seat.leaving = None;
                }
            }
            Word::Stop { because } => self.stop(because, acts),
            _ => {}
        }
    }

    /// Whether two nodes are of one host, so that one sees the other's end.
    fn beside(&self, a: NodeId, b: NodeId) -> bool {
        let host = |node: NodeId| self.record.everyone().find(|member| member.node == node).map(|member| &member.host);
        host(a).is_some() && host(a) == host(b)
    }

    fn wait(&mut self, because: &str, acts: &mut Vec<Act>) {
        if self.waiting.as_deref() != Some(because) {
            self.waiting = Some(because.to_owned());
            acts.push(Act::Note(Note::Waiting(because.to_owned())));
        }
    }
}
