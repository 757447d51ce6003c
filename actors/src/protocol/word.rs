//! What nodes say to each other about membership, epochs and steps. Every word that changes state carries its epoch.

#![expect(missing_docs, reason = "rkyv says nothing about the fields of the resolvers it makes for enums")]

use std::sync::Arc;

use rkyv::{Archive, Deserialize, Serialize};

use super::ids::{Epoch, NodeId, ShardId, Step, Version};
use super::plan::Plan;
use super::record::{EpochRecord, Member};
use super::terms::Terms;

/// How a run ends for a node.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub enum Outcome {
    /// All steps are done and saved.
    Done,
    /// Stopped on request; the last checkpoint holds every committed step, unless the request was to end without one.
    Stopped,
    /// This node has left in good order; the run goes on without it.
    Left,
    /// The run cannot go on, or not with this node; starting the same command again joins or resumes it.
    Lost,
    /// The data or the recipe cannot be used: starting again without a change is in vain.
    Unusable,
}

/// One copy of a shard that a node holds.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[rkyv(derive(Debug))]
pub struct Held {
    /// Which shard.
    pub shard: ShardId,
    /// Which version of it.
    pub version: Version,
    /// Digest of its values and slots, taken when the version was made.
    pub digest: u64,
}

/// Where the state of an epoch's first step comes from.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[rkyv(derive(Debug))]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody holds anything and there is no checkpoint.
    Seed,
    /// The checkpoint after so many steps.
    Checkpoint {
        /// Steps committed in it.
        step: Step,
    },
    /// Copies that members and others of the epoch hold.
    Copies,
}

/// One copy that has to move before the epoch's first step.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Move {
    /// Which shard.
    pub shard: ShardId,
    /// Who holds it: its number in [`EpochRecord::everyone`].
    pub from: u32,
    /// Who is to hold it: a rank.
    pub to: u32,
    /// What its content must hash to.
    pub digest: u64,
}

/// What an epoch goes on from, and how.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct Beginning {
    /// The version that is gone on from; newer ones are erased.
    pub version: Version,
    /// Where it comes from.
    pub origin: Origin,
    /// Who runs, owns and replicates what.
    pub plan: Arc<Plan>,
    /// Copies that move.
    pub moves: Vec<Move>,
}

/// Words of membership.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(derive(Debug))]
pub enum Word {
    /// Newcomer → leader: take me in.
    Join {
        /// Who asks.
        member: Member,
        /// What it computes with.
        terms: Terms,
    },
    /// Leader → newcomer: no, and why; trying again without a change is in vain.
    Refused {
        /// One sentence.
        because: String,
    },
    /// Asked node → newcomer: I do not lead; look at the newest record.
    NotLeading,
    /// Leader → everyone of the record: this epoch has begun. What ran before is aborted; report what you hold.
    Open {
        /// The record, as it lies in the store.
        record: Arc<EpochRecord>,
        /// Copies have differed: read every one again and drop those that are not what their digest says.
        rehash: bool,
    },
    /// Everyone → leader: this is what I hold.
    Holdings {
        /// In this epoch.
        epoch: Epoch,
        /// Every copy of every version.
        held: Vec<Held>,
    },
    /// Leader → everyone of the record: go on from here; fetch what is yours, say [`Word::Ready`].
    Begin {
        /// In this epoch.
        epoch: Epoch,
        /// From where, with which plan.
        beginning: Box<Beginning>,
    },
    /// Member → leader: my shards are here and I am connected to all.
    Ready {
        /// In this epoch.
        epoch: Epoch,
    },
    /// Member → leader: these I cannot reach.
    Unmet {
        /// In this epoch.
        epoch: Epoch,
        /// Whom.
        nodes: Vec<NodeId>,
    },
    /// Member → leader: a copy that I was to fetch is not there or not what its digest says.
    BadCopy {
        /// In this epoch.
        epoch: Epoch,
        /// Whose copy.
        holder: NodeId,
        /// Of which shard.
        shard: ShardId,
    },
    /// Member → leader: a process of my host has ended, its launcher saw it.
    Ended {
        /// In this epoch.
        epoch: Epoch,
        /// Whose.
        node: NodeId,
    },
    /// Leader → members: all are ready; run this step and the next ones.
    Go {
        /// In this epoch.
        epoch: Epoch,
        /// First step.
        step: Step,
    },
    /// Leader → members: copies of this version differ; erase it at once, whoever leads next must not go on from it.
    Reject {
        /// In this epoch.
        epoch: Epoch,
        /// Which version.
        version: Version,
    },
    /// Member → a member that may lead next: I vote no more in this epoch. This is what I hold.
    Release {
        /// The epoch that is released.
        epoch: Epoch,
        /// Every copy of every version.
        held: Vec<Held>,
    },
    /// Leader → members: I lead no more; release this epoch to the first of you.
    Resign {
        /// The epoch that is given up.
        epoch: Epoch,
        /// One sentence.
        because: String,
    },
    /// Member → leader: let me leave in good order.
    Leave {
        /// One sentence.
        because: String,
        /// How long the node will be there, milliseconds, if that is known.
        deadline_ms: Option<u64>,
    },
    /// Member → leader: I stay after all.
    Stay,
    /// Member → leader: the epoch cannot go on as it is.
    Failed {
        /// In this epoch.
        epoch: Epoch,
        /// Whether the whole run has to end.
        outcome: Outcome,
        /// One sentence.
        because: String,
        /// Which actor of the member failed and the first cause of it, where one did.
        fault: Option<(String, String)>,
    },
    /// Anyone → leader: please end the run in good order.
    Stop {
        /// One sentence.
        because: String,
    },
    /// Leader → one or all: it is over for you.
    Bye {
        /// How.
        outcome: Outcome,
        /// One sentence.
        because: String,
    },
}
