//! The operator desk: remembers what happened, so that questions are answered without asking who computes.
//!
//! Supervised by [`super::node`]; its death costs nothing but answers. It learns everything from
//! the event stream that also feeds progress and the run's log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::phases;
use crate::event::{Event, MemberInfo, Recorded};
use crate::net::mailbox::ActorStats;
use crate::protocol::ids::{Epoch, NodeId, Step};

/// Steps over which images per second are averaged.
const RATE_STEPS: usize = 20;
/// Steps over which phases are averaged.
const PHASE_STEPS: usize = 16;
/// Events that are remembered, commits left out.
const EVENTS_MAX: usize = 512;
/// Bounds of the histogram of steps' seconds.
pub const STEP_BOUNDS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, f64::INFINITY];

/// What a node knows of its run from what happened.
#[derive(Debug, Clone)]
pub struct Story {
    /// Current epoch, 0 before the first.
    pub epoch: Epoch,
    /// When it began.
    pub epoch_since_ms: u64,
    /// Why.
    pub epoch_because: String,
    /// Bytes of shards that moved for it.
    pub moved_bytes: u64,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// Who is in.
    pub members: Vec<MemberInfo>,
    /// Steps committed.
    pub step: Step,
    /// When the last step was committed, or the epoch began.
    pub step_since_ms: u64,
    /// Mean over the last steps.
    pub images_per_s: f64,
    /// Metrics of the last step.
    pub metrics: BTreeMap<String, f64>,
    /// Seconds of a step by phase, means over ranks and the last steps.
    pub phases: BTreeMap<String, f64>,
    /// Samples of the steps that were seen.
    pub samples: u64,
    /// How often a step's seconds were within each of [`STEP_BOUNDS`], each once, and their sum.
    pub step_seconds: ([u64; STEP_BOUNDS.len()], f64),
    /// Steps in the newest checkpoint that was heard of, and what was said of each: bytes, seconds, stall.
    pub checkpoints: BTreeMap<Step, (u64, f64, f64)>,
    /// Why nothing is computed, if so, and since when.
    pub waiting: Option<(String, u64)>,
    /// The last events, commits left out.
    pub events: VecDeque<Recorded>,
}

/// What the desk is told.
#[derive(Debug)]
pub enum DeskMsg {
    /// Something happened on this node, or on a member that told us.
    Happened(Recorded),
    /// This node has led since then, and this is what leaders before it wrote of what happened: it tells that as they did.
    Leads {
        /// The moment, milliseconds since the Unix epoch.
        since_ms: u64,
        /// The newest of it, in order of time.
        written: Vec<Recorded>,
    },
    /// Steps are run from here on.
    Goes,
    /// Somebody asks.
    Ask {
        /// Gets what is known.
        reply: oneshot::Sender<Arc<Story>>,
    },
}

/// The actor; see the module's text.
#[derive(Debug)]
pub struct Desk {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
}

/// The story, and the last steps' figures.
#[derive(Debug)]
pub struct State {
    /// Shared with those who asked: it is copied when something happens while one of them still reads it.
    story: Arc<Story>,
    rates: VecDeque<(u64, f64)>,
    phases: VecDeque<BTreeMap<String, f64>>,
}

impl Actor for Desk {
    type Msg = DeskMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<DeskMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::new(crate::clock::wall_ms()))
    }

    async fn handle(&self, _: ActorRef<DeskMsg>, message: DeskMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            DeskMsg::Happened(recorded) => {
                let _at_work = self.stats.handling("happened");
                state.happened(recorded);
            }
            DeskMsg::Leads { since_ms, written } => {
                let _at_work = self.stats.handling("leads");
                state.leads(since_ms, written);
            }
            DeskMsg::Goes => {
                let _at_work = self.stats.handling("goes");
                Arc::make_mut(&mut state.story).waiting = None;
            }
            DeskMsg::Ask { reply } => {
                let _at_work = self.stats.handling("ask");
                // Whoever asked may have gone; the next one gets a fresh answer.
                let _ = reply.send(state.story.clone());
            }
        }
        Ok(())
    }
}

