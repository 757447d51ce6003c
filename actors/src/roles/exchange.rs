//! The collectives of one epoch on one node: what lanes ask of [`Collective`] becomes frames, and
//! frames become answers.
//!
//! Not an actor: lanes' compute threads and links' readers meet here under short locks. Every wait
//! ends when the answer comes or when the epoch ends ([`Exchange::abort`]), whichever is first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::protocol::ids::{Epoch, Lane, Rank, ShardId, Step, UnitId};
use crate::protocol::plan::{Place, Plan};
use crate::protocol::shard::Shard;
use crate::protocol::tree::{Refused, Round, Subtrees, TreeSum};
use crate::wire::message::{DataHeader, DataKind};
use crate::wire::narrow::Narrow;
use crate::workload::{Aborted, CallId, Collective, Wire};

mod gather;
#[cfg(test)]
mod tests;

use self::gather::Gather;

type Vector = Arc<Vec<f32>>;
type Answer = watch::Sender<Option<Vector>>;

/// A frame on its way out: part of a vector that is shared, not copied.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To which rank.
    pub to: Rank,
    /// Its header.
    pub header: DataHeader,
    /// The vector and the range of it that is sent.
    pub values: Vector,
    /// Which part of it.
    pub range: Range<usize>,
}

/// How frames leave this node. Waits while the peer's queue is full.
pub trait Outbound: Send + Sync + 'static {
    /// Sends one frame. A peer that is gone is no error here: its loss ends the epoch.
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()>;
}

/// What the exchange tells its rank and its node's aggregator.
pub trait Inward: Send + Sync + 'static {
    /// The mean gradient of every shard with a copy here is complete.
    fn reduced(&self, step: Step);
    /// A partial sum for this node's aggregator.
    fn partial(&self, header: DataHeader, values: Vec<f32>);
    /// A frame that breaks the rules of the epoch: one sentence. Ends the epoch.
    fn broken(&self, because: String);
}

/// Why a frame was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is of another epoch.
    #[error("a frame of {epoch} in {current}")]
    Stale {
        /// Its epoch.
        epoch: Epoch,
        /// Ours.
        current: Epoch,
    },
    /// It is of a step that is over or not yet due.
    #[error("a frame of {step} at {current}")]
    OutOfStep {
        /// Its step.
        step: Step,
        /// Ours.
        current: Step,
    },
    /// It names a unit, range or length that the plan does not know.
    #[error("a frame that does not fit the plan")]
    Misfit,
}

/// What an exchange needs to know for the length of an epoch.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The epoch.
    pub epoch: Epoch,
    /// This node's rank.
    pub rank: Rank,
    /// Placement.
    pub plan: Plan,
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Every shard of the model.
    pub shards: Vec<Shard>,
    /// How each unit travels.
    pub wires: Vec<Wire>,
    /// Gathered units are kept for reuse in the same step up to this many values.
    pub gathered_values_max: usize,
}

/// See the module's text.
pub struct Exchange {
    layout: Layout,
    units: Vec<UnitPlace>,
    outbound: Arc<dyn Outbound>,
    inward: Arc<dyn Inward>,
    state: Mutex<State>,
    room: watch::Sender<u64>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchange({}, {})", self.layout.epoch, self.layout.rank)
    }
}

#[derive(Debug)]
struct UnitPlace {
    length: usize,
    gather: Narrow,
    reduce: Narrow,
    shards: Vec<(Shard, Place)>,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    step: Step,
    committed: BTreeMap<ShardId, Vector>,
    parked: Vec<(Rank, DataHeader)>,
    gathers: BTreeMap<UnitId, Gather>,
    /// What the step before gathered into, where the whole model is held at once anyway: fresh memory would have to be zeroed.
    buffers: BTreeMap<UnitId, Vec<f32>>,
    gradients: BTreeMap<UnitId, Subtrees<f32, Narrow>>,
    reductions: BTreeMap<(Step, ShardId), TreeSum<f32, Narrow>>,
    reduced: BTreeMap<ShardId, Vector>,
    sums: BTreeMap<SumKey, Sum>,
}

/// (calls of `sum` and of `sinkhorn` are counted apart, call, first lane of the group)
type SumKey = (bool, u64, u32);

#[derive(Debug)]
struct Sum {
    local: Subtrees<f32>,
    answer: Answer,
    buffer: Vec<f32>,
    missing: usize,
}

