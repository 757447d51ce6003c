//! What can happen in a simulation.

use std::sync::Arc;
use std::time::Duration;

use everstep_actors::protocol::coordinator;
use everstep_actors::protocol::ids::{Epoch, ShardId, Step};
use everstep_actors::protocol::membership;
use everstep_actors::protocol::record::{EpochRecord, Member};
use everstep_actors::protocol::word::Word;

use super::content::mix;
use crate::history::Who;

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Word(Box<Word>),
    /// With the first sample that was used and one past the last.
    Reduced {
        epoch: Epoch,
        step: Step,
        partial: u64,
        used: (u64, u64),
    },
    Prepared {
        epoch: Epoch,
        step: Step,
        digests: Vec<(ShardId, u64)>,
    },
    Sums {
        epoch: Epoch,
        step: Step,
        sums: u64,
    },
    Stable {
        epoch: Epoch,
        step: Step,
        checkpoint: bool,
        hold: bool,
    },
    Save {
        epoch: Epoch,
        step: Step,
    },
    /// Parts of a checkpoint are in the store; without any, they could not be written.
    Parts {
        epoch: Epoch,
        step: Step,
        parts: Vec<(ShardId, u64)>,
    },
}

/// A request to the store, when it is carried out.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Look,
    Newest,
    CreateAsMember(EpochRecord),
    CreateAsLeader(EpochRecord),
    Lease { epoch: Epoch, beat: u64, released: bool },
    Find,
    Restore { epoch: Epoch, step: u64 },
    Parts { epoch: Epoch, step: Step, leader: Who, parts: Vec<(ShardId, u64)> },
    Manifest { step: u64, contents: std::collections::BTreeMap<ShardId, u64> },
}

/// Small, for hundreds of thousands wait at a time: what is large and seldom lies elsewhere.
#[derive(Debug)]
pub(super) enum Event {
    /// A place is started.
    Start {
        slot: u32,
    },
    /// Words arrive. `arrived` when they lie with the receiver already, who stood still.
    Said {
        from: Who,
        to: Who,
        made: u64,
        said: Said,
        arrived: bool,
    },
    /// A node learns something.
    Member(Who, Box<membership::Fact>),
    Leader(Who, Box<coordinator::Fact>),
    /// Its link to another node is up.
    Linked(Who, Who),
    Wake(Who),
    /// Its link to another node has ended.
    Down {
        who: Who,
        other: Who,
        proven: bool,
        because: Arc<str>,
    },
    /// A dial ends. `again` when the epoch's members are to meet, and until when in that epoch.
    Dialled {
        from: Who,
        to: Who,
        since: Duration,
        meeting: Option<Epoch>,
    },
    /// A dial takes longer than who asked for it waits.
    Undialled {
        from: Who,
        to: Who,
    },
    /// A process of the same host is seen to have ended.
    Exited {
        to: Who,
        dead: Who,
    },
    /// A link has been silent for too long.
    Silent {
        a: Who,
        b: Who,
        made: u64,
        since: Duration,
    },
    /// A beat on a lossy link.
    Beat {
        a: Who,
        b: Who,
        made: u64,
    },
    /// An end of a link has said farewell.
    Closed {
        a: Who,
        b: Who,
        made: u64,
        by: Who,
    },
    /// Members that have not met are named to the leader.
    Meeting {
        who: Who,
        epoch: Epoch,
    },
    /// A rank says what it holds.
    Report {
        who: Who,
        epoch: Epoch,
    },
    Fetch {
        who: Who,
        epoch: Epoch,
        from: Who,
        shards: Vec<(ShardId, u64)>,
    },
    Computed {
        who: Who,
        epoch: Epoch,
        step: Step,
    },
    Reduced {
        who: Who,
        epoch: Epoch,
        step: Step,
    },
    Updated {
        who: Who,
        epoch: Epoch,
        step: Step,
        sums: u64,
    },
    /// The store carries a request out, and its answer.
    Asked {
        who: Who,
        ask: Box<Ask>,
        told_at: Option<Duration>,
        answered: bool,
    },
    /// The store has not answered.
    Unanswered {
        who: Who,
        ask: Box<Ask>,
    },
    /// A checkpoint was read.
    Restored {
        who: Who,
        epoch: Epoch,
        step: u64,
        contents: Option<Vec<(ShardId, u64)>>,
    },
    /// The parts are in the store, or not.
    PartsWritten {
        who: Who,
        epoch: Epoch,
        step: Step,
        leader: Who,
        parts: Vec<(ShardId, u64)>,
    },
    /// The lease is due.
    Lease {
        who: Who,
        epoch: Epoch,
    },
    /// The leader looks for members that do not get on.
    Watch {
        who: Who,
        epoch: Epoch,
    },
    Strike {
        fault: usize,
    },
    Pass {
        fault: usize,
        strike: u32,
    },
    /// A notice is taken back, or its time is over.
    Stay {
        whom: Vec<Who>,
    },
    Deadline {
        whom: Vec<Who>,
    },
    /// Faults come to an end.
    Storm,
    /// Sizes are looked at.
    Measure,
}

