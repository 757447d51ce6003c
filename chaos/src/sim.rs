//! The simulated tier: hundreds of nodes as the machines of the protocol alone, over a virtual clock and a virtual network.
//!
//! A node is the real [`everstep_actors::protocol::membership::Membership`], the real
//! [`everstep_actors::protocol::coordinator::Coordinator`] while it leads, the real
//! [`everstep_actors::protocol::shelf::Shelf`], and a model of its rank whose results depend on every lane, weight and partial
//! sum that a real step depends on. Everything that is drawn comes from one seed, so a run is the same each time, in each
//! process. First the faults strike; then comes calm and a deadline to get well.

use std::time::{Duration, Instant};

use crate::checks::{self, Violation};
use crate::error::ChaosError;
use crate::fault::Kind;
use crate::history::{History, Promise};
use crate::scenario::{Scenario, ScenarioError};
use crate::tier::{Played, checks_of};

mod acts;
mod content;
mod dice;
mod event;
mod faults;
mod network;
mod node;
mod queue;
mod rank;
mod store;
mod swarm;
mod wire;
mod world;

pub use swarm::draw;

/// A deliberate bug, to see that the checks catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Words of ended epochs are taken for words of the newest.
    EpochUnchecked,
    /// Copies that a plan omits are dropped when the epoch begins.
    CopyDroppedEarly,
    /// After everything was restarted epochs are numbered from 1 again.
    EpochReused,
    /// A vote counts for whatever step is in flight.
    VoteUntied,
    /// What is held is counted by step, whichever epoch computed it.
    CoverageByStep,
    /// A step that runs again is applied to what its first run left.
    UpdateTwice,
    /// Ranks add up their own lanes and round before the sums of all ranks are added, so that it shows who ran which lanes.
    SumByPlacement,
    /// Buffers, as the statistics of batch norm, advance with each run of a step and not with each step that is committed.
    BufferTwice,
    /// Parts of the checkpoint before go when the first part of the next one is written, and not when its manifest is.
    PartDeletedEarly,
}

/// All of them, with their names in words.
pub const BUGS: [(Bug, &str); 9] = [
    (Bug::EpochUnchecked, "epoch check skipped"),
    (Bug::CopyDroppedEarly, "copy dropped before Stable"),
    (Bug::EpochReused, "epoch number reused after a restart"),
    (Bug::VoteUntied, "vote not tied to its step"),
    (Bug::CoverageByStep, "coverage counted by step instead of version"),
    (Bug::UpdateTwice, "update applied twice"),
    (Bug::SumByPlacement, "sum in placement order"),
    (Bug::BufferTwice, "batch-norm statistics updated twice"),
    (Bug::PartDeletedEarly, "checkpoint part deleted too early"),
];

/// What came of a simulation.
#[derive(Debug)]
pub struct Run {
    /// What happened.
    pub history: History,
    /// What was promised.
    pub promise: Promise,
    /// What did not hold, first places first.
    pub violations: Vec<Violation>,
    /// A number that is the same for the same events in the same order.
    pub trace: u64,
    /// Events that were played.
    pub events: u64,
    /// Strikes of faults.
    pub struck: usize,
    /// Virtual time.
    pub took: Duration,
    /// Whether the run computed all its steps.
    pub done: bool,
    /// The machines of nodes that live at the end, printed; of sixteen at most.
    pub standing: Vec<(u32, String)>,
}

impl Run {
    /// Steps that became stable.
    pub fn steps(&self) -> usize {
        self.history.stable().count()
    }

    /// Epochs that were created.
    pub fn epochs(&self) -> usize {
        self.history.entries.iter().filter(|entry| matches!(entry.what, crate::history::Happening::Recorded { .. })).count()
    }

    /// Why the run failed, for people: the first property that did not hold and the last events before it.
    /// A run in which a scenario with faults struck nobody has failed too.
    pub fn failure(&self, scenario: &Scenario, seed: u64) -> Option<String> {
        use std::fmt::Write as _;
        let mut text = String::new();
        let place = match self.violations.first() {
            Some(first) => {
                let _ = writeln!(text, "{}: {}", first.check, first.because);
                first.place
            }
            None if self.struck == 0 && !scenario.faults.is_empty() => {
                let _ = writeln!(text, "no fault struck: `{}` proves nothing", scenario.name);
                self.history.entries.len().saturating_sub(1)
            }
            None => return None,
        };
        if let Some(entry) = self.history.entries.get(place) {
            let _ = writeln!(text, "first seen after {:.3} s, at node {}; the last events:", entry.at.as_secs_f64(), entry.who);
        }
        for entry in self.history.before(place, 20) {
            let _ = writeln!(text, "  {:>9.3}  node {:<4} {:?}", entry.at.as_secs_f64(), entry.who, entry.what);
        }
        let _ = writeln!(text, "of `{}` under seed {seed}", scenario.name);
        Some(text)
    }
}

/// Plays a scenario. `seed` decides everything that is drawn.
///
/// # Errors
/// The scenario asks for a fault that has no meaning without real numbers.
pub fn run(scenario: &Scenario, seed: u64, bug: Option<Bug>) -> Result<Run, ScenarioError> {
    if let Some((number, fault)) = (1..).zip(&scenario.faults).find(|(_, fault)| fault.kind == Kind::Nan) {
        let because = "simulations compute no real numbers: play it in the process tier".into();
        return Err(ScenarioError::Fault { number, kind: fault.kind.to_string(), because });
    }
    let mut run = world::World::new(scenario, seed, bug).play();
    run.violations = checks::run(&checks_of(scenario), &run.history, &run.promise);
    Ok(run)
}

/// Plays a scenario as one of the tiers.
///
/// # Errors
/// As [`run`].
pub fn play(scenario: &Scenario, seed: u64) -> Result<Played, ChaosError> {
    let began = Instant::now();
    let Run { history, promise, violations, trace, .. } = run(scenario, seed, None)?;
    Ok(Played { history, promise, violations, trace: Some(trace), wall: began.elapsed() })
}
