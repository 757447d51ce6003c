//! The checkpoints of a run: publish, list, verify, find the newest that is whole, delete old ones.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::protocol::ids::{ShardId, Step};
use crate::store::{Created, Store, StoreError};

use super::digest::Digest;
use super::error::{CheckpointError, Damage};
use super::manifest::{MANIFEST_MAX, Manifest, PartRecord};
use super::part;

/// How many parts are looked at (head) at a time.
const HEADS_AT_ONCE: usize = 16;
/// How many parts are read in full at a time: bounds the memory of a verification.
const READS_AT_ONCE: usize = 2;

/// What is known of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Manifest and parts are there with their full lengths; in a verification also every digest is right.
    Intact,
    /// It cannot be used.
    Damaged(Damage),
    /// It was found damaged earlier; its manifest is kept under another name.
    SetAside(Damage),
    /// A later version of Everstep wrote it.
    NewerFormat(u32),
}

/// One checkpoint of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its step.
    pub step: Step,
    /// Bytes of its parts, as far as its manifest can be read.
    pub bytes: u64,
    /// Its state digest, as far as its manifest can be read.
    pub state: Option<Digest>,
    /// Its parts, as far as its manifest can be read.
    pub parts: u32,
    /// When its manifest was written, milliseconds since the Unix epoch by the store's clock.
    pub published_ms: u64,
    /// What is known of it.
    pub condition: Condition,
}

/// A checkpoint that was not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its step.
    pub step: Step,
    /// The manifest or part.
    pub place: String,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What [`newest_intact`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The newest checkpoint that verified, if any.
    pub manifest: Option<Manifest>,
    /// Newer ones that did not.
    pub passed_over: Vec<PassedOver>,
}

/// What [`newest_intact`] does with a damaged checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBad {
    /// Renames its manifest, so that it is named and not tried again. For the leader of a run.
    SetAside,
    /// Leaves it. For readers.
    Leave,
}

/// A manifest that was set aside, as a file.
#[derive(Serialize, Deserialize)]
struct Aside {
    because: Damage,
    manifest: String,
}

