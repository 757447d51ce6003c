//! What it costs a run to be watched: ten operators that ask every second, against none.
//!
//! ```sh
//! cargo test --release --test it -- --ignored --nocapture what_ten_operators
//! ```
//!
//! `EVERSTEP_PROGRAM` names another program than the one that was built with the test, `EVERSTEP_ROUNDS` (6) the rounds, of
//! `EVERSTEP_SECONDS` (20) without and as many with operators, in turn. `EVERSTEP_QUESTIONS=1`: each keeps `status --watch` open and
//! nothing else; with 2 `get actors --watch` too, with 3 (the default) `get events --watch` as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everstep::desk::client::{Desk, Way};
use everstep::desk::eye::Eye as _;
use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::{Properties, Scope};
use everstep_actors::net::tls::Role;

use crate::bench_of_runs::{Bench, signal};

const OPERATORS: usize = 10;
/// What `status`, `get actors` and `get events` ask.
const QUESTIONS: [&[Kind]; 3] = [&[Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint, Kind::Event], &[Kind::Actor], &[Kind::Event]];

/// One stretch of a run.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    step_s: f64,
    cpu_per_step: f64,
    /// CPU seconds a second of threads beside the lanes, of all ranks together.
    beside: f64,
    /// The same of all their threads.
    all: f64,
}

/// CPU seconds of processes, their ended threads included.
fn all(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    pids.iter().map(ticks).sum::<u64>() as f64 / 100.0
}

/// CPU seconds of the threads that serve links, actors and operators. Lanes have threads of their own, a new one with each step, and
/// threads for decoding and packing come and go: so this looks often.
#[derive(Debug, Default)]
struct Beside {
    last: BTreeMap<(u32, std::ffi::OsString), f64>,
    seconds: f64,
}

impl Beside {
    fn look(&mut self, pids: &[u32]) {
        let first = self.last.is_empty();
        for pid in pids {
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
                let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
                if !read("comm").starts_with("tokio") {
                    continue;
                }
                let Some(ns) = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()) else { continue };
                let before = self.last.insert((*pid, task.file_name()), ns / 1e9);
                self.seconds += ns / 1e9 - before.unwrap_or(if first { ns / 1e9 } else { 0.0 });
            }
        }
    }
}

/// Where the run is, and the processes of its ranks.
async fn now(desk: &Desk) -> (u64, Vec<u32>) {
    let question = Question { kinds: vec![Kind::Run, Kind::Node], ..Question::default() };
    let view = loop {
        // On a busy machine a leader may be late once.
        let view = desk.look(&question).await.unwrap();
        if view.scope == Scope::Run && view.missing.is_empty() {
            break view;
        }
    };
    let pids = view.items.iter().filter_map(|item| match &item.properties {
        Properties::Node(node) => Some(node.pid),
        _ => None,
    });
    (view.run().unwrap().step, pids.collect())
}

