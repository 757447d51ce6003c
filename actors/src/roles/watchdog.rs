//! The watchdog: a thread that sees what hangs while heartbeats go on.
//!
//! Its own thread, so that a runtime whose threads are all stuck is seen too. It counts its own turns, not the clock: a process
//! that was stopped as a whole has not hung. What it finds it says once; a node that does not end by that is ended for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::time::Instant;

use super::lane::LaneBoard;
use crate::net::mailbox::ActorTable;

/// How patient a watchdog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Between two looks.
    pub turn: Duration,
    /// Handlers do no long work: one that takes this long hangs.
    pub handler: Duration,
    /// A lane hangs when it computes at a stretch for this long and eight times longer than any lane before it.
    pub lane: Duration,
    /// The same before any lane has come back once: kernels are compiled, devices wake up. Also for a batch that does not come.
    pub first: Duration,
    /// A node that was told that it hangs ends within this.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            turn: Duration::from_millis(500),
            handler: Duration::from_secs(10),
            lane: Duration::from_secs(10),
            first: Duration::from_secs(180),
            end: Duration::from_secs(5),
        }
    }
}

/// How many times longer than ever before a lane computes that hangs.
const LANE_TIMES: u32 = 8;

/// What hangs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hung {
    /// An actor in one of its handlers.
    Actor {
        /// Its name.
        name: String,
        /// The handler.
        handler: &'static str,
    },
    /// A lane, in computing.
    Lane(u32),
    /// The loader: a lane's batch does not come.
    Loader(u32),
}

/// Who is told.
pub trait Master: Send + Sync + 'static {
    /// A lane hangs: what is held can still be handed over.
    fn lane_hangs(&self, because: String);
    /// An actor hangs: nothing that needs it can be relied on.
    fn actor_hangs(&self, because: String);
    /// It has not ended in time: end it from outside.
    fn end(&self, because: String);
}

/// A watchdog at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Watching {
    _until: mpsc::Sender<()>,
}

/// Starts a watchdog over a node's actors and lanes.
///
/// # Errors
/// There are no threads to be had.
pub fn watch(table: Arc<ActorTable>, lanes: Arc<LaneBoard>, master: Arc<dyn Master>, patience: Patience) -> std::io::Result<Watching> {
    let (until, over) = mpsc::channel();
    if crate::clock::is_simulated() {
        tokio::spawn(under_a_simulated_clock(over, table, lanes, master, patience));
        return Ok(Watching { _until: until });
    }
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut watchdog = Watchdog { patience, ..Watchdog::default() };
        while over.recv_timeout(patience.turn) == Err(RecvTimeoutError::Timeout) {
            watchdog.look(&table, &lanes, &*master);
        }
    })?;
    Ok(Watching { _until: until })
}

/// The same as a task: a thread would count its turns by another clock than that of those whom it watches.
async fn under_a_simulated_clock(
    over: mpsc::Receiver<()>,
    table: Arc<ActorTable>,
    lanes: Arc<LaneBoard>,
    master: Arc<dyn Master>,
    patience: Patience,
) {
    let mut watchdog = Watchdog { patience, ..Watchdog::default() };
    loop {
        tokio::time::sleep(patience.turn).await;
        if over.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        watchdog.look(&table, &lanes, &*master);
    }
}

/// What was seen at the last look, and for how many looks.
#[derive(Debug, Default)]
struct Watchdog {
    patience: Patience,
    seen: HashMap<(Hung, Instant), u32>,
    told: Option<(String, u32)>,
}

