//! Measures the tiers of real nodes: storms of kills, and how long training stands still after each kind of fault.
//!
//! `cargo run --release -p everstep-chaos --example tiers_numbers -- NAME…`; without names it lists them. The process tier takes the
//! program from EVERSTEP_BINARY, or `target/release/everstep`.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;
use std::time::Duration;

use everstep_chaos::fault::Kind;
use everstep_chaos::history::{Happening, History};
use everstep_chaos::scenario::{Scenario, ScenarioError};
use everstep_chaos::sim::Run;
use everstep_chaos::{local, process};

/// Name, tier, and scenario.
const MEASURES: [(&str, &str, &str); 12] = [
    (
        "local-kills",
        "local",
        "
        workload = { steps = 1000000, step_time = '1ms', checkpoint_every = 2000, shards = 10 }
        cluster = { nodes = 6, nodes_per_host = 6 }
        probe.end = { storm = '2m', recover_within = '20s' }
        fault = [
            { at = { step = 5 }, kind = 'kill', target = 'one', restart = '10ms', times = 10000, every = '250ms' },
        ]",
    ),
    (
        "local-storm",
        "local",
        "
        workload = { steps = 1000000, step_time = '1ms', checkpoint_every = 500, shards = 10 }
        cluster = { nodes = 5, nodes_per_host = 5 }
        probe.end = { storm = '60s', recover_within = '20s' }
        fault = [
            { at = { step = 5 }, kind = 'kill', target = 'one', restart = '50ms', times = 10000, every = '2300ms' },
            { at = { step = 6 }, kind = 'stop', target = 'one', for = '300ms', times = 10000, every = '3700ms' },
            { at = { step = 7 }, kind = 'cut', from = 'one', for = '500ms', times = 10000, every = '6100ms' },
            { at = { step = 8 }, kind = 'link', from = 'all', to = 'all', loss = 0.01, duplicate = 0.02, reorder = '2ms', for = '800ms', times = 10000, every = '4300ms' },
            { at = { step = 9 }, kind = 'drain', target = 'one', restart = '50ms', lead = '3s', times = 10000, every = '3700ms' },
            { at = { step = 10 }, kind = 'store', mode = 'unknown', for = '200ms', times = 10000, every = '2300ms' },
            { at = { step = 11 }, kind = 'store', mode = 'away', for = '900ms', times = 10000, every = '7300ms' },
            { at = { step = 12 }, kind = 'bit_flip', mode = 'update', target = 'one', times = 10000, every = '3100ms' },
            { at = { step = 13 }, kind = 'checkpoint', mode = 'torn', times = 10000, every = '5100ms' },
            { at = { step = 1000 }, kind = 'kill', target = 'all', restart = '50ms', times = 10000, every = '29s' },
        ]",
    ),
    (
        "kills",
        "process",
        "
        workload = { steps = 5000, lanes = 4, samples_per_lane = 4, step_time = '40ms', checkpoint_every = 50 }
        cluster = { nodes = 4, nodes_per_host = 4 }
        probe.end = { storm = '10m', recover_within = '200s' }
        fault = [
            { at = { step = 10 }, kind = 'kill', target = 'leader', times = 150, every = '1400ms' },
            { at = { step = 10, after = '700ms' }, kind = 'kill', target = 'rank=1', times = 150, every = '1400ms' },
        ]",
    ),
    ("stop-member", "process", "fault = [{ at = { step = 20 }, kind = 'stop', target = 'rank=2', for = '3s', times = 10, every = '6s' }]"),
    ("stop-leader", "process", "fault = [{ at = { step = 20 }, kind = 'stop', target = 'leader', for = '3s', times = 10, every = '6s' }]"),
    ("cut-member", "process", "fault = [{ at = { step = 20 }, kind = 'cut', from = 'rank=2', for = '3s', times = 10, every = '6s' }]"),
    ("cut-leader", "process", "fault = [{ at = { step = 20 }, kind = 'cut', from = 'leader', for = '3s', times = 10, every = '6s' }]"),
    ("cut-one-way", "process", "fault = [{ at = { step = 20 }, kind = 'cut', from = 'rank=2', one_way = true, for = '3s', times = 10, every = '6s' }]"),
    ("kill-host", "process", "fault = [{ at = { step = 20 }, kind = 'kill_host', target = 'one', restart = '1s', times = 10, every = '6s' }]"),
    (
        "join",
        "process",
        "
        cluster = { nodes = 2 }
        fault = [
            { at = { step = 20 }, kind = 'join', count = 1, times = 4, every = '6s' },
        ]",
    ),
    (
        "halves-survive",
        "process",
        "
        cluster = { nodes = 8, nodes_per_host = 4 }
        fault = [{ at = { step = 20 }, kind = 'kill_host', target = 'host=1', restart = '5s', times = 10, every = '15s' }]",
    ),
    (
        "halves-lost",
        "process",
        "
        cluster = { nodes = 8, nodes_per_host = 2 }
        fault = [{ at = { step = 20 }, kind = 'kill_host', target = '50%', restart = '5s', times = 10, every = '15s' }]",
    ),
];

