//! Canonical sums: the one binary tree that fixes the bits of every sum over lanes.
//!
//! The tree over leaves `0..n` splits at the largest power of two below the length. Float addition
//! is not associative, so the tree, never arrival or placement, decides which additions are made.
//! Whoever holds all leaves below a node adds them up; the next one goes on from there.

use std::collections::BTreeMap;
use std::ops::{Add, Deref, Range};
use std::sync::Arc;

/// The left and right child of a node, `None` for a leaf.
pub fn children(node: &Range<u32>) -> Option<(Range<u32>, Range<u32>)> {
    let length = node.end - node.start;
    if length < 2 {
        return None;
    }
    let left = if length.is_power_of_two() { length / 2 } else { length.next_power_of_two() / 2 };
    let split = node.start + left;
    Some((node.start..split, split..node.end))
}

/// The node's sibling and parent in the tree over `0..leaves`; `None` for the root and for a range
/// that is no node.
pub fn relatives(node: &Range<u32>, leaves: u32) -> Option<(Range<u32>, Range<u32>)> {
    let mut parent = 0..leaves;
    loop {
        let (left, right) = children(&parent)?;
        if left == *node {
            return Some((right, parent));
        }
        if right == *node {
            return Some((left, parent));
        }
        parent = if node.start < right.start { left } else { right };
    }
}

/// Whether the range is a node of the tree over `0..leaves`.
pub fn is_node(range: &Range<u32>, leaves: u32) -> bool {
    range.start < range.end && (*range == (0..leaves) || relatives(range, leaves).is_some())
}

/// The largest complete subtrees that lie within a contiguous range of leaves, left to right.
pub fn cover(range: &Range<u32>, leaves: u32) -> Vec<Range<u32>> {
    fn walk(node: Range<u32>, range: &Range<u32>, out: &mut Vec<Range<u32>>) {
        if node.end <= range.start || range.end <= node.start {
            return;
        }
        if range.start <= node.start && node.end <= range.end {
            out.push(node);
        } else if let Some((left, right)) = children(&node) {
            walk(left, range, out);
            walk(right, range, out);
        }
    }
    let mut out = Vec::new();
    if range.start < range.end {
        walk(0..leaves, range, &mut out);
    }
    out
}

/// Why a contribution to a sum was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The leaves are no node of the tree.
    #[error("leaves {0:?} are no node of the tree over {1} leaves")]
    NoNode(Range<u32>, u32),
    /// These leaves (or some of them) are in the sum already.
    #[error("leaves {0:?} were added before")]
    Twice(Range<u32>),
    /// Another length than the contributions before.
    #[error("a contribution of {got} values to a sum of {want}")]
    Length {
        /// Values of the first contribution.
        want: usize,
        /// Values of this one.
        got: usize,
    },
}

/// What is done to the sum at every node of the tree, the leaves among them: the same at each, so that placement changes no bit.
pub trait Round<T> {
    /// Rounds the values of a node.
    fn round(&self, values: &mut [T]);
    /// Whether it changes nothing.
    fn is_exact(&self) -> bool;
}

/// Sums are kept as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl<T> Round<T> for Exact {
    fn round(&self, _: &mut [T]) {}
    fn is_exact(&self) -> bool {
        true
    }
}

/// A sum in progress: takes node sums in any order, adds siblings as soon as both are there.
#[derive(Debug, Clone)]
pub struct TreeSum<T, R = Exact> {
    leaves: u32,
    length: Option<usize>,
    nodes: BTreeMap<u32, (u32, Values<T>)>,
    rounding: R,
}

/// The values of a node: of the sum alone, or part of a vector that others read too.
#[derive(Debug, Clone)]
enum Values<T> {
    Own(Vec<T>),
    Shared(Arc<Vec<T>>, Range<usize>),
}

impl<T> Deref for Values<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Own(values) => values,
            Self::Shared(values, range) => &values[range.clone()],
        }
    }
}

impl<T: Copy> Values<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::Own(values) => values,
            shared @ Self::Shared(..) => shared.to_vec(),
        }
    }
}

impl<T: Copy + Add<Output = T>> TreeSum<T> {
    /// An empty sum over `0..leaves`.
    pub fn new(leaves: u32) -> Self {
        Self::rounded(leaves, Exact)
    }
}

impl<T: Copy + Add<Output = T>, R: Round<T>> TreeSum<T, R> {
    /// An empty sum over `0..leaves` that is rounded at every node.
    pub fn rounded(leaves: u32, rounding: R) -> Self {
        Self { leaves, length: None, nodes: BTreeMap::new(), rounding }
    }

