//! What is known of the run: the newest answer to each question, side by side.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{ActorView, CheckpointView, Item, NodeView, Properties, RankView, RunView, Scope, View};

use super::ask::Ask;

/// Items by reference, and who told.
#[derive(Debug, Default)]
pub(super) struct Sight {
    items: BTreeMap<String, Item>,
    /// Who the newest answer about the run spoke for; nothing before the first.
    pub(super) scope: Option<Scope>,
    /// When that answer was made.
    pub(super) as_of_ms: u64,
    /// What it could not tell.
    pub(super) missing: Vec<String>,
    /// Actors of the run that matched before the limit cut them; nothing before the first answer about all of them.
    pub(super) actors_matched: Option<u64>,
}

impl Sight {
    /// Replaces what the question was about.
    pub(super) fn take_in(&mut self, ask: &Ask, view: View) {
        match ask {
            Ask::Base => {
                self.scope = Some(view.scope);
                self.as_of_ms = view.as_of_ms;
                self.missing = view.missing;
            }
            Ask::Actors { .. } => self.actors_matched = Some(view.matched),
            Ask::Events { .. } | Ask::Failed { .. } | Ask::Node(_) | Ask::Lanes(_) | Ask::Shards(_) => {}
        }
        self.items.retain(|_, item| !ask.covers(item));
        self.items.extend(view.items.into_iter().map(|item| (item.reference.clone(), item)));
    }

    /// The item of a reference.
    pub(super) fn item(&self, reference: &str) -> Option<&Item> {
        self.items.get(reference)
    }

    /// All items, by reference.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// The run.
    pub(super) fn run(&self) -> Option<(&Item, &RunView)> {
        self.items().find_map(|item| match &item.properties {
            Properties::Run(run) => Some((item, run)),
            _ => None,
        })
    }

    /// Nodes: those with ranks in their order, then the others.
    pub(super) fn nodes(&self) -> Vec<(&Item, &NodeView)> {
        let mut nodes: Vec<_> = self
            .items()
            .filter_map(|item| match &item.properties {
                Properties::Node(node) => Some((item, node)),
                _ => None,
            })
            .collect();
        nodes.sort_by_key(|(_, node)| node.rank.unwrap_or(u32::MAX));
        nodes
    }

    /// Ranks by their numbers.
    pub(super) fn ranks(&self) -> Vec<(&Item, &RankView)> {
        let mut ranks: Vec<_> = self
            .items()
            .filter_map(|item| match &item.properties {
                Properties::Rank(rank) => Some((item, rank)),
                _ => None,
            })
            .collect();
        ranks.sort_by_key(|(_, rank)| rank.rank);
        ranks
    }

    /// Actors, by reference.
    pub(super) fn actors(&self) -> impl Iterator<Item = (&Item, &ActorView)> {
        self.items().filter_map(|item| match &item.properties {
            Properties::Actor(actor) => Some((item, actor)),
            _ => None,
        })
    }

    /// The newest checkpoint.
    pub(super) fn checkpoint(&self) -> Option<(&Item, &CheckpointView)> {
        let checkpoints = self.items().filter_map(|item| match &item.properties {
            Properties::Checkpoint(checkpoint) => Some((item, checkpoint)),
            _ => None,
        });
        checkpoints.max_by_key(|(_, checkpoint)| checkpoint.step)
    }

    /// The node on which a rank lies.
    pub(super) fn node(&self, reference: &str) -> Option<(&Item, &NodeView)> {
        self.item(reference).and_then(|item| match &item.properties {
            Properties::Node(node) => Some((item, node)),
            _ => None,
        })
    }
}
