//! Paths between places, and the links that nodes have over them.
//!
//! A link is what two nodes believe of each other; a path is what the wire does. A path that fails in either direction, or a
//! node that stands still, ends the link after the silence that heartbeats allow, as the link layer does: at both ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::Said;
use crate::history::Who;

/// Silence that ends a link at least.
pub(super) const FLOOR: Duration = Duration::from_millis(1200);
/// Silence that ends a link at most.
pub(super) const CEILING: Duration = Duration::from_secs(4);
/// Time between two heartbeats.
pub(super) const BEAT: Duration = Duration::from_millis(150);
/// One way between two hosts.
pub(super) const PASSAGE: Duration = Duration::from_micros(500);

/// What a fault does to paths, between places.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) fault: usize,
    pub(super) from: BTreeSet<u32>,
    pub(super) to: BTreeSet<u32>,
    pub(super) one_way: bool,
    pub(super) cut: bool,
    pub(super) loss: f64,
    pub(super) delay: Duration,
    pub(super) duplicate: f64,
    pub(super) reorder: Duration,
}

/// What the wire does in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Path {
    pub(super) cut: bool,
    pub(super) loss: f64,
    pub(super) delay: Duration,
    pub(super) duplicate: f64,
    pub(super) reorder: Duration,
}

/// What two nodes believe of each other.
#[derive(Debug)]
pub(super) struct Link {
    /// Which link between the two: an older one's messages are lost with it.
    pub(super) made: u64,
    /// When the last message of each direction arrives: they arrive in order.
    pub(super) last: [Duration; 2],
    /// Messages that the wire does not pass on, with their direction.
    pub(super) parked: Vec<(Who, Who, Said)>,
    /// Since when it does not work in both directions.
    pub(super) broken: Option<Duration>,
    /// The last beat that was confirmed, and the longest gap of late, where the path loses some.
    pub(super) heard: Duration,
    pub(super) gap: Duration,
    pub(super) probed: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) troubles: Vec<Trouble>,
    links: BTreeMap<(Who, Who), Link>,
    made: u64,
    /// Pairs whose link is broken and not ended yet.
    pub(super) broken: BTreeSet<(Who, Who)>,
}

/// The key of a pair.
pub(super) fn pair(a: Who, b: Who) -> (Who, Who) {
    (a.min(b), a.max(b))
}

impl Network {
    /// What the wire does from one place to another.
    pub(super) fn path(&self, from: u32, to: u32) -> Path {
        let mut path = Path::default();
        for trouble in &self.troubles {
            let forth = trouble.from.contains(&from) && trouble.to.contains(&to);
            let back = !trouble.one_way && trouble.from.contains(&to) && trouble.to.contains(&from);
            if forth || back {
                path.cut |= trouble.cut;
                path.loss = path.loss.max(trouble.loss);
                path.delay = path.delay.max(trouble.delay);
                path.duplicate = path.duplicate.max(trouble.duplicate);
                path.reorder = path.reorder.max(trouble.reorder);
            }
        }
        path
    }

    pub(super) fn link(&self, a: Who, b: Who) -> Option<&Link> {
        self.links.get(&pair(a, b))
    }

    pub(super) fn link_mut(&mut self, a: Who, b: Who) -> Option<&mut Link> {
        self.links.get_mut(&pair(a, b))
    }

    /// A link comes up; nothing where there is one.
    pub(super) fn connect(&mut self, a: Who, b: Who, now: Duration) -> bool {
        if self.links.contains_key(&pair(a, b)) {
            return false;
        }
        self.made += 1;
        let link = Link { made: self.made, last: [now; 2], parked: Vec::new(), broken: None, heard: now, gap: BEAT, probed: false };
        self.links.insert(pair(a, b), link);
        true
    }

    /// A link ends.
    pub(super) fn end(&mut self, a: Who, b: Who) -> Option<Link> {
        self.broken.remove(&pair(a, b));
        self.links.remove(&pair(a, b))
    }

    /// Pairs that have a link, of which one is `who` if that is said.
    pub(super) fn pairs(&self, who: Option<Who>) -> Vec<(Who, Who)> {
        match who {
            None => self.links.keys().copied().collect(),
            Some(who) => {
                let mut pairs: Vec<(Who, Who)> = self.links.range((who, 0)..=(who, Who::MAX)).map(|(pair, _)| *pair).collect();
                pairs.extend((0..who).map(|other| (other, who)).filter(|pair| self.links.contains_key(pair)));
                pairs
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_is_one_way_and_a_cut_is_both() {
        let trouble = |one_way| Trouble {
            fault: 0,
            from: BTreeSet::from([0]),
            to: BTreeSet::from([1]),
            one_way,
            cut: true,
            loss: 0.0,
            delay: Duration::ZERO,
            duplicate: 0.0,
            reorder: Duration::ZERO,
        };
        let network = |one_way| Network { troubles: vec![trouble(one_way)], ..Network::default() };
        let cut = |one_way, from, to| network(one_way).path(from, to).cut;
        assert!(cut(true, 0, 1) && !cut(true, 1, 0) && cut(false, 1, 0) && !cut(false, 0, 2));
    }

    #[test]
    fn links_of_a_node_are_found_from_both_sides() {
        let mut network = Network::default();
        assert!(network.connect(2, 1, Duration::ZERO) && network.connect(2, 3, Duration::ZERO) && !network.connect(1, 2, Duration::ZERO));
        assert_eq!(network.pairs(Some(2)), [(2, 3), (1, 2)]);
        assert!(network.end(1, 2).is_some() && network.link(2, 1).is_none());
    }
}
