//! Which numbers there are and where they come from.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{ActorView, LinkView, NodeView, Properties, RunView, View};
use everstep_actors::event::{Event, MemberInfo, Recorded};

use super::Type::{Counter, Gauge, Histogram};
use super::{Text, number};
use crate::report::names;

/// States of nodes; any other word counts as `other`, so that the label stays bounded.
const STATES: [&str; 7] = ["in", "joining", "waiting", "draining", "standing by", "silent", "ended"];

/// Kinds of actors that are told apart at most; the rest are `other`.
const ACTOR_KINDS: usize = 32;

/// The program that answers.
pub(super) fn build(text: &mut Text, view: &View) {
    text.head("build_info", Gauge, "The program that answers; always 1.");
    let schema = view.schema_version.to_string();
    text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION")), ("schema_version", &schema)], 1.0);
}

/// The run itself.
pub(super) fn run(text: &mut Text, run: &RunView) {
    text.one("step", Gauge, "Steps committed.", run.step as f64);
    text.one("steps", Gauge, "Steps of the whole run.", run.steps as f64);
    text.one("epoch", Gauge, "The current membership epoch.", run.epoch as f64);
    text.one("ranks", Gauge, "Ranks that compute.", f64::from(run.ranks));
    text.one("paused", Gauge, "1 if an operator paused the run.", f64::from(u8::from(run.paused)));
    text.one("waiting", Gauge, "1 while nothing is computed.", f64::from(u8::from(run.waiting.is_some())));
    text.one("samples_total", Counter, "Samples of the steps that the answering node saw committed.", run.samples as f64);
    text.one("progress_age_seconds", Gauge, "Seconds since the last step was committed.", seconds(run.progress_age_ms));
    text.one("images_per_second", Gauge, "Images a second, mean of the last 20 steps.", run.images_per_s);
    if let Some(loss) = run.metrics.get(names::LOSS) {
        text.one("loss", Gauge, "Loss of the last step, nats.", *loss);
    }
    text.one("ledger_step", Gauge, "Steps whose ledger lines are durable.", run.ledger as f64);
    text.by("phase_duration_seconds", Gauge, "Seconds of a step by phase, means over ranks.", "phase", &run.phases);
    histogram(text, &run.step_seconds);
}

fn histogram(text: &mut Text, buckets: &BTreeMap<String, f64>) {
    let parsed = buckets.iter().filter_map(|(bound, count)| Some((bound.parse::<f64>().ok().filter(|b| !b.is_nan())?, *count)));
    let mut bounds: Vec<(f64, f64)> = parsed.collect();
    bounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let Some(&(last, count)) = bounds.last().filter(|(bound, _)| *bound == f64::INFINITY) else { return };
    debug_assert!(last.is_infinite());
    text.head("step_duration_seconds", Histogram, "Seconds from one commit to the next.");
    for (bound, count) in bounds {
        text.sample("step_duration_seconds_bucket", &[("le", &number(bound))], count);
    }
    text.sample("step_duration_seconds_sum", &[], buckets.get("sum").copied().unwrap_or_default());
    text.sample("step_duration_seconds_count", &[], count);
}

/// Nodes: how many in which state, and what they use.
pub(super) fn members(text: &mut Text, view: &View) {
    let mut states: BTreeMap<String, f64> = STATES.iter().map(|state| ((*state).to_owned(), 0.0)).collect();
    let mut nodes: Vec<&NodeView> = Vec::new();
    for item in &view.items {
        if let Properties::Node(node) = &item.properties {
            let state = if STATES.contains(&item.state.as_str()) { item.state.as_str() } else { "other" };
            *states.entry(state.to_owned()).or_default() += 1.0;
            nodes.push(node);
        }
    }
    text.by("members", Gauge, "Nodes by what they do.", "state", &states);
    if nodes.is_empty() {
        return;
    }
    let resident = nodes.iter().map(|node| node.resident_bytes as f64).sum();
    text.one("resident_bytes", Gauge, "Resident memory of all nodes.", resident);
    let files = nodes.iter().map(|node| node.open_files).max().unwrap_or_default();
    text.one("open_files", Gauge, "Open files and sockets of the node that has the most.", f64::from(files));
    text.one("cpu_seconds_total", Counter, "CPU time of the nodes that are there.", nodes.iter().map(|node| node.cpu_s).sum());
}

