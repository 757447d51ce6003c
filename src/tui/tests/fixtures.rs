//! Made-up runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::*;
use everstep_actors::event::{Event, MemberInfo, Recorded};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

use crate::cli::Failure;
use crate::desk::eye::Eye;

/// When everything in here is.
pub(super) const NOW_MS: u64 = 1_796_000_000_000;

/// A run that stands still in time.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) items: Vec<Item>,
    pub(super) events: Vec<Recorded>,
    pub(super) scope: Scope,
}

#[async_trait]
impl Eye for Still {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        Ok(self.answer(question))
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        Ok(self.events.clone())
    }
}

impl Still {
    pub(super) fn of(ranks: u32) -> Self {
        Self { items: items(ranks), events: events(), scope: Scope::Run }
    }

    pub(super) fn answer(&self, question: &Question) -> View {
        let (items, matched) = select(self.items.clone(), question);
        let (answered_by, missing) = ("aa".into(), Vec::new());
        View { schema_version: SCHEMA_VERSION, answered_by, scope: self.scope, as_of_ms: NOW_MS, missing, matched, items }
    }
}

pub(super) fn node(number: u32) -> String {
    format!("node/{number:08x}")
}

fn item(reference: String, parent: &str, state: &str, properties: Properties) -> Item {
    let (parent, state) = (parent.into(), state.into());
    Item { reference, parent, children: Vec::new(), state, since_ms: NOW_MS - 65_000, as_of_ms: NOW_MS, properties }
}

fn phases() -> BTreeMap<String, f64> {
    [("data", 0.05), ("compute", 0.8), ("exchange", 0.1), ("update", 0.03), ("vote", 0.02)].map(|(name, s)| (name.to_owned(), s)).into()
}

pub(super) fn items(ranks: u32) -> Vec<Item> {
    let run = RunView {
        name: "quickstart".into(),
        step: 1200,
        steps: 5000,
        epoch: 3,
        epoch_because: "node 00000002 was lost".into(),
        epoch_since_ms: NOW_MS - 65_000,
        leader: node(0),
        images_per_s: 1234.5,
        metrics: [("loss".to_owned(), 3.2), ("entropy".to_owned(), 6.1)].into(),
        phases: phases(),
        ranks,
        lanes: ranks * 4,
        checkpoint: Some(1100),
        ledger: 1199,
        progress_age_ms: 800,
        ..RunView::default()
    };
    let checkpoint = CheckpointView { step: 1100, bytes: 4_200_000, parts: 4, manifest: "checkpoints/1100".into(), ..Default::default() };
    let mut items = vec![
        item("run".into(), "", "training", Properties::Run(run)),
        item("checkpoint/1100".into(), "run", "intact", Properties::Checkpoint(checkpoint)),
    ];
    for number in 0..ranks {
        let view =
            NodeView { host: format!("host-{number}"), rank: Some(number), leads: number == 0, pid: 4000 + number, ..NodeView::default() };
        let state = if number % 50 == 7 { "draining" } else { "in" };
        items.push(item(node(number), "run", state, Properties::Node(view)));
        let pace = if number % 50 == 3 { 2.4 } else { 1.0 };
        let lanes = (number * 4, number * 4 + 4);
        let view = RankView {
            rank: number,
            node: node(number),
            step: 1200,
            lanes,
            phase: "compute".into(),
            phases: phases(),
            pace,
            ..RankView::default()
        };
        let state = match number % 50 {
            1 => "waiting",
            9 => "silent",
            _ => "computing",
        };
        items.push(item(format!("rank/{number}"), "run", state, Properties::Rank(view)));
        for lane in number * 4..number * 4 + 4 {
            let view = LaneView { lane, rank: format!("rank/{number}"), step: 1200, doing: "computing".into(), busy_s: 0.8, wait_s: 0.1 };
            items.push(item(format!("lane/{lane}"), "run", "computing", Properties::Lane(view)));
        }
        for name in ["loader", "rank", "link"] {
            items.push(item(format!("actor/{number:08x}/{name}"), &node(number), "idle", Properties::Actor(actor(name, number))));
        }
    }
    items
}

fn actor(name: &str, number: u32) -> ActorView {
    let busy = name == "rank";
    ActorView {
        name: name.into(),
        actor_kind: name.into(),
        node: node(number),
        depth: if busy { u64::from(number) } else { 0 },
        high_water: 17,
        capacity: 1024,
        oldest_ms: busy.then_some(1500),
        handler: busy.then(|| "step".into()),
        handler_ms: busy.then_some(2300),
        handled: 99,
        recent: vec![Recent { at_ms: NOW_MS - 1000, what: "began step 1200".into() }],
        ..ActorView::default()
    }
}

/// An actor that failed for a reason that lies elsewhere.
pub(super) fn failed(number: u32) -> Item {
    let error = ErrorView {
        at_ms: NOW_MS - 3000,
        message: "the batch did not come".into(),
        root_cause: "the disk is full".into(),
        root: format!("actor/{number:08x}/writer"),
        mended_ms: None,
        is_propagated: true,
    };
    let view = ActorView { error: Some(error), ..actor("loader", number) };
    item(format!("actor/{number:08x}/loader"), &node(number), "failed", Properties::Actor(view))
}

pub(super) fn run_mut(items: &mut [Item]) -> (&mut String, &mut RunView) {
    let found = items.iter_mut().find_map(|item| match &mut item.properties {
        Properties::Run(run) => Some((&mut item.state, run)),
        _ => None,
    });
    found.unwrap()
}

pub(super) fn at(at_ms: u64, event: Event) -> Recorded {
    Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
}

fn step(number: u64, at_ms: u64) -> Recorded {
    let event = Event::StepCommitted {
        step: Step(number),
        epoch: Epoch(1),
        metrics: [("loss".to_owned(), 6.0 - (number as f64 / 300.0).min(3.0))].into(),
        seconds: 0.5,
        images: 512 + number % 7 * 16,
        wait: 0.1,
        samples: 512,
        samples_hash: 0,
        phases: phases(),
    };
    at(at_ms, event)
}

/// 1,200 steps with a lost node after 600 of them.
pub(super) fn events() -> Vec<Recorded> {
    let began = NOW_MS - 700_000;
    let member = MemberInfo { node: NodeId([1; 16]), rank: 0, host: "host-0".into(), pid: 1, lanes: (0, 4) };
    let epoch = |epoch: u64, step: u64, because: &str| Event::EpochBegan {
        epoch: Epoch(epoch),
        step: Step(step),
        leader: NodeId([1; 16]),
        members: vec![member.clone()],
        because: because.into(),
        state_from: "copies".into(),
        moved_bytes: 0,
        state_epoch: Epoch(0),
        copies: Vec::new(),
    };
    let mut events = vec![at(began, Event::Waiting { because: "for 3 more nodes".into() }), at(began + 5000, epoch(1, 0, "the run began"))];
    events.extend((0..600).map(|number| step(number, began + 6000 + number * 500)));
    let lost = began + 6000 + 300_000;
    let because = "silent for 3 s\x1b[31m".to_owned();
    events.push(at(lost, Event::NodeLost { node: NodeId([2; 16]), rank: Some(2), because, fault: None }));
    events.push(at(lost + 4000, epoch(2, 600, "a node was lost")));
    events.extend((600..1200).map(|number| step(number, lost + 20_000 + (number - 600) * 620)));
    events.push(at(NOW_MS - 10_000, Event::CheckpointFailed { step: Step(1150), because: "the disk is full".into() }));
    events.sort_by_key(|recorded| recorded.at_ms);
    events
}