impl Watchdog {
    fn look(&mut self, table: &ActorTable, lanes: &LaneBoard, master: &dyn Master) {
        if let Some((because, looks)) = &mut self.told {
            *looks += 1;
            if *looks == self.patience.turns(self.patience.end) {
                master.end(because.clone());
            }
            return;
        }
        let (stretches, longest) = lanes.stretches();
        let lane_max = longest.map_or(self.patience.first, |longest| (longest * LANE_TIMES).max(self.patience.lane));
        let handlers =
            table.at_work().into_iter().map(|(name, handler, since)| (Hung::Actor { name, handler }, since, self.patience.handler));
        let computing = stretches.into_iter().map(|stretch| match stretch.loading {
            true => (Hung::Loader(stretch.lane), stretch.since, self.patience.first),
            false => (Hung::Lane(stretch.lane), stretch.since, lane_max),
        });
        let mut seen = HashMap::new();
        for (what, since, limit) in handlers.chain(computing) {
            let looks = self.seen.get(&(what.clone(), since)).copied().unwrap_or(0) + 1;
            if looks > self.patience.turns(limit) {
                let because = says(&what, limit);
                match what {
                    Hung::Actor { .. } => master.actor_hangs(because.clone()),
                    Hung::Lane(_) | Hung::Loader(_) => master.lane_hangs(because.clone()),
                }
                self.told = Some((because, 0));
                return;
            }
            seen.insert((what, since), looks);
        }
        self.seen = seen;
    }
}

impl Patience {
    fn turns(&self, time: Duration) -> u32 {
        u32::try_from(time.as_millis() / self.turn.as_millis().max(1)).unwrap_or(u32::MAX)
    }
}

fn says(what: &Hung, limit: Duration) -> String {
    let seconds = limit.as_secs();
    match what {
        Hung::Actor { name, handler } => format!("its actor `{name}` hangs in the handler `{handler}`, for {seconds} s"),
        Hung::Loader(lane) => format!("the batch of lane {lane} has not come for {seconds} s: its loader or its data hang"),
        Hung::Lane(lane) => format!("lane {lane} computes for {seconds} s without an end, much longer than ever before: it hangs"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(&'static str, String)>>);

    impl Heard {
        fn say(&self, what: &'static str, because: String) {
            self.0.lock().unwrap().push((what, because));
        }
        fn all(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().iter().map(|(what, _)| *what).collect()
        }
    }

    impl Master for Heard {
        fn lane_hangs(&self, because: String) {
            self.say("lane", because);
        }
        fn actor_hangs(&self, because: String) {
            self.say("actor", because);
        }
        fn end(&self, because: String) {
            self.say("end", because);
        }
    }

    fn turns(time: Duration) -> u32 {
        Patience::default().turns(time)
    }

    fn looks(watchdog: &mut Watchdog, times: u32, table: &ActorTable, lanes: &LaneBoard, heard: &Heard) {
        (0..times).for_each(|_| watchdog.look(table, lanes, heard));
    }

    #[test]
    fn a_handler_that_hangs_is_named_and_a_busy_actor_is_not() {
        let (table, lanes, heard) = (ActorTable::default(), LaneBoard::default(), Heard::default());
        let mut watchdog = Watchdog::default();
        let rank = table.register("rank", 8);
        for _ in 0..100 {
            // Always at work, never in one handler for long.
            let _at_work = rank.handling("stable");
            looks(&mut watchdog, 2, &table, &lanes, &heard);
        }
        assert!(heard.all().is_empty());
        let _at_work = rank.handling("go");
        looks(&mut watchdog, turns(Patience::default().handler), &table, &lanes, &heard);
        assert!(heard.all().is_empty(), "too soon");
        looks(&mut watchdog, 1, &table, &lanes, &heard);
        assert_eq!(heard.all(), ["actor"]);
        assert!(heard.0.lock().unwrap()[0].1.contains("`rank` hangs in the handler `go`"));
        looks(&mut watchdog, turns(Patience::default().end) + 10, &table, &lanes, &heard);
        assert_eq!(heard.all(), ["actor", "end"], "once each");
    }

    #[test]
    fn a_lane_is_measured_by_the_longest_before_it() {
        let (table, lanes, heard) = (ActorTable::default(), LaneBoard::default(), Heard::default());
        let mut watchdog = Watchdog::default();
        let turn = lanes.begin(false);
        lanes.start(turn, 3);
        looks(&mut watchdog, turns(Patience::default().first), &table, &lanes, &heard);
        assert!(heard.all().is_empty(), "a first step may take long");
        lanes.end(turn, 3);
        let turn = lanes.begin(false);
        lanes.start(turn, 3);
        looks(&mut watchdog, turns(Patience::default().lane) + 1, &table, &lanes, &heard);
        assert_eq!(heard.all(), ["lane"]);
        assert!(heard.0.lock().unwrap()[0].1.contains("lane 3"));
    }
}
