//! Saving a checkpoint against a raw write with fsync of as many bytes, in turn on the same disk.
//!
//! ```text
//! cargo bench --bench checkpoint [-- MIB [ROUNDS]]        1024 MiB and 5 rounds unless told
//! ```
//!
//! Rows (GB/s, median over the rounds; the order turns from round to round): one and two threads that `write` and
//! `fsync` a file each, and two checkpoint writers that hash, write, fsync and read back the parts of half the shards
//! each, up to and with the published manifest. "Held up" is what the ranks spent on handing over their snapshots,
//! the longest. The peer is `benches/peers/dcp_save.py`. Files lie in the target folder and are removed.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everstep_actors::checkpoint::writer::{CheckpointWriter, Saved, Snapshot, WriterConfig, WriterMessage};
use everstep_actors::checkpoint::{Digest, Draft, OnBad, SnapshotShard, assemble, newest_intact, publish};
use everstep_actors::protocol::ids::{Epoch, ShardId, Step, UnitId};
use everstep_actors::store::Store;
use everstep_actors::workload::{TensorKind, TensorSpec, Unit};
use ractor::{Actor, ActorRef};

type Error = Box<dyn std::error::Error>;

/// Values and one slot of a shard: 32 MiB each.
const SHARD: usize = 8 << 20;
const SHARD_BYTES: usize = 2 * 4 * SHARD;

fn main() -> Result<(), Error> {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let mib = numbers.first().copied().unwrap_or(1024);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let shards = make_shards((mib << 20).div_ceil(SHARD_BYTES).next_multiple_of(2));
    let gb = (shards.len() * SHARD_BYTES) as f64 / 1e9;
    let dir = tempfile::tempdir_in(target_dir())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;

    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    let mut held_up = Duration::ZERO;
    for round in 0..rounds {
        for turn in 0..3 {
            let row = (round + turn) % 3;
            let place = dir.path().join(format!("{round}-{row}"));
            std::fs::create_dir(&place)?;
            rustix::fs::sync();
            let took = match row {
                0 => raw(&place, &shards, 1)?,
                1 => raw(&place, &shards, 2)?,
                _ => {
                    let (took, stall) = runtime.block_on(ours(&place, &shards))?;
                    held_up = held_up.max(stall);
                    took
                }
            };
            seconds[row].push(took.as_secs_f64());
            std::fs::remove_dir_all(&place)?;
        }
    }
    let [one, two, ours] = seconds.map(|row| gb / median(row));
    println!("checkpoint of {gb:.2} GB, {rounds} rounds");
    println!("raw write + fsync, 1 thread   {one:6.2} GB/s");
    println!("raw write + fsync, 2 threads  {two:6.2} GB/s");
    println!("two checkpoint writers        {ours:6.2} GB/s   {:.2} x raw with 2 threads", ours / two);
    println!("ranks held up                 {:6.3} ms at most", held_up.as_secs_f64() * 1e3);
    Ok(())
}

fn target_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn make_shards(count: usize) -> Vec<SnapshotShard> {
    let mut state = 1u32;
    let mut values = || -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..SHARD).map(|_| next()).collect()
    };
    let shard = |unit| SnapshotShard {
        id: ShardId { unit: UnitId(unit), index: 0 },
        start: 0,
        values: Arc::new(values()),
        slots: Arc::new(vec![values()]),
    };
    (0..count as u32).map(shard).collect()
}

/// Each thread writes its part of the bytes into one file and syncs it.
fn raw(place: &Path, shards: &[SnapshotShard], threads: usize) -> Result<Duration, Error> {
    let started = Instant::now();
    let results: Vec<std::io::Result<()>> = std::thread::scope(|scope| {
        let write = |(at, shards): (usize, &[SnapshotShard])| {
            let (path, shards) = (place.join(at.to_string()), shards.to_vec());
            scope.spawn(move || {
                let mut file = File::create(path)?;
                for shard in &shards {
                    file.write_all(bytemuck::cast_slice(&shard.values))?;
                    shard.slots.iter().try_for_each(|slot| file.write_all(bytemuck::cast_slice(slot)))?;
                }
                file.sync_all()
            })
        };
        let running: Vec<_> = shards.chunks(shards.len().div_ceil(threads)).enumerate().map(write).collect();
        running.into_iter().map(|thread| thread.join().expect("a writing thread does not panic")).collect()
    });
    results.into_iter().collect::<std::io::Result<()>>()?;
    Ok(started.elapsed())
}

/// Two writers, half the shards each; the time up to the published manifest, and how long the ranks were held up.
async fn ours(place: &Path, shards: &[SnapshotShard]) -> Result<(Duration, Duration), Error> {
    let store = Store::open(&place.to_string_lossy())?;
    let units: Vec<Unit> = shards.iter().map(|shard| unit(shard.id.unit)).collect();
    let config = WriterConfig::new(store.clone(), "bench", units.clone().into());
    let (a, _) = Actor::spawn(None, CheckpointWriter, config.clone()).await?;
    let (b, _) = Actor::spawn(None, CheckpointWriter, config).await?;

    let started = Instant::now();
    let (first, second) = shards.split_at(shards.len() / 2);
    let (saving_a, stall_a) = hand_over(&a, first)?;
    let (saving_b, stall_b) = hand_over(&b, second)?;
    let (saved_a, saved_b) = (saving_a.await??, saving_b.await??);
    let draft = Draft { run: "bench".into(), config: Digest::of(b"bench"), epoch: Epoch(1), step: Step(1), units, slots: 1 };
    let manifest = assemble(draft, saved_a.parts.into_iter().chain(saved_b.parts))?;
    publish(&store, &manifest).await?;
    let took = started.elapsed();

    if newest_intact(&store, OnBad::Leave).await?.manifest != Some(manifest) {
        return Err("the checkpoint does not read back".into());
    }
    a.stop(None);
    b.stop(None);
    Ok((took, stall_a.max(stall_b)))
}

type Saving = ractor::concurrency::OneshotReceiver<Result<Saved, everstep_actors::checkpoint::writer::SaveError>>;

/// What a rank does: count the references up and send a message.
fn hand_over(writer: &ActorRef<WriterMessage>, shards: &[SnapshotShard]) -> Result<(Saving, Duration), Error> {
    let started = Instant::now();
    let (reply, saving) = ractor::concurrency::oneshot();
    let snapshot = Snapshot { epoch: Epoch(1), step: Step(1), shards: shards.to_vec() };
    writer.cast(WriterMessage::Save { snapshot, reply: reply.into() })?;
    Ok((saving, started.elapsed()))
}

fn unit(id: UnitId) -> Unit {
    let tensor = TensorSpec { name: format!("{id}.weight"), shape: vec![SHARD], offset: 0, kind: TensorKind::Parameter };
    Unit { name: id.to_string(), tensors: vec![tensor], row: 1 }
}
