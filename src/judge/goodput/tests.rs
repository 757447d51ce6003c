//! Where rank-seconds go: streams made by hand, and drawn ones whose shares have to sum up.

use super::super::fixtures::{by, committed, ended, epoch, lost, ordered, save_failed, saved, took, waits};
use super::*;

fn spent(goodput: &Goodput, on: &str) -> f64 {
    goodput.shares.iter().filter(|share| share.on == on).map(|share| share.rank_seconds).sum()
}

fn sums_up(goodput: &Goodput) {
    let tenths: u32 = goodput.shares.iter().map(|share| (share.percent * 10.0).round() as u32).sum();
    assert_eq!(tenths, 1_000, "{goodput:?}");
    let seconds: f64 = goodput.shares.iter().map(|share| share.rank_seconds).sum();
    assert!((seconds - goodput.rank_seconds).abs() < 1e-6 * seconds.max(1.0), "{goodput:?}");
}

#[test]
fn phases_are_scaled_to_the_seconds_of_the_step() {
    let phases = [("compute", 0.6), ("exchange", 0.15), ("data", 0.05)];
    let events = [epoch(0, 1, 0, 4, "start"), took(1_000, 0, 1, 1.0, &phases), took(2_000, 1, 1, 1.0, &phases)];
    let goodput = goodput(&events);
    sums_up(&goodput);
    // The first step took 0.8 s of its own, the second all of its second.
    assert!((spent(&goodput, "compute") - 4.0 * (0.6 + 0.75)).abs() < 0.01, "{goodput:?}");
    assert!((spent(&goodput, "starting") - 0.8).abs() < 1e-9);
    assert_eq!((goodput.rank_seconds, goodput.goodput_percent, goodput.steps), (8.0, 90.0, 2));
}

#[test]
fn steps_without_phases_are_told_by_their_wait() {
    let goodput = goodput(&[epoch(0, 1, 0, 2, "start"), committed(1_000, 0, 1), committed(2_000, 1, 1)]);
    assert_eq!((spent(&goodput, "compute"), spent(&goodput, "exchange")), (3.0, 1.0));
}

