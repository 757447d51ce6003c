//! What a node's lanes are doing: computing or waiting for others, since when, and what they gave and got.
//!
//! Every lane's collective calls pass through here. It feeds the watchdog (a lane that computes and never comes back), the pace
//! of ranks, and audits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::protocol::audit::Call;
use crate::protocol::ids::{Lane, Step, UnitId};
use crate::workload::{Aborted, CallId, Collective};

/// The lanes of one node; see the module's text.
#[derive(Debug, Default)]
pub struct LaneBoard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts steps: what a lane of an older one says is of no interest.
    turn: u64,
    lanes: BTreeMap<u32, LaneState>,
    /// Lanes that compute now, and since when at least one of them has.
    computing: u32,
    since: Option<Instant>,
    /// Time in which at least one lane computed, in this step.
    computed: Duration,
    /// The longest time that a lane has computed at a stretch, ever.
    longest: Option<Duration>,
    traced: bool,
    /// When the step began, and when its first lane began to compute.
    begun: Option<Instant>,
    first: Option<Instant>,
    /// Seconds that each lane was busy and waited in its last step.
    seconds: BTreeMap<u32, (f32, f32)>,
}

/// What a lane does at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Its batch has not come.
    Loading,
    /// It computes.
    Computing,
    /// It waits for others.
    Waiting,
    /// It has ended.
    Done,
}

#[derive(Debug)]
struct LaneState {
    /// Calls that have not come back.
    waiting: u32,
    since: Instant,
    done: bool,
    /// Its batch has not come.
    loading: bool,
    calls: Vec<Call>,
}

/// A lane that computes at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Which lane.
    pub lane: u32,
    /// Since when.
    pub since: Instant,
    /// It waits for its batch.
    pub loading: bool,
}

