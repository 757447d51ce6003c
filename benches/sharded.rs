//! One optimizer step of two ranks, each a process with one lane, over QUIC on loopback: the nets of `benches/step.rs`, whose crops are in memory already.
//!
//! `cargo bench --bench sharded -- [--net tiny|400mf] [--device flex|libtorch:cpu] [--steps N] [--set KEY=VALUE]...`. Prints one JSON line: median ms a step,
//! and the mean of each phase of a step as a share of all. Batch norm is each lane's own unless `--set model.sync=all`, as it is in the peer, `benches/peers/sharded.py`.

#![expect(clippy::print_stdout, reason = "what happened, and the line with the result")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use everstep::config::Recipe;
use everstep::{heap, setup};
use everstep_actors::checkpoint::Digest;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::net::endpoint::Options;
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::protocol::ids::{Lane, Step};
use everstep_actors::protocol::terms::Terms;
use everstep_actors::roles::node::{self, Cluster, NodeArgs};
use everstep_actors::roles::watchdog::Patience;
use everstep_actors::store::Store;
use everstep_actors::workload::{Batch, Source, SourceError};
use tokio::sync::mpsc;

#[path = "common/work.rs"]
mod work;

/// Two of them share the work.
const RANKS: u32 = 2;
/// Steps that are not counted.
const WARM: usize = 5;
/// Where a child finds which rank it is.
const SLOT: &str = "EVERSTEP_BENCH_SLOT";
/// Where a child finds the run.
const PLACE: &str = "EVERSTEP_BENCH_PLACE";

/// What is asked on the command line.
struct Asked {
    net: String,
    steps: u64,
    overrides: Vec<String>,
}

impl Asked {
    fn new() -> Self {
        let mut asked = Self { net: "tiny".into(), steps: 30, overrides: vec!["model.sync=lane".into()] };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match flag.as_str() {
                "--net" => asked.net = value,
                "--steps" => asked.steps = value.parse().expect("a number of steps"),
                "--device" => asked.overrides.push(format!("device.name={value}")),
                "--set" => asked.overrides.push(value),
                other => panic!("no such flag: {other}"),
            }
        }
        asked
    }

    /// The net's recipe with one lane for each rank, all images as before.
    fn recipe(&self) -> Recipe {
        let of = |more: &[String]| {
            let overrides = [self.overrides.as_slice(), more].concat();
            work::recipes(&overrides).into_iter().find(|(net, _)| *net == self.net).expect("tiny or 400mf").1
        };
        let images = of(&[]).images_per_step() / u64::from(RANKS);
        of(&[format!("batch.lanes={RANKS}"), format!("batch.images_per_lane={images}"), format!("cluster.ranks={RANKS}")])
    }
}

/// The same crops at every step.
struct InMemory(Recipe);

impl Source for InMemory {
    fn batch(&self, step: Step, lane: Lane) -> Result<Batch, SourceError> {
        let each = u64::from(self.0.batch.images_per_lane);
        let first = step.0 * self.0.images_per_step() + u64::from(lane.0) * each;
        Ok(Batch { samples: (first..first + each).collect(), data: Box::new(work::crops(&self.0, lane.0)) })
    }
}

