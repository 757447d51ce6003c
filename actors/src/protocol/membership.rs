//! What every node decides about its own place in the run: whom it follows, when it votes no more, when it leads.
//!
//! A machine: facts and the time go in, acts come out. The same code runs under the node actor and in simulations.
//!
//! - `ME-1` It is in one epoch at a time, and epochs only grow.
//! - `ME-2` Who has released an epoch never votes in it again ([`Act::Fence`] comes before [`Word::Release`]).
//! - `ME-3` It creates a record only where a rule allows it: there is none; the lease was given back; it holds releases of the epoch
//!   from members that hold a full copy together; or the leader's lease has not moved for [`Settings::grace`] by its own clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::coordinator::Creation;
use super::ids::{Epoch, NodeId, ShardId, Version};
use super::plan::Plan;
use super::record::{Claim, EpochRecord, Member};
use super::recovery::newest_covered;
use super::terms::Terms;
use super::word::{Beginning, Held, Outcome, Word};

mod nodes;
mod release;
mod seek;
#[cfg(test)]
mod tests;

use self::nodes::Nodes;

/// What a node is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub me: Member,
    /// What it computes with.
    pub terms: Terms,
    /// Every shard of the model.
    pub shards: BTreeSet<ShardId>,
    /// A lease that has not moved for this long has no leader.
    pub grace: Duration,
    /// The pace at which the store is asked again.
    pub pace: Duration,
}

/// The leader's lease, as it lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// The epoch that its writer leads.
    pub epoch: Epoch,
    /// Goes up with every beat.
    pub beat: u64,
    /// The leader has left in good order.
    pub released: bool,
}

/// What a node learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// What the store says, asked for with [`Act::Look`]: the newest record and the lease.
    Seen(Option<EpochRecord>, Option<LeaseView>),
    /// The store does not answer: one sentence.
    Unseen(String),
    /// A link to a node is up.
    Linked(NodeId),
    /// A node that was dialled does not answer.
    Unreachable(NodeId),
    /// A link is down, or a node's process has ended.
    Down {
        /// Whose.
        node: NodeId,
        /// Whether its process is known to have ended.
        proven: bool,
        /// How it was noticed.
        because: String,
    },
    /// A node says something.
    Said {
        /// Who (proven by its certificate).
        from: NodeId,
        /// What.
        word: Word,
    },
    /// What became of [`Act::Create`].
    Created(Creation),
    /// What this node holds, asked for with [`Act::Fence`].
    Held(Vec<Held>),
    /// This node's coordinator leads no more.
    Deposed,
    /// Somebody wants this node to leave the run: why, and the time that is left.
    Leave(String, Option<Duration>),
    /// Nobody does any more.
    Stay,
    /// Somebody wants the whole run to end in good order.
    Stop(String),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Read the newest record and the lease.
    Look,
    /// Open a link to a node.
    Dial(Member),
    /// Tell a node, this one too.
    Send(NodeId, Word),
    /// Create this record, if its number is free.
    Create(EpochRecord),
    /// This node leads the epoch of this record; the record before it, if there was one.
    Lead(EpochRecord, Option<EpochRecord>),
    /// This epoch has begun: abort what runs, meet its members, tell its leader what is held.
    Enter {
        /// Its record.
        record: Arc<EpochRecord>,
        /// Read every copy again first.
        rehash: bool,
    },
    /// The epoch goes on from here.
    Begin(Epoch, Box<Beginning>),
    /// Abort what runs in this epoch and never vote in it again; say what is held.
    Fence(Epoch),
    /// Erase this version: copies of it differ.
    Reject(Version),
    /// Something that people want to know: nothing is computed, and why.
    Waiting(String),
    /// Come back at this time at the latest.
    WakeAt(Duration),
    /// This node's part in the run is over.
    End(Outcome, String),
}

/// The epoch that a node is or was last in.
#[derive(Debug, Clone)]
struct Current {
    record: Arc<EpochRecord>,
    /// Its plan, and the version that it began at, once it has begun.
    begun: Option<(Arc<Plan>, Version)>,
}

/// The last epoch that had begun here, as long as this node had a rank in every epoch since: then nothing has become stable
/// without its vote, and the copies of that plan are what counts.
#[derive(Debug, Clone)]
struct Basis {
    /// By rank, and the same in order of their ids.
    members: Vec<NodeId>,
    among: Nodes,
    plan: Arc<Plan>,
    version: Version,
}

/// An epoch that was released.
#[derive(Debug, Clone)]
struct Released {
    since: Duration,
    held: Option<Vec<Held>>,
    /// To whom it was released.
    told: Option<NodeId>,
    /// Another node has created the next epoch: this one looks for it and leads on no more.
    overtaken: bool,
    /// The leader has resigned: it is still there, and what it holds is asked for.
    resigned: bool,
    because: String,
}

