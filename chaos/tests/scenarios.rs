//! Stories of the local tier: real nodes, real QUIC, the ledger, seconds to run.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::event::{Event, Recorded};
use everstep_actors::net::tls::Identity;
use everstep_actors::protocol::coordinator::Care;
use everstep_actors::protocol::ids::Step;
use everstep_actors::protocol::word::Outcome;
use everstep_actors::roles::node::Order;
use everstep_actors::roles::watchdog::Patience;
use everstep_chaos::checks::Check;
use everstep_chaos::history::Happening;
use everstep_chaos::ledger::Ledger;
use everstep_chaos::local::{self, Log, Run};
use everstep_chaos::scenario::Scenario;

/// What takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(30);

fn run(steps: u64) -> Run {
    Run {
        ledger: Ledger::new(4, 3, 50, &[700, 33, 1_200]),
        steps: Step(steps),
        checkpoint_every: 5,
        shard_values: 256,
        gathered_values_max: 1_300,
        ranks_min: 1,
        ranks_max: u32::MAX,
        replicas: 1,
        care: Care::default(),
        patience: Patience::default(),
    }
}

/// `same_bits` and `samples_once` in small: any number of ranks, the weights of a plain loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_ranks_ends_with_the_weights_of_a_plain_loop() {
    let run = run(12);
    let expected = run.ledger.expected(run.steps);
    for ranks in [1, 2, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        let ended = run.to_end(folder.path(), ranks).await.unwrap();
        assert!(ended.iter().all(|end| end.outcome == Outcome::Done), "{ranks} ranks: {ended:?}");
        let (step, units) = run.saved(folder.path()).await;
        assert_eq!(step, run.steps, "{ranks} ranks");
        assert!(units == expected, "{ranks} ranks: the weights differ from the plain loop's");
    }
}

/// More ranks than lanes: those without lanes own shards and keep in step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranks_without_lanes_keep_in_step() {
    let run = run(8);
    let folder = tempfile::tempdir().unwrap();
    let ended = run.to_end(folder.path(), 6).await.unwrap();
    assert!(ended.iter().all(|end| end.outcome == Outcome::Done), "{ended:?}");
    assert!(run.saved(folder.path()).await.1 == run.ledger.expected(run.steps));
}

/// A run that is stopped in the middle and resumed with another number of ranks has the same bits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_resumed_with_other_ranks_ends_the_same() {
    let mut run = run(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let log = Log::default();
    let nodes: Vec<_> = (0..2).map(|slot| run.start(folder.path(), 2, slot, &log)).collect();
    log.committed(Step(7)).await;
    nodes[0].orders.send(Order::Stop { because: "asked to".into() }).await.unwrap();
    for node in nodes {
        assert_eq!(node.ended().await.unwrap().outcome, Outcome::Stopped);
    }
    let (step, _) = run.saved(folder.path()).await;
    assert!(step >= Step(7) && step < run.steps, "stopped at {step}");
    run.steps = Step(step.0 + 10);
    let ended = run.to_end(folder.path(), 3).await.unwrap();
    assert!(ended.iter().all(|end| end.outcome == Outcome::Done), "{ended:?}");
    assert!(run.saved(folder.path()).await.1 == run.ledger.expected(run.steps));
}

/// Whoever dies, the others go on at the same step, and end with the weights of a run in which nothing failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_rank_or_leader_costs_no_step() {
    for lose_leader in [false, true] {
        let run = run(1_000_000);
        let folder = tempfile::tempdir().unwrap();
        let log = Log::default();
        let mut nodes: Vec<_> = (0..4).map(|slot| run.start(folder.path(), 4, slot, &log)).collect();
        let leader = log.committed(Step(12)).await;
        let victim = nodes.iter().position(|node| (node.id == leader) == lose_leader).unwrap();
        nodes.remove(victim).kill();
        log.until("a step from copies", step_from_copies).await;
        stops_with_the_bits_of_a_plain_loop(&run, folder.path(), nodes).await;
        no_step_was_run_from_a_checkpoint(&log);
    }
}

