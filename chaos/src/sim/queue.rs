//! What will happen, in order of time; what happens at one time happens in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Queue<E> {
    /// Time, order, and place in `planned`, in one number each: events are large, and a heap compares and moves its entries
    /// about more than anything else in a simulation. What is up to the end of the current slice of time.
    heap: BinaryHeap<Reverse<u128>>,
    slice: u64,
    /// The same of later slices, in no order: most of what waits is a timer that is far away, and a small heap is a quick one.
    later: BTreeMap<u64, Vec<Reverse<u128>>>,
    planned: Vec<Option<E>>,
    /// What was planned for the very time at which it is: every second event, and in order as it is.
    at_once: VecDeque<(u128, E)>,
    now: Duration,
    free: Vec<usize>,
    next: u64,
}

/// Bits of the nanoseconds in a slice of time: 17 ms.
const SLICE: u32 = 24;

/// Bits of a place in `planned`, and of an order.
const PLACE: u32 = 26;
const ORDER: u32 = 38;

/// Nanoseconds, then the order, then the place.
fn key(at: Duration, order: u64, place: usize) -> u128 {
    debug_assert!(order >> ORDER == 0 && place >> PLACE == 0, "more events than a simulation can have");
    at.as_nanos() << (ORDER + PLACE) | u128::from(order << PLACE) | place as u128
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slice: 0,
            later: BTreeMap::new(),
            planned: Vec::new(),
            at_once: VecDeque::new(),
            now: Duration::ZERO,
            free: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn push(&mut self, at: Duration, event: E) {
        if at == self.now {
            self.at_once.push_back((key(at, self.next, 0), event));
            self.next += 1;
            return;
        }
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
        let key = Reverse(key(at, self.next, place));
        let slice = (at.as_nanos() >> SLICE) as u64;
        if slice <= self.slice {
            self.heap.push(key);
        } else {
            self.later.entry(slice).or_default().push(key);
        }
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, E)> {
        if let Some((first, _)) = self.at_once.front()
            && self.heap.peek().is_none_or(|Reverse(next)| first < next)
        {
            return self.at_once.pop_front().map(|(_, event)| (self.now, event));
        }
        if self.heap.is_empty()
            && let Some((slice, planned)) = self.later.pop_first()
        {
            (self.slice, self.heap) = (slice, BinaryHeap::from(planned));
        }
        let Reverse(key) = self.heap.pop()?;
        self.now = Duration::from_nanos((key >> (ORDER + PLACE)) as u64);
        let place = (key & ((1 << PLACE) - 1)) as usize;
        self.free.push(place);
        self.planned[place].take().map(|event| (self.now, event))
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
        // What is planned for the time that it is comes after what was planned for that time before, and before all that is later.
        [(12, 'h'), (10, 'f'), (10, 'g')].into_iter().for_each(|(at, event)| queue.push(Duration::from_secs(at), event));
        assert_eq!(queue.pop(), Some((Duration::from_secs(10), 'f')));
        [(10, 'i'), (11, 'k'), (10, 'j')].into_iter().for_each(|(at, event)| queue.push(Duration::from_secs(at), event));
        let order: Vec<(u64, char)> = std::iter::from_fn(|| queue.pop()).map(|(at, event)| (at.as_secs(), event)).collect();
        assert_eq!(order, [(10, 'g'), (10, 'i'), (10, 'j'), (11, 'k'), (12, 'h')]);
    }
}
