//! The table of actors: its order, its filter, and what is selected in it.

use std::cmp::Reverse;

use everstep_actors::desk::view::{ActorView, Item};

use super::ask::FAILED;
use super::sight::Sight;

/// By what actors are sorted; the greatest come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// Messages that wait.
    #[default]
    Depth,
    /// The age of the oldest of them.
    Oldest,
    /// How long the handler at work has been.
    Handler,
    /// Messages handled.
    Handled,
}

impl Sort {
    /// The next order.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Depth => Self::Oldest,
            Self::Oldest => Self::Handler,
            Self::Handler => Self::Handled,
            Self::Handled => Self::Depth,
        }
    }

    /// The field of the view, as the desk sorts.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Depth => "-depth",
            Self::Oldest => "-oldest_ms",
            Self::Handler => "-handler_ms",
            Self::Handled => "-handled",
        }
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Depth => "mailbox depth",
            Self::Oldest => "oldest message",
            Self::Handler => "time in the handler",
            Self::Handled => "messages handled",
        }
    }

    fn key(self, actor: &ActorView) -> u64 {
        match self {
            Self::Depth => actor.depth,
            Self::Oldest => actor.oldest_ms.unwrap_or_default(),
            Self::Handler => actor.handler_ms.unwrap_or_default(),
            Self::Handled => actor.handled,
        }
    }
}

/// What the operator chose.
#[derive(Debug, Default)]
pub(super) struct Actors {
    /// The order.
    pub(super) sort: Sort,
    /// A part of the reference; empty for all.
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    /// Reference of the actor that is selected; the selection stays with it when the order changes.
    pub(super) selected: Option<String>,
}

impl Actors {
    /// The rows: failed actors first, since nobody should have to look for them.
    pub(super) fn rows<'a>(&self, sight: &'a Sight) -> Vec<(&'a Item, &'a ActorView)> {
        let mut rows: Vec<_> = sight.actors().filter(|(item, _)| item.reference.contains(&self.filter)).collect();
        rows.sort_by_key(|(item, actor)| (Reverse(item.state == FAILED), Reverse(self.sort.key(actor))));
        rows
    }

    /// The place of the selected row.
    pub(super) fn at(&self, rows: &[(&Item, &ActorView)]) -> usize {
        let selected = self.selected.as_deref();
        rows.iter().position(|(item, _)| Some(item.reference.as_str()) == selected).unwrap_or_default()
    }
}
