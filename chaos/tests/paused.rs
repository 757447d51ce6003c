//! The paused tier: real nodes over real QUIC and TLS on one thread, under a paused clock. What holds, and that a seed decides it all.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

use std::time::Duration;

use everstep_chaos::history::Happening;
use everstep_chaos::local;
use everstep_chaos::report::Report;
use everstep_chaos::scenario::Scenario;
use everstep_chaos::sim::{self, Run};
use everstep_chaos::tier::Tier;

/// Ten ranks on five hosts; a leader is killed, a member is killed and comes back, paths are cut one way, lose and delay.
const STORM: &str = "
    name = 'storm'
    cluster = { nodes = 10, nodes_per_host = 2 }
    workload = { steps = 60, lanes = 10, step_time = '50ms', checkpoint_every = 20 }
    probe.end = { recover_within = '20s' }
    fault = [
        { at = { step = 6, after = '20ms' }, kind = 'kill', target = 'leader', restart = '300ms' },
        { at = { step = 16, after = '10ms' }, kind = 'kill', target = 'one', restart = '300ms' },
        { at = { step = 26 }, kind = 'cut', from = 'one', one_way = true, for = '2s' },
        { at = { step = 40 }, kind = 'link', from = 'all', to = 'all', loss = 0.05, delay = '3ms', for = '1s' },
    ]";

fn play(scenario: &str, seed: u64) -> Run {
    local::play_paused(&Scenario::parse(scenario).unwrap(), seed).unwrap()
}

/// Checks hold, each fault strikes and shows, and every step has the digest of a plain loop: that is what `same_bits` compares with.
fn judged(scenario: &str, seed: u64) -> Report {
    let scenario = Scenario::parse(scenario).unwrap();
    let report = Report::of(&scenario, seed, Tier::Paused, Tier::Paused.play(&scenario, seed).unwrap());
    assert!(report.holds(), "{report}");
    for tally in &report.tallies {
        assert!(tally.injected > 0 && tally.seen > 0, "fault {} did not strike, or did not show\n{report}", tally.number);
    }
    report
}

#[test]
fn a_storm_holds_and_its_seed_decides_every_datagram_and_every_event() {
    let (first, again, other) = (judged(STORM, 1), play(STORM, 1), judged(STORM, 2));
    assert_eq!((again.done, again.struck, again.steps() >= 60), (true, 4, true));
    assert!(again.events > 10_000, "only {} datagrams", again.events);
    assert_eq!((first.trace, &first.history), (Some(again.trace), &again.history));
    assert_ne!(first.trace, other.trace);
    assert_ne!(first.history, other.history);
}

/// What one of the processes below prints.
#[test]
#[ignore = "run by `the_trace_is_the_same_in_three_processes`"]
fn one_of_three_processes() {
    let run = play(STORM, 3);
    println!("trace {:016x} {}", run.trace, run.events);
}

