//! The Sinkhorn aggregator: finishes the canonical sums of the small vectors that are its turn.
//!
//! One per node, supervised by [`super::node`]. It adds row sums of its range of the prototypes
//! (Sinkhorn) and whole vectors (batch-norm moments, loss) along the canonical tree, and sends
//! each total to every rank of the group. Its death ends the node: a sum in flight would be lost.
//!
//! Invariant: it keeps at most the sums of two steps of one epoch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::exchange::{Exchange, Inward, Outgoing};
use crate::net::mailbox::ActorStats;
use crate::protocol::ids::{Epoch, Step};
use crate::protocol::tree::TreeSum;
use crate::wire::message::{DataHeader, DataKind};

/// What the aggregator is told.
#[derive(Debug)]
pub enum AggregatorMsg {
    /// A subtree's sum has arrived, from a peer or from this node's own lanes.
    Partial {
        /// The epoch that it belongs to.
        exchange: Arc<Exchange>,
        /// Its header.
        header: DataHeader,
        /// The subtree's sum.
        values: Vec<f32>,
    },
}

/// Sums in progress, by (step, Sinkhorn or not, call, first lane of the group, first value).
#[derive(Debug, Default)]
pub struct State {
    epoch: Epoch,
    sums: BTreeMap<(Step, bool, u64, u32, u64), TreeSum<f32>>,
}

/// The actor; see the module's text.
#[derive(Debug)]
pub struct Aggregator {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// Told of a sum that does not add up.
    pub inward: Arc<dyn Inward>,
}

impl std::fmt::Debug for dyn Inward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inward")
    }
}

impl Actor for Aggregator {
    type Msg = AggregatorMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AggregatorMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(&self, _: ActorRef<AggregatorMsg>, message: AggregatorMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            AggregatorMsg::Partial { exchange, header, values } => {
                let _at_work = self.stats.handling("partial");
                self.partial(state, &exchange, &header, values).await;
            }
        }
        Ok(())
    }
}

impl Aggregator {
    async fn partial(&self, state: &mut State, exchange: &Arc<Exchange>, header: &DataHeader, values: Vec<f32>) {
        if exchange.epoch() < state.epoch {
            return;
        }
        if exchange.epoch() > state.epoch {
            *state = State { epoch: exchange.epoch(), ..State::default() };
        }
        let rows = header.kind == DataKind::Rows;
        let group = header.group();
        let key = (header.step, rows, header.call, group.start, header.start);
        // Everyone has left the steps before the last one: their sums would never be finished.
        while let Some(entry) = state.sums.first_entry().filter(|entry| entry.key().0.next() < header.step) {
            entry.remove();
        }
        let tree = state.sums.entry(key).or_insert_with(|| TreeSum::new(group.end - group.start));
        match tree.add(header.lanes(), values) {
            Ok(None) => {}
            Ok(Some(total)) => {
                state.sums.remove(&key);
                broadcast(exchange, header, &group, total).await;
            }
            Err(refused) => {
                self.inward.broken(format!("a partial sum of call {} at {} does not add up: {refused}", header.call, header.step))
            }
        }
    }
}

async fn broadcast(exchange: &Arc<Exchange>, partial: &DataHeader, group: &Range<u32>, total: Vec<f32>) {
    let kind = if partial.kind == DataKind::Rows { DataKind::RowsTotal } else { DataKind::Total };
    let header = DataHeader { kind, ..partial.clone() };
    let total = Arc::new(total);
    for rank in exchange.ranks_of(group) {
        if rank == exchange.rank() {
            exchange.total(&header, &total);
        } else {
            exchange.send(Outgoing { to: rank, header: header.clone(), values: total.clone(), range: 0..total.len() }).await;
        }
    }
}
