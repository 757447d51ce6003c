//! What a node holds, for those who need it: its rank, which makes new versions, and peers, which fetch copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checkpoint;
use crate::protocol::ids::{ShardId, Version};
use crate::protocol::shelf::Shelf;
use crate::protocol::word::Held;
use crate::workload::ShardView;

/// A version of a shard. Shared, never written.
#[derive(Debug, Clone)]
pub struct ShardState {
    /// First value's index in the unit.
    pub start: usize,
    /// Values.
    pub values: Arc<Vec<f32>>,
    /// Optimizer slots.
    pub slots: Arc<Vec<Vec<f32>>>,
}

/// One version of some shards.
pub type Shards = BTreeMap<ShardId, ShardState>;

impl ShardState {
    /// The shard as the optimizer sees it.
    pub fn view(&self, id: ShardId) -> ShardView<'_> {
        ShardView { id, start: self.start, values: &self.values, slots: &self.slots }
    }

    /// The first 8 bytes of the digest of values and slots.
    pub fn digest(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = checkpoint::digest(&self.values, &self.slots).0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Values and slots in one vector, as copies travel.
    pub fn to_payload(&self) -> Vec<f32> {
        let mut payload = Vec::with_capacity(self.values.len() * (1 + self.slots.len()));
        payload.extend_from_slice(&self.values);
        self.slots.iter().for_each(|slot| payload.extend_from_slice(slot));
        payload
    }

    /// The other way: a payload of `1 + slots` vectors of equal length.
    pub fn from_payload(start: usize, slots: usize, mut payload: Vec<f32>) -> Option<Self> {
        let length = payload.len() / (1 + slots);
        if length == 0 || payload.len() != length * (1 + slots) {
            return None;
        }
        let slots = (1..=slots).map(|slot| payload[slot * length..(slot + 1) * length].to_vec()).collect();
        payload.truncate(length);
        Some(Self { start, values: Arc::new(payload), slots: Arc::new(slots) })
    }
}

/// A shelf of shard states under a lock that is held for moments only.
#[derive(Debug, Default)]
pub struct Vault(Mutex<Shelf<ShardState>>);

impl Vault {
    fn shelf(&self) -> MutexGuard<'_, Shelf<ShardState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a copy whose content hashes to `digest`.
    pub fn put(&self, shard: ShardId, version: Version, digest: u64, state: ShardState) {
        self.shelf().put(shard, version, digest, state);
    }

    /// One copy.
    pub fn get(&self, shard: ShardId, version: Version) -> Option<ShardState> {
        self.shelf().get(shard, version).map(|(_, state)| state.clone())
    }

    /// All copies of one version.
    pub fn of(&self, version: Version) -> Shards {
        self.shelf().of(version).map(|(shard, state)| (shard, state.clone())).collect()
    }

    /// What is held.
    pub fn held(&self) -> Vec<Held> {
        self.shelf().held()
    }

    /// See [`Shelf::begin`].
    pub fn begin(&self, version: Version) {
        self.shelf().begin(version);
    }

    /// See [`Shelf::settle`].
    pub fn settle(&self, version: Version, ours: &BTreeSet<ShardId>) {
        self.shelf().settle(version, ours);
    }

    /// See [`Shelf::reject`].
    pub fn reject(&self, version: Version) {
        self.shelf().reject(version);
    }

    /// Reads every copy again and drops those whose content is not what their digest says. Returns those.
    pub fn rehash(&self) -> Vec<Held> {
        let copies: Vec<(Held, ShardState)> = {
            let shelf = self.shelf();
            let copy = |held: Held| shelf.get(held.shard, held.version).map(|(_, state)| (held, state.clone()));
            shelf.held().into_iter().filter_map(copy).collect()
        };
        let bad: Vec<Held> = copies.into_iter().filter(|(held, state)| state.digest() != held.digest).map(|(held, _)| held).collect();
        let mut shelf = self.shelf();
        bad.iter().for_each(|held| shelf.forget(held.shard, held.version));
        bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::UnitId;

    fn state() -> ShardState {
        ShardState { start: 7, values: Arc::new(vec![1.0, 2.0]), slots: Arc::new(vec![vec![3.0, 4.0]]) }
    }

    #[test]
    fn a_copy_travels_whole() {
        let back = ShardState::from_payload(7, 1, state().to_payload()).unwrap();
        assert_eq!((back.values, back.slots, back.start), (state().values, state().slots, 7));
        assert!(ShardState::from_payload(0, 1, vec![1.0; 3]).is_none());
        assert!(ShardState::from_payload(0, 1, Vec::new()).is_none());
    }

    #[test]
    fn a_flipped_bit_is_found_and_the_copy_dropped() {
        let vault = Vault::default();
        let (good, bad) = (ShardId { unit: UnitId(0), index: 0 }, ShardId { unit: UnitId(0), index: 1 });
        vault.put(good, Version::default(), state().digest(), state());
        let flipped = ShardState { values: Arc::new(vec![1.0, f32::from_bits(2.0f32.to_bits() ^ 1)]), ..state() };
        vault.put(bad, Version::default(), state().digest(), flipped);
        assert_eq!(vault.rehash().iter().map(|held| held.shard).collect::<Vec<_>>(), [bad]);
        assert_eq!(vault.held().iter().map(|held| held.shard).collect::<Vec<_>>(), [good]);
    }
}
