//! The state after step `s` is the same for every history of members, failures, leaders and checkpoints.
//!
//! It holds because sums follow lanes, because a step that is not stable leaves no trace, and because a version that is gone
//! on from is whole. Without an undisturbed run to compare with, steps that were computed twice are compared with each other.

use std::collections::BTreeMap;

use super::{Check, Violation};
use crate::history::{History, Promise};

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let mut seen: BTreeMap<u64, u64> = promise.digests.clone();
    let mut found = Vec::new();
    for (place, epoch, step, digest) in history.stable() {
        let expected = *seen.entry(step + 1).or_insert(digest);
        if digest != expected {
            let because = format!("the state after step {step} (epoch {epoch}) is {digest:016x} and should be {expected:016x}");
            found.push(Violation::new(Check::SameBits, place, because));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::history::Happening;

    #[test]
    fn another_digest_than_that_of_an_undisturbed_run_is_found() {
        let good = history([(1, 0, stable(2, 0)), (2, 0, stable(2, 1)), (3, 1, stable(3, 1))]);
        assert_eq!(check(&good, &promise()), []);
        let mut bad = good;
        bad.push(std::time::Duration::from_secs(4), 1, Happening::Stable { epoch: 3, step: 2, digest: 7, used: Vec::new() });
        assert_eq!(check(&bad, &promise())[0].place, 3);
    }

    #[test]
    fn without_a_reference_a_step_is_compared_with_itself() {
        let mut bad = history([(1, 0, stable(2, 0))]);
        bad.push(std::time::Duration::from_secs(4), 1, Happening::Stable { epoch: 3, step: 0, digest: 7, used: Vec::new() });
        assert_eq!(check(&bad, &Promise::default()).len(), 1);
    }
}
