//! The manifest: what a checkpoint holds and where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::ids::{Epoch, ShardId, Step, UnitId};
use crate::workload::Unit;

use super::digest::{Digest, state_digest};
use super::error::{CheckpointError, Damage};
use super::part;

/// The format that this build writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
/// The largest manifest that is read; that of a 10 B model with 4096 parts has about 2 MiB.
pub(super) const MANIFEST_MAX: u64 = 64 << 20;

/// More optimizer slots than any optimizer has: a length that is checked before work follows it.
const SLOTS_MAX: u32 = 64;

/// One part of a checkpoint, as its writer reports it to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Which shard it holds.
    pub shard: ShardId,
    /// The shard's first value in its unit's flat vector.
    pub start: u64,
    /// Number of values.
    pub len: u64,
    /// BLAKE3 of values and slots, see [`super::digest`].
    pub digest: Digest,
    /// The part's key in the store.
    pub key: String,
    /// The part's size in bytes.
    pub bytes: u64,
}

/// All that a manifest says besides its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The run's id.
    pub run: String,
    /// Digest of the run's resolved config.
    pub config: Digest,
    /// The epoch in which the snapshot was taken.
    pub epoch: Epoch,
    /// Steps committed when it was taken.
    pub step: Step,
    /// The workload's units.
    pub units: Vec<Unit>,
    /// Optimizer slots per value.
    pub slots: u32,
}

/// A checkpoint: everything that is needed to take up the run at its step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The run's id.
    pub run: String,
    /// Digest of the run's resolved config.
    pub config: Digest,
    /// The epoch in which the snapshot was taken.
    pub epoch: Epoch,
    /// Steps committed when it was taken.
    pub step: Step,
    /// Digest of the whole state, see [`state_digest`].
    pub state: Digest,
    /// Optimizer slots per value.
    pub slots: u32,
    /// The workload's units.
    pub units: Vec<Unit>,
    /// The parts in the order of (unit, index): each unit is covered without gap or overlap.
    pub parts: Vec<PartRecord>,
}

/// The manifest as a file: the format first, and a digest over the rest.
#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    digest: Digest,
    manifest: Manifest,
}

/// Why parts do not make a whole state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Nobody reported these values.
    #[error("no part holds unit {unit:?} from value {from} on; its shard's owner must save again")]
    Missing {
        /// The unit's name.
        unit: String,
        /// The first value that is missing.
        from: u64,
    },
    /// A part does not belong to the units.
    #[error("the part of shard {shard} does not fit its unit ({because}); its writer runs another config or version")]
    Misfit {
        /// Which shard.
        shard: ShardId,
        /// What does not fit.
        because: String,
    },
    /// Two holders of a shard reported different contents.
    #[error("two holders of shard {shard} disagree on its contents ({a} and {b}); one of the machines computes or stores wrongly")]
    Disagree {
        /// Which shard.
        shard: ShardId,
        /// One digest.
        a: Digest,
        /// The other.
        b: Digest,
    },
}

/// Makes the manifest from what all nodes have written, in any order; a part reported twice is fine.
///
/// # Errors
/// [`Incomplete`] unless the parts cover every unit exactly.
pub fn assemble(draft: Draft, records: impl IntoIterator<Item = PartRecord>) -> Result<Manifest, Incomplete> {
    let mut parts: BTreeMap<ShardId, PartRecord> = BTreeMap::new();
    for record in records {
        match parts.get(&record.shard) {
            Some(known) if known.digest != record.digest => {
                return Err(Incomplete::Disagree { shard: record.shard, a: known.digest, b: record.digest });
            }
            _ => drop(parts.insert(record.shard, record)),
        }
    }
    let parts: Vec<PartRecord> = parts.into_values().collect();
    let Draft { run, config, epoch, step, units, slots } = draft;
    let manifest = Manifest { run, config, epoch, step, state: state_digest(&parts), slots, units, parts };
    manifest.check_cover()?;
    Ok(manifest)
}

impl Manifest {
    /// The key of the manifest of a step.
    pub fn key(step: Step) -> String {
        format!("checkpoints/{:010}/manifest.json", step.0)
    }

    /// The step of a manifest's key, or `None` for any other key.
    pub(super) fn step_of(key: &str) -> Option<Step> {
        let step = key.strip_prefix("checkpoints/")?.strip_suffix("/manifest.json")?;
        let number = step.parse().ok().map(Step)?;
        (Self::key(number) == key).then_some(number)
    }

    /// The part that holds a shard.
    pub fn part(&self, shard: ShardId) -> Option<&PartRecord> {
        self.parts.binary_search_by_key(&shard, |part| part.shard).ok().map(|at| &self.parts[at])
    }

