//! A lane's line to the others: numbers its collective calls and measures how long it waits.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use everstep_actors::protocol::ids::UnitId;
use everstep_actors::workload::{Aborted, CallId, Peers};

use crate::model::ops::batch_norm::Sums;

/// The collective calls of one lane in one step. Every lane makes the same calls in the same order, so a count names them.
#[derive(Debug)]
pub struct Link {
    peers: Peers,
    calls: AtomicU64,
    ended: AtomicBool,
    waited_ns: AtomicU64,
}

impl Link {
    /// A line for one step.
    pub fn new(peers: Peers) -> Arc<Self> {
        Arc::new(Self { peers, calls: AtomicU64::new(0), ended: AtomicBool::new(false), waited_ns: AtomicU64::new(0) })
    }

    /// Seconds spent waiting.
    pub fn waited_s(&self) -> f32 {
        self.waited_ns.load(Ordering::Relaxed) as f32 * 1e-9
    }

    /// Waits in `call`, unless the epoch has already ended.
    fn wait<T>(&self, call: impl FnOnce() -> Result<T, Aborted>) -> Result<T, Aborted> {
        self.alive()?;
        let start = Instant::now();
        let result = call();
        self.waited_ns.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if result.is_err() {
            self.ended.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Whether the epoch was still alive at the last call, those inside a backward pass included.
    ///
    /// # Errors
    /// [`Aborted`] when it has ended.
    pub fn alive(&self) -> Result<(), Aborted> {
        if self.ended.load(Ordering::Relaxed) { Err(Aborted) } else { Ok(()) }
    }

    fn next(&self) -> CallId {
        CallId(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// A unit's whole vector.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn gather(&self, unit: UnitId) -> Result<Arc<Vec<f32>>, Aborted> {
        self.wait(|| self.peers.gather_blocking(unit))
    }

    /// The unit is not needed any more in this direction. One release for each gather.
    pub fn release(&self, unit: UnitId, next: Option<UnitId>) {
        self.peers.release(unit, next);
    }

    /// Gives a unit's gradient to the mean over lanes.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended, in this call or in one inside the backward pass before it.
    pub fn reduce(&self, unit: UnitId, gradient: Vec<f32>) -> Result<(), Aborted> {
        self.alive()?;
        self.wait(|| self.peers.reduce_blocking(unit, gradient))
    }

    /// Canonical sum over the lanes `group`.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn sum(&self, group: Range<u32>, values: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        let call = self.next();
        self.wait(|| self.peers.sum_blocking(call, group, values))
    }

    /// Canonical sum over all lanes through the Sinkhorn aggregators.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn sinkhorn(&self, rows: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        let call = self.next();
        self.wait(|| self.peers.sinkhorn_blocking(call, rows))
    }
}

/// The lanes that share batch-norm moments.
#[derive(Debug)]
pub struct Group {
    link: Arc<Link>,
    lanes: Range<u32>,
}

impl Group {
    /// A group on a lane's line.
    pub fn new(link: Arc<Link>, lanes: Range<u32>) -> Arc<Self> {
        Arc::new(Self { link, lanes })
    }
}

impl Sums for Group {
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>> {
        let len = values.len();
        // No way to return an error through a backward pass: the line remembers it.
        self.link.sum(self.lanes.clone(), values).unwrap_or_else(|Aborted| Arc::new(vec![0.0; len]))
    }
    fn lanes(&self) -> usize {
        self.lanes.len()
    }
}
