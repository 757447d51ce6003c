//! The object store of a simulated run: records created once, a lease that is overwritten, checkpoints that a manifest commits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everstep_actors::protocol::coordinator::Creation;
use everstep_actors::protocol::ids::{Epoch, ShardId};
use everstep_actors::protocol::membership::LeaseView;
use everstep_actors::protocol::record::EpochRecord;
use rand_chacha::ChaCha8Rng;

use super::dice::{below, chance, up_to};
use crate::fault::Mode;

/// How long the store takes one way.
const LATENCY: Duration = Duration::from_millis(4);
/// How long it is waited for in vain.
const IN_VAIN: Duration = Duration::from_millis(300);

/// What a request is, as far as trouble goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Read,
    Write,
    WritePart,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// When it is carried out, if it is.
    pub(super) done_in: Option<Duration>,
    /// When the asker hears of it.
    pub(super) told_in: Duration,
    /// Whether the asker hears what became of it.
    pub(super) answered: bool,
}

/// A checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    pub(super) contents: BTreeMap<ShardId, u64>,
    pub(super) damaged: bool,
}

/// What a strike does to the store.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) strike: u32,
    pub(super) mode: Mode,
    /// For which places; for all, if there are none.
    pub(super) places: BTreeSet<u32>,
    /// Requests that it has touched.
    pub(super) felt: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) records: BTreeMap<Epoch, EpochRecord>,
    pub(super) lease: Option<LeaseView>,
    pub(super) checkpoints: BTreeMap<u64, Saved>,
    pub(super) troubles: Vec<Trouble>,
}

impl Store {
    /// What becomes of a request from a place.
    pub(super) fn fate(&mut self, slot: u32, request: Request, rng: &mut ChaCha8Rng) -> Fate {
        let latency = LATENCY + up_to(rng, LATENCY);
        let mut fate = Fate { done_in: Some(latency), told_in: latency * 2, answered: true };
        for Trouble { mode, places, felt, .. } in &mut self.troubles {
            if !places.is_empty() && !places.contains(&slot) {
                continue;
            }
            let before = fate;
            let lost = Fate { done_in: None, told_in: IN_VAIN, answered: false };
            match mode {
                Mode::Away => fate = lost,
                Mode::Late => {
                    let done_in = up_to(rng, Duration::from_secs(3));
                    fate.done_in = fate.done_in.map(|_| done_in);
                    fate.told_in = fate.told_in.max(done_in + up_to(rng, Duration::from_secs(1)));
                }
                Mode::Unknown if request != Request::Read => {
                    let done = chance(rng, 0.5);
                    fate = Fate {
                        done_in: fate.done_in.filter(|_| done),
                        told_in: IN_VAIN,
                        answered: below(rng, 4) == 0 && done && fate.answered,
                    };
                }
                Mode::ReadOnly if request != Request::Read => fate = lost,
                Mode::Full if request == Request::WritePart => fate = lost,
                _ => {}
            }
            *felt += u64::from(fate != before);
        }
        fate
    }

    /// Creates a record, if its number is free; who asks twice with the same record has it.
    pub(super) fn create(&mut self, record: &EpochRecord) -> (Creation, bool) {
        match self.records.get(&record.epoch) {
            None => {
                self.records.insert(record.epoch, record.clone());
                (Creation::Mine, true)
            }
            Some(there) if there.nonce == record.nonce => (Creation::Mine, false),
            Some(_) => (Creation::Taken, false),
        }
    }

    /// The newest record and the lease.
    pub(super) fn look(&self) -> (Option<EpochRecord>, Option<LeaseView>) {
        (self.records.values().next_back().cloned(), self.lease)
    }

    /// The newest intact checkpoint, and newer ones that are damaged and are set aside.
    pub(super) fn find(&mut self) -> (Option<u64>, Vec<u64>) {
        let mut aside = Vec::new();
        while let Some((step, saved)) = self.checkpoints.last_key_value() {
            if !saved.damaged {
                return (Some(*step), aside);
            }
            aside.push(*step);
            self.checkpoints.pop_last();
        }
        (None, aside)
    }
}
