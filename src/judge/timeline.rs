//! A run's time cut at its commits: what each gap between two commits was spent on, and which incident lies in it.
//!
//! The time of a step is the end of its gap. Its length is what the step's event says; where an incident, a change of members or a
//! start lies in the gap, the event's seconds hold all of that too, and the phases (or the pace of the steps before) tell how long
//! the step itself took.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use everstep_actors::event::Event;
use everstep_actors::protocol::ids::NodeId;

use super::incidents::{Incident, Log};
use super::story::{Story, Told};

/// Steps whose median is the pace.
const PACE_STEPS: usize = 16;

/// The whole run.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// In order, without holes.
    pub(super) gaps: Vec<Gap>,
    /// In order.
    pub(super) incidents: Vec<Incident>,
}

/// From one commit (or beginning, or end) to the next.
#[derive(Debug, Default, Clone)]
pub(super) struct Gap {
    /// In order, without holes.
    pub(super) slices: Vec<Slice>,
    /// What ended it, if a step did.
    pub(super) commit: Option<Commit>,
    /// Milliseconds at its end that were the step's own.
    pub(super) own_ms: u64,
    /// The incident that lies in it, by index.
    pub(super) incident: Option<usize>,
    /// Whether the step was committed anew later.
    pub(super) redone: bool,
    /// Whether the run ended in good order at its end.
    pub(super) ends: bool,
    epochs: u32,
}

/// A while in which nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) ranks: u32,
    pub(super) mode: Mode,
}

/// What the run was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// Nothing is committed yet since it was started.
    #[default]
    Starting,
    /// Steps are being committed.
    Running,
    /// Every process has ended.
    Nothing,
}

/// A committed step.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) step: u64,
    pub(super) phases: BTreeMap<String, f64>,
    pub(super) wait: f64,
}

impl Slice {
    pub(super) fn ms(&self) -> u64 {
        self.to_ms - self.from_ms
    }
}

impl Gap {
    /// Its milliseconds in which something ran.
    fn up_ms(&self) -> u64 {
        self.slices.iter().filter(|slice| slice.mode != Mode::Nothing).map(Slice::ms).sum()
    }

    /// Milliseconds of steps that were neither the next step's own nor a start's nor an end's.
    pub(super) fn stalled_ms(&self) -> u64 {
        if self.ends {
            return 0;
        }
        let running: u64 = self.slices.iter().filter(|slice| slice.mode == Mode::Running).map(Slice::ms).sum();
        let starting = self.up_ms() - running;
        running - self.own_ms.saturating_sub(starting).min(running)
    }
}

impl Timeline {
    pub(super) fn of(story: &Story) -> Self {
        let Some((first_ms, _)) = story.known_ms() else { return Self::default() };
        let ranks = story.events().find_map(|told| match told.event() {
            Event::EpochBegan { members, .. } => u32::try_from(members.len()).ok(),
            _ => None,
        });
        let mut walk = Walk { cursor_ms: first_ms, ranks: ranks.unwrap_or(1).max(1), ..Walk::default() };
        story.events().for_each(|told| walk.on(told));
        walk.finish()
    }
}

#[derive(Debug, Default)]
struct Walk {
    gaps: Vec<Gap>,
    gap: Gap,
    log: Log,
    cursor_ms: u64,
    ranks: u32,
    mode: Mode,
    alive: BTreeSet<NodeId>,
    pace: VecDeque<u64>,
    committed: BTreeMap<u64, usize>,
}

impl Walk {
    fn on(&mut self, told: &Told) {
        self.pass_to(told.at_ms());
        match told.event() {
            Event::EpochBegan { members, .. } => {
                if self.mode == Mode::Nothing {
                    self.mode = Mode::Starting;
                }
                self.ranks = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
                self.alive = members.iter().map(|member| member.node).collect();
                self.gap.epochs += 1;
            }
            Event::Waiting { .. } if self.mode == Mode::Nothing => self.mode = Mode::Starting,
            Event::NodeLost { node, .. } => drop(self.alive.remove(node)),
            Event::Ended { outcome, .. } if outcome == "done" || outcome == "stopped" => {
                self.log.on(told, true);
                return self.end(true);
            }
            Event::Ended { .. } => {
                self.alive.retain(|node| told.tellers.iter().all(|(teller, _)| teller != node));
                if self.alive.is_empty() && self.mode != Mode::Nothing {
                    self.log.on(told, self.mode == Mode::Starting);
                    self.gap.incident = self.gap.incident.or_else(|| self.log.open());
                    return self.end(false);
                }
            }
            _ => {}
        }
        if let Event::StepCommitted { step, epoch, seconds, phases, wait, .. } = told.event() {
            let commit = Commit { step: step.0, phases: phases.clone(), wait: *wait };
            self.commit(told.at_ms(), commit, epoch.0, *seconds);
            return;
        }
        if self.is_of_others(told) {
            return;
        }
        self.log.on(told, self.mode != Mode::Running);
        self.gap.incident = self.gap.incident.or_else(|| self.log.open());
    }

