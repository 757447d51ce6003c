//! Views and events made by hand, for the tests of judgements and their commands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{
    ActorView, CheckpointView, ErrorView, Item, LaneView, LinkView, NodeView, Properties, RankView, RunView, SCHEMA_VERSION, Scope,
    ShardView, View,
};
use everstep_actors::event::{Event, MemberInfo, Recorded};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;

/// The moment of every view: 2026-11-24T12:00:00Z.
pub(crate) const NOW: u64 = 1_795_521_600_000;

pub(crate) fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

/// Its reference.
pub(crate) fn node_ref(n: u8) -> String {
    format!("node/{}", node(n))
}

pub(crate) fn at(at_ms: u64, event: Event) -> Recorded {
    Recorded { at_ms, recorded_by: node(1), event }
}

/// The same, told by another node.
pub(crate) fn by(n: u8, recorded: Recorded) -> Recorded {
    Recorded { recorded_by: node(n), ..recorded }
}

pub(crate) fn epoch(at_ms: u64, number: u64, step: u64, ranks: u32, because: &str) -> Recorded {
    let member = |rank: u32| MemberInfo {
        node: node(1 + rank as u8),
        rank,
        host: format!("box{rank}"),
        pid: 100 + rank,
        lanes: (2 * rank, 2 * rank + 2),
    };
    at(
        at_ms,
        Event::EpochBegan {
            epoch: Epoch(number),
            step: Step(step),
            leader: node(1),
            members: (0..ranks).map(member).collect(),
            because: because.into(),
            state_from: "copies".into(),
            moved_bytes: 0,
            state_epoch: Epoch(0),
            copies: Vec::new(),
        },
    )
}

pub(crate) fn committed(at_ms: u64, step: u64, epoch: u64) -> Recorded {
    took(at_ms, step, epoch, 1.0, &[])
}

/// A step with its seconds and phases.
pub(crate) fn took(at_ms: u64, step: u64, epoch: u64, seconds: f64, phases: &[(&str, f64)]) -> Recorded {
    at(
        at_ms,
        Event::StepCommitted {
            step: Step(step),
            epoch: Epoch(epoch),
            metrics: BTreeMap::from([("loss".to_owned(), 4.5)]),
            seconds,
            images: 64,
            wait: 0.25,
            samples: 64,
            samples_hash: 0,
            phases: phases.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect(),
        },
    )
}

pub(crate) fn saved(at_ms: u64, step: u64, stall_ms: f64) -> Recorded {
    at(at_ms, Event::CheckpointSaved { step: Step(step), bytes: 1_000, seconds: 0.5, stall_ms })
}

pub(crate) fn save_failed(at_ms: u64, step: u64, because: &str) -> Recorded {
    at(at_ms, Event::CheckpointFailed { step: Step(step), because: because.into() })
}

pub(crate) fn lost(at_ms: u64, n: u8, because: &str) -> Recorded {
    at(at_ms, Event::NodeLost { node: node(n), rank: Some(u32::from(n) - 1), because: because.into(), fault: None })
}

pub(crate) fn waits(at_ms: u64, because: &str) -> Recorded {
    at(at_ms, Event::Waiting { because: because.into() })
}

pub(crate) fn ordered(at_ms: u64, n: u8, order: &str) -> Recorded {
    let (by, order, answer) = ("admin 0a".into(), order.into(), "it is done".into());
    at(at_ms, Event::Ordered { by, node: node(n), order, answer })
}

pub(crate) fn ended(at_ms: u64, step: u64, outcome: &str) -> Recorded {
    at(at_ms, Event::Ended { step: Step(step), outcome: outcome.into(), because: "all steps are done".into() })
}

pub(crate) fn item(reference: &str, parent: &str, state: &str, properties: Properties) -> Item {
    let (reference, parent, state) = (reference.to_owned(), parent.to_owned(), state.to_owned());
    Item { reference, parent, children: Vec::new(), state, since_ms: NOW - 60_000, as_of_ms: NOW, properties }
}

