//! The ledger of committed steps: which samples each step used, durable in the store.
//!
//! Every member keeps the lines that are not durable yet, so that a leader that is lost takes none with it: the next one
//! writes them. A leader that came later has fewer lines than others: it says which ones it wrote, and whoever has older ones
//! writes those. A line that two nodes write is the same line twice.

use std::collections::VecDeque;
use std::ops::Range;
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

    /// All lines that wait.
    pub fn waiting(&self) -> Vec<Line> {
        self.lines().iter().copied().collect()
    }

    /// Takes in lines of steps that were committed before this node came; those that it has itself stay.
    pub fn learn(&self, others: impl IntoIterator<Item = Line>) {
        let mut lines = self.lines();
        let first = lines.front().map(|line| line.step);
        let older: Vec<Line> = others.into_iter().filter(|line| first.is_none_or(|first| line.step < first)).collect();
        for line in older.into_iter().rev().take(LINES_MAX.saturating_sub(lines.len())) {
            lines.push_front(line);
        }
    }

    /// These steps are durable. Whether there are lines of steps before them.
    pub fn trim(&self, durable: &Range<Step>) -> bool {
        let mut lines = self.lines();
        lines.retain(|line| !durable.contains(&line.step));
        lines.front().is_some_and(|line| line.step < durable.start)
    }

    /// Lines that wait.
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    /// Writes the lines of steps before `end`, all without one, as one object; returns the steps up to the last in it that it has
    /// without a gap.
    ///
    /// # Errors
    /// The store cannot be written: the lines are still kept.
    pub async fn save(&self, store: &Store, nonce: &str, end: Option<Step>) -> Result<Option<Range<Step>>, StoreError> {
        let lines: Vec<Line> = self.lines().iter().filter(|line| end.is_none_or(|end| line.step < end)).copied().collect();
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(None) };
        let key = format!("ledger/{:010}-{:010}-{nonce}.jsonl", first.step.0, last.step.0);
        let text: String = lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect();
        store.put(&key, bytes::Bytes::from(text)).await?;
        self.lines().retain(|line| !lines.contains(line));
        let whole = lines.windows(2).rposition(|pair| pair[0].step.next() != pair[1].step).map_or(first, |gap| &lines[gap + 1]);
        Ok(Some(whole.step..last.step.next()))
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
        assert_eq!(first.save(&store, "a", None).await.unwrap(), Some(Step(0)..Step(4)));
        assert_eq!(first.save(&store, "a", None).await.unwrap(), None);
        // The first leader is lost before it says so.
        second.push(line(4, 2));
        assert_eq!(second.save(&store, "b", None).await.unwrap(), Some(Step(0)..Step(5)));
        assert_eq!(read(&store).await.unwrap(), [line(0, 1), line(1, 1), line(2, 1), line(3, 1), line(4, 2)]);
    }

    #[test]
    fn a_step_that_runs_again_has_one_line() {
        let tail = Tail::default();
        [line(0, 1), line(1, 1), line(1, 2)].into_iter().for_each(|line| tail.push(line));
        assert_eq!(tail.len(), 2);
        assert!(!tail.trim(&(Step(0)..Step(2))) && tail.is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_came_later_makes_nobody_drop_older_lines() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        let (leader, member) = (Tail::default(), Tail::default());
        (0..6).for_each(|step| member.push(line(step, 1)));
        [1, 3, 4, 5].into_iter().for_each(|step| leader.push(line(step, 1)));
        let durable = leader.save(&store, "a", None).await.unwrap().unwrap();
        assert_eq!(durable, Step(3)..Step(6), "step 2 is not in it");
        assert!(member.trim(&durable));
        assert_eq!(member.save(&store, "b", Some(durable.start)).await.unwrap(), Some(Step(0)..Step(3)));
        assert!(member.is_empty());
        let newcomer = Tail::default();
        newcomer.push(line(5, 1));
        newcomer.learn((3..6).map(|step| line(step, 1)));
        assert_eq!(newcomer.waiting(), (3..6).map(|step| line(step, 1)).collect::<Vec<_>>());
        assert_eq!(read(&store).await.unwrap(), (0..6).map(|step| line(step, 1)).collect::<Vec<_>>());
    }
}
