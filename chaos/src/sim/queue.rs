//! What will happen, in order of time; what happens at one time happens in the order in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    next: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<E> Eq for Planned<E> {}
impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Planned<E> {
    // The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Duration, event: E) {
        self.heap.push(Planned { at, number: self.next, event });
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, E)> {
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut queue = Queue::new();
        [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')].into_iter().for_each(|(at, event)| queue.push(Duration::from_secs(at), event));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}
