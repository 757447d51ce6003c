//! The tiers that a scenario can be played in: one vocabulary of faults, one kind of history, the same checks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checks::{self, Check, Violation};
use crate::error::ChaosError;
use crate::history::{History, Promise};
use crate::scenario::Scenario;
use crate::sim;

/// How much of a run is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The machines of the protocol; clock, network, store and ranks are simulated.
    Sim,
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
    /// How long it took to play.
    pub wall: Duration,
}

/// Plays a scenario under a seed.
pub type Player = fn(&Scenario, u64) -> Result<Played, ChaosError>;

/// Who plays which tier.
const PLAYERS: &[(Tier, Player)] = &[(Tier::Sim, sim::play)];

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
        let player = PLAYERS.iter().find(|(tier, _)| *tier == self).map(|(_, player)| player);
        player.ok_or(ChaosError::NoTier(self))?(scenario, seed)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sim => "sim",
            Self::Local => "local",
            Self::Process => "process",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Sim, Self::Local, Self::Process];
        let named = all.into_iter().find(|tier| tier.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is no tier: write sim, local or process"))
    }
}