impl Story {
    /// What events tell, in order of time.
    pub fn of(events: &[Recorded]) -> Self {
        let mut state = State::new(0);
        Arc::make_mut(&mut state.story).waiting = None;
        events.iter().for_each(|recorded| state.happened(recorded.clone()));
        Arc::unwrap_or_clone(state.story)
    }
}

impl State {
    fn new(now_ms: u64) -> Self {
        let story = Story {
            epoch: Epoch(0),
            epoch_since_ms: 0,
            epoch_because: String::new(),
            moved_bytes: 0,
            leader: None,
            members: Vec::new(),
            step: Step(0),
            step_since_ms: 0,
            images_per_s: 0.0,
            metrics: BTreeMap::new(),
            phases: BTreeMap::new(),
            samples: 0,
            step_seconds: ([0; STEP_BOUNDS.len()], 0.0),
            checkpoints: BTreeMap::new(),
            waiting: Some(("starting".to_owned(), now_ms)),
            events: VecDeque::new(),
        };
        Self { story: Arc::new(story), rates: VecDeque::new(), phases: VecDeque::new() }
    }

    fn happened(&mut self, recorded: Recorded) {
        let at_ms = recorded.at_ms;
        let story = Arc::make_mut(&mut self.story);
        if !matches!(recorded.event, Event::StepCommitted { .. }) {
            if story.events.len() == EVENTS_MAX {
                story.events.pop_front();
            }
            story.events.push_back(recorded.clone());
        }
        match recorded.event {
            Event::Waiting { because } => story.waiting = Some((because, at_ms)),
            // Clocks of leaders differ: what an older epoch tells comes too late.
            Event::EpochBegan { epoch, .. } | Event::StepCommitted { epoch, .. } if epoch < story.epoch => {}
            Event::EpochBegan { epoch, step, leader, members, because, moved_bytes, state_from, .. } => {
                if let Some(step) = state_from.strip_prefix("checkpoint ").and_then(|step| step.parse().ok()) {
                    story.checkpoints.entry(Step(step)).or_default();
                }
                (story.epoch, story.epoch_since_ms, story.epoch_because, story.leader) = (epoch, at_ms, because, Some(leader));
                (story.members, story.step, story.step_since_ms, story.moved_bytes) = (members, step, at_ms, moved_bytes);
                story.waiting = Some(("members connect and load their shards".to_owned(), at_ms));
            }
            Event::StepCommitted { step, metrics, seconds, images, samples, phases, .. } => {
                (story.step, story.step_since_ms, story.metrics, story.waiting) = (step.next(), at_ms, metrics, None);
                story.samples += u64::from(samples);
                let bound = STEP_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(STEP_BOUNDS.len() - 1);
                story.step_seconds.0[bound] += 1;
                story.step_seconds.1 += seconds;
                self.timed(images, seconds, phases);
            }
            Event::CheckpointSaved { step, bytes, seconds, stall_ms } => {
                story.checkpoints.insert(step, (bytes, seconds, stall_ms));
                while story.checkpoints.len() > EVENTS_MAX {
                    story.checkpoints.pop_first();
                }
            }
            Event::NodeLost { node, rank, because, .. } => {
                let who = rank.map_or_else(|| node.to_string(), |rank| format!("rank {rank}"));
                story.waiting = Some((format!("{who} was lost: {because}"), at_ms));
            }
            Event::Ended { because, .. } => story.waiting = Some((because, at_ms)),
            Event::CheckpointFailed { .. }
            | Event::Ordered { .. }
            | Event::Evaluated { .. }
            | Event::SampleReplaced { .. }
            | Event::CopiesDiffered { .. }
            | Event::StepAudited { .. }
            | Event::StepSkipped { .. }
            | Event::StandsBy { .. }
            | Event::Hung { .. }
            | Event::NodeOdd { .. } => {}
        }
    }

