//! A run that is not there: an eye that sees as many ranks as a test asks for, and counts how often it looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{
    ActorView, CheckpointView, ErrorView, Item, LinkView, NodeView, Properties, RankView, Recent, RunView, SCHEMA_VERSION, Scope, View,
};
use everstep_actors::event::{Event, MemberInfo, Recorded};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;

/// The last step of the run.
pub(crate) const STEP: u64 = 412;

/// A sentence that would be markup, if text became markup.
pub(crate) const HOSTILE: &str = "<img src=x onerror=\"console.error('markup')\"> & <script>console.error(1)</script>";

/// Sees a run of `ranks` ranks.
#[derive(Debug)]
pub(crate) struct FakeEye {
    pub(crate) ranks: u32,
    pub(crate) now_ms: u64,
    pub(crate) looks: AtomicU64,
    pub(crate) fails: bool,
    /// Nobody answers: the store tells what it remembers.
    pub(crate) store: bool,
}

impl FakeEye {
    pub(crate) fn new(ranks: u32, now_ms: u64) -> Self {
        Self { ranks, now_ms, looks: AtomicU64::new(0), fails: false, store: false }
    }

    fn item(&self, reference: String, parent: &str, state: &str, ago_ms: u64, properties: Properties) -> Item {
        let since_ms = self.now_ms - ago_ms;
        Item { reference, parent: parent.into(), children: Vec::new(), state: state.into(), since_ms, as_of_ms: self.now_ms, properties }
    }

    /// All items.
    pub(crate) fn items(&self) -> Vec<Item> {
        let mut items = vec![self.run()];
        for rank in 0..self.ranks {
            items.extend(self.member(rank));
        }
        let waits = NodeView { id: hex(self.ranks), host: HOSTILE.into(), ..NodeView::default() };
        items.push(self.item(format!("node/{}", node(self.ranks)), "run", "standing by", 60_000, Properties::Node(waits)));
        for (step, state) in [(200, "intact"), (300, "damaged"), (400, "intact")] {
            let view =
                CheckpointView { step, bytes: 812_345_678, parts: 9, seconds: Some(3.2), stall_ms: Some(41.0), ..Default::default() };
            let ago = (STEP - step) * 1500;
            items.push(self.item(format!("checkpoint/{step}"), "run", state, ago, Properties::Checkpoint(view)));
        }
        items
    }

    fn run(&self) -> Item {
        let phases = [("data", 0.05), ("compute", 0.98), ("exchange", 0.24), ("update", 0.08), ("vote", 0.02)];
        let step_seconds = [("0.1", 0.0), ("1", 20.0), ("2.5", 401.0), ("+Inf", 412.0), ("sum", 620.5)];
        let run = RunView {
            name: "cifar-desk".into(),
            step: STEP,
            steps: 1000,
            epoch: 3,
            epoch_because: format!("{} was lost", node(2)),
            epoch_since_ms: self.now_ms - 90_000,
            leader: format!("node/{}", node(0)),
            progress_age_ms: 740,
            images_per_s: 1371.4,
            metrics: numbers(&[("loss", 4.8312), ("entropy", 5.921), ("lr", 0.012)]),
            phases: numbers(&phases),
            ranks: self.ranks,
            lanes: self.ranks * 2,
            checkpoint: Some(400),
            ledger: STEP - 2,
            samples: STEP * 2048,
            step_seconds: numbers(&step_seconds),
            waiting: self.store.then(|| "2 of the 4 members that are needed are there; start 2 more nodes".into()),
            ..RunView::default()
        };
        self.item("run".into(), "", if self.store { "silent" } else { "training" }, 90_000, Properties::Run(run))
    }