impl Exchange {
    /// The exchange of an epoch whose first step is `step`; `committed` holds the values of every copy on this node.
    pub fn new(
        layout: Layout,
        step: Step,
        committed: BTreeMap<ShardId, Vector>,
        outbound: Arc<dyn Outbound>,
        inward: Arc<dyn Inward>,
    ) -> Arc<Self> {
        let mut units: Vec<UnitPlace> = Vec::new();
        for (shard, place) in layout.shards.iter().zip(&layout.plan.places) {
            if shard.id.index == 0 {
                let wire = layout.wires.get(units.len()).copied().unwrap_or_default();
                let (gather, reduce) = (Narrow::new(wire.gather, wire.below), Narrow::new(wire.reduce, wire.below));
                units.push(UnitPlace { length: 0, gather, reduce, shards: Vec::new() });
            }
            if let Some(unit) = units.last_mut() {
                unit.length = shard.range.end;
                unit.shards.push((shard.clone(), place.clone()));
            }
        }
        let state = State { step, committed, ..State::default() };
        Arc::new(Self { layout, units, outbound, inward, state: Mutex::new(state), room: watch::channel(0).0 })
    }

    /// The epoch of this exchange.
    pub fn epoch(&self) -> Epoch {
        self.layout.epoch
    }

    /// The step that is next to be committed: as many steps are committed.
    pub fn step(&self) -> Step {
        self.lock().step
    }

    /// Ends the epoch: every open and every later call ends with [`Aborted`].
    pub fn abort(&self) {
        let mut state = self.lock();
        *state = State { over: true, step: state.step, ..State::default() };
        drop(state);
        self.room.send_modify(|turn| *turn += 1);
    }

    /// Whether the mean gradients of all copies are complete.
    pub fn is_reduced(&self) -> bool {
        let state = self.lock();
        state.reduced.len() == state.committed.len()
    }

    /// Whether this node owns a shard, where it may have a replica only.
    pub fn owns(&self, shard: ShardId) -> bool {
        let unit = self.units.get(shard.unit.0 as usize);
        unit.and_then(|unit| unit.shards.get(shard.index as usize)).is_some_and(|(_, place)| place.owner == self.layout.rank)
    }

    /// Takes the mean gradients of all copies, in shard order, once [`Inward::reduced`] was called.
    pub fn take_reduced(&self) -> BTreeMap<ShardId, Vector> {
        std::mem::take(&mut self.lock().reduced)
    }

    /// The step is stable: the copies' new values take the place of the old ones.
    pub fn commit(self: &Arc<Self>, step: Step, values: BTreeMap<ShardId, Vector>) {
        let parked = {
            let mut state = self.lock();
            if state.over || state.step != step {
                return;
            }
            state.step = step.next();
            state.committed = values;
            self.keep_buffers(&mut state);
            state.gradients.clear();
            state.sums.clear();
            std::mem::take(&mut state.parked)
        };
        self.room.send_modify(|turn| *turn += 1);
        for (from, header) in parked {
            self.answer(from, header);
        }
    }

    /// Whether a frame may come in at all, decided from its header, before anything is allocated.
    ///
    /// # Errors
    /// [`Rejected`] names why not.
    pub fn admit(&self, header: &DataHeader) -> Result<(), Rejected> {
        let (over, current) = {
            let state = self.lock();
            (state.over, state.step)
        };
        if header.epoch != self.layout.epoch || over {
            return Err(Rejected::Stale { epoch: header.epoch, current: self.layout.epoch });
        }
        // A peer that has seen the step become stable may be one step ahead of us.
        let due = header.step == current || header.step == current.next();
        if !due {
            return Err(Rejected::OutOfStep { step: header.step, current });
        }
        let group = header.group();
        let fits = match header.kind {
            DataKind::Want | DataKind::Gathered | DataKind::Gradient => self.shard_of(header).is_some(),
            DataKind::Mean => self.shard_of(header).is_some_and(|(_, place)| place.replicas.contains(&self.layout.rank)),
            DataKind::WantCopy | DataKind::Copy => false,
            DataKind::Partial | DataKind::Rows => {
                group.end <= self.layout.lanes && group.start < group.end && header.length <= SUM_VALUES_MAX
            }
            DataKind::Total | DataKind::RowsTotal => {
                let rows = header.kind == DataKind::RowsTotal;
                let state = self.lock();
                state.sums.get(&(rows, header.call, header.group_start)).is_some_and(|sum| header.range().end <= sum.buffer.len())
            }
        };
        if fits { Ok(()) } else { Err(Rejected::Misfit) }
    }

