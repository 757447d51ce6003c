//! The run's log: what happened while this node led, on its way into the store.
//!
//! It lies there as objects of JSON lines. The newest one is written again as it grows, until it is full and the next one begins; when
//! there are too many the oldest go. A store that cannot be written for long costs the oldest events, never more memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Recorded};
use crate::store::{Store, StoreError};

/// Where its objects lie.
pub const FOLDER: &str = "events";
/// Events that wait at most: some 30 MB.
const EVENTS_MAX: usize = 1 << 16;
/// An object is full when it holds this much.
const OBJECT_BYTES: usize = 256 << 10;
/// Objects of the log at most: with them it takes some 512 MB.
pub const OBJECTS_MAX: usize = 2_048;
/// Objects that a new leader reads: enough for what it tells operators of the time before it.
const NEWEST: usize = 4;
/// The largest object that is read.
const READ_BYTES_MAX: u64 = 256 << 20;

/// The events that are not durable yet, oldest first, and the object that is being filled.
#[derive(Debug, Default)]
pub struct Log {
    waiting: Mutex<VecDeque<Recorded>>,
    /// One writer at a time: the object is written as a whole.
    open: tokio::sync::Mutex<Option<Open>>,
    /// Something happened that is no step.
    news: tokio::sync::Notify,
}

#[derive(Debug)]
struct Open {
    key: String,
    text: String,
}

impl Log {
    /// Something happened.
    pub fn push(&self, event: Recorded) {
        let news = !matches!(event.event, Event::StepCommitted { .. });
        let mut events = self.events();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
        if news {
            self.news.notify_one();
        }
    }

    /// Waits until something happens that is no step: who may die soon writes it at once.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Another leader has led meanwhile: what comes now begins an object of its own.
    pub fn close(&self) {
        // Who writes at this moment finishes the old one.
        if let Ok(mut open) = self.open.try_lock() {
            *open = None;
        }
    }

