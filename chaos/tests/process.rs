//! Plans of the process tier: the program itself, killed, stopped and cut off, ends with the bits of a run in which nothing failed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "what helpers unwrap fails the test, and people are told what was skipped")]

use std::path::PathBuf;

use everstep_chaos::process;
use everstep_chaos::scenario::Scenario;

/// The program: as told, or the one beside this test.
fn binary() -> Option<PathBuf> {
    let told = std::env::var_os("EVERSTEP_BINARY").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("everstep"));
    let binary = told.or_else(beside).filter(|path| path.is_file());
    if binary.is_none() {
        println!("skipped: there is no program; build it with `cargo build --release` or name it in EVERSTEP_BINARY");
    }
    binary
}

fn play(name: &str, text: &str) {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let work = "workload = { steps = 250, lanes = 4, samples_per_lane = 4, step_time = '40ms', checkpoint_every = 25 }";
    let scenario = Scenario::parse(&format!("name = '{name}'\n{work}\n{text}")).unwrap();
    let run = match process::play(&scenario, 5, &binary, folder.path()) {
        Err(error) if error.to_string().contains("namespaces are not allowed") => return println!("skipped: {error}"),
        played => played.unwrap(),
    };
    assert!(run.failure(&scenario, 5).is_none(), "{}", run.failure(&scenario, 5).unwrap());
    if std::env::var_os("SHOW").is_some() {
        for entry in &run.history.entries {
            if !matches!(entry.what.name(), "size") { println!("{:.3} {} {:?}", entry.at.as_secs_f32(), entry.who, entry.what); }
        }
    }
    let strikes: Vec<String> =
        run.history.entries.iter().filter(|entry| entry.what.name() == "struck").map(|entry| format!("{entry:?}")).collect();
    assert!(run.done && run.struck >= scenario.faults.len(), "{name}: done: {}, strikes:\n{}", run.done, strikes.join("\n"));
    println!("{name}: {:.1} s, {} strikes, {} epochs", run.took.as_secs_f32(), run.struck, run.epochs());
}

#[test]
fn processes_that_are_killed_and_stopped_end_with_the_same_bits() {
    play(
        "a member is killed, one is stopped, a machine goes",
        "
        fault = [
            { at = { step = 10 }, kind = 'kill', target = 'others' },
            { at = { step = 40 }, kind = 'stop', target = 'rank=1', for = '1s' },
            { at = { step = 70 }, kind = 'kill_host', target = 'leader', restart = '200ms' },
        ]
        cluster = { nodes = 3, nodes_per_host = 2 }",
    );
}

#[test]
fn a_host_that_is_cut_off_comes_back_and_the_bits_are_the_same() {
    play(
        "a host is cut off, paths lose, a node leaves and one comes",
        "
        fault = [
            { at = { step = 20 }, kind = 'cut', from = 'rank=1', for = '3s' },
            { at = { step = 60 }, kind = 'link', from = 'leader', loss = 0.05, for = '1s' },
            { at = { step = 90 }, kind = 'drain', target = 'one', lead = '20s' },
            { at = { step = 100 }, kind = 'join', count = 1 },
        ]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn an_interface_that_goes_down_and_a_slow_process_cost_no_bit() {
    play(
        "an interface goes down, a process is slow",
        "
        fault = [
            { at = { step = 20 }, kind = 'slow', target = 'one', factor = 3, for = '4s' },
            { at = { step = 80 }, kind = 'cut', mode = 'down', from = 'rank=1', for = '3s' },
        ]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn an_address_that_changes_costs_no_bit() {
    play(
        "a machine gets another address for a while",
        "
        fault = [{ at = { step = 20 }, kind = 'cut', mode = 'moved', from = 'rank=1', for = '4s' }]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn datagrams_that_are_late_twice_and_out_of_order_put_nobody_out() {
    play(
        "paths delay, double and reorder",
        "
        fault = [
            { at = { step = 10 }, kind = 'link', from = 'all', to = 'all', delay = '20ms', reorder = '20ms', duplicate = 0.2, for = '6s' },
        ]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn a_store_that_stands_still_costs_no_bit() {
    play(
        "the store is late and away",
        "
        fault = [
            { at = { step = 10 }, kind = 'store', mode = 'late', for = '6s' },
            { at = { step = 60 }, kind = 'store', mode = 'away', for = '3s' },
        ]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn a_lane_that_hangs_costs_no_bit() {
    play(
        "a lane hangs",
        "
        fault = [{ at = { step = 60 }, kind = 'hang', target = 'rank=1', for = '25s' }]
        cluster = { nodes = 3 }",
    );
}
