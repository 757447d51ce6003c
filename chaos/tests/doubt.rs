//! Nodes that are there and do not do what they should: they hang, they are slow, they compute wrongly. Real nodes, the ledger.

use std::time::Duration;

use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::coordinator::Care;
use everstep_actors::protocol::ids::Step;
use everstep_actors::protocol::word::Outcome;
use everstep_actors::roles::watchdog::Patience;
use everstep_chaos::ledger::{Altered, Before, Ledger};
use everstep_chaos::local::{Log, Run, Running};

#[derive(Clone, Copy)]
enum Ill {
    /// A lane never comes back.
    Hangs(Step),
    /// Lanes take this much longer.
    Slow(Duration),
    /// A lane loses a sample in this step.
    Wrong(Step),
}

impl Ill {
    fn before(self) -> Before {
        Box::new(move |step, batch| match self {
            Self::Hangs(at) if step >= at => Box::pin(std::future::pending()),
            Self::Slow(time) => Box::pin(tokio::time::sleep(time)),
            Self::Hangs(_) | Self::Wrong(_) => {
                if matches!(self, Self::Wrong(at) if step == at) {
                    batch.samples.pop();
                }
                Box::pin(std::future::ready(()))
            }
        })
    }
}

fn run(steps: u64, audit_every: u64) -> Run {
    let ms = Duration::from_millis;
    Run {
        ledger: Ledger::new(8, 3, 50, &[700, 33, 1_200]),
        steps: Step(steps),
        checkpoint_every: 50,
        shard_values: 256,
        gathered_values_max: 1_300,
        ranks_min: 1,
        ranks_max: u32::MAX,
        replicas: 1,
        care: Care { audit_every, ..Care::default() },
        patience: Patience { turn: ms(20), lane: ms(600), ..Patience::default() },
    }
}

/// Three nodes, the last of them unwell; how each ended, and what was told.
async fn with(run: &Run, ill: Ill) -> (Vec<Outcome>, Vec<Recorded>, Running3) {
    let folder = tempfile::tempdir().expect("a folder can be had");
    let log = Log::default();
    let mut nodes: Vec<Running> = (0..2).map(|slot| run.start(folder.path(), 3, slot, &log)).collect();
    nodes.push(run.start_with(Altered::new(&run.ledger, ill.before()), folder.path(), 3, 2, &log));
    let odd = nodes[2].id;
    let mut ended = Vec::new();
    for node in nodes {
        ended.push(node.ended().await.expect("a node can be started").outcome);
    }
    let same = run.saved(folder.path()).await == (run.steps, run.ledger.expected(run.steps));
    (ended, log.events(), Running3 { odd, same })
}

/// Who was unwell, and whether the weights are those of a plain loop all the same.
struct Running3 {
    odd: everstep_actors::protocol::ids::NodeId,
    same: bool,
}

fn origins(events: &[Recorded]) -> Vec<String> {
    let from = |event: &Recorded| match &event.event {
        Event::EpochBegan { state_from, .. } => Some(state_from.clone()),
        _ => None,
    };
    events.iter().filter_map(from).collect()
}

/// Heartbeats go on, no word comes: the node itself finds the lane, hands over what it holds, and the others go on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_hangs_is_found_by_its_missing_progress() {
    let run = run(40, 0);
    let (ended, events, of) = with(&run, Ill::Hangs(Step(9))).await;
    assert_eq!(ended, [Outcome::Done, Outcome::Done, Outcome::Lost]);
    assert!(of.same);
    let hung = |event: &Recorded| matches!(&event.event, Event::Hung { node, because } if *node == of.odd && because.contains("hangs"));
    assert!(events.iter().any(hung));
    assert!(!origins(&events).iter().any(|from| from.contains("checkpoint")), "no step was lost: {:?}", origins(&events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_move_away_from_a_slow_rank_and_no_bit_changes() {
    let run = run(120, 0);
    let (ended, events, of) = with(&run, Ill::Slow(Duration::from_millis(40))).await;
    assert_eq!(ended, [Outcome::Done; 3], "slow is no reason to be put out");
    assert!(of.same);
    let lanes = |event: &Recorded| match &event.event {
        Event::EpochBegan { members, because, .. } if because.contains("speed") => {
            members.iter().find(|member| member.node == of.odd).map(|member| member.lanes.1 - member.lanes.0)
        }
        _ => None,
    };
    let after: Vec<u32> = events.iter().filter_map(lanes).collect();
    assert!(after.first().is_some_and(|lanes| *lanes < 2), "it kept its lanes: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_names_the_node_that_computed_wrongly_before_the_step_counts() {
    let run = run(30, 10);
    let (ended, events, of) = with(&run, Ill::Wrong(Step(20))).await;
    assert_eq!(ended, [Outcome::Done, Outcome::Done, Outcome::Lost]);
    assert!(of.same, "the wrong result counted");
    let named = |event: &Recorded| matches!(&event.event, Event::NodeOdd { node, .. } if *node == of.odd);
    assert!(events.iter().any(named));
    assert!(
        !events.iter().any(|event| matches!(&event.event, Event::NodeOdd { node, .. } if *node != of.odd)),
        "a healthy node was accused"
    );
    let audited = |event: &Recorded| match &event.event {
        Event::StepAudited { step, .. } => Some(step.0),
        _ => None,
    };
    // The odd one may have been the leader: the next one audits the step anew.
    assert_eq!(events.iter().filter_map(audited).collect::<Vec<_>>(), [10, 20]);
}
