//! A part: one shard as one safetensors file.
//!
//! The tensors are `values`, `slot0`, `slot1`, …, in this order, f32, one-dimensional. The header is a pure
//! function of what the manifest says about the part, so a reader compares it byte for byte instead of
//! interpreting it: header and digest together cover every byte of the file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::aside::aside;
use crate::protocol::ids::{ShardId, Step};
use crate::store::{Store, StoreError};
use crate::workload::Unit;

use super::digest::{Digest, bytes_of};
use super::error::{CheckpointError, Damage};
use super::manifest::{Manifest, PartRecord};

/// One block of this size is read back …
const BLOCK: u64 = 4 << 10;
/// … from every stretch of this length.
const STRETCH: u64 = 1 << 20;

/// A shard as it is handed to the writer: taking it costs its rank two reference counts.
#[derive(Debug, Clone)]
pub struct SnapshotShard {
    /// Which shard.
    pub id: ShardId,
    /// Its first value in its unit's flat vector.
    pub start: usize,
    /// Values.
    pub values: Arc<Vec<f32>>,
    /// Optimizer slots, each as long as the values.
    pub slots: Arc<Vec<Vec<f32>>>,
}

/// A shard as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// Which shard.
    pub id: ShardId,
    /// Its first value in its unit's flat vector.
    pub start: usize,
    /// Values.
    pub values: Vec<f32>,
    /// Optimizer slots, each as long as the values.
    pub slots: Vec<Vec<f32>>,
}

/// The key of a part.
pub(super) fn key(step: Step, shard: ShardId, digest: Digest) -> String {
    format!("{}/{}", folder(step), name(shard, digest))
}

fn folder(step: Step) -> String {
    format!("checkpoints/parts/{}", step.0)
}

fn name(shard: ShardId, digest: Digest) -> String {
    format!("{}.{}-{}.safetensors", shard.unit.0, shard.index, digest.short())
}

/// The length of a part's file.
pub(super) fn file_len(manifest: &Manifest, unit: &Unit, part: &PartRecord) -> u64 {
    let header = header(&manifest.run, manifest.step, &unit.name, part.start, part.len, manifest.slots as usize);
    header.len() as u64 + 4 * part.len * (1 + u64::from(manifest.slots))
}

/// The header of a part: its length (u64, little-endian), then JSON padded with spaces to whole words.
fn header(run: &str, step: Step, unit: &str, start: u64, len: u64, slots: usize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Tensor {
        dtype: &'static str,
        shape: [u64; 1],
        data_offsets: [u64; 2],
    }
    #[derive(Serialize)]
    struct Header<'a> {
        __metadata__: BTreeMap<&'a str, String>,
        #[serde(flatten)]
        tensors: BTreeMap<String, Tensor>,
    }
    let metadata = [("run", run.to_string()), ("step", step.0.to_string()), ("unit", unit.to_string()), ("start", start.to_string())];
    let tensors = (0..=slots as u64).map(|at| {
        let name = at.checked_sub(1).map_or_else(|| "values".to_string(), |slot| format!("slot{slot}"));
        (name, Tensor { dtype: "F32", shape: [len], data_offsets: [at * 4 * len, (at + 1) * 4 * len] })
    });
    let header = Header { __metadata__: metadata.into(), tensors: tensors.collect() };
    let mut json = serde_json::to_vec(&header).expect("strings and numbers have a JSON form");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes
}

/// Writes the part of one shard and reads back what tells whether it arrived.
///
/// In a folder the file was fsynced before it got its name. It is then read back as follows: its length, its header,
/// its last block of 4 KiB, and one such block in each MiB (in a bucket: length, header and last block), each compared
/// with memory. That finds a torn or swapped file, and any hole of a MiB; a flipped bit elsewhere is found by the digest
/// when the part is read or verified. No copy of the shard is made.
///
/// # Errors
/// [`CheckpointError::Store`] when the store failed, [`CheckpointError::Damaged`] when what is read back is not what was written.
pub async fn write(store: &Store, run: &str, step: Step, unit: &Unit, shard: SnapshotShard) -> Result<PartRecord, CheckpointError> {
    let len = shard.values.len();
    debug_assert!(shard.slots.iter().all(|slot| slot.len() == len), "slots are as long as values");
    let header = header(run, step, &unit.name, shard.start as u64, len as u64, shard.slots.len());
    let payload = Payload::new(header.into(), &shard);
    let id = shard.id;
    let named = move |hash: &blake3::Hash| name(id, Digest(*hash.as_bytes()));
    let (hash, key) = store.put_hashed(&folder(step), payload.header.clone(), payload.data.clone(), named).await?;
    let digest = Digest(*hash.as_bytes());
    let record = PartRecord { shard: id, start: shard.start as u64, len: len as u64, digest, key, bytes: payload.len };
    read_back(store, &record, &payload).await?;
    Ok(record)
}

/// A file's bytes as views of the shard.
struct Payload {
    header: Bytes,
    data: Vec<Bytes>,
    len: u64,
}

impl Payload {
    fn new(header: Bytes, shard: &SnapshotShard) -> Self {
        let slots = (0..shard.slots.len()).map(Some);
        let views = std::iter::once(None).chain(slots).map(|slot| View { shard: shard.clone(), slot });
        let data: Vec<Bytes> = views.map(Bytes::from_owner).collect();
        let len = header.len() + data.iter().map(Bytes::len).sum::<usize>();
        Self { header, data, len: len as u64 }
    }

