//! Five hundred ranks, looked at with the program: a made-up leader answers for all of them over a real link.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use everstep_actors::clock::wall_ms;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::pack::pack;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{
    ActorView, Item, LaneView, NodeView, Properties, RankView, Recent, RunView, SCHEMA_VERSION, Scope, ShardView, View,
};
use everstep_actors::net::endpoint::{Endpoint, Options};
use everstep_actors::net::link::{Link, LinkDown};
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::{Epoch, NodeId};
use everstep_actors::protocol::record::{Claim, EpochRecord, Member};
use everstep_actors::roles::records;
use everstep_actors::store::Store;
use everstep_actors::wire::message::{Control, DataHeader};

use crate::bench_of_runs::{Bench, Ran, signal};

const RANKS: u32 = 500;
const SLOW: u32 = 137;

fn item(reference: String, parent: &str, state: &str, properties: Properties) -> Item {
    let (parent, state, now) = (parent.to_owned(), state.to_owned(), wall_ms());
    Item { reference, parent, children: Vec::new(), state, since_ms: now - 5_000, as_of_ms: now, properties }
}

fn node(rank: u32) -> NodeId {
    let mut id = [0x5e; 16];
    id[..4].copy_from_slice(&(rank.wrapping_mul(2_654_435_761)).to_be_bytes());
    NodeId(id)
}

/// Everything there would be: nodes, ranks, actors with their rings, lanes, thousands of shards.
fn items(leader: NodeId) -> Vec<Item> {
    let reference = |rank: u32| format!("node/{}", if rank == 0 { leader } else { node(rank) });
    let phases = |rank: u32| -> BTreeMap<String, f64> {
        let compute = if rank == SLOW { 2.4 } else { 0.8 };
        [("data", 0.01), ("compute", compute), ("exchange", 0.2), ("update", 0.05), ("vote", 0.1)]
            .map(|(name, s)| (name.to_owned(), s))
            .into()
    };
    let run = RunView {
        name: "crowd".into(),
        step: 64_210,
        steps: 126_008,
        epoch: 19,
        epoch_because: "rank 77 (host-9, pid 4711) was lost: killed".into(),
        epoch_since_ms: wall_ms() - 3_600_000,
        leader: reference(0),
        images_per_s: 8_214.0,
        metrics: [("loss".to_owned(), 6.9)].into(),
        phases: phases(0),
        ranks: RANKS,
        lanes: 4 * RANKS,
        checkpoint: Some(64_000),
        ledger: 64_192,
        ..RunView::default()
    };
    let mut items = vec![item("run".into(), "", "training", Properties::Run(run))];
    for rank in 0..RANKS {
        let id = reference(rank);
        let host = format!("host-{}", rank / 8);
        let (pid, leads) = (4_000 + rank, rank == 0);
        let view = NodeView { host, zone: "a".into(), pid, rank: Some(rank), leads, resident_bytes: 3 << 30, ..NodeView::default() };
        let mut at = item(id.clone(), "run", "in", Properties::Node(view));
        at.children = ["node", "rank", "loader", "coordinator", "aggregator", "desk", "checkpoint_writer"]
            .iter()
            .map(|name| format!("actor/{}/{name}", id.trim_start_matches("node/")))
            .chain([format!("rank/{rank}")])
            .collect();
        let actors = at.children.iter().filter_map(|child| child.strip_prefix("actor/")).map(|name| {
            let kind = name.rsplit('/').next().unwrap();
            let recent = (0..16).map(|n| Recent { at_ms: wall_ms() - n, what: format!("lane_done in 0.0{n} ms") });
            let depth = if rank == SLOW && kind == "rank" { 41 } else { 0 };
            let view = ActorView {
                name: kind.into(),
                actor_kind: kind.into(),
                node: id.clone(),
                depth,
                capacity: 16_384,
                handled: 123_456,
                recent: recent.collect(),
                ..ActorView::default()
            };
            item(format!("actor/{name}"), &id, "idle", Properties::Actor(view))
        });
        let mut actors: Vec<Item> = actors.collect();
        items.push(at);
        items.append(&mut actors);
        let lanes = (4 * rank, 4 * rank + 4);
        let pace = if rank == SLOW { 3.0 } else { 1.0 };
        let view =
            RankView { rank, node: id, step: 64_210, lanes, phase: "compute".into(), phases: phases(rank), pace, ..RankView::default() };
        items.push(item(format!("rank/{rank}"), "run", "computing", Properties::Rank(view)));
        for lane in lanes.0..lanes.1 {
            let view = LaneView { lane, rank: format!("rank/{rank}"), step: 64_210, doing: "computes".into(), busy_s: 0.9, wait_s: 0.1 };
            items.push(item(format!("lane/{lane}"), "run", "computing", Properties::Lane(view)));
        }
    }
    for shard in 0..8_192 {
        let (owner, copies) = (format!("rank/{}", shard % RANKS), vec![format!("rank/{}", (shard + 9) % RANKS)]);
        let view = ShardView { unit: format!("u{}", shard / 16), values: 1_175_000, owner, copies, ..ShardView::default() };
        items.push(item(format!("shard/{}/{}", shard / 16, shard % 16), "run", "held", Properties::Shard(view)));
    }
    items
}

