//! What `everstep chaos` does, as functions: each plays scenarios, writes a report into a folder, and returns it.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::ChaosError;
use crate::report::{Report, Summary};
use crate::scenario::Scenario;
use crate::shrink;
use crate::sim;
use crate::tier::{Played, Tier};

/// Plays a scenario and writes its report into `out`.
///
/// # Errors
/// The tier cannot play it, or the report cannot be written.
pub fn play(scenario: &Scenario, seed: u64, tier: Tier, out: &Path) -> Result<Report, ChaosError> {
    let played = tier.play(scenario, seed)?;
    written(scenario, seed, tier, played, out)
}

fn written(scenario: &Scenario, seed: u64, tier: Tier, played: Played, out: &Path) -> Result<Report, ChaosError> {
    let mut report = Report::of(scenario, seed, tier, played);
    report.write(out)?;
    Ok(report)
}

/// Plays a scenario's file, under its own seed unless another one is given.
///
/// # Errors
/// The file is no scenario; otherwise as [`play`].
pub fn run(plan: &Path, seed: Option<u64>, tier: Tier, out: &Path) -> Result<Report, ChaosError> {
    let scenario = Scenario::load(plan)?;
    play(&scenario, seed.unwrap_or(scenario.seed), tier, out)
}

/// Plays again what a report's summary or a scenario's file says, in the tier of the report, or the simulated one.
///
/// # Errors
/// The file is neither; otherwise as [`play`].
pub fn replay(file: &Path, out: &Path) -> Result<Report, ChaosError> {
    if file.extension().is_some_and(|end| end == "json") {
        let Summary { scenario, seed, tier, .. } = Summary::load(file)?;
        scenario.check()?;
        return play(&scenario, seed, tier, out);
    }
    run(file, None, Tier::Sim, out)
}

/// Makes a failing scenario small: the first check that it breaks is still broken by what comes back. The small scenario lies in
/// the report's summary.
///
/// # Errors
/// The scenario holds; otherwise as [`play`].
pub fn shrink(plan: &Path, seed: Option<u64>, tier: Tier, out: &Path) -> Result<Report, ChaosError> {
    let scenario = Scenario::load(plan)?;
    let seed = seed.unwrap_or(scenario.seed);
    let played = tier.play(&scenario, seed)?;
    smaller(&scenario, seed, tier, &played, out)
}

fn smaller(scenario: &Scenario, seed: u64, tier: Tier, played: &Played, out: &Path) -> Result<Report, ChaosError> {
    let Some(first) = played.violations.first() else { return Err(ChaosError::Holds { name: scenario.name.clone(), seed }) };
    let check = first.check;
    let breaks = |played: Played| played.violations.iter().any(|violation| violation.check == check);
    let small = shrink::smallest(scenario, |smaller| tier.play(smaller, seed).is_ok_and(breaks));
    play(&small, seed, tier, out)
}

/// What came of many drawn scenarios.
#[derive(Debug)]
pub struct Swarm {
    /// How many were played.
    pub seeds: u64,
    /// Strikes of faults in all of them.
    pub strikes: usize,
    /// Steps that became stable in all of them.
    pub steps: usize,
    /// How long it took.
    pub wall: Duration,
    /// The longest that one took.
    pub longest: Duration,
    /// The first that failed, made small.
    pub failure: Option<Report>,
}

impl Swarm {
    /// Whether every check held in all of them, and faults struck.
    pub fn holds(&self) -> bool {
        self.failure.is_none() && self.strikes > 0
    }
}

/// Plays drawn scenarios of `ranks` nodes for a minute each in the simulated tier, up to the first that fails.
///
/// # Errors
/// As [`swarm`].
pub fn sim(ranks: u32, seeds: u64, first: u64, out: &Path) -> Result<Swarm, ChaosError> {
    swarm(seeds, first, Some(ranks), out, |_, _| {})
}

/// Plays drawn scenarios in the simulated tier, up to the first that breaks a check; that one is made small, and its report is
/// written into `out`. `watch` is told of each seed.
///
/// # Errors
/// The report cannot be written.
pub fn swarm(seeds: u64, first: u64, ranks: Option<u32>, out: &Path, mut watch: impl FnMut(u64, &Played)) -> Result<Swarm, ChaosError> {
    let began = Instant::now();
    let mut swarm = Swarm { seeds: 0, strikes: 0, steps: 0, wall: Duration::ZERO, longest: Duration::ZERO, failure: None };
    for seed in first..first.saturating_add(seeds) {
        let scenario = sim::draw(seed, ranks);
        let played = Tier::Sim.play(&scenario, seed)?;
        watch(seed, &played);
        swarm.seeds += 1;
        swarm.strikes += played.history.struck().count();
        swarm.steps += played.history.stable().count();
        swarm.longest = swarm.longest.max(played.wall);
        if !played.violations.is_empty() {
            swarm.failure = Some(smaller(&scenario, seed, Tier::Sim, &played, out)?);
            break;
        }
    }
    swarm.wall = began.elapsed();
    Ok(swarm)
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failure) = &self.failure {
            writeln!(f, "{failure}")?;
        }
        let Self { seeds, strikes, steps, wall, longest, failure } = self;
        let verdict = match failure {
            Some(_) => "the last one fails",
            None if *strikes == 0 => "no fault struck, which proves nothing",
            None => "every check holds",
        };
        let (wall, longest) = (wall.as_secs_f64(), longest.as_secs_f64());
        write!(f, "{seeds} seeds, {strikes} strikes, {steps} steps in {wall:.1} s, the longest seed {longest:.2} s: {verdict}")
    }
}
