//! When faults stop, everyone who lives is in one epoch and steps become stable again, by a stated deadline.
//!
//! Progress is asked for only where enough ranks live and the run has steps left; a run that ended in good order has healed.

use std::collections::BTreeSet;

use super::{Check, Violation};
use crate::history::{Happening, History, Promise, Who};

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let end = history.entries.len().saturating_sub(1);
    let complain = |because: String| vec![Violation::new(Check::Heals, end, because)];
    if history.entries.iter().any(|entry| entry.what == Happening::Done) {
        return Vec::new();
    }
    let Some(calm) = history.calm() else { return Vec::new() };
    let living = history.living();
    if (living.len() as u32) < promise.ranks_min {
        return Vec::new();
    }
    let after = |entry: &&crate::history::Entry| entry.at >= calm && entry.at <= calm + promise.recover_within;
    let late = promise.recover_within.as_secs_f32();
    let last_record = history.entries.iter().rev().find_map(|entry| match &entry.what {
        Happening::Recorded { epoch, members, .. } if entry.at <= calm + promise.recover_within => Some((*epoch, members)),
        _ => None,
    });
    let Some((epoch, members)) = last_record else { return complain(format!("no epoch was created within {late} s")) };
    let inside: BTreeSet<Who> = members.iter().copied().collect();
    let missing: Vec<&Who> = living.difference(&inside).collect();
    let wanted = living.len().min(promise.ranks_max as usize);
    if members.iter().filter(|who| living.contains(who)).count() < wanted {
        return complain(format!(
            "{late} s after the last fault {} of {} nodes are in epoch {epoch}; {missing:?} are not",
            members.len(),
            living.len()
        ));
    }
    if let Some(ghost) = members.iter().find(|who| !living.contains(who)) {
        return complain(format!("{late} s after the last fault node {ghost}, which is gone, is still in epoch {epoch}"));
    }
    let commits =
        history.entries.iter().filter(after).any(|entry| matches!(entry.what, Happening::Stable { epoch: of, .. } if of == epoch));
    if commits { Vec::new() } else { complain(format!("no step of epoch {epoch} was committed within {late} s of the last fault")) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    #[test]
    fn a_run_that_does_not_get_well_is_found() {
        let start =
            [(0, 0, started(0)), (0, 1, started(1)), (0, 2, started(2)), (1, 0, recorded(1, 0, &[0, 1, 2])), (5, 0, Happening::Calm)];
        let and = |more: &[(u64, Who, Happening)]| check(&history(start.iter().cloned().chain(more.to_vec())), &promise()).len();
        assert_eq!(and(&[(6, 0, stable(1, 4))]), 0);
        assert_eq!(and(&[]), 1, "no step");
        assert_eq!(and(&[(60, 0, stable(1, 4))]), 1, "too late");
        assert_eq!(and(&[(6, 2, Happening::Died), (7, 0, stable(1, 4))]), 1, "one of its members is gone");
        assert_eq!(and(&[(6, 0, recorded(2, 0, &[0, 1])), (7, 0, stable(2, 4))]), 1, "one who lives is left out");
        assert_eq!(and(&[(6, 0, Happening::Done)]), 0);
    }
}
