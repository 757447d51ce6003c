//! What an operator may have done. Each needs the role `admin`, and each is an event with its subject.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An order to a node, most of them to the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Hand over what this node holds and leave.
    Drain {
        /// One sentence.
        because: String,
        /// Milliseconds until the machine is gone, where that is known.
        deadline_ms: Option<u64>,
    },
    /// Stay after all.
    Undrain,
    /// Take a checkpoint after the step in flight.
    CheckpointNow,
    /// Begin no step after the one in flight.
    Pause,
    /// Go on.
    Resume,
    /// End this node's process at once, as a crash would.
    Kill,
    /// End an actor of this node where it next waits, as a failure of its own would: the node leaves the run, and its launcher starts it anew.
    KillActor {
        /// Its name, unique in its node.
        name: String,
    },
    /// Let nobody in any more with a certificate of this key, and end the links that it has.
    Deny {
        /// The id of the key or the beginning of it, in hexadecimal digits.
        key: String,
    },
    /// End the run in good order: finish the step, write a checkpoint, leave.
    Stop,
    /// End the run at once, without a last checkpoint: steps after the newest one are given up.
    StopNow,
}

impl Order {
    /// As it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Undrain => "undrain",
            Self::CheckpointNow => "checkpoint now",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Kill | Self::KillActor { .. } => "kill",
            Self::Deny { .. } => "deny",
            Self::Stop => "stop",
            Self::StopNow => "stop --now",
        }
    }
}

/// What a node says to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It is being done; the sentence says what will be seen.
    Done {
        /// One sentence.
        what: String,
    },
    /// It is not done.
    Refused {
        /// One sentence with the remedy.
        because: String,
    },
}