async fn stretch(desk: &Desk, seconds: f64) -> Stretch {
    let (first, pids) = now(desk).await;
    let (began, before, mut beside) = (Instant::now(), all(&pids), Beside::default());
    while began.elapsed().as_secs_f64() < seconds {
        beside.look(&pids);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    beside.look(&pids);
    let (took, all) = (began.elapsed().as_secs_f64(), all(&pids) - before);
    let (last, _) = now(desk).await;
    let steps = (last - first).max(1) as f64;
    Stretch { step_s: took / steps, cpu_per_step: all / steps, beside: beside.seconds / took, all: all / took }
}

fn mean(of: &[Stretch], what: impl Fn(&Stretch) -> f64) -> f64 {
    of.iter().map(what).sum::<f64>() / of.len() as f64
}

fn number(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Questions that each operator asks a second.
fn questions() -> usize {
    (number("EVERSTEP_QUESTIONS", 3.0) as usize).clamp(1, QUESTIONS.len())
}

fn way(place: &str) -> Way<'_> {
    Way { run: place, secrets: None, certificate: None }
}

/// One stretch, with operators that ask or without.
#[expect(clippy::print_stdout, reason = "the figures are what the measurement is for")]
async fn round(place: &str, desk: &Desk, operators: bool, seconds: f64) -> Stretch {
    let answers = Arc::new(AtomicU64::new(0));
    let each = questions();
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..if operators { OPERATORS } else { 0 } {
        let (operator, answers) = (Desk::open(way(place), Role::Viewer).await.unwrap().at_pace(1.0), answers.clone());
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(100 * at as u64)).await;
            let mut turn = tokio::time::interval(Duration::from_secs(1));
            loop {
                turn.tick().await;
                for kinds in QUESTIONS.into_iter().take(each) {
                    let view = operator.look(&Question { kinds: kinds.to_vec(), ..Question::default() }).await.unwrap();
                    answers.fetch_add(u64::from(view.scope == Scope::Run), Ordering::Relaxed);
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = answers.load(Ordering::Relaxed);
    let stretch = stretch(desk, seconds).await;
    let asked = (answers.load(Ordering::Relaxed) - before) as f64;
    let Stretch { step_s, cpu_per_step, beside, all } = stretch;
    println!(
        "{:7}  {:8.2} ms a step  {:8.2} CPU ms a step  {all:6.3} CPU s/s, {beside:6.4} beside lanes  {:5.1} answers/s",
        if operators { "watched" } else { "alone" },
        1e3 * step_s,
        1e3 * cpu_per_step,
        asked / seconds
    );
    assert!(!operators || asked > 0.5 * seconds * (OPERATORS * each) as f64, "they were answered: {asked}");
    tasks.shutdown().await;
    stretch
}

/// Stretches without and with operators, in turn: without, with, with, without, so that what drifts meets both alike.
async fn rounds(place: &str, desk: &Desk, rounds: usize, seconds: f64) -> [Vec<Stretch>; 2] {
    let mut told = [Vec::new(), Vec::new()];
    for at in 0..2 * rounds {
        let operators = matches!(at % 4, 1 | 2);
        told[usize::from(operators)].push(round(place, desk, operators, seconds).await);
    }
    told
}

/// While the run is paused its ranks do nothing but answer: that is what the desk takes, clean of everything that steps take.
#[test]
#[ignore = "measures for some minutes; the head of this file says how"]
fn what_ten_operators_cost_a_run() {
    let bench = Bench::new();
    let line = "train recipe.toml --run told --ranks 2 --json --set run.steps=10000000 --set checkpoint.every=100000";
    let mut run = bench.start(line);
    run.until_step(30);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (times, seconds) = (number("EVERSTEP_ROUNDS", 6.0) as usize, number("EVERSTEP_SECONDS", 20.0));
    let place = bench.path("told").display().to_string();
    let desk = runtime.block_on(Desk::open(way(&place), Role::Viewer)).unwrap();
    let [alone, watched] = runtime.block_on(rounds(&place, &desk, times, seconds));
    assert_eq!(bench.run("pause --run told").code, 0);
    assert_eq!(bench.run("wait paused=true --run told --timeout 60s").code, 0);
    println!("paused:");
    let [still, asked] = runtime.block_on(rounds(&place, &desk, 2, seconds));
    runtime.block_on(desk.close());
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
    let desk = mean(&asked, |s| s.all) - mean(&still, |s| s.all);
    let share = desk / mean(&alone, |s| s.all);
    let change = |what: fn(&Stretch) -> f64| 100.0 * (mean(&watched, what) / mean(&alone, what) - 1.0);
    println!(
        "the desk takes {:.2} CPU ms a second, {:.3} CPU ms an answer, {:.2} % of the ranks' CPU time; while it trains CPU a step {:+.2} %, a step {:+.2} %",
        1e3 * desk,
        1e3 * desk / (OPERATORS * questions()) as f64,
        100.0 * share,
        change(|s| s.cpu_per_step),
        change(|s| s.step_s)
    );
}