/// Actors by their kinds.
pub(super) fn actors(text: &mut Text, view: &View) {
    let mut kinds: BTreeMap<String, Vec<&ActorView>> = BTreeMap::new();
    for item in &view.items {
        if let Properties::Actor(actor) = &item.properties {
            let known = kinds.len() < ACTOR_KINDS || kinds.contains_key(&actor.actor_kind);
            kinds.entry(if known { actor.actor_kind.clone() } else { "other".into() }).or_default().push(actor);
        }
    }
    let by = |value: &dyn Fn(&[&ActorView]) -> f64| kinds.iter().map(|(kind, all)| (kind.clone(), value(all))).collect::<BTreeMap<_, _>>();
    let depth = by(&|all| all.iter().map(|actor| actor.depth).max().unwrap_or_default() as f64);
    text.by("mailbox_depth", Gauge, "Messages that wait in the fullest mailbox.", "actor_kind", &depth);
    let oldest = by(&|all| all.iter().filter_map(|actor| actor.oldest_ms).max().map_or(0.0, seconds));
    let help = "Age of the oldest message that waits.";
    text.by("mailbox_oldest_message_seconds", Gauge, help, "actor_kind", &oldest);
    let restarts = by(&|all| all.iter().map(|actor| f64::from(actor.restarts)).sum());
    text.by("actor_restarts_total", Counter, "How often actors were started anew.", "actor_kind", &restarts);
    let failures = by(&|all| all.iter().filter(|actor| actor.trouble().is_some()).count() as f64);
    text.by("actor_failures", Gauge, "Actors whose last failure was not made good.", "actor_kind", &failures);
}

/// Connections.
pub(super) fn links(text: &mut Text, view: &View) {
    let links = view.items.iter().filter_map(|item| match &item.properties {
        Properties::Link(link) => Some(link),
        _ => None,
    });
    let links: Vec<&LinkView> = links.collect();
    if links.is_empty() {
        return;
    }
    let longest = links.iter().map(|link| link.rtt_ms).fold(0.0, f64::max);
    text.one("quic_rtt_seconds", Gauge, "The longest round-trip time of a link.", longest / 1000.0);
    let lost = links.iter().map(|link| link.lost_packets as f64).sum();
    text.one("quic_lost_packets_total", Counter, "Packets lost on the links that are there.", lost);
    let sum = |bytes: fn(&LinkView) -> u64| links.iter().map(|link| bytes(link) as f64).sum::<f64>();
    let bytes = BTreeMap::from([("sent".to_owned(), sum(|l| l.sent_bytes)), ("received".to_owned(), sum(|l| l.received_bytes))]);
    text.by("quic_bytes_total", Counter, "Bytes over the links that are there.", "direction", &bytes);
}

/// Checkpoints.
pub(super) fn checkpoints(text: &mut Text, view: &View, events: &[Recorded]) {
    let listed = view.items.iter().filter_map(|item| match &item.properties {
        Properties::Checkpoint(checkpoint) if item.state == "intact" => Some((checkpoint.step, item.since_ms)),
        _ => None,
    });
    let saved = events.iter().filter_map(|recorded| match &recorded.event {
        Event::CheckpointSaved { step, .. } => Some((step.0, recorded.at_ms)),
        _ => None,
    });
    let newest = listed.chain(saved).max();
    let step = newest.map(|(step, _)| step).max(view.run().and_then(|run| run.checkpoint));
    if let Some(step) = step {
        text.one("checkpoint_step", Gauge, "Steps committed in the newest checkpoint.", step as f64);
    }
    if let Some((_, at_ms)) = newest.filter(|(_, at_ms)| *at_ms > 0) {
        let help = "Seconds since the newest checkpoint was complete.";
        text.one("checkpoint_age_seconds", Gauge, help, seconds(view.as_of_ms.saturating_sub(at_ms)));
    }
}

/// What is counted from the events that the store keeps.
pub(super) fn history(text: &mut Text, events: &[Recorded]) {
    let mut reasons: BTreeMap<String, f64> = BTreeMap::new();
    let (mut failed, mut skipped, mut replaced, mut lost) = (0.0, 0.0, 0.0, 0.0);
    let mut members: Option<&[MemberInfo]> = None;
    for Recorded { event, .. } in events {
        match event {
            Event::CheckpointFailed { .. } => failed += 1.0,
            Event::StepSkipped { .. } => skipped += 1.0,
            Event::SampleReplaced { .. } => replaced += 1.0,
            Event::NodeLost { .. } => lost += 1.0,
            Event::EpochBegan { members: new, .. } => {
                *reasons.entry(reason(members, new).to_owned()).or_default() += 1.0;
                members = Some(new);
            }
            _ => {}
        }
    }
    text.by("reconfigurations_total", Counter, "Epochs that began, by what changed.", "reason", &reasons);
    text.one("checkpoint_failures_total", Counter, "Checkpoints that failed.", failed);
    text.one("skipped_steps_total", Counter, "Steps that changed no weights, for numbers that were not finite.", skipped);
    text.one("replaced_samples_total", Counter, "Samples that cannot be decoded.", replaced);
    text.one("lost_nodes_total", Counter, "Nodes that were lost, as recorded.", lost);
}

/// One of five words for why an epoch began.
fn reason(before: Option<&[MemberInfo]>, now: &[MemberInfo]) -> &'static str {
    let Some(before) = before else { return "start" };
    let left = before.iter().any(|old| now.iter().all(|new| new.node != old.node));
    let came = now.iter().any(|new| before.iter().all(|old| old.node != new.node));
    match (left, came) {
        (true, false) => "left",
        (false, true) => "joined",
        (true, true) => "changed",
        (false, false) => "again",
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