    /// Takes in a frame that was admitted, if not by the epoch before: its payload may have come later than this one began.
    pub fn on_data(self: &Arc<Self>, from: Rank, header: DataHeader, values: Vec<f32>) {
        if header.epoch != self.layout.epoch {
            return;
        }
        let narrow = self.narrow(&header);
        let values = match narrow.filter(|narrow| !narrow.is_plain()) {
            None => values,
            Some(narrow) => match narrow.unpack(values, header.length as usize) {
                Some(values) => values,
                None => {
                    return self.inward.broken(format!("a frame of {} at {} has another length than it says", header.unit, header.step));
                }
            },
        };
        match header.kind {
            DataKind::Want => self.answer(from, header),
            DataKind::Gathered => self.gathered(&header, &values),
            DataKind::Gradient => self.add_gradient(&header, |tree| tree.add(header.lanes(), values)),
            DataKind::Mean => self.add_mean(&header, values),
            DataKind::WantCopy | DataKind::Copy => {}
            DataKind::Partial | DataKind::Rows => self.inward.partial(header, values),
            DataKind::Total | DataKind::RowsTotal => self.total(&header, &values),
        }
    }

    /// A finished sum has come back, from this node's own aggregator or another's.
    pub fn total(&self, header: &DataHeader, values: &[f32]) {
        let mut state = self.lock();
        let key = (header.kind == DataKind::RowsTotal, header.call, header.group_start);
        if header.step != state.step {
            return;
        }
        let Some(sum) = state.sums.get_mut(&key) else { return };
        let range = header.range();
        if range.end > sum.buffer.len() || range.len() != values.len() {
            return;
        }
        sum.buffer[range.clone()].copy_from_slice(values);
        sum.missing = sum.missing.saturating_sub(range.len());
        if sum.missing == 0
            && let Some(sum) = state.sums.remove(&key)
        {
            sum.answer.send_replace(Some(Arc::new(sum.buffer)));
        }
    }

    /// Ranks that take part in sums over a group.
    pub fn ranks_of(&self, group: &Range<u32>) -> Vec<Rank> {
        self.layout.plan.ranks_of(group)
    }

    /// This node's rank.
    pub fn rank(&self) -> Rank {
        self.layout.rank
    }

