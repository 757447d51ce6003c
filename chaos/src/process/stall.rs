//! A disk that stands still: writes to it wait, and go on where they were when it moves again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::drowsy::ended;
use super::launcher::{children, status};
use super::namespace::run;

/// A late disk stands still for so long at a time, and moves for so long between.
const STILL: Duration = Duration::from_secs(2);
const MOVES: Duration = Duration::from_millis(300);
/// How often it is looked who waits.
const LOOK: Duration = Duration::from_millis(50);

/// For how many faults a disk stands still: it moves again when the last of them is over.
#[derive(Debug, Default)]
pub(super) struct Stands(Mutex<u32>);

impl Stands {
    fn freeze(&self, place: &str) -> Result<(), String> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *count == 0 {
            run("fsfreeze", &["--freeze", place])?;
        }
        *count += 1;
        Ok(())
    }

    fn thaw(&self, place: &str) -> Result<(), String> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 { run("fsfreeze", &["--unfreeze", place]).map(drop) } else { Ok(()) }
    }
}

/// A disk that stands still until this ends or is dropped, and no longer than was said.
#[derive(Debug)]
pub(super) struct Stall(Option<(Sender<()>, Holder)>);

/// Comes back with how many threads were seen to wait.
type Holder = JoinHandle<Result<u64, String>>;

impl Stall {
    /// The disk at a place stands still for `most`; if it is only to be late, with pauses.
    pub(super) fn begin(place: &Path, stands: &Arc<Stands>, most: Duration, late: bool) -> Self {
        let (end, over) = channel();
        let (place, stands) = (place.display().to_string(), stands.clone());
        Self(Some((end, std::thread::spawn(move || stall(&place, &stands, most, late, &over)))))
    }

    /// The disk moves again; how many threads were seen waiting for it, each once a standstill.
    ///
    /// # Errors
    /// It could not be stopped, or does not move.
    pub(super) fn end(&mut self) -> Result<u64, String> {
        let Some((end, thread)) = self.0.take() else { return Ok(0) };
        drop(end);
        thread.join().unwrap_or_else(|_| Err("who held the disk has failed".into()))
    }

    /// Whether it has come to its end by itself.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|(_, thread)| thread.is_finished())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn stall(place: &str, stands: &Stands, most: Duration, late: bool, over: &Receiver<()>) -> Result<u64, String> {
    let began = Instant::now();
    let mut waited = 0;
    loop {
        let left = most.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(waited);
        }
        let until = Instant::now() + if late { left.min(STILL) } else { left };
        stands.freeze(place)?;
        let mut waiting = BTreeSet::new();
        let mut ends = false;
        while !ends && Instant::now() < until {
            ends = ended(over, LOOK.min(until.saturating_duration_since(Instant::now())));
            waiting.extend(blocked());
        }
        stands.thaw(place)?;
        waited += waiting.len() as u64;
        if ends || ended(over, MOVES.min(most.saturating_sub(began.elapsed()))) {
            return Ok(waited);
        }
    }
}

/// Threads of the processes below this one that wait for a file system that stands still.
fn blocked() -> Vec<(u32, u32)> {
    let launchers = children(std::process::id());
    let pids = launchers.iter().flat_map(|launcher| children(*launcher).into_iter().chain([*launcher])).collect::<BTreeSet<u32>>();
    pids.into_iter().flat_map(threads).filter(|thread| waits(*thread)).collect()
}

fn waits((pid, thread): (u32, u32)) -> bool {
    let place = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/wchan")).unwrap_or_default();
    status(thread).is_some_and(|(state, _)| state == 'D') && place.contains("percpu_rwsem")
}

/// The threads of a process.
pub(super) fn threads(pid: u32) -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    entries.filter_map(|entry| Some((pid, entry.ok()?.file_name().to_str()?.parse().ok()?))).collect()
}
