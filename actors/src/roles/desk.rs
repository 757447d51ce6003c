//! The operator desk: answers people who ask what this node knows. It reads, it never holds a step up.
//!
//! Supervised by [`super::node`]; its death costs nothing but answers. It learns everything from
//! the event stream that also feeds progress and the run's log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::event::{Event, MemberInfo, Recorded};
use crate::net::mailbox::{ActorReport, ActorStats, ActorTable};
use crate::protocol::ids::{Epoch, NodeId, Step};

/// Steps over which images per second are averaged.
const RATE_STEPS: usize = 20;

/// What a node knows of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node that answers.
    pub node: NodeId,
    /// Its clock, milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// Current epoch, 0 before the first.
    pub epoch: Epoch,
    /// When it began.
    pub epoch_since_ms: u64,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// Who is in.
    pub members: Vec<MemberInfo>,
    /// Steps committed.
    pub step: Step,
    /// Steps of the run.
    pub steps: Step,
    /// When the last step was committed.
    pub step_since_ms: u64,
    /// Mean over the last steps.
    pub images_per_s: f64,
    /// Metrics of the last step.
    pub metrics: BTreeMap<String, f64>,
    /// Steps in the newest checkpoint since this node started, and when it was published.
    pub checkpoint: Option<(Step, u64)>,
    /// Why nothing is computed, if so.
    pub waiting: Option<String>,
    /// The actors of this node.
    pub actors: Vec<ActorView>,
}

/// An actor at one moment, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorView {
    /// Its name.
    pub name: String,
    /// Messages that wait.
    pub depth: usize,
    /// The most that ever waited.
    pub high_water: usize,
    /// The most that may wait.
    pub capacity: usize,
    /// Messages handled.
    pub handled: u64,
    /// The handler at work and for how many seconds.
    pub handling: Option<(String, f64)>,
}

impl From<ActorReport> for ActorView {
    fn from(report: ActorReport) -> Self {
        let ActorReport { name, depth, high_water, capacity, handled, handling } = report;
        Self {
            name,
            depth,
            high_water,
            capacity,
            handled,
            handling: handling.map(|(handler, since)| (handler.to_owned(), since.as_secs_f64())),
        }
    }
}

/// What the desk is told.
#[derive(Debug)]
pub enum DeskMsg {
    /// Something happened on this node.
    Happened(Recorded),
    /// Somebody asks.
    Ask {
        /// Gets the view.
        reply: oneshot::Sender<Status>,
    },
}

/// The actor; see the module's text.
#[derive(Debug)]
pub struct Desk {
    /// Its counters in the node's actor table.
    pub stats: Arc<ActorStats>,
    /// All of them.
    pub table: Arc<ActorTable>,
    /// The node.
    pub me: NodeId,
    /// Steps of the run.
    pub steps: Step,
}

/// The view, and the last steps' rates.
#[derive(Debug)]
pub struct State {
    view: Status,
    rates: VecDeque<(u64, f64)>,
}

impl Actor for Desk {
    type Msg = DeskMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<DeskMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let view = Status {
            node: self.me,
            as_of_ms: crate::clock::wall_ms(),
            epoch: Epoch(0),
            epoch_since_ms: 0,
            leader: None,
            members: Vec::new(),
            step: Step(0),
            steps: self.steps,
            step_since_ms: 0,
            images_per_s: 0.0,
            metrics: BTreeMap::new(),
            checkpoint: None,
            waiting: Some("starting".to_owned()),
            actors: Vec::new(),
        };
        Ok(State { view, rates: VecDeque::new() })
    }

    async fn handle(&self, _: ActorRef<DeskMsg>, message: DeskMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            DeskMsg::Happened(recorded) => {
                let _at_work = self.stats.handling("happened");
                happened(state, recorded);
            }
            DeskMsg::Ask { reply } => {
                let _at_work = self.stats.handling("ask");
                let mut view = state.view.clone();
                view.as_of_ms = crate::clock::wall_ms();
                view.actors = self.table.reports().into_iter().map(ActorView::from).collect();
                // Whoever asked may have gone; the next one gets a fresh answer.
                let _ = reply.send(view);
            }
        }
        Ok(())
    }
}

fn happened(state: &mut State, recorded: Recorded) {
    let view = &mut state.view;
    match recorded.event {
        Event::Waiting { because } => view.waiting = Some(because),
        Event::EpochBegan { epoch, step, leader, members, .. } => {
            (view.epoch, view.epoch_since_ms, view.leader) = (epoch, recorded.at_ms, Some(leader));
            (view.members, view.step, view.step_since_ms) = (members, step, recorded.at_ms);
            view.waiting = Some("members connect and load their shards".to_owned());
        }
        Event::StepCommitted { step, metrics, seconds, images, .. } => {
            (view.step, view.step_since_ms, view.metrics, view.waiting) = (step.next(), recorded.at_ms, metrics, None);
            state.rates.push_back((images, seconds));
            if state.rates.len() > RATE_STEPS {
                state.rates.pop_front();
            }
            let (images, seconds) = state.rates.iter().fold((0, 0.0), |(images, time), (i, s)| (images + i, time + s));
            view.images_per_s = if seconds > 0.0 { images as f64 / seconds } else { 0.0 };
        }
        Event::CheckpointSaved { step, .. } => view.checkpoint = Some((step, recorded.at_ms)),
        Event::NodeLost { node, rank, because } => {
            let who = rank.map_or_else(|| node.to_string(), |rank| format!("rank {rank}"));
            view.waiting = Some(format!("{who} was lost: {because}"));
        }
        Event::Ended { because, .. } => view.waiting = Some(because),
        Event::CheckpointFailed { .. }
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