    /// Whether `found` is what the file has from `at` on.
    fn agrees(&self, mut at: u64, mut found: &[u8]) -> bool {
        for chunk in std::iter::once(&self.header).chain(&self.data) {
            let len = chunk.len() as u64;
            if at >= len {
                at -= len;
                continue;
            }
            let mine = &chunk[at as usize..];
            let both = mine.len().min(found.len());
            if mine[..both] != found[..both] {
                return false;
            }
            found = &found[both..];
            at = 0;
            if found.is_empty() {
                return true;
            }
        }
        found.is_empty()
    }
}

/// Keeps the shard alive while its bytes are being written.
struct View {
    shard: SnapshotShard,
    slot: Option<usize>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        bytes_of(self.slot.map_or(&self.shard.values, |slot| &self.shard.slots[slot]))
    }
}

async fn read_back(store: &Store, record: &PartRecord, payload: &Payload) -> Result<(), CheckpointError> {
    let damaged = |damage| CheckpointError::Damaged { place: store.at(&record.key), damage };
    match store.head(&record.key).await? {
        None => return Err(damaged(Damage::missing(record.shard))),
        Some(found) if found != payload.len => return Err(damaged(Damage::length(record.shard, found, payload.len))),
        Some(_) => {}
    }
    let blocks = samples(payload.header.len() as u64, payload.len, store.folder().is_some());
    let found = store.get_ranges(&record.key, &blocks).await?;
    let agree = found.len() == blocks.len()
        && blocks
            .iter()
            .zip(&found)
            .all(|(block, found)| found.len() as u64 == block.end - block.start && payload.agrees(block.start, found));
    if agree { Ok(()) } else { Err(damaged(Damage::Corrupt("it does not read back as it was written".into()))) }
}

/// The ranges that are read back: header, a block in each MiB when `dense`, the end. In order, without overlap.
fn samples(header: u64, len: u64, dense: bool) -> Vec<Range<u64>> {
    let tail = header.max(len.saturating_sub(BLOCK));
    let starts = if dense { (header..tail).step_by(STRETCH as usize).collect() } else { Vec::new() };
    let blocks = starts.into_iter().map(|at| at..(at + BLOCK).min(tail));
    std::iter::once(0..header).chain(blocks).chain(std::iter::once(tail..len)).filter(|block| !block.is_empty()).collect()
}

/// Reads one shard and checks length, header and digest.
///
/// # Errors
/// [`CheckpointError::Absent`] for a shard that the checkpoint does not have, [`CheckpointError::Damaged`] for a part that is missing,
/// torn or corrupt, [`CheckpointError::Store`] when the store failed.
pub async fn read_part(store: &Store, manifest: &Manifest, shard: ShardId) -> Result<Shard, CheckpointError> {
    let absent = || CheckpointError::Absent { step: manifest.step, what: format!("shard {shard}") };
    let part = manifest.part(shard).ok_or_else(absent)?.clone();
    let (data, slots) = checked_data(store, manifest, &part).await?;
    let cut = aside(move || {
        let mut tensors = (0..=slots).map(|at| floats(&data[at * 4 * part.len as usize..][..4 * part.len as usize]));
        let values = tensors.next().unwrap_or_default();
        Shard { id: part.shard, start: part.start as usize, values, slots: tensors.collect() }
    });
    cut.await.map_err(|error| CheckpointError::CutShort { step: manifest.step, because: error.to_string() })
}

/// The data of a part, known to be right, and how many slots are in it.
pub(super) async fn checked_data(store: &Store, manifest: &Manifest, part: &PartRecord) -> Result<(Bytes, usize), CheckpointError> {
    let damaged = |damage| CheckpointError::Damaged { place: store.at(&part.key), damage };
    let unit = manifest.unit(part.shard.unit);
    let unit = unit.ok_or_else(|| CheckpointError::Absent { step: manifest.step, what: format!("unit {}", part.shard.unit) })?;
    let file = match store.get(&part.key, part.bytes).await {
        Ok(file) if file.len() as u64 == part.bytes => file,
        Ok(file) => return Err(damaged(Damage::length(part.shard, file.len() as u64, part.bytes))),
        Err(StoreError::TooLarge { bytes, .. }) => return Err(damaged(Damage::length(part.shard, bytes, part.bytes))),
        Err(StoreError::NotFound { .. }) => return Err(damaged(Damage::missing(part.shard))),
        Err(error) => return Err(error.into()),
    };
    let slots = manifest.slots as usize;
    let header = header(&manifest.run, manifest.step, &unit.name, part.start, part.len, slots);
    if !file.starts_with(&header) {
        return Err(damaged(Damage::Corrupt(format!(
            "the header of the part of shard {} is not the one that its manifest implies",
            part.shard
        ))));
    }
    let data = file.slice(header.len()..);
    let hashed = data.clone();
    let found = aside(move || Digest::of(&hashed)).await;
    let found = found.map_err(|error| CheckpointError::CutShort { step: manifest.step, because: error.to_string() })?;
    if found != part.digest {
        return Err(damaged(Damage::Corrupt(format!("the part of shard {} has another digest than its manifest says", part.shard))));
    }
    Ok((data, slots))
}

/// Little-endian bytes as values; the bytes may lie unaligned.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0f32; bytes.len() / 4];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
    values
}