/// Answers as a leader does.
#[derive(Clone)]
struct Leader {
    me: NodeId,
    items: Arc<Vec<Item>>,
    links: Arc<Mutex<BTreeMap<NodeId, Link<Control>>>>,
    /// How old an answer was allowed to be, for each question.
    allowed: Allowed,
}

type Allowed = Arc<Mutex<Vec<Option<u64>>>>;

impl Router for Leader {
    type Control = Control;
    fn linked(&self, link: Link<Control>) {
        self.links.lock().unwrap().insert(link.peer(), link);
    }
    fn control(&self, from: NodeId, message: Control) {
        let Control::Ask { number, question } = message else { return };
        let question: Question = serde_json::from_str(&question).unwrap();
        self.allowed.lock().unwrap().push(question.at_most_ms);
        let (items, matched) = select(self.items.to_vec(), &question);
        let answered_by = format!("node/{}", self.me);
        let view = View {
            schema_version: SCHEMA_VERSION,
            answered_by,
            scope: Scope::Run,
            as_of_ms: wall_ms(),
            missing: Vec::new(),
            matched,
            items,
        };
        let link = self.links.lock().unwrap()[&from].clone();
        link.try_control(&Control::Answered { number, view: pack(&view).unwrap() }).unwrap();
    }
    fn admit(&self, _: NodeId, _: &DataHeader) -> Result<(), Reject> {
        Err(Reject("made up".into()))
    }
    fn data(&self, _: NodeId, _: DataHeader, _: Vec<f32>) {}
    fn down(&self, _: NodeId, _: LinkDown) {}
}

/// A store with a record that names the leader, the leader, and what it is asked.
async fn made_up(folder: &std::path::Path) -> (Endpoint<Leader>, Allowed) {
    std::fs::create_dir_all(folder).unwrap();
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let ca = RunCa::load_or_create(&folder.join("secrets"), "run").unwrap();
    let identity = Identity::issue(&ca, Role::Node, std::time::Duration::from_secs(600)).unwrap();
    let me = identity.id();
    let allowed = Allowed::default();
    let leader = Leader { me, items: Arc::new(items(me)), links: Arc::default(), allowed: allowed.clone() };
    let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, Options::default(), Arc::new(leader), None).unwrap();
    let address = endpoint.local_addr().unwrap().to_string();
    let members = (0..RANKS).map(|rank| match rank {
        0 => Member::new(me, &address, "host-0", 0),
        rank => Member::new(node(rank), "127.0.0.1:1", &format!("host-{}", rank / 8), rank),
    });
    let record = EpochRecord {
        epoch: Epoch(19),
        nonce: "made up".into(),
        leader: me,
        claim: Claim::Fresh,
        members: members.collect(),
        others: Vec::new(),
        because: "a made-up run".into(),
    };
    records::create(&store, &record).await;
    (endpoint, allowed)
}

/// Every question is answered readably; how long each took is printed (`--nocapture`).
#[test]
fn five_hundred_ranks_are_readable() {
    let bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (endpoint, allowed) = runtime.block_on(made_up(&bench.path("crowd")));
    let endpoint = Arc::new(endpoint);
    let door = endpoint.clone();
    runtime.spawn(async move { while door.accept().await.is_some() {} });
    let ask = |line: &str| -> Ran {
        let began = Instant::now();
        let ran = bench.run(&format!("{line} --run crowd"));
        println!("{:6.3} s  {line}", began.elapsed().as_secs_f64());
        assert!(ran.code == 0, "{ran:?}");
        let widest = ran.stdout.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= 100 || line.contains("json"), "`{line}` is {widest} wide");
        ran
    };
    let status = ask("status");
    assert!(status.stdout.contains("64210 of 126008") && status.stdout.lines().count() < 60, "{}", status.stdout);
    let slow = ask("get actors --filter depth>3");
    assert_eq!(slow.stdout.lines().count(), 2, "{}", slow.stdout);
    let why = ask("why slow").stdout;
    assert!(why.contains(&format!("rank/{SLOW}")), "{why}");
    let tree = ask("tree").stdout;
    assert!(tree.lines().count() < 100, "{} lines", tree.lines().count());
    let described = ask(&format!("describe r{SLOW}")).stdout;
    assert!(described.contains("compute") && described.contains("phases"), "{described}");
    assert!(ask("top --once --limit 10").stdout.lines().count() < 30);
    let whole = ask("get nodes,ranks,actors,lanes,shards -o json");
    let view: View = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(view.items.len() as u32, RANKS * (2 + 7 + 4) + 8_192, "nothing was cut");
    assert!(ask("metrics").stdout.contains("everstep_members{state=\"in\"} 500"));
    // Who looks once is told of this moment; who looks again and again shares answers that are a little younger than its pace.
    let newest = || *allowed.lock().unwrap().last().unwrap();
    ask("status");
    assert_eq!(newest(), None);
    ask("top --once --every 2");
    assert_eq!(newest(), Some(1_800));
    let mut watch = bench.start("status --run crowd --watch -o jsonl");
    watch.until(|item| item["kind"] == "run");
    assert_eq!(newest(), Some(900));
    signal(watch.pid(), "INT");
    watch.end();
    runtime.block_on(endpoint.close("seen"));
}
