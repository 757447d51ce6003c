//! Every message that crosses between nodes. Plain data; mailboxes have words of their own.

use std::ops::Range;

use rkyv::{Archive, Deserialize, Serialize};

use crate::protocol::ids::{Epoch, Step, UnitId};

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
        self.start as usize..(self.start + self.length) as usize
    }
}
