//! The tree: the run, its nodes, and what lies on each. Only what is open is asked for.

use std::collections::BTreeSet;

use everstep_actors::desk::view::{Item, Properties};

use super::ask::Ask;
use super::sight::Sight;

/// What is open and what is selected.
#[derive(Debug)]
pub(super) struct Tree {
    open: BTreeSet<String>,
    /// Reference of the selected row.
    pub(super) selected: String,
}

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// How deep it lies.
    pub(super) depth: usize,
    /// Its reference.
    pub(super) reference: String,
    /// Whether something may lie beneath, and whether that is shown.
    pub(super) open: Option<bool>,
    /// What it is called.
    pub(super) label: String,
    /// Its state.
    pub(super) state: String,
}

impl Default for Tree {
    fn default() -> Self {
        Self { open: BTreeSet::from(["run".to_owned()]), selected: "run".to_owned() }
    }
}

impl Tree {
    /// The rows from top to bottom.
    pub(super) fn rows(&self, sight: &Sight) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some((run, _)) = sight.run() {
            self.add(run, 0, sight, &mut rows);
        }
        rows
    }

    fn add(&self, item: &Item, depth: usize, sight: &Sight, rows: &mut Vec<Row>) {
        let is_open = self.open.contains(&item.reference);
        let opens = matches!(item.properties, Properties::Run(_) | Properties::Node(_) | Properties::Rank(_));
        rows.push(Row {
            depth,
            reference: item.reference.clone(),
            open: opens.then_some(is_open),
            label: label(item),
            state: item.state.clone(),
        });
        if opens && is_open {
            children(item, sight).into_iter().for_each(|child| self.add(child, depth + 1, sight, rows));
        }
    }

    /// Opens the selected row, or goes to its first child if it is open.
    pub(super) fn open(&mut self, sight: &Sight) {
        let rows = self.rows(sight);
        let at = rows.iter().position(|row| row.reference == self.selected);
        match at.and_then(|at| Some((at, rows[at].open?))) {
            Some((_, false)) => drop(self.open.insert(self.selected.clone())),
            Some((at, true)) => {
                if let Some(child) = rows.get(at + 1).filter(|row| row.depth > rows[at].depth) {
                    self.selected.clone_from(&child.reference);
                }
            }
            None => {}
        }
    }

    /// Opens the selected row or closes it.
    pub(super) fn toggle(&mut self, sight: &Sight) {
        if self.open.contains(&self.selected) {
            self.open.remove(&self.selected);
        } else {
            self.open(sight);
        }
    }

    /// Opens the way to something on a node and selects it, though it may not be known yet.
    pub(super) fn reveal(&mut self, node: &str, reference: &str) {
        self.open.extend(["run".to_owned(), node.to_owned()]);
        reference.clone_into(&mut self.selected);
    }

    /// Closes the selected row, or goes to the row that it lies under.
    pub(super) fn close(&mut self, sight: &Sight) {
        if self.open.remove(&self.selected) {
            return;
        }
        let rows = self.rows(sight);
        let Some(at) = rows.iter().position(|row| row.reference == self.selected) else { return };
        if let Some(parent) = rows[..at].iter().rev().find(|row| row.depth < rows[at].depth) {
            self.selected.clone_from(&parent.reference);
        }
    }

    /// The place of the selected row; the first one if it is gone.
    pub(super) fn at(&self, rows: &[Row]) -> usize {
        rows.iter().position(|row| row.reference == self.selected).unwrap_or_default()
    }

    /// What has to be asked so that the open parts are known.
    pub(super) fn asks(&self, sight: &Sight) -> Vec<Ask> {
        let known = self.open.iter().filter_map(|reference| sight.item(reference));
        known
            .flat_map(|item| match &item.properties {
                Properties::Node(_) => vec![Ask::Node(item.reference.clone())],
                Properties::Rank(_) => vec![Ask::Lanes(item.reference.clone()), Ask::Shards(item.reference.clone())],
                _ => Vec::new(),
            })
            .collect()
    }
}

/// What lies beneath an item.
fn children<'a>(parent: &Item, sight: &'a Sight) -> Vec<&'a Item> {
    let of = |wanted: &dyn Fn(&Item) -> bool| sight.items().filter(|item| wanted(item)).collect::<Vec<_>>();
    match &parent.properties {
        Properties::Run(_) => {
            let mut nodes: Vec<_> = sight.nodes().into_iter().map(|(item, _)| item).collect();
            nodes.extend(of(&|item| matches!(item.properties, Properties::Checkpoint(_))));
            nodes
        }
        Properties::Node(_) => {
            let mut found = of(&|item| matches!(&item.properties, Properties::Rank(rank) if rank.node == parent.reference));
            found.extend(of(&|item| matches!(item.properties, Properties::Actor(_)) && item.parent == parent.reference));
            found.extend(of(&|item| matches!(item.properties, Properties::Link(_)) && item.parent == parent.reference));
            found
        }
        Properties::Rank(_) => {
            let mut found = of(&|item| matches!(&item.properties, Properties::Lane(lane) if lane.rank == parent.reference));
            found.sort_by_key(|item| if let Properties::Lane(lane) = &item.properties { lane.lane } else { 0 });
            found.extend(of(&|item| matches!(&item.properties, Properties::Shard(shard) if shard.owner == parent.reference)));
            found
        }
        _ => Vec::new(),
    }
}

/// What stands in the tree for an item.
fn label(item: &Item) -> String {
    match &item.properties {
        Properties::Run(run) => format!("run {}", run.name),
        Properties::Node(node) => {
            let rank = node.rank.map(|rank| format!(" r{rank}")).unwrap_or_default();
            let leads = if node.leads { " leads" } else { "" };
            format!("{} {}{rank}{leads}", item.reference, node.host)
        }
        Properties::Rank(rank) => format!("rank/{} {}", rank.rank, rank.phase),
        Properties::Actor(actor) => {
            let handler = actor.handler.as_ref().map(|handler| format!(" {handler}")).unwrap_or_default();
            format!("{} {}/{}{handler}", actor.name, actor.depth, actor.capacity)
        }
        Properties::Lane(lane) if lane.doing == item.state => format!("lane/{}", lane.lane),
        Properties::Lane(lane) => format!("lane/{} {}", lane.lane, lane.doing),
        Properties::Link(link) => format!("link to {} {:.1} ms", link.to, link.rtt_ms),
        Properties::Shard(_) | Properties::Checkpoint(_) | Properties::Event(_) => item.reference.clone(),
    }
}