    /// What all members recorded is told as the log has it: an event that somebody quotes is found there again. What only this node
    /// saw before it led it has told the leader, whose words those are too.
    fn leads(&mut self, since_ms: u64, written: Vec<Recorded>) {
        let story = Arc::make_mut(&mut self.story);
        let own = std::mem::take(&mut story.events).into_iter().filter(|event| event.at_ms >= since_ms);
        let mut events: Vec<Recorded> = written.into_iter().filter(|event| !matches!(event.event, Event::StepCommitted { .. })).collect();
        for event in own {
            if !events.contains(&event) {
                events.push(event);
            }
        }
        events.sort_by_key(|event| event.at_ms);
        events.drain(..events.len().saturating_sub(EVENTS_MAX));
        story.events = events.into();
    }

    fn timed(&mut self, images: u64, seconds: f64, phases: BTreeMap<String, f64>) {
        self.rates.push_back((images, seconds));
        if self.rates.len() > RATE_STEPS {
            self.rates.pop_front();
        }
        let (images, time) = self.rates.iter().fold((0, 0.0), |(images, time), (i, s)| (images + i, time + s));
        let story = Arc::make_mut(&mut self.story);
        story.images_per_s = if time > 0.0 { images as f64 / time } else { 0.0 };
        if phases.is_empty() {
            return;
        }
        self.phases.push_back(phases);
        if self.phases.len() > PHASE_STEPS {
            self.phases.pop_front();
        }
        let count = self.phases.len() as f64;
        let mean = |name: &str| self.phases.iter().filter_map(|step| step.get(name)).sum::<f64>() / count;
        story.phases = phases::NAMES.iter().map(|name| ((*name).to_owned(), mean(name))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ms: u64, event: Event) -> Recorded {
        Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
    }

    fn committed(step: u64, seconds: f64) -> Event {
        let phases = [("compute".to_owned(), seconds)].into();
        let (metrics, samples_hash) = (BTreeMap::new(), 0);
        Event::StepCommitted { step: Step(step), epoch: Epoch(1), metrics, seconds, images: 8, wait: 0.0, samples: 8, samples_hash, phases }
    }

    #[test]
    fn a_story_is_what_happened_and_its_memory_is_bounded() {
        let mut state = State::new(0);
        (0..40).for_each(|step| state.happened(at(step, committed(step, if step < 24 { 1.0 } else { 3.0 }))));
        let story = &state.story;
        assert_eq!((story.step, story.samples, story.waiting.as_ref()), (Step(40), 320, None));
        assert_eq!((story.phases["compute"], story.phases["vote"]), (3.0, 0.0), "means of the last 16 steps");
        assert_eq!(story.step_seconds.0.iter().sum::<u64>(), 40);
        assert!(story.events.is_empty(), "commits are no news");
        for number in 0..EVENTS_MAX as u64 + 3 {
            state.happened(at(number, Event::Waiting { because: "for ranks".into() }));
        }
        assert_eq!((state.story.events.len(), state.story.events[0].at_ms), (EVENTS_MAX, 3), "the oldest went");
        assert_eq!(state.story.waiting, Some(("for ranks".into(), EVENTS_MAX as u64 + 2)));
    }

    #[test]
    fn a_leader_tells_what_was_before_it_as_it_was_written() {
        let by = |n: u8, at_ms: u64| Recorded { recorded_by: NodeId([n; 16]), ..at(at_ms, Event::StandsBy { node: NodeId([9; 16]) }) };
        let mut state = State::new(0);
        [by(2, 101), by(2, 202), by(2, 300), by(3, 301)].into_iter().for_each(|event| state.happened(event));
        let step = Recorded { at_ms: 150, ..at(0, committed(0, 1.0)) };
        state.leads(300, vec![by(1, 100), step, by(1, 200), by(2, 300)]);
        let told: Vec<(u8, u64)> = state.story.events.iter().map(|event| (event.recorded_by.0[0], event.at_ms)).collect();
        assert_eq!(told, [(1, 100), (1, 200), (2, 300), (3, 301)]);
    }
}
