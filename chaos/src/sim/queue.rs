//! What will happen, in order of time; what happens at one time happens in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Queue<E> {
    /// Time, order, and place in `planned`: events are large, and a heap moves its entries about.
    heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    planned: Vec<Option<E>>,
    free: Vec<usize>,
    next: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: Vec::new(), free: Vec::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Duration, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.planned[place] = Some(event);
                place
            }
            None => {
                self.planned.push(Some(event));
                self.planned.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.next, place)));
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.planned[place].take().map(|event| (at, event))
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
        queue.push(Duration::from_secs(9), 'e');
        assert_eq!((queue.pop(), queue.planned.len()), (Some((Duration::from_secs(9), 'e')), 4), "places are used again");
    }
}
