//! Nothing from an ended epoch changes state.
//!
//! It holds because every word that changes state carries its epoch, and nodes are in one epoch at a time. A node that enters
//! the newest epoch a little after others is no ghost: what counts is the epoch that the node itself is in.

use super::{Check, Violation};
use crate::history::{Happening, History};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let ghost = |(place, entry): (usize, &crate::history::Entry)| match entry.what {
        Happening::Applied { said, current, step } if said != current => {
            let because =
                format!("node {} is in epoch {current} and let a word of epoch {said} change its state at step {step}", entry.who);
            Some(Violation::new(Check::NoGhosts, place, because))
        }
        _ => None,
    };
    history.entries.iter().enumerate().filter_map(ghost).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    #[test]
    fn a_word_of_an_ended_epoch_that_changes_state_is_found() {
        assert_eq!(check(&history([(0, 0, Happening::Applied { said: 3, current: 3, step: 7 })])), []);
        assert_eq!(check(&history([(0, 0, Happening::Applied { said: 2, current: 3, step: 7 })])).len(), 1);
    }
}
