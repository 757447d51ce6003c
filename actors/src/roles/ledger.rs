//! The ledger of committed steps: which samples each step used, durable in the store.
//!
//! Every member keeps the lines that are not durable yet, so that a leader that is lost takes none with it: the next one
//! writes them. A line that two leaders write is the same line twice.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::protocol::ids::{Epoch, Step};
use crate::store::{Store, StoreError};

/// Lines that are kept at most: far more than are committed between two writes.
const LINES_MAX: usize = 1 << 20;
/// The largest object of the ledger that is read.
const BYTES_MAX: u64 = 1 << 30;

/// One committed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// Its number.
    pub step: Step,
    /// The epoch that committed it.
    pub epoch: Epoch,
    /// Samples that were decoded for it.
    pub samples: u32,
    /// Hash over the lanes' hashes of sample ids, in lane order.
    pub samples_hash: u64,
}

/// The lines that are not durable yet.
#[derive(Debug, Default)]
pub struct Tail {
    lines: Mutex<VecDeque<Line>>,
    next: AtomicU64,
}

impl Tail {
    /// A step has become stable.
    pub fn push(&self, line: Line) {
        let mut lines = self.lines();
        // A step that was committed anew is so in a later epoch: its line takes the place of the old one.
        while lines.back().is_some_and(|last| last.step >= line.step) {
            lines.pop_back();
        }
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
        self.next.store(line.step.0 + 1, Ordering::Relaxed);
    }

    /// The step after the last one that became stable on this node's watch; 0 before the first.
    pub fn next_step(&self) -> Step {
        Step(self.next.load(Ordering::Relaxed))
    }

    /// Steps below this one are durable.
    pub fn trim(&self, step: Step) {
        self.lines().retain(|line| line.step >= step);
    }

    /// Lines that wait.
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    /// Writes all lines as one object; returns one past the last step in it.
    ///
    /// # Errors
    /// The store cannot be written: the lines are still kept.
    pub async fn save(&self, store: &Store, nonce: &str) -> Result<Option<Step>, StoreError> {
        let lines: Vec<Line> = self.lines().iter().copied().collect();
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(None) };
        let key = format!("ledger/{:010}-{:010}-{nonce}.jsonl", first.step.0, last.step.0);
        let text: String = lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect();
        store.put(&key, bytes::Bytes::from(text)).await?;
        let done = last.step.next();
        self.trim(done);
        Ok(Some(done))
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All lines of a run, by (step, epoch), each once. Of a torn object the whole lines count.
///
/// # Errors
/// The store cannot be read.
pub async fn read(store: &Store) -> Result<Vec<Line>, StoreError> {
    let mut lines = std::collections::BTreeSet::new();
    for entry in store.list("ledger").await? {
        let body = store.get(&entry.key, BYTES_MAX).await?;
        lines.extend(String::from_utf8_lossy(&body).lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()));
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, epoch: u64) -> Line {
        Line { step: Step(step), epoch: Epoch(epoch), samples: 4, samples_hash: step * 7 }
    }

    #[tokio::test]
    async fn two_leaders_write_a_line_once_and_none_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        let (first, second) = (Tail::default(), Tail::default());
        for step in 0..4 {
            first.push(line(step, 1));
            second.push(line(step, 1));
        }
        assert_eq!(first.save(&store, "a").await.unwrap(), Some(Step(4)));
        assert_eq!(first.save(&store, "a").await.unwrap(), None);
        // The first leader is lost before it says so.
        second.push(line(4, 2));
        assert_eq!(second.save(&store, "b").await.unwrap(), Some(Step(5)));
        assert_eq!(read(&store).await.unwrap(), [line(0, 1), line(1, 1), line(2, 1), line(3, 1), line(4, 2)]);
    }

    #[test]
    fn a_step_that_runs_again_has_one_line() {
        let tail = Tail::default();
        [line(0, 1), line(1, 1), line(1, 2)].into_iter().for_each(|line| tail.push(line));
        assert_eq!(tail.len(), 2);
        tail.trim(Step(2));
        assert!(tail.is_empty());
    }
}
