//! Some hundred nodes: who is among them is asked at every word, and all come and go at once where members change.

use crate::protocol::ids::NodeId;

/// In order, in one piece: to move the rest along costs less than the nodes of a tree do.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes(Vec<NodeId>);

impl Nodes {
    pub(super) fn insert(&mut self, node: NodeId) {
        if let Err(place) = self.0.binary_search(&node) {
            self.0.insert(place, node);
        }
    }

    pub(super) fn remove(&mut self, node: &NodeId) {
        if let Ok(place) = self.0.binary_search(node) {
            self.0.remove(place);
        }
    }

    pub(super) fn contains(&self, node: &NodeId) -> bool {
        self.0.binary_search(node).is_ok()
    }
}

impl FromIterator<NodeId> for Nodes {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_in_any_order_is_found_until_it_goes() {
        let node = |n: u8| NodeId([n; 16]);
        let mut nodes: Nodes = [5, 1, 9, 1].map(node).into_iter().collect();
        [7, 0, 7].map(node).into_iter().for_each(|node| nodes.insert(node));
        let there = |nodes: &Nodes| (0..10).filter(|n| nodes.contains(&node(*n))).collect::<Vec<_>>();
        assert_eq!(there(&nodes), [0, 1, 5, 7, 9]);
        [1, 7, 3].map(node).iter().for_each(|node| nodes.remove(node));
        assert_eq!(there(&nodes), [0, 5, 9]);
    }
}
