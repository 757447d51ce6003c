//! The checkpoint writer: the actor that turns snapshots into parts while its rank trains on.
//!
//! ## Supervision
//! One per node, started and supervised by the node. It supervises nobody: a snapshot is written by a task of
//! its own, and a failure there (a full disk, a store that is away) is an answer to who asked, never the
//! actor's end. If the actor dies all the same, its tasks are cancelled and every waiting caller's reply port
//! closes; the node starts it anew. Parts that were left behind are harmless: no manifest names them, and
//! retention deletes them. No save, failed or not, stops training.
//!
//! ## Bounds
//! At most `in_flight` snapshots are held at a time, a further one is refused with [`SaveError::Busy`]; at most
//! `parts_at_once` parts are hashed or written at a time. A snapshot holds its shards by reference count: memory
//! grows by what the rank replaces meanwhile, at most one state for each snapshot in flight.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::protocol::ids::{Epoch, Step};
use crate::store::Store;
use crate::workload::Unit;

use super::error::CheckpointError;
use super::manifest::PartRecord;
use super::part::{self, SnapshotShard};

/// How the writer is set up.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Where the run lives.
    pub store: Store,
    /// The run's id, part of every part's header.
    pub run: Arc<str>,
    /// The workload's units.
    pub units: Arc<[Unit]>,
    /// How many snapshots may be under way at a time.
    pub in_flight: usize,
    /// How many parts are hashed or written at a time: while some wait for the disk others are hashed.
    pub parts_at_once: usize,
}

impl WriterConfig {
    /// One snapshot at a time, four parts at a time.
    pub fn new(store: Store, run: &str, units: Arc<[Unit]>) -> Self {
        Self { store, run: run.into(), units, in_flight: 1, parts_at_once: 4 }
    }
}

/// This node's shards as of one step.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The epoch in which it was taken.
    pub epoch: Epoch,
    /// Steps committed.
    pub step: Step,
    /// The shards that this node is to write.
    pub shards: Vec<SnapshotShard>,
}

/// A snapshot whose parts are all in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The epoch in which it was taken.
    pub epoch: Epoch,
    /// Steps committed.
    pub step: Step,
    /// What was written, in the order of the snapshot.
    pub parts: Vec<PartRecord>,
    /// From the snapshot's arrival to the last part read back.
    pub took: Duration,
}

/// Why a snapshot was not saved. Training goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// Others are still being written.
    #[error("the checkpoint of step {} was skipped: {in_flight} before it are still being written; save less often or to a faster store", step.0)]
    Busy {
        /// The refused step.
        step: Step,
        /// How many are under way.
        in_flight: usize,
    },
    /// A part could not be written.
    #[error(transparent)]
    Failed(#[from] CheckpointError),
}

/// What the writer is told.
#[derive(Debug)]
pub enum WriterMessage {
    /// Write a snapshot's parts.
    Save {
        /// What to write.
        snapshot: Snapshot,
        /// Answered when all parts are in the store, or with why not.
        reply: RpcReplyPort<Result<Saved, SaveError>>,
    },
    /// A snapshot's task has ended (from that task).
    Ended,
}

/// The actor.
#[derive(Debug)]
pub struct CheckpointWriter;

/// What the writer holds while it lives.
#[derive(Debug)]
pub struct WriterState {
    config: WriterConfig,
    permits: Arc<Semaphore>,
    saves: JoinSet<()>,
    in_flight: usize,
}

impl Actor for CheckpointWriter {
    type Msg = WriterMessage;
    type State = WriterState;
    type Arguments = WriterConfig;

    async fn pre_start(&self, _: ActorRef<WriterMessage>, config: WriterConfig) -> Result<WriterState, ActorProcessingErr> {
        let permits = Arc::new(Semaphore::new(config.parts_at_once.max(1)));
        Ok(WriterState { config, permits, saves: JoinSet::new(), in_flight: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<WriterMessage>,
        message: WriterMessage,
        state: &mut WriterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WriterMessage::Save { snapshot, reply } => state.save(myself, snapshot, reply),
            WriterMessage::Ended => {
                state.in_flight -= 1;
                while state.saves.try_join_next().is_some() {}
            }
        }
        Ok(())
    }
}

impl WriterState {
    fn save(&mut self, myself: ActorRef<WriterMessage>, snapshot: Snapshot, reply: RpcReplyPort<Result<Saved, SaveError>>) {
        if self.in_flight >= self.config.in_flight.max(1) {
            // The caller may have gone; there is nobody else to tell.
            let _ = reply.send(Err(SaveError::Busy { step: snapshot.step, in_flight: self.in_flight }));
            return;
        }
        self.in_flight += 1;
        let (config, permits) = (self.config.clone(), Arc::clone(&self.permits));
        self.saves.spawn(async move {
            let ended = Ended(myself);
            let result = save(&config, &permits, snapshot).await;
            drop(ended);
            let _ = reply.send(result.map_err(SaveError::from));
        });
    }
}

/// Tells the writer that a task is over, also when it panicked.
struct Ended(ActorRef<WriterMessage>);

impl Drop for Ended {
    fn drop(&mut self) {
        // An error means that the writer is gone, and with it the count.
        let _ = self.0.cast(WriterMessage::Ended);
    }
}

/// Writes the parts of a snapshot.
async fn save(config: &WriterConfig, permits: &Semaphore, snapshot: Snapshot) -> Result<Saved, CheckpointError> {
    let started = tokio::time::Instant::now();
    let Snapshot { epoch, step, shards } = snapshot;
    let writes = futures::stream::iter(shards).map(|shard| async move {
        let absent = || CheckpointError::Absent { step, what: format!("unit {}", shard.id.unit) };
        let unit = config.units.get(shard.id.unit.0 as usize).ok_or_else(absent)?;
        let closed = |_| CheckpointError::CutShort { step, because: "the writer stopped".into() };
        let _permit = permits.acquire().await.map_err(closed)?;
        part::write(&config.store, &config.run, step, unit, shard).await
    });
    let parts = writes.buffered(config.parts_at_once.max(1)).try_collect().await?;
    Ok(Saved { epoch, step, parts, took: started.elapsed() })
}
