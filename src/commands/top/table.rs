//! One table of `everstep top`, made of one answer.

use std::collections::BTreeMap;

use everstep_actors::desk::answer::choose;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{Fields, Item, NodeView, Properties, View};
use schemars::JsonSchema;
use serde::Serialize;

use crate::report::{bytes, names, tame};
use crate::views::fields;
use crate::views::human::elide;
use crate::views::select::List;
use crate::views::talk::{cut, notes};

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

/// A row: a rank, and what is known of its node.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct Row {
    /// The rank's number.
    rank: u32,
    /// What it is doing.
    state: String,
    /// The part of the step that it is in.
    phase: String,
    /// Steps committed.
    step: u64,
    /// How many times as long as the median rank it computes.
    pace: f64,
    /// Seconds that it computes in a step.
    compute_s: Option<f64>,
    /// Percent of one core that its node takes.
    cpu: Option<f64>,
    /// Resident memory of its node.
    memory_bytes: u64,
    /// Messages that wait in the mailboxes of its node.
    mailbox: u64,
    /// Where its node runs.
    host: String,
}

/// What people choose rows by.
pub(super) fn list() -> List {
    let headings = &[("compute", "compute_s"), ("cpu%", "cpu"), ("memory", "memory_bytes"), ("rss", "memory_bytes"), ("mbox", "mailbox")];
    List { name: "rows", fields: fields::of::<Row>(), headings }
}

impl Table {
    /// Of an answer, and of the actors in whose mailboxes something waits: the rows that are asked for, as many as fit.
    pub(super) fn of(view: &View, mailboxes: &View, before: &Before, asked: &Question, fits: Option<usize>) -> Self {
        let rows = rows(view, mailboxes, before);
        let none = rows.is_empty();
        let (mut rows, matched) = choose(rows, Fields::of, asked);
        let mut talk: Vec<String> = notes(view).iter().map(|note| tame(note)).collect();
        if none {
            talk.push("no rank has a place in the plan".into());
        } else if matched == 0 {
            talk.push("no rank matches: widen --filter".into());
        }
        talk.extend(match fits.filter(|fits| *fits < rows.len()) {
            Some(fits) => {
                rows.truncate(fits);
                Some(format!("showing {fits} of {matched}: enlarge the terminal or narrow --filter"))
            }
            None => cut(rows.len(), matched),
        });
        let mut lines = head(view);
        lines.push(format!(
            "{:>4} {:<9} {:<8} {:>7} {:>6} {:>8} {:>5} {:>8} {:>5} HOST",
            "RANK", "STATE", "PHASE", "STEP", "PACE", "COMPUTE", "CPU%", "MEMORY", "MBOX"
        ));
        lines.extend(rows.iter().map(line));
        lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
        let order: Vec<u32> = rows.iter().map(|row| row.rank).collect();
        Self { lines, talk, shown: among(view, &order) }
    }
}

/// All rows, the slowest first, and what is alike by number.
fn rows(view: &View, mailboxes: &View, before: &Before) -> Vec<Row> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for item in &mailboxes.items {
        if let Properties::Actor(actor) = &item.properties {
            *waiting.entry(&actor.node).or_default() += actor.depth;
        }
    }
    let nodes: BTreeMap<&str, (&Item, &NodeView)> = nodes(view).map(|(item, node)| (item.reference.as_str(), (item, node))).collect();
    let row = |item: &Item| {
        let Properties::Rank(rank) = &item.properties else { return None };
        let node = nodes.get(rank.node.as_str());
        Some(Row {
            rank: rank.rank,
            state: item.state.clone(),
            phase: rank.phase.clone(),
            step: rank.step,
            pace: rank.pace,
            compute_s: rank.phases.get("compute").copied(),
            cpu: node.and_then(|(item, node)| before.percent(item, node)),
            memory_bytes: node.map_or(0, |(_, node)| node.resident_bytes),
            mailbox: waiting.get(rank.node.as_str()).copied().unwrap_or_default(),
            host: node.map(|(_, node)| node.host.clone()).unwrap_or_default(),
        })
    };
    let mut rows: Vec<Row> = view.items.iter().filter_map(row).collect();
    let compute = |row: &Row| row.compute_s.unwrap_or_default();
    rows.sort_by_key(|row| row.rank);
    rows.sort_by(|a, b| b.pace.total_cmp(&a.pace).then(compute(b).total_cmp(&compute(a))));
    rows
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

fn line(row: &Row) -> String {
    let seconds = row.compute_s.map_or_else(|| "-".into(), |seconds| format!("{seconds:.3} s"));
    let cpu = row.cpu.map_or_else(|| "-".into(), |percent| format!("{percent:.0}"));
    let (pace, memory) = (format!("{:.2}x", row.pace), bytes(row.memory_bytes));
    // A host's name fits beside all of it on a terminal of 80 columns, if it is no longer than 11 characters.
    let host = elide(&tame(&row.host), 20);
    format!(
        "{:>4} {:<9} {:<8} {:>7} {pace:>6} {seconds:>8} {cpu:>5} {memory:>8} {:>5} {host}",
        row.rank,
        tame(&row.state),
        tame(&row.phase),
        row.step,
        row.mailbox
    )
}