impl LaneBoard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step begins; with `traced` its lanes' calls are hashed. Returns the turn, which every later word names.
    pub fn begin(&self, traced: bool) -> u64 {
        let mut state = self.lock();
        let (turn, longest, seconds) = (state.turn + 1, state.longest, std::mem::take(&mut state.seconds));
        *state = State { turn, longest, traced, begun: Some(Instant::now()), seconds, ..State::default() };
        turn
    }

    /// A lane asks for its batch.
    pub fn load(&self, turn: u64, lane: u32) {
        let mut state = self.lock();
        if state.turn == turn {
            let calls = Vec::new();
            state.lanes.insert(lane, LaneState { waiting: 0, since: Instant::now(), done: false, loading: true, calls });
        }
    }

    /// A lane begins to compute.
    pub fn start(&self, turn: u64, lane: u32) {
        let mut state = self.lock();
        if state.turn == turn {
            let now = Instant::now();
            state.lanes.insert(lane, LaneState { waiting: 0, since: now, done: false, loading: false, calls: Vec::new() });
            state.first.get_or_insert(now);
            state.compute(now);
        }
    }

    /// A lane has ended.
    pub fn end(&self, turn: u64, lane: u32) {
        self.update(turn, |state, now| {
            let idle = state.lanes.get_mut(&lane).is_none_or(|lane| std::mem::replace(&mut lane.done, true) || lane.waiting > 0);
            if !idle {
                state.pause(now, lane);
            }
        });
    }

    fn wait(&self, turn: u64, lane: u32) {
        self.update(turn, |state, now| {
            let Some(at) = state.lanes.get_mut(&lane) else { return };
            at.waiting += 1;
            if at.waiting == 1 {
                state.pause(now, lane);
            }
        });
    }

    fn go_on(&self, turn: u64, lane: u32, call: Option<Call>) {
        self.update(turn, |state, now| {
            let Some(at) = state.lanes.get_mut(&lane) else { return };
            at.waiting -= 1;
            at.calls.extend(call);
            if at.waiting == 0 && !at.done {
                at.since = now;
                state.compute(now);
            }
        });
    }

    fn update(&self, turn: u64, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.lock();
        if state.turn == turn {
            change(&mut state, Instant::now());
        }
    }

    fn traces(&self, turn: u64) -> bool {
        let state = self.lock();
        state.turn == turn && state.traced
    }

    /// Seconds of the step in which at least one lane computed, and the lanes' calls where they were traced.
    pub fn result(&self) -> (f64, Vec<(u32, Vec<Call>)>) {
        let state = self.lock();
        let calls = state.lanes.iter().filter(|_| state.traced).map(|(lane, at)| (*lane, at.calls.clone())).collect();
        (state.computed.as_secs_f64(), calls)
    }

    /// A lane has told how long it was busy, and how much of that it waited.
    pub fn took(&self, lane: u32, busy_s: f32, wait_s: f32) {
        self.lock().seconds.insert(lane, (busy_s, wait_s));
    }

    /// Seconds that each lane was busy and waited in its last step, for lanes that were here.
    pub fn seconds(&self) -> BTreeMap<u32, (f32, f32)> {
        self.lock().seconds.clone()
    }

    /// How long the step waited for its first batch.
    pub fn loaded(&self) -> Duration {
        let state = self.lock();
        state.begun.zip(state.first).map_or(Duration::ZERO, |(begun, first)| first - begun)
    }

    /// What each lane does, and for how long it has.
    pub fn doing(&self) -> Vec<(u32, Doing, Duration)> {
        let doing = |at: &LaneState| match at {
            LaneState { done: true, .. } => Doing::Done,
            LaneState { loading: true, .. } => Doing::Loading,
            LaneState { waiting: 0, .. } => Doing::Computing,
            LaneState { .. } => Doing::Waiting,
        };
        self.lock().lanes.iter().map(|(lane, at)| (*lane, doing(at), at.since.elapsed())).collect()
    }

    /// Who computes or waits for its batch, and the longest that any lane has computed at a stretch before, if one has come to an end.
    pub fn stretches(&self) -> (Vec<Stretch>, Option<Duration>) {
        let state = self.lock();
        let computing = state.lanes.iter().filter(|(_, at)| at.waiting == 0 && !at.done);
        (computing.map(|(lane, at)| Stretch { lane: *lane, since: at.since, loading: at.loading }).collect(), state.longest)
    }
}

impl State {
    fn compute(&mut self, now: Instant) {
        self.computing += 1;
        self.since.get_or_insert(now);
    }

    fn pause(&mut self, now: Instant, lane: u32) {
        let stretch = self.lanes.get(&lane).map(|at| now - at.since);
        self.longest = self.longest.max(stretch);
        self.computing = self.computing.saturating_sub(1);
        if self.computing == 0
            && let Some(since) = self.since.take()
        {
            self.computed += now - since;
        }
    }
}

/// A lane's way to the others, watched.
pub struct Watched {
    hub: Arc<dyn Collective>,
    board: Arc<LaneBoard>,
    turn: u64,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watched(turn {})", self.turn)
    }
}

