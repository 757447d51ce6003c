//! One table of `everstep top`, made of one answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use everstep_actors::desk::view::{Item, NodeView, Properties, RankView, View};

use crate::cli::top::TopSort;
use crate::report::{bytes, names, tame};
use crate::views::human::elide;
use crate::views::talk::notes;

/// CPU time of each node in the answer before.
#[derive(Debug, Default)]
pub(super) struct Before {
    cpu: BTreeMap<String, (u64, f64)>,
}

impl Before {
    /// What has to be remembered of an answer.
    pub(super) fn of(view: &View) -> Self {
        Self { cpu: nodes(view).map(|(item, node)| (item.reference.clone(), (item.as_of_ms, node.cpu_s))).collect() }
    }

    /// Percent of one core: since the answer before, or since the node started.
    fn percent(&self, item: &Item, node: &NodeView) -> Option<f64> {
        let (since_ms, used) = match self.cpu.get(&item.reference) {
            // A node that began anew counts anew.
            Some((at_ms, cpu_s)) if *at_ms < item.as_of_ms && *cpu_s <= node.cpu_s => (*at_ms, node.cpu_s - cpu_s),
            _ => (node.started_ms, node.cpu_s),
        };
        let seconds = item.as_of_ms.checked_sub(since_ms)? as f64 / 1e3;
        (since_ms > 0 && seconds > 0.0).then(|| used / seconds * 100.0)
    }
}

/// Lines to print, and sentences beside them.
#[derive(Debug)]
pub(super) struct Table {
    /// The head and the rows.
    pub(super) lines: Vec<String>,
    /// What has to be known of them.
    pub(super) talk: Vec<String>,
    /// The same for programs and pipes: each rank with its node, in the order of the rows.
    pub(super) shown: View,
}

/// A row.
struct Row<'a> {
    rank: &'a RankView,
    state: &'a str,
    host: String,
    cpu: Option<f64>,
    resident: u64,
    waiting: u64,
}

impl Table {
    /// Of an answer, and of the actors in whose mailboxes something waits.
    pub(super) fn of(view: &View, mailboxes: &View, before: &Before, sort: TopSort, limit: Option<usize>) -> Self {
        let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
        for item in &mailboxes.items {
            if let Properties::Actor(actor) = &item.properties {
                *waiting.entry(&actor.node).or_default() += actor.depth;
            }
        }
        let nodes: BTreeMap<&str, (&Item, &NodeView)> = nodes(view).map(|(item, node)| (item.reference.as_str(), (item, node))).collect();
        let row = |item: &'_ Item| match &item.properties {
            Properties::Rank(rank) => Some((item.state.clone(), rank.clone())),
            _ => None,
        };
        let ranks: Vec<(String, RankView)> = view.items.iter().filter_map(row).collect();
        let mut rows: Vec<Row<'_>> = ranks
            .iter()
            .map(|(state, rank)| {
                let node = nodes.get(rank.node.as_str());
                Row {
                    rank,
                    state,
                    host: node.map(|(_, node)| tame(&node.host)).unwrap_or_default(),
                    cpu: node.and_then(|(item, node)| before.percent(item, node)),
                    resident: node.map_or(0, |(_, node)| node.resident_bytes),
                    waiting: waiting.get(rank.node.as_str()).copied().unwrap_or_default(),
                }
            })
            .collect();
        order(&mut rows, sort);
        let (all, shown) = (rows.len(), limit.unwrap_or(usize::MAX).min(rows.len()));
        let mut lines = head(view);
        lines.push(format!(
            "{:>5} {:<10} {:<9} {:>9} {:>6} {:>9} {:>6} {:>9} {:>7} {:<20}",
            "RANK", "STATE", "PHASE", "STEP", "PACE", "COMPUTE", "CPU%", "MEMORY", "MAILBOX", "HOST"
        ));
        lines.extend(rows[..shown].iter().map(line));
        lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
        let order: Vec<u32> = rows[..shown].iter().map(|row| row.rank.rank).collect();
        Self { lines, talk: talk(view, all, shown), shown: among(view, &order) }
    }
}

/// These ranks, each with its node, after the run.
fn among(view: &View, ranks: &[u32]) -> View {
    let mut items: Vec<Item> = view.item("run").cloned().into_iter().collect();
    for rank in ranks {
        let item = view.items.iter().find(|item| matches!(&item.properties, Properties::Rank(view) if view.rank == *rank));
        let Some(item) = item else { continue };
        let node = match &item.properties {
            Properties::Rank(rank) => view.item(&rank.node),
            _ => None,
        };
        items.extend([item].into_iter().chain(node).cloned());
    }
    View { items, ..view.clone() }
}

fn nodes(view: &View) -> impl Iterator<Item = (&Item, &NodeView)> {
    view.items.iter().filter_map(|item| match &item.properties {
        Properties::Node(node) => Some((item, node)),
        _ => None,
    })
}

fn compute(rank: &RankView) -> f64 {
    rank.phases.get("compute").copied().unwrap_or_default()
}

fn order(rows: &mut [Row<'_>], sort: TopSort) {
    rows.sort_by_key(|row| row.rank.rank);
    // Sorting keeps the order of what is alike: by number.
    match sort {
        TopSort::Pace => rows.sort_by(|a, b| b.rank.pace.total_cmp(&a.rank.pace).then(compute(b.rank).total_cmp(&compute(a.rank)))),
        TopSort::Cpu => rows.sort_by(|a, b| b.cpu.unwrap_or_default().total_cmp(&a.cpu.unwrap_or_default())),
        TopSort::Memory => rows.sort_by_key(|row| Reverse(row.resident)),
        TopSort::Mailbox => rows.sort_by_key(|row| Reverse(row.waiting)),
        TopSort::Rank => {}
    }
}

/// The run in one line, and why it waits in a second one.
fn head(view: &View) -> Vec<String> {
    let Some(run) = view.run() else { return vec!["nothing is known of the run".into()] };
    let state = view.item("run").map_or("", |item| item.state.as_str());
    let loss = run.metrics.get(names::LOSS).map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
    let (name, state, pace) = (tame(&run.name), tame(state), run.images_per_s);
    let first = format!("{name}: {state}, step {} of {}, epoch {}{loss}, {pace:.0} images/s", run.step, run.steps, run.epoch);
    let waits = run.waiting.iter().map(|because| format!("waits: {}", tame(because)));
    [first].into_iter().chain(waits).collect()
}

fn line(row: &Row<'_>) -> String {
    let rank = row.rank;
    let seconds = rank.phases.get("compute").map_or_else(|| "-".into(), |seconds| format!("{seconds:.3} s"));
    let cpu = row.cpu.map_or_else(|| "-".into(), |percent| format!("{percent:.0}"));
    let (pace, memory) = (format!("{:.2}x", rank.pace), bytes(row.resident));
    let host = elide(&row.host, 20);
    format!(
        "{:>5} {:<10} {:<9} {:>9} {pace:>6} {seconds:>9} {cpu:>6} {memory:>9} {:>7} {host:<20}",
        rank.rank,
        tame(row.state),
        tame(&rank.phase),
        rank.step,
        row.waiting
    )
}

fn talk(view: &View, all: usize, shown: usize) -> Vec<String> {
    let empty = (all == 0).then(|| "no rank has a place in the plan".to_owned());
    let cut = (shown < all).then(|| format!("{shown} of {all} ranks are shown"));
    notes(view).iter().map(|note| tame(note)).chain(empty).chain(cut).collect()
}