    /// Sends a frame for an actor of this node.
    pub fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        self.outbound.send(frame)
    }

    /// How the values of a frame are packed, if they may be.
    fn narrow(&self, header: &DataHeader) -> Option<Narrow> {
        let unit = self.units.get(header.unit.0 as usize)?;
        match header.kind {
            DataKind::Gathered => Some(unit.gather.within(&header.range())),
            DataKind::Gradient | DataKind::Mean => Some(unit.reduce.within(&header.range())),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, header: &DataHeader) -> Option<&(Shard, Place)> {
        let unit = self.units.get(header.unit.0 as usize)?;
        let range = header.start.checked_add(header.length).map(|end| header.start as usize..end as usize)?;
        let index = unit.shards.partition_point(|(shard, _)| shard.range.start < range.start);
        unit.shards.get(index).filter(|(shard, _)| shard.range == range)
    }

    // ---- reduce -------------------------------------------------------------------------------

    fn add_lane_gradient(self: &Arc<Self>, step: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> Result<Vec<Outgoing>, Aborted> {
        let (node, total) = {
            let mut state = self.lock();
            if state.over || state.step != step || gradient.len() != self.length(unit) {
                return Err(Aborted);
            }
            let narrow = self.units[unit.0 as usize].reduce;
            let subtrees = || Subtrees::rounded(self.layout.plan.subtrees(self.layout.rank, &(0..self.layout.lanes)), narrow);
            let mine = state.gradients.entry(unit).or_insert_with(subtrees);
            match mine.add(lane.0, gradient).map_err(|_| Aborted)? {
                Some(node) => node,
                None => return Ok(Vec::new()),
            }
        };
        let total = Arc::new(total);
        let mut frames = Vec::new();
        let place_of = &self.units[unit.0 as usize];
        for (shard, place) in &place_of.shards {
            let mut header = self.header(step, DataKind::Gradient, 0, unit, shard.range.clone());
            (header.lanes_start, header.lanes_end) = (node.start, node.end);
            if place.owner == self.layout.rank {
                self.add_gradient(&header, |tree| tree.add_shared(node.clone(), total.clone(), shard.range.clone()));
            } else {
                frames.push(outgoing(place.owner, header, &total, shard.range.clone(), place_of.reduce.within(&shard.range)));
            }
        }
        Ok(frames)
    }

    /// A subtree's gradient of an owned shard has arrived: the owner finishes the tree, and its replicas get the mean.
    fn add_gradient(
        self: &Arc<Self>,
        header: &DataHeader,
        add: impl FnOnce(&mut TreeSum<f32, Narrow>) -> Result<Option<Vec<f32>>, Refused>,
    ) {
        let Some((shard, place)) = self.shard_of(header) else { return };
        if place.owner != self.layout.rank {
            return;
        }
        let lanes = self.layout.lanes;
        let narrow = self.units[header.unit.0 as usize].reduce.within(&shard.range);
        let key = (header.step, shard.id);
        let added = {
            let mut state = self.lock();
            if state.over || header.step < state.step {
                return;
            }
            let tree = state.reductions.entry(key).or_insert_with(|| TreeSum::rounded(lanes, narrow));
            let added = add(tree);
            if matches!(added, Ok(Some(_))) {
                state.reductions.remove(&key);
            }
            added
        };
        match added {
            Ok(None) => {}
            Ok(Some(mut mean)) => {
                let scale = 1.0 / lanes as f32;
                mean.iter_mut().for_each(|value| *value *= scale);
                narrow.round(&mut mean);
                let mean = Arc::new(mean);
                for replica in &place.replicas {
                    let header = DataHeader { kind: DataKind::Mean, lanes_start: 0, lanes_end: lanes, ..header.clone() };
                    let frame = outgoing(*replica, header, &mean, 0..mean.len(), narrow);
                    tokio::spawn(self.outbound.send(frame));
                }
                self.set_reduced(header.step, shard.id, mean);
            }
            Err(refused) => self.inward.broken(format!("a gradient of {} at {} does not add up: {refused}", shard.id, header.step)),
        }
    }

    /// The mean gradient of a shard of which this node has a replica.
    fn add_mean(&self, header: &DataHeader, values: Vec<f32>) {
        if let Some((shard, _)) = self.shard_of(header).filter(|(shard, _)| shard.range.len() == values.len()) {
            self.set_reduced(header.step, shard.id, Arc::new(values));
        }
    }

    fn set_reduced(&self, step: Step, shard: ShardId, mean: Vector) {
        let complete = {
            let mut state = self.lock();
            if state.over || step < state.step {
                return;
            }
            state.reduced.insert(shard, mean);
            state.reduced.len() == state.committed.len()
        };
        if complete {
            self.inward.reduced(step);
        }
    }

    // ---- small sums ---------------------------------------------------------------------------

    fn add_to_sum(
        &self,
        step: Step,
        lane: Lane,
        call: CallId,
        group: Range<u32>,
        rows: bool,
        values: Vec<f32>,
    ) -> Result<(watch::Receiver<Option<Vector>>, Vec<Outgoing>), Aborted> {
        let in_group = group.contains(&lane.0) && group.end <= self.layout.lanes;
        let mut state = self.lock();
        if state.over || state.step != step || !in_group {
            return Err(Aborted);
        }
        let key = (rows, call.0, group.start);
        let length = values.len();
        let sum = state.sums.entry(key).or_insert_with(|| Sum {
            local: Subtrees::new(self.layout.plan.subtrees(self.layout.rank, &group)),
            answer: watch::channel(None).0,
            buffer: vec![0.0; length],
            missing: length,
        });
        let answer = sum.answer.subscribe();
        let Some((node, total)) = sum.local.add(lane.0 - group.start, values).map_err(|_| Aborted)? else {
            return Ok((answer, Vec::new()));
        };
        if node == (0..group.end - group.start) {
            // All lanes of the group are ours: nobody else needs to know.
            sum.answer.send_replace(Some(Arc::new(total)));
            state.sums.remove(&key);
            return Ok((answer, Vec::new()));
        }
        drop(state);
        let (kind, owners) = if rows {
            (DataKind::Rows, self.layout.plan.aggregators(length))
        } else {
            (DataKind::Partial, self.layout.plan.summer(call.0, &group).map(|rank| (0..length, rank)).into_iter().collect())
        };
        let total = Arc::new(total);
        let mut frames = Vec::new();
        for (range, owner) in owners {
            let mut header = self.header(step, kind, call.0, UnitId(0), range.clone());
            (header.lanes_start, header.lanes_end) = (node.start, node.end);
            (header.group_start, header.group_end) = (group.start, group.end);
            if owner == self.layout.rank {
                self.inward.partial(header, total[range].to_vec());
            } else {
                frames.push(Outgoing { to: owner, header, values: total.clone(), range });
            }
        }
        Ok((answer, frames))
    }

    fn header(&self, step: Step, kind: DataKind, call: u64, unit: UnitId, range: Range<usize>) -> DataHeader {
        DataHeader {
            epoch: self.layout.epoch,
            step,
            kind,
            call,
            unit,
            start: range.start as u64,
            length: range.len() as u64,
            lanes_start: 0,
            lanes_end: 0,
            group_start: 0,
            group_end: 0,
        }
    }

    async fn summed(self: Arc<Self>, opened: Result<(watch::Receiver<Option<Vector>>, Vec<Outgoing>), Aborted>) -> Result<Vector, Aborted> {
        let (mut answer, frames) = opened?;
        for frame in frames {
            self.outbound.send(frame).await;
        }
        answer.wait_for(Option::is_some).await.map_err(|_| Aborted)?.clone().ok_or(Aborted)
    }
}

/// A frame of a range of a vector, packed where its kind of numbers is narrow.
fn outgoing(to: Rank, header: DataHeader, values: &Vector, range: Range<usize>, narrow: Narrow) -> Outgoing {
    if narrow.is_plain() {
        return Outgoing { to, header, values: values.clone(), range };
    }
    let packed = narrow.pack(&values[range]);
    let range = 0..packed.len();
    Outgoing { to, header, values: Arc::new(packed), range }
}

/// Wants that wait for a commit at most: every shard once from some hundred peers.
const PARKED_MAX: usize = 1 << 20;

/// Values of one small sum at most: prototypes and channels, never gradients.
const SUM_VALUES_MAX: u64 = 1 << 20;

/// The lanes' handle on the exchange.
#[derive(Debug, Clone)]
pub struct Lanes(pub Arc<Exchange>);

impl Collective for Lanes {
    fn gather(&self, step: Step, _: Lane, unit: UnitId) -> BoxFuture<'static, Result<Vector, Aborted>> {
        self.0.clone().gather_unit(step, unit).boxed()
    }

    fn release(&self, step: Step, _: Lane, unit: UnitId, _: Option<UnitId>) {
        let exchange = &self.0;
        let mine = exchange.layout.plan.lanes_of(exchange.layout.rank);
        let lanes = mine.end - mine.start;
        let mut state = exchange.lock();
        if state.over || state.step != step {
            return;
        }
        let total: usize = exchange.units.iter().map(|unit| unit.length).sum();
        let Some(gather) = state.gathers.get_mut(&unit) else { return };
        gather.releases += 1;
        if gather.releases >= lanes {
            gather.releases = 0;
            if total > exchange.layout.gathered_values_max {
                state.gathers.remove(&unit);
                drop(state);
                exchange.room.send_modify(|turn| *turn += 1);
            }
        }
    }

    fn reduce(&self, step: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> BoxFuture<'static, Result<(), Aborted>> {
        let exchange = self.0.clone();
        async move {
            for frame in exchange.add_lane_gradient(step, lane, unit, gradient)? {
                exchange.outbound.send(frame).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn sum(
        &self,
        step: Step,
        lane: Lane,
        call: CallId,
        group: Range<u32>,
        values: Vec<f32>,
    ) -> BoxFuture<'static, Result<Vector, Aborted>> {
        let opened = self.0.add_to_sum(step, lane, call, group, false, values);
        self.0.clone().summed(opened).boxed()
    }

    fn sinkhorn(&self, step: Step, lane: Lane, call: CallId, rows: Vec<f32>) -> BoxFuture<'static, Result<Vector, Aborted>> {
        let opened = self.0.add_to_sum(step, lane, call, 0..self.0.layout.lanes, true, rows);
        self.0.clone().summed(opened).boxed()
    }
}
