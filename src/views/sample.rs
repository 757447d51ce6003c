//! A run as tests see it: as many nodes as wanted, one of them with a failed actor.

use std::collections::BTreeMap;

use async_trait::async_trait;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{
    ActorView, CheckpointView, ErrorView, EventView, Item, LaneView, LinkView, NodeView, Properties, RankView, Recent, RunView,
    SCHEMA_VERSION, Scope, ShardView, View,
};
use everstep_actors::event::Recorded;

use crate::cli::Failure;
use crate::desk::eye::Eye;

/// 2026-11-28 02:14:03 UTC.
pub(crate) const NOW: u64 = 1_795_832_043_000;

/// The short id of the node of a rank.
pub(crate) fn id(rank: u32) -> String {
    format!("n{:08x}", rank.wrapping_mul(0x9e37_79b1) ^ 0x0a1b_2c3d)
}

/// An item that has been in its state for 75 s.
pub(crate) fn item(reference: impl Into<String>, parent: impl Into<String>, state: &str, properties: Properties) -> Item {
    let (reference, parent) = (reference.into(), parent.into());
    Item { reference, parent, children: Vec::new(), state: state.into(), since_ms: NOW - 75_000, as_of_ms: NOW, properties }
}

/// A run with so many ranks; rank 1's loader has failed where there is a rank 1.
pub(crate) fn view(ranks: u32) -> View {
    let mut items = vec![run(ranks)];
    for rank in 0..ranks {
        items.extend(node(rank, ranks));
    }
    for step in [20, 40] {
        let view = CheckpointView {
            step,
            bytes: 1_250_000_000,
            parts: 8,
            manifest: format!("checkpoints/{step}/manifest.json"),
            seconds: Some(2.5),
            stall_ms: Some(12.0),
        };
        items.push(item(format!("checkpoint/{step}"), "run", "intact", Properties::Checkpoint(view)));
    }
    for number in 0..3 {
        let (parent, severity) = (format!("node/{}", id(0)), if number == 2 { "warning" } else { "info" });
        let view = EventView {
            at_ms: NOW - 60_000 + number,
            recorded_by: parent.clone(),
            event: if number == 2 { "node_lost" } else { "step_committed" }.into(),
            severity: severity.into(),
            text: format!("{} (rank 7) was lost: {}", id(7), "nothing was heard for long ".repeat(number as usize * 3)),
            epoch: Some(3),
            step: Some(number),
            detail: serde_json::Map::new(),
        };
        items.push(item(format!("event/{}/{number}", id(0)), parent, severity, Properties::Event(view)));
    }
    let matched = items.len() as u64;
    View { schema_version: SCHEMA_VERSION, answered_by: id(0), scope: Scope::Run, as_of_ms: NOW, missing: Vec::new(), matched, items }
}

fn run(ranks: u32) -> Item {
    let phases = BTreeMap::from([("compute".to_owned(), 0.8), ("exchange".to_owned(), 0.15), ("data".to_owned(), 0.05)]);
    let view = RunView {
        name: "demo".into(),
        step: 50,
        steps: 400,
        epoch: 3,
        epoch_because: "rank 2 was lost".into(),
        epoch_since_ms: NOW - 120_000,
        leader: format!("node/{}", id(0)),
        progress_age_ms: 1500,
        images_per_s: 431.4,
        metrics: BTreeMap::from([("loss".to_owned(), 4.1), ("entropy".to_owned(), 6.21)]),
        phases,
        ranks,
        lanes: 2 * ranks,
        checkpoint: Some(40),
        ledger: 48,
        ..RunView::default()
    };
    item("run", "", "training", Properties::Run(view))
}

fn node(rank: u32, ranks: u32) -> Vec<Item> {
    let me = id(rank);
    let node = format!("node/{me}");
    let view = NodeView {
        id: format!("{}{}", &me[1..], "0".repeat(24)),
        host: format!("box-{rank}"),
        address: format!("10.0.0.1:{}", 7000 + rank),
        pid: 100 + rank,
        rank: Some(rank),
        leads: rank == 0,
        build: "0.1.0".into(),
        started_ms: NOW - 3_700_000,
        resident_bytes: 1_250_000_000,
        open_files: 31,
        cpu_s: 2700.0,
        heard_age_ms: u64::from(rank),
        ..NodeView::default()
    };
    let mut items = vec![item(&node, "run", "in", Properties::Node(view))];
    let phases = BTreeMap::from([("compute".to_owned(), 0.8), ("exchange".to_owned(), 0.2)]);
    let view = RankView {
        rank,
        node: node.clone(),
        step: 50,
        lanes: (2 * rank, 2 * rank + 2),
        owns: 4,
        owned_bytes: 64_000_000,
        copies_bytes: 64_000_000,
        phase: "compute".into(),
        phases,
        pace: 1.0 + f64::from(rank) / 100.0,
    };
    items.push(item(format!("rank/{rank}"), "run", "computing", Properties::Rank(view)));
    for name in ["rank", "loader", "coordinator", "desk", "store"] {
        items.push(actor(&me, name, rank == 1 && name == "loader"));
    }
    let to = id((rank + 1) % ranks);
    let view = LinkView {
        from: node.clone(),
        to: format!("node/{to}"),
        rtt_ms: 0.4,
        heard_age_ms: 20,
        patience_ms: 2000,
        sent_bytes: 9_000_000,
        ..LinkView::default()
    };
    items.push(item(format!("link/{me}/{to}"), &node, "up", Properties::Link(view)));
    for lane in [2 * rank, 2 * rank + 1] {
        let view = LaneView { lane, rank: format!("rank/{rank}"), step: 50, doing: "computing".into(), busy_s: 0.9, wait_s: 0.1 };
        items.push(item(format!("lane/{lane}"), "run", "computing", Properties::Lane(view)));
    }
    let copies = vec![format!("rank/{}", (rank + 1) % ranks)];
    let view =
        ShardView { unit: "u0".into(), values: 4_000_000, bytes: 32_000_000, owner: format!("rank/{rank}"), copies, step: 50, lag: 0 };
    items.push(item(format!("shard/u0/{rank}"), "run", "held", Properties::Shard(view)));
    items
}

fn actor(node: &str, name: &str, failed: bool) -> Item {
    let error = ErrorView {
        at_ms: NOW - 5000,
        message: "the loader gave up".into(),
        root_cause: "shard-007.tar cannot be read: No space left on device".into(),
        root: format!("actor/{node}/store"),
        mended_ms: None,
        is_propagated: true,
    };
    let busy = name == "rank";
    let view = ActorView {
        name: name.into(),
        actor_kind: name.into(),
        node: format!("node/{node}"),
        depth: if busy { 3 } else { 0 },
        high_water: 12,
        capacity: 64,
        oldest_ms: busy.then_some(40),
        handler: busy.then(|| "step".into()),
        handler_ms: busy.then_some(12_000),
        handled: 4711,
        restarts: u32::from(failed),
        error: failed.then_some(error),
        recent: vec![
            Recent { at_ms: NOW - 6000, what: "took a batch".into() },
            Recent { at_ms: NOW - 5000, what: "asked the store".into() },
        ],
    };
    let state = if failed {
        "failed"
    } else if busy {
        "handling"
    } else {
        "idle"
    };
    item(format!("actor/{node}/{name}"), format!("node/{node}"), state, Properties::Actor(view))
}

/// An eye that sees one view for ever.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) View);

#[async_trait]
impl Eye for Fixed {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        let (items, matched) = select(self.0.items.clone(), question);
        Ok(View { items, matched, ..self.0.clone() })
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        Ok(Vec::new())
    }
}
