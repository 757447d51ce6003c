//! Two nodes of an epoch, or one of them and what a peer may send it.

use std::sync::mpsc;

use super::*;
use crate::protocol::numbers::Dtype;
use crate::protocol::shard::{self, UnitShape};

const LENGTH: usize = 12;
const UNIT: UnitId = UnitId(0);

/// Frames on their way out.
struct Sent(mpsc::Sender<Outgoing>);

impl Outbound for Sent {
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        self.0.send(frame).unwrap();
        std::future::ready(()).boxed()
    }
}

struct Quiet;

impl Inward for Quiet {
    fn reduced(&self, _: Step) {}
    fn partial(&self, _: DataHeader, _: Vec<f32>) {}
    fn broken(&self, because: String) {
        panic!("{because}");
    }
}

/// Rank 0 of two, in epoch 3 at step 7: it owns the first half of a unit of 12 values in shards of 3.
fn node(wire: Wire) -> (Arc<Exchange>, mpsc::Receiver<Outgoing>) {
    let shards = shard::cut(&[UnitShape { length: LENGTH, row: 1 }], 3);
    assert_eq!(shards.len(), 4);
    let owner = |shard: &Shard| Rank(u32::from(shard.range.start >= LENGTH / 2));
    let places = shards.iter().map(|shard| Place { shard: shard.id, owner: owner(shard), replicas: Vec::new() }).collect();
    let plan = Plan { lanes: vec![(0, 1), (1, 2)], places };
    let committed = shards.iter().filter(|shard| owner(shard) == Rank(0));
    let committed = committed.map(|shard| (shard.id, Arc::new(values()[shard.range.clone()].to_vec()))).collect();
    let layout = Layout { epoch: Epoch(3), rank: Rank(0), plan, lanes: 2, shards, wires: vec![wire], gathered_values_max: LENGTH };
    let (sent, frames) = mpsc::channel();
    (Exchange::new(layout, Step(7), committed, Arc::new(Sent(sent)), Arc::new(Quiet)), frames)
}

/// The unit.
fn values() -> Vec<f32> {
    (0..LENGTH).map(|n| n as f32 + 0.2501).collect()
}

fn answer_to(want: &DataHeader) -> DataHeader {
    DataHeader { kind: DataKind::Gathered, ..want.clone() }
}

fn gather(exchange: &Arc<Exchange>) -> tokio::task::JoinHandle<Result<Vector, Aborted>> {
    tokio::spawn(Lanes(exchange.clone()).gather(Step(7), Lane(0), UNIT))
}

async fn wants(frames: &mpsc::Receiver<Outgoing>) -> Vec<DataHeader> {
    let mut wants = Vec::new();
    while wants.len() < 2 {
        tokio::task::yield_now().await;
        wants.extend(frames.try_iter().map(|frame| frame.header));
    }
    assert!(wants.iter().all(|want| want.kind == DataKind::Want && want.start >= 6), "{wants:?}");
    wants
}

/// Pieces end anywhere, in the middle of a value too; a second frame of the same shard and one of another epoch change nothing.
#[tokio::test]
async fn payloads_land_where_they_are_gathered_piece_by_piece() {
    let (exchange, frames) = node(Wire::default());
    // Opened and not copied yet, as a unit is that will be asked for next: what a peer sends of this node's own is no part of it.
    let opened = exchange.open(&mut exchange.lock(), UNIT);
    exchange.land(&answer_to(&exchange.header(Step(7), DataKind::Want, 0, UNIT, 0..3)), 0, &[7; 12]);
    opened.into_iter().for_each(|want| drop(exchange.outbound.send(want)));
    let gathered = gather(&exchange);
    for want in wants(&frames).await {
        let header = answer_to(&want);
        let values = values();
        let bytes: &[u8] = bytemuck::cast_slice(&values[header.range()]);
        assert!(exchange.lands(&header, 3) && !exchange.lands(&header, 2), "of the length that its header says");
        exchange.land(&DataHeader { epoch: Epoch(2), ..header.clone() }, 0, &[9; 12]);
        exchange.land(&header, 0, &bytes[..5]);
        exchange.land(&header, 0, &[7; 5]);
        exchange.land(&header, 7, &[7; 5]);
        exchange.land(&header, 5, &[7; 8]);
        exchange.land(&header, 5, &bytes[5..]);
        exchange.land(&header, 0, &[7; 12]);
    }
    assert!(*gathered.await.unwrap().unwrap() == values());
    // Nothing is open that could be written to any more.
    exchange.land(&answer_to(&exchange.header(Step(7), DataKind::Want, 0, UNIT, 6..9)), 0, &[7; 12]);
}

/// What travels in half the bits comes whole, is unpacked, and is rounded alike on the node that owns it.
#[tokio::test]
async fn narrow_payloads_are_gathered_as_all_lanes_see_them() {
    let narrow = Narrow::new(Dtype::BF16, LENGTH);
    let (exchange, frames) = node(Wire { gather: Dtype::BF16, below: LENGTH, ..Wire::default() });
    let gathered = gather(&exchange);
    for want in wants(&frames).await {
        let header = answer_to(&want);
        assert!(!exchange.lands(&header, 3));
        exchange.on_data(Rank(1), header.clone(), narrow.pack(&values()[header.range()]));
    }
    let mut seen = values();
    narrow.round(&mut seen);
    assert!(seen != values() && *gathered.await.unwrap().unwrap() == seen);
}

/// A frame that was admitted in one epoch may have been read to its end in the next one.
#[tokio::test]
async fn a_payload_of_an_epoch_that_is_over_is_not_added() {
    let (exchange, frames) = node(Wire::default());
    let header = DataHeader { lanes_start: 1, lanes_end: 2, ..exchange.header(Step(7), DataKind::Gradient, 0, UNIT, 0..3) };
    exchange.on_data(Rank(1), DataHeader { epoch: Epoch(2), ..header.clone() }, vec![1e9; 3]);
    exchange.on_data(Rank(1), header.clone(), vec![3.0; 3]);
    exchange.on_data(Rank(1), DataHeader { start: 3, ..header }, vec![3.0; 3]);
    Lanes(exchange.clone()).reduce(Step(7), Lane(0), UNIT, vec![1.0; LENGTH]).await.unwrap();
    assert!(exchange.is_reduced());
    assert!(exchange.take_reduced().values().all(|mean| **mean == [2.0; 3]));
    assert_eq!(frames.try_iter().count(), 2, "the other half goes to its owner");
}
