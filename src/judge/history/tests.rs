//! What was at a moment, from events made by hand.

use everstep_actors::event::Recorded;

use super::super::fixtures::{NOW, by, committed, ended, epoch, lost, node_ref, ordered, saved, waits};
use super::*;

fn story() -> Story {
    let mut events = vec![waits(NOW, "waiting for 1 more of 3 ranks"), epoch(NOW + 10_000, 1, 0, 3, "3 ranks are there")];
    events.extend((0..30).map(|step| committed(NOW + 20_000 + 1_000 * step, step, 1)));
    events.extend([saved(NOW + 31_000, 10, 1.0), lost(NOW + 52_000, 3, "silent"), epoch(NOW + 55_000, 2, 30, 2, "r2 was lost")]);
    events.extend([committed(NOW + 58_000, 30, 2), ordered(NOW + 60_000, 1, "pause"), committed(NOW + 60_500, 31, 2)]);
    events.extend([ordered(NOW + 70_000, 1, "resume"), committed(NOW + 72_000, 32, 2), ended(NOW + 80_000, 33, "stopped")]);
    events.push(by(2, ended(NOW + 80_010, 33, "stopped")));
    Story::of(&events)
}

fn state(after_ms: u64) -> (String, u64, u64) {
    let then = at(&story(), NOW + after_ms, 1_000);
    (then.state, then.step, then.epoch)
}

#[test]
fn each_moment_has_the_state_that_it_had() {
    assert_eq!(at(&story(), NOW - 1, 0).state, "unknown");
    assert_eq!(state(5_000), ("waiting".into(), 0, 0));
    assert_eq!(state(12_000), ("starting".into(), 0, 1));
    assert_eq!(state(25_500), ("training".into(), 6, 1));
    assert_eq!(state(53_000), ("waiting".into(), 30, 1));
    assert_eq!(state(65_000), ("paused".into(), 32, 2), "the step in flight does not end the pause");
    assert_eq!(state(73_000), ("training".into(), 33, 2));
    assert_eq!(state(90_000), ("ended".into(), 33, 2));
}

#[test]
fn a_moment_of_an_incident_knows_it_and_who_was_there() {
    let then = at(&story(), NOW + 53_000, 2_500);
    assert_eq!((then.checkpoint, then.loss, then.leader.as_str()), (Some(10), Some(4.5), node_ref(1).as_str()));
    assert_eq!(then.members.len(), 3);
    assert_eq!(then.incident.as_ref().map(|incident| (incident.number, incident.end_ms)), Some((1, Some(NOW + 58_000))));
    assert_eq!(then.around.len(), 2, "{:?}", then.around);
    let text = then.text();
    let all = text.join("\n");
    assert!(all.contains("at         2026-11-24T12:00:53Z\nstate      waiting\nbecause    n03030303 (rank 2) was lost: silent"), "{all}");
    assert!(
        all.contains("checkpoint step 10, 22 s before")
            && all.contains("incident   1 (loss)")
            && all.contains("12:00:52  warning  n03030303"),
        "{all}"
    );
    assert!(text.iter().all(|line| line.chars().count() <= WIDTH), "{all}");
}

#[test]
fn steps_in_a_row_are_one_line() {
    let text = at(&story(), NOW + 40_000, 5_000).text().join("\n");
    assert!(text.contains("steps 15 to 25 committed by 12:00:45, 11 in all, loss 4.5000 to 4.5000"), "{text}");
    assert!(at(&story(), NOW + 1_000_000, 5).text().join("\n").contains("nothing happened"));
    assert!(at(&Story::default(), 5, 5).text().join("\n").contains("unknown"));
}

#[test]
fn the_timeline_is_a_table_within_the_width() {
    let all = incidents::of(&story());
    let lines = timeline(&all);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[1].contains("2026-11-24T12:00:52Z") && lines[1].contains("loss") && lines[2].contains("order"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
    assert!(timeline(&[]).is_empty());
}

#[test]
fn nodes_that_are_not_in_neither_make_the_run_wait_nor_end_it() {
    let mut events = vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1)];
    events.extend([by(9, waits(NOW + 1_100, "until it is let in")), by(9, ended(NOW + 1_200, 0, "failed"))]);
    let state = |events: &[Recorded]| at(&Story::of(events), NOW + 5_000, 0).state;
    assert_eq!(state(&events), "training");
    events.push(by(2, ended(NOW + 2_000, 1, "failed")));
    assert_eq!(state(&events), "training", "one of two members goes on");
    events.push(ended(NOW + 2_100, 1, "unusable"));
    assert_eq!(state(&events), "ended");
}

#[test]
fn what_does_not_stop_the_run_does_not_change_its_state() {
    let mut stands_by = lost(NOW + 1_100, 9, "gone");
    let Event::NodeLost { rank, .. } = &mut stands_by.event else { panic!("a loss") };
    *rank = None;
    let mut refused = ordered(NOW + 1_200, 1, "pause");
    let Event::Ordered { answer, .. } = &mut refused.event else { panic!("an order") };
    "refused: it is not the leader".clone_into(answer);
    let events = [epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1), stands_by, refused];
    assert_eq!(at(&Story::of(&events), NOW + 5_000, 0).state, "training");
}
