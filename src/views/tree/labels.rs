//! One line of a tree about one item.

use everstep_actors::desk::view::{Item, Properties};

use crate::report::bytes;
use crate::views::human::{bare, brief};

/// Name, state, and the little more that is worth a line.
pub(super) fn label(item: &Item) -> String {
    let (name, more) = match &item.properties {
        Properties::Run(run) => {
            let leader = if run.leader.is_empty() { "nobody" } else { bare(&run.leader) };
            (format!("run {}", run.name), format!("step {} of {}, epoch {} led by {leader}", run.step, run.steps, run.epoch))
        }
        Properties::Node(node) => {
            let leads = if node.leads { ", leads" } else { "" };
            (item.reference.clone(), format!("on {}{leads}", node.host))
        }
        Properties::Rank(rank) => {
            let lanes = format!("lanes {}..{}", rank.lanes.0, rank.lanes.1);
            (item.reference.clone(), format!("phase {}, step {}, {lanes}", rank.phase, rank.step))
        }
        Properties::Actor(actor) => {
            let since = actor.handler_ms.map(|ms| format!(" for {}", brief(ms))).unwrap_or_default();
            let handler = actor.handler.as_ref().map(|handler| format!("{handler}{since}"));
            let waiting = (actor.depth > 0).then(|| format!("{} of {} wait", actor.depth, actor.capacity));
            let error = actor.trouble().map(|error| format!("last error: {}", error.message));
            (format!("actor {}", actor.name), [handler, waiting, error].into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        Properties::Lane(lane) => (item.reference.clone(), format!("step {}", lane.step)),
        Properties::Shard(shard) => (item.reference.clone(), format!("step {}, {}", shard.step, bytes(shard.bytes))),
        Properties::Checkpoint(checkpoint) => (item.reference.clone(), bytes(checkpoint.bytes)),
        Properties::Event(event) => (item.reference.clone(), event.text.clone()),
        Properties::Link(link) => {
            (format!("link to {}", bare(&link.to)), format!("heard {} ago, {:.1} ms", brief(link.heard_age_ms), link.rtt_ms))
        }
    };
    let more = if more.is_empty() { more } else { format!(": {more}") };
    format!("{name}  {}{more}", item.state)
}
