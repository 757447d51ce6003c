//! Without a cause nobody is put out: slow machines, lossy paths and long steps are no faults of a node.

use super::{Check, Violation};
use crate::history::{Happening, History};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let harmful = history.struck().find(|(_, kind, _)| !kind.is_harmless()).map(|(entry, ..)| entry.at);
    let alarm = |(place, entry): (usize, &crate::history::Entry)| match &entry.what {
        Happening::Lost { whom, because } if harmful.is_none_or(|at| entry.at < at) => {
            Some(Violation::new(Check::NoFalseAlarm, place, format!("node {whom} was put out, and nothing was done to it: {because}")))
        }
        _ => None,
    };
    history.entries.iter().enumerate().filter_map(alarm).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn a_node_that_is_put_out_without_a_cause_is_found() {
        let struck = |kind| Happening::Struck { fault: 0, strike: 0, kind, targets: vec![1] };
        let lost = (5, 0, Happening::Lost { whom: 1, because: "silent".into() });
        assert_eq!(check(&history([lost.clone()])).len(), 1);
        assert_eq!(check(&history([(1, 0, struck(Kind::Slow)), lost.clone()])).len(), 1);
        assert_eq!(check(&history([(1, 0, struck(Kind::Kill)), lost])), []);
    }
}
