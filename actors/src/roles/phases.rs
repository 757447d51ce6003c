//! Where a rank's time goes: each step's seconds, attributed to what the rank did in them.
//!
//! - `data`: until the first batch was there;
//! - `compute`: at least one lane computed;
//! - `exchange`: lanes waited for each other and for gradients;
//! - `update`: new versions were computed;
//! - `vote`: the leader's word was waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The phases, in the order in which their seconds are told.
pub const NAMES: [&str; 5] = ["data", "compute", "exchange", "update", "vote"];
/// Steps over which people are shown means.
const STEPS: usize = 16;

/// A moment in a step's life on a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// Its lanes ask for their batches.
    Began,
    /// Lanes and gradients are done.
    Reduced {
        /// Seconds until the first batch was there.
        data: f64,
        /// Seconds in which a lane computed.
        compute: f64,
    },
    /// The global sums came.
    Summed,
    /// The new versions lie beside the old ones.
    Prepared,
    /// The step is stable.
    Committed,
    /// The epoch has ended.
    Aborted,
}

/// The phases of one rank; see the module's text.
#[derive(Debug, Default)]
pub struct PhaseBoard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    at: Option<(Moment, Instant)>,
    flight: [f64; 5],
    steps: VecDeque<[f64; 5]>,
}

impl PhaseBoard {
    /// The step has come to this moment.
    pub fn at(&self, moment: Moment) {
        let mut state = self.lock();
        let now = Instant::now();
        let passed = state.at.map_or(0.0, |(_, since)| (now - since).as_secs_f64());
        match moment {
            Moment::Began => state.flight = [0.0; 5],
            Moment::Reduced { data, compute } => {
                let compute = compute.min(passed);
                let data = data.min(passed - compute);
                state.flight = [data, compute, passed - data - compute, 0.0, 0.0];
            }
            Moment::Summed => state.flight[4] += passed,
            Moment::Prepared => state.flight[3] += passed,
            Moment::Committed => {
                state.flight[4] += passed;
                if state.steps.len() == STEPS {
                    state.steps.pop_front();
                }
                let flight = state.flight;
                state.steps.push_back(flight);
            }
            // Lanes may be others from here on.
            Moment::Aborted => state.steps.clear(),
        }
        state.at = Some((moment, now));
    }

    /// Seconds of the last step by phase.
    pub fn last(&self) -> Option<[f64; 5]> {
        self.lock().steps.back().copied()
    }

    /// Seconds of a step by phase, means of the last ones.
    pub fn mean(&self) -> Option<[f64; 5]> {
        let state = self.lock();
        let count = state.steps.len() as f64;
        let mean = |phase: usize| state.steps.iter().map(|step| step[phase]).sum::<f64>() / count;
        (!state.steps.is_empty()).then(|| std::array::from_fn(mean))
    }

    /// The phase that the rank is in by what it said last; `idle` between epochs.
    pub fn now(&self) -> &'static str {
        match self.lock().at {
            Some((Moment::Began, _)) => "compute",
            Some((Moment::Reduced { .. } | Moment::Prepared, _)) => "vote",
            Some((Moment::Summed, _)) => "update",
            Some((Moment::Committed | Moment::Aborted, _)) | None => "idle",
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_second_of_a_step_belongs_to_one_phase() {
        let board = PhaseBoard::default();
        let step = [
            (0, Moment::Began),
            (10, Moment::Reduced { data: 1.0, compute: 6.0 }),
            (1, Moment::Summed),
            (2, Moment::Prepared),
            (3, Moment::Committed),
        ];
        for (seconds, moment) in step {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            board.at(moment);
        }
        assert_eq!(board.last(), Some([1.0, 6.0, 3.0, 2.0, 4.0]));
        assert_eq!((board.mean(), board.now()), (board.last(), "idle"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_was_given_up_counts_for_nothing() {
        let board = PhaseBoard::default();
        board.at(Moment::Began);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(board.now(), "compute");
        board.at(Moment::Aborted);
        assert_eq!((board.last(), board.now()), (None, "idle"));
    }
}
