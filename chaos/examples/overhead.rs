//! What the runtime itself costs: membership, votes, digests, ledger, heartbeats, events, by processor time.
//!
//! ```text
//! cargo run --release -p everstep-chaos --example overhead [-- STEPS [STEP_MS]]     200 steps of 400 ms unless told
//! ```
//!
//! Four real nodes with next to nothing to compute or to exchange: lanes sleep for the time of a step. What the processors do
//! then is the runtime's, tiny frames of its collective calls included.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use everstep_actors::protocol::coordinator::Care;
use everstep_actors::protocol::ids::Step;
use everstep_actors::roles::watchdog::Patience;
use everstep_chaos::ledger::{Altered, Ledger};
use everstep_chaos::local::{Log, Run};

const RANKS: u32 = 4;
/// Clock ticks of `/proc/self/stat` in a second.
const TICKS: f64 = 100.0;

/// Processor time of this process so far, in seconds.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted behind the name, which may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let (steps, step_ms) = (numbers.first().copied().unwrap_or(200), numbers.get(1).copied().unwrap_or(400));
    let run = Run {
        ledger: Ledger::new(RANKS, 1, 16, &[16, 16]),
        steps: Step(steps),
        checkpoint_every: u64::MAX,
        shard_values: 16,
        gathered_values_max: 1_000,
        ranks_min: 1,
        ranks_max: u32::MAX,
        replicas: 1,
        care: Care::default(),
        patience: Patience::default(),
    };
    let folder = tempfile::tempdir()?;
    let log = Log::default();
    // Lanes take as long as real ones and compute nothing meanwhile.
    let workload = Altered::new(&run.ledger, Box::new(move |_, _| Box::pin(tokio::time::sleep(Duration::from_millis(step_ms)))));
    let nodes: Vec<_> = (0..RANKS).map(|slot| run.start_with(workload.clone(), folder.path(), RANKS, slot, &log)).collect();
    // The first steps connect, and fill what is filled once.
    let first = steps / 10;
    log.committed(Step(first)).await;
    let began = processor_s();
    log.committed(Step(steps - 1)).await;
    let per_step = (processor_s() - began) / (steps - 1 - first) as f64;
    for node in nodes {
        node.ended().await?;
    }
    println!("{RANKS} nodes, steps of {step_ms} ms: {:.2} ms of processor time a step for all of them", per_step * 1e3);
    Ok(())
}
