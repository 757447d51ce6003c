//! Processes that stand still: stopped for a while, or over and over, so that they get only a share of their time.
//!
//! Whom several faults hold goes on when the last of them is over, and whoever was held always goes on in the end.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use super::launcher::{lives, signal, status};

/// A stop and what it gets to run: short beside a step and a heartbeat, long beside a time slice of the kernel.
const TURN: Duration = Duration::from_millis(60);

/// Processes that stand still, and for how many faults.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<BTreeMap<u32, u32>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops a process.
    pub(super) fn hold(&self, pid: u32) {
        let mut held = self.lock();
        *held.entry(pid).or_default() += 1;
        signal(pid, Signal::STOP);
    }

    /// Has it go on, unless another fault still holds it.
    pub(super) fn release(&self, pid: u32) {
        let mut held = self.lock();
        let left = held.get(&pid).map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            held.insert(pid, left);
        } else {
            held.remove(&pid);
            signal(pid, Signal::CONT);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lock().keys().for_each(|pid| signal(*pid, Signal::CONT));
    }
}

/// Processes that get a share of their time, a thread each, until this ends or is dropped.
#[derive(Debug, Default)]
pub(super) struct Drowsy {
    threads: Vec<(Sender<()>, JoinHandle<u64>)>,
}

impl Drowsy {
    /// They run one part of `factor` of their time.
    pub(super) fn begin(held: &Arc<Held>, pids: &[u32], factor: u32) -> Self {
        let begin = |pid: &u32| {
            let (pid, held) = (*pid, held.clone());
            let (end, over) = channel();
            (end, std::thread::spawn(move || nod(&held, pid, factor.max(1), &over)))
        };
        Self { threads: pids.iter().map(begin).collect() }
    }

    /// They are awake again; how often they were seen asleep.
    pub(super) fn end(&mut self) -> u64 {
        let wake = |(end, thread): (Sender<()>, JoinHandle<u64>)| {
            drop(end);
            thread.join().unwrap_or(0)
        };
        self.threads.drain(..).map(wake).sum()
    }
}

impl Drop for Drowsy {
    fn drop(&mut self) {
        self.end();
    }
}

fn nod(held: &Held, pid: u32, factor: u32, over: &Receiver<()>) -> u64 {
    let awake = TURN / factor;
    let mut seen = 0;
    while lives(pid) {
        held.hold(pid);
        let ends = ended(over, TURN - awake);
        seen += u64::from(status(pid).is_some_and(|(state, _)| state == 'T'));
        held.release(pid);
        if ends || ended(over, awake) {
            break;
        }
    }
    seen
}

/// Waits so long at most; whether the other end is gone.
pub(super) fn ended(over: &Receiver<()>, most: Duration) -> bool {
    over.recv_timeout(most) != Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Instant;

    use super::*;

    /// A process that is busy, and goes with the test.
    struct Busy(Child);

    impl Busy {
        fn new() -> Self {
            Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
        }

        fn stands(&self) -> bool {
            status(self.0.id()).unwrap().0 == 'T'
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Until it is so, a minute at most: a stop is seen a moment after its signal.
    fn comes(so: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while !so() && began.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        so()
    }

    #[test]
    fn who_is_slowed_sleeps_and_wakes_and_is_awake_in_the_end() {
        let held = Arc::new(Held::default());
        let busy = Busy::new();
        let mut drowsy = Drowsy::begin(&held, &[busy.0.id()], 3);
        assert!((0..3).all(|_| comes(|| busy.stands()) && comes(|| !busy.stands())));
        assert!(drowsy.end() > 0 && comes(|| !busy.stands()));
        // Also where nobody ends it.
        let dropped = Drowsy::begin(&held, &[busy.0.id()], 1_000);
        assert!(comes(|| busy.stands()));
        drop(dropped);
        assert!(comes(|| !busy.stands()) && held.lock().is_empty());
    }

    #[test]
    fn whom_two_faults_hold_goes_on_when_both_are_over() {
        let held = Arc::new(Held::default());
        let busy = Busy::new();
        held.hold(busy.0.id());
        let mut drowsy = Drowsy::begin(&held, &[busy.0.id()], 2);
        assert!(comes(|| held.lock().get(&busy.0.id()) == Some(&2)) && comes(|| held.lock().get(&busy.0.id()) == Some(&1)));
        drowsy.end();
        assert!(comes(|| busy.stands()));
        held.release(busy.0.id());
        assert!(comes(|| !busy.stands()));
        held.hold(busy.0.id());
        assert!(comes(|| busy.stands()));
        drop(held);
        assert!(comes(|| !busy.stands()));
    }
}
