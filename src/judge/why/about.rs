//! Why one thing is as it is.

use everstep_actors::desk::view::{Item, Properties, View};

use super::slow::breakdown;
use super::{Chain, Walk, ms};

pub(super) fn chain(view: &View, reference: &str) -> Chain {
    let mut walk = Walk::new(view);
    let Some(item) = view.item(reference) else { return walk.done(reference, format!("{reference} is not in the answer")) };
    match &item.properties {
        Properties::Run(_) if super::waits(view) => return Chain { about: reference.to_owned(), ..super::waiting(view) },
        Properties::Run(_) => return Chain { about: reference.to_owned(), ..super::slow(view) },
        Properties::Node(node) => walk.blame_node(reference, node.rank),
        Properties::Rank(rank) => {
            let says = format!("{} in {} of step {}, a step takes {}", item.state, rank.phase, rank.step, breakdown(rank.phases.iter()));
            walk.blame_rank(item, rank, &says);
        }
        Properties::Actor(actor) => {
            let stands_out = walk.worst_actor(|other| other.node == actor.node && other.name == actor.name).is_some();
            walk.blame_actor(item, actor);
            if !stands_out {
                (walk.at_fault, walk.remedy) = (None, None);
            }
        }
        Properties::Lane(lane) => {
            let says = format!(
                "{} in step {}; its last one took {:.2} s, {:.2} s of it waiting for others",
                lane.doing, lane.step, lane.busy_s, lane.wait_s
            );
            walk.to(reference, says);
            to_rank(&mut walk, &lane.rank);
        }
        Properties::Shard(shard) => {
            let copies = if shard.copies.is_empty() { "nobody".to_owned() } else { shard.copies.join(", ") };
            walk.to(
                reference,
                format!("{}: owned by {}, copied by {copies}, the oldest copy {} steps behind", item.state, shard.owner, shard.lag),
            );
            // What is whole has nobody to blame.
            if item.state != "held" {
                to_rank(&mut walk, shard.copies.first().unwrap_or(&shard.owner));
                walk.remedy
                    .get_or_insert_with(|| "the next epoch makes new copies; until then the newest checkpoint is what holds".to_owned());
            }
        }
        Properties::Checkpoint(checkpoint) => {
            walk.to(reference, format!("{}: {} parts, manifest at {}", item.state, checkpoint.parts, checkpoint.manifest));
            match item.state.as_str() {
                "damaged" => walk.fault(reference, format!("`everstep checkpoint verify` names its parts; a start takes an older intact one, see `everstep get checkpoints` (step {})", checkpoint.step)),
                "incomplete" => walk.fault(reference, "its writing was cut off; it is never used, and later ones replace it"),
                _ => {}
            }
        }
        Properties::Event(event) => {
            walk.to(reference, event.text.clone());
            if event.severity != "info" {
                walk.blame_node(&event.recorded_by, None);
            }
        }
        Properties::Link(link) => {
            let quiet = walk.quietest(|other| other.from == link.from && other.to == link.to).is_some();
            walk.blame_link(item, link);
            if !quiet {
                (walk.at_fault, walk.remedy) = (None, None);
            }
        }
    }
    let answer = answer(item, walk.at_fault.as_deref());
    walk.done(reference, answer)
}

fn to_rank(walk: &mut Walk<'_>, reference: &str) {
    match walk.item(reference).map(|item| (item, &item.properties)) {
        Some((item, Properties::Rank(rank))) => {
            walk.blame_rank(item, rank, &format!("{} in {} of step {}", item.state, rank.phase, rank.step))
        }
        _ => drop(walk.to(reference, "is not in the answer")),
    }
}

fn answer(item: &Item, fault: Option<&str>) -> String {
    let since =
        item.as_of_ms.checked_sub(item.since_ms).filter(|_| item.since_ms > 0).map(|age| format!(" for {}", ms(age))).unwrap_or_default();
    match fault {
        Some(fault) if fault != item.reference => format!("{} is {}{since}: {fault} is at fault", item.reference, item.state),
        Some(_) => format!("{} is {}{since}, and the fault lies there", item.reference, item.state),
        None => format!("{} is {}{since}: nothing about it is at fault", item.reference, item.state),
    }
}