    /// A node that is not in waits until it is let in: the run does not wait for that.
    fn is_of_others(&self, told: &Told) -> bool {
        let waits = matches!(told.event(), Event::Waiting { .. }) && self.mode == Mode::Running;
        waits && !self.alive.is_empty() && told.tellers.iter().all(|(teller, _)| !self.alive.contains(teller))
    }

    fn pass_to(&mut self, at_ms: u64) {
        if at_ms <= self.cursor_ms {
            return;
        }
        let slice = Slice { from_ms: self.cursor_ms, to_ms: at_ms, ranks: self.ranks, mode: self.mode };
        self.cursor_ms = at_ms;
        match self.gap.slices.last_mut() {
            Some(last) if (last.ranks, last.mode) == (slice.ranks, slice.mode) => last.to_ms = at_ms,
            _ => self.gap.slices.push(slice),
        }
    }

    fn commit(&mut self, at_ms: u64, commit: Commit, epoch: u64, seconds: f64) {
        if let Some(earlier) = self.committed.insert(commit.step, self.gaps.len()) {
            self.gaps[earlier].redone = true;
            self.log.redone(epoch);
        }
        self.gap.incident = self.gap.incident.or_else(|| self.log.open());
        self.log.committed(at_ms);
        let up = self.gap.up_ms();
        let stopped = self.gap.incident.is_some_and(|index| self.log.stops(index));
        let starting = self.gap.slices.iter().any(|slice| slice.mode != Mode::Running);
        let by_phases = millis(commit.phases.values().filter(|s| s.is_finite() && **s > 0.0).sum());
        let own = if stopped || starting || self.gap.epochs > 0 {
            let own = if by_phases > 0 { by_phases } else { self.median().unwrap_or_else(|| millis(seconds)) };
            own.min(up)
        } else {
            let own = millis(seconds).min(up);
            // Clocks and threads are not exact: what is small beside the step belongs to it.
            let own = if up - own <= own / 2 || up - own <= 50 { up } else { own };
            if self.pace.len() == PACE_STEPS {
                self.pace.pop_front();
            }
            self.pace.push_back(own);
            own
        };
        self.gap.own_ms = own;
        self.gap.commit = Some(commit);
        self.mode = Mode::Running;
        self.close();
    }

    fn median(&self) -> Option<u64> {
        let mut pace: Vec<u64> = self.pace.iter().copied().collect();
        pace.sort_unstable();
        pace.get(pace.len() / 2).copied()
    }

    fn end(&mut self, in_good_order: bool) {
        if self.mode != Mode::Nothing {
            self.gap.ends = in_good_order;
            self.close();
        }
        self.mode = Mode::Nothing;
    }

    fn close(&mut self) {
        self.gaps.push(std::mem::take(&mut self.gap));
        // An incident that is still open lies in the next gap as well.
        self.gap.incident = self.log.open();
    }

    fn finish(mut self) -> Timeline {
        self.gap.incident = self.gap.incident.or_else(|| self.log.at_the_end());
        if !self.gap.slices.is_empty() {
            self.gaps.push(self.gap);
        }
        let mut incidents = self.log.incidents();
        for gap in &self.gaps {
            if let Some(incident) = gap.incident.and_then(|index| incidents.get_mut(index)) {
                incident.stalled_s += gap.stalled_ms() as f64 / 1e3;
            }
        }
        Timeline { gaps: self.gaps, incidents }
    }
}

fn millis(seconds: f64) -> u64 {
    if seconds.is_finite() && seconds > 0.0 { (seconds * 1e3).round() as u64 } else { 0 }
}
