//! The collectives of a run that lives in one process: every lane here, nothing on the wire.
//!
//! The sums are the canonical ones, so a step through [`Alone`] has the bits of a step over any
//! number of ranks. Used where a workload is examined by itself: its tests, its benches.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::protocol::ids::{Lane, Step, UnitId};
use crate::protocol::tree::TreeSum;
use crate::workload::{Aborted, CallId, Collective};

type Result<T> = std::result::Result<T, Aborted>;

/// All lanes of a run in one process.
#[derive(Debug)]
pub struct Alone {
    lanes: u32,
    units: Vec<Arc<Vec<f32>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sums: BTreeMap<(CallId, u32), Sum>,
    gradients: BTreeMap<UnitId, TreeSum<f32>>,
    reduced: BTreeMap<UnitId, Vec<f32>>,
}

#[derive(Debug)]
struct Sum {
    tree: TreeSum<f32>,
    done: watch::Sender<Option<Arc<Vec<f32>>>>,
    waiting: u32,
}

impl Alone {
    /// The collectives of one step whose weights are `units`.
    pub fn new(lanes: u32, units: Vec<Arc<Vec<f32>>>) -> Arc<Self> {
        Arc::new(Self { lanes, units, state: Mutex::default() })
    }

    /// The mean gradient of each unit that every lane has reduced.
    pub fn gradients(&self) -> BTreeMap<UnitId, Vec<f32>> {
        let scale = 1.0 / self.lanes as f32;
        let state = self.lock();
        state.reduced.iter().map(|(unit, sum)| (*unit, sum.iter().map(|v| v * scale).collect())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_gradient(&self, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> Result<()> {
        let mut state = self.lock();
        let lanes = self.lanes;
        let tree = state.gradients.entry(unit).or_insert_with(|| TreeSum::new(lanes));
        if let Some(total) = tree.add(lane.0..lane.0 + 1, gradient).map_err(|_| Aborted)? {
            state.gradients.remove(&unit);
            state.reduced.insert(unit, total);
        }
        Ok(())
    }

    fn add(&self, lane: Lane, call: CallId, group: Range<u32>, values: Vec<f32>) -> Result<watch::Receiver<Option<Arc<Vec<f32>>>>> {
        let mut state = self.lock();
        let members = group.end - group.start;
        let sum = state.sums.entry((call, group.start)).or_insert_with(|| Sum {
            tree: TreeSum::new(members),
            done: watch::channel(None).0,
            waiting: members,
        });
        let done = sum.done.subscribe();
        let at = lane.0 - group.start;
        if let Some(total) = sum.tree.add(at..at + 1, values).map_err(|_| Aborted)? {
            sum.done.send_replace(Some(Arc::new(total)));
        }
        sum.waiting -= 1;
        if sum.waiting == 0 {
            state.sums.remove(&(call, group.start));
        }
        Ok(done)
    }
}

impl Collective for Alone {
    fn gather(&self, _: Step, _: Lane, unit: UnitId) -> BoxFuture<'static, Result<Arc<Vec<f32>>>> {
        let unit = self.units.get(unit.0 as usize).cloned().ok_or(Aborted);
        async move { unit }.boxed()
    }

    fn release(&self, _: Step, _: Lane, _: UnitId, _: Option<UnitId>) {}

    fn reduce(&self, _: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> BoxFuture<'static, Result<()>> {
        std::future::ready(self.add_gradient(lane, unit, gradient)).boxed()
    }

    fn sum(&self, _: Step, lane: Lane, call: CallId, group: Range<u32>, values: Vec<f32>) -> BoxFuture<'static, Result<Arc<Vec<f32>>>> {
        let done = self.add(lane, call, group, values);
        async move {
            let mut done = done?;
            let total = done.wait_for(Option::is_some).await.map_err(|_| Aborted)?;
            total.clone().ok_or(Aborted)
        }
        .boxed()
    }

    fn sinkhorn(&self, step: Step, lane: Lane, call: CallId, rows: Vec<f32>) -> BoxFuture<'static, Result<Arc<Vec<f32>>>> {
        self.sum(step, lane, call, 0..self.lanes, rows)
    }
}
