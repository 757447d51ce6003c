//! One node of a simulation: its machines, its copies, and a model of its rank.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::protocol::coordinator::Coordinator;
use everstep_actors::protocol::ids::{Epoch, NodeId, ShardId, Step, Version};
use everstep_actors::protocol::membership::Membership;
use everstep_actors::protocol::plan::Plan;
use everstep_actors::protocol::record::Member;
use everstep_actors::protocol::shelf::Shelf;

use super::content::mix;
use super::event::Event;
use super::network::Places;
use crate::history::Who;

/// A node's identity: drawn, with its number at the end.
pub(super) fn identity(seed: u64, who: Who) -> NodeId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(seed, u64::from(who)).to_be_bytes());
    id[12..].copy_from_slice(&who.to_be_bytes());
    NodeId(id)
}

/// The number in a node's identity.
pub(super) fn who(id: NodeId) -> Who {
    let [.., a, b, c, d] = id.0;
    Who::from_be_bytes([a, b, c, d])
}

/// Where a rank is in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Resting,
    Computing(Step),
    /// Its gradients are out; others' are waited for.
    Waiting(Step),
    Reduced(Step),
    Updating(Step),
    Prepared(Step),
}

/// What a node's rank is at.
#[derive(Debug)]
pub(super) struct RankModel {
    pub(super) epoch: Epoch,
    pub(super) leader: Who,
    /// By rank, and everyone after them.
    pub(super) members: Vec<Who>,
    pub(super) everyone: Vec<Who>,
    pub(super) rank: Option<u32>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) mine: BTreeSet<ShardId>,
    pub(super) version: Version,
    /// Shards that are on their way.
    pub(super) missing: BTreeSet<ShardId>,
    pub(super) ready: bool,
    /// The place among the members of one that had no link to this node when it was looked at last.
    pub(super) unmet: usize,
    pub(super) work: Work,
    /// Members with which a link has ended in this epoch.
    pub(super) cut: Places,
    /// The mean gradient of the step in flight.
    pub(super) mean: u64,
}

impl RankModel {
    pub(super) fn new() -> Self {
        Self {
            epoch: Epoch(0),
            leader: 0,
            members: Vec::new(),
            everyone: Vec::new(),
            rank: None,
            plan: None,
            mine: BTreeSet::new(),
            version: Version::default(),
            missing: BTreeSet::new(),
            ready: false,
            unmet: 0,
            work: Work::Resting,
            cut: Places::default(),
            mean: 0,
        }
    }
}

/// What members have said of a step.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) of: (Epoch, Step),
    pub(super) partials: BTreeMap<Who, u64>,
    pub(super) used: Vec<(Who, u64, u64)>,
    pub(super) digests: BTreeMap<ShardId, u64>,
}

/// What a leader keeps besides its machine.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) machine: Coordinator,
    pub(super) leases: bool,
    pub(super) beat: u64,
    /// What members have said of the step in flight: what was said of an attempt that failed goes with it.
    pub(super) ledger: Ledger,
    /// The checkpoint that is being written: step, and parts that are there.
    pub(super) saving: Option<(Step, BTreeMap<ShardId, u64>)>,
    /// What is in flight, since when nothing has changed.
    pub(super) progress: (u64, Duration),
    /// The first epoch of this leader.
    pub(super) term: Epoch,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) slot: u32,
    pub(super) member: Member,
    pub(super) alive: bool,
    /// Stopped by a signal.
    pub(super) frozen: u32,
    /// Its rank stands still.
    pub(super) hung: u32,
    pub(super) slow: u32,
    /// Steps that it has computed slowly.
    pub(super) slowed: u64,
    pub(super) membership: Option<Membership>,
    pub(super) office: Option<Office>,
    pub(super) shelf: Shelf<u64>,
    pub(super) rank: RankModel,
    /// The last version that an epoch began at or that was called stable.
    pub(super) stable: Version,
    /// What comes while it stands still.
    pub(super) deferred: Vec<Event>,
    pub(super) wakes: BTreeSet<Duration>,
    /// A bit will turn over in the next update: by this strike.
    pub(super) flip_update: Option<u32>,
    /// The last step that its lanes ran, and how often: more than once where an epoch ended in it.
    pub(super) ran: (Step, u32),
    /// The last update of each shard: the step, and what came out.
    pub(super) updated: BTreeMap<ShardId, (Step, u64)>,
}
