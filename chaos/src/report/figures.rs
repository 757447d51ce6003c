//! What a run came to in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{Happening, History};

/// See the module's text. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Time of the run.
    pub took_s: f64,
    /// Steps that are committed at the end.
    pub steps: u64,
    /// Epochs that were created.
    pub epochs: u64,
    /// Strikes of faults.
    pub strikes: u64,
    /// Share of the time, from the first beginning to the last commit, that undisturbed steps of the same number take.
    pub goodput: f64,
    /// From a strike that does harm to the next committed step, beyond the length of one step: half of them take at most this.
    pub recover_p50_s: Option<f64>,
    /// 99 of 100 take at most this.
    pub recover_p99_s: Option<f64>,
    /// Committed steps that the run went back over.
    pub steps_lost: u64,
    /// Copies that plans moved between nodes.
    pub bytes_moved: u64,
    /// Sizes that have to stay flat.
    pub sizes: Vec<Growth>,
}

/// A size that of a hundred measured ones at most one exceeds, early and late in a run: the very largest is one of chance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Of what.
    pub of: String,
    /// In the first half.
    pub early: u64,
    /// In the second half.
    pub late: u64,
}

impl Figures {
    /// Of a history.
    pub fn of(history: &History) -> Self {
        let took = history.entries.iter().map(|entry| entry.at).max().unwrap_or_default();
        let mut commits: Vec<Duration> = history.stable().map(|(place, ..)| history.entries[place].at).collect();
        commits.sort_unstable();
        let mut gaps: Vec<Duration> = commits.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        // Nine of ten steps may have been held up.
        let one = gaps.get(gaps.len() / 10).copied().unwrap_or_default();
        let mut recoveries: Vec<Duration> = history
            .struck()
            .filter(|(_, kind, _)| !kind.is_harmless())
            .filter_map(|(entry, ..)| {
                let next = commits.get(commits.partition_point(|at| *at <= entry.at))?;
                Some((*next - entry.at).saturating_sub(one))
            })
            .collect();
        recoveries.sort_unstable();
        let share = |of: usize| recoveries.get((recoveries.len() * of / 100).min(recoveries.len().saturating_sub(1)));
        let (steps, steps_lost) = steps(history);
        let begun = history.entries.iter().find(|entry| matches!(entry.what, Happening::Begun { .. })).map(|entry| entry.at);
        let busy = commits.last().zip(begun).map_or(0.0, |(last, first)| (*last).saturating_sub(first).as_secs_f64());
        Self {
            took_s: took.as_secs_f64(),
            steps,
            epochs: count(history, |what| matches!(what, Happening::Recorded { .. })),
            strikes: history.struck().count() as u64,
            goodput: if busy > 0.0 { (steps as f64 * one.as_secs_f64() / busy).min(1.0) } else { 0.0 },
            recover_p50_s: share(50).map(Duration::as_secs_f64),
            recover_p99_s: share(99).map(Duration::as_secs_f64),
            steps_lost,
            bytes_moved: history.entries.iter().map(|entry| if let Happening::Moved { bytes, .. } = entry.what { bytes } else { 0 }).sum(),
            sizes: sizes(history, took / 2),
        }
    }
}

fn count(history: &History, what: impl Fn(&Happening) -> bool) -> u64 {
    history.entries.iter().filter(|entry| what(&entry.what)).count() as u64
}

/// Steps that are committed at the end, and those that were lost on the way.
fn steps(history: &History) -> (u64, u64) {
    let (mut last, mut lost) = (0, 0);
    for entry in &history.entries {
        match entry.what {
            Happening::Begun { step, .. } => {
                lost += last - step.min(last);
                last = step;
            }
            Happening::Stable { step, .. } => last = step + 1,
            _ => {}
        }
    }
    (last, lost)
}

fn sizes(history: &History, half: Duration) -> Vec<Growth> {
    let mut all: BTreeMap<&str, [Vec<u64>; 2]> = BTreeMap::new();
    for entry in &history.entries {
        if let Happening::Size { of, is, .. } = &entry.what {
            all.entry(of).or_default()[usize::from(entry.at >= half)].push(*is);
        }
    }
    // What is counted once, at the end, does not grow.
    let most = |mut sizes: Vec<u64>| {
        sizes.sort_unstable();
        sizes.get(sizes.len() * 99 / 100).copied()
    };
    let both = |(of, [early, late]): (&str, [Vec<u64>; 2])| {
        Some(Growth { of: of.trim_end_matches(',').to_owned(), early: most(early)?, late: most(late)? })
    };
    all.into_iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;
    use crate::history::Source;

    #[test]
    fn figures_are_those_of_the_history() {
        let mut history = History::default();
        let mut at = |ms: u64, what: Happening| history.push(Duration::from_millis(ms), 0, what);
        let begun = |epoch: u64, step: u64| Happening::Begun {
            epoch,
            step,
            of: 0,
            source: Source::Seed,
            plan: 0,
            holders: Vec::new(),
            used: Vec::new(),
        };
        let stable = |epoch: u64, step: u64| Happening::Stable { epoch, step, digest: 0, used: Vec::new() };
        at(0, begun(1, 0));
        (0..4).for_each(|step| at(1_000 + step * 1_000, stable(1, step)));
        at(4_500, Happening::Struck { fault: 0, strike: 0, kind: Kind::Kill, targets: vec![1] });
        at(6_000, begun(2, 3));
        at(6_000, Happening::Moved { epoch: 2, bytes: 700 });
        (3..7).for_each(|step| at(7_000 + (step - 3) * 1_000, stable(2, step)));
        let figures = Figures::of(&history);
        assert_eq!((figures.steps, figures.steps_lost, figures.strikes, figures.bytes_moved), (7, 1, 1, 700));
        assert_eq!(figures.recover_p50_s, Some(1.5), "2.5 s to the next step, which takes one");
        assert!((figures.goodput - 0.7).abs() < 1e-9, "seven steps of a second in ten: {}", figures.goodput);
    }
}
