//! Why the run is slow: one rank that computes longer than the others, images that come late, a link that holds all up.

use everstep_actors::desk::view::{Item, LinkView, Properties, RankView, View};

use super::blame::actor_says;
use super::{Chain, Walk};
use crate::report::bytes;

/// A rank that computes so many times as long for one lane as the median is slow.
pub(crate) const SLOW: f64 = 1.3;
/// A share of the step that is spent on images beyond which they are the bottleneck.
pub(crate) const DATA_SHARE: f64 = 0.3;
/// A share of the step that is spent between ranks beyond which the network is the bottleneck.
pub(crate) const EXCHANGE_SHARE: f64 = 0.5;
/// Packets lost of those sent beyond which a link is lossy; a packet carries about 1200 bytes.
pub(crate) const LOSSY: f64 = 0.01;

const PACKET_BYTES: f64 = 1200.0;
/// Slow ranks that are told one by one.
const RANKS_MAX: usize = 3;

pub(super) fn chain(view: &View) -> Chain {
    let mut walk = Walk::new(view);
    let Some(run) = view.run() else { return walk.done("slow", "nobody knows of the run: no node answers and the store shows nothing") };
    let ranks: Vec<(&Item, &RankView)> = ranks(view).collect();
    let total: f64 = phases(run.phases.iter()).map(|(_, s)| s).sum();
    if total <= 0.0 && ranks.is_empty() {
        walk.to("run", "no phases of steps are known yet");
        return walk.done("slow", "nothing can be said yet: no step was committed lately");
    }
    walk.to("run", format!("{:.1} images/s, a step takes {}", run.images_per_s, breakdown(run.phases.iter())));
    let slow = slow_ranks(view);
    if let [(item, rank, times), ..] = slow[..] {
        for (item, rank, times) in slow.iter().take(RANKS_MAX) {
            walk.to(&item.reference, computes(rank, *times));
        }
        let host = walk.node(&rank.node).map_or("its host", |(_, node)| node.host.as_str());
        if let Some((_, of_node)) = walk.node(&rank.node) {
            walk.to(
                &rank.node,
                format!(
                    "{}, process {}, {} of memory, {:.0} s of CPU time",
                    of_node.host,
                    of_node.pid,
                    bytes(of_node.resident_bytes),
                    of_node.cpu_s
                ),
            );
        }
        let remedy =
            format!("see what else runs on {host}, and its clock rates; `everstep drain {}` lets the others go on without it", rank.node);
        walk.fault(&rank.node, remedy);
        let more = if slow.len() > 1 { format!(", and {} more", slow.len() - 1) } else { String::new() };
        return walk.done(
            "slow",
            format!("{} on {host} is slow: it computes {times:.1} × as long for a lane as the median{more}", item.reference),
        );
    }
    let share = |phase: &str| run.phases.get(phase).filter(|s| s.is_finite()).map_or(0.0, |s| if total > 0.0 { s / total } else { 0.0 });
    if let Some((item, rank, seconds)) = data_bound(&ranks, share("data")) {
        walk.to(&item.reference, format!("waits {seconds:.2} s of each step for images"));
        let loader = view.items.iter().find_map(|item| match &item.properties {
            Properties::Actor(actor) if actor.node == rank.node && actor.actor_kind == "loader" => Some((item, actor)),
            _ => None,
        });
        let fault = loader.map_or(rank.node.as_str(), |(item, _)| item.reference.as_str());
        if let Some((item, actor)) = loader {
            walk.to(&item.reference, actor_says(actor, &item.state));
        }
        walk.fault(fault, "give the nodes more CPU cores or faster storage, set `data.cache`, or make the images smaller");
        return walk.done(
            "slow",
            format!("images come late: {:.0} % of a step is spent waiting for them, most at {}", 100.0 * share("data"), item.reference),
        );
    }
    if share("exchange") >= EXCHANGE_SHARE {
        if let Some((item, link)) = slowest_link(view) {
            walk.to(&item.reference, link_says(link));
            walk.fault(
                &item.reference,
                format!("see the network between {} and {}; nodes of one zone exchange faster", link.from, link.to),
            );
        } else {
            walk.remedy = Some("more lanes per rank (fewer ranks) or a faster network: see `everstep plan`".into());
        }
        return walk
            .done("slow", format!("the network is the bottleneck: {:.0} % of a step is spent between ranks", 100.0 * share("exchange")));
    }
    walk.done("slow", format!("nothing is unusual: all ranks keep pace, and a step takes {}", breakdown(run.phases.iter())))
}