    fn member(&self, rank: u32) -> Vec<Item> {
        let name = node(rank);
        let parent = format!("node/{name}");
        let (silent, slow) = (rank % 97 == 3, rank % 41 == 2);
        let view = NodeView {
            id: hex(rank),
            host: format!("gpu-{:03}.cluster.example", rank / 4),
            zone: ["a", "b", "c"][rank as usize % 3].into(),
            address: format!("10.0.{}.{}:4433", rank / 250, rank % 250 + 1),
            pid: 4000 + rank,
            rank: Some(rank),
            leads: rank == 0,
            build: "0.1.0".into(),
            started_ms: self.now_ms - 700_000,
            resident_bytes: 2_345_678_901,
            open_files: 61 + rank % 7,
            cpu_s: 1234.5,
            heard_age_ms: if silent { 9000 } else { 120 },
            ..NodeView::default()
        };
        let mut items = vec![self.item(parent.clone(), "run", if silent { "silent" } else { "in" }, 700_000, Properties::Node(view))];
        let phase = ["compute", "compute", "exchange", "data"][rank as usize % 4];
        let view = RankView {
            rank,
            node: parent.clone(),
            step: STEP,
            lanes: (rank * 2, rank * 2 + 2),
            owns: 7,
            owned_bytes: 91_000_000,
            copies_bytes: 91_000_000,
            phase: phase.into(),
            phases: numbers(&[("compute", if slow { 2.4 } else { 0.97 }), ("exchange", 0.24)]),
            pace: if slow { 2.4 } else { 1.0 },
        };
        let state = if silent {
            "silent"
        } else if rank % 23 == 1 {
            "waiting"
        } else {
            "computing"
        };
        items.push(self.item(format!("rank/{rank}"), "run", state, 4200, Properties::Rank(view)));
        for (at, kind) in ["coordinator", "rank", "loader", "link", "store", "desk"].into_iter().enumerate() {
            let failed = kind == "loader" && rank % 50 == 1;
            let view = ActorView {
                name: format!("{kind}-{rank}"),
                actor_kind: kind.into(),
                node: parent.clone(),
                depth: if failed { 61 } else { u64::from(rank) % 5 * at as u64 % 7 },
                high_water: 64,
                capacity: 64,
                oldest_ms: failed.then_some(8200),
                handler: (kind == "rank").then(|| "exchange".to_owned()),
                handler_ms: (kind == "rank").then_some(212),
                handled: 18_234 + u64::from(rank),
                restarts: u32::from(failed),
                error: failed.then(|| ErrorView {
                    at_ms: self.now_ms - 12_000,
                    message: format!("shard 17 cannot be read {HOSTILE}"),
                    root_cause: "the file ended after 4096 of 9218 bytes".into(),
                    root: format!("actor/{name}/store-{rank}"),
                    mended_ms: None,
                    is_propagated: true,
                }),
                recent: vec![Recent { at_ms: self.now_ms - 900, what: "took a message `Batch`".into() }],
            };
            let state = if failed {
                "failed"
            } else if kind == "rank" {
                "handling"
            } else {
                "idle"
            };
            items.push(self.item(format!("actor/{name}/{kind}-{rank}"), &parent, state, 3000, Properties::Actor(view)));
        }
        let to = format!("node/{}", node((rank + 1) % self.ranks));
        let link = LinkView {
            from: parent.clone(),
            to: to.clone(),
            rtt_ms: 1.25,
            sent_bytes: 1000,
            received_bytes: 900,
            lost_packets: 3,
            mtu: 8_952,
            ..LinkView::default()
        };
        items.push(self.item(format!("link/{name}/{}", &to[5..]), &parent, "up", 0, Properties::Link(link)));
        items
    }

