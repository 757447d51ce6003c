//! Paths between places, and the links that nodes have over them.
//!
//! A link is what two nodes believe of each other; a path is what the wire does. A path that fails in either direction, or a
//! node that stands still, ends the link after the silence that heartbeats allow, as the link layer does: at both ends.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use super::content::mix;
use super::event::Said;
use crate::history::Who;

/// Silence that ends a link at least.
pub(super) const FLOOR: Duration = Duration::from_millis(1200);
/// Silence that ends a link at most.
pub(super) const CEILING: Duration = Duration::from_secs(4);
/// Time between two heartbeats.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// One way between two hosts.
pub(super) const PASSAGE: Duration = Duration::from_micros(500);

/// A set of places, or of nodes by their numbers. Every message asks whether its two are in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Vec<u64>);

impl Places {
    pub(super) fn insert(&mut self, place: u32) {
        let word = place as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as u32 * 64 + bit)
        };
        self.0.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(bits)
    }

    fn contains(&self, place: u32) -> bool {
        self.0.get(place as usize / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }
}

impl FromIterator<u32> for Places {
    fn from_iter<I: IntoIterator<Item = u32>>(places: I) -> Self {
        let mut set = Self::default();
        places.into_iter().for_each(|place| set.insert(place));
        set
    }
}

/// What a fault does to paths, between places.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) fault: usize,
    pub(super) from: Places,
    pub(super) to: Places,
    pub(super) one_way: bool,
    pub(super) cut: bool,
    pub(super) loss: f64,
    pub(super) delay: Duration,
    pub(super) duplicate: f64,
    pub(super) reorder: Duration,
    /// Messages and links that it has touched.
    pub(super) felt: u64,
}

impl Trouble {
    fn is_between(&self, from: u32, to: u32) -> bool {
        let forth = self.from.contains(from) && self.to.contains(to);
        forth || (!self.one_way && self.from.contains(to) && self.to.contains(from))
    }
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
    /// When packets last came through in both directions, in or out of order.
    pub(super) came: Duration,
    pub(super) probed: bool,
    /// At the next look nothing will have been heard for too long.
    pub(super) doomed: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) troubles: Vec<Trouble>,
    links: HashMap<(Who, Who), Link, BuildHasherDefault<Mixer>>,
    /// With whom each node has a link, in order: all of one node lie together.
    peers: Vec<Vec<Who>>,
    made: u64,
    /// Pairs whose link is broken and not ended yet.
    pub(super) broken: HashSet<(Who, Who), BuildHasherDefault<Mixer>>,
}

/// Hashes the numbers of nodes, without random keys: nobody chooses them to do harm.
#[derive(Debug, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = mix(self.0, u64::from(number));
    }
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
            if trouble.is_between(from, to) {
                path.cut |= trouble.cut;
                path.loss = path.loss.max(trouble.loss);
                path.delay = path.delay.max(trouble.delay);
                path.duplicate = path.duplicate.max(trouble.duplicate);
                path.reorder = path.reorder.max(trouble.reorder);
            }
        }
        path
    }

    /// Something between two places was touched by what troubles their path.
    pub(super) fn feel(&mut self, from: u32, to: u32) {
        let between = |trouble: &&mut Trouble| trouble.is_between(from, to);
        self.troubles.iter_mut().filter(between).for_each(|trouble| trouble.felt += 1);
    }

    /// Whether two nodes have a link.
    pub(super) fn linked(&self, a: Who, b: Who) -> bool {
        self.peers.get(a as usize).is_some_and(|peers| peers.binary_search(&b).is_ok())
    }

    pub(super) fn link(&self, a: Who, b: Who) -> Option<&Link> {
        self.links.get(&pair(a, b))
    }

    pub(super) fn link_mut(&mut self, a: Who, b: Who) -> Option<&mut Link> {
        self.links.get_mut(&pair(a, b))
    }

    /// A link comes up; nothing where there is one.
    pub(super) fn connect(&mut self, a: Who, b: Who, now: Duration) -> bool {
        let Entry::Vacant(place) = self.links.entry(pair(a, b)) else { return false };
        self.made += 1;
        place.insert(Link {
            made: self.made,
            last: [now; 2],
            parked: Vec::new(),
            broken: None,
            heard: now,
            gap: BEAT,
            came: now,
            probed: false,
            doomed: false,
        });
        let most = a.max(b) as usize;
        if self.peers.len() <= most {
            self.peers.resize_with(most + 1, Vec::new);
        }
        for (me, other) in [(a, b), (b, a)] {
            let peers = &mut self.peers[me as usize];
            let place = peers.partition_point(|peer| *peer < other);
            peers.insert(place, other);
        }
        true
    }

    /// A link ends.
    pub(super) fn end(&mut self, a: Who, b: Who) -> Option<Link> {
        let link = self.links.remove(&pair(a, b))?;
        self.broken.remove(&pair(a, b));
        for (me, other) in [(a, b), (b, a)] {
            let peers = &mut self.peers[me as usize];
            if let Ok(place) = peers.binary_search(&other) {
                peers.remove(place);
            }
        }
        Some(link)
    }

    /// Pairs that have a link, of which one is `who` if that is said.
    pub(super) fn pairs(&self, who: Option<Who>) -> Vec<(Who, Who)> {
        match who {
            None => {
                let above = |(a, peers): (usize, &Vec<Who>)| {
                    let a = a as Who;
                    peers[peers.partition_point(|b| *b < a)..].iter().map(|b| (a, *b)).collect::<Vec<_>>()
                };
                self.peers.iter().enumerate().flat_map(above).collect()
            }
            Some(who) => self.peers.get(who as usize).into_iter().flatten().map(|other| pair(who, *other)).collect(),
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
            from: Places::from_iter([0]),
            to: Places::from_iter([1]),
            one_way,
            cut: true,
            loss: 0.0,
            delay: Duration::ZERO,
            duplicate: 0.0,
            reorder: Duration::ZERO,
            felt: 0,
        };
        let network = |one_way| Network { troubles: vec![trouble(one_way)], ..Network::default() };
        let cut = |one_way, from, to| network(one_way).path(from, to).cut;
        assert!(cut(true, 0, 1) && !cut(true, 1, 0) && cut(false, 1, 0) && !cut(false, 0, 2));
    }

    #[test]
    fn links_of_a_node_are_found_from_both_sides() {
        let mut network = Network::default();
        assert!(network.connect(2, 1, Duration::ZERO) && network.connect(2, 3, Duration::ZERO) && !network.connect(1, 2, Duration::ZERO));
        assert_eq!((network.pairs(Some(2)), network.pairs(None)), (vec![(1, 2), (2, 3)], vec![(1, 2), (2, 3)]));
        assert!(network.end(1, 2).is_some() && network.link(2, 1).is_none());
        assert_eq!((network.pairs(Some(1)), network.pairs(None)), (vec![], vec![(2, 3)]));
    }
}
