//! What happened, as data: the one stream that feeds progress, status, the run's log and the checks.

pub mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::ids::{Epoch, NodeId, Step};

/// One thing that happened, with when and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Milliseconds since the Unix epoch, by the recording node's clock. A node gives no two events the same: with who recorded it this is
    /// an event's name.
    pub at_ms: u64,
    /// The node that recorded it.
    pub recorded_by: NodeId,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A member of an epoch, as told to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Who.
    pub node: NodeId,
    /// Its rank in the plan.
    pub rank: u32,
    /// Its label (`host`).
    pub host: String,
    /// Its operating-system process id.
    pub pid: u32,
    /// Its lanes, first and one past the last.
    pub lanes: (u32, u32),
}

/// Where in a node it began that the node was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Reference of the actor that failed.
    pub actor: String,
    /// The first cause of it, one sentence.
    pub root_cause: String,
}

/// Everything that can happen to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node waits; the sentence says for what.
    Waiting {
        /// Why.
        because: String,
    },
    /// An epoch began: these members, this leader.
    EpochBegan {
        /// Its number.
        epoch: Epoch,
        /// The first step that it runs.
        step: Step,
        /// Who leads.
        leader: NodeId,
        /// Who is in.
        members: Vec<MemberInfo>,
        /// Why it began.
        because: String,
        /// Where the state came from: `seed`, `checkpoint <step>` or `copies`.
        state_from: String,
        /// Bytes of shards that moved between nodes.
        #[serde(default)]
        moved_bytes: u64,
        /// The epoch that computed the last step of the state; 0 for what the seed or a checkpoint gave.
        #[serde(default)]
        state_epoch: Epoch,
        /// Ranks that hold copies of the same shard, each such set once: when all of one set go at once a step is lost.
        #[serde(default)]
        copies: Vec<Vec<u32>>,
    },
    /// A step is stable everywhere.
    StepCommitted {
        /// Its number.
        step: Step,
        /// The epoch that committed it.
        epoch: Epoch,
        /// Means over lanes (`loss`, `entropy`, `lr`, …).
        metrics: BTreeMap<String, f64>,
        /// Wall seconds since the previous commit.
        seconds: f64,
        /// Images of the step.
        images: u64,
        /// Share of the lanes' time spent waiting in collective calls.
        wait: f64,
        /// Samples that were used.
        #[serde(default)]
        samples: u32,
        /// Hash of their ids, in lane order.
        #[serde(default)]
        samples_hash: u64,
        /// Seconds of the step by phase (`data`, `compute`, `exchange`, `update`, `vote`), means over ranks.
        #[serde(default)]
        phases: BTreeMap<String, f64>,
    },
    /// An operator ordered something of a node, and what came of it.
    Ordered {
        /// The operator: role and id of the certificate.
        by: String,
        /// Of which node.
        node: NodeId,
        /// The order in words (`drain`, `pause`, …).
        order: String,
        /// What the node said to it.
        answer: String,
    },
    /// Copies of shards differed; the step was computed again.
    CopiesDiffered {
        /// In this epoch.
        epoch: Epoch,
        /// Which shards, and who computed them.
        shards: Vec<(String, Vec<NodeId>)>,
    },
    /// A node's result was the odd one.
    NodeOdd {
        /// Which.
        node: NodeId,
        /// What it did.
        because: String,
    },
    /// A step was computed more than once, each lane by another node.
    StepAudited {
        /// Which.
        step: Step,
        /// How often.
        computations: u32,
        /// Who had computed it wrongly.
        odd: Vec<NodeId>,
    },
    /// A step changed no weights.
    StepSkipped {
        /// Which.
        step: Step,
        /// One sentence.
        because: String,
    },
    /// A node waits for a place: as many ranks compute as may.
    StandsBy {
        /// Who.
        node: NodeId,
    },
    /// Part of a node hangs although the node is there.
    Hung {
        /// Which.
        node: NodeId,
        /// What hangs, and for how long.
        because: String,
    },
    /// A checkpoint can be relied on.
    CheckpointSaved {
        /// Steps committed when it was taken.
        step: Step,
        /// Size in the store.
        bytes: u64,
        /// Seconds from snapshot to manifest.
        seconds: f64,
        /// How long the ranks were held up, milliseconds, the longest of them.
        stall_ms: f64,
    },
    /// A checkpoint failed; training goes on.
    CheckpointFailed {
        /// Steps committed when it was taken.
        step: Step,
        /// One sentence.
        because: String,
    },
    /// The trunk was examined on held-out images.
    Evaluated {
        /// Steps committed when it was taken.
        step: Step,
        /// Name (`knn`) and accuracy in percent.
        scores: BTreeMap<String, f64>,
    },
    /// A sample cannot be decoded; another takes its place wherever it is drawn.
    SampleReplaced {
        /// Its number in the source.
        sample: u64,
        /// Where it lies.
        place: String,
        /// What is wrong with it.
        because: String,
    },
    /// A node is gone.
    NodeLost {
        /// Who.
        node: NodeId,
        /// Its rank, if it had one.
        rank: Option<u32>,
        /// How it was noticed.
        because: String,
        /// Which actor of it failed and why, where one did.
        #[serde(flatten)]
        fault: Option<Fault>,
    },
    /// The run ended (for this process): done, stopped on request, or by a failure.
    Ended {
        /// Steps committed.
        step: Step,
        /// `done`, `stopped`, `failed` (start it again) or `unusable` (change something first).
        outcome: String,
        /// One sentence.
        because: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_node_and_who_saw_it_are_told_apart_in_the_log() {
        let event = |fault| Event::NodeLost { node: NodeId([1; 16]), rank: Some(1), because: "killed".into(), fault };
        let recorded = Recorded { at_ms: 5, recorded_by: NodeId([2; 16]), event: event(None) };
        let line = serde_json::to_string(&recorded).unwrap();
        assert_eq!(serde_json::from_str::<Recorded>(&line).unwrap(), recorded, "{line}");
        let fault = Fault { actor: "actor/n01010101/rank".into(), root_cause: "no lane of this number".into() };
        let recorded = Recorded { event: event(Some(fault)), ..recorded };
        let line = serde_json::to_value(&recorded).unwrap();
        assert_eq!(
            (&line["actor"], &line["root_cause"]),
            (&"actor/n01010101/rank".into(), &"no lane of this number".into()),
            "fields of its own"
        );
        assert_eq!(serde_json::from_value::<Recorded>(line).unwrap(), recorded);
    }
}
