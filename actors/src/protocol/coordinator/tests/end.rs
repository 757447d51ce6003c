//! What must be saved when no step follows, and a store that takes nothing.

use super::*;

impl Desk {
    /// The run's one step is done and cannot be saved.
    fn stepping_to_a_full_store() -> Self {
        let mut desk = Self::stepping();
        desk.machine.rules.steps = Step(1);
        desk.run_step();
        desk.on(full(1));
        desk
    }
}

#[test]
fn below_the_least_number_of_ranks_nothing_is_computed_and_the_state_is_saved() {
    let mut desk = short();
    assert!(desk.has(|act| matches!(act, Act::Save(Epoch(5), Step(7)))));
    assert!(!desk.has(|act| matches!(act, Act::Send(_, Word::Go { .. }))));
    desk.join(2);
    assert_eq!(desk.after(300 * MS).created(), [(6, vec![0, 1, 2])]);
}

/// Two of three ranks: the state after 7 steps is to be saved.
fn short() -> Desk {
    let mut desk = Desk::new(Rules { ranks_min: 3, ..rules() }, record(5, Claim::Releases(vec![node(0), node(1)]), &[0, 1]), None);
    let held: Vec<Held> =
        (0..4).map(|n| Held { shard: shard(n), version: Version { step: Step(7), epoch: Epoch(4) }, digest: 7 }).collect();
    (0..2).for_each(|n| desk.holdings(n, &held));
    (0..2).for_each(|n| desk.ready(n));
    desk
}

fn full(step: u64) -> Fact {
    Fact::SaveFailed(Step(step), "no space is left".into())
}

#[test]
fn a_last_checkpoint_that_cannot_be_saved_is_tried_again_until_it_can() {
    let mut desk = Desk::stepping();
    desk.machine.rules.steps = Step(1);
    desk.run_step();
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        desk.acts.clear();
        desk.on(full(1));
        desk.after(Duration::from_secs(pause) - MS);
        assert!(!desk.has(|act| matches!(act, Act::Save(..) | Act::Over(..) | Act::Create(_))));
        assert!(desk.after(MS).has(|act| *act == Act::Save(Epoch(2), Step(1))), "after {pause} s");
    }
    // One that was under way is saved meanwhile: it holds less.
    desk.on(full(1));
    desk.on(Fact::Saved(Step(0)));
    desk.acts.clear();
    assert!(desk.after(Duration::from_secs(60)).has(|act| *act == Act::Save(Epoch(2), Step(1))));
    let told = Desk::stepping_to_a_full_store();
    assert!(told.has(|act| matches!(act, Act::Note(Note::Waiting(why)) if why.contains("no space") && why.contains("stop --now"))));
    desk.on(Fact::Saved(Step(1)));
    assert!(desk.has(|act| matches!(act, Act::Over(Outcome::Done, _))));
}

#[test]
fn who_leaves_a_run_that_waits_for_its_store_hands_over_to_who_stays() {
    let mut desk = Desk::stepping_to_a_full_store();
    let leave = || Word::Leave { because: "notice".into(), deadline_ms: Some(10_000) };
    desk.said(3, leave());
    assert_eq!(desk.created(), [(3, vec![0, 1, 2])]);
    let held: Vec<Vec<Held>> = (0..4).map(|n| desk.held(n, 1, 2)).collect();
    desk.on(Fact::Created(Creation::Mine));
    (0..4).for_each(|n| desk.holdings(n, &held[usize::from(n)]));
    (0..3).for_each(|n| desk.ready(n));
    assert!(desk.has(|act| *act == Act::Save(Epoch(3), Step(1))), "nothing of it is lost: {:?}", desk.acts);
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { outcome: Outcome::Left, .. }) if *to == node(3))), "it may go");
    desk.on(full(1));
    // The rest leaves too, and nobody is there to hand over to: it is held as long as they may.
    let held: Vec<Vec<Held>> = (0..3).map(|n| desk.held(n, 1, 2)).collect();
    [1, 2, 0].into_iter().for_each(|n| desk.said(n, leave()));
    desk.on(Fact::Created(Creation::Mine));
    (0..3).for_each(|n| desk.holdings(n, &held[usize::from(n)]));
    [0, 2].into_iter().for_each(|n| desk.ready(n));
    desk.on(full(1));
    desk.acts.clear();
    desk.after(Duration::from_secs(2));
    assert!(desk.has(|act| *act == Act::Save(Epoch(4), Step(1))) && !desk.has(|act| matches!(act, Act::Over(..))), "{:?}", desk.acts);
    desk.on(Fact::GiveUp);
    assert!(desk.has(|act| matches!(act, Act::Over(Outcome::Stopped, because) if because.contains("no checkpoint is known"))));
}

#[test]
fn the_state_below_the_least_number_of_ranks_is_saved_when_it_can_be() {
    let mut desk = short();
    desk.acts.clear();
    desk.on(full(7));
    assert!(desk.has(|act| matches!(act, Act::Note(Note::Waiting(why)) if why.contains("2 of at least 3") && why.contains("no space"))));
    desk.on(Fact::Pause(false));
    assert!(!desk.has(|act| matches!(act, Act::Save(..))), "not before its time");
    assert!(desk.after(Duration::from_secs(2)).has(|act| *act == Act::Save(Epoch(5), Step(7))));
    // Another checkpoint's fate is none of its business.
    desk.on(Fact::SaveFailed(Step(5), "late".into()));
    desk.on(full(7));
    desk.acts.clear();
    desk.on(Fact::Saved(Step(5)));
    assert!(desk.after(Duration::from_secs(4)).has(|act| *act == Act::Save(Epoch(5), Step(7))), "the one before it holds less");
    desk.on(full(7));
    // Steps follow again: the next checkpoint holds more.
    desk.join(2);
    assert_eq!(desk.after(300 * MS).created(), [(6, vec![0, 1, 2])]);
}