#[test]
fn a_stall_is_its_incident_s_and_what_is_computed_again_is_redo() {
    let mut events = vec![epoch(0, 1, 0, 4, "start")];
    events.extend((0..10).map(|step| committed(1_000 * (step + 1), step, 1)));
    events.extend([lost(12_000, 4, "killed"), epoch(13_000, 2, 8, 3, "r3 was lost")]);
    events.extend((8..12).map(|step| committed(15_000 + 1_000 * (step - 8), step, 2)));
    let goodput = goodput(&events);
    sums_up(&goodput);
    assert_eq!(spent(&goodput, "redo"), 8.0, "steps 8 and 9 on four ranks");
    assert_eq!(spent(&goodput, "stall"), 3.0 * 4.0 + 1.0 * 3.0, "three seconds on four ranks, one on three");
    assert_eq!((goodput.steps, goodput.steps_redone), (12, 2));
    let text = goodput.text().join("\n");
    assert!(text.contains("stall by incident 1") && text.contains("killed") && text.contains("sum"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn what_happens_between_runs_and_at_their_ends_has_its_own_name() {
    let mut events = vec![waits(0, "waiting for 1 more"), epoch(2_000, 1, 0, 2, "start")];
    events.extend([committed(3_000, 0, 1), committed(4_000, 1, 1), by(2, ended(5_000, 2, "stopped")), ended(5_010, 2, "stopped")]);
    events.extend([epoch(65_000, 2, 2, 2, "again"), committed(67_000, 2, 2), committed(68_000, 3, 2)]);
    let goodput = goodput(&events);
    sums_up(&goodput);
    assert_eq!((spent(&goodput, "nothing running"), spent(&goodput, "ending")), (120.0, 2.0), "{goodput:?}");
    assert_eq!(spent(&goodput, "starting"), 2.0 * 2.0 + 2.0 * 1.0, "the pace tells how long the first step after it took");
    assert_eq!(spent(&goodput, "stall"), 0.0);
}

#[test]
fn ranks_that_are_held_up_for_a_snapshot_are_charged_to_it() {
    let events =
        [epoch(0, 1, 0, 2, "start"), committed(1_000, 0, 1), committed(2_000, 1, 1), saved(2_500, 1, 400.0), committed(3_000, 2, 1)];
    let goodput = goodput(&events);
    sums_up(&goodput);
    assert_eq!(spent(&goodput, "checkpoint"), 0.8);
}

#[test]
fn time_that_nothing_is_said_about_is_not_given_to_anybody() {
    let goodput = goodput(&[epoch(0, 1, 0, 1, "start"), committed(1_000, 0, 1), committed(2_000, 1, 1), committed(60_000, 2, 1)]);
    assert_eq!(spent(&goodput, "untold"), 57.0, "{goodput:?}");
}

#[test]
fn no_events_are_no_time() {
    let none = goodput(&[]);
    assert_eq!((none.shares.len(), none.rank_seconds, none.text().len()), (0, 0.0, 0));
    assert_eq!(goodput(&[committed(5, 0, 1)]).goodput_percent, 0.0);
}

#[test]
fn whatever_happens_the_shares_sum_to_the_whole() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..300 {
        let (mut events, mut at, mut step, mut number) = (Vec::new(), random(1_000_000), 0, 1);
        for _ in 0..random(80) {
            at += random(5) * random(4_000);
            let seconds = random(9_000) as f64 / 1e3;
            let recorded = match random(14) {
                0 => {
                    number += 1;
                    step -= random(4).min(step);
                    epoch(at, number, step, 1 + random(6) as u32, "changed")
                }
                1 => lost(at, 1 + random(6) as u8, "x"),
                2 => waits(at, "y"),
                3 => saved(at, step, random(100_000) as f64),
                4 => save_failed(at, step, "z"),
                5 => ended(at, step, ["done", "stopped", "failed", "left", "unusable"][random(5) as usize]),
                6 => ordered(at, 1, ["pause", "resume", "drain", "kill"][random(4) as usize]),
                7 => took(at, step, number, f64::NAN, &[("compute", f64::INFINITY), ("data", -1.0)]),
                _ => {
                    step += 1;
                    took(at, step, number, seconds, &[("compute", seconds * 0.7), ("exchange", 0.1), ("new", 0.2)][..random(4) as usize])
                }
            };
            events.push(by(1 + random(4) as u8, recorded));
        }
        let goodput = goodput(&events);
        if !goodput.shares.is_empty() {
            sums_up(&goodput);
        }
        let timeline = Timeline::of(&Story::of(&events));
        let whole: u64 = timeline.gaps.iter().flat_map(|gap| &gap.slices).map(super::super::timeline::Slice::ms).sum();
        assert_eq!(whole, goodput.to_ms - goodput.from_ms, "every millisecond lies in one slice");
        let stalled: f64 = goodput.incidents.iter().map(|incident| incident.stalled_s).sum();
        assert!(stalled <= (goodput.to_ms - goodput.from_ms) as f64 / 1e3 + 1e-6, "{goodput:?}");
        assert!(goodput.incidents.iter().all(|incident| incident.end_ms.is_none_or(|end| end >= incident.start_ms)));
    }
}

#[test]
fn a_snapshot_holds_up_the_ranks_of_the_step_after_it() {
    let events =
        [epoch(0, 1, 0, 2, "start"), committed(1_000, 0, 1), epoch(1_000, 2, 1, 4, "more"), committed(2_000, 1, 2), saved(2_500, 1, 400.0)];
    let at_the_end = [epoch(0, 1, 0, 2, "start"), committed(1_000, 0, 1), saved(2_500, 1, 400.0)];
    assert_eq!((spent(&goodput(&events), "checkpoint"), spent(&goodput(&at_the_end), "checkpoint")), (1.6, 0.8));
}

#[test]
fn nothing_runs_once_those_that_were_not_lost_have_failed() {
    let mut events = vec![epoch(0, 1, 0, 3, "start"), committed(1_000, 0, 1), committed(2_000, 1, 1), lost(3_000, 3, "killed")];
    events.extend([ended(4_000, 2, "failed"), by(2, ended(4_000, 2, "failed")), epoch(9_000, 2, 2, 3, "again")]);
    assert_eq!(spent(&goodput(&events), "nothing running"), 15.0);
}
