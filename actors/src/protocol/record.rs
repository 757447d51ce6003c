//! The record of an epoch: created once in the store, it *is* the epoch.

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, NodeId, Rank};

/// A node of the run. Its id is new with every start of its process, so it names one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct Member {
    /// Failure domain: the machine.
    pub host: String,
    /// Its place on its host, which orders ranks for people.
    pub slot: u32,
    /// Who: bound to the key of its certificate.
    pub node: NodeId,
    /// Where it can be dialled.
    pub address: String,
    /// Failure domain around the host (a rack, a cloud's zone); empty where nobody said.
    pub zone: String,
    /// Process id on that host.
    pub pid: u32,
}

impl Member {
    /// A node without a zone and process id.
    pub fn new(node: NodeId, address: &str, host: &str, slot: u32) -> Self {
        Self { host: host.into(), slot, node, address: address.into(), zone: String::new(), pid: 0 }
    }
    /// How people know it.
    pub fn name(&self) -> String {
        format!("{} ({}, pid {})", self.node, self.host, self.pid)
    }
}

/// By which rule an epoch was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// There was no epoch before it, or the one before was ended in good order.
    Fresh,
    /// Its creator led the epoch before it.
    Leader,
    /// These members of the epoch before it released it, and hold a full copy together.
    Releases(Vec<NodeId>),
    /// The leader's lease had not moved for the stated time by the creator's clock.
    Silence,
}

/// The record of one epoch, at `epochs/<number>` in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct EpochRecord {
    /// Its number: one more than the newest record before it.
    pub epoch: Epoch,
    /// Drawn by the creator, so that an unknown result of the create can be resolved by a look.
    pub nonce: String,
    /// Who created it and leads.
    pub leader: NodeId,
    /// Why its creator was allowed to.
    pub claim: Claim,
    /// Who computes, by rank.
    pub members: Vec<Member>,
    /// Who is there without a rank: spares that stand by, and nodes that hand their shards over and leave.
    pub others: Vec<Member>,
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
    pub fn rank_of(&self, node: NodeId) -> Option<Rank> {
        self.members.iter().position(|member| member.node == node).map(|rank| Rank(rank as u32))
    }
    /// Everyone in it, members by rank first: the order in which holders are numbered.
    pub fn everyone(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.others)
    }
    /// Whether a node is in it, with or without a rank.
    pub fn includes(&self, node: NodeId) -> bool {
        self.everyone().any(|member| member.node == node)
    }
    /// The leader's entry.
    pub fn leading(&self) -> Option<&Member> {
        self.everyone().find(|member| member.node == self.leader)
    }
    /// Why the next epoch begins when this one's leader is lost.
    pub fn leader_lost(&self, how: &str) -> String {
        format!("the leader of {}, {}, was lost: {how}", self.epoch, self.name(self.leader))
    }
    /// How the leader of the epoch before was lost, if this one began because of that.
    pub fn leader_was_lost(&self, before: &Self) -> Option<&str> {
        self.because.strip_prefix(before.leader_lost("").as_str())
    }
    /// How people know a node of this epoch.
    pub fn name(&self, node: NodeId) -> String {
        match (self.rank_of(node), self.everyone().find(|member| member.node == node)) {
            (Some(rank), Some(member)) => format!("rank {} ({}, pid {})", rank.0, member.host, member.pid),
            (None, Some(member)) => member.name(),
            _ => node.to_string(),
        }
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