impl Event {
    /// A number that tells events apart in the trace.
    pub(super) fn mark(&self) -> u64 {
        let (kind, a, b) = match self {
            Self::Start { slot } => (1, *slot, 0),
            Self::Said { from, to, made, said, .. } => {
                return mix(mix(2, u64::from(*from) << 32 | u64::from(*to)), mix(*made, said.mark()));
            }
            Self::Member(who, _) | Self::Linked(who, _) => (3, *who, 0),
            Self::Leader(who, _) => (4, *who, 0),
            Self::Wake(who) => (5, *who, 0),
            Self::Dialled { from, to, .. } => (6, *from, *to),
            Self::Exited { to, dead } => (7, *to, *dead),
            Self::Silent { a, b, .. } => (8, *a, *b),
            Self::Beat { a, b, .. } => (9, *a, *b),
            Self::Closed { a, b, .. } => (10, *a, *b),
            Self::Meeting { who, .. } => (11, *who, 0),
            Self::Fetch { who, from, .. } => (12, *who, *from),
            Self::Computed { who, .. } => (13, *who, 0),
            Self::Reduced { who, .. } => (14, *who, 0),
            Self::Updated { who, .. } => (15, *who, 0),
            Self::Asked { who, .. } => (16, *who, 0),
            Self::Unanswered { who, .. } => (17, *who, 0),
            Self::Restored { who, .. } => (18, *who, 0),
            Self::PartsWritten { who, .. } => (19, *who, 0),
            Self::Lease { who, .. } => (20, *who, 0),
            Self::Watch { who, .. } => (21, *who, 0),
            Self::Strike { fault } => (22, *fault as u32, 0),
            Self::Pass { fault, strike } => (23, *fault as u32, *strike),
            Self::Stay { .. } => (24, 0, 0),
            Self::Deadline { .. } => (25, 0, 0),
            Self::Storm => (26, 0, 0),
            Self::Measure => (27, 0, 0),
            Self::Report { who, .. } => (28, *who, 0),
            Self::Down { who, other, .. } => (29, *who, *other),
            Self::Undialled { from, to } => (30, *from, *to),
        };
        mix(kind, u64::from(a) << 32 | u64::from(b))
    }

    /// The node that has to be running for this, if it is one node's; and whether it is work of its rank.
    pub(super) fn at(&self) -> Option<(Who, bool)> {
        match self {
            Self::Said { to, said, .. } => Some((*to, matches!(said, Said::Sums { .. } | Said::Stable { .. } | Said::Save { .. }))),
            Self::Member(who, _) | Self::Linked(who, _) | Self::Leader(who, _) | Self::Wake(who) => Some((*who, false)),
            Self::Lease { who, .. } | Self::Watch { who, .. } | Self::Unanswered { who, .. } => Some((*who, false)),
            Self::Exited { to: who, .. } | Self::Down { who, .. } | Self::Undialled { from: who, .. } => Some((*who, false)),
            Self::Meeting { who, .. } => Some((*who, false)),
            Self::Fetch { who, .. }
            | Self::Report { who, .. }
            | Self::Computed { who, .. }
            | Self::Reduced { who, .. }
            | Self::Updated { who, .. }
            | Self::Restored { who, .. }
            | Self::PartsWritten { who, .. } => Some((*who, true)),
            _ => None,
        }
    }
}

impl Said {
    fn mark(&self) -> u64 {
        match self {
            Self::Word(word) => match &**word {
                Word::Join { .. } => 1,
                Word::Open { record, .. } => mix(2, record.epoch.0),
                Word::Holdings { epoch, held } => mix(mix(3, epoch.0), held.len() as u64),
                Word::Begin { epoch, beginning } => mix(mix(4, epoch.0), mix(beginning.version.step.0, beginning.moves.len() as u64)),
                Word::Ready { epoch } => mix(5, epoch.0),
                Word::Go { epoch, step } => mix(mix(6, epoch.0), step.0),
                Word::Release { epoch, .. } => mix(7, epoch.0),
                _ => 8,
            },
            Self::Reduced { epoch, step, partial, .. } => mix(mix(9, epoch.0), mix(step.0, *partial)),
            Self::Prepared { epoch, step, digests } => mix(mix(10, epoch.0), mix(step.0, digests.first().map_or(0, |(_, digest)| *digest))),
            Self::Sums { epoch, step, sums } => mix(mix(11, epoch.0), mix(step.0, *sums)),
            Self::Stable { epoch, step, .. } => mix(mix(12, epoch.0), step.0),
            Self::Save { step, .. } => mix(13, step.0),
            Self::Parts { step, .. } => mix(14, step.0),
        }
    }

    /// Whether it travels on a stream of its own and may be overtaken.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self, Self::Reduced { .. } | Self::Prepared { .. } | Self::Sums { .. })
    }
}

/// The number of a node, which its identity carries.
pub(super) fn who_of(member: &Member) -> Who {
    super::node::who(member.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_small() {
        assert!(size_of::<Event>() <= 80, "{} bytes", size_of::<Event>());
    }
}
