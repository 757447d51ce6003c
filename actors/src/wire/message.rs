//! Every message that crosses between nodes. Plain data; mailboxes have words of their own.

#![expect(missing_docs, reason = "rkyv says nothing about the fields of the resolvers it makes for enums")]

use std::ops::Range;

use rkyv::{Archive, Deserialize, Serialize};

use crate::protocol::ids::{Epoch, ShardId, Step, UnitId};
use crate::protocol::word::Word;

/// What a frame of numbers is for. Numbers are never reused.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[rkyv(derive(Debug))]
#[repr(u8)]
pub enum DataKind {
    /// Asks the receiver for the values `start..start + length` of a unit at `step`. No payload.
    Want = 1,
    /// The answer to a [`DataKind::Want`].
    Gathered = 2,
    /// A subtree's sum of gradients for the receiver's shard.
    Gradient = 3,
    /// A subtree's sum for a small-vector sum that the receiver finishes.
    Partial = 4,
    /// A finished small-vector sum.
    Total = 5,
    /// A subtree's Sinkhorn row sums for a range of prototypes that the receiver aggregates.
    Rows = 6,
    /// Finished Sinkhorn row sums of a range of prototypes.
    RowsTotal = 7,
    /// The mean gradient of a shard, from its owner to a replica.
    Mean = 8,
    /// Asks the receiver for its copy of a shard: the version is (`step`, epoch `call`). No payload.
    WantCopy = 9,
    /// The answer to a [`DataKind::WantCopy`]: values, then each slot. Without a payload: there is no such copy.
    Copy = 10,
}

/// The header of a frame of f32 values. Every frame carries its epoch and step; others bounce.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct DataHeader {
    /// The epoch in which it was sent.
    pub epoch: Epoch,
    /// The step that it belongs to.
    pub step: Step,
    /// What it is for.
    pub kind: DataKind,
    /// The collective call (sums) or 0.
    pub call: u64,
    /// The unit (gather, gradient) or 0.
    pub unit: UnitId,
    /// First value's index in the unit or vector.
    pub start: u64,
    /// Number of values asked for or carried.
    pub length: u64,
    /// First lane of the subtree that is summed up here.
    pub lanes_start: u32,
    /// One past its last lane.
    pub lanes_end: u32,
    /// First lane of the group of a [`DataKind::Partial`] or [`DataKind::Total`].
    pub group_start: u32,
    /// One past the group's last lane.
    pub group_end: u32,
}

impl DataHeader {
    /// The lanes that are summed up in the payload.
    pub fn lanes(&self) -> Range<u32> {
        self.lanes_start..self.lanes_end
    }
    /// The lanes that the sum is over.
    pub fn group(&self) -> Range<u32> {
        self.group_start..self.group_end
    }
    /// The values' range in their unit or vector.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.start.saturating_add(self.length) as usize
    }
}

/// Partial sums of one shard on the wire.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(derive(Debug))]
pub struct ShardPartials {
    /// Which shard.
    pub shard: ShardId,
    /// (tensor of the unit, squared values, squared gradients).
    pub norms: Vec<(u32, f64, f64)>,
    /// Gradient values that are NaN or infinite.
    pub nonfinite: u64,
}

/// What one lane tells about its step.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(derive(Debug))]
pub struct LaneMetrics {
    /// Which lane.
    pub lane: u32,
    /// Name and value.
    pub metrics: Vec<(String, f32)>,
    /// Seconds spent waiting in collective calls.
    pub wait_s: f32,
    /// Seconds from the lane's start to its end.
    pub busy_s: f32,
    /// Samples that were decoded for it.
    pub samples: u32,
    /// Hash of their ids in order.
    pub samples_hash: u64,
}

