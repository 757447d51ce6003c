//! The tiers that a scenario can be played in: one vocabulary of faults, one kind of history, the same checks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::checks::{self, Check, Violation};
use crate::error::ChaosError;
use crate::history::{History, Promise};
use crate::scenario::Scenario;
use crate::{local, process, sim};

/// How much of a run is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The machines of the protocol; clock, network, store and ranks are simulated.
    Sim,
    /// Real nodes on one thread, over QUIC in memory, under a paused clock.
    Paused,
    /// Real nodes in one process.
    Local,
    /// The real program in processes of its own.
    Process,
}

/// What came of playing a scenario.
#[derive(Debug)]
pub struct Played {
    /// What happened, with every strike of a fault and what it did.
    pub history: History,
    /// What was promised.
    pub promise: Promise,
    /// What did not hold, first places first.
    pub violations: Vec<Violation>,
    /// The same for the same events in the same order; `None` where the tier cannot promise that.
    pub trace: Option<u64>,
    /// How long it took to play.
    pub wall: Duration,
}

/// Plays a scenario under a seed.
pub type Player = fn(&Scenario, u64) -> Result<Played, ChaosError>;

/// Names the program that the process tier starts; without it, the one that asks.
const BINARY: &str = "EVERSTEP_BINARY";

fn local_nodes(scenario: &Scenario, seed: u64) -> Result<Played, ChaosError> {
    real(Instant::now(), local::play(scenario, seed)?, false)
}

fn paused_nodes(scenario: &Scenario, seed: u64) -> Result<Played, ChaosError> {
    real(Instant::now(), local::play_paused(scenario, seed)?, true)
}

fn processes(scenario: &Scenario, seed: u64) -> Result<Played, ChaosError> {
    let unplayed =
        |error: std::io::Error| ChaosError::Unplayed { tier: Tier::Process, because: format!("{error}; name the program in {BINARY}") };
    let binary = std::env::var_os(BINARY).map(PathBuf::from).map_or_else(std::env::current_exe, Ok).map_err(unplayed)?;
    // Runs in which nothing fails are kept there, for every plan of the same work.
    let folder = std::env::temp_dir().join("everstep-chaos");
    real(Instant::now(), process::play(scenario, seed, &binary, &folder)?, false)
}

fn real(began: Instant, run: sim::Run, repeats: bool) -> Result<Played, ChaosError> {
    let sim::Run { history, promise, violations, trace, .. } = run;
    Ok(Played { history, promise, violations, trace: repeats.then_some(trace), wall: began.elapsed() })
}

/// The checks that a scenario names; all, where it names none.
pub(crate) fn checks_of(scenario: &Scenario) -> Vec<Check> {
    let mut named: Vec<Check> = scenario.probe.continuous.invariants.clone();
    named.extend(&scenario.probe.end.invariants);
    named.sort_unstable();
    named.dedup();
    if named.is_empty() { checks::ALL.to_vec() } else { named }
}

impl Tier {
    /// Plays a scenario in this tier.
    ///
    /// # Errors
    /// The tier is not there, or cannot play this scenario.
    pub fn play(self, scenario: &Scenario, seed: u64) -> Result<Played, ChaosError> {
        let player: Player = match self {
            Self::Sim => sim::play,
            Self::Paused => paused_nodes,
            Self::Local => local_nodes,
            Self::Process => processes,
        };
        player(scenario, seed)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sim => "sim",
            Self::Paused => "paused",
            Self::Local => "local",
            Self::Process => "process",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Sim, Self::Paused, Self::Local, Self::Process];
        let named = all.into_iter().find(|tier| tier.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is no tier: write sim, paused, local or process"))
    }
}