    /// Adds the sum of the leaves `range`. Returns the whole sum once every leaf is in it.
    ///
    /// # Errors
    /// [`Refused`] leaves the sum as it was.
    pub fn add(&mut self, range: Range<u32>, values: Vec<T>) -> Result<Option<Vec<T>>, Refused> {
        self.add_values(range, Values::Own(values))
    }

    /// As [`TreeSum::add`], with the part `of` a vector that others read too: it is not copied where it can be added to what comes.
    ///
    /// # Errors
    /// As there.
    pub fn add_shared(&mut self, range: Range<u32>, values: Arc<Vec<T>>, of: Range<usize>) -> Result<Option<Vec<T>>, Refused> {
        self.add_values(range, Values::Shared(values, of))
    }

    fn add_values(&mut self, range: Range<u32>, values: Values<T>) -> Result<Option<Vec<T>>, Refused> {
        if !is_node(&range, self.leaves) {
            return Err(Refused::NoNode(range, self.leaves));
        }
        let overlaps = self.nodes.range(..range.end).next_back().is_some_and(|(_, (end, _))| *end > range.start);
        if overlaps {
            return Err(Refused::Twice(range));
        }
        let want = *self.length.get_or_insert(values.len());
        if want != values.len() {
            return Err(Refused::Length { want, got: values.len() });
        }
        let (mut range, mut values) = (range, self.rounded_values(values));
        while let Some((sibling, parent)) = relatives(&range, self.leaves) {
            let there = self.nodes.get(&sibling.start).is_some_and(|(end, _)| *end == sibling.end);
            if !there {
                self.nodes.insert(range.start, (range.end, values));
                return Ok(None);
            }
            let Some((_, other)) = self.nodes.remove(&sibling.start) else { return Ok(None) };
            let sum = if range.start < sibling.start { added(values, other) } else { added(other, values) };
            values = self.rounded_values(Values::Own(sum));
            range = parent;
        }
        Ok(Some(values.into_vec()))
    }

    fn rounded_values(&self, values: Values<T>) -> Values<T> {
        if self.rounding.is_exact() {
            return values;
        }
        let mut values = values.into_vec();
        self.rounding.round(&mut values);
        Values::Own(values)
    }

    /// The nodes that are in the sum and wait for their siblings, left to right, taken out of it.
    pub fn take(&mut self) -> Vec<Subtree<T>> {
        std::mem::take(&mut self.nodes).into_iter().map(|(start, (end, values))| (start..end, values.into_vec())).collect()
    }

    /// Leaves that are still missing, as ranges.
    pub fn missing(&self) -> Vec<Range<u32>> {
        let mut at = 0;
        let mut out = Vec::new();
        for (&start, &(end, _)) in &self.nodes {
            if at < start {
                out.push(at..start);
            }
            at = end;
        }
        if at < self.leaves {
            out.push(at..self.leaves);
        }
        out
    }
}

/// left + right, in the memory of one of them where that is the sum's own.
fn added<T: Copy + Add<Output = T>>(left: Values<T>, right: Values<T>) -> Vec<T> {
    match (left, right) {
        (Values::Own(mut left), right) => {
            left.iter_mut().zip(&*right).for_each(|(l, r)| *l = *l + *r);
            left
        }
        (left, Values::Own(mut right)) => {
            left.iter().zip(&mut right).for_each(|(l, r)| *r = *l + *r);
            right
        }
        (left, right) => left.iter().zip(&*right).map(|(l, r)| *l + *r).collect(),
    }
}

/// A node of the tree and the sum of the leaves below it.
pub type Subtree<T> = (Range<u32>, Vec<T>);

/// The part of a sum that one rank makes: its lanes' contributions, added up to complete subtrees.
#[derive(Debug, Clone)]
pub struct Subtrees<T, R = Exact> {
    parts: Vec<(Range<u32>, TreeSum<T, R>)>,
}

impl<T: Copy + Add<Output = T>> Subtrees<T> {
    /// The part made of these nodes of the tree (see [`cover`]).
    pub fn new(nodes: Vec<Range<u32>>) -> Self {
        Self::rounded(nodes, Exact)
    }
}

impl<T: Copy + Add<Output = T>, R: Round<T> + Clone> Subtrees<T, R> {
    /// The same, rounded at every node.
    pub fn rounded(nodes: Vec<Range<u32>>, rounding: R) -> Self {
        let part = |node: Range<u32>| (node.clone(), TreeSum::rounded(node.end - node.start, rounding.clone()));
        Self { parts: nodes.into_iter().map(part).collect() }
    }