/// The search for a leader.
#[derive(Debug, Clone, Default)]
struct Search {
    /// The lease as it was seen first, and when; anew whenever it has moved.
    silent: Option<(Epoch, Option<LeaseView>, Duration)>,
    /// The leader that is dialled or was asked to let us in.
    asked: Option<NodeId>,
    look_at: Option<Duration>,
    /// A newer epoch that this node is in, and when it was seen: its leader is about to say so.
    expected: Option<(Epoch, Duration)>,
}

/// The machine; see the module's text.
#[derive(Debug)]
pub struct Membership {
    settings: Settings,
    links: Nodes,
    current: Option<Current>,
    basis: Option<Basis>,
    released: Option<Released>,
    /// Releases of the current epoch by others, which may come before this node's own.
    releases: BTreeMap<NodeId, Vec<Held>>,
    search: Option<Search>,
    creating: Option<(EpochRecord, Option<EpochRecord>)>,
    retry_at: Option<Duration>,
    created: u64,
    leaving: Option<(String, Option<Duration>)>,
    stop: Option<String>,
    waiting: Option<String>,
    over: bool,
}

impl Membership {
    /// A node that looks for its run.
    pub fn new(settings: Settings) -> (Self, Vec<Act>) {
        let machine = Self {
            settings,
            links: Nodes::default(),
            current: None,
            basis: None,
            released: None,
            releases: BTreeMap::new(),
            search: Some(Search::default()),
            creating: None,
            retry_at: None,
            created: 0,
            leaving: None,
            stop: None,
            waiting: None,
            over: false,
        };
        (machine, vec![Act::Look])
    }

    /// The record of the epoch that this node is in, if it is in one.
    pub fn record(&self) -> Option<&EpochRecord> {
        self.current.as_ref().filter(|_| self.released.is_none()).map(|current| &*current.record)
    }

    /// The leader that this node follows, itself included.
    pub fn leader(&self) -> Option<NodeId> {
        self.record().map(|record| record.leader)
    }