/// For measures that do not say otherwise.
const WORK: &str = "workload = { steps = 1200, lanes = 4, samples_per_lane = 4, step_time = '40ms', checkpoint_every = 50 }\n";
const CLUSTER: &str = "cluster = { nodes = 4 }\n";
const END: &str = "probe.end = { storm = '10m', recover_within = '60s' }\n";

fn main() -> Result<(), ScenarioError> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, tier, text) in MEASURES {
        if wanted.is_empty() {
            println!("{name} ({tier})");
        } else if wanted.iter().any(|wanted| wanted == name) {
            measure(name, tier, text)?;
        }
    }
    Ok(())
}

fn measure(name: &str, tier: &str, text: &str) -> Result<(), ScenarioError> {
    let mut whole = format!("name = '{name}'\n");
    let defaults = [("workload =", WORK), ("cluster =", CLUSTER), ("probe.end =", END)];
    defaults.iter().filter(|(key, _)| !text.contains(key)).for_each(|(_, value)| whole += value);
    let scenario = Scenario::parse(&(whole + text))?;
    let run = if tier == "local" {
        local::play(&scenario, 1)?
    } else {
        let binary = std::env::var_os("EVERSTEP_BINARY").map_or_else(|| PathBuf::from("target/release/everstep"), PathBuf::from);
        process::play(&scenario, 1, &binary, &std::env::temp_dir().join("everstep-tiers-numbers"))?
    };
    println!("{name}: {}", summary(&run));
    if let Some(text) = run.failure(&scenario, 1) {
        println!("{text}");
        run.violations.iter().skip(1).take(8).for_each(|violation| println!("  {}: {}", violation.check, violation.because));
    }
    Ok(())
}

fn summary(run: &Run) -> String {
    let mut strikes = std::collections::BTreeMap::<Kind, u32>::new();
    run.history.struck().for_each(|(_, kind, _)| *strikes.entry(kind).or_default() += 1);
    let strikes: Vec<String> = strikes.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let (mut pauses, step) = pauses(&run.history);
    pauses.sort_unstable();
    let at = |share: usize| pauses.get((pauses.len().saturating_sub(1)) * share / 100).map_or(f64::NAN, Duration::as_secs_f64);
    let sizes = run.history.entries.iter().filter_map(|entry| match &entry.what {
        Happening::Size { of, is, bound } => Some(format!("{of} {is} (bound {bound})")),
        _ => None,
    });
    format!(
        "{} in {:.0} s, {} epochs, {} steps; done: {}; violations: {}; a step takes {:.0} ms; pauses over a step: {} of them, median {:.2} s, p90 {:.2} s, longest {:.2} s; {}",
        strikes.join(", "),
        run.took.as_secs_f32(),
        run.epochs(),
        run.steps(),
        run.done,
        run.violations.len(),
        step.as_secs_f64() * 1e3,
        pauses.len(),
        at(50),
        at(90),
        at(100),
        sizes.collect::<Vec<_>>().join(", ")
    )
}

/// How much longer than a step no step was committed around each strike, and how long a step takes.
fn pauses(history: &History) -> (Vec<Duration>, Duration) {
    let stable: Vec<(Duration, u64)> = history.stable().map(|(place, epoch, ..)| (history.entries[place].at, epoch)).collect();
    let mut steps: Vec<Duration> = stable.windows(2).filter(|pair| pair[0].1 == pair[1].1).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.sort_unstable();
    let step = steps.get(steps.len() / 2).copied().unwrap_or_default();
    // The first break after each strike, whose epoch is another one.
    let pause = |at: Duration| {
        let next = stable.windows(2).find(|pair| pair[1].0 > at && pair[1].1 != pair[0].1)?;
        Some((next[1].0 - next[0].0.max(at.saturating_sub(step))).saturating_sub(step))
    };
    (history.struck().filter_map(|(entry, ..)| pause(entry.at)).collect(), step)
}
