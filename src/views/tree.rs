//! A run, or a part of it, as a tree; what is alike is folded into one line that counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{Item, Properties, View};

use super::grid;
use super::select::{plural, singular};

mod labels;

/// So many children of a kind are shown one by one; more are folded, unless the tree is drawn for them.
const SHOWN_MAX: usize = 20;
/// Nothing real lies deeper than a lane of a rank of a node of the run.
const DEPTH_MAX: usize = 8;
/// So many of those that look alike stand for all of them.
const EXAMPLES: usize = 2;

/// The tree below an item, or below the run, with a line break at the end.
pub fn tree(view: &View, root: Option<&Item>) -> String {
    let forest = Forest::of(view);
    let roots: Vec<&Item> = root.map_or_else(|| forest.roots.clone(), |root| vec![root]);
    let mut out = String::new();
    for item in roots {
        let mut draw = Draw { forest: &forest, out: &mut out, seen: BTreeSet::new(), depth: 0 };
        draw.line("", &labels::label(item));
        // What somebody asked for by name is shown in full.
        draw.below(item, "", root.is_some());
    }
    out
}

/// Who lies below whom: everything has one place, its closest.
struct Forest<'a> {
    below: BTreeMap<&'a str, Vec<&'a Item>>,
    roots: Vec<&'a Item>,
}

impl<'a> Forest<'a> {
    fn of(view: &'a View) -> Self {
        let known: BTreeSet<&str> = view.items.iter().map(|item| item.reference.as_str()).collect();
        let listed: BTreeMap<&str, &str> =
            view.items.iter().flat_map(|item| item.children.iter().map(|child| (child.as_str(), item.reference.as_str()))).collect();
        let (mut below, mut roots) = (BTreeMap::<&str, Vec<&Item>>::new(), Vec::new());
        for item in &view.items {
            if matches!(item.properties, Properties::Event(_)) {
                continue;
            }
            // A rank belongs to the run and lies on a node, a lane on a rank: there people look for it.
            let closest = match &item.properties {
                Properties::Rank(rank) => rank.node.as_str(),
                Properties::Lane(lane) => lane.rank.as_str(),
                Properties::Shard(shard) => shard.owner.as_str(),
                _ => item.parent.as_str(),
            };
            let places = [Some(closest), Some(item.parent.as_str()), listed.get(item.reference.as_str()).copied()];
            match places.into_iter().flatten().find(|place| *place != item.reference && known.contains(place)) {
                Some(place) => below.entry(place).or_default().push(item),
                None => roots.push(item),
            }
        }
        Self { below, roots }
    }

    fn children(&self, item: &Item) -> &[&'a Item] {
        self.below.get(item.reference.as_str()).map_or(&[], Vec::as_slice)
    }

    /// Whether something is wrong with an item: a word that people look for, or an error.
    fn is_odd(item: &Item) -> bool {
        let has_error = matches!(&item.properties, Properties::Actor(actor) if actor.trouble().is_some());
        has_error || ["failed", "quiet", "silent", "draining", "damaged", "incomplete", "behind", "lost"].contains(&item.state.as_str())
    }

    /// What a node looks like from afar: its state, whether it leads, its rank's state, and what is wrong below it.
    fn look(&self, item: &Item) -> Vec<String> {
        let mut below: Vec<String> = Vec::new();
        if matches!(&item.properties, Properties::Node(node) if node.leads) {
            below.push("leading".into());
        }
        for child in self.children(item) {
            if matches!(child.properties, Properties::Rank(_)) || Self::is_odd(child) {
                let error = if matches!(child.properties, Properties::Actor(_)) { " with an error" } else { "" };
                below.push(format!("{} {}{error}", singular(child.kind()), child.state));
            }
        }
        below.sort_unstable();
        below.dedup();
        below.insert(0, item.state.clone());
        below
    }
}