    /// Writes what waits into the newest object, or as a new one of this key.
    ///
    /// # Errors
    /// The store cannot be written: the events are still kept.
    pub async fn save(&self, store: &Store, key: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock().await;
        let events = std::mem::take(&mut *self.events());
        let text: String = events.iter().filter_map(|event| serde_json::to_string(event).ok()).map(|line| line + "\n").collect();
        if text.is_empty() {
            return Ok(());
        }
        // Kept before it is written: whether a write that failed has arrived is not known, and the next one takes its place.
        let object = open.get_or_insert_with(|| Open { key: key.to_owned(), text: String::new() });
        let (key, whole) = (object.key.clone(), object.text.clone() + &text);
        if let Err(error) = store.put(&key, bytes::Bytes::from(whole.clone())).await {
            let mut waiting = self.events();
            let room = EVENTS_MAX - waiting.len();
            events.into_iter().rev().take(room).for_each(|event| waiting.push_front(event));
            return Err(error);
        }
        if whole.len() < OBJECT_BYTES {
            *open = Some(Open { key, text: whole });
            return Ok(());
        }
        *open = None;
        if let Err(error) = rotate(store).await {
            tracing::warn!(%error, "old objects of the run's log could not be deleted");
        }
        Ok(())
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes the oldest objects where there are too many.
async fn rotate(store: &Store) -> Result<(), StoreError> {
    let mut keys = of_leaders(store).await?;
    keys.truncate(keys.len().saturating_sub(OBJECTS_MAX));
    if keys.is_empty() { Ok(()) } else { store.delete_all(keys).await }
}

/// The objects that leaders wrote, oldest first: their names begin with their epochs and steps. Those of launchers and operators are few
/// and small.
async fn of_leaders(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut keys: Vec<String> = store.list(FOLDER).await?.into_iter().map(|entry| entry.key).collect();
    keys.retain(|key| !key.contains("/launcher-") && !key.contains("/operator-"));
    keys.sort_unstable();
    Ok(keys)
}

/// Writes down what an operator did while nobody led.
///
/// # Errors
/// The store cannot be written.
pub async fn note(store: &Store, recorded: &Recorded) -> Result<(), StoreError> {
    let line = serde_json::to_string(recorded).unwrap_or_default() + "\n";
    let key = format!("{FOLDER}/operator-{}-{}", recorded.at_ms, recorded.recorded_by);
    store.put(&key, bytes::Bytes::from(line)).await
}

/// Everything that is durable, in order of time. A torn or foreign line is passed over.
///
/// # Errors
/// The store cannot be read.
pub async fn read(store: &Store) -> Result<Vec<Recorded>, StoreError> {
    let keys = store.list(FOLDER).await?.into_iter().map(|entry| entry.key).collect();
    read_all(store, keys).await
}

/// As [`read`], of the last objects that leaders wrote.
///
/// # Errors
/// The store cannot be read.
pub async fn newest(store: &Store) -> Result<Vec<Recorded>, StoreError> {
    let mut keys = of_leaders(store).await?;
    keys.drain(..keys.len().saturating_sub(NEWEST));
    read_all(store, keys).await
}

async fn read_all(store: &Store, keys: Vec<String>) -> Result<Vec<Recorded>, StoreError> {
    let mut events = Vec::new();
    for key in keys {
        match store.get(&key, READ_BYTES_MAX).await {
            Ok(body) => {
                events.extend(String::from_utf8_lossy(&body).lines().filter_map(|line| serde_json::from_str::<Recorded>(line).ok()))
            }
            // Rotated away meanwhile.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    events.sort_by_key(|event| event.at_ms);
    Ok(events)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::protocol::ids::NodeId;
    use crate::store::faulty::{Fault, Faulty};

    fn event(at_ms: usize) -> Recorded {
        Recorded { at_ms: at_ms as u64, recorded_by: NodeId([1; 16]), event: Event::Waiting { because: String::new() } }
    }

    async fn saved(store: &Store) -> Vec<u64> {
        read(store).await.unwrap().iter().map(|event| event.at_ms).collect()
    }

    #[tokio::test]
    async fn what_cannot_be_written_waits_and_only_so_much_of_it() {
        let faults = Arc::new(Faulty::new(Arc::new(InMemory::new())));
        let store = Store::with(faults.clone(), "run");
        [0, 2].into_iter().for_each(|write| faults.fail(write, Fault::Full));
        let log = Log::default();
        log.push(event(0));
        assert!(log.save(&store, "events/a").await.is_err());
        log.push(event(1));
        log.save(&store, "events/b").await.unwrap();
        assert_eq!(saved(&store).await, [0, 1], "nothing was lost, and the order is kept");
        (0..EVENTS_MAX + 2).for_each(|at| log.push(event(at)));
        assert!(log.save(&store, "events/c").await.is_err());
        log.push(event(EVENTS_MAX + 2));
        assert_eq!(log.events().len(), EVENTS_MAX);
        log.save(&store, "events/d").await.unwrap();
        let expected: Vec<u64> = (3..EVENTS_MAX as u64 + 3).collect();
        let mut found = saved(&store).await;
        found.retain({
            let mut early = vec![0, 1];
            move |at| {
                early.iter().position(|known| known == at).is_none_or(|place| {
                    early.remove(place);
                    false
                })
            }
        });
        assert!(found == expected, "the newest ones are kept");
    }

    #[tokio::test]
    async fn an_object_grows_until_it_is_full_and_the_oldest_go() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        let log = Log::default();
        let names = |entries: Vec<crate::store::Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
        for round in 0..3 {
            log.push(event(round));
            log.save(&store, &format!("events/{round}")).await.unwrap();
        }
        assert_eq!(names(store.list(FOLDER).await.unwrap()), ["events/0"]);
        let lines = OBJECT_BYTES / serde_json::to_string(&event(3)).unwrap().len() + 1;
        (3..3 + lines).for_each(|at| log.push(event(at)));
        log.save(&store, "events/3").await.unwrap();
        log.push(event(3 + lines));
        log.save(&store, "events/4").await.unwrap();
        assert_eq!(names(store.list(FOLDER).await.unwrap()), ["events/0", "events/4"], "the full one is closed");
        assert!(saved(&store).await == (0..4 + lines as u64).collect::<Vec<_>>());
        for old in 0..OBJECTS_MAX {
            store.put(&format!("events/{old:09}"), bytes::Bytes::from_static(b"\n")).await.unwrap();
        }
        (0..lines).for_each(|at| log.push(event(at)));
        log.save(&store, "events/5").await.unwrap();
        let left = names(store.list(FOLDER).await.unwrap());
        assert!(left.len() == OBJECTS_MAX && !left.contains(&"events/0".to_owned()), "{}", left.len());
    }

    #[tokio::test]
    async fn a_new_leader_reads_the_last_objects_of_leaders_alone() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        for at in 0..6 {
            let log = Log::default();
            log.push(event(at));
            log.save(&store, &format!("events/{at:010}-0-n")).await.unwrap();
        }
        store.put("events/launcher-x.jsonl", bytes::Bytes::from(serde_json::to_string(&event(9)).unwrap())).await.unwrap();
        note(&store, &event(10)).await.unwrap();
        assert_eq!(saved(&store).await, [0, 1, 2, 3, 4, 5, 9, 10], "all of it is the log");
        let times: Vec<u64> = newest(&store).await.unwrap().iter().map(|event| event.at_ms).collect();
        assert_eq!(times, [2, 3, 4, 5]);
    }
}