/// A rank's process: tells what happens on standard output.
fn rank(asked: &Asked, slot: u32, place: &str) {
    heap::keep();
    let recipe = asked.recipe();
    let job = Arc::new(setup::workload(&recipe, asked.steps).expect("the recipe makes a job"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be started");
    let secrets = std::path::Path::new(place).join("secrets");
    let ca = RunCa::load_or_create(&secrets, "run").expect("a folder for the authority");
    let (events, mut happened) = mpsc::channel::<Recorded>(4_096);
    // Senders live as long as the node.
    let ((_noted, noted), (_orders, orders)) = (mpsc::channel(1), mpsc::channel(1));
    let args = NodeArgs {
        source: Arc::new(InMemory(recipe.clone())),
        store: Store::open(&format!("{place}/run")).expect("a folder for the run"),
        run: "bench".into(),
        identity: Identity::issue(&ca, Role::Node, Duration::from_secs(3_600)).expect("a certificate"),
        renewal: None,
        bind: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        net: Options::default(),
        socket: None,
        advertise: None,
        host: "here".into(),
        zone: String::new(),
        slot,
        pid: std::process::id(),
        terms: Terms { build: "bench".into(), recipe: recipe.digest(), hardware: String::new() },
        config: Digest::of(b"bench"),
        cluster: Cluster { ranks_start: RANKS, ranks_min: RANKS, ranks_max: RANKS, replicas: recipe.cluster.replicas, mixed: false },
        patience: Patience::default(),
        care: setup::care(&recipe),
        loss_max: f64::INFINITY,
        images: recipe.images_per_step(),
        steps: Step(asked.steps),
        restarts: 0,
        checkpoint_every: u64::MAX,
        checkpoint_keep: 1,
        shard_values: setup::shard_values(&recipe, &job),
        gathered_values_max: setup::GATHERED_VALUES_MAX,
        loader_ahead: 3,
        loader_threads: 1,
        workload: job,
        events,
        noted,
        orders,
    };
    let telling = std::thread::spawn(move || {
        while let Some(recorded) = happened.blocking_recv() {
            println!("{}", serde_json::to_string(&recorded).expect("events are data"));
        }
    });
    runtime.block_on(node::run(args)).expect("the run ends well");
    runtime.shutdown_timeout(Duration::from_millis(200));
    telling.join().expect("events are told");
}

fn spawn(slot: u32, place: &str) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(std::env::args().skip(1)).env(SLOT, slot.to_string()).env(PLACE, place);
    command.stdout(Stdio::piped()).spawn().expect("a process can be started")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Starts the ranks and prints what the first of them tells.
fn measure(asked: &Asked) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let place = place.path().to_str().expect("a path in UTF-8");
    let mut ranks: Vec<Child> = (0..RANKS).map(|slot| spawn(slot, place)).collect();
    let outputs: Vec<_> = ranks.iter_mut().filter_map(|rank| rank.stdout.take()).collect();
    let told: Vec<_> = outputs
        .into_iter()
        .map(|output| std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).collect::<Vec<_>>()))
        .collect();
    let told: Vec<Vec<String>> = told.into_iter().map(|lines| lines.join().expect("a pipe can be read")).collect();
    for mut rank in ranks {
        assert!(rank.wait().expect("a child can be waited for").success(), "a rank failed: {told:#?}");
    }
    let (mut times, mut phases) = (Vec::new(), BTreeMap::<String, f64>::new());
    let steps = told[0].iter().filter_map(|line| serde_json::from_str::<Recorded>(line).ok());
    let steps = steps.filter_map(|recorded| match recorded.event {
        Event::StepCommitted { seconds, phases, .. } => Some((seconds, phases)),
        _ => None,
    });
    for (seconds, of) in steps.skip(WARM) {
        times.push(1e3 * seconds);
        of.into_iter().for_each(|(name, seconds)| *phases.entry(name).or_default() += seconds);
    }
    let total: f64 = phases.values().sum();
    phases.values_mut().for_each(|seconds| *seconds = (1e4 * *seconds / total).round() / 1e4);
    let (steps, ms) = (times.len(), (10.0 * median(times)).round() / 10.0);
    println!(
        "{}",
        serde_json::json!({ "bench": "sharded", "net": asked.net, "set": asked.overrides, "steps": steps, "ms": ms, "shares": phases })
    );
}

fn main() {
    let asked = Asked::new();
    let child = std::env::var(SLOT).ok().and_then(|slot| slot.parse().ok()).zip(std::env::var(PLACE).ok());
    match child {
        Some((slot, place)) => rank(&asked, slot, &place),
        None => measure(&asked),
    }
}