/// A step of an epoch that went on from copies.
fn step_from_copies(events: &[Recorded]) -> Option<()> {
    let from_copies = |event: &Event| match event {
        Event::EpochBegan { state_from, epoch, .. } if state_from == "copies" => Some(*epoch),
        _ => None,
    };
    let epochs: Vec<_> = events.iter().filter_map(|recorded| from_copies(&recorded.event)).collect();
    events.iter().find_map(|recorded| match &recorded.event {
        Event::StepCommitted { epoch, .. } if epochs.contains(epoch) => Some(()),
        _ => None,
    })
}

/// The run is ordered to stop, however fast this machine is; what it saved is what a plain loop has after as many steps.
async fn stops_with_the_bits_of_a_plain_loop(run: &Run, folder: &Path, nodes: Vec<local::Running>) {
    nodes[0].orders.send(Order::Stop { because: "asked to".into() }).await.unwrap();
    for node in nodes {
        let ended = node.ended().await.unwrap();
        assert_eq!(ended.outcome, Outcome::Stopped, "{ended:?}");
    }
    let (step, units) = run.saved(folder).await;
    assert!(units == run.ledger.expected(step), "other bits after {step} steps");
}

/// A node that comes while the run goes on is taken in, and one that leaves hands over what it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_leave_in_the_middle() {
    for leader_leaves in [false, true] {
        let run = run(1_000_000);
        let folder = tempfile::tempdir().unwrap();
        let log = Log::default();
        let mut nodes: Vec<_> = (0..2).map(|slot| run.start(folder.path(), 2, slot, &log)).collect();
        log.committed(Step(5)).await;
        nodes.push(run.start(folder.path(), 2, 2, &log));
        let leader = log
            .until("three ranks", |events| {
                events.iter().find_map(|event| match &event.event {
                    Event::EpochBegan { members, leader, .. } if members.len() == 3 => Some(*leader),
                    _ => None,
                })
            })
            .await;
        let leaving = nodes.iter().position(|node| (node.id == leader) == leader_leaves).unwrap();
        let leaving = nodes.remove(leaving);
        leaving.orders.send(Order::Leave { because: "its machine is wanted back".into(), deadline: None }).await.unwrap();
        assert_eq!(leaving.ended().await.unwrap().outcome, Outcome::Left, "{}", story(&log));
        log.until("a step from copies", step_from_copies).await;
        stops_with_the_bits_of_a_plain_loop(&run, folder.path(), nodes).await;
        no_step_was_run_from_a_checkpoint(&log);
    }
}

/// A node that stands by knows its leader alone. When a place is free it gets its copies from whoever leaves, whichever of the two
/// is the one that dials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_gets_its_copies_from_one_that_leaves() {
    for spare_dials in [false, true] {
        let run = Run { ranks_max: 2, replicas: 0, ..run(1_000_000) };
        let (folder, log) = (tempfile::tempdir().unwrap(), Log::default());
        let mut identities: Vec<_> = (0..3).map(|_| Run::identity(folder.path())).collect();
        // The lower id dials; the last one here stands by.
        identities.sort_by_key(Identity::id);
        if spare_dials {
            identities.reverse();
        }
        let start = |(slot, identity)| run.start_as(identity, Arc::new(run.ledger.clone()), folder.path(), 2, slot, &log);
        let mut identities = (0..).zip(identities);
        let mut nodes: Vec<_> = identities.by_ref().take(2).map(start).collect();
        let leader = log.committed(Step(5)).await;
        nodes.extend(identities.map(start));
        let stands_by = |event: &Recorded| matches!(event.event, Event::StandsBy { .. }).then_some(());
        log.until("a spare", |events| events.iter().find_map(stands_by)).await;
        let leaving = nodes.iter().position(|node| node.id != leader).unwrap();
        let leaving = nodes.remove(leaving);
        leaving.orders.send(Order::Leave { because: "its machine is wanted back".into(), deadline: None }).await.unwrap();
        let left = tokio::time::timeout(DEADLINE, leaving.ended()).await;
        let left = left.unwrap_or_else(|_| panic!("spare_dials: {spare_dials}: it cannot leave: {}", story(&log)));
        assert_eq!(left.unwrap().outcome, Outcome::Left, "{}", story(&log));
        log.until("a step from copies", step_from_copies).await;
        stops_with_the_bits_of_a_plain_loop(&run, folder.path(), nodes).await;
        no_step_was_run_from_a_checkpoint(&log);
    }
}

