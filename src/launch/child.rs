//! A node's process, as its launcher holds it: a pipe in, two pipes out, and its exit.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use everstep_actors::event::Recorded;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

use super::wire::{Briefing, Word};
use crate::cli::{ExitCode, Failure};

/// Words that wait to be written to a process at most: a stop, and one for every other process that dies.
const WORDS_MAX: usize = 64;

/// What comes from a node's process.
#[derive(Debug)]
pub(super) enum FromChild {
    /// Something happened.
    Event(Box<Recorded>),
    /// A line on its standard error.
    Talk {
        /// Which process.
        slot: u32,
        /// The line.
        line: String,
    },
    /// It has ended, and everything that it said has been passed on.
    Exited {
        /// Which process.
        slot: u32,
        /// How.
        status: ExitStatus,
    },
}

/// A node's process.
#[derive(Debug)]
pub(super) struct Child {
    pid: u32,
    /// What [`starved`] said when it was started.
    starved: Option<u64>,
    input: mpsc::Sender<String>,
    kill: Option<oneshot::Sender<()>>,
}

impl Child {
    /// Starts a node of this very program.
    pub(super) fn spawn(slot: u32, briefing: &Briefing, into: mpsc::Sender<FromChild>) -> Result<Self, Failure> {
        let cannot =
            |error: &dyn std::fmt::Display| Failure::new(ExitCode::Internal, format!("rank process {slot} cannot be started: {error}"));
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C reaches the launcher, which then ends its nodes in good order.
        command.arg("node").process_group(0).kill_on_drop(true).env(crate::log::FORMAT_VARIABLE, "json");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let starved = starved();
        let mut process = command.spawn().map_err(|error| cannot(&error))?;
        let pid = process.id().unwrap_or_default();
        let (Some(input), Some(output), Some(errors)) = (process.stdin.take(), process.stdout.take(), process.stderr.take()) else {
            return Err(cannot(&"it has no pipes"));
        };
        let line = serde_json::to_string(briefing).map_err(|error| cannot(&error))?;
        let (kill, killed) = oneshot::channel();
        let events = into.clone();
        let telling = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let message = match serde_json::from_str(&line) {
                    Ok(recorded) => FromChild::Event(Box::new(recorded)),
                    Err(_) => FromChild::Talk { slot, line },
                };
                if events.send(message).await.is_err() {
                    return;
                }
            }
        });
        let talk = into.clone();
        let talking = tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if talk.send(FromChild::Talk { slot, line }).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let status = tokio::select! {
                status = process.wait() => status,
                Ok(()) = killed => {
                    // A process that is gone already needs no signal.
                    let _ = process.start_kill();
                    process.wait().await
                }
            };
            // What it said last is heard before its end.
            let _ = tokio::join!(telling, talking);
            if let Ok(status) = status {
                // A launcher that has ended asks no more.
                let _ = into.send(FromChild::Exited { slot, status }).await;
            }
        });
        let (words, to_say) = mpsc::channel(WORDS_MAX);
        tokio::spawn(say(input, line, to_say));
        Ok(Self { pid, starved, input: words, kill: Some(kill) })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, for a sentence.
    pub(super) fn how(&self, status: ExitStatus) -> String {
        how(status, (self.starved, starved()))
    }

    /// Sends a word. A process that is gone shows by its exit.
    pub(super) async fn tell(&mut self, word: &Word) {
        if let Ok(line) = serde_json::to_string(word) {
            let _ = self.input.send(line).await;
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
    }
}

/// Writes lines to a process until there are no more. Dropping the pipe tells it that its launcher is gone.
async fn say(mut input: ChildStdin, briefing: String, mut words: mpsc::Receiver<String>) {
    let mut line = Some(briefing);
    while let Some(text) = line {
        // A process that no longer reads shows by its exit.
        if input.write_all(format!("{text}\n").as_bytes()).await.is_err() || input.flush().await.is_err() {
            return;
        }
        line = words.recv().await;
    }
}

/// Processes that the kernel of this machine has ended for want of memory since it runs; `None` where it does not count.
fn starved() -> Option<u64> {
    starved_in(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn starved_in(counts: &str) -> Option<u64> {
    counts.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// How a process ended, for a sentence. `starved`: what [`starved`] was when it was started and is now.
fn how(status: ExitStatus, starved: (Option<u64>, Option<u64>)) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => format!("was killed by signal 9 (SIGKILL; {})", why_killed(starved)),
        (Some(signal), _) => format!("was killed by signal {signal}{}", signal_name(signal)),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".into(),
    }
}

fn why_killed(starved: (Option<u64>, Option<u64>)) -> &'static str {
    match starved {
        (Some(before), Some(now)) if now > before => "out of memory: the kernel has ended a process for that since it was started",
        (Some(_), Some(_)) => "not for want of memory",
        _ => "out of memory, perhaps",
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_for_want_of_memory_is_told_from_others() {
        let killed = |starved| how(ExitStatus::from_raw(9), starved);
        assert!(killed((Some(3), Some(4))).contains("out of memory: the kernel"));
        assert!(killed((Some(3), Some(3))).contains("not for want of memory"));
        assert!(killed((None, Some(4))).contains("out of memory, perhaps"));
        assert_eq!(how(ExitStatus::from_raw(11), (Some(3), Some(4))), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(starved_in("nr_free_pages 5\noom_kill 7\n"), Some(7));
        assert_eq!(starved_in("nr_free_pages 5\n"), None);
    }
}
