//! Copies of shards on their way: who wants one asks a holder, and the answer is checked against the digest that the leader told.
//!
//! A transfer belongs to an epoch: when that ends, all that wait for a copy are told so, and what arrives later is turned away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::vault::{ShardState, Vault};
use crate::aside::aside;
use crate::protocol::ids::{Epoch, ShardId, Version};
use crate::protocol::shard::Shard;
use crate::wire::message::{DataHeader, DataKind};

/// Why a copy was not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// The epoch has ended.
    Aborted,
    /// The holder has no such copy, or its content is not what its digest says.
    Bad,
}

/// Who waits for which copy.
type Pending = BTreeMap<(Epoch, ShardId), oneshot::Sender<Vec<f32>>>;

/// See the module's text.
#[derive(Debug)]
pub struct Transfers {
    vault: Arc<Vault>,
    shards: Arc<Vec<Shard>>,
    slots: usize,
    pending: Mutex<Pending>,
}

impl Transfers {
    /// Transfers into and out of a vault of shards with `slots` optimizer slots.
    pub fn new(vault: Arc<Vault>, shards: Arc<Vec<Shard>>, slots: usize) -> Self {
        Self { vault, shards, slots, pending: Mutex::default() }
    }

    /// Announces that a copy is about to be asked for. The answer comes by the receiver, or its end when the epoch ends.
    pub fn expect(&self, epoch: Epoch, shard: ShardId) -> oneshot::Receiver<Vec<f32>> {
        let (sender, receiver) = oneshot::channel();
        self.pending().insert((epoch, shard), sender);
        receiver
    }

    /// The question for a copy.
    pub fn want(&self, epoch: Epoch, shard: &Shard, version: Version) -> DataHeader {
        DataHeader {
            epoch,
            step: version.step,
            kind: DataKind::WantCopy,
            call: version.epoch.0,
            unit: shard.id.unit,
            start: shard.range.start as u64,
            length: shard.range.len() as u64,
            lanes_start: 0,
            lanes_end: 0,
            group_start: 0,
            group_end: 0,
        }
    }

    /// Whether a frame is a question that can be answered, or an answer that is waited for.
    pub fn admits(&self, header: &DataHeader) -> bool {
        let Some(shard) = self.shard_of(header) else { return false };
        match header.kind {
            DataKind::WantCopy => true,
            DataKind::Copy => self.pending().contains_key(&(header.epoch, shard.id)),
            _ => false,
        }
    }

    /// The answer to a question: the copy, or nothing where it is not held.
    pub fn answer(&self, want: &DataHeader) -> (DataHeader, Vec<f32>) {
        let version = Version { step: want.step, epoch: Epoch(want.call) };
        let copy = self.shard_of(want).and_then(|shard| self.vault.get(shard.id, version));
        (DataHeader { kind: DataKind::Copy, ..want.clone() }, copy.map(|copy| copy.to_payload()).unwrap_or_default())
    }

    /// An answer has come.
    pub fn arrived(&self, header: &DataHeader, payload: Vec<f32>) {
        let waiting = self.shard_of(header).and_then(|shard| self.pending().remove(&(header.epoch, shard.id)));
        if let Some(waiting) = waiting {
            // Who no longer waits has been aborted.
            let _ = waiting.send(payload);
        }
    }

    /// Waits for an answer and puts the copy into the vault, if it is what its digest says.
    ///
    /// # Errors
    /// [`Missed`].
    pub async fn take(
        &self,
        answer: oneshot::Receiver<Vec<f32>>,
        shard: &Shard,
        version: Version,
        digest: u64,
    ) -> Result<ShardState, Missed> {
        let payload = answer.await.map_err(|_| Missed::Aborted)?;
        let (start, slots, length) = (shard.range.start, self.slots, shard.range.len());
        let checked = aside(move || {
            ShardState::from_payload(start, slots, payload).filter(|state| state.values.len() == length && state.digest() == digest)
        });
        let state = checked.await.map_err(|_| Missed::Aborted)?.ok_or(Missed::Bad)?;
        self.vault.put(shard.id, version, digest, state.clone());
        Ok(state)
    }

    /// An epoch has ended: nobody waits any more.
    pub fn abort(&self) {
        self.pending().clear();
    }

    fn shard_of(&self, header: &DataHeader) -> Option<&Shard> {
        let key = (header.unit, header.start as usize);
        let at = self.shards.binary_search_by_key(&key, |shard| (shard.id.unit, shard.range.start)).ok()?;
        self.shards.get(at).filter(|shard| shard.range.len() as u64 == header.length)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Step, UnitId};
    use crate::protocol::shard::{UnitShape, cut};

    fn transfers() -> Transfers {
        Transfers::new(Arc::default(), Arc::new(cut(&[UnitShape { length: 4, row: 1 }], 2)), 1)
    }

    #[tokio::test]
    async fn a_copy_arrives_and_is_checked() {
        let (from, to) = (transfers(), transfers());
        let version = Version { step: Step(3), epoch: Epoch(2) };
        let shard = from.shards[1].clone();
        let state = ShardState { start: 2, values: Arc::new(vec![1.0, 2.0]), slots: Arc::new(vec![vec![3.0, 4.0]]) };
        from.vault.put(shard.id, version, state.digest(), state.clone());
        for (digest, expected) in [(state.digest(), None), (0, Some(Missed::Bad))] {
            let answer = to.expect(Epoch(5), shard.id);
            let want = to.want(Epoch(5), &shard, version);
            assert!(from.admits(&want));
            let (header, payload) = from.answer(&want);
            assert!(to.admits(&header));
            to.arrived(&header, payload);
            assert_eq!(to.take(answer, &shard, version, digest).await.err(), expected);
        }
        assert_eq!(to.vault.get(shard.id, version).unwrap().values, state.values);
    }

    #[tokio::test]
    async fn what_is_not_held_and_what_is_aborted_is_missed() {
        let (from, to) = (transfers(), transfers());
        let (version, shard) = (Version::default(), from.shards[0].clone());
        let answer = to.expect(Epoch(5), shard.id);
        let (header, payload) = from.answer(&to.want(Epoch(5), &shard, version));
        to.arrived(&header, payload);
        assert_eq!(to.take(answer, &shard, version, 0).await.err(), Some(Missed::Bad));
        let answer = to.expect(Epoch(6), shard.id);
        to.abort();
        assert!(!to.admits(&header), "nobody waits any more");
        assert_eq!(to.take(answer, &shard, version, 0).await.err(), Some(Missed::Aborted));
        let misfit = DataHeader { unit: UnitId(9), ..to.want(Epoch(6), &shard, version) };
        assert!(!to.admits(&misfit));
    }
}
