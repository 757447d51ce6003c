//! What checkpoints guarantee, with a store that fails at every place.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use proptest::prelude::*;
use ractor::Actor;

use crate::protocol::ids::{Epoch, ShardId, Step, UnitId};
use crate::store::faulty::{Fault, Faulty};
use crate::store::{Store, StoreError};
use crate::workload::{TensorKind, TensorSpec, Unit};

use super::writer::{CheckpointWriter, SaveError, Saved, Snapshot, WriterConfig, WriterMessage};
use super::*;

fn units() -> Vec<Unit> {
    let tensor =
        |name: &str, shape: &[usize], offset| TensorSpec { name: name.into(), shape: shape.into(), offset, kind: TensorKind::Parameter };
    let stem = vec![tensor("stem.weight", &[3, 5], 0), tensor("stem.bias", &[5], 15)];
    vec![
        Unit { name: "stem".into(), tensors: stem, row: 1 },
        Unit { name: "head".into(), tensors: vec![tensor("head.weight", &[7], 0)], row: 1 },
    ]
}

/// Three shards, whose values depend on the step.
fn shards(step: u64) -> Vec<SnapshotShard> {
    let shard = |unit, index, start, len: usize| {
        let value = |at: usize| (step * 100) as f32 + (unit as usize * 1000 + start + at) as f32 / 8.0;
        SnapshotShard {
            id: ShardId { unit: UnitId(unit), index },
            start,
            values: Arc::new((0..len).map(value).collect()),
            slots: Arc::new(vec![(0..len).map(|at| -value(at)).collect()]),
        }
    };
    vec![shard(0, 0, 0, 12), shard(0, 1, 12, 8), shard(1, 0, 0, 7)]
}

fn draft(step: u64) -> Draft {
    Draft { run: "run".into(), config: Digest::of(b"config"), epoch: Epoch(1), step: Step(step), units: units(), slots: 1 }
}

async fn write_parts(store: &Store, step: u64) -> Result<Vec<PartRecord>, CheckpointError> {
    let mut records = Vec::new();
    for shard in shards(step) {
        records.push(part::write(store, "run", Step(step), &units()[shard.id.unit.0 as usize], shard).await?);
    }
    Ok(records)
}

async fn save(store: &Store, step: u64) -> Result<Manifest, CheckpointError> {
    let manifest = assemble(draft(step), write_parts(store, step).await?)?;
    publish(store, &manifest).await?;
    Ok(manifest)
}

fn memory() -> (Arc<InMemory>, Store) {
    let memory = Arc::new(InMemory::new());
    (Arc::clone(&memory), Store::with(memory, "run"))
}

fn faulty(inner: &Arc<InMemory>) -> (Arc<Faulty>, Store) {
    let faulty = Arc::new(Faulty::new(Arc::clone(inner) as Arc<dyn object_store::ObjectStore>));
    (Arc::clone(&faulty), Store::with(faulty, "run"))
}

async fn newest(store: &Store) -> Option<Step> {
    newest_intact(store, OnBad::Leave).await.unwrap().manifest.map(|manifest| manifest.step)
}

#[tokio::test]
async fn a_checkpoint_reads_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let manifest = save(&store, 3).await.unwrap();
    let found = newest_intact(&store, OnBad::SetAside).await.unwrap();
    assert_eq!(found, Found { manifest: Some(manifest.clone()), passed_over: vec![] });
    for shard in shards(3) {
        let read = read_part(&store, &manifest, shard.id).await.unwrap();
        assert_eq!((read.start, &read.values, &read.slots), (shard.start, &*shard.values, &*shard.slots));
        assert_eq!(manifest.part(shard.id).unwrap().digest, digest(&read.values, &read.slots));
    }
    let listed = list(&store).await.unwrap();
    let listing = Listing {
        step: Step(3),
        bytes: manifest.bytes(),
        state: Some(manifest.state),
        parts: manifest.parts.len() as u32,
        published_ms: listed[0].published_ms,
        condition: Condition::Intact,
    };
    assert_eq!(listed, [listing]);
    let absent = read_part(&store, &manifest, ShardId { unit: UnitId(9), index: 0 }).await;
    assert!(matches!(absent, Err(CheckpointError::Absent { .. })));
}