/// The ranks of a view.
pub(crate) fn ranks(view: &View) -> impl Iterator<Item = (&Item, &RankView)> {
    view.items.iter().filter_map(|item| match &item.properties {
        Properties::Rank(rank) => Some((item, rank)),
        _ => None,
    })
}

/// Ranks that compute much longer for a lane than the median, and how many times as long; the slowest first.
pub(crate) fn slow_ranks(view: &View) -> Vec<(&Item, &RankView, f64)> {
    let per_lane = |rank: &RankView| {
        let lanes = f64::from(rank.lanes.1.saturating_sub(rank.lanes.0).max(1));
        rank.phases.get("compute").filter(|s| s.is_finite() && **s > 0.0).map(|s| s / lanes)
    };
    let mut all: Vec<f64> = ranks(view).filter_map(|(_, rank)| per_lane(rank)).collect();
    all.sort_by(f64::total_cmp);
    // The lower of two medians: of two ranks the slower one is slow.
    let median = all.len().checked_sub(1).map(|last| all[last / 2]);
    let times = |rank: &RankView| match (median, per_lane(rank)) {
        (Some(median), Some(own)) if all.len() >= 2 => own / median,
        _ => rank.pace,
    };
    let mut slow: Vec<_> = ranks(view).map(|(item, rank)| (item, rank, times(rank))).filter(|(_, _, times)| *times >= SLOW).collect();
    slow.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.1.rank.cmp(&b.1.rank)));
    slow
}

/// The rank that waits longest for images, if images hold the run up: on average, or one rank far more than the others.
fn data_bound<'a>(ranks: &[(&'a Item, &'a RankView)], share: f64) -> Option<(&'a Item, &'a RankView, f64)> {
    let data = |rank: &RankView| rank.phases.get("data").copied().filter(|s| s.is_finite()).unwrap_or(0.0);
    let (item, rank) = ranks.iter().max_by(|a, b| data(a.1).total_cmp(&data(b.1)))?;
    let step: f64 = phases(rank.phases.iter()).map(|(_, s)| s).sum();
    let seconds = data(rank);
    (seconds > 0.0 && (share >= DATA_SHARE || seconds >= DATA_SHARE * step)).then_some((item, rank, seconds))
}

/// The link with the most waiting, the most loss, the longest way: in this order.
fn slowest_link(view: &View) -> Option<(&Item, &LinkView)> {
    let links = view.items.iter().filter_map(|item| match &item.properties {
        Properties::Link(link) => Some((item, link)),
        _ => None,
    });
    let weight = |link: &LinkView| link.rtt_ms.max(0.0) * (1.0 + 50.0 * loss(link)) + link.data_waiting as f64;
    links.max_by(|a, b| weight(a.1).total_cmp(&weight(b.1)).then_with(|| b.0.reference.cmp(&a.0.reference)))
}

fn computes(rank: &RankView, times: f64) -> String {
    let seconds = rank.phases.get("compute").map(|s| format!(" ({s:.2} s for {} lanes)", rank.lanes.1.saturating_sub(rank.lanes.0)));
    format!("computes {times:.1} × as long for a lane as the median rank{}", seconds.unwrap_or_default())
}

/// The share of a link's packets that were lost.
pub(crate) fn loss(link: &LinkView) -> f64 {
    let sent = link.sent_bytes as f64 / PACKET_BYTES;
    if sent >= 1.0 { (link.lost_packets as f64 / sent).min(1.0) } else { 0.0 }
}

fn link_says(link: &LinkView) -> String {
    format!("{:.1} ms round trip, {:.1} % lost, {} frames wait to be sent", link.rtt_ms, 100.0 * loss(link), link.data_waiting)
}

fn phases<'a>(all: impl Iterator<Item = (&'a String, &'a f64)>) -> impl Iterator<Item = (&'a str, f64)> {
    all.filter(|(_, s)| s.is_finite() && **s > 0.0).map(|(name, s)| (name.as_str(), *s))
}

/// `0.78 s (compute 64 %, exchange 26 %, update 6 %)`, the three longest first.
pub(super) fn breakdown<'a>(all: impl Iterator<Item = (&'a String, &'a f64)>) -> String {
    let mut all: Vec<(&str, f64)> = phases(all).collect();
    let total: f64 = all.iter().map(|(_, s)| s).sum();
    if total <= 0.0 {
        return "an unknown time".into();
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let parts: Vec<String> = all.iter().take(3).map(|(name, s)| format!("{name} {:.0} %", 100.0 * s / total)).collect();
    format!("{total:.2} s ({})", parts.join(", "))
}
