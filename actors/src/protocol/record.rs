//! The record of an epoch: created once in the store, it *is* the epoch.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, NodeId, Step};
use super::plan::Plan;

/// A member of an epoch. Its rank is its index in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who: bound to the key of its certificate.
    pub node: NodeId,
    /// Where it can be dialled.
    pub address: String,
    /// Failure domain.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Its place on its host, which orders ranks for people.
    pub slot: u32,
}

/// Where the state of an epoch's first step comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody holds anything and there is no checkpoint.
    Seed,
    /// The manifest at this key.
    Checkpoint {
        /// Steps committed in it.
        step: Step,
    },
}

/// What an epoch is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The leader waits for members; nothing is computed.
    Gathering,
    /// Steps are run by this plan.
    Training {
        /// Placement.
        plan: Plan,
        /// First step to run.
        step: Step,
        /// Where its weights come from.
        origin: Origin,
    },
}

/// The record of one epoch, at `epochs/<number>` in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number: one more than the newest record before it.
    pub epoch: Epoch,
    /// Drawn by the creator, so that an unknown result of the create can be resolved by a look.
    pub nonce: String,
    /// Who created it.
    pub leader: NodeId,
    /// Who is in, by rank.
    pub members: Vec<Member>,
    /// Gathering or training.
    pub phase: Phase,
    /// Why it began.
    pub because: String,
}

impl EpochRecord {
    /// The key of an epoch's record, ordered as the numbers are.
    pub fn key(epoch: Epoch) -> String {
        format!("epochs/{:010}", epoch.0)
    }
    /// The epoch that a key under `epochs/` names.
    pub fn epoch_of(key: &str) -> Option<Epoch> {
        key.rsplit('/').next()?.parse().ok().map(Epoch)
    }
    /// A node's rank in this epoch.
    pub fn rank_of(&self, node: NodeId) -> Option<u32> {
        self.members.iter().position(|member| member.node == node).map(|rank| rank as u32)
    }
    /// The leader's entry among the members.
    pub fn leading(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.node == self.leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_numbers_and_read_back() {
        let keys: Vec<String> = [1, 2, 10, 999_999_999].into_iter().map(|n| EpochRecord::key(Epoch(n))).collect();
        assert!(keys.is_sorted());
        assert_eq!(EpochRecord::epoch_of(&keys[2]), Some(Epoch(10)));
        assert_eq!(EpochRecord::epoch_of("epochs/.tmp"), None);
    }
}