#[tokio::test]
async fn a_part_is_a_safetensors_file() {
    let (_, store) = memory();
    let manifest = save(&store, 3).await.unwrap();
    let file = store.get(&manifest.parts[1].key, 1 << 20).await.unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        tensors.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(tensors.tensor("values").unwrap().shape(), [8]);
    assert_eq!(floats("values"), *shards(3)[1].values);
    assert_eq!(floats("slot0"), shards(3)[1].slots[0]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    let told = header.metadata().clone().unwrap();
    assert_eq!((&*told["run"], &*told["step"], &*told["unit"], &*told["start"]), ("run", "3", "stem", "12"));
}

/// Whatever operation the writer dies in, and however: the newest intact checkpoint is the last that was published or
/// the one before, it verifies, and the next process can go on from there.
#[tokio::test]
async fn a_crash_at_any_write_costs_at_most_the_checkpoint_under_way() {
    let (memory, quiet) = faulty(&Arc::new(InMemory::new()));
    for step in [1, 2, 3, 4] {
        save(&quiet, step).await.unwrap();
        prune(&quiet, 2).await.unwrap();
    }
    let writes = memory.writes();
    assert!(writes > 16);
    for fault in [Fault::Crash, Fault::CrashTorn, Fault::CrashAfter] {
        for at in 0..writes {
            let inner = Arc::new(InMemory::new());
            let (faults, store) = faulty(&inner);
            faults.fail(at, fault);
            let (mut published, mut tried) = (0, 0);
            for step in [1, 2, 3, 4] {
                tried = step;
                if save(&store, step).await.is_err() {
                    break;
                }
                published = step;
                if prune(&store, 2).await.is_err() {
                    break;
                }
            }
            let again = Store::with(inner, "run");
            let found = newest_intact(&again, OnBad::SetAside).await.unwrap();
            let step = found.manifest.map_or(0, |manifest| manifest.step.0);
            assert!(step == published || step == tried, "{fault:?} at write {at}: published {published}, tried {tried}, found {step}");
            assert_eq!(newest(&again).await.map_or(0, |step| step.0), step, "set aside is not tried again");
            // The next process saves the same step again, over whatever was left.
            save(&again, tried).await.unwrap();
            assert_eq!(newest(&again).await, Some(Step(tried)), "{fault:?} at write {at}");
        }
    }
}

/// A store that lies once: the checkpoint in question is either refused before it is published, or found out and named.
#[tokio::test]
async fn a_lying_store_is_found_out() {
    for at in 4..8 {
        for fault in [Fault::TornSilently, Fault::Torn, Fault::Full, Fault::AnswerLost, Fault::Flipped(3), Fault::Flipped(u64::MAX / 2)] {
            let inner = Arc::new(InMemory::new());
            let (faults, store) = faulty(&inner);
            faults.fail(at, fault);
            save(&store, 1).await.unwrap();
            let second = save(&store, 2).await;
            let found = newest_intact(&store, OnBad::SetAside).await.unwrap();
            match found.manifest.unwrap().step.0 {
                2 => assert_eq!(found.passed_over, []),
                step => {
                    assert_eq!(step, 1, "{fault:?} at {at}");
                    assert!(
                        second.is_err() || found.passed_over.len() == 1,
                        "{fault:?} at {at}: {second:?} {found:?}",
                        found = found.passed_over
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_part_that_did_not_arrive_is_noticed_by_its_writer() {
    for fault in [Fault::TornSilently, Fault::Flipped(20), Fault::Flipped(300)] {
        let (faults, store) = faulty(&Arc::new(InMemory::new()));
        faults.fail(1, fault);
        let error = write_parts(&store, 1).await.unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn any_corrupt_byte_of_a_part_is_found_and_named() {
    let (_, store) = memory();
    save(&store, 1).await.unwrap();
    let manifest = save(&store, 2).await.unwrap();
    let part = manifest.parts[1].clone();
    let whole = store.get(&part.key, part.bytes).await.unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        store.put(&part.key, bytes).await.unwrap();
        let found = newest_intact(&store, OnBad::Leave).await.unwrap();
        assert_eq!(found.manifest.unwrap().step, Step(1), "byte {at}");
        let [bad] = &found.passed_over[..] else { panic!("byte {at}") };
        assert_eq!((bad.step, &bad.place), (Step(2), &store.at(&part.key)));
        assert!(matches!(bad.damage, Damage::Corrupt(_)));
        assert!(matches!(read_part(&store, &manifest, part.shard).await, Err(CheckpointError::Damaged { .. })));
    }
    for len in [0, 7, 8, whole.len() - 1] {
        store.put(&part.key, whole.slice(..len)).await.unwrap();
        let [(shard, bad)] = &verify(&store, &manifest).await.unwrap()[..] else { panic!("length {len}") };
        assert_eq!((*shard, &bad.damage), (part.shard, &Damage::length(part.shard, len as u64, part.bytes)));
        assert!(matches!(list(&store).await.unwrap()[1].condition, Condition::Damaged(Damage::Torn(_))), "a cheap look finds it too");
    }
    store.delete(&part.key).await.unwrap();
    assert_eq!(verify(&store, &manifest).await.unwrap()[0].1.damage, Damage::missing(part.shard));
}

#[tokio::test]
async fn a_torn_or_corrupt_manifest_is_set_aside_and_the_one_before_used() {
    let (_, store) = memory();
    save(&store, 1).await.unwrap();
    save(&store, 2).await.unwrap();
    let key = Manifest::key(Step(2));
    let whole = store.get(&key, 1 << 20).await.unwrap();
    // The last brace alone may go missing without harm to what is said, so every cut before it.
    for at in (0..whole.len() - 1).step_by(7) {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 0x01;
        for bytes in [whole[..at].to_vec(), flipped] {
            if says_newer(&bytes) {
                continue;
            }
            store.put(&key, bytes.clone()).await.unwrap();
            let found = newest_intact(&store, OnBad::SetAside).await.unwrap();
            assert_eq!(found.manifest.unwrap().step, Step(1), "byte {at}");
            assert_eq!(found.passed_over.len(), 1);
            assert_eq!((found.passed_over[0].step, &found.passed_over[0].place), (Step(2), &store.at(&key)));
            assert_eq!(store.head(&key).await, Ok(None));
            let listed = list(&store).await.unwrap();
            let aside = Condition::SetAside(found.passed_over[0].damage.clone());
            assert!(listed.iter().any(|listing| listing.step == Step(2) && listing.condition == aside), "{listed:?}");
        }
    }
    assert!(matches!(Manifest::from_file("", Step(2), &whole[..40]), Err(CheckpointError::Damaged { damage: Damage::Torn(_), .. })));
}

fn says_newer(bytes: &[u8]) -> bool {
    matches!(Manifest::from_file("", Step(2), bytes), Err(CheckpointError::NewerFormat { .. }))
}

#[tokio::test]
async fn a_newer_format_is_refused_and_nothing_is_deleted() {
    let (_, store) = memory();
    for step in [1, 2, 3] {
        save(&store, step).await.unwrap();
    }
    store.put(&Manifest::key(Step(4)), r#"{"format": 2, "something": "else"}"#).await.unwrap();
    let error = newest_intact(&store, OnBad::SetAside).await.unwrap_err();
    assert_eq!(error, CheckpointError::NewerFormat { place: store.at(&Manifest::key(Step(4))), found: 2, known: 1 });
    assert_eq!(prune(&store, 1).await.unwrap(), []);
    assert_eq!(list(&store).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_store_that_is_away_is_not_damage() {
    let inner = Arc::new(InMemory::new());
    save(&Store::with(Arc::clone(&inner) as Arc<dyn object_store::ObjectStore>, "run"), 1).await.unwrap();
    let (faults, store) = faulty(&inner);
    faults.fail(0, Fault::Crash);
    assert!(store.put("x", "x").await.is_err());
    assert!(matches!(newest_intact(&store, OnBad::SetAside).await, Err(CheckpointError::Store(StoreError::Unavailable { .. }))));
    assert_eq!(newest(&Store::with(inner, "run")).await, Some(Step(1)));
}

#[tokio::test]
async fn retention_keeps_what_kept_manifests_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    for step in 1..=5 {
        save(&store, step).await.unwrap();
    }
    // Parts of a save under way, and of one that never got its manifest.
    write_parts(&store, 6).await.unwrap();
    write_parts(&store, 0).await.unwrap();
    // A damaged checkpoint does not count as kept.
    let torn = load(&store, Step(5)).await.unwrap();
    store.put(&torn.parts[0].key, "torn").await.unwrap();
    assert_eq!(prune(&store, 2).await.unwrap(), [Step(1), Step(2)]);
    for step in [3, 4] {
        assert_eq!(verify(&store, &load(&store, Step(step)).await.unwrap()).await.unwrap(), []);
    }
    let left = store.folders("checkpoints/parts").await.unwrap();
    assert_eq!(left, ["3", "4", "5", "6"]);
    assert_eq!(store.list("checkpoints/parts/6").await.unwrap().len(), 3);
    assert_eq!(prune(&store, 3).await.unwrap(), [], "fewer than that are intact");
    assert_eq!(prune(&store, 0).await.unwrap(), [Step(3)], "one is always kept");
    assert_eq!(newest(&store).await, Some(Step(4)));
}

#[tokio::test]
async fn publishing_twice_is_fine_and_another_state_is_an_alarm() {
    let (_, store) = memory();
    let manifest = save(&store, 2).await.unwrap();
    let later = Manifest { epoch: Epoch(7), ..manifest.clone() };
    assert_eq!(publish(&store, &later).await, Ok(()));
    assert_eq!(load(&store, Step(2)).await.unwrap().epoch, Epoch(1), "the first stays");
    let mut other = shards(2);
    other[2].values = Arc::new(vec![0.5; 7]);
    let mut records = Vec::new();
    for shard in other {
        records.push(part::write(&store, "run", Step(2), &units()[shard.id.unit.0 as usize], shard).await.unwrap());
    }
    let other = assemble(draft(2), records).unwrap();
    let place = store.at(&Manifest::key(Step(2)));
    assert_eq!(publish(&store, &other).await, Err(CheckpointError::OtherState { place, found: manifest.state, computed: other.state }));
}

#[tokio::test]
async fn a_manifest_is_not_published_before_its_parts() {
    let (_, store) = memory();
    let manifest = assemble(draft(2), write_parts(&store, 2).await.unwrap()).unwrap();
    store.delete(&manifest.parts[2].key).await.unwrap();
    let error = publish(&store, &manifest).await.unwrap_err();
    assert_eq!(
        error,
        CheckpointError::Damaged { place: store.at(&manifest.parts[2].key), damage: Damage::missing(manifest.parts[2].shard) }
    );
    assert_eq!(list(&store).await.unwrap(), []);
}

#[tokio::test]
async fn parts_must_make_a_whole_state() {
    let (_, store) = memory();
    let records = write_parts(&store, 2).await.unwrap();
    let without = |at: usize| records.iter().enumerate().filter(move |(n, _)| *n != at).map(|(_, record)| record.clone());
    assert_eq!(assemble(draft(2), without(0)), Err(Incomplete::Missing { unit: "stem".into(), from: 0 }));
    assert_eq!(assemble(draft(2), without(1)), Err(Incomplete::Missing { unit: "stem".into(), from: 12 }));
    assert_eq!(assemble(draft(2), without(2)), Err(Incomplete::Missing { unit: "head".into(), from: 0 }));
    let replica = PartRecord { digest: Digest::of(b"other"), ..records[1].clone() };
    let disagree = assemble(draft(2), records.iter().cloned().chain([replica.clone()]));
    assert_eq!(disagree, Err(Incomplete::Disagree { shard: replica.shard, a: records[1].digest, b: replica.digest }));
    let mut shifted = records.clone();
    shifted[1].start = 11;
    assert!(matches!(assemble(draft(2), shifted), Err(Incomplete::Misfit { .. })));
    let mut stray = records.clone();
    stray[2].shard.unit = UnitId(2);
    assert!(assemble(draft(2), stray).is_err());
    let mixed = Draft { step: Step(3), ..draft(2) };
    assert!(matches!(assemble(mixed, records), Err(Incomplete::Misfit { .. })), "parts of another step");
}

proptest! {
    #[test]
    fn the_state_digest_knows_no_order_of_writers(order in Just((0..3).collect::<Vec<usize>>()).prop_shuffle(), twice in 0..3usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, store) = memory();
        let records = runtime.block_on(write_parts(&store, 2)).unwrap();
        let straight = assemble(draft(2), records.clone()).unwrap();
        let shuffled = order.iter().chain([&twice]).map(|at| records[*at].clone());
        prop_assert_eq!(assemble(draft(2), shuffled).unwrap(), straight);
    }
}

#[test]
fn digests_are_pinned() {
    // BLAKE3 of the bytes 00 00 80 3f 00 00 00 c0: 1.0 and -2.0.
    let expected = Digest::of(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    assert_eq!(digest(&[1.0], &[vec![-2.0]]), expected);
    assert_ne!(digest(&[1.0], &[vec![2.0]]), expected);
    assert_eq!(Digest::of(b"").to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
}

async fn writer(store: Store, in_flight: usize) -> ractor::ActorRef<WriterMessage> {
    let config = WriterConfig { in_flight, ..WriterConfig::new(store, "run", units().into()) };
    Actor::spawn(None, CheckpointWriter, config).await.unwrap().0
}

async fn ask(writer: &ractor::ActorRef<WriterMessage>, step: u64) -> Result<Saved, SaveError> {
    let snapshot = Snapshot { epoch: Epoch(1), step: Step(step), shards: shards(step) };
    writer.call(|reply| WriterMessage::Save { snapshot, reply }, None).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_writer_saves_and_survives_a_full_disk() {
    let (faults, store) = faulty(&Arc::new(InMemory::new()));
    let writer = writer(store.clone(), 1).await;
    faults.fail(0, Fault::Full);
    let failed = ask(&writer, 1).await.unwrap_err();
    assert!(
        matches!(&failed, SaveError::Failed(CheckpointError::Store(StoreError::Full { place })) if place.contains("checkpoints/parts/1/")),
        "{failed:?}"
    );
    let saved = ask(&writer, 2).await.unwrap();
    assert_eq!((saved.epoch, saved.step), (Epoch(1), Step(2)));
    publish(&store, &assemble(draft(2), saved.parts).unwrap()).await.unwrap();
    assert_eq!(newest(&store).await, Some(Step(2)));
    writer.stop(None);
}

#[tokio::test(start_paused = true)]
async fn the_writer_is_bounded() {
    let (faults, store) = faulty(&Arc::new(InMemory::new()));
    faults.fail(0, Fault::Late(Duration::from_secs(3600)));
    let writer = writer(store, 1).await;
    let slow = tokio::spawn({
        let writer = writer.clone();
        async move { ask(&writer, 1).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(ask(&writer, 2).await, Err(SaveError::Busy { step: Step(2), in_flight: 1 }));
    assert!(slow.await.unwrap().is_ok());
    assert!(ask(&writer, 3).await.is_ok(), "the place is free again");
    writer.stop(None);
}
