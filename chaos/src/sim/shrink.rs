//! A failing scenario made small: faults that do not matter are left out.

use super::{Bug, run};
use crate::checks::Check;
use crate::scenario::Scenario;

/// The smallest scenario found that still breaks `check` under `seed`: faults are dropped one by one, and then the strikes of
/// those that come often.
pub fn shrink(scenario: &Scenario, seed: u64, bug: Option<Bug>, check: Check) -> Scenario {
    let fails =
        |scenario: &Scenario| run(scenario, seed, bug).is_ok_and(|run| run.violations.iter().any(|violation| violation.check == check));
    let mut smallest = scenario.clone();
    let mut at = 0;
    while at < smallest.faults.len() {
        let mut smaller = smallest.clone();
        smaller.faults.remove(at);
        if fails(&smaller) {
            smallest = smaller;
        } else {
            at += 1;
        }
    }
    for at in 0..smallest.faults.len() {
        let mut smaller = smallest.clone();
        smaller.faults[at].times = None;
        smaller.faults[at].every = None;
        if smaller != smallest && fails(&smaller) {
            smallest = smaller;
        }
    }
    smallest
}