    /// Adds one leaf. Returns a node and its sum when all leaves below it are there.
    ///
    /// # Errors
    /// [`Refused`] when the leaf is not one of ours, comes twice, or has another length.
    pub fn add(&mut self, leaf: u32, values: Vec<T>) -> Result<Option<Subtree<T>>, Refused> {
        let Some((node, tree)) = self.parts.iter_mut().find(|(node, _)| node.contains(&leaf)) else {
            return Err(Refused::NoNode(leaf..leaf + 1, 0));
        };
        let at = leaf - node.start;
        Ok(tree.add(at..at + 1, values)?.map(|total| (node.clone(), total)))
    }
}

/// The canonical sum of scalars that are all at hand.
pub fn sum<T: Copy + Add<Output = T>>(leaves: &[T]) -> Option<T> {
    match leaves {
        [] => None,
        [one] => Some(*one),
        more => {
            let (left, right) = children(&(0..more.len() as u32))?;
            let split = left.end as usize;
            debug_assert_eq!(right.start, left.end);
            Some(sum(&more[..split])? + sum(&more[split..])?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_at_the_largest_power_of_two_below_the_length() {
        for (leaves, split) in [(2, 1), (3, 2), (4, 2), (5, 4), (6, 4), (7, 4), (8, 4), (9, 8), (496, 256)] {
            assert_eq!(children(&(0..leaves)), Some((0..split, split..leaves)), "{leaves} leaves");
        }
        assert_eq!(children(&(3..4)), None);
    }

    #[test]
    fn cover_is_the_largest_subtrees() {
        assert_eq!(cover(&(0..6), 8), [0..4, 4..6]);
        assert_eq!(cover(&(1..8), 8), [1..2, 2..4, 4..8]);
        assert_eq!(cover(&(2..5), 5), [2..4, 4..5]);
        assert_eq!(cover(&(3..3), 8), Vec::<Range<u32>>::new());
    }

    #[test]
    fn refuses_what_is_no_node_or_comes_twice() {
        let mut sum = TreeSum::new(4);
        assert_eq!(sum.add(1..3, vec![1.0f32]), Err(Refused::NoNode(1..3, 4)));
        assert_eq!(sum.add(0..2, vec![1.0]), Ok(None));
        assert_eq!(sum.add(1..2, vec![1.0]), Err(Refused::Twice(1..2)));
        assert_eq!(sum.add(0..2, vec![1.0]), Err(Refused::Twice(0..2)));
        assert_eq!(sum.add(2..3, vec![1.0, 2.0]), Err(Refused::Length { want: 1, got: 2 }));
        assert_eq!(sum.missing(), vec![2..4]);
        assert_eq!(sum.add(2..4, vec![2.0]), Ok(Some(vec![3.0])));
    }

    proptest! {
        /// The heart of `same_bits`: any placement, any order of arrival, the same bits.
        #[test]
        fn bits_do_not_depend_on_placement_or_arrival(
            values in prop::collection::vec(-1e6f32..1e6, 1..40),
            cuts in prop::collection::vec(0usize..40, 0..6),
            seed in any::<u64>(),
        ) {
            let n = values.len() as u32;
            let expected = sum(&values).unwrap();
            let mut cuts: Vec<u32> = cuts.into_iter().map(|c| c as u32 % (n + 1)).chain([0, n]).collect();
            cuts.sort_unstable();
            let mut pieces: Vec<(Range<u32>, f32)> = Vec::new();
            for pair in cuts.windows(2) {
                for node in cover(&(pair[0]..pair[1]), n) {
                    let mut local = TreeSum::new(node.end - node.start);
                    let mut total = None;
                    for leaf in node.clone() {
                        let at = leaf - node.start;
                        total = local.add(at..at + 1, vec![values[leaf as usize]]).unwrap();
                    }
                    pieces.push((node, total.unwrap()[0]));
                }
            }
            let mut state = seed;
            for i in (1..pieces.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                pieces.swap(i, (state >> 33) as usize % (i + 1));
            }
            let mut whole = TreeSum::new(n);
            let mut total = None;
            for (i, (node, value)) in pieces.into_iter().enumerate() {
                let shared = seed >> (i % 64) & 1 == 1;
                let values = vec![0.0, value];
                total = if shared { whole.add_shared(node, Arc::new(values), 1..2) } else { whole.add(node, values[1..].to_vec()) }.unwrap();
            }
            prop_assert_eq!(total.unwrap()[0].to_bits(), expected.to_bits());
        }
    }
}