struct Draw<'a, 'b> {
    forest: &'b Forest<'a>,
    out: &'b mut String,
    /// Items that were drawn: a view that lies about its parents must not be walked for ever.
    seen: BTreeSet<&'a str>,
    depth: usize,
}

/// A line of a tree: an item with what is below it, or a sentence about many.
enum Branch<'a> {
    Item(&'a Item),
    Folded(String),
}

impl<'a> Draw<'a, '_> {
    fn line(&mut self, stem: &str, text: &str) {
        let _ = writeln!(self.out, "{}", grid::line(&format!("{stem}{text}")));
    }

    /// Everything below an item; `whole` when each of its children is to be shown.
    fn below(&mut self, item: &Item, stem: &str, whole: bool) {
        let children: Vec<&'a Item> = self.forest.children(item).to_vec();
        let mut kinds: BTreeMap<Kind, Vec<&'a Item>> = BTreeMap::new();
        for child in children {
            if self.seen.insert(&child.reference) {
                kinds.entry(child.kind()).or_default().push(child);
            }
        }
        let mut branches = Vec::new();
        if self.depth >= DEPTH_MAX && !kinds.is_empty() {
            kinds.clear();
            branches.push(Branch::Folded("… more, which no run has so deep".into()));
        }
        for (kind, items) in kinds {
            let many = items.len() > SHOWN_MAX && (!whole || kind == Kind::Node);
            match (many, kind) {
                (false, _) => branches.extend(items.into_iter().map(Branch::Item)),
                (true, Kind::Node) => self.fold_nodes(items, &mut branches),
                (true, _) => fold(kind, items, &mut branches),
            }
        }
        self.depth += 1;
        let last = branches.len().saturating_sub(1);
        for (at, branch) in branches.into_iter().enumerate() {
            let (turn, down) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            match branch {
                Branch::Folded(text) => self.line(&format!("{stem}{turn}"), &text),
                Branch::Item(child) => {
                    self.line(&format!("{stem}{turn}"), &labels::label(child));
                    self.below(child, &format!("{stem}{down}"), false);
                }
            }
        }
        self.depth -= 1;
    }

    /// Nodes that look alike stand together, the rarest looks first: two examples and how many more.
    fn fold_nodes(&self, nodes: Vec<&'a Item>, branches: &mut Vec<Branch<'a>>) {
        let mut looks: BTreeMap<Vec<String>, Vec<&'a Item>> = BTreeMap::new();
        for node in nodes {
            looks.entry(self.forest.look(node)).or_default().push(node);
        }
        let mut groups: Vec<(Vec<String>, Vec<&Item>)> = looks.into_iter().collect();
        groups.sort_by_key(|(_, nodes)| nodes.len());
        for (look, nodes) in groups {
            let more = nodes.len().saturating_sub(EXAMPLES);
            branches.extend(nodes.into_iter().take(EXAMPLES).map(Branch::Item));
            if more > 0 {
                branches.push(Branch::Folded(format!("… and {more} more, all {}", look.join(", "))));
            }
        }
    }
}

/// Items of a kind counted by state; those with which something is wrong stay visible, as many as are shown of a kind.
fn fold<'a>(kind: Kind, items: Vec<&'a Item>, branches: &mut Vec<Branch<'a>>) {
    let (odd, even): (Vec<&Item>, Vec<&Item>) = items.into_iter().partition(|item| Forest::is_odd(item));
    let (visible, folded) = odd.split_at(odd.len().min(SHOWN_MAX));
    branches.extend(visible.iter().copied().map(Branch::Item));
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for item in even.iter().chain(folded) {
        *states.entry(&item.state).or_default() += 1;
    }
    let counts: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if !counts.is_empty() {
        let many = even.len() + folded.len();
        let more = if visible.is_empty() { "" } else { "more " };
        branches.push(Branch::Folded(format!("… {many} {more}{}: {}", plural(kind), counts.join(", "))));
    }
}

#[cfg(test)]
mod tests;
