//! The simulated tier: replay, storms, deliberate bugs, and a story for each mistake that it found.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

use everstep_chaos::checks::Check;
use everstep_chaos::history::{Happening, Source};
use everstep_chaos::scenario::Scenario;
use everstep_chaos::sim::{self, Bug, Run};

/// A scenario without its heads.
fn scenario(cluster: &str, faults: &str) -> Scenario {
    let text = format!("name = 'story'\n[cluster]\n{cluster}\n[workload]\nsteps = 1000000\n[probe.end]\nrecover_within = '45s'\n{faults}");
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn fault(text: &str) -> String {
    format!("[[fault]]\n{}\n", text.replace("; ", "\n"))
}

/// Plays a story under several seeds; all checks hold and faults strike.
fn holds(cluster: &str, faults: &[&str], look: impl Fn(&Run)) {
    let scenario = scenario(cluster, &faults.iter().map(|text| fault(text)).collect::<String>());
    for seed in 0..8 {
        let run = sim::run(&scenario, seed, None).unwrap();
        assert_eq!(run.failure(&scenario, seed), None);
        look(&run);
    }
}

fn any(run: &Run, what: impl Fn(&Happening) -> bool) -> bool {
    run.history.entries.iter().any(|entry| what(&entry.what))
}

/// The longest time between two steps that were committed, in seconds.
fn longest_pause(run: &Run) -> f64 {
    let times: Vec<f64> = run.history.stable().map(|(place, ..)| run.history.entries[place].at.as_secs_f64()).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

fn from_store(run: &Run) -> bool {
    any(run, |what| matches!(what, Happening::Begun { step, source, .. } if *step > 0 && *source != Source::Copies))
}

// ---- replay ---------------------------------------------------------------------------------------

/// Prints the trace of one seed; the test below starts it in processes of their own.
#[test]
#[ignore = "started by the_trace_of_a_seed_is_the_same_in_three_processes"]
fn trace_of_a_seed() {
    println!("trace {:016x}", sim::run(&sim::draw(7, None), 7, None).unwrap().trace);
}

#[test]
fn the_trace_of_a_seed_is_the_same_in_three_processes() {
    let trace = || {
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program).args(["--ignored", "--exact", "trace_of_a_seed", "--nocapture"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split("trace ").nth(1).unwrap()[..16].to_owned()
    };
    let first = trace();
    assert_eq!([trace(), trace()], [first.clone(), first.clone()]);
    assert_ne!(format!("{:016x}", sim::run(&sim::draw(8, None), 8, None).unwrap().trace), first);
}

#[test]
fn storms_hold_every_check() {
    let mut struck = 0;
    for seed in 0..300 {
        let scenario = sim::draw(seed, None);
        let run = sim::run(&scenario, seed, None).unwrap();
        assert_eq!(run.violations, [], "{}", run.failure(&scenario, seed).unwrap_or_default());
        struck += run.struck;
    }
    assert!(struck > 600, "{struck} faults struck");
}

#[test]
fn a_scenario_whose_faults_never_strike_proves_nothing() {
    let quiet = scenario("nodes = 3", &fault("at = { step = 100000 }; kind = 'kill'; target = 'one'"));
    let run = sim::run(&quiet, 0, None).unwrap();
    assert!(run.failure(&quiet, 0).is_some_and(|text| text.contains("no fault struck")));
}

#[test]
fn real_numbers_are_not_simulated() {
    let nan = scenario("nodes = 3", &fault("at = { step = 1 }; kind = 'nan'; target = 'one'"));
    assert!(sim::run(&nan, 0, None).unwrap_err().to_string().contains("process tier"));
}

// ---- stories --------------------------------------------------------------------------------------

#[test]
fn a_killed_member_costs_no_step_and_little_time() {
    holds(
        "nodes = 4\nnodes_per_host = 4",
        &["at = { step = 9, after = '70ms' }; kind = 'kill'; target = 'others'; restart = '1s'"],
        |run| {
            assert!(any(run, |what| *what == Happening::Died));
        },
    );
    holds("nodes = 4\nnodes_per_host = 4", &["at = { step = 9, after = '70ms' }; kind = 'kill'; target = 'next'"], |run| {
        assert!(!from_store(run) && longest_pause(run) < 0.6, "{}", longest_pause(run));
    });
}

#[test]
fn a_killed_leader_costs_no_step_and_little_time() {
    holds("nodes = 4\nnodes_per_host = 4", &["at = { step = 9, after = '70ms' }; kind = 'kill'; target = 'leader'"], |run| {
        assert!(!from_store(run) && longest_pause(run) < 1.2, "{}", longest_pause(run));
    });
}

#[test]
fn a_leader_that_is_cut_off_takes_no_number_and_the_others_go_on() {
    for cluster in ["nodes = 3", "nodes = 8", "nodes = 3\nreplicas = 2"] {
        holds(cluster, &["at = { step = 9, after = '70ms' }; kind = 'cut'; from = 'leader'; for = '8s'"], |run| {
            assert!(!from_store(run));
        });
    }
    holds("nodes = 5", &["at = { step = 9, after = '70ms' }; kind = 'cut'; from = 'leader'; for = '8s'"], |run| {
        assert!(longest_pause(run) < 3.0, "{}", longest_pause(run));
    });
}

#[test]
fn halves_that_both_hold_all_copies_make_one_history() {
    holds("nodes = 8\nzones = 2", &["at = { step = 9 }; kind = 'cut'; from = 'zone=a'; to = 'zone=b'; for = '6s'"], |run| {
        assert!(!from_store(run));
    });
    holds("nodes = 8", &["at = { step = 9 }; kind = 'cut'; from = '50%'; one_way = true; for = '6s'"], |run| {
        assert!(!from_store(run));
    });
}

#[test]
fn a_stopped_leader_is_fenced_and_comes_back_as_a_member() {
    holds("nodes = 4", &["at = { step = 9 }; kind = 'stop'; target = 'leader'; for = '4s'"], |run| assert!(!from_store(run)));
}

/// All members of an epoch were stopped together, long enough for another node to take over by silence.
#[test]
fn a_leader_that_wakes_commits_nothing_before_it_has_looked_at_the_store() {
    let faults = [
        "at = { step = 5 }; kind = 'kill'; target = 'leader'; restart = '2s'",
        "at = { event = 'begun', nth = 2, after = '180ms' }; kind = 'stop'; target = 'all'; for = '9s'",
        "at = { event = 'begun', nth = 2, after = '300ms' }; kind = 'join'; count = 1",
    ];
    holds("nodes = 3\nreplicas = 2", &faults, |run| assert!(run.steps() > 5));
}

#[test]
fn a_drained_member_and_a_drained_leader_leave_without_loss() {
    for target in ["others", "leader", "next", "n=2"] {
        let drain = format!("at = {{ step = 9, after = '30ms' }}; kind = 'drain'; target = '{target}'; lead = '12s'; restart = '1s'");
        holds("nodes = 4", &[&drain], |run| {
            assert!(!from_store(run));
            assert!(any(run, |what| matches!(what, Happening::Ended { because, .. } if because.starts_with("Left"))));
        });
    }
}

#[test]
fn a_notice_that_is_taken_back_moves_nothing() {
    holds("nodes = 4", &["at = { step = 9 }; kind = 'drain'; target = 'next'; lead = '12s'; cancel = '1ms'"], |run| {
        assert!(!any(run, |what| matches!(what, Happening::Ended { .. })));
    });
}

#[test]
fn leavers_may_go_when_too_few_ranks_stay_for_a_step() {
    holds("nodes = 3\nranks_min = 2", &["at = { step = 3 }; kind = 'drain'; target = 'n=2'; restart = '2s'"], |run| {
        assert!(!from_store(run));
    });
}

#[test]
fn a_hundred_newcomers_make_few_epochs() {
    holds("nodes = 4", &["at = { step = 9 }; kind = 'join'; count = 100"], |run| {
        assert!(run.epochs() <= 6, "{} epochs", run.epochs());
    });
}

/// Question and answer take longer than the leader's word is waited for after a beginning; the newcomer's state comes on the same paths.
#[test]
fn a_newcomer_on_slow_paths_gets_in_while_they_are_slow() {
    let faults = [
        "at = { step = 5 }; kind = 'link'; from = 'all'; to = 'all'; delay = '600ms'; for = '60s'",
        "at = { step = 8 }; kind = 'join'; count = 1",
    ];
    holds("nodes = 4", &faults, |run| {
        let entries = run.history.entries.iter().filter(|entry| entry.at.as_secs() < 50);
        let of_five = |what: &Happening| matches!(what, Happening::Recorded { members, .. } if members.len() == 5);
        let after: Vec<&Happening> = entries.map(|entry| &entry.what).skip_while(|what| !of_five(what)).collect();
        assert!(after.iter().any(|what| matches!(what, Happening::Stable { .. })), "five never made a step together");
        assert!(after.iter().filter(|what| matches!(what, Happening::Recorded { .. })).count() <= 2, "it was let in again and again");
    });
}

/// Nobody has met yet when paths become slow, and one who is started anew comes by them too.
#[test]
fn paths_that_are_slow_from_the_start_keep_nobody_out() {
    for delay in ["200ms", "600ms"] {
        let slow = format!("at = {{ t = '201ms' }}; kind = 'link'; from = 'all'; to = 'all'; delay = '{delay}'; for = '58s'");
        let faults = [slow.as_str(), "at = { t = '20s' }; kind = 'kill'; target = 'next'; restart = '1s'"];
        holds("nodes = 4", &faults, |run| {
            let all: Vec<&Happening> = run.history.entries.iter().map(|entry| &entry.what).collect();
            let slow = all.split(|what| matches!(what, Happening::Passed { .. })).next().unwrap();
            let parts: Vec<&[&Happening]> = slow.split(|what| **what == Happening::Died).collect();
            assert_eq!(parts.len(), 2);
            for part in parts {
                let together = part.iter().skip_while(|what| !matches!(what, Happening::Recorded { members, .. } if members.len() == 4));
                let steps = together.filter(|what| matches!(what, Happening::Stable { .. })).count();
                assert!(steps > 1, "{delay}: four never got on together: {part:#?}");
            }
        });
    }
}

#[test]
fn more_than_ranks_max_stand_by_and_take_over() {
    holds(
        "nodes = 4\nranks_max = 4",
        &["at = { step = 3 }; kind = 'join'; count = 2", "at = { step = 20 }; kind = 'kill'; target = 'next'"],
        |run| {
            assert!(!from_store(run));
        },
    );
}

#[test]
fn a_rank_that_hangs_while_it_beats_is_put_out() {
    for target in ["leader", "next"] {
        holds("nodes = 4", &[&format!("at = {{ step = 9 }}; kind = 'hang'; target = '{target}'; for = '20s'")], |run| {
            assert!(any(run, |what| matches!(what, Happening::Ended { because, .. } if because.contains("its rank hangs"))));
        });
    }
}

#[test]
fn a_host_restarts_a_hundred_times_at_the_same_address() {
    let flap = "at = { step = 5 }; kind = 'kill'; target = 'node=1'; restart = '30ms'; times = 100; every = '400ms'";
    holds("nodes = 4\nnodes_per_host = 2", &[flap], |run| assert!(run.struck >= 90 && !from_store(run), "{}", run.struck));
}

#[test]
fn everything_is_killed_and_resumes_from_the_newest_checkpoint() {
    holds("nodes = 4", &["at = { step = 47, after = '60ms' }; kind = 'kill'; target = 'all'; restart = '1s'"], |run| {
        assert!(from_store(run))
    });
}

#[test]
fn a_damaged_checkpoint_is_set_aside() {
    let faults = [
        "at = { step = 47 }; kind = 'checkpoint'; mode = 'flipped'",
        "at = { step = 48, after = '60ms' }; kind = 'kill'; target = 'all'; restart = '1s'",
    ];
    holds("nodes = 4", &faults, |run| assert!(any(run, |what| matches!(what, Happening::SetAside { .. }))));
}

#[test]
fn training_goes_on_while_the_store_is_away_and_a_newcomer_waits() {
    for mode in ["away", "unknown", "read_only", "late"] {
        let store = format!("at = {{ step = 9 }}; kind = 'store'; mode = '{mode}'; for = '8s'");
        holds("nodes = 4", &[&store, "at = { step = 12 }; kind = 'join'; count = 1"], |run| {
            let pause = longest_pause(run);
            assert!(pause < 2.5, "{mode}: {pause}");
        });
    }
}

#[test]
fn a_step_that_differs_while_the_store_is_away_is_computed_again_in_a_new_epoch() {
    let faults = [
        "at = { step = 9 }; kind = 'join'; count = 1",
        "at = { step = 10 }; kind = 'store'; mode = 'unknown'; for = '4s'",
        "at = { step = 14 }; kind = 'bit_flip'; mode = 'update'; target = 'next'",
    ];
    holds("nodes = 4", &faults, |run| assert!(any(run, |what| matches!(what, Happening::Note { text } if text.contains("differ")))));
}

/// A bad copy of the weights spoils the gradients of all shards: the version of which copies differ counts nowhere.
#[test]
fn a_bit_that_turns_over_leaves_no_trace() {
    for mode in ["copy", "update"] {
        for replicas in [1, 2] {
            let flip = format!("at = {{ step = 9, after = '20ms' }}; kind = 'bit_flip'; mode = '{mode}'; target = 'one'; times = 5");
            holds(&format!("nodes = 5\nreplicas = {replicas}"), &[&flip], |run| assert!(!from_store(run)));
        }
    }
}

#[test]
fn lossy_slow_paths_and_slow_ranks_put_nobody_out() {
    let faults = [
        "at = { step = 2 }; kind = 'link'; from = 'all'; to = 'all'; loss = 0.2; delay = '40ms'; reorder = '200ms'; duplicate = 0.3; for = '30s'",
        "at = { step = 3 }; kind = 'slow'; target = 'one'; factor = 10; for = '20s'",
    ];
    holds("nodes = 6", &faults, |run| assert!(!any(run, |what| matches!(what, Happening::Lost { .. }))));
}

/// Half of eight ranks die at once, ten times: with copies on both halves nothing is lost, with both copies on one half the newest
/// checkpoint is used.
/// QUIC says what is lost again and again: of thousands of links that lose a fifth at once none falls silent.
#[test]
fn thousands_of_links_that_begin_to_lose_packets_put_nobody_out() {
    holds("nodes = 120", &["at = { t = '2s' }; kind = 'link'; from = 'all'; to = 'all'; loss = 0.2; for = '6s'"], |run| {
        assert!(!any(run, |what| matches!(what, Happening::Lost { .. })));
    });
    // The storm that showed it.
    let scenario = sim::draw(90, Some(500));
    assert_eq!(sim::run(&scenario, 90, None).unwrap().failure(&scenario, 90), None);
}

#[test]
fn half_of_the_ranks_die_at_once_ten_times() {
    let half = |zone: &str| format!("at = {{ step = 15 }}; kind = 'kill'; target = '{zone}'; restart = '5s'; times = 10; every = '12s'");
    let cluster = "nodes = 8\nzones = 2";
    let text =
        format!("name = 'half'\n[cluster]\n{cluster}\n[workload]\nsteps = 1000000\n[probe.end]\nstorm = '200s'\nrecover_within = '45s'\n");
    let play = |target: &str| {
        let scenario = Scenario::parse(&format!("{text}{}", fault(&half(target)))).unwrap();
        let run = sim::run(&scenario, 1, None).unwrap();
        assert_eq!(run.failure(&scenario, 1), None);
        assert_eq!(run.struck, 10);
        from_store(&run)
    };
    assert!(!play("zone=b"), "a copy of each shard survives");
    assert!(play("50%"), "both copies of some shard die");
}

// ---- deliberate bugs ------------------------------------------------------------------------------

/// Plays drawn storms until a check fails; the seed and which.
fn caught(bug: Bug, scenario: impl Fn(u64) -> Scenario, seeds: u64) -> Option<(u64, Check)> {
    (0..seeds).find_map(|seed| {
        let scenario = scenario(seed);
        let healthy = sim::run(&scenario, seed, None).unwrap();
        assert_eq!(healthy.violations, [], "{}", healthy.failure(&scenario, seed).unwrap_or_default());
        Some((seed, sim::run(&scenario, seed, Some(bug)).unwrap().violations.first()?.check))
    })
}

/// Members die while bulk streams overtake each other: late words of ended epochs are about.
fn late_words(_: u64) -> Scenario {
    let faults = [
        "at = { step = 2 }; kind = 'link'; from = 'all'; to = 'all'; reorder = '400ms'; duplicate = 0.3; for = '30s'",
        "at = { step = 4 }; kind = 'kill'; target = 'others'; restart = '200ms'; times = 1",
        "at = { step = 8 }; kind = 'kill'; target = 'next'; restart = '200ms'; times = 10; every = '1700ms'",
    ];
    scenario("nodes = 6\nnodes_per_host = 6", &faults.iter().map(|text| fault(text)).collect::<String>())
}

/// A node that computed a wrong result once is stopped with it, and is the only one left with that shard when it wakes.
fn wrong_once(_: u64) -> Scenario {
    let faults = [
        "at = { step = 9 }; kind = 'bit_flip'; mode = 'update'; target = 'rank=1'",
        "at = { event = 'recorded', nth = 3 }; kind = 'cut'; from = 'rank=1'; for = '3s'",
        "at = { step = 10 }; kind = 'kill'; target = 'rank=0'; restart = '9s'",
    ];
    scenario("nodes = 3", &faults.iter().map(|text| fault(text)).collect::<String>())
}

/// All are killed while the second checkpoint is being written.
fn killed_while_saving(_: u64) -> Scenario {
    scenario("nodes = 4", &fault("at = { step = 40, after = '12ms' }; kind = 'kill'; target = 'all'; restart = '1s'"))
}

#[test]
fn deliberate_bugs_are_caught() {
    for (bug, name) in sim::BUGS {
        let began = std::time::Instant::now();
        let found = match bug {
            Bug::EpochUnchecked => caught(bug, late_words, 60),
            Bug::CoverageByStep => caught(bug, wrong_once, 60),
            Bug::PartDeletedEarly => caught(bug, killed_while_saving, 60),
            _ => caught(bug, |seed| sim::draw(seed, None), 1_000),
        };
        println!("{name}: {found:?} after {:.2} s", began.elapsed().as_secs_f64());
        assert!(found.is_some(), "{name} was not caught");
    }
}
