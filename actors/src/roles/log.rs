//! The run's log: what happened while this node led, on its way into the store.
//!
//! It waits in memory until the next checkpoint is published. A store that cannot be written for long costs the oldest events,
//! never more memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Recorded;
use crate::store::{Store, StoreError};

/// Events that wait at most: some 30 MB.
const EVENTS_MAX: usize = 1 << 16;

/// The events that are not durable yet, oldest first.
#[derive(Debug, Default)]
pub struct Log(Mutex<VecDeque<Recorded>>);

impl Log {
    /// Something happened.
    pub fn push(&self, event: Recorded) {
        let mut events = self.events();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Writes what waits as one object of JSON lines.
    ///
    /// # Errors
    /// The store cannot be written: the events are still kept.
    pub async fn save(&self, store: &Store, key: &str) -> Result<(), StoreError> {
        let events = std::mem::take(&mut *self.events());
        let text: String = events.iter().filter_map(|event| serde_json::to_string(event).ok()).map(|line| line + "\n").collect();
        if text.is_empty() {
            return Ok(());
        }
        let written = store.put(key, bytes::Bytes::from(text)).await;
        if written.is_err() {
            let mut waiting = self.events();
            let room = EVENTS_MAX - waiting.len();
            events.into_iter().rev().take(room).for_each(|event| waiting.push_front(event));
        }
        written
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::event::Event;
    use crate::protocol::ids::NodeId;
    use crate::store::faulty::{Fault, Faulty};

    fn event(at_ms: usize) -> Recorded {
        Recorded { at_ms: at_ms as u64, recorded_by: NodeId([1; 16]), event: Event::Waiting { because: String::new() } }
    }

    async fn saved(store: &Store, key: &str) -> Vec<u64> {
        let body = store.get(key, 1 << 30).await.unwrap();
        let at = |line: &str| serde_json::from_str::<Recorded>(line).unwrap().at_ms;
        String::from_utf8_lossy(&body).lines().map(at).collect()
    }

    #[tokio::test]
    async fn what_cannot_be_written_waits_and_only_so_much_of_it() {
        let faults = Arc::new(Faulty::new(Arc::new(InMemory::new())));
        let store = Store::with(faults.clone(), "run");
        [0, 2].into_iter().for_each(|write| faults.fail(write, Fault::Full));
        let log = Log::default();
        log.push(event(0));
        assert!(log.save(&store, "a").await.is_err());
        log.push(event(1));
        log.save(&store, "b").await.unwrap();
        assert_eq!(saved(&store, "b").await, [0, 1], "nothing was lost, and the order is kept");
        (0..EVENTS_MAX + 2).for_each(|at| log.push(event(at)));
        assert!(log.save(&store, "c").await.is_err());
        log.push(event(EVENTS_MAX + 2));
        assert_eq!(log.events().len(), EVENTS_MAX);
        log.save(&store, "d").await.unwrap();
        let expected: Vec<u64> = (3..EVENTS_MAX as u64 + 3).collect();
        assert!(saved(&store, "d").await == expected, "the newest ones are kept");
    }
}
