//! Shards → owner and replicas: balanced, in different failure domains, and as near as possible to where copies lie.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Site};
use crate::protocol::ids::{Rank, ShardId};
use crate::protocol::shard::Shard;

/// Copies of every shard, each on another rank, and one owner among them.
///
/// A rank keeps what it holds until it has its fair share of the copies' values (half a shard over or under); what is
/// missing goes to the least loaded rank in another failure domain. Which copy owns a shard costs no movement, so owners
/// are chosen last, for balance alone.
pub(super) fn place(sites: &[Site], replicas: u32, shards: &[Shard], held: &BTreeMap<ShardId, Vec<Rank>>) -> Vec<Place> {
    if sites.is_empty() {
        return Vec::new();
    }
    let copies = 1 + (replicas as usize).min(sites.len() - 1);
    let mut loads = Loads::new(sites, copies, shards);
    let mut chosen = keep(&mut loads, copies, shards, held);
    fill(&mut loads, copies, shards, &mut chosen);
    owners(sites.len(), shards, chosen)
}

/// Values on each rank, and the ranks by load.
struct Loads<'a> {
    sites: &'a [Site],
    /// Twice the values that a rank would have if all had the same.
    twice_fair: usize,
    of: Vec<usize>,
    order: BTreeSet<(usize, u32)>,
    /// The least that two copies can have in common.
    least: u8,
}

impl<'a> Loads<'a> {
    fn new(sites: &'a [Site], copies: usize, shards: &[Shard]) -> Self {
        let total: usize = shards.iter().map(|shard| shard.range.len()).sum();
        let order = (0..sites.len() as u32).map(|rank| (0, rank)).collect();
        let several = |of: fn(&Site) -> &str| sites.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]));
        let least = if several(|site| &site.zone) { 0 } else { 2 - u8::from(several(|site| &site.host)) };
        Self { sites, twice_fair: (2 * total * copies).div_ceil(sites.len()), of: vec![0; sites.len()], order, least }
    }

    fn add(&mut self, rank: Rank, values: usize) {
        let load = &mut self.of[rank.0 as usize];
        self.order.remove(&(*load, rank.0));
        *load += values;
        self.order.insert((*load, rank.0));
    }

    fn has_room(&self, rank: Rank, values: usize) -> bool {
        2 * self.of[rank.0 as usize] + values <= self.twice_fair
    }

    /// How much a copy on `rank` has in common with the others: 0 another zone, 1 another host, 2 the same host.
    fn nearness(&self, rank: Rank, others: &[Rank]) -> u8 {
        let site = &self.sites[rank.0 as usize];
        let near = |other: &Rank| {
            let other = &self.sites[other.0 as usize];
            u8::from(other.zone == site.zone) + u8::from(other.host == site.host && other.zone == site.zone)
        };
        others.iter().map(near).max().unwrap_or(0)
    }

    /// The least that a further copy can have in common with these.
    fn best(&self, others: &[Rank]) -> u8 {
        if others.is_empty() { 0 } else { self.least }
    }
}

/// Copies that stay: shards with few holders choose first, and of their holders the least loaded.
fn keep(loads: &mut Loads<'_>, copies: usize, shards: &[Shard], held: &BTreeMap<ShardId, Vec<Rank>>) -> BTreeMap<ShardId, Vec<Rank>> {
    let holders = |shard: &Shard| held.get(&shard.id).map_or(&[][..], Vec::as_slice);
    let mut order: Vec<&Shard> = shards.iter().collect();
    order.sort_by_key(|shard| (holders(shard).len(), Reverse(shard.range.len()), shard.id));
    let mut chosen: BTreeMap<ShardId, Vec<Rank>> = shards.iter().map(|shard| (shard.id, Vec::new())).collect();
    // One copy of each first: a shard that keeps none has to move whole.
    for copy in 0..copies {
        for shard in &order {
            let Some(mine) = chosen.get_mut(&shard.id) else { continue };
            if mine.len() < copy {
                continue;
            }
            let values = shard.range.len();
            let best = loads.best(mine);
            let fits = |rank: &&Rank| !mine.contains(rank) && loads.has_room(**rank, values) && loads.nearness(**rank, mine) <= best;
            let stays = holders(shard).iter().filter(fits).min_by_key(|rank| (loads.of[rank.0 as usize], rank.0));
            if let Some(rank) = stays.copied() {
                mine.push(rank);
                loads.add(rank, values);
            }
        }
    }
    chosen
}

/// Copies that are missing: largest first, to the least loaded rank that shares least with the copies there are.
fn fill(loads: &mut Loads<'_>, copies: usize, shards: &[Shard], chosen: &mut BTreeMap<ShardId, Vec<Rank>>) {
    let mut order: Vec<&Shard> = shards.iter().collect();
    order.sort_by_key(|shard| (Reverse(shard.range.len()), shard.id));
    for shard in order {
        let Some(mine) = chosen.get_mut(&shard.id) else { continue };
        while mine.len() < copies {
            let best = loads.best(mine);
            let free = || loads.order.iter().map(|(_, rank)| Rank(*rank)).filter(|rank| !mine.contains(rank));
            let found = free().find(|rank| loads.nearness(*rank, mine) <= best);
            let Some(rank) = found.or_else(|| free().min_by_key(|rank| loads.nearness(*rank, mine))) else { break };
            mine.push(rank);
            loads.add(rank, shard.range.len());
        }
    }
}

/// Among the copies of each shard the one whose rank owns least, then shards change hands while that evens out.
fn owners(ranks: usize, shards: &[Shard], chosen: BTreeMap<ShardId, Vec<Rank>>) -> Vec<Place> {
    let mut owned = vec![0usize; ranks];
    let mut order: Vec<&Shard> = shards.iter().collect();
    order.sort_by_key(|shard| (Reverse(shard.range.len()), shard.id));
    let mut owner: BTreeMap<ShardId, Rank> = BTreeMap::new();
    for shard in &order {
        if let Some(rank) = chosen[&shard.id].iter().min_by_key(|rank| (owned[rank.0 as usize], rank.0)) {
            owned[rank.0 as usize] += shard.range.len();
            owner.insert(shard.id, *rank);
        }
    }
    // Each pass hands a shard on where both ranks are nearer to each other afterwards; two passes even out what greed left.
    for _ in 0..2 {
        for shard in &order {
            let values = shard.range.len();
            let Some(from) = owner.get(&shard.id).copied() else { continue };
            let to = chosen[&shard.id].iter().copied().min_by_key(|rank| (owned[rank.0 as usize], rank.0)).unwrap_or(from);
            if owned[to.0 as usize] + values < owned[from.0 as usize] {
                owned[from.0 as usize] -= values;
                owned[to.0 as usize] += values;
                owner.insert(shard.id, to);
            }
        }
    }
    let place = |shard: &Shard| {
        let owner = owner.get(&shard.id).copied().unwrap_or_default();
        let mut replicas: Vec<Rank> = chosen[&shard.id].iter().copied().filter(|rank| *rank != owner).collect();
        replicas.sort_unstable();
        Place { shard: shard.id, owner, replicas }
    };
    shards.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
