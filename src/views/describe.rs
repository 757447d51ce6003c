//! One item in full: what it is, how it is and since when, every property with its unit, and what belongs to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{ActorView, EventView, Item, NodeView, Properties, RankView, View};
use serde_json::Value;

use super::grid::WIDTH;
use super::human::{ago, bare, clock, date, seconds, span, value};
use super::output::table;
use super::select::{plural, singular};
use crate::report::tame;

/// How many rows a list within a description has.
const ROWS_MAX: usize = 20;
/// How many events a description ends with.
const EVENTS_MAX: usize = 5;
/// Characters of the longest bar.
const BAR: f64 = 40.0;

/// The description of an item, with a line break at the end.
pub fn describe(view: &View, item: &Item) -> String {
    let mut page = Page { out: String::new(), now_ms: view.as_of_ms };
    page.identity(item);
    match &item.properties {
        Properties::Actor(actor) => page.actor(actor),
        Properties::Rank(rank) => {
            page.properties(&item.properties, &["phases"]);
            page.rank(view, item, rank);
            page.events(view, &rank.node);
        }
        Properties::Node(node) => {
            page.properties(&item.properties, &[]);
            page.node(view, item, node);
            page.events(view, &item.reference);
        }
        _ => {
            page.properties(&item.properties, &[]);
            page.children(view, item);
        }
    }
    page.out
}

struct Page {
    out: String,
    now_ms: u64,
}

impl Page {
    fn title(&mut self, text: &str) {
        let _ = writeln!(self.out, "\n{text}");
    }

