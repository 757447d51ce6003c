//! Stories of the local tier: real nodes, real QUIC, the ledger, seconds to run.

use std::time::Duration;

use everstep_actors::event::Event;
use everstep_actors::protocol::ids::Step;
use everstep_actors::roles::node::Order;
use everstep_actors::wire::message::Outcome;
use everstep_chaos::ledger::Ledger;
use everstep_chaos::local::Run;

fn run(steps: u64) -> Run {
    Run {
        ledger: Ledger::new(4, 3, 50, &[700, 33, 1_200]),
        steps: Step(steps),
        checkpoint_every: 5,
        shard_values: 256,
        gathered_values_max: 1_300,
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
    let mut nodes: Vec<_> = (0..2).map(|slot| run.start(folder.path(), 2, slot)).collect();
    let leader = until_step(&mut nodes, 7).await;
    nodes[leader].orders.send(Order::Stop { because: "asked to".into() }).await.unwrap();
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

/// A rank that dies ends the others with a sentence that names it, and the run resumes to the same bits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_rank_ends_the_others_with_its_name_and_the_run_resumes() {
    for lose_leader in [false, true] {
        let mut run = run(1_000_000);
        let folder = tempfile::tempdir().unwrap();
        let mut nodes: Vec<_> = (0..3).map(|slot| run.start(folder.path(), 3, slot)).collect();
        let leader = until_step(&mut nodes, 12).await;
        let victim = if lose_leader { leader } else { (leader + 1) % 3 };
        nodes.remove(victim).kill();
        for node in nodes {
            let ended = tokio::time::timeout(Duration::from_secs(10), node.ended()).await.expect("survivors end").unwrap();
            assert_eq!(ended.outcome, Outcome::Lost);
            assert!(ended.because.contains("rank ") && ended.because.contains("was lost"), "{}", ended.because);
        }
        run.steps = Step(run.saved(folder.path()).await.0.0 + 10);
        let ended = run.to_end(folder.path(), 2).await.unwrap();
        assert!(ended.iter().all(|end| end.outcome == Outcome::Done), "{ended:?}");
        assert!(run.saved(folder.path()).await.1 == run.ledger.expected(run.steps), "lose_leader: {lose_leader}");
    }
}

/// The index of the node that leads, once it has committed the step.
async fn until_step(nodes: &mut [everstep_chaos::local::Running], step: u64) -> usize {
    let (seen, mut first) = tokio::sync::mpsc::channel(1);
    for (index, node) in nodes.iter_mut().enumerate() {
        let (_, empty) = tokio::sync::mpsc::channel(1);
        let mut events = std::mem::replace(&mut node.events, empty);
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(recorded) = events.recv().await {
                if matches!(recorded.event, Event::StepCommitted { step: at, .. } if at.0 >= step) {
                    let _ = seen.send(index).await;
                }
            }
        });
    }
    first.recv().await.expect("a node leads and commits")
}