    /// What happened: three epochs, two incidents, a step every second and a half.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        let at = |step: u64| self.now_ms - (STEP - step.min(STEP)) * 1500 - 700;
        let by = NodeId(id(0));
        let began = |epoch: u64, step: u64, ranks: u32, because: &str| Event::EpochBegan {
            epoch: Epoch(epoch),
            step: Step(step),
            leader: by,
            members: (0..ranks).map(member).collect(),
            because: because.into(),
            state_from: if epoch == 1 { "seed".into() } else { "copies".into() },
            moved_bytes: 182_000_000,
            state_epoch: Epoch(epoch - 1),
            copies: Vec::new(),
        };
        let (mut events, all) = (Vec::new(), self.ranks);
        let mut add = |at_ms: u64, event: Event| events.push(Recorded { at_ms, recorded_by: by, event });
        add(at(0) - 9000, Event::Waiting { because: "1 of the needed members is there".into() });
        add(at(0) - 4000, began(1, 0, all.saturating_sub(1).max(1), "enough members are there"));
        let mut seed = 7u64;
        for step in 1..=STEP {
            if step == 120 {
                add(at(119) + 400, began(2, step, all, "a node joined"));
            }
            if step == 260 {
                let because = format!("no answer for 4 s {HOSTILE}");
                add(at(236), Event::NodeLost { node: NodeId(id(2)), rank: Some(2), because, fault: None });
                add(at(244), Event::Waiting { because: "the state is moved to those that are there".into() });
                add(at(258), began(3, step, all.saturating_sub(1).max(1), "a node was lost"));
            }
            if (236..260).contains(&step) {
                continue;
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let noise = (seed >> 40) as f64 / f64::from(1 << 24) - 0.5;
            let loss = 3.1 + 5.2 * (-(step as f64) / 180.0).exp() + 0.25 * noise;
            let seconds = 1.5 + 0.2 * noise + if step == 260 { 36.0 } else { 0.0 };
            let metrics = numbers(&[("loss", loss), ("entropy", 5.9), ("lr", 0.012)]);
            let phases = numbers(&[("data", 0.05), ("compute", 0.98), ("exchange", 0.24), ("update", 0.08), ("vote", 0.02)]);
            let (epoch, samples) = (Epoch(1 + u64::from(step >= 120) + u64::from(step >= 260)), 2048);
            let committed = Event::StepCommitted {
                step: Step(step),
                epoch,
                metrics,
                seconds,
                images: 2048,
                wait: 0.1,
                samples,
                samples_hash: seed,
                phases,
            };
            add(at(step), committed);
            if step % 100 == 0 {
                add(at(step) + 100, Event::CheckpointSaved { step: Step(step), bytes: 812_345_678, seconds: 3.2, stall_ms: 41.0 });
                let scores = numbers(&[("knn", 21.0 + 4.0 * (step as f64 / 100.0).sqrt() * 3.0)]);
                add(at(step) + 200, Event::Evaluated { step: Step(step), scores });
            }
            if step == 301 {
                add(at(step), Event::CheckpointFailed { step: Step(300), because: "no space is left on the device".into() });
                add(at(step), Event::StepSkipped { step: Step(301), because: "a gradient was not finite".into() });
            }
        }
        events
    }
}

#[async_trait]
impl Eye for FakeEye {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        self.looks.fetch_add(1, Relaxed);
        if self.fails {
            return Err(unreachable("no member answers, and the store cannot be read"));
        }
        let (items, matched) = select(self.items(), question);
        let (answered_by, scope) = if self.store { (String::new(), Scope::Store) } else { (format!("node/{}", node(0)), Scope::Run) };
        Ok(View { schema_version: SCHEMA_VERSION, answered_by, scope, as_of_ms: self.now_ms, missing: Vec::new(), matched, items })
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        if self.fails { Err(unreachable("the store cannot be read")) } else { Ok(self.recorded()) }
    }
}

fn unreachable(sentence: &str) -> Failure {
    Failure::new(ExitCode::Unreachable, sentence)
}

fn id(rank: u32) -> [u8; 16] {
    let mut id = [0xab; 16];
    id[..4].copy_from_slice(&(rank.wrapping_mul(2_654_435_761) ^ 0x51ed_270b).to_be_bytes());
    id
}

fn node(rank: u32) -> String {
    NodeId(id(rank)).to_string()
}

fn hex(rank: u32) -> String {
    id(rank).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn member(rank: u32) -> MemberInfo {
    MemberInfo { node: NodeId(id(rank)), rank, host: "host".into(), pid: 1, lanes: (rank * 2, rank * 2 + 2) }
}

fn numbers(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
