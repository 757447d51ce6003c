//! What counts as an incident, whom it is put down to, and when it ends.

use super::super::fixtures::{committed, ended, epoch, lost, ordered, save_failed, saved, took, waits};
use super::*;

/// Four ranks, ten steps of a second each, from 10 s on.
fn trained() -> Vec<Recorded> {
    let mut events = vec![waits(8_000, "waiting for 1 more of 4 ranks"), epoch(9_000, 1, 0, 4, "4 ranks are there")];
    events.extend((0..10).map(|step| committed(10_000 + 1_000 * step, step, 1)));
    events
}

fn with(more: Vec<Recorded>) -> Vec<Incident> {
    incidents(&[trained(), more].concat())
}

#[test]
fn a_start_and_an_end_in_good_order_are_no_incidents() {
    let more = vec![saved(19_500, 10, 1.0), waits(19_600, "stopping after this step and a checkpoint: x"), ended(20_000, 10, "done")];
    assert_eq!(with(more), []);
    assert_eq!(incidents(&[]), []);
}

#[test]
fn a_loss_lasts_until_the_next_commit_and_knows_its_epoch_and_its_cost() {
    let more = vec![
        lost(22_000, 3, "silent"),
        waits(22_100, "copies are out of sight"),
        epoch(23_000, 2, 8, 3, "r2 was lost: silent"),
        committed(25_000, 8, 2),
        committed(26_000, 9, 2),
        committed(27_000, 10, 2),
    ];
    let all = with(more);
    assert_eq!(all.len(), 1, "{all:?}");
    let Incident { number, kind, start_ms, end_ms, nodes, steps_redone, stalled_s, epochs, events, cause } = &all[0];
    assert_eq!((*number, *kind, *start_ms, *end_ms), (1, IncidentKind::Loss, 22_000, Some(25_000)));
    assert_eq!(
        (nodes.as_slice(), *steps_redone, epochs.as_slice(), *events),
        (["node/n03030303".to_owned()].as_slice(), 2, [2].as_slice(), 3)
    );
    assert!(cause.contains("silent"), "{cause}");
    assert!((stalled_s - 5.0).abs() < 1e-9, "6 s without a commit, one of them the step's own: {stalled_s}");
}

#[test]
fn the_phases_tell_how_long_the_step_after_a_stall_was_itself() {
    let phases = [("compute", 2.0), ("exchange", 0.5)];
    let all = with(vec![lost(22_000, 3, "x"), epoch(23_000, 2, 10, 3, "x"), took(26_000, 10, 2, 7.0, &phases)]);
    assert!((all[0].stalled_s - 4.5).abs() < 1e-9, "{all:?}");
}

#[test]
fn a_wait_that_turns_out_to_be_a_loss_is_called_a_loss() {
    let all = with(vec![waits(21_000, "copies are out of sight"), lost(22_000, 3, "killed"), committed(24_000, 10, 1)]);
    assert_eq!((all.len(), all[0].kind, all[0].start_ms), (1, IncidentKind::Loss, 21_000));
    assert!(all[0].cause.contains("killed"));
}

#[test]
fn an_order_owns_what_comes_of_it() {
    let more = vec![
        ordered(19_500, 4, "drain"),
        committed(20_000, 10, 1),
        epoch(20_500, 2, 11, 3, "r3 leaves: drained"),
        committed(22_500, 11, 2),
        committed(23_500, 12, 2),
    ];
    let all = with(more);
    assert_eq!((all.len(), all[0].kind, all[0].end_ms, all[0].epochs.as_slice()), (1, IncidentKind::Order, Some(22_500), [2].as_slice()));
    assert!(all[0].cause.contains("drain") && (all[0].stalled_s - 1.5).abs() < 1e-9, "{all:?}");
}

#[test]
fn a_pause_lasts_until_it_is_over_although_the_step_in_flight_is_committed() {
    let pause = vec![ordered(19_500, 1, "pause"), committed(20_000, 10, 1)];
    let goes_on = with([pause.clone(), vec![saved(40_000, 10, 0.0)]].concat());
    assert_eq!((goes_on.len(), goes_on[0].end_ms), (1, None));
    assert!((goes_on[0].stalled_s - 20.0).abs() < 1e-9, "{goes_on:?}");
    let over = with([pause, vec![ordered(120_000, 1, "resume"), committed(121_000, 11, 1), committed(122_000, 12, 1)]].concat());
    assert_eq!((over.len(), over[0].end_ms), (1, Some(121_000)));
    assert!((over[0].stalled_s - 100.0).abs() < 1e-9, "{over:?}");
}

#[test]
fn the_same_trouble_again_and_again_is_one_incident() {
    let full = "no space is left for file:///x";
    let mut more = Vec::new();
    for n in 0..5 {
        more.push(save_failed(19_200 + 1_000 * n, 10 + n, full));
        more.push(committed(20_000 + 1_000 * n, 10 + n, 1));
    }
    more.push(save_failed(500_000, 20, full));
    more.push(committed(500_100, 20, 1));
    let all = with(more);
    assert_eq!(
        all.iter().map(|incident| (incident.kind, incident.events)).collect::<Vec<_>>(),
        [(IncidentKind::Checkpoint, 5), (IncidentKind::Checkpoint, 1)]
    );
    assert!(all[0].stalled_s < 1e-9, "training went on: {all:?}");
}

#[test]
fn ranks_that_come_in_are_a_change() {
    let all = with(vec![epoch(19_500, 2, 10, 5, "1 rank comes in"), committed(21_000, 10, 2)]);
    assert_eq!((all.len(), all[0].kind, all[0].cause.as_str()), (1, IncidentKind::Change, "1 rank comes in"));
}

#[test]
fn when_every_process_fails_the_incident_lasts_until_a_step_after_the_restart() {
    let mut more: Vec<Recorded> = (1..=4).map(|n| super::super::fixtures::by(n, ended(20_000, 10, "failed"))).collect();
    more.extend([epoch(100_000, 2, 10, 4, "4 ranks are there"), committed(102_000, 10, 2)]);
    let all = with(more);
    assert_eq!((all.len(), all[0].kind, all[0].end_ms), (1, IncidentKind::Failure, Some(102_000)));
    assert!(all[0].stalled_s < 2.0, "what nobody ran in is no stall: {all:?}");
}

#[test]
fn a_node_that_waits_until_it_is_let_in_holds_nobody_up() {
    let newcomer = super::super::fixtures::by(9, waits(19_100, "until it is let in"));
    assert_eq!(with(vec![newcomer, committed(20_000, 10, 1)]), []);
    assert_eq!(with(vec![waits(19_100, "the store is away"), committed(20_000, 10, 1)]).len(), 1);
}

#[test]
fn an_order_that_was_refused_and_an_order_to_end_are_no_incidents() {
    let mut refused = ordered(19_100, 2, "drain");
    if let Event::Ordered { answer, .. } = &mut refused.event {
        "refused: nobody else holds its shards".clone_into(answer);
    }
    let more = vec![refused, committed(20_000, 10, 1), ordered(20_100, 1, "stop"), committed(21_000, 11, 1), ended(22_000, 12, "stopped")];
    assert_eq!(with(more), []);
}
