//! The screen as people and other programs' tests look at it.

use everstep_actors::protocol::ids::{NodeId, Step};

use super::*;
use crate::views::human::width;
use crate::views::sample::{NOW, id, view};

fn with_run(ranks: u32, change: impl FnOnce(&mut RunView)) -> View {
    let mut view = view(ranks);
    if let Properties::Run(run) = &mut view.items[0].properties {
        change(run);
    }
    view
}

fn saved(step: u64, at_ms: u64) -> Recorded {
    let event = Event::CheckpointSaved { step: Step(step), bytes: 1, seconds: 1.0, stall_ms: 1.0 };
    Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
}

fn lost(at_ms: u64) -> Recorded {
    let event = Event::NodeLost { node: NodeId([7; 16]), rank: Some(2), because: "killed".into(), fault: None };
    Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
}

#[test]
fn the_whole_screen() {
    let (zero, one, seven) = (id(0), id(1), id(7));
    let expected = format!(
        "\
run        demo
step       50 of 400 (12 %), last commit 1.5 s ago
pace       431 images/s
loss       4.100, entropy 6.210
epoch      3, led by {zero}: rank 2 was lost
checkpoint step 40, 1 min 15 s ago
phases     compute 800 ms, data 50 ms, exchange 150 ms
ledger     steps up to 48 are durable
members    2 nodes: 2 in; 2 ranks: 2 computing
answered   by the leader {zero} for the run, as of 02:14:03 UTC
trouble    02:13:03 warning: {seven} (rank 7) was lost: nothing was heard for
           long nothing was heard for long nothing was heard for long nothing
           was heard for long nothing was heard for long nothing was heard for
           long
trouble    02:14:02 warning: n07070707 (rank 2) was lost: killed

RANK  NODE       HOST   PID  LANES  STATE
0     {zero}  box-0  100  0..2   computing
1     {one}  box-1  101  2..4   computing
"
    );
    assert_eq!(status(&view(2), &[lost(NOW - 1000)]), expected);
}

#[test]
fn a_run_that_waits_says_why() {
    let waits = with_run(2, |run| {
        run.waiting = Some("1 of 2 ranks has joined\x1b[31m".into());
        (run.images_per_s, run.leader, run.checkpoint) = (0.0, String::new(), None);
    });
    let items = waits.items.iter().filter(|item| !matches!(item.properties, Properties::Checkpoint(_))).cloned().collect();
    let text = status(&View { items, ..waits }, &[]);
    assert!(text.contains("waiting    1 of 2 ranks has joined [31m\n") && text.contains("checkpoint none yet\n"), "{text}");
    assert!(!text.contains("\npace") && text.contains("epoch      3, led by nobody: rank 2 was lost\n"), "{text}");
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut bare = with_run(2, |run| {
        run.steps = 0;
        run.checkpoint = Some(60);
        run.metrics.clear();
        run.phases.clear();
    });
    let text = status(&bare, &[]);
    assert!(text.contains("step       50, last commit 1.5 s ago\n") && text.contains("checkpoint step 60\n"), "{text}");
    assert!(!text.contains("\nloss") && !text.contains("\nphases"), "{text}");
    // The log knows when it was published.
    assert!(status(&bare, &[saved(60, NOW - 75_000)]).contains("checkpoint step 60, 1 min 15 s ago\n"));
    bare.items.clear();
    assert_eq!(status(&bare, &[]).lines().count(), 1);
}

#[test]
fn who_answers_is_told_when_it_is_not_the_leader() {
    let missing = vec!["node n1 did not answer".to_owned()];
    let alone = View { scope: Scope::Node, missing, ..view(2) };
    let text = status(&alone, &[]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("answered by {} for itself: the leader does not answer, as of 02:14:03 UTC", id(0))), "{text}");
    assert!(text.contains("missing    node n1 did not answer\n"), "{text}");
    assert!(status(&View { scope: Scope::Store, ..view(2) }, &[]).contains("answered   by nobody: this is what the store tells"));
}

#[test]
fn troubles_are_the_last_five_and_none_is_told_twice() {
    let mut events: Vec<Recorded> = (1..=9).map(|n| lost(NOW - 10_000 + n)).collect();
    events.push(saved(1, NOW));
    let mut two = view(2);
    two.items.retain(|item| !matches!(item.properties, Properties::Event(_)));
    two.items.push(Item::of_event(&events[8]));
    let text = status(&two, &events);
    assert_eq!(text.matches("trouble ").count(), 5, "{text}");
    let one = status(&two, &events[8..]);
    assert_eq!(one.matches("trouble ").count(), 1, "{one}");
}

#[test]
fn of_five_hundred_ranks_those_that_are_not_well_are_seen() {
    let mut many = view(500);
    for item in &mut many.items {
        let odd = |number: u32| [7, 433].contains(&number);
        match &item.properties {
            Properties::Node(node) if odd(node.rank.unwrap_or(0)) => item.state = "silent".into(),
            Properties::Node(node) if node.rank == Some(450) => item.state = "draining".into(),
            _ => {}
        }
    }
    let text = status(&many, &[]);
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("RANK")).skip(1).collect();
    assert!(rows[0].starts_with("7 ") && rows[1].starts_with("433 ") && rows[2].starts_with("450 ") && rows[3].starts_with("0 "), "{text}");
    assert!(rows[0].ends_with("silent") && rows[2].ends_with("draining"), "{text}");
    assert_eq!(rows.len(), 21);
    assert_eq!(rows[20], "and 480 more: `everstep get nodes` shows all");
    assert!(text.contains("members    500 nodes: 1 draining, 497 in, 2 silent; 500 ranks: 500 computing\n"), "{text}");
    assert!(text.lines().all(|line| width(line) <= 100), "{text}");
}

#[test]
fn nodes_without_a_rank_and_ranks_without_a_node_are_shown() {
    let mut three = view(3);
    for item in &mut three.items {
        if let Properties::Node(node) = &mut item.properties
            && node.rank == Some(2)
        {
            node.rank = None;
            item.state = "standing by".into();
        }
    }
    three.items.retain(|item| item.reference != "rank/2" && item.reference != format!("node/{}", id(1)));
    let text = status(&three, &[]);
    let row = |start: &str, end: &str| text.lines().any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(row("-     ", "102  -      standing by"), "{text}");
    assert!(row(&format!("1     {}", id(1)), "-      -    2..4   computing"), "{text}");
}
