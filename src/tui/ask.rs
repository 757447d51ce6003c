//! What is asked of the run: only what the page in front shows, so that watching costs little.

use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};
use everstep_actors::desk::view::{Item, Properties};

use super::actors::Sort;

/// Actors in one answer: more than a screen holds, less than a thousand nodes have.
pub(super) const ACTORS_MAX: u64 = 500;
/// Failed ones, which are asked for beside the others.
const FAILED_MAX: u64 = 100;
/// The name of a committed step among events.
pub(super) const STEP: &str = "step_committed";
/// The state of an actor that failed.
pub(super) const FAILED: &str = "failed";
/// Lanes or shards of one rank in one answer.
const PARTS_MAX: u64 = 500;
/// Live events in one answer; older ones come from the store.
const EVENTS_MAX: u64 = 100;

/// One question, and which of the known items its answer replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The run, its nodes, ranks and checkpoints.
    Base,
    /// The newest events.
    Events {
        /// Whether committed steps are among them: there are so many that nothing else would be left.
        steps: bool,
    },
    /// Actors of the whole run, the first ones in an order.
    Actors {
        /// The order.
        sort: Sort,
        /// A part of the reference.
        filter: String,
    },
    /// Actors that failed, however the others are sorted.
    Failed {
        /// A part of the reference.
        filter: String,
    },
    /// Actors and links of a node.
    Node(String),
    /// Lanes of a rank.
    Lanes(String),
    /// Shards that a rank owns.
    Shards(String),
}

impl Ask {
    /// In the words of the desk.
    pub(super) fn question(&self) -> Question {
        let equal = |field: &str, value: &str| Condition { field: field.into(), is: Comparison::Equal, value: value.into() };
        match self {
            Self::Base => Question { kinds: vec![Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint], ..Question::default() },
            Self::Events { steps } => {
                let notable = Condition { field: "event".into(), is: Comparison::Unequal, value: STEP.into() };
                Question {
                    kinds: vec![Kind::Event],
                    filter: if *steps { Vec::new() } else { vec![notable] },
                    sort: Some("-at_ms".into()),
                    limit: Some(EVENTS_MAX),
                    ..Question::default()
                }
            }
            Self::Actors { sort, filter } => {
                let contains = Condition { field: "reference".into(), is: Comparison::Contains, value: filter.clone() };
                Question {
                    kinds: vec![Kind::Actor],
                    filter: if filter.is_empty() { Vec::new() } else { vec![contains] },
                    sort: Some(sort.field().into()),
                    limit: Some(ACTORS_MAX),
                    ..Question::default()
                }
            }
            Self::Failed { filter } => {
                let contains = Condition { field: "reference".into(), is: Comparison::Contains, value: filter.clone() };
                Question {
                    kinds: vec![Kind::Actor],
                    filter: vec![equal("state", FAILED), contains],
                    limit: Some(FAILED_MAX),
                    ..Question::default()
                }
            }
            Self::Node(node) => Question { kinds: vec![Kind::Actor, Kind::Link], under: Some(node.clone()), ..Question::default() },
            Self::Lanes(rank) => {
                Question { kinds: vec![Kind::Lane], filter: vec![equal("rank", rank)], limit: Some(PARTS_MAX), ..Question::default() }
            }
            Self::Shards(rank) => {
                Question { kinds: vec![Kind::Shard], filter: vec![equal("owner", rank)], limit: Some(PARTS_MAX), ..Question::default() }
            }
        }
    }

    /// Whether an item that is not in the answer is no more.
    pub(super) fn covers(&self, item: &Item) -> bool {
        match (self, &item.properties) {
            (Self::Base, Properties::Run(_) | Properties::Node(_) | Properties::Rank(_) | Properties::Checkpoint(_)) => true,
            (Self::Events { .. }, Properties::Event(_)) => true,
            (Self::Actors { .. }, Properties::Actor(_)) => item.state != FAILED,
            (Self::Failed { .. }, Properties::Actor(_)) => item.state == FAILED,
            (Self::Node(node), Properties::Actor(_) | Properties::Link(_)) => item.parent == *node,
            (Self::Lanes(rank), Properties::Lane(lane)) => lane.rank == *rank,
            (Self::Shards(rank), Properties::Shard(shard)) => shard.owner == *rank,
            _ => false,
        }
    }
}
