//! What came of one run of a scenario: verdicts, tallies of faults, figures, the reason of a failure; in a folder and in a few
//! lines for the terminal.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::{Check, Violation};
use crate::history::{Entry, Happening, History};
use crate::scenario::Scenario;
use crate::tier::{Played, Tier, checks_of};

mod chart;
mod figures;
mod files;
mod html;

pub use figures::{Figures, Growth};
pub use files::SUMMARY;
pub(crate) use files::Summary;

/// Events that a failure shows.
const SHOWN: usize = 20;

/// Whether a property held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    pub check: Check,
    /// How often it was broken.
    pub broken: usize,
    /// The first time, in one sentence.
    pub because: Option<String>,
}

/// What came of one fault of the scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Its number in the scenario, from 1.
    pub number: usize,
    /// What it does.
    pub what: String,
    /// How often it struck.
    pub injected: usize,
    /// How many of its strikes showed in the run's events.
    pub seen: usize,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The property, or `faults` where what was asked for did not come about.
    pub check: String,
    /// One sentence.
    pub because: String,
    /// The first step that is not what it should be.
    pub step: u64,
    /// The last events before it showed.
    pub last: Vec<String>,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was played.
    pub scenario: Scenario,
    /// Under which seed.
    pub seed: u64,
    /// In which tier.
    pub tier: Tier,
    /// The same for the same events in the same order; `None` where the tier cannot promise that.
    pub trace: Option<u64>,
    /// How long it took to play, in seconds.
    pub wall_s: f64,
    /// Check by check.
    pub verdicts: Vec<Verdict>,
    /// Fault by fault.
    pub tallies: Vec<Tally>,
    /// In numbers.
    pub figures: Figures,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What happened.
    pub history: History,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Where it was written.
    pub folder: Option<PathBuf>,
}

impl Report {
    /// Of what was played.
    pub fn of(scenario: &Scenario, seed: u64, tier: Tier, played: Played) -> Self {
        let Played { history, violations, wall, trace, .. } = played;
        let verdict = |check: Check| {
            let broken = || violations.iter().filter(move |violation| violation.check == check);
            Verdict { check, broken: broken().count(), because: broken().next().map(|first| first.because.clone()) }
        };
        let verdicts = checks_of(scenario).into_iter().map(verdict).collect();
        let tallies = tallies(scenario, &history);
        let failure = failure(&history, &violations, &tallies);
        let (scenario, figures, wall_s) = (scenario.clone(), Figures::of(&history), wall.as_secs_f64());
        Self { scenario, seed, tier, trace, wall_s, verdicts, tallies, figures, failure, history, violations, folder: None }
    }

    /// Whether all checks held and every fault that was injected struck somebody and was seen.
    pub fn holds(&self) -> bool {
        self.failure.is_none()
    }

    /// How to see the same run again.
    pub fn replay(&self) -> String {
        let summary = self.folder.as_deref().unwrap_or_else(|| Path::new(".")).join(SUMMARY);
        format!("everstep chaos replay {}", summary.display())
    }
}

/// A strike is seen where the run's events say what it did; processes that ended and checkpoints that were damaged speak for
/// themselves.
fn tallies(scenario: &Scenario, history: &History) -> Vec<Tally> {
    let mut tallies: Vec<Tally> =
        scenario.faults.iter().zip(1..).map(|(fault, number)| Tally { number, what: fault.to_string(), injected: 0, seen: 0 }).collect();
    let felt: std::collections::BTreeSet<u32> = history
        .entries
        .iter()
        .filter_map(|entry| if let Happening::Felt { strike, times: 1.. } = entry.what { Some(strike) } else { None })
        .collect();
    for entry in &history.entries {
        if let Happening::Struck { fault, strike, .. } = &entry.what
            && let Some(tally) = tallies.get_mut(*fault)
        {
            tally.injected += 1;
            tally.seen += usize::from(felt.contains(strike));
        }
    }
    tallies
}

