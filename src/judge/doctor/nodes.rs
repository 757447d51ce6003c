//! Lints of nodes and the connections between them.

use everstep_actors::desk::view::{LinkView, NodeView, Properties, Scope};

use super::{Case, Seen, ms};
use crate::judge::why::{LOSSY, loss};

const SILENT_MS: u64 = 5_000;
const LOST_PACKETS: u64 = 100;
const SKEW_MS: u64 = 30_000;
const EXPIRES_MS: u64 = 4 * 3_600_000;

pub(super) fn leader_silent(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.going()?;
    let leader = if run.leader.is_empty() { "run" } else { run.leader.as_str() };
    let says = match (case.view.scope, case.view.item(leader)) {
        (Scope::Store, _) => "no node answers: this is what the store remembers".to_owned(),
        (Scope::Node, _) => format!("the leader does not answer: {} answered for itself", case.view.answered_by),
        (Scope::Run, _) if run.leader.is_empty() => "nobody leads".to_owned(),
        (Scope::Run, Some(item)) if item.state == "silent" || item.state == "ended" => format!("it leads, and is {}", item.state),
        (Scope::Run, _) => return Ok(Vec::new()),
    };
    Ok(vec![(leader.to_owned(), says)])
}

pub(super) fn member_silent(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    case.going()?;
    let silent = |node: &NodeView, state: &str| state == "silent" || node.heard_age_ms >= SILENT_MS && state != "ended";
    let nodes = case.live(node)?;
    let seen = nodes.iter().filter(|(item, node)| silent(node, &item.state));
    Ok(seen
        .map(|(item, node)| (item.reference.clone(), format!("{} ({}), last heard {} ago", item.state, node.host, ms(node.heard_age_ms))))
        .collect())
}

pub(super) fn certificate(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let known: Vec<_> = case.live(node)?.into_iter().filter_map(|(item, node)| Some((item, node.certificate_until_ms?))).collect();
    if known.is_empty() {
        return Err("no node says when its certificate ends");
    }
    let seen = known.iter().filter(|(_, until)| *until < case.now_ms.saturating_add(EXPIRES_MS)).map(|(item, until)| {
        let says = until
            .checked_sub(case.now_ms)
            .map_or_else(|| "its certificate has ended".to_owned(), |left| format!("its certificate ends in {}", ms(left)));
        (item.reference.clone(), says)
    });
    Ok(seen.collect())
}

pub(super) fn clock_skew(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    if case.view.scope == Scope::Store {
        return Err("no node answers, and the store has no clock");
    }
    let nodes = case.live(node)?;
    let now = case.now_ms;
    let off = |at_ms: u64| (at_ms.abs_diff(now) > SKEW_MS).then(|| (if at_ms > now { "ahead" } else { "behind" }, ms(at_ms.abs_diff(now))));
    let seen = nodes.iter().filter(|(item, _)| item.state != "silent" && item.state != "ended").filter_map(|(item, _)| {
        let (way, by) = off(item.as_of_ms)?;
        Some((item.reference.clone(), format!("its clock is {by} {way}")))
    });
    Ok(seen.collect())
}

pub(super) fn link_lossy(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let links = case.live(link)?;
    let seen = links.iter().filter(|(_, link)| link.lost_packets >= LOST_PACKETS && loss(link) >= LOSSY);
    Ok(seen
        .map(|(item, link)| {
            (item.reference.clone(), format!("{:.1} % of its packets are lost, {} so far", 100.0 * loss(link), link.lost_packets))
        })
        .collect())
}

pub(super) fn link_quiet(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    case.going()?;
    let quiet =
        |link: &LinkView, state: &str| state == "quiet" || link.patience_ms > 0 && link.heard_age_ms.saturating_mul(2) >= link.patience_ms;
    let links = case.live(link)?;
    let seen = links.iter().filter(|(item, link)| quiet(link, &item.state));
    let says = |link: &LinkView| format!("nothing heard for {}, given up after {}", ms(link.heard_age_ms), ms(link.patience_ms));
    Ok(seen.map(|(item, link)| (item.reference.clone(), says(link))).collect())
}

pub(super) fn incomplete(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    Ok(case.view.missing.iter().map(|missing| ("run".to_owned(), missing.clone())).collect())
}

fn node(properties: &Properties) -> Option<&NodeView> {
    if let Properties::Node(node) = properties { Some(node) } else { None }
}

fn link(properties: &Properties) -> Option<&LinkView> {
    if let Properties::Link(link) = properties { Some(link) } else { None }
}
