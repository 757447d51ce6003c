//! Measures the protocol machines: storms over 500 ranks, the decisions of a new epoch, plans, ten thousand faults in a row, and
//! an hour of storm.
//!
//! `cargo run --release -p everstep-chaos --example sim_numbers`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everstep_actors::protocol::coordinator::{Act, Care, Coordinator, Creation, Fact, Rules};
use everstep_actors::protocol::ids::{Epoch, NodeId, Rank, ShardId, Step, UnitId, Version};
use everstep_actors::protocol::plan::{Site, plan};
use everstep_actors::protocol::record::{Claim, EpochRecord, Member};
use everstep_actors::protocol::shard::Shard;
use everstep_actors::protocol::terms::Terms;
use everstep_actors::protocol::word::{Held, Word};
use everstep_chaos::command;
use everstep_chaos::error::ChaosError;
use everstep_chaos::report::Report;
use everstep_chaos::scenario::Scenario;
use everstep_chaos::tier::Tier;

fn main() -> Result<(), ChaosError> {
    storms()?;
    new_epoch();
    plans();
    long_ones()
}

/// The time that this process has been on a core, which others on the machine do not lengthen; zero where the system does not say.
fn on_cpu() -> Duration {
    let said = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    said.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).map_or(Duration::ZERO, Duration::from_nanos)
}

/// Drawn storms of a minute over 500 ranks.
fn storms() -> Result<(), ChaosError> {
    let mut times = Vec::new();
    let mut before = on_cpu();
    let folder = std::path::Path::new("target/chaos-sim-numbers");
    let swarm = command::swarm(10, 0, Some(500), folder, |seed, played| {
        let took = played.history.entries.last().map(|entry| entry.at).unwrap_or_default();
        let after = on_cpu();
        let cpu = after.saturating_sub(std::mem::replace(&mut before, after));
        let [cpu_s, wall, took] = [cpu, played.wall, took].map(|time| time.as_secs_f64());
        println!("500 ranks, seed {seed}: {cpu_s:.2} s of CPU, {wall:.2} s, for {took:.0} s");
        times.push(cpu);
    })?;
    times.sort_unstable();
    println!("500 ranks: half of the seeds take at most {:.2} s of CPU; {swarm}", times[times.len() / 2].as_secs_f64());
    Ok(())
}

fn node(n: u32) -> NodeId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

fn shards(count: u32) -> Vec<Shard> {
    (0..count).map(|n| Shard { id: ShardId { unit: UnitId(n / 8), index: n % 8 }, range: 0..65_536 }).collect()
}

/// One of 256 ranks dies: everything that the leader decides until the next step begins.
fn new_epoch() {
    const RANKS: u32 = 256;
    let shards: Arc<[Shard]> = shards(8_192).into();
    let rules = Rules {
        terms: Terms::default(),
        mixed: false,
        lanes: RANKS,
        replicas: 1,
        shards: shards.clone(),
        steps: Step(1_000),
        ranks_start: RANKS,
        ranks_min: 1,
        ranks_max: u32::MAX,
        checkpoint_every: 100,
        grace: Duration::from_secs(5),
        quiet: Duration::from_millis(300),
        attempts: 4,
        care: Care::default(),
    };
    let members: Vec<Member> = (0..RANKS).map(|n| Member::new(node(n), "10.0.0.1:4000", &format!("host{:03}", n / 8), n % 8)).collect();
    let claim = Claim::Releases(Vec::new());
    let record =
        EpochRecord { epoch: Epoch(7), nonce: "n".into(), leader: node(0), claim, members, others: Vec::new(), because: "bench".into() };
    let version = Version { step: Step(40), epoch: Epoch(6) };
    let holding = |copies: &BTreeMap<u32, Vec<ShardId>>, version: Version, n: u32| {
        let held = copies.get(&n).into_iter().flatten().map(|shard| Held { shard: *shard, version, digest: 1 });
        held.collect::<Vec<_>>()
    };
    let mut copies: BTreeMap<u32, Vec<ShardId>> = BTreeMap::new();
    for (at, shard) in shards.iter().enumerate() {
        for rank in [at as u32 % RANKS, (at as u32 + 8) % RANKS] {
            copies.entry(rank).or_default().push(shard.id);
        }
    }
    let (mut machine, _) = Coordinator::new(rules, node(0), record, None, Duration::ZERO);
    let said = |machine: &mut Coordinator, from: u32, word: Word| machine.on(Duration::from_secs(1), Fact::Said { from: node(from), word });
    (0..RANKS).for_each(|n| drop(said(&mut machine, n, Word::Holdings { epoch: Epoch(7), held: holding(&copies, version, n) })));
    (0..RANKS).for_each(|n| drop(said(&mut machine, n, Word::Ready { epoch: Epoch(7) })));
    let Some((placed, _)) = machine.begun().cloned() else { return };
    let mut copies: BTreeMap<u32, Vec<ShardId>> = BTreeMap::new();
    (0..RANKS).for_each(|n| drop(copies.insert(n, placed.shards_of(Rank(n)).collect())));
    let dead = 100;
    let began = Instant::now();
    machine.on(Duration::from_secs(1), Fact::Lost { node: node(dead), proven: true, because: "bench".into() });
    machine.on(Duration::from_secs(1), Fact::Created(Creation::Mine));
    let mut goes = 0;
    for n in (0..RANKS).filter(|n| *n != dead) {
        said(&mut machine, n, Word::Holdings { epoch: Epoch(8), held: holding(&copies, version, n) });
    }
    for n in (0..RANKS).filter(|n| *n != dead) {
        let acts = said(&mut machine, n, Word::Ready { epoch: Epoch(8) });
        goes += acts.iter().filter(|act| matches!(act, Act::Send(_, Word::Go { .. }))).count();
    }
    println!(
        "new epoch over {RANKS} ranks, 8,192 shards: {:.0} ms for all decisions ({goes} ranks go)",
        began.elapsed().as_secs_f64() * 1e3
    );
}

/// A plan for 2,048 ranks and 8,192 shards after one of them was lost.
fn plans() {
    let shards = shards(8_192);
    let site = |n: u32| Site { host: format!("host{:03}", n / 8), zone: ["a", "b"][n as usize / 1024].into(), speed: 100 };
    let sites: Vec<Site> = (0..2_048).map(site).collect();
    let first = plan(&sites, 4_096, 1, &shards, &BTreeMap::new());
    let keep = |rank: Rank| (rank.0 != 2_047).then_some(rank);
    let held: BTreeMap<ShardId, Vec<Rank>> =
        first.places.iter().map(|place| (place.shard, place.copies().filter_map(keep).collect())).collect();
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(plan(&sites[..2_047], 4_096, 1, &shards, &held));
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("plan for 2,047 of 2,048 ranks, 8,192 shards: {:.1} ms (median of 20)", times[10].as_secs_f64() * 1e3);
}

/// Ten thousand faults in a row in one run, and an hour of storm.
fn long_ones() -> Result<(), ChaosError> {
    for text in [include_str!("../../configs/chaos/torture.toml"), include_str!("../../configs/chaos/soak.toml")] {
        let scenario = Scenario::parse(text)?;
        let before = on_cpu();
        let report = Report::of(&scenario, scenario.seed, Tier::Sim, Tier::Sim.play(&scenario, scenario.seed)?);
        println!("{report}\n  {:.2} s of CPU", on_cpu().saturating_sub(before).as_secs_f64());
        for size in &report.figures.sizes {
            println!("  {}: at most {} in the first half, {} in the second", size.of, size.early, size.late);
        }
    }
    Ok(())
}
