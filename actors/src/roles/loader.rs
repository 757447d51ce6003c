//! The loader: keeps its rank fed, a bounded number of batches ahead.
//!
//! Supervised by [`super::node`]. It decodes on blocking threads and never talks to peers. Batches
//! are pure functions of (step, lane), so a loader that dies loses nothing but time.
//!
//! Invariant: at most `ahead_max` steps of batches exist beyond the step in work.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Semaphore, oneshot};

use crate::aside::aside;
use crate::net::mailbox::ActorStats;
use crate::protocol::ids::{Lane, Step};
use crate::workload::{Batch, Source, SourceError};

/// What the loader is told.
#[derive(Debug)]
pub enum LoaderMsg {
    /// An epoch begins: from this step on, these lanes are ours. Batches of other lanes are dropped.
    Follow {
        /// First step.
        step: Step,
        /// Our lanes.
        lanes: Range<u32>,
        /// No batch is made for this step or later ones.
        end: Step,
    },
    /// The rank wants a batch now; the loader moves on to the next steps.
    Take {
        /// Of this step.
        step: Step,
        /// Of this lane.
        lane: Lane,
        /// The batch, or why the data cannot be used.
        reply: oneshot::Sender<Result<Batch, SourceError>>,
    },
}

type Pending = oneshot::Receiver<Result<Batch, SourceError>>;

/// Batches on their way.
#[derive(Debug, Default)]
pub struct State {
    lanes: Range<u32>,
    end: Step,
    pending: BTreeMap<(Step, Lane), Pending>,
}

/// The actor; see the module's text.
pub struct Loader {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// Where batches come from.
    pub source: Arc<dyn Source>,
    /// Steps of batches ahead of the rank.
    pub ahead_max: u64,
    /// Batches decoded at the same time.
    pub threads: Arc<Semaphore>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loader(ahead_max: {})", self.ahead_max)
    }
}

impl Actor for Loader {
    type Msg = LoaderMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<LoaderMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(&self, _: ActorRef<LoaderMsg>, message: LoaderMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            LoaderMsg::Follow { step, lanes, end } => {
                let _at_work = self.stats.handling("follow");
                state.lanes = lanes;
                state.end = end;
                let ours = state.lanes.clone();
                state.pending.retain(|(at, lane), _| *at >= step && ours.contains(&lane.0));
                self.fill(state, step);
            }
            LoaderMsg::Take { step, lane, reply } => {
                let _at_work = self.stats.handling("take");
                let pending = state.pending.remove(&(step, lane)).unwrap_or_else(|| self.start(step, lane));
                self.fill(state, step.next());
                tokio::spawn(async move {
                    let gone = || Err(SourceError(format!("the decoder of {step} {lane} ended without a result; start the run again")));
                    let batch = pending.await.unwrap_or_else(|_| gone());
                    // A rank that no longer waits has been aborted; the batch can be made again.
                    let _ = reply.send(batch);
                });
            }
        }
        Ok(())
    }
}

impl Loader {
    fn fill(&self, state: &mut State, from: Step) {
        for step in from.0..(from.0 + self.ahead_max).min(state.end.0) {
            for lane in state.lanes.clone() {
                let key = (Step(step), Lane(lane));
                state.pending.entry(key).or_insert_with(|| self.start(key.0, key.1));
            }
        }
    }

    fn start(&self, step: Step, lane: Lane) -> Pending {
        let (reply, pending) = oneshot::channel();
        let (source, threads) = (self.source.clone(), self.threads.clone());
        tokio::spawn(async move {
            let Ok(_permit) = threads.acquire_owned().await else { return };
            if let Ok(batch) = aside(move || source.batch(step, lane)).await {
                let _ = reply.send(batch);
            }
        });
        pending
    }
}