/// The first 8 bytes of the BLAKE3 hash of values.
fn hash(values: &[f32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytemuck::cast_slice(values)).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Watched {
    /// The calls of one step's lanes.
    pub fn new(hub: Arc<dyn Collective>, board: Arc<LaneBoard>, turn: u64) -> Self {
        Self { hub, board, turn }
    }

    /// `given` was hashed before the call; what is got is hashed by `got`.
    fn watch<T: Send + 'static>(
        &self,
        lane: Lane,
        given: Option<u64>,
        call: BoxFuture<'static, Result<T, Aborted>>,
        got: impl FnOnce(&T) -> u64 + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Aborted>> {
        let (board, turn) = (self.board.clone(), self.turn);
        async move {
            board.wait(turn, lane.0);
            let result = call.await;
            let traced = given.zip(result.as_ref().ok()).map(|(given, result)| (given, got(result)));
            board.go_on(turn, lane.0, traced);
            result
        }
        .boxed()
    }

    fn hash_if_traced(&self, values: &[f32]) -> Option<u64> {
        self.board.traces(self.turn).then(|| hash(values))
    }
}

impl Collective for Watched {
    // What is gathered was voted on: its digests are compared at every step.
    fn gather(&self, step: Step, lane: Lane, unit: UnitId) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>> {
        self.watch(lane, None, self.hub.gather(step, lane, unit), |_| 0)
    }

    fn release(&self, step: Step, lane: Lane, unit: UnitId, next: Option<UnitId>) {
        self.hub.release(step, lane, unit, next);
    }

    fn reduce(&self, step: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> BoxFuture<'static, Result<(), Aborted>> {
        let given = self.hash_if_traced(&gradient);
        self.watch(lane, given, self.hub.reduce(step, lane, unit, gradient), |()| 0)
    }

    fn sum(
        &self,
        step: Step,
        lane: Lane,
        call: CallId,
        group: Range<u32>,
        values: Vec<f32>,
    ) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>> {
        let given = self.hash_if_traced(&values);
        self.watch(lane, given, self.hub.sum(step, lane, call, group, values), |total| hash(total))
    }

    fn sinkhorn(&self, step: Step, lane: Lane, call: CallId, rows: Vec<f32>) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>> {
        let given = self.hash_if_traced(&rows);
        self.watch(lane, given, self.hub.sinkhorn(step, lane, call, rows), |total| hash(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone::Alone;

    fn moment() -> Duration {
        Duration::from_millis(10)
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_while_any_lane_computes_and_not_while_all_wait() {
        let board = LaneBoard::default();
        let turn = board.begin(false);
        board.start(turn, 0);
        board.start(turn, 1);
        tokio::time::advance(moment()).await;
        board.wait(turn, 0);
        tokio::time::advance(moment()).await;
        board.wait(turn, 1);
        tokio::time::advance(moment() * 5).await;
        assert_eq!(board.stretches(), (Vec::new(), Some(moment() * 2)));
        board.go_on(turn, 1, None);
        tokio::time::advance(moment()).await;
        assert_eq!(board.stretches().0.iter().map(|stretch| stretch.lane).collect::<Vec<_>>(), [1]);
        board.end(turn, 1);
        board.go_on(turn, 0, None);
        board.end(turn, 0);
        assert!((board.result().0 - 0.03).abs() < 1e-9, "{:?}", board.result());
        // What lanes of an aborted step say later changes nothing.
        let next = board.begin(false);
        board.start(turn, 0);
        board.end(turn, 0);
        assert_eq!((board.result().0, board.stretches().0.len()), (0.0, 0));
        board.start(next, 0);
        board.end(turn, 0);
        assert_eq!(board.stretches().0.len(), 1, "a lane of this step was ended by one of the step before");
    }

    #[tokio::test]
    async fn a_traced_step_tells_what_each_lane_gave_and_got() {
        let traces = |bump: f32| async move {
            let board = Arc::new(LaneBoard::default());
            let turn = board.begin(true);
            let hub: Arc<dyn Collective> = Alone::new(2, Vec::new());
            let lanes = (0..2).map(|lane| {
                let watched = Watched::new(hub.clone(), board.clone(), turn);
                board.start(turn, lane);
                async move {
                    let values = vec![lane as f32 + if lane == 1 { bump } else { 0.0 }; 4];
                    watched.sum(Step(0), Lane(lane), CallId(1), 0..2, values).await
                }
            });
            futures::future::try_join_all(lanes).await.unwrap();
            board.result().1
        };
        let (right, wrong) = (traces(0.0).await, traces(1.0).await);
        assert_eq!(right, traces(0.0).await);
        assert_eq!(right[0].1[0].0, wrong[0].1[0].0, "lane 0 gave the same");
        assert_ne!(right[0].1[0].1, wrong[0].1[0].1, "and got another total");
        assert_ne!(right[1].1[0].0, wrong[1].1[0].0, "because lane 1 gave something else");
    }
}
