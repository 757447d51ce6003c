//! Random scenarios: one seed gives the cluster, the workload and the faults.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::content::mix;
use super::dice::{below, chance};
use crate::fault::{Fault, Kind, Mode};
use crate::scenario::{Cluster, End, Probes, Scenario, Span, Target, Trigger, When, Workload};

/// How often each kind is drawn.
const KINDS: [(Kind, usize); 12] = [
    (Kind::Kill, 8),
    (Kind::KillHost, 2),
    (Kind::Stop, 4),
    (Kind::Cut, 5),
    (Kind::Link, 3),
    (Kind::Join, 2),
    (Kind::Drain, 3),
    (Kind::Hang, 2),
    (Kind::Slow, 2),
    (Kind::Store, 4),
    (Kind::Checkpoint, 1),
    (Kind::BitFlip, 2),
];

/// Draws a scenario. With `ranks`, of so many and for a minute; else small and quick.
pub fn draw(seed: u64, ranks: Option<u32>) -> Scenario {
    let rng = &mut ChaCha8Rng::seed_from_u64(mix(seed, 11));
    let nodes = ranks.unwrap_or_else(|| 3 + below(rng, 8) as u32);
    let nodes_per_host = 1 + below(rng, 3) as u32;
    let storm = Duration::from_secs(if ranks.is_some() { 60 } else { 30 });
    let cluster = Cluster {
        nodes,
        nodes_per_host,
        zones: 1 + below(rng, 2) as u32,
        ranks_min: if chance(rng, 0.3) { 2 } else { 1 },
        ranks_max: if chance(rng, 0.2) { nodes } else { u32::MAX },
        replicas: if nodes > 2 && chance(rng, 0.2) { 2 } else { 1 },
        ..Cluster::default()
    };
    let workload = Workload {
        steps: 1_000_000,
        lanes: nodes.max(4) + below(rng, 5) as u32,
        shards: nodes + below(rng, 9) as u32,
        step_time: Span(Duration::from_millis(if ranks.is_some() { 800 } else { 50 + 50 * below(rng, 6) as u64 })),
        checkpoint_every: 5 + below(rng, 20) as u64,
        ..Workload::default()
    };
    let count = if ranks.is_some() { 6 } else { 1 + below(rng, 6) };
    let mut faults: Vec<Fault> = (0..count).map(|_| fault(rng, storm)).collect();
    // Two copies tell a bad one. A bit that turns over in the very step in which the other copy is lost shows nowhere.
    if faults.iter().any(|fault| !fault.kind.is_harmless() && fault.kind != Kind::BitFlip) {
        faults.retain(|fault| fault.kind != Kind::BitFlip);
    }
    Scenario {
        name: format!("swarm-{seed}"),
        about: "drawn".into(),
        seed,
        cluster,
        workload,
        faults,
        probe: Probes {
            end: End { recover_within: Span(Duration::from_secs(45)), storm: Span(storm), ..End::default() },
            ..Probes::default()
        },
    }
}

/// A time from 0 up to `most`, in whole milliseconds: a scenario that is written and read again stays the same.
fn up_to(rng: &mut ChaCha8Rng, most: Duration) -> Duration {
    Duration::from_millis(below(rng, most.as_millis() as usize) as u64)
}

fn fault(rng: &mut ChaCha8Rng, storm: Duration) -> Fault {
    let total = KINDS.iter().map(|(_, weight)| weight).sum();
    let mut at = below(rng, total);
    let drawn = KINDS.iter().find(|(_, weight)| {
        let here = at < *weight;
        at = at.saturating_sub(*weight);
        here
    });
    let kind = drawn.map_or(Kind::Kill, |(kind, _)| *kind);
    let when = match below(rng, 4) {
        0 => When::Step(1 + below(rng, 40) as u64),
        1 => When::Event { name: ["begun", "recorded", "lost", "checkpoint_saved"][below(rng, 4)].into(), nth: 1 + below(rng, 4) as u32 },
        _ => When::Time(Duration::from_secs(1) + up_to(rng, storm / 2)),
    };
    let mut fault = Fault::new(Trigger { when, after: up_to(rng, Duration::from_millis(300)) }, kind);
    let lasts = Span(Duration::from_millis(200) + up_to(rng, Duration::from_secs(8)));
    let target = |rng: &mut ChaCha8Rng| match below(rng, 10) {
        0..=2 => Target::Leader,
        3 => Target::Next,
        4 => Target::Percent(50),
        5 => Target::Count(2),
        6 if kind == Kind::Kill => Target::All,
        _ => Target::One,
    };
    match kind {
        Kind::Kill | Kind::KillHost => {
            fault.target = Some(target(rng));
            fault.restart = (chance(rng, 0.8) || fault.target == Some(Target::All)).then(|| Span(up_to(rng, Duration::from_secs(4))));
            fault.times = chance(rng, 0.2).then(|| 2 + below(rng, 5) as u32);
            fault.every = fault.times.map(|_| Span(Duration::from_millis(300) + up_to(rng, Duration::from_secs(2))));
        }
        Kind::Stop | Kind::Hang => {
            fault.target = Some(target(rng));
            fault.lasts = Some(lasts);
        }
        Kind::Cut | Kind::Link => {
            fault.from = Some(target(rng));
            fault.to = chance(rng, 0.3).then(|| target(rng));
            fault.one_way = chance(rng, 0.4);
            fault.lasts = Some(lasts);
            if kind == Kind::Link {
                fault.loss = chance(rng, 0.6).then_some(0.2);
                fault.delay = chance(rng, 0.6).then(|| Span(up_to(rng, Duration::from_millis(80))));
                fault.duplicate = chance(rng, 0.5).then_some(0.3);
                fault.reorder = chance(rng, 0.5).then(|| Span(up_to(rng, Duration::from_millis(400))));
            }
        }
        Kind::Join => fault.count = Some(1 + below(rng, 3) as u32),
        Kind::Drain => {
            fault.target = Some(target(rng));
            fault.lead = chance(rng, 0.7).then(|| Span(Duration::from_secs(2) + up_to(rng, Duration::from_secs(10))));
            fault.cancel = chance(rng, 0.2).then(|| Span(up_to(rng, Duration::from_secs(2))));
            fault.restart = Some(Span(up_to(rng, Duration::from_secs(3))));
        }
        Kind::Slow => {
            fault.target = Some(target(rng));
            fault.factor = Some(2 + below(rng, 3) as u32);
            fault.lasts = Some(lasts);
        }
        Kind::Store => {
            fault.mode = Some([Mode::Away, Mode::Late, Mode::Unknown, Mode::ReadOnly, Mode::Full][below(rng, 5)]);
            fault.target = chance(rng, 0.3).then(|| target(rng));
            fault.lasts = Some(lasts);
        }
        Kind::Checkpoint => fault.mode = Some(if chance(rng, 0.5) { Mode::Torn } else { Mode::Flipped }),
        Kind::BitFlip => {
            fault.target = Some(Target::One);
            fault.mode = Some(if chance(rng, 0.5) { Mode::Copy } else { Mode::Update });
        }
        Kind::Oom | Kind::Nan => {}
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_scenarios_are_scenarios() {
        for seed in 0..300 {
            let scenario = draw(seed, None);
            let text = scenario.to_toml().unwrap();
            assert_eq!(Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), scenario);
            assert_eq!(draw(seed, None), scenario);
        }
    }
}