/// A healthy run of so many ranks, each on its own node, with one actor and one link each.
pub(crate) fn healthy(ranks: u8) -> View {
    let phases = || {
        BTreeMap::from(
            [("data", 0.02), ("compute", 0.5), ("exchange", 0.2), ("update", 0.05), ("vote", 0.01)].map(|(n, s)| (n.to_owned(), s)),
        )
    };
    let run = RunView {
        name: "demo".into(),
        step: 100,
        steps: 1_000,
        epoch: 2,
        epoch_because: "start".into(),
        epoch_since_ms: NOW - 600_000,
        leader: node_ref(1),
        progress_age_ms: 500,
        images_per_s: 80.0,
        metrics: BTreeMap::from([("loss".to_owned(), 4.5)]),
        phases: phases(),
        ranks: u32::from(ranks),
        lanes: 2 * u32::from(ranks),
        checkpoint: Some(95),
        ledger: 98,
        ..RunView::default()
    };
    let mut items = vec![item("run", "", "training", Properties::Run(run))];
    for n in 1..=ranks {
        let rank = u32::from(n) - 1;
        let of_node = NodeView {
            id: format!("{n:02x}").repeat(16),
            host: format!("box{rank}"),
            address: format!("10.0.0.{n}:4433"),
            pid: 100 + rank,
            rank: Some(rank),
            leads: n == 1,
            build: "1".into(),
            started_ms: NOW - 3_600_000,
            heard_age_ms: if n == 1 { 0 } else { 200 },
            certificate_until_ms: Some(NOW + 7 * 86_400_000),
            ..NodeView::default()
        };
        items.push(item(&node_ref(n), "run", "in", Properties::Node(of_node)));
        let of_rank = RankView {
            rank,
            node: node_ref(n),
            step: 100,
            lanes: (2 * rank, 2 * rank + 2),
            phase: "compute".into(),
            phases: phases(),
            pace: 1.0,
            ..RankView::default()
        };
        items.push(item(&format!("rank/{rank}"), "run", "computing", Properties::Rank(of_rank)));
        let of_actor = ActorView {
            name: "rank".into(),
            actor_kind: "rank".into(),
            node: node_ref(n),
            capacity: 64,
            handled: 1_000,
            ..ActorView::default()
        };
        items.push(item(&format!("actor/{}/rank", node(n)), &node_ref(n), "idle", Properties::Actor(of_actor)));
        let of_lane =
            LaneView { lane: 2 * rank, rank: format!("rank/{rank}"), step: 100, doing: "computing".into(), busy_s: 0.5, wait_s: 0.1 };
        items.push(item(&format!("lane/{}", 2 * rank), "run", "computing", Properties::Lane(of_lane)));
        if n > 1 {
            let of_link = LinkView {
                from: node_ref(1),
                to: node_ref(n),
                rtt_ms: 0.4,
                heard_age_ms: 200,
                patience_ms: 3_000,
                sent_bytes: 1_000_000_000,
                lost_packets: 3,
                mtu: 8_952,
                ..LinkView::default()
            };
            items.push(item(&format!("link/{}/{}", node(1), node(n)), &node_ref(1), "up", Properties::Link(of_link)));
        }
    }
    let shard =
        ShardView { unit: "u0".into(), values: 10, bytes: 80, owner: "rank/0".into(), copies: vec!["rank/1".into()], step: 100, lag: 0 };
    items.push(item("shard/u0/0", "run", "held", Properties::Shard(shard)));
    let mut checkpoint =
        item("checkpoint/95", "run", "intact", Properties::Checkpoint(CheckpointView { step: 95, ..CheckpointView::default() }));
    checkpoint.since_ms = NOW - 60_000;
    items.push(checkpoint);
    let matched = items.len() as u64;
    View { schema_version: SCHEMA_VERSION, answered_by: node_ref(1), scope: Scope::Run, as_of_ms: NOW, missing: Vec::new(), matched, items }
}

/// The view after a change to one item.
pub(crate) fn with(mut view: View, reference: &str, change: impl FnOnce(&mut Item)) -> View {
    change(view.items.iter_mut().find(|item| item.reference == reference).expect("the view holds it"));
    view
}

/// Sets a number of a map.
pub(crate) fn set(map: &mut BTreeMap<String, f64>, name: &str, value: f64) {
    map.insert(name.to_owned(), value);
}

/// Changes the properties of an item of one kind.
macro_rules! changes {
    ($($name:ident: $kind:ident($view:ty)),*) => {$(
        pub(crate) fn $name(view: View, reference: &str, state: &str, change: impl FnOnce(&mut $view)) -> View {
            with(view, reference, |item| {
                state.clone_into(&mut item.state);
                let Properties::$kind(properties) = &mut item.properties else { panic!("{reference} is of another kind") };
                change(properties);
            })
        }
    )*};
}
changes!(run: Run(RunView), of_node: Node(NodeView), rank: Rank(RankView), actor: Actor(ActorView), lane: Lane(LaneView), link: Link(LinkView), shard: Shard(ShardView), checkpoint: Checkpoint(CheckpointView));

pub(crate) fn failure(message: &str, root_cause: &str, root: &str) -> ErrorView {
    let (message, root_cause, root) = (message.into(), root_cause.into(), root.into());
    ErrorView { at_ms: NOW - 1_000, message, root_cause, root, is_propagated: true, mended_ms: None }
}

/// An eye that sees one view after another, the last one from then on, and one list of events after another.
pub(crate) struct Fake {
    views: Mutex<VecDeque<Result<View, Failure>>>,
    events: Mutex<VecDeque<Result<Vec<Recorded>, Failure>>>,
}

impl Fake {
    pub(crate) fn new(views: Vec<Result<View, String>>, events: Vec<Result<Vec<Recorded>, String>>) -> Self {
        let unreachable = |because: String| Failure::new(ExitCode::Unreachable, because);
        let views = views.into_iter().map(|view| view.map_err(unreachable)).collect();
        let events = events.into_iter().map(|events| events.map_err(unreachable)).collect();
        Self { views: Mutex::new(views), events: Mutex::new(events) }
    }

    /// Sees nothing, because of this.
    pub(crate) fn blind(failure: &Failure) -> Self {
        Self { views: Mutex::new([Err(failure.clone())].into()), events: Mutex::new([Err(failure.clone())].into()) }
    }

    pub(crate) fn of(view: View) -> Self {
        Self::new(vec![Ok(view)], vec![Ok(Vec::new())])
    }

    pub(crate) fn remembers(events: Vec<Recorded>) -> Self {
        Self::new(vec![Ok(healthy(2))], vec![Ok(events)])
    }

    pub(crate) fn away(because: &str) -> Self {
        Self::new(vec![Err(because.into())], vec![Err(because.into())])
    }
}

fn next<T: Clone>(all: &Mutex<VecDeque<T>>) -> T {
    let mut all = all.lock().expect("no test panics while it holds this");
    let first = all.front().cloned().expect("the fake sees something");
    if all.len() > 1 {
        all.pop_front();
    }
    first
}

#[async_trait]
impl Eye for Fake {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        let view = next(&self.views)?;
        let (items, matched) = select(view.items, question);
        Ok(View { items, matched, ..view })
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        next(&self.events)
    }
}
