//! What a node holds: copies of shards by version, and the rules by which they come and go.
//!
//! - `SH-1` A step's new versions lie beside the old ones until the step is stable ([`Shelf::put`], [`Shelf::settle`]).
//! - `SH-2` An epoch that begins at a version erases newer ones and others of the same step ([`Shelf::begin`]).
//! - `SH-3` A copy that the new plan omits stays until the first stable step of the epoch ([`Shelf::settle`]).

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{ShardId, Version};
use super::word::Held;

/// Copies of shards with what `T` is: the state itself, or a stand-in in simulations.
#[derive(Debug, Clone)]
pub struct Shelf<T> {
    copies: BTreeMap<ShardId, BTreeMap<Version, (u64, T)>>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { copies: BTreeMap::new() }
    }
}

impl<T> Shelf<T> {
    /// Adds a copy; `digest` is that of its content.
    pub fn put(&mut self, shard: ShardId, version: Version, digest: u64, copy: T) {
        self.copies.entry(shard).or_default().insert(version, (digest, copy));
    }

    /// One copy and its digest.
    pub fn get(&self, shard: ShardId, version: Version) -> Option<(u64, &T)> {
        self.copies.get(&shard)?.get(&version).map(|(digest, copy)| (*digest, copy))
    }

    /// All copies of one version.
    pub fn of(&self, version: Version) -> impl Iterator<Item = (ShardId, &T)> {
        self.copies.iter().filter_map(move |(shard, copies)| copies.get(&version).map(|(_, copy)| (*shard, copy)))
    }

    /// What is held, for the leader of a new epoch.
    pub fn held(&self) -> Vec<Held> {
        let copies = |(shard, copies): (&ShardId, &BTreeMap<Version, (u64, T)>)| {
            let shard = *shard;
            copies.iter().map(move |(version, (digest, _))| Held { shard, version: *version, digest: *digest }).collect::<Vec<_>>()
        };
        self.copies.iter().flat_map(copies).collect()
    }

    /// An epoch goes on from `version`: newer copies, and those of the same step from another epoch, are erased.
    pub fn begin(&mut self, version: Version) {
        self.retain(|_, at| at == version || at.step < version.step);
    }

    /// A step has become stable: `version` is what counts, and of it the shards in `ours`. All else is dropped.
    pub fn settle(&mut self, version: Version, ours: &BTreeSet<ShardId>) {
        self.retain(|shard, at| at == version && ours.contains(&shard));
    }

    /// Drops a version of which copies differ.
    pub fn reject(&mut self, version: Version) {
        self.retain(|_, at| at != version);
    }

    /// Drops a copy that turned out bad.
    pub fn forget(&mut self, shard: ShardId, version: Version) {
        self.retain(|at, copy| (at, copy) != (shard, version));
    }

    fn retain(&mut self, keep: impl Fn(ShardId, Version) -> bool) {
        for (shard, copies) in &mut self.copies {
            copies.retain(|version, _| keep(*shard, *version));
        }
        self.copies.retain(|_, copies| !copies.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::{Epoch, Step, UnitId};
    use super::*;

    fn shard(index: u32) -> ShardId {
        ShardId { unit: UnitId(0), index }
    }
    fn version(step: u64, epoch: u64) -> Version {
        Version { step: Step(step), epoch: Epoch(epoch) }
    }
    fn shelf(copies: &[(u32, u64, u64)]) -> Shelf<()> {
        let mut shelf = Shelf::default();
        copies.iter().for_each(|(index, step, epoch)| shelf.put(shard(*index), version(*step, *epoch), 0, ()));
        shelf
    }
    fn versions(shelf: &Shelf<()>) -> Vec<(u32, u64, u64)> {
        shelf.held().iter().map(|held| (held.shard.index, held.version.step.0, held.version.epoch.0)).collect()
    }

    #[test]
    fn a_beginning_erases_what_is_newer_or_of_another_epoch_and_keeps_what_the_plan_omits() {
        let mut shelf = shelf(&[(0, 7, 2), (0, 8, 2), (1, 7, 2), (1, 7, 1), (2, 6, 1)]);
        shelf.begin(version(7, 2));
        assert_eq!(versions(&shelf), [(0, 7, 2), (1, 7, 2), (2, 6, 1)]);
    }

    #[test]
    fn a_stable_step_leaves_our_shards_of_its_version() {
        let mut shelf = shelf(&[(0, 7, 2), (0, 8, 3), (1, 7, 2)]);
        shelf.settle(version(8, 3), &BTreeSet::from([shard(0)]));
        assert_eq!(versions(&shelf), [(0, 8, 3)]);
        shelf.forget(shard(0), version(8, 3));
        assert!(shelf.held().is_empty());
    }

    #[test]
    fn a_rejected_version_goes_and_others_stay() {
        let mut shelf = shelf(&[(0, 7, 2), (0, 8, 2), (1, 8, 2), (1, 8, 3)]);
        shelf.reject(version(8, 2));
        assert_eq!(versions(&shelf), [(0, 7, 2), (1, 8, 3)]);
    }
}