fn failure(history: &History, violations: &[Violation], tallies: &[Tally]) -> Option<Failure> {
    let asked = |because: String| (history.entries.len().saturating_sub(1), "faults".to_owned(), because);
    let (place, check, because) = match violations.first() {
        Some(first) => (first.place, first.check.to_string(), first.because.clone()),
        None if !tallies.is_empty() && tallies.iter().all(|tally| tally.injected == 0) => {
            asked("no fault struck: a run in which nothing happened proves nothing".into())
        }
        None => {
            let tally = tallies.iter().find(|tally| tally.injected > 0 && tally.seen == 0)?;
            asked(format!("fault {} ({}) struck {} times and shows nowhere in the run's events", tally.number, tally.what, tally.injected))
        }
    };
    let step = history.entries[..(place + 1).min(history.entries.len())].iter().rev().find_map(|entry| match entry.what {
        Happening::Stable { step, .. } => Some(step),
        Happening::Begun { step, .. } => Some(step),
        _ => None,
    });
    // What each rank applies and sizes would push everything else out.
    let tells = |(at, entry): &(usize, &Entry)| *at == place || !matches!(entry.what, Happening::Applied { .. } | Happening::Size { .. });
    let mut last: Vec<String> =
        history.entries.iter().enumerate().take(place + 1).rev().filter(tells).take(SHOWN).map(|(_, entry)| line(entry)).collect();
    last.reverse();
    Some(Failure { check, because, step: step.unwrap_or(0), last })
}

/// An event for people.
fn line(entry: &Entry) -> String {
    format!("{:>9.3}  node {:<4} {:?}", entry.at.as_secs_f64(), entry.who, entry.what)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, tier, figures, .. } = self;
        let verdict = if self.holds() { "holds" } else { "FAILS" };
        if let Some(Failure { check, because, step, last }) = &self.failure {
            writeln!(f, "{check}: {because}")?;
            writeln!(f, "first seen at step {step}; the last events:")?;
            last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(f, "replay: {}\n", self.replay())?;
        }
        writeln!(f, "{}, {tier} tier, seed {seed}: {verdict}", scenario.name)?;
        writeln!(
            f,
            "  {} steps in {} epochs over {:.1} s, played in {:.2} s; goodput {:.2}, {} steps lost, {} bytes moved",
            figures.steps, figures.epochs, figures.took_s, self.wall_s, figures.goodput, figures.steps_lost, figures.bytes_moved
        )?;
        if let (Some(half), Some(most)) = (figures.recover_p50_s, figures.recover_p99_s) {
            writeln!(f, "  from a harmful strike to the next committed step, beyond one step: p50 {half:.2} s, p99 {most:.2} s")?;
        }
        for Tally { number, what, injected, seen } in &self.tallies {
            writeln!(f, "  fault {number}: {what}: {injected} injected, {seen} seen")?;
        }
        for Verdict { check, broken, because } in self.verdicts.iter().filter(|verdict| verdict.broken > 0) {
            writeln!(f, "  {check} was broken {broken} times: {}", because.as_deref().unwrap_or_default())?;
        }
        let held = self.verdicts.iter().filter(|verdict| verdict.broken == 0).count();
        write!(f, "  {held} of {} checks hold", self.verdicts.len())?;
        self.trace.map_or(Ok(()), |trace| write!(f, "; trace {trace:016x}"))?;
        self.folder.as_ref().map_or(Ok(()), |folder| write!(f, "; report: {}", folder.join(files::PAGE).display()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fault::Kind;

    #[test]
    fn a_strike_that_shows_nowhere_fails_the_run() {
        let text = "name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'store'\nmode = 'away'\n";
        let scenario = Scenario::parse(text).unwrap();
        let played = |felt: Option<u64>| {
            let mut history = History::default();
            history.push(Duration::from_secs(1), 0, Happening::Struck { fault: 0, strike: 0, kind: Kind::Store, targets: Vec::new() });
            let said = felt.map(|times| Happening::Felt { strike: 0, times });
            said.into_iter().for_each(|what| history.push(Duration::from_secs(2), 0, what));
            let played = Played { history, promise: Default::default(), violations: Vec::new(), trace: None, wall: Duration::ZERO };
            Report::of(&scenario, 0, Tier::Sim, played)
        };
        assert!(played(Some(3)).holds());
        for unseen in [played(None), played(Some(0))] {
            assert_eq!((unseen.tallies[0].injected, unseen.tallies[0].seen), (1, 0));
            assert!(unseen.to_string().starts_with("faults: fault 1 (store away) struck 1 times and shows nowhere"), "{unseen}");
        }
    }
}
