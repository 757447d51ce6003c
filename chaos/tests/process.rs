//! Plans of the process tier: the program itself, killed, stopped and cut off, ends with the bits of a run in which nothing failed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "what helpers unwrap fails the test, and people are told what was skipped")]

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use everstep_chaos::history::Happening;
use everstep_chaos::process;
use everstep_chaos::scenario::Scenario;
use everstep_chaos::sim::Run;

/// What this machine says where it has no namespaces or no small disks.
const CANNOT: [&str; 4] =
    ["namespaces are not allowed", "install nftables", "a small disk cannot be mounted", "no group of processes with a limit of memory"];

/// Held by the run that has the machine.
static ALONE: Mutex<()> = Mutex::new(());

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

/// What came of a scenario of 250 steps, unless it had to be skipped.
fn play(name: &str, text: &str) -> Option<Run> {
    let binary = binary()?;
    let folder = tempfile::tempdir().unwrap();
    let work = "workload = { steps = 250, lanes = 4, samples_per_lane = 4, step_time = '40ms', checkpoint_every = 25 }";
    let mut scenario = Scenario::parse(&format!("name = '{name}'\n{work}\n{text}")).unwrap();
    // However slow the machine is: the state is to be looked at when all is done.
    scenario.probe.end.finish = true;
    // One run at a time: two that share the cores of a small machine are slower than what a run may take to recover. A test that failed leaves no state here.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = match process::play(&scenario, 5, &binary, folder.path()) {
        Err(error) if CANNOT.iter().any(|part| error.to_string().contains(part)) => {
            println!("skipped: {error}");
            return None;
        }
        played => played.unwrap(),
    };
    assert!(run.failure(&scenario, 5).is_none(), "{}", run.failure(&scenario, 5).unwrap());
    let strikes: Vec<String> =
        run.history.entries.iter().filter(|entry| entry.what.name() == "struck").map(|entry| format!("{entry:?}")).collect();
    assert!(run.done && run.struck >= scenario.faults.len(), "{name}: done: {}, strikes:\n{}", run.done, strikes.join("\n"));
    let felt = |strike: &u32| {
        run.history.entries.iter().any(|entry| matches!(&entry.what, Happening::Felt { strike: of, times } if of == strike && *times > 0))
    };
    let unfelt: Vec<u32> = (0..run.struck as u32).filter(|strike| !felt(strike)).collect();
    assert!(unfelt.is_empty(), "{name}: strikes {unfelt:?} touched nothing; all of them:\n{}", strikes.join("\n"));
    println!("{name}: {:.1} s, {} strikes, {} epochs", run.took.as_secs_f32(), run.struck, run.epochs());
    Some(run)
}

/// Steps that became stable while a strike lasted.
fn steps_during(run: &Run, strike: u32) -> usize {
    let entries = run.history.entries.iter().map(|entry| &entry.what);
    let from = entries.skip_while(|what| !matches!(what, Happening::Struck { strike: of, .. } if *of == strike));
    let during = from.take_while(|what| !matches!(what, Happening::Passed { strike: of } if *of == strike));
    during.filter(|what| matches!(what, Happening::Stable { .. })).count()
}

#[test]
fn processes_that_are_killed_and_stopped_end_with_the_same_bits() {
    let _ = play(
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
    let _ = play(
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
    let _ = play(
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
    let run = play(
        "a machine gets another address for a while",
        "
        fault = [{ at = { step = 20 }, kind = 'cut', mode = 'moved', from = 'rank=1', for = '6s' }]
        cluster = { nodes = 3 }",
    );
    let Some(run) = run else { return };
    assert!(steps_during(&run, 0) > 0, "steps go on while a machine has another address");
}

#[test]
fn datagrams_that_are_late_twice_and_out_of_order_put_nobody_out() {
    let _ = play(
        "paths delay, double and reorder",
        "
        fault = [
            { at = { step = 10 }, kind = 'link', from = 'all', to = 'all', delay = '20ms', reorder = '20ms', duplicate = 0.2, for = '6s' },
        ]
        cluster = { nodes = 3 }",
    );
}

#[test]
fn a_store_that_stands_still_holds_up_no_step() {
    let run = play(
        "the store is late and away",
        "
        fault = [
            { at = { step = 10 }, kind = 'store', mode = 'late', for = '6s' },
            { at = { step = 60 }, kind = 'store', mode = 'away', for = '3s' },
        ]
        cluster = { nodes = 3 }",
    );
    let Some(run) = run else { return };
    assert!((0..2).all(|strike| steps_during(&run, strike) > 0), "steps go on while the store stands still");
}

#[test]
fn a_lane_that_hangs_is_found_and_costs_no_bit() {
    let run = play(
        "a lane hangs",
        "
        fault = [{ at = { step = 60 }, kind = 'hang', target = 'rank=1', for = '30s' }]
        cluster = { nodes = 3 }",
    );
    let Some(run) = run else { return };
    let found =
        |what: &Happening| matches!(what, Happening::Note { text } if text.contains("without an end, much longer than ever before"));
    let told: Vec<&Happening> = run.history.entries.iter().map(|entry| &entry.what).filter(|what| is_told(what)).collect();
    assert!(told.iter().any(|what| found(what)), "nobody has found the lane that hangs: {told:#?}");
}

fn is_told(what: &Happening) -> bool {
    matches!(what, Happening::Note { .. } | Happening::Lost { .. } | Happening::Struck { .. } | Happening::Felt { .. })
}

/// No node counts a lane that waits as one at work: only the leader sees that the step does not get on.
#[test]
fn a_lane_that_hangs_where_it_waits_is_found_by_the_leader() {
    let run = play(
        "a lane hangs where it waits",
        "
        fault = [{ at = { step = 60 }, kind = 'hang', mode = 'waiting', target = 'rank=1', for = '90s' }]
        probe = { end = { storm = '200s' } }
        cluster = { nodes = 3 }",
    );
    let Some(run) = run else { return };
    assert!(steps_during(&run, 0) > 0, "steps go on although the lane still hangs");
}

#[test]
fn a_store_that_does_not_tell_what_it_did_costs_no_bit() {
    let run = play(
        "answers of the store are lost while the leader is killed and one comes",
        "
        fault = [
            { at = { step = 30 }, kind = 'store', mode = 'unknown', for = '5s' },
            { at = { step = 40 }, kind = 'kill', target = 'leader' },
            { at = { step = 45 }, kind = 'join', count = 1 },
        ]
        cluster = { nodes = 3, nodes_per_host = 2 }",
    );
    let Some(run) = run else { return };
    let lost = |what: &Happening| matches!(what, Happening::Felt { strike: 0, times } if *times > 4);
    assert!(run.history.entries.iter().any(|entry| lost(&entry.what)), "hardly any answer was lost");
}

/// The kernel's reason is the run's: the launcher sees it, the leader writes it down.
#[test]
fn a_rank_that_the_kernel_ends_for_want_of_memory_costs_no_bit_and_the_reason_is_told() {
    let run = play(
        "a rank gets no more memory",
        "
        fault = [{ at = { step = 60 }, kind = 'oom', target = 'others' }]
        cluster = { nodes = 4, nodes_per_host = 2 }",
    );
    let Some(run) = run else { return };
    let told = |what: &Happening| matches!(what, Happening::Lost { because, .. } if because.contains("out of memory: the kernel"));
    let losses: Vec<&Happening> =
        run.history.entries.iter().map(|entry| &entry.what).filter(|what| matches!(what, Happening::Lost { .. })).collect();
    assert!(losses.iter().any(|what| told(what)), "nobody was told of it: {losses:?}");
}