/// Control messages. Every one that changes state carries its epoch.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(derive(Debug))]
pub enum Control {
    /// Membership, epochs, and who may begin them.
    Word(Word),
    /// Member → leader: the mean gradients of my shards are here, and these are their partial sums.
    Reduced {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// One entry per owned shard.
        partials: Vec<ShardPartials>,
        /// One entry per lane.
        lanes: Vec<LaneMetrics>,
        /// Seconds in which at least one of the lanes computed.
        computed_s: f64,
        /// In a step that is audited: what each lane gave to its collective calls and got from them, as hashes.
        traces: Vec<(u32, Vec<(u64, u64)>)>,
        /// Seconds of this rank's step before this one by [`crate::roles::phases::NAMES`]; empty before there is one.
        phases: Vec<f32>,
    },
    /// Leader → members: the global sums; compute the new versions beside the old ones. With it comes all that is
    /// told of the step once it is stable: it may become so when its leader is gone.
    Sums {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// `norms[unit][tensor] = (‖value‖², ‖gradient‖²)`.
        norms: Vec<Vec<(f64, f64)>>,
        /// Non-finite gradient values in the whole model; also set when the step is to be skipped for another reason.
        nonfinite: u64,
        /// Means over lanes, for people.
        metrics: Vec<(String, f64)>,
        /// Share of the lanes' time spent waiting.
        wait: f64,
        /// What the step used, for the ledger.
        samples: u32,
        /// Hash over the lanes' sample hashes, in lane order.
        samples_hash: u64,
        /// Seconds of the step before this one by [`crate::roles::phases::NAMES`], means over ranks; empty before there is one.
        phases: Vec<f32>,
    },
    /// Member → leader: the vote. My new versions lie beside the old ones.
    Prepared {
        /// In this epoch.
        epoch: Epoch,
        /// Of this step.
        step: Step,
        /// Digests of every copy that I hold by the plan.
        digests: Vec<(ShardId, u64)>,
    },
    /// Leader → members: the step is stable; drop the old versions.
    Stable {
        /// In this epoch.
        epoch: Epoch,
        /// This step.
        step: Step,
        /// Whether to take a checkpoint of the state after it.
        checkpoint: bool,
        /// Whether the next step waits for a word: a new epoch, [`Word::Go`], or the end.
        hold: bool,
    },
    /// Leader → members: offer a snapshot of the state as it is.
    Snapshot {
        /// In this epoch.
        epoch: Epoch,
        /// Steps committed.
        step: Step,
    },
    /// Leader → members of an epoch that begins: lines of the ledger that are not durable yet, for those that came later.
    Lines {
        /// Step, epoch, samples and their hash.
        lines: Vec<(Step, Epoch, u32, u64)>,
    },
    /// Leader → members: these steps of the ledger are durable; who has older ones writes them.
    Logged {
        /// The first of them.
        from: Step,
        /// One past the last.
        step: Step,
    },
    /// Member → leader: my parts of the checkpoint are durable (JSON records).
    Parts {
        /// In this epoch.
        epoch: Epoch,
        /// Steps committed in it.
        step: Step,
        /// The records.
        records: String,
        /// How long the rank was held up, milliseconds.
        stall_ms: f64,
    },
    /// Member → leader: my parts could not be written.
    PartsFailed {
        /// In this epoch.
        epoch: Epoch,
        /// Steps committed in it.
        step: Step,
        /// One sentence.
        because: String,
    },
    /// Leader → members: a checkpoint is published.
    Published {
        /// Steps committed in it.
        step: Step,
        /// Its size in bytes.
        bytes: u64,
        /// Seconds from snapshot to manifest.
        seconds: f64,
        /// How long the slowest rank was held up, milliseconds.
        stall_ms: f64,
    },
    /// Leader → members: a checkpoint failed; training goes on.
    SaveFailed {
        /// Steps committed in it.
        step: Step,
        /// One sentence.
        because: String,
    },
    /// Member → leader: something happened here that only this node saw.
    Told {
        /// What ([`crate::event::Recorded`], JSON).
        event: String,
    },
    /// Operator or node → node: what do you know?
    Ask {
        /// Comes back with the answer.
        number: u64,
        /// The [`crate::desk::question::Question`], JSON.
        question: String,
    },
    /// Node → who asked.
    Answered {
        /// The question's number.
        number: u64,
        /// The [`crate::desk::view::View`], packed by [`crate::desk::pack`].
        view: Vec<u8>,
    },
    /// Operator → node: do this.
    Order {
        /// Comes back with the answer.
        number: u64,
        /// The [`crate::desk::order::Order`], JSON.
        order: String,
    },
    /// Node → operator: it is being done, or why not.
    Obeyed {
        /// The order's number.
        number: u64,
        /// The [`crate::desk::order::Answer`], JSON.
        answer: String,
    },
    /// Leader → members: certificates with these keys open nothing any more.
    Denied {
        /// Their ids or the beginnings of those, all that there are.
        keys: Vec<String>,
    },
}
