//! The one-screen status of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::desk::view::{Item, NodeView, Properties, RankView, RunView, Scope, View};
use everstep_actors::event::words::Severity;
use everstep_actors::event::{Event, Recorded};

use super::grid::{self, WIDTH};
use super::human::{ago, bare, clock, or_dash, seconds};
use crate::judge::layout::wrap;
use crate::report::names;

/// Sentences are broken so that they stay readable on the narrowest terminal that is usual: what was lost, and the remedy, stand at
/// their ends.
const COLUMNS: usize = 80;
/// Where what is said of a label begins.
const LABEL: usize = 11;
/// Rows of the table of ranks.
const RANKS_MAX: usize = 20;
/// Troubles that are told.
const TROUBLES_MAX: usize = 5;

/// A few lines and a table, with a line break at the end. `events` are those of the store, in order of time.
pub fn status(view: &View, events: &[Recorded]) -> String {
    let mut screen = Screen { out: String::new() };
    if let Some(run) = view.run() {
        screen.run(view, run, events);
    }
    screen.members(view);
    let answered = match view.scope {
        Scope::Run => format!("by the leader {} for the run", or_dash(&view.answered_by)),
        Scope::Node => format!("by {} for itself: the leader does not answer", or_dash(&view.answered_by)),
        Scope::Store => "by nobody: this is what the store tells".into(),
    };
    screen.line("answered", &format!("{answered}, as of {} UTC", clock(view.as_of_ms)));
    for missing in &view.missing {
        screen.line("missing", missing);
    }
    screen.troubles(view, events);
    screen.ranks(view);
    screen.out
}

struct Screen {
    out: String,
}

