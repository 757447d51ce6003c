//! A lane that hangs: one of a process's threads that compute is held by the tracer of the kernel, and the rest of it goes on.
//!
//! A thread of this process traces, because the kernel knows a tracer by its thread. What it holds goes on when it ends.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::drowsy::ended;
use super::launcher::lives;
use super::stall::threads;

/// How threads that compute lanes are called.
const LANE: &str = "lane-";
/// How often it looks for one that computes, and how often after those that it holds.
const LOOK: Duration = Duration::from_millis(5);
/// Within this a lane that nothing holds up begins its next step. Later it may also begin one because its members have met again.
const NEXT_STEP: Duration = Duration::from_secs(5);
/// How long one that was to be held while it computes is held at most: longer than a watchdog waits for a lane. A rank that does not
/// miss it counts it as waiting, because it was stopped on its way into a call or out of one: another is taken.
const MISSED_BY: Duration = Duration::from_secs(14);

/// Processes of which a lane is held, until this ends or is dropped.
#[derive(Debug)]
pub(super) struct Wedge(Option<(Sender<()>, JoinHandle<u64>)>);

impl Wedge {
    /// One thread of a lane in each of them stands still as soon as one is found that computes; or, if asked for, one that waits.
    pub(super) fn begin(pids: &[u32], waiting: bool) -> Self {
        let (end, over) = channel();
        let pids = pids.to_vec();
        Self(Some((end, std::thread::spawn(move || hold(&pids, waiting, &over)))))
    }

    /// They go on; how many threads stood still.
    pub(super) fn end(&mut self) -> u64 {
        self.0.take().map_or(0, |(end, thread)| {
            drop(end);
            thread.join().unwrap_or(0)
        })
    }
}

impl Drop for Wedge {
    fn drop(&mut self) {
        self.end();
    }
}

fn hold(pids: &[u32], waiting: bool, over: &Receiver<()>) -> u64 {
    // The thread that is held of each process, and since when it has been seen to stand still.
    let mut held: BTreeMap<u32, (Pid, Option<Instant>)> = BTreeMap::new();
    let mut stood = 0;
    while !ended(over, LOOK) && pids.iter().any(|pid| lives(*pid)) {
        for pid in pids {
            if !held.contains_key(pid)
                && let Some(thread) = lane(*pid)
            {
                held.insert(*pid, (thread, None));
            }
        }
        held.retain(|pid, (thread, since)| match waitpid(*thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                let in_vain = since.is_some_and(|since| since.elapsed() < NEXT_STEP) && begins_again(*pid, *thread);
                stood -= u64::from(in_vain);
                let holds = !in_vain && (waiting || since.is_none_or(|since| since.elapsed() < MISSED_BY));
                if !holds {
                    let _ = ptrace::detach(*thread, None);
                }
                holds
            }
            Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) if since.is_some() || stands(*pid, *thread, waiting) => {
                stood += u64::from(since.is_none());
                since.get_or_insert_with(Instant::now);
                true
            }
            // It was at something else: the next look may find one that is not.
            Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) => {
                let _ = ptrace::detach(*thread, None);
                false
            }
            // It came to its end before it could be held, or with its process.
            _ => false,
        });
    }
    for (thread, _) in held.values() {
        // One that does not stand yet goes on when this thread ends.
        let _ = ptrace::detach(*thread, None);
    }
    stood
}

/// Whether a thread that stands still was stopped as it should be: in a call of the kernel, or in the middle of its own work. Within the C
/// library it may hold the allocator's lock, and the whole process would stand still with it.
fn stands(pid: u32, thread: Pid, waiting: bool) -> bool {
    let Ok(call) = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")) else { return false };
    // Outside of a call: -1, where its stack is, where its code is.
    match call.strip_prefix("-1 ").and_then(|places| places.split_whitespace().nth(1)) {
        Some(code) => !waiting && !is_of_the_c_library(pid, code),
        None => waiting && !call.starts_with("-1"),
    }
}

/// Whether the code at an address of a process is the C library's.
fn is_of_the_c_library(pid: u32, address: &str) -> bool {
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (Some(address), Ok(maps)) = (number(address), std::fs::read_to_string(format!("/proc/{pid}/maps"))) else { return true };
    let line = maps.lines().find(|line| {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        range.is_some_and(|(from, to)| number(from).is_some_and(|from| from <= address) && number(to).is_some_and(|to| address < to))
    });
    line.is_none_or(|line| line.rsplit('/').next().is_some_and(|name| name.starts_with("libc.") || name.starts_with("libc-")))
}

/// Holds a thread of a process that computes a lane.
fn lane(pid: u32) -> Option<Pid> {
    lanes(pid).into_iter().find_map(|(thread, _)| {
        let holds = ptrace::seize(thread, Options::empty()).and_then(|()| ptrace::interrupt(thread)).is_ok();
        holds.then_some(thread)
    })
}

/// Whether the lane of a thread has another thread by now, as each step of a lane has: this one had handed over what it computed, and holds nothing up.
fn begins_again(pid: u32, thread: Pid) -> bool {
    let lanes = lanes(pid);
    let name = lanes.iter().find(|(of, _)| *of == thread).map(|(_, name)| name);
    lanes.iter().any(|(of, other)| *of != thread && Some(other) == name)
}

/// The threads of a process that compute lanes, with their names.
fn lanes(pid: u32) -> Vec<(Pid, String)> {
    let named = threads(pid).into_iter().filter_map(|(_, thread)| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).ok()?;
        Some((Pid::from_raw(i32::try_from(thread).ok()?), name))
    });
    named.filter(|(_, name)| name.starts_with(LANE)).collect()
}