    /// The unit of a shard.
    pub fn unit(&self, unit: UnitId) -> Option<&Unit> {
        self.units.get(unit.0 as usize)
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The manifest as it lies in the store.
    pub(super) fn to_file(&self) -> Vec<u8> {
        let file = File { format: FORMAT, digest: self.digest(), manifest: self.clone() };
        serde_json::to_vec_pretty(&file).expect("numbers, strings and lists have a JSON form")
    }

    /// Reads a manifest and checks all that can be checked without its parts.
    pub(super) fn from_file(place: &str, step: Step, text: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |damage| CheckpointError::Damaged { place: place.into(), damage };
        let corrupt = |because: String| damaged(Damage::Corrupt(because));
        let head: Head = serde_json::from_slice(text).map_err(|error| {
            let because = error.to_string();
            damaged(if error.is_eof() { Damage::Torn(because) } else { Damage::Corrupt(because) })
        })?;
        if head.format > FORMAT {
            return Err(CheckpointError::NewerFormat { place: place.into(), found: head.format, known: FORMAT });
        }
        if head.format == 0 {
            return Err(corrupt("there is no format 0".into()));
        }
        let File { digest, manifest, .. } = serde_json::from_slice(text).map_err(|error| corrupt(error.to_string()))?;
        if manifest.digest() != digest {
            return Err(corrupt("its contents do not have its digest".into()));
        }
        if manifest.step != step {
            return Err(corrupt(format!("it speaks of step {}", manifest.step.0)));
        }
        if state_digest(&manifest.parts) != manifest.state {
            return Err(corrupt("its parts do not have its state digest".into()));
        }
        manifest.check_units().map_err(corrupt)?;
        manifest.check_cover().map_err(|error| corrupt(error.to_string()))?;
        Ok(manifest)
    }

    fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("numbers, strings and lists have a JSON form"))
    }

    /// Tensors follow one another without gaps, and no length overflows.
    fn check_units(&self) -> Result<(), String> {
        if self.slots > SLOTS_MAX {
            return Err(format!("{} optimizer slots, where at most {SLOTS_MAX} are read", self.slots));
        }
        for unit in &self.units {
            let mut next = 0usize;
            for tensor in &unit.tensors {
                let len = tensor.shape.iter().try_fold(1usize, |len, dim| len.checked_mul(*dim));
                let end = len.and_then(|len| next.checked_add(len)).filter(|end| end.checked_mul(4 * (1 + self.slots as usize)).is_some());
                let Some(end) = end.filter(|_| tensor.offset == next) else {
                    return Err(format!("tensor {:?} of unit {:?} does not lie where its unit's tensors end", tensor.name, unit.name));
                };
                next = end;
            }
        }
        Ok(())
    }

    /// Each unit is covered by its shards 0, 1, … without gap or overlap, and each part has the name and size that follow.
    fn check_cover(&self) -> Result<(), Incomplete> {
        let mut parts = self.parts.iter().peekable();
        for (number, unit) in self.units.iter().enumerate() {
            let unit_id = UnitId(number as u32);
            let (mut next, mut index) = (0, 0);
            while let Some(part) = parts.next_if(|part| part.shard.unit == unit_id) {
                let misfit = |because: String| Err(Incomplete::Misfit { shard: part.shard, because });
                if part.start > next || part.shard.index > index {
                    return Err(Incomplete::Missing { unit: unit.name.clone(), from: next });
                }
                if part.start < next || part.shard.index < index {
                    return misfit(format!("it starts at value {} where {next} was expected", part.start));
                }
                if part.len == 0 || part.len > unit.len() as u64 - next {
                    return misfit(format!("{} values from {next} on in a unit of {}", part.len, unit.len()));
                }
                if part.key != part::key(self.step, part.shard, part.digest) {
                    return misfit(format!("its key is {:?}", part.key));
                }
                let bytes = part::file_len(self, unit, part);
                if part.bytes != bytes {
                    return misfit(format!("its file has {} bytes where {bytes} were expected", part.bytes));
                }
                next += part.len;
                index += 1;
            }
            if next < unit.len() as u64 {
                return Err(Incomplete::Missing { unit: unit.name.clone(), from: next });
            }
        }
        match parts.next() {
            Some(part) => Err(Incomplete::Misfit { shard: part.shard, because: "there is no such unit".into() }),
            None => Ok(()),
        }
    }
}

/// Reads any bytes as a manifest: as they are, and once more with the digests that they should have, which nobody who
/// guesses bytes finds.
pub(crate) fn read_any(text: &[u8]) -> bool {
    let step = |text: &[u8]| serde_json::from_slice::<File>(text).map_or(Step(0), |file| file.manifest.step);
    let as_it_is = Manifest::from_file("untrusted", step(text), text).is_ok();
    let Ok(mut file) = serde_json::from_slice::<File>(text) else { return as_it_is };
    file.manifest.state = state_digest(&file.manifest.parts);
    Manifest::from_file("untrusted", file.manifest.step, &file.manifest.to_file()).is_ok()
}

/// A small manifest as it lies in the store, without its spaces.
pub(crate) fn sample() -> Vec<u8> {
    use crate::workload::{TensorKind, TensorSpec};
    let tensor =
        |name: &str, shape: &[usize], offset| TensorSpec { name: name.into(), shape: shape.to_vec(), offset, kind: TensorKind::Parameter };
    let unit = Unit { name: "stem".into(), tensors: vec![tensor("w", &[3, 2], 0), tensor("b", &[2], 6)], row: 1 };
    let draft = Draft { run: "demo".into(), config: Digest::of(b""), epoch: Epoch(2), step: Step(7), units: vec![unit], slots: 1 };
    let empty = Manifest {
        run: draft.run.clone(),
        config: draft.config,
        epoch: draft.epoch,
        step: draft.step,
        state: state_digest(&[]),
        slots: 1,
        units: draft.units.clone(),
        parts: vec![],
    };
    let records = [(0, 0, 5), (1, 5, 3)].map(|(index, start, len)| {
        let (shard, digest) = (ShardId { unit: UnitId(0), index }, Digest::of(&[index as u8]));
        let mut record = PartRecord { shard, start, len, digest, key: part::key(draft.step, shard, digest), bytes: 0 };
        record.bytes = part::file_len(&empty, &draft.units[0], &record);
        record
    });
    let file = assemble(draft, records).map(|manifest| File { format: FORMAT, digest: manifest.digest(), manifest });
    file.ok().and_then(|file| serde_json::to_vec(&file).ok()).unwrap_or_default()
}
