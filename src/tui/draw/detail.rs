//! One thing in full, whatever it is.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{ActorView, Item, NodeView, Properties, RankView};
use ratatui::text::{Line, Span};

use super::{moment, pair};
use crate::report::{bytes, duration, tame};
use crate::tui::app::App;
use crate::tui::theme::Theme;
use crate::views::human::span;

/// Its lines, the most telling first, since a small screen cuts the last.
pub(super) fn lines(item: &Item, app: &App, theme: Theme) -> Vec<Line<'static>> {
    let age = |at_ms: u64| duration(item.as_of_ms.saturating_sub(at_ms) as f64 / 1e3);
    let since = if item.since_ms == 0 { String::new() } else { format!(" for {}", age(item.since_ms)) };
    let state = Line::from(vec![
        Span::styled(format!("{:<11} ", "state"), theme.quiet()),
        Span::styled(tame(&item.state), theme.state(&item.state)),
        Span::raw(since),
    ]);
    let mut lines = vec![state];
    let mut add = |name: &str, value: String| lines.push(pair(name, tame(&value), theme));
    match &item.properties {
        Properties::Run(run) => {
            run.waiting.iter().for_each(|waiting| add("waits", waiting.clone()));
            add("epoch", format!("{} for {}: {}", run.epoch, age(run.epoch_since_ms), run.epoch_because));
            add("leader", run.leader.clone());
            add("step", format!("{} of {}, {} ago", run.step, run.steps, span(run.progress_age_ms)));
            add("ranks", format!("{} with {} lanes", run.ranks, run.lanes));
            add("metrics", run.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  "));
            add("ledger", format!("durable to step {}", run.ledger));
            add("moved", format!("{} when the epoch began", bytes(run.moved_bytes)));
        }
        Properties::Node(node) => node_lines(node, &age, &mut add),
        Properties::Rank(rank) => rank_lines(rank, app, &mut add),
        Properties::Actor(actor) => actor_lines(actor, &age, &mut add),
        Properties::Lane(lane) => {
            add("doing", lane.doing.clone());
            add("rank", lane.rank.clone());
            add("step", format!("{}, the last one {:.3} s of which {:.3} s waiting", lane.step, lane.busy_s, lane.wait_s));
        }
        Properties::Shard(shard) => {
            add("unit", format!("{}, {} values, {}", shard.unit, shard.values, bytes(shard.bytes)));
            add("owner", shard.owner.clone());
            add("copies", format!("{}, {} steps behind", shard.copies.join(" "), shard.lag));
            add("step", shard.step.to_string());
        }
        Properties::Checkpoint(checkpoint) => {
            add("step", checkpoint.step.to_string());
            add("size", format!("{} in {} parts", bytes(checkpoint.bytes), checkpoint.parts));
            add("manifest", checkpoint.manifest.clone());
            checkpoint.seconds.iter().for_each(|seconds| add("took", duration(*seconds)));
            checkpoint.stall_ms.iter().for_each(|stall| add("held up", format!("{stall:.1} ms")));
        }
        Properties::Event(event) => {
            add("when", moment(event.at_ms));
            add("what", event.text.clone());
            add("told by", event.recorded_by.clone());
        }
        Properties::Link(link) => {
            add("to", link.to.clone());
            add("round trip", format!("{:.2} ms", link.rtt_ms));
            add("heard", format!("{} ago, given up after {}", span(link.heard_age_ms), span(link.patience_ms)));
            add("bytes", format!("{} out, {} in, {} packets lost", bytes(link.sent_bytes), bytes(link.received_bytes), link.lost_packets));
            add("queues", format!("{} control, {} data", link.control_waiting, link.data_waiting));
        }
    }
    lines
}

fn node_lines(node: &NodeView, age: &dyn Fn(u64) -> String, add: &mut dyn FnMut(&str, String)) {
    node.draining.iter().for_each(|because| add("leaves", because.clone()));
    let rank = node.rank.map_or_else(|| "no rank".to_owned(), |rank| format!("rank {rank}"));
    add("place", format!("{rank}{}", if node.leads { ", leads the run" } else { "" }));
    let zone = if node.zone.is_empty() { String::new() } else { format!(" in {}", node.zone) };
    add("host", format!("{}{zone}, process {}, {}", node.host, node.pid, node.address));
    add("heard", format!("{} ago", span(node.heard_age_ms)));
    add("uses", format!("{}, {} files, {} of CPU", bytes(node.resident_bytes), node.open_files, duration(node.cpu_s)));
    add("started", format!("{} ago, build {}", age(node.started_ms), node.build));
    node.certificate_until_ms.iter().for_each(|until| add("certificate", format!("to {} UTC", moment(*until))));
    add("id", node.id.clone());
}

fn rank_lines(rank: &RankView, app: &App, add: &mut dyn FnMut(&str, String)) {
    add("phase", format!("{} of step {}", rank.phase, rank.step));
    let node = app.sight.node(&rank.node);
    let host = node.map(|(item, node)| format!(" on {} ({}), process {}", node.host, item.state, node.pid)).unwrap_or_default();
    add("node", format!("{}{host}", rank.node));
    let phases: Vec<String> = rank.phases.iter().map(|(name, seconds)| format!("{name} {seconds:.3}")).collect();
    add("pace", format!("{:.2} times the median; seconds: {}", rank.pace, phases.join("  ")));
    let lanes = app.sight.items().filter_map(|item| match &item.properties {
        Properties::Lane(lane) if lane.rank == format!("rank/{}", rank.rank) => Some((lane.lane, lane.doing.as_str())),
        _ => None,
    });
    let lanes: BTreeMap<u32, &str> = lanes.collect();
    let doing: Vec<String> = lanes.iter().take(8).map(|(lane, doing)| format!("{lane} {doing}")).collect();
    add("lanes", format!("{} to {}  {}", rank.lanes.0, rank.lanes.1.saturating_sub(1), doing.join(", ")));
    add("shards", format!("owns {} of {}, keeps copies of {}", rank.owns, bytes(rank.owned_bytes), bytes(rank.copies_bytes)));
}

fn actor_lines(actor: &ActorView, age: &dyn Fn(u64) -> String, add: &mut dyn FnMut(&str, String)) {
    match (&actor.handler, actor.handler_ms) {
        (Some(handler), Some(ms)) => add("handler", format!("{handler} for {}", span(ms))),
        (Some(handler), None) => add("handler", handler.clone()),
        (None, _) => add("handler", "none at work".into()),
    }
    let oldest = actor.oldest_ms.map(|ms| format!(", the oldest for {}", span(ms))).unwrap_or_default();
    add("mailbox", format!("{} of {} wait{oldest}; at most {} ever", actor.depth, actor.capacity, actor.high_water));
    if let Some(error) = &actor.error {
        add("failed", format!("{} ago: {}", age(error.at_ms), error.message));
        if let Some(at_ms) = error.mended_ms {
            add("mended", format!("{} ago", age(at_ms)));
        }
        let passed = if error.is_propagated { "it only passes on: " } else { "" };
        add("root cause", format!("{passed}{} (at {})", error.root_cause, error.root));
    }
    add("actor", format!("{} on {}, {} handled, {} restarts", actor.actor_kind, actor.node, actor.handled, actor.restarts));
    for (number, recent) in actor.recent.iter().rev().enumerate() {
        add(if number == 0 { "recent" } else { "" }, format!("{} {}", moment(recent.at_ms), recent.what));
    }
}