/// Publishes a checkpoint, after a look at every part: it must be there with its full length.
///
/// Publishing the same state again is fine. A damaged manifest in the way is set aside first.
///
/// # Errors
/// [`CheckpointError::Damaged`] when a part is not there as it should be, [`CheckpointError::OtherState`] when another state has been published
/// for the step, [`CheckpointError::Store`] when the store failed; the checkpoint then does not exist or, after an unclear answer, is whole.
pub async fn publish(store: &Store, manifest: &Manifest) -> Result<(), CheckpointError> {
    check_present(store, manifest).await?;
    let key = Manifest::key(manifest.step);
    let body = bytes::Bytes::from(manifest.to_file());
    let mut cleared = false;
    loop {
        let Created::Exists(other) = store.create(&key, body.clone()).await? else { return Ok(()) };
        match Manifest::from_file(&store.at(&key), manifest.step, &other) {
            Ok(other) if other.state == manifest.state => return Ok(()),
            Ok(other) => {
                return Err(CheckpointError::OtherState { place: store.at(&key), found: other.state, computed: manifest.state });
            }
            Err(CheckpointError::Damaged { damage, .. }) if !cleared => {
                set_aside(store, manifest.step, &damage).await?;
                cleared = true;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn check_present(store: &Store, manifest: &Manifest) -> Result<(), CheckpointError> {
    let heads: Vec<_> = manifest.parts.iter().map(|part| check_length(store, part)).collect();
    futures::stream::iter(heads).buffer_unordered(HEADS_AT_ONCE).try_collect().await
}

async fn check_length(store: &Store, part: &PartRecord) -> Result<(), CheckpointError> {
    let damage = match store.head(&part.key).await? {
        Some(found) if found == part.bytes => return Ok(()),
        Some(found) => Damage::length(part.shard, found, part.bytes),
        None => Damage::missing(part.shard),
    };
    Err(CheckpointError::Damaged { place: store.at(&part.key), damage })
}

/// The manifest of one step; its parts are not looked at.
///
/// # Errors
/// [`CheckpointError::Absent`] when there is none, [`CheckpointError::Damaged`], [`CheckpointError::NewerFormat`] or [`CheckpointError::Store`].
pub async fn load(store: &Store, step: Step) -> Result<Manifest, CheckpointError> {
    let key = Manifest::key(step);
    match store.get(&key, MANIFEST_MAX).await {
        Ok(text) => Manifest::from_file(&store.at(&key), step, &text),
        Err(StoreError::NotFound { .. }) => Err(CheckpointError::Absent { step, what: "manifest".into() }),
        Err(StoreError::TooLarge { bytes, .. }) => {
            Err(CheckpointError::Damaged { place: store.at(&key), damage: Damage::Corrupt(format!("a manifest of {bytes} bytes")) })
        }
        Err(error) => Err(error.into()),
    }
}

/// All checkpoints, oldest first, judged by their manifests and the lengths of their parts: cheap.
///
/// # Errors
/// [`CheckpointError::Store`] when the store failed.
pub async fn list(store: &Store) -> Result<Vec<Listing>, CheckpointError> {
    let entries = store.list("checkpoints").await?;
    let sizes: BTreeMap<&str, u64> = entries.iter().map(|entry| (entry.key.as_str(), entry.bytes)).collect();
    let mut listings = Vec::new();
    for entry in &entries {
        if let Some(step) = Manifest::step_of(&entry.key) {
            listings.extend(look_at(store, step, &sizes, entry.modified_ms).await?);
        } else if let Some(step) = step_of_aside(&entry.key) {
            let damage = read_aside(store, &entry.key).await?;
            let condition = Condition::SetAside(damage);
            listings.push(Listing { step, bytes: 0, state: None, parts: 0, published_ms: entry.modified_ms, condition });
        }
    }
    listings.sort_by_key(|listing| listing.step);
    Ok(listings)
}

/// One listing, or `None` when the checkpoint was deleted meanwhile.
async fn look_at(store: &Store, step: Step, sizes: &BTreeMap<&str, u64>, published_ms: u64) -> Result<Option<Listing>, CheckpointError> {
    let unread = |condition| Ok(Some(Listing { step, bytes: 0, state: None, parts: 0, published_ms, condition }));
    let manifest = match load(store, step).await {
        Ok(manifest) => manifest,
        Err(CheckpointError::Absent { .. }) => return Ok(None),
        Err(CheckpointError::Damaged { damage, .. }) => return unread(Condition::Damaged(damage)),
        Err(CheckpointError::NewerFormat { found, .. }) => return unread(Condition::NewerFormat(found)),
        Err(error) => return Err(error),
    };
    let damage = manifest.parts.iter().find_map(|part| match sizes.get(part.key.as_str()) {
        Some(found) if *found == part.bytes => None,
        Some(found) => Some(Damage::length(part.shard, *found, part.bytes)),
        None => Some(Damage::missing(part.shard)),
    });
    let condition = damage.map_or(Condition::Intact, Condition::Damaged);
    let (bytes, state, parts) = (manifest.bytes(), Some(manifest.state), manifest.parts.len() as u32);
    Ok(Some(Listing { step, bytes, state, parts, published_ms, condition }))
}

/// Reads every byte of a checkpoint's parts and checks every digest; returns the parts that are damaged.
///
/// # Errors
/// [`CheckpointError::Store`] when the store failed: nothing is then known.
pub async fn verify(store: &Store, manifest: &Manifest) -> Result<Vec<(ShardId, PassedOver)>, CheckpointError> {
    let reads: Vec<_> = manifest.parts.iter().map(|part| check_content(store, manifest, part)).collect();
    let found: Vec<Option<_>> = futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn check_content(store: &Store, manifest: &Manifest, part: &PartRecord) -> Result<Option<(ShardId, PassedOver)>, CheckpointError> {
    match part::checked_data(store, manifest, part).await {
        Ok(_) => Ok(None),
        Err(CheckpointError::Damaged { place, damage }) => Ok(Some((part.shard, PassedOver { step: manifest.step, place, damage }))),
        Err(error) => Err(error),
    }
}

/// The newest checkpoint that verifies from end to end.
///
/// # Errors
/// [`CheckpointError::Store`] when the store failed, [`CheckpointError::NewerFormat`] when a later version wrote a newer checkpoint:
/// going back behind it unasked would lose work.
pub async fn newest_intact(store: &Store, on_bad: OnBad) -> Result<Found, CheckpointError> {
    let mut steps: Vec<Step> = store.list("checkpoints").await?.iter().filter_map(|entry| Manifest::step_of(&entry.key)).collect();
    steps.sort_unstable();
    let mut passed_over = Vec::new();
    for step in steps.into_iter().rev() {
        let bad = match load(store, step).await {
            Ok(manifest) => match verify(store, &manifest).await?.into_iter().next() {
                None => return Ok(Found { manifest: Some(manifest), passed_over }),
                Some((_, bad)) => bad,
            },
            Err(CheckpointError::Damaged { place, damage }) => PassedOver { step, place, damage },
            Err(CheckpointError::Absent { .. }) => continue,
            Err(error) => return Err(error),
        };
        if on_bad == OnBad::SetAside {
            set_aside(store, step, &bad.damage).await?;
        }
        passed_over.push(bad);
    }
    Ok(Found { manifest: None, passed_over })
}

/// Keeps a manifest under another name, with the reason. Done again after a crash it ends the same.
async fn set_aside(store: &Store, step: Step, damage: &Damage) -> Result<(), CheckpointError> {
    let key = Manifest::key(step);
    let text = match store.get(&key, MANIFEST_MAX).await {
        Ok(text) => text,
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(StoreError::TooLarge { .. }) => bytes::Bytes::new(),
        Err(error) => return Err(error.into()),
    };
    let aside = Aside { because: damage.clone(), manifest: String::from_utf8_lossy(&text).into_owned() };
    let body = serde_json::to_vec_pretty(&aside).expect("strings have a JSON form");
    let name = key.replace("manifest.json", &format!("set-aside-{}.json", Digest::of(&text).short()));
    store.put(&name, body).await?;
    store.delete(&key).await?;
    Ok(())
}

fn step_of_aside(key: &str) -> Option<Step> {
    let (step, name) = key.strip_prefix("checkpoints/")?.split_once('/')?;
    name.starts_with("set-aside-").then(|| step.parse().ok().map(Step))?
}

async fn read_aside(store: &Store, key: &str) -> Result<Damage, CheckpointError> {
    match store.get(key, 2 * MANIFEST_MAX).await {
        Ok(text) => {
            let aside: Result<Aside, _> = serde_json::from_slice(&text);
            Ok(aside.map_or_else(|_| Damage::Torn("the note about it is unreadable too".into()), |aside| aside.because))
        }
        Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => Ok(Damage::Torn("the note about it is gone".into())),
        Err(error) => Err(error.into()),
    }
}

/// Deletes all checkpoints that are older than the newest `keep` (at least one) intact ones: manifests first, then parts.
/// Returns the steps whose manifests were deleted.
///
/// Damaged checkpoints do not count as kept, and while one has a newer format nothing is deleted.
///
/// # Errors
/// [`CheckpointError::Store`] when the store failed; the next call goes on where this one stopped.
pub async fn prune(store: &Store, keep: usize) -> Result<Vec<Step>, CheckpointError> {
    let listings = list(store).await?;
    if listings.iter().any(|listing| matches!(listing.condition, Condition::NewerFormat(_))) {
        return Ok(Vec::new());
    }
    let intact = listings.iter().rev().filter(|listing| listing.condition == Condition::Intact);
    let kept: Vec<Step> = intact.take(keep.max(1)).map(|listing| listing.step).collect();
    let Some(oldest) = kept.last().copied().filter(|_| kept.len() == keep.max(1)) else { return Ok(Vec::new()) };
    let mut named = BTreeSet::new();
    for step in &kept {
        named.extend(load(store, *step).await?.parts.into_iter().map(|part| part.key));
    }
    let entries = store.list("checkpoints").await?;
    let old = |key: &str| Manifest::step_of(key).or_else(|| step_of_aside(key)).is_some_and(|step| step < oldest);
    let manifests: Vec<String> = entries.into_iter().map(|entry| entry.key).filter(|key| old(key)).collect();
    let steps = manifests.iter().filter_map(|key| Manifest::step_of(key)).collect();
    store.delete_all(manifests).await?;
    for name in store.folders("checkpoints/parts").await? {
        if name.parse().is_ok_and(|step| Step(step) < oldest) {
            delete_parts(store, &format!("checkpoints/parts/{name}"), &named).await?;
        }
    }
    for name in store.folders("checkpoints").await? {
        if name.parse().is_ok_and(|step| Step(step) < oldest) {
            store.sweep(&format!("checkpoints/{name}")).await?;
        }
    }
    Ok(steps)
}

async fn delete_parts(store: &Store, prefix: &str, named: &BTreeSet<String>) -> Result<(), CheckpointError> {
    let keys: Vec<String> = store.list(prefix).await?.into_iter().map(|entry| entry.key).collect();
    let (kept, gone): (Vec<String>, Vec<String>) = keys.into_iter().partition(|key| named.contains(key));
    store.delete_all(gone).await?;
    if kept.is_empty() {
        store.sweep(prefix).await?;
    }
    Ok(())
}
