//! A launcher of the program under test, what it says, and the processes below it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use everstep_actors::event::Recorded;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::Told;

/// Lines of talk that are kept.
const TALK: usize = 40;

/// A launcher that runs.
#[derive(Debug)]
pub(super) struct Launcher {
    child: Child,
    /// Places of its processes: the first is its slot 0.
    pub(super) slots: Vec<u32>,
    /// Its machine.
    pub(super) host: u32,
    talk: Arc<Mutex<VecDeque<String>>>,
}

impl Launcher {
    /// Starts one, and passes on what it tells.
    pub(super) fn start(mut command: Command, host: u32, slots: Vec<u32>, telling: mpsc::Sender<Told>) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("`{command:?}` cannot be started: {error}"))?;
        let talk = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                let events = lines.filter_map(|line| serde_json::from_str::<Recorded>(&line).ok());
                // A driver that has ended hears nothing more.
                events.into_iter().try_for_each(|recorded| telling.send(Told::Event(Box::new(recorded))))
            });
        }
        if let Some(errors) = child.stderr.take() {
            let kept = talk.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == TALK {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            });
        }
        Ok(Self { child, slots, host, talk })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it said last.
    pub(super) fn talk(&self) -> String {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Ends it and everything below it at once.
    pub(super) fn kill(&mut self) {
        let below = children(self.pid());
        let _ = self.child.kill();
        below.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        let _ = self.child.wait();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// Sends a signal to a process; one that is gone needs none.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// State and parent of a process, while it is there.
pub(super) fn status(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process runs, stopped or not.
pub(super) fn lives(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// The processes that a process has started.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| status(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// Resident memory in kB, and open files.
pub(super) fn sizes(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some((memory, files))
}