    /// Takes in a fact.
    pub fn on(&mut self, now: Duration, fact: Fact) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.over {
            return acts;
        }
        match fact {
            Fact::Seen(record, lease) => self.seen(now, record, lease, &mut acts),
            Fact::Unseen(because) => self.unseen(now, because, &mut acts),
            Fact::Linked(node) => self.linked(now, node, &mut acts),
            Fact::Unreachable(node) => self.unreachable(now, node, &mut acts),
            Fact::Down { node, proven, because } => self.down(now, node, proven, because, &mut acts),
            Fact::Said { from, word } => self.said(now, from, word, &mut acts),
            Fact::Created(creation) => self.created(now, creation, &mut acts),
            // Nothing is handed over by who holds nothing.
            Fact::Held(held) if held.is_empty() && self.leaving.is_some() => self.end(Outcome::Left, "it holds nothing".into(), &mut acts),
            Fact::Held(held) => {
                if let Some(released) = &mut self.released {
                    released.held = Some(held);
                }
            }
            Fact::Deposed => {
                self.release(now, "this node leads no more".into(), &mut acts);
                self.seek(&mut acts);
            }
            Fact::Leave(because, deadline) => self.leave(now, because, deadline, &mut acts),
            Fact::Stay => {
                if self.leaving.take().is_some()
                    && let Some(leader) = self.leader()
                {
                    acts.push(Act::Send(leader, Word::Stay));
                }
            }
            Fact::Stop(because) => self.stop(because, &mut acts),
            Fact::Tick => {}
        }
        self.tick(now, &mut acts);
        acts
    }

    fn said(&mut self, now: Duration, from: NodeId, word: Word, acts: &mut Vec<Act>) {
        let followed = self.leader() == Some(from);
        let asked = self.search.as_ref().is_some_and(|search| search.asked == Some(from));
        match word {
            Word::Open { record, rehash } => self.open(now, from, record, rehash, acts),
            Word::Begin { epoch, beginning } if followed && self.record().is_some_and(|record| record.epoch == epoch) => {
                if let Some(current) = &mut self.current {
                    current.begun = Some((beginning.plan.clone(), beginning.version));
                }
                self.waiting = None;
                acts.push(Act::Begin(epoch, beginning));
            }
            Word::Release { epoch, held }
                if self.current.as_ref().is_some_and(|at| at.record.epoch == epoch && at.record.includes(from)) =>
            {
                self.releases.insert(from, held);
            }
            Word::Reject { epoch, version } if followed && self.record().is_some_and(|record| record.epoch == epoch) => {
                acts.push(Act::Reject(version));
            }
            Word::Resign { epoch, because } if followed && self.record().is_some_and(|record| record.epoch == epoch) => {
                self.release(now, format!("its leader leaves: {because}"), acts);
                if let Some(released) = &mut self.released {
                    released.resigned = true;
                }
            }
            // A coordinator takes these where there is one; here is none, or not yet.
            Word::Join { .. } => acts.push(Act::Send(from, Word::NotLeading)),
            Word::NotLeading if asked => self.look_again(now),
            Word::Refused { because } if asked => self.end(Outcome::Unusable, because, acts),
            Word::Bye { outcome, because } if followed || asked || from == self.settings.me.node => self.end(outcome, because, acts),
            _ => {}
        }
    }

    fn open(&mut self, now: Duration, from: NodeId, record: Arc<EpochRecord>, rehash: bool, acts: &mut Vec<Act>) {
        let newer = self.current.as_ref().is_none_or(|current| current.record.epoch < record.epoch);
        if !newer || record.leader != from || !record.includes(self.settings.me.node) {
            return;
        }
        self.search = None;
        self.released = None;
        (self.creating, self.retry_at) = (None, None);
        self.releases.clear();
        self.basis = self.basis_at(record.epoch);
        self.current = Some(Current { record: record.clone(), begun: None });
        acts.push(Act::Enter { record, rehash });
        // What was asked of an earlier leader is asked of this one.
        if let Some((because, deadline)) = self.leaving.clone() {
            let deadline_ms = deadline.map(|at| at.saturating_sub(now).as_millis() as u64);
            acts.push(Act::Send(from, Word::Leave { because, deadline_ms }));
        }
        if let Some(because) = self.stop.clone() {
            acts.push(Act::Send(from, Word::Stop { because }));
        }
    }

    fn linked(&mut self, now: Duration, node: NodeId, acts: &mut Vec<Act>) {
        self.links.insert(node);
        if let Some(search) = self.search.as_mut().filter(|search| search.asked == Some(node)) {
            search.look_at = Some(now + seek::ASKED);
            acts.push(Act::Send(node, Word::Join { member: self.settings.me.clone(), terms: self.settings.terms.clone() }));
        }
    }

    fn down(&mut self, now: Duration, node: NodeId, proven: bool, because: String, acts: &mut Vec<Act>) {
        self.links.remove(&node);
        if self.search.as_ref().is_some_and(|search| search.asked == Some(node)) {
            self.look_again(now);
        }
        let Some(record) = self.record() else { return };
        let (epoch, leader) = (record.epoch, record.leader);
        if leader == node {
            let because = record.leader_lost(&because);
            return self.release(now, because, acts);
        }
        if leader == self.settings.me.node || record.rank_of(node).is_none() {
            return;
        }
        let beside = record.everyone().any(|member| member.node == node && member.host == self.settings.me.host);
        match proven {
            true if beside => acts.push(Act::Send(leader, Word::Ended { epoch, node })),
            true => {}
            false => acts.push(Act::Send(leader, Word::Unmet { epoch, nodes: vec![node] })),
        }
    }

    fn leave(&mut self, now: Duration, because: String, deadline: Option<Duration>, acts: &mut Vec<Act>) {
        let deadline = deadline.map(|time| now + time);
        self.leaving = Some((because.clone(), deadline));
        match self.leader() {
            Some(leader) => {
                let deadline_ms = deadline.map(|at| at.saturating_sub(now).as_millis() as u64);
                acts.push(Act::Send(leader, Word::Leave { because, deadline_ms }));
            }
            // Nothing is held that others need: it can go.
            None if self.current.is_none() => self.end(Outcome::Left, because, acts),
            None => {}
        }
    }

    fn stop(&mut self, because: String, acts: &mut Vec<Act>) {
        self.stop = Some(because.clone());
        match self.leader() {
            Some(leader) => acts.push(Act::Send(leader, Word::Stop { because })),
            None if self.current.is_none() => self.end(Outcome::Stopped, because, acts),
            None => {}
        }
    }

    fn end(&mut self, outcome: Outcome, because: String, acts: &mut Vec<Act>) {
        self.over = true;
        acts.push(Act::End(outcome, because));
    }

    fn wait(&mut self, because: String, acts: &mut Vec<Act>) {
        if self.waiting.as_ref() != Some(&because) {
            self.waiting = Some(because.clone());
            acts.push(Act::Waiting(because));
        }
    }

    fn tick(&mut self, now: Duration, acts: &mut Vec<Act>) {
        if let Some(search) = &mut self.search
            && search.look_at.is_some_and(|at| now >= at)
        {
            search.look_at = None;
            acts.push(Act::Look);
        }
        if let Some((record, _)) = &self.creating
            && self.retry_at.is_some_and(|at| now >= at)
        {
            self.retry_at = None;
            acts.push(Act::Create(record.clone()));
        }
        self.release_on(now, acts);
        let next = [self.search.as_ref().and_then(|search| search.look_at), self.retry_at].into_iter().flatten().min();
        acts.extend(next.map(Act::WakeAt));
    }
}
