//! What would happen if a node were drained: the plan that the leader would make, against the one that stands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::{Properties, View};
use everstep_actors::protocol::ids::{NodeId, Rank, ShardId, UnitId};
use everstep_actors::protocol::plan::{self, Site};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::protocol::shard::Shard;

use super::client::Desk;
use super::eye::Eye;
use crate::cli::{ExitCode, Failure};
use crate::report::bytes;

/// Moves that are shown one by one; the rest is counted.
const SHOWN: usize = 20;

/// Says what would move where if this node left.
///
/// # Errors
/// No live plan can be had, or the node has no rank.
pub(crate) async fn drain(desk: &Desk, record: &EpochRecord, node: NodeId) -> Result<String, Failure> {
    let question = Question { kinds: vec![Kind::Run, Kind::Rank, Kind::Shard, Kind::Node], ..Question::default() };
    let view = desk.look(&question).await?;
    let rank = record.rank_of(node).ok_or_else(|| {
        Failure::new(ExitCode::NotFound, format!("{} has no rank: it stands by, and nothing would move", record.name(node)))
    })?;
    forecast(&view, record, rank)
}

/// One shard as the view shows it.
struct Held {
    shard: Shard,
    ranks: Vec<Rank>,
    bytes: u64,
}

fn forecast(view: &View, record: &EpochRecord, leaves: Rank) -> Result<String, Failure> {
    let held: Vec<Held> = view.items.iter().filter_map(|item| held(&item.reference, &item.properties)).collect();
    if held.is_empty() {
        return Err(Failure::new(ExitCode::Unreachable, "no node tells where shards lie now: the run has to live for a dry run"));
    }
    let lanes = view.run().map_or(0, |run| run.lanes);
    let stay: Vec<Rank> = (0..record.members.len() as u32).map(Rank).filter(|rank| *rank != leaves).collect();
    if stay.is_empty() {
        return Ok("it is the only rank: the run would write a checkpoint and wait for others\n".into());
    }
    let sites: Vec<Site> = stay
        .iter()
        .filter_map(|rank| record.members.get(rank.0 as usize))
        .map(|member| Site { host: member.host.clone(), zone: member.zone.clone(), speed: 1 })
        .collect();
    let new_rank = |old: Rank| stay.iter().position(|rank| *rank == old).map(|rank| Rank(rank as u32));
    let at: BTreeMap<ShardId, Vec<Rank>> =
        held.iter().map(|held| (held.shard.id, held.ranks.iter().copied().filter_map(new_rank).collect())).collect();
    let shards: Vec<Shard> = held.iter().map(|held| held.shard.clone()).collect();
    let replicas = held.iter().map(|held| held.ranks.len().saturating_sub(1)).max().unwrap_or(0) as u32;
    let next = plan::plan(&sites, lanes, replicas, &shards, &at);
    let old_rank = |new: Rank| stay.get(new.0 as usize).map_or(0, |rank| rank.0);
    let mut moves = Vec::new();
    for (place, held) in next.places.iter().zip(&held) {
        for copy in place.copies().map(old_rank).filter(|copy| !held.ranks.contains(&Rank(*copy))) {
            let from = held.ranks.iter().find(|rank| **rank != leaves).unwrap_or(&leaves);
            moves.push((held.shard.id, from.0, copy, held.bytes));
        }
    }
    let total: u64 = moves.iter().map(|(.., size)| size).sum();
    let mut text = format!(
        "if {} left now: {} ranks would go on, {} in {} copies would move, between two steps; no step would be lost\n\n",
        record.members.get(leaves.0 as usize).map_or_else(String::new, |member| record.name(member.node)),
        stay.len(),
        bytes(total),
        moves.len(),
    );
    let _ = writeln!(text, "SHARD     FROM   TO     BYTES");
    for (shard, from, to, size) in moves.iter().take(SHOWN) {
        let _ = writeln!(text, "{:<9} {:<6} {:<6} {}", shard.to_string(), format!("r{from}"), format!("r{to}"), bytes(*size));
    }
    if moves.len() > SHOWN {
        let _ = writeln!(text, "… and {} more", moves.len() - SHOWN);
    }
    let _ = writeln!(text, "\nRANK   LANES NOW  LANES THEN");
    for (new, rank) in stay.iter().enumerate() {
        let now = view.items.iter().find_map(|item| match &item.properties {
            Properties::Rank(view) if view.rank == rank.0 => Some(view.lanes),
            _ => None,
        });
        let now = now.map_or_else(|| "?".to_owned(), |(start, end)| format!("{start}..{end}"));
        let (start, end) = next.lanes.get(new).copied().unwrap_or_default();
        let _ = writeln!(text, "{:<6} {now:<10} {start}..{end}", format!("r{}", rank.0));
    }
    Ok(text)
}

fn held(reference: &str, properties: &Properties) -> Option<Held> {
    let Properties::Shard(view) = properties else { return None };
    let mut parts = reference.strip_prefix("shard/")?.split('/').map(str::parse::<u32>);
    let (unit, index) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let rank = |reference: &String| reference.strip_prefix("rank/")?.parse().ok().map(Rank);
    let ranks = std::iter::once(&view.owner).chain(&view.copies).filter_map(rank).collect();
    let shard = Shard { id: ShardId { unit: UnitId(unit), index }, range: 0..usize::try_from(view.values).ok()? };
    Some(Held { shard, ranks, bytes: view.bytes })
}

#[cfg(test)]
mod tests {
    use everstep_actors::desk::view::{Item, RunView, SCHEMA_VERSION, Scope, ShardView};
    use everstep_actors::protocol::ids::Epoch;
    use everstep_actors::protocol::record::{Claim, Member};

    use super::*;

    fn item(reference: String, properties: Properties) -> Item {
        Item { reference, parent: "run".into(), children: Vec::new(), state: "held".into(), since_ms: 0, as_of_ms: 0, properties }
    }

    #[test]
    fn a_drain_moves_what_the_node_holds_and_nothing_else() {
        let members: Vec<Member> = (0..3).map(|n| Member::new(NodeId([n; 16]), "", &format!("host{n}"), u32::from(n))).collect();
        let record = EpochRecord {
            epoch: Epoch(1),
            nonce: String::new(),
            leader: members[0].node,
            claim: Claim::Fresh,
            members,
            others: Vec::new(),
            because: String::new(),
        };
        let mut items = vec![item("run".into(), Properties::Run(RunView { lanes: 6, ..RunView::default() }))];
        for unit in 0..3 {
            let (owner, copies) = (format!("rank/{unit}"), vec![format!("rank/{}", (unit + 1) % 3)]);
            let view = ShardView { values: 100, bytes: 1_200, owner, copies, ..ShardView::default() };
            items.push(item(format!("shard/{unit}/0"), Properties::Shard(view)));
        }
        let view = View {
            schema_version: SCHEMA_VERSION,
            answered_by: String::new(),
            scope: Scope::Run,
            as_of_ms: 0,
            missing: Vec::new(),
            matched: 4,
            items,
        };
        let text = forecast(&view, &record, Rank(2)).unwrap();
        // Ranks 0 and 1 both hold everything then: each lacks one of the three shards now.
        assert!(text.contains("2 ranks would go on") && text.contains("in 2 copies would move"), "{text}");
        assert!(text.contains("u1.0") || text.contains("u1"), "{text}");
        assert!(text.contains("0..3") && text.contains("3..6"), "{text}");
        assert!(!text.contains("r2 "), "nothing goes to who leaves: {text}");
    }
}
