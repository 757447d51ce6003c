//! Queues, memory, records and logs stay bounded under any storm.

use super::{Check, Violation};
use crate::history::{Happening, History};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let burst = |(place, entry): (usize, &crate::history::Entry)| match &entry.what {
        Happening::Size { of, is, bound } if is > bound => {
            Some(Violation::new(Check::Bounded, place, format!("{of} of node {} are {is}, and may be {bound}", entry.who)))
        }
        _ => None,
    };
    history.entries.iter().enumerate().filter_map(burst).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    #[test]
    fn a_size_beyond_its_bound_is_found() {
        let size = |is| Happening::Size { of: "copies".into(), is, bound: 30 };
        assert_eq!(check(&history([(0, 0, size(30))])), []);
        assert_eq!(check(&history([(0, 0, size(31))])).len(), 1);
    }
}