/// Everyone dies at once: the same command resumes from the newest checkpoint, with other ranks, to the same bits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_lost_the_run_resumes_from_its_checkpoint() {
    let run = run(80);
    let folder = tempfile::tempdir().unwrap();
    let log = Log::default();
    let nodes: Vec<_> = (0..3).map(|slot| run.start(folder.path(), 3, slot, &log)).collect();
    log.committed(Step(22)).await;
    nodes.into_iter().for_each(local::Running::kill);
    let ended = run.to_end(folder.path(), 2).await.unwrap();
    assert!(ended.iter().all(|end| end.outcome == Outcome::Done), "{ended:?}");
    assert!(run.saved(folder.path()).await == (run.steps, run.ledger.expected(run.steps)));
}

fn no_step_was_run_from_a_checkpoint(log: &Log) {
    let origins = log.events().into_iter().filter_map(|event| match event.event {
        Event::EpochBegan { state_from, .. } => Some(state_from),
        _ => None,
    });
    let later: Vec<String> = origins.filter(|origin| origin != "seed").collect();
    assert!(!later.is_empty() && later.iter().all(|origin| origin == "copies"), "{later:?}");
}

/// Scenarios that take a second or two: the same files play in all tiers.
const TABLE: [(&str, &str); 12] = [
    ("a member and then the leader are killed", "
        fault = [
            { at = { step = 5 }, kind = 'kill', target = 'rank=1', restart = '100ms' },
            { at = { step = 25, after = '3ms' }, kind = 'kill', target = 'leader', restart = '100ms' },
        ]
        cluster = { nodes = 4, nodes_per_host = 4 }"),
    ("a machine goes without a word", "
        fault = [{ at = { step = 8 }, kind = 'kill_host', target = 'host=1', restart = '300ms' }]
        cluster = { nodes = 4, nodes_per_host = 2 }"),
    ("half leave on notice and one stays after all", "
        fault = [
            { at = { step = 5 }, kind = 'drain', target = 'n=1', lead = '20s', cancel = '1ms' },
            { at = { step = 20 }, kind = 'drain', target = '50%', lead = '5s' },
        ]
        cluster = { nodes = 4 }"),
    ("two come", "
        fault = [{ at = { step = 6 }, kind = 'join', count = 2 }]
        cluster = { nodes = 2 }"),
    ("a member stands still for a moment", "
        fault = [{ at = { step = 6 }, kind = 'stop', target = 'rank=1', for = '400ms' }]
        cluster = { nodes = 3 }"),
    ("paths lose, repeat and delay", "
        fault = [{ at = { step = 3 }, kind = 'link', from = 'all', to = 'all', loss = 0.02, duplicate = 0.1, delay = '1ms', reorder = '2ms', for = '500ms' }]
        cluster = { nodes = 3 }"),
    ("a bit turns over while a version is computed", "
        fault = [{ at = { step = 6 }, kind = 'bit_flip', mode = 'update', target = 'rank=1' }]
        cluster = { nodes = 3 }"),
    ("the store refuses, is full and forgets its answers", "
        fault = [
            { at = { step = 4 }, kind = 'store', mode = 'read_only', for = '100ms' },
            { at = { step = 14 }, kind = 'store', mode = 'full', for = '100ms' },
            { at = { step = 24 }, kind = 'store', mode = 'unknown', for = '100ms' },
        ]
        cluster = { nodes = 2 }"),
    ("everyone dies and the newest checkpoint is torn", "
        fault = [
            { at = { event = 'checkpoint_saved', nth = 3, after = '5ms' }, kind = 'checkpoint', mode = 'torn' },
            { at = { event = 'damaged' }, kind = 'kill', target = 'all', restart = '50ms' },
        ]
        cluster = { nodes = 2, nodes_per_host = 2 }"),
    (
        "a member is cut off until it is put out, and comes back",
        "
        fault = [{ at = { step = 6 }, kind = 'cut', from = 'rank=1', for = '1600ms' }]
        cluster = { nodes = 3 }",
    ),
    (
        "nothing that the leader says arrives",
        "
        fault = [{ at = { step = 6 }, kind = 'cut', from = 'leader', one_way = true, for = '1600ms' }]
        cluster = { nodes = 3 }",
    ),
    ("one is slow and one hangs for a while", "
        fault = [
            { at = { step = 4 }, kind = 'slow', target = 'one', factor = 5, for = '100ms' },
            { at = { step = 20 }, kind = 'hang', target = 'one', for = '200ms' },
        ]
        cluster = { nodes = 3 }"),
];

/// Every scenario of the table strikes, ends with the bits of a plain loop, and breaks no check.
#[test]
fn scenarios_play_with_real_nodes() {
    for (name, text) in TABLE {
        let text = format!("name = '{name}'\nworkload = {{ steps = 200, step_time = '5ms', checkpoint_every = 20, shards = 10 }}\n{text}");
        let mut scenario = Scenario::parse(&text).unwrap();
        scenario.probe.end.finish = true;
        let run = local::play(&scenario, 7).unwrap();
        assert!(run.failure(&scenario, 7).is_none(), "{}", run.failure(&scenario, 7).unwrap());
        assert!(run.done && run.struck >= scenario.faults.len(), "{name}: {} strikes, done: {}", run.struck, run.done);
    }
}

/// Handshakes take as long as paths make them: where these are slow from the very start all meet, and who is started anew gets in.
#[test]
fn paths_that_are_slow_from_the_start_keep_nobody_out() {
    let text = "
        name = 'slow from the start'
        workload = { steps = 1000000, step_time = '5ms', checkpoint_every = 200, shards = 10 }
        cluster = { nodes = 3, nodes_per_host = 3 }
        probe = { end = { storm = '40s', recover_within = '20s' } }
        fault = [
            { at = { t = '0s' }, kind = 'link', from = 'all', to = 'all', delay = '200ms', for = '30s' },
            { at = { step = 3 }, kind = 'kill', target = 'rank=1', restart = '100ms' },
        ]";
    let scenario = Scenario::parse(text).unwrap();
    let run = local::play(&scenario, 7).unwrap();
    assert!(run.failure(&scenario, 7).is_none(), "{}", run.failure(&scenario, 7).unwrap());
    let all: Vec<&Happening> = run.history.entries.iter().map(|entry| &entry.what).collect();
    let slow = all.split(|what| matches!(what, Happening::Passed { .. })).next().unwrap();
    let parts: Vec<&[&Happening]> = slow.split(|what| **what == Happening::Died).collect();
    assert_eq!(parts.len(), 2);
    for part in parts {
        let together = part.iter().skip_while(|what| !matches!(what, Happening::Recorded { members, .. } if members.len() == 3));
        assert!({ together }.any(|what| matches!(what, Happening::Stable { .. })), "three never got on together: {part:#?}");
    }
}

/// The checks see what really happened: without a second copy nobody notices a flipped bit but the plain loop.
#[test]
fn a_flipped_bit_that_nobody_votes_against_is_found() {
    let text = "
        name = 'alone'
        workload = { steps = 40, step_time = '2ms', shards = 10 }
        cluster = { nodes = 2, replicas = 0 }
        probe.end.finish = true
        fault = [{ at = { step = 6 }, kind = 'bit_flip', mode = 'update', target = 'rank=1' }]";
    let run = local::play(&Scenario::parse(text).unwrap(), 7).unwrap();
    assert!(run.done && run.violations[0].check == Check::SameBits, "{:?}", run.violations);
}

/// What cannot be had with real nodes is refused before anything starts, with the tier that has it.
#[test]
fn what_real_nodes_cannot_have_is_refused() {
    for (fault, part) in
        [("kind = 'bit_flip', mode = 'copy', target = 'one'", "simulated tier"), ("kind = 'nan', target = 'one'", "program")]
    {
        let text = format!("name = 'refused'\nfault = [{{ at = {{ step = 1 }}, {fault} }}]");
        let error = local::play(&Scenario::parse(&text).unwrap(), 7).unwrap_err().to_string();
        assert!(error.starts_with("fault 1") && error.contains(part), "{error}");
    }
}

/// What happened apart from steps, for who reads why a story went wrong.
fn story(log: &Log) -> String {
    let told = log.events().into_iter().filter(|event| !matches!(event.event, Event::StepCommitted { step, .. } if step.0 % 50 != 0));
    told.map(|event| format!("{event:?}")).collect::<Vec<_>>().join("\n")
}