    fn line(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.out, "{}", tame(&format!("{label:<20}{text}")).trim_end());
    }

    fn within(&mut self, label: &str, text: &str) {
        self.line(&format!("  {label}"), text);
    }

    fn identity(&mut self, item: &Item) {
        self.line("reference", &item.reference);
        self.line("kind", singular(item.kind()));
        let since = ago(item.since_ms, self.now_ms).map(|ago| format!(", since {} UTC ({ago})", date(item.since_ms)));
        self.line("state", &format!("{}{}", item.state, since.unwrap_or_default()));
        self.line("belongs to", if item.parent.is_empty() { "nothing: it is the whole" } else { &item.parent });
        let lag = self.now_ms.saturating_sub(item.as_of_ms);
        let lag = if lag >= 1000 { format!(" ({} before the rest of the answer)", span(lag)) } else { String::new() };
        self.line("true as of", &format!("{} UTC{lag}", date(item.as_of_ms)));
    }

    /// All properties but these, whatever the kind: a field that is new in the read model is shown without a word here.
    fn properties(&mut self, properties: &Properties, but: &[&str]) {
        let json = serde_json::to_value(properties).unwrap_or_default();
        let mut fields: Vec<(&String, &Value)> = json["properties"].as_object().into_iter().flatten().collect();
        fields.retain(|(name, _)| !but.contains(&name.as_str()));
        fields.sort_by_key(|(name, _)| *name);
        if fields.is_empty() {
            return;
        }
        self.title("properties");
        for (name, json) in fields {
            let label = ["_bytes", "_ms", "_s"].iter().find_map(|unit| name.strip_suffix(unit)).filter(|label| !label.ends_with("per"));
            self.within(&label.unwrap_or(name).replace('_', " "), &value(name, json, self.now_ms));
        }
    }

    fn actor(&mut self, actor: &ActorView) {
        self.title("mailbox");
        self.within("waiting", &format!("{} of {} messages, at most {} so far", actor.depth, actor.capacity, actor.high_water));
        self.within("oldest", &actor.oldest_ms.map_or_else(|| "no message waits".into(), |ms| format!("waits for {}", span(ms))));
        self.within("handled", &format!("{} messages", actor.handled));
        self.title("handler");
        let since = actor.handler_ms.map(|ms| format!(", at it for {}", span(ms))).unwrap_or_default();
        self.within("at work", &actor.handler.as_ref().map_or_else(|| "none".into(), |handler| format!("{handler}{since}")));
        self.within("restarts", &actor.restarts.to_string());
        self.within("actor kind", &actor.actor_kind);
        self.title("last error");
        match &actor.error {
            None => self.within("none", ""),
            Some(error) => {
                let at = |at_ms: u64| {
                    let ago = ago(at_ms, self.now_ms).map(|ago| format!(" ({ago})")).unwrap_or_default();
                    format!("{} UTC{ago}", date(at_ms))
                };
                let (failed, mended) = (at(error.at_ms), error.mended_ms.map(at));
                self.within("at", &failed);
                if let Some(mended) = mended {
                    self.within("mended", &format!("{mended}: it succeeded at the same again"));
                }
                self.within("message", &error.message);
                self.within("root cause", &error.root_cause);
                self.within("which lies at", if error.root.is_empty() { "-" } else { &error.root });
                let passed_on = "yes: it happened elsewhere and was only passed on, so look there";
                self.within("propagated", if error.is_propagated { passed_on } else { "no: it happened here" });
            }
        }
        self.title("recent, oldest first");
        if actor.recent.is_empty() {
            self.within("nothing", "");
        }
        for done in &actor.recent {
            self.within(&clock(done.at_ms), &done.what);
        }
    }

    fn rank(&mut self, view: &View, item: &Item, rank: &RankView) {
        self.title("phases of a step");
        self.bars(&rank.phases);
        self.table(view, "lanes", Kind::Lane, |one| matches!(&one.properties, Properties::Lane(lane) if lane.rank == item.reference));
        self.table(
            view,
            "shards that it owns",
            Kind::Shard,
            |one| matches!(&one.properties, Properties::Shard(shard) if shard.owner == item.reference),
        );
    }

    /// Lengths of time as bars, the longest as long as may be.
    fn bars(&mut self, phases: &BTreeMap<String, f64>) {
        let longest = phases.values().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let total: f64 = phases.values().filter(|value| value.is_finite()).sum();
        if longest <= 0.0 {
            self.within("not known yet", "");
            return;
        }
        for (name, length) in phases {
            let share = (length / longest).clamp(0.0, 1.0);
            let bar = "█".repeat((share * BAR).round() as usize);
            self.within(name, &format!("{:<9} {:>3.0} %  {bar}", seconds(*length), 100.0 * length / total));
        }
    }

    fn node(&mut self, view: &View, item: &Item, node: &NodeView) {
        if let Some(rank) = node.rank {
            self.table(view, "rank", Kind::Rank, |one| one.reference == format!("rank/{rank}"));
        }
        for (title, kind) in [("actors", Kind::Actor), ("links", Kind::Link)] {
            self.table(view, title, kind, |one| one.parent == item.reference);
        }
    }

    /// What belongs to an item, counted by kind and state.
    fn children(&mut self, view: &View, item: &Item) {
        let mut counts: BTreeMap<Kind, BTreeMap<&str, usize>> = BTreeMap::new();
        for child in view.items.iter().filter(|child| child.parent == item.reference || item.children.contains(&child.reference)) {
            *counts.entry(child.kind()).or_default().entry(&child.state).or_default() += 1;
        }
        if counts.is_empty() {
            return;
        }
        self.title("what belongs to it");
        for (kind, states) in counts {
            let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
            self.within(plural(kind), &states.join(", "));
        }
    }

    fn table<'a>(&mut self, view: &'a View, title: &str, kind: Kind, belongs: impl Fn(&'a Item) -> bool) {
        let all: Vec<&Item> = view.items.iter().filter(|item| item.kind() == kind && belongs(item)).collect();
        if all.is_empty() {
            return;
        }
        self.title(title);
        self.out += &table(all.iter().take(ROWS_MAX).copied(), kind, self.now_ms, Some(WIDTH));
        if all.len() > ROWS_MAX {
            let _ = writeln!(self.out, "and {} more: `everstep get {}`", all.len() - ROWS_MAX, plural(kind));
        }
    }

    /// The last events that a node recorded or that name it.
    fn events(&mut self, view: &View, node: &str) {
        let about = |event: &EventView| event.recorded_by == node || !node.is_empty() && event.text.contains(bare(node));
        let of_node = |item: &&Item| matches!(&item.properties, Properties::Event(event) if about(event));
        let mut events: Vec<&Item> = view.items.iter().filter(of_node).collect();
        events.sort_by_key(|item| item.since_ms);
        let last = &events[events.len().saturating_sub(EVENTS_MAX)..];
        if !last.is_empty() {
            self.title("last events");
            self.out += &table(last.iter().copied(), Kind::Event, self.now_ms, Some(WIDTH));
        }
    }
}

#[cfg(test)]
mod tests;