impl Screen {
    fn line(&mut self, label: &str, text: &str) {
        for (at, text) in wrap(text, COLUMNS - LABEL, 0).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            // One word may be longer than that.
            let _ = writeln!(self.out, "{}", grid::line(&format!("{label:<LABEL$}{text}")));
        }
    }

    fn run(&mut self, view: &View, run: &RunView, events: &[Recorded]) {
        self.line("run", &run.name);
        let percent = 100.0 * run.step as f64 / run.steps.max(1) as f64;
        let of = if run.steps > 0 { format!(" of {} ({percent:.0} %)", run.steps) } else { String::new() };
        // In the same words as a recorded moment: short times in tenths of a second.
        let since = crate::report::duration(run.progress_age_ms as f64 / 1e3);
        self.line("step", &format!("{}{of}, last commit {since} ago", run.step));
        if let Some(because) = &run.waiting {
            self.line("waiting", because);
        }
        if run.images_per_s > 0.0 {
            self.line("pace", &format!("{:.0} images/s", run.images_per_s));
        }
        if let Some(loss) = run.metrics.get(names::LOSS) {
            let entropy = run.metrics.get(names::ENTROPY).map(|entropy| format!(", entropy {entropy:.3}")).unwrap_or_default();
            self.line("loss", &format!("{loss:.3}{entropy}"));
        }
        let because = if run.epoch_because.is_empty() { String::new() } else { format!(": {}", run.epoch_because) };
        let leader = if run.leader.is_empty() { "nobody" } else { bare(&run.leader) };
        self.line("epoch", &format!("{}, led by {leader}{because}", run.epoch));
        self.line("checkpoint", &checkpoint(view, run, events));
        if !run.phases.is_empty() {
            let phases: Vec<String> = run.phases.iter().map(|(name, length)| format!("{name} {}", seconds(*length))).collect();
            self.line("phases", &phases.join(", "));
        }
        self.line("ledger", &format!("steps up to {} are durable", run.ledger));
    }

    /// Nodes and ranks counted by state.
    fn members(&mut self, view: &View) {
        let mut counts: [BTreeMap<&str, usize>; 2] = Default::default();
        for item in &view.items {
            match &item.properties {
                Properties::Node(_) => *counts[0].entry(&item.state).or_default() += 1,
                Properties::Rank(_) => *counts[1].entry(&item.state).or_default() += 1,
                _ => {}
            }
        }
        let told = |states: &BTreeMap<&str, usize>, one: &str, many: &str| {
            let all: usize = states.values().sum();
            let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
            format!("{all} {}: {}", if all == 1 { one } else { many }, states.join(", "))
        };
        let parts: Vec<String> = [(&counts[0], "node", "nodes"), (&counts[1], "rank", "ranks")]
            .into_iter()
            .filter(|(states, ..)| !states.is_empty())
            .map(|(states, one, many)| told(states, one, many))
            .collect();
        if !parts.is_empty() {
            self.line("members", &parts.join("; "));
        }
    }

    /// The last warnings and errors, as the store and the nodes tell them.
    fn troubles(&mut self, view: &View, events: &[Recorded]) {
        let of_store = events.iter().filter(|recorded| recorded.event.severity() > Severity::Info);
        let mut troubles: Vec<(u64, &str, String)> =
            of_store.map(|recorded| (recorded.at_ms, recorded.event.severity().name(), recorded.event.sentence())).collect();
        for item in &view.items {
            if let Properties::Event(event) = &item.properties
                && event.severity != Severity::Info.name()
            {
                troubles.push((event.at_ms, &event.severity, event.text.clone()));
            }
        }
        troubles.sort();
        // Nodes still hold what the store has already.
        troubles.dedup();
        for (at_ms, severity, text) in &troubles[troubles.len().saturating_sub(TROUBLES_MAX)..] {
            self.line("trouble", &format!("{} {severity}: {text}", clock(*at_ms)));
        }
    }

    /// Nodes with and without a rank; those that are not well come first where not all can be shown.
    fn ranks(&mut self, view: &View) {
        let mut ranks: BTreeMap<&str, (&Item, &RankView)> = BTreeMap::new();
        let mut nodes: Vec<(&Item, &NodeView)> = Vec::new();
        for item in &view.items {
            match &item.properties {
                Properties::Rank(rank) => drop(ranks.insert(&rank.node, (item, rank))),
                Properties::Node(node) => nodes.push((item, node)),
                _ => {}
            }
        }
        let mut rows: Vec<(bool, u32, [String; 6])> = Vec::new();
        for (item, node) in nodes {
            let rank = ranks.remove(item.reference.as_str());
            let state = match rank {
                // A rank that computes says nothing of a node that is leaving or silent.
                Some((rank, _)) if item.state == "in" => rank.state.clone(),
                _ => item.state.clone(),
            };
            let well = ["computing", "waiting", "in", "standing by"].contains(&state.as_str());
            let number = rank.map(|(_, rank)| rank.rank).or(node.rank);
            rows.push((
                well,
                number.unwrap_or(u32::MAX),
                row(number, bare(&item.reference), Some(node), rank.map(|(_, rank)| rank), state),
            ));
        }
        // Ranks whose node told nothing of itself.
        for (item, rank) in ranks.into_values() {
            rows.push((false, rank.rank, row(Some(rank.rank), bare(&rank.node), None, Some(rank), item.state.clone())));
        }
        if rows.is_empty() {
            return;
        }
        let more = rows.len().saturating_sub(RANKS_MAX);
        rows.sort_by_key(|(well, number, _)| (more > 0 && *well, *number));
        let mut cells = vec![["RANK", "NODE", "HOST", "PID", "LANES", "STATE"].map(str::to_owned).to_vec()];
        cells.extend(rows.into_iter().take(RANKS_MAX).map(|(.., row)| row.to_vec()));
        let _ = write!(self.out, "\n{}", grid::table(&cells, Some(WIDTH)));
        if more > 0 {
            let _ = writeln!(self.out, "and {more} more: `everstep get nodes` shows all");
        }
    }
}

fn row(number: Option<u32>, name: &str, node: Option<&NodeView>, rank: Option<&RankView>, state: String) -> [String; 6] {
    let lanes = rank.map_or_else(|| "-".into(), |rank| format!("{}..{}", rank.lanes.0, rank.lanes.1));
    let host = node.map_or_else(|| "-".into(), |node| or_dash(&node.host));
    let pid = node.map_or_else(|| "-".into(), |node| node.pid.to_string());
    [number.map_or_else(|| "-".into(), |number| number.to_string()), name.to_owned(), host, pid, lanes, state]
}

/// The newest checkpoint and how old it is: by its own item, or by the event of its publishing.
fn checkpoint(view: &View, run: &RunView, events: &[Recorded]) -> String {
    let items = view.items.iter().filter_map(|item| match &item.properties {
        Properties::Checkpoint(checkpoint) if item.state == "intact" => Some((checkpoint.step, item.since_ms)),
        _ => None,
    });
    let Some((step, mut at_ms)) = items.max().max(run.checkpoint.map(|step| (step, 0))) else { return "none yet".into() };
    if at_ms == 0 {
        let saved =
            events.iter().rev().find(|recorded| matches!(&recorded.event, Event::CheckpointSaved { step: saved, .. } if saved.0 == step));
        at_ms = saved.map_or(0, |recorded| recorded.at_ms);
    }
    let age = ago(at_ms, view.as_of_ms).map(|ago| format!(", {ago}")).unwrap_or_default();
    format!("step {step}{age}")
}

#[cfg(test)]
mod tests;