#[test]
fn the_trace_is_the_same_in_three_processes() {
    let one = || {
        let arguments = ["--exact", "one_of_three_processes", "--ignored", "--nocapture"];
        let output = std::process::Command::new(std::env::current_exe().unwrap()).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let trace = text.lines().find_map(|line| line.split_once("trace ").map(|(_, trace)| trace.to_owned()));
        trace.unwrap_or_else(|| panic!("no trace came of it: {text}"))
    };
    let traces = [one(), one(), one()];
    assert!(traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
}

/// Every kind of fault that this tier knows strikes, shows, and costs no bit.
#[test]
fn every_fault_strikes_and_shows() {
    let faults = [
        "kind = 'kill', target = 'one', restart = '200ms'",
        "kind = 'kill_host', target = 'one', restart = '200ms'",
        "kind = 'cut', from = 'one', for = '2s'",
        "kind = 'cut', from = 'leader', one_way = true, for = '2s'",
        "kind = 'link', from = 'all', to = 'all', loss = 0.2, for = '2s'",
        "kind = 'link', from = 'all', to = 'all', delay = '100ms', duplicate = 0.2, reorder = '20ms', for = '2s'",
        "kind = 'join', count = 2",
        "kind = 'drain', target = 'one', restart = '200ms'",
        "kind = 'slow', target = 'one', factor = 3, for = '1s'",
        "kind = 'hang', target = 'one', for = '60s'",
        "kind = 'store', mode = 'away', for = '2s'",
        "kind = 'store', mode = 'late', for = '4s'",
        "kind = 'store', mode = 'unknown', for = '2s'",
        "kind = 'store', mode = 'read_only', for = '2s'",
        "kind = 'store', mode = 'full', for = '2s'",
        "kind = 'checkpoint', mode = 'torn'",
        "kind = 'bit_flip', mode = 'update', target = 'one'",
    ];
    for fault in faults {
        let scenario = format!(
            "name = 'one fault'
            cluster = {{ nodes = 4 }}
            workload = {{ steps = 50, lanes = 4, step_time = '100ms', checkpoint_every = 5 }}
            fault = [{{ at = {{ step = 12 }}, {fault} }}]"
        );
        judged(&scenario, 5);
    }
}

/// Where paths are slow from the very start, what members take to meet is round trips, whatever packets their sockets carry: two for
/// the handshake and a half for the word that asks to be let in. Who is started anew gets in as well.
#[test]
fn paths_that_are_slow_from_the_start_keep_nobody_out() {
    let text = "
        name = 'slow from the start'
        workload = { steps = 1000000, lanes = 6, step_time = '5ms', checkpoint_every = 200 }
        cluster = { nodes = 6, nodes_per_host = 3 }
        probe = { end = { storm = '40s', recover_within = '20s' } }
        fault = [
            { at = { t = '0s' }, kind = 'link', from = 'all', to = 'all', delay = '200ms', for = '30s' },
            { at = { step = 3 }, kind = 'kill', target = 'rank=1', restart = '100ms' },
        ]";
    for seed in [11, 21, 38] {
        let report = judged(text, seed);
        let all = |what: &Happening| matches!(what, Happening::Recorded { members, .. } if members.len() == 6);
        let met: Vec<_> = report.history.entries.iter().filter(|entry| all(&entry.what)).map(|entry| entry.at).collect();
        assert_eq!(met.len(), 2, "{report}");
        assert!(met[0] < Duration::from_millis(1100), "they met after {:?}\n{report}", met[0]);
    }
}

/// How slow steps are has no say in whether the rest of a run is played once it is well again: the scenario has.
/// A stream waits for a packet that was lost in front, and some of a thousand links wait long: their packets arrive all the while.
#[test]
fn links_live_through_the_moment_in_which_their_paths_become_bad() {
    let text = "
        name = 'onset'
        workload = { steps = 1000000, lanes = 48, step_time = '800ms', checkpoint_every = 300 }
        cluster = { nodes = 48, nodes_per_host = 4 }
        probe = { end = { storm = '9s', recover_within = '30s' } }
        fault = [
            { at = { step = 1 }, kind = 'link', from = 'all', to = 'all', loss = 0.2, delay = '68ms', for = '5s' },
        ]";
    for seed in [1, 2] {
        let report = judged(text, seed);
        let lost = |what: &Happening| matches!(what, Happening::Lost { .. });
        assert!(!report.history.entries.iter().any(|entry| lost(&entry.what)), "{report}");
    }
}

#[test]
fn a_run_that_is_well_again_is_played_to_its_end_where_that_is_asked_for() {
    let played = |finish: bool| {
        let text = format!(
            "name = 'rest'
            cluster = {{ nodes = 3 }}
            workload = {{ steps = 200, lanes = 3, step_time = '400ms', checkpoint_every = 50 }}
            probe.end = {{ finish = {finish}, recover_within = '20s' }}
            fault = [{{ at = {{ step = 6 }}, kind = 'kill', target = 'one', restart = '200ms' }}]"
        );
        let (local, sim) = (judged(&text, 3), sim::run(&Scenario::parse(&text).unwrap(), 3, None).unwrap());
        (local.figures.steps, sim.done)
    };
    let (left, finished) = (played(false), played(true));
    assert!(left.0 < 100 && !left.1, "{left:?}");
    assert_eq!(finished, (200, true));
}

#[test]
fn what_one_thread_cannot_have_is_refused_and_the_tier_that_has_it_named() {
    let text = "name = 'x'\nfault = [{ at = { step = 3 }, kind = 'stop', target = 'one', for = '1s' }]";
    let error = Tier::Paused.play(&Scenario::parse(text).unwrap(), 1).unwrap_err().to_string();
    assert!(error.contains("fault 1 (stop)") && error.contains("local tier"), "{error}");
}
