//! Audits and bad steps.

use super::*;
use crate::protocol::ids::Lane;

impl Desk {
    /// Four ranks that run step 1 of epoch 2 with such care.
    fn careful(care: Care) -> Self {
        let mut desk = Self::stepping();
        desk.machine.rules.care = care;
        desk.run_step();
        desk.acts.clear();
        desk
    }
    /// All members compute the step; the shards come out as `digest`, and each lane's one call gave `given[lane]`.
    fn compute(&mut self, digest: u64, given: [u64; 4]) {
        let (epoch, step) = (self.epoch(), self.step());
        let lanes = given.iter().enumerate().map(|(lane, given)| (lane as u32, vec![(*given, digest)])).collect();
        self.on(Fact::Traces { epoch, step, lanes });
        self.reduce_all();
        let shards: Vec<(ShardId, u64)> = (0..4).map(|n| (shard(n), digest)).collect();
        let members: Vec<u8> = self.machine.record().members.iter().map(|member| member.node.0[0]).collect();
        members.into_iter().for_each(|n| self.vote(n, shards.clone()));
    }
    /// The next epoch begins from step 1's beginning; who runs lane 0 then.
    fn begin_again(&mut self) -> u8 {
        self.on(Fact::Created(Creation::Mine));
        let members: Vec<u8> = self.machine.record().members.iter().map(|member| member.node.0[0]).collect();
        for n in &members {
            let mut held = Self::stepping().held(*n, 1, 2);
            held.extend(Self::stepping().held(*n, 2, 2));
            self.holdings(*n, &held);
        }
        assert_eq!(self.begins().map(|(step, _)| step), Some(1), "the version that is being checked was gone on from");
        members.iter().for_each(|n| self.ready(*n));
        let (plan, _) = self.machine.begun().unwrap();
        members[plan.rank_of(Lane(0)).unwrap().0 as usize]
    }
    fn audited(&self) -> Option<(u32, Vec<NodeId>)> {
        self.acts.iter().find_map(|act| match act {
            Act::Note(Note::Audited { computations, odd, .. }) => Some((*computations, odd.clone())),
            _ => None,
        })
    }
    fn is_stable(&self) -> bool {
        self.has(|act| matches!(act, Act::Stable { step: Step(1), .. }))
    }
}

const AUDIT: Care = Care { audit_every: 1, on_bad_step: OnBadStep::Skip, bad_steps_max: 3 };
const RIGHT: [u64; 4] = [10, 11, 12, 13];

#[test]
fn an_audited_step_counts_when_other_nodes_came_to_the_same() {
    let mut desk = Desk::careful(AUDIT);
    desk.compute(7, RIGHT);
    assert!(!desk.is_stable());
    assert!(desk.has(|act| matches!(act, Act::Send(_, Word::Reject { version, .. }) if version.step == Step(2))));
    assert_eq!(desk.begin_again(), 1, "lanes have moved by one rank");
    desk.compute(7, RIGHT);
    assert!(desk.is_stable());
    assert_eq!(desk.audited(), Some((2, Vec::new())));
}

#[test]
fn a_third_computation_names_who_was_wrong_and_puts_it_out() {
    let mut desk = Desk::careful(AUDIT);
    // Rank 2 computes lane 2 wrongly, and everyone gets another total by that.
    desk.compute(8, [10, 11, 99, 13]);
    desk.begin_again();
    desk.compute(7, RIGHT);
    assert!(!desk.is_stable(), "nobody knows yet who is right");
    assert_eq!(desk.begin_again(), 2);
    desk.compute(7, RIGHT);
    assert!(desk.is_stable());
    assert_eq!(desk.audited(), Some((3, vec![node(2)])));
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { .. }) if *to == node(2))));
    assert_eq!(desk.created().last().unwrap().1, [0, 1, 3]);
}

#[test]
fn a_step_that_never_comes_out_twice_alike_ends_the_run() {
    let mut desk = Desk::careful(AUDIT);
    for digest in 0..4 {
        desk.compute(digest, [digest, 11, 12, 13]);
        if digest < 3 {
            desk.begin_again();
        }
    }
    assert!(desk.has(|act| matches!(act, Act::Over(Outcome::Lost, because) if because.contains("differently 4 times"))));
}

#[test]
fn bad_steps_are_skipped_and_too_many_of_them_end_the_run() {
    let mut desk = Desk::stepping();
    desk.machine.rules.care = Care { audit_every: 0, ..AUDIT };
    for row in 0..3 {
        let (epoch, step) = (desk.epoch(), desk.step());
        desk.on(Fact::Bad { epoch, step, because: "a test says so".into() });
        desk.run_step();
        assert!(desk.has(|act| matches!(act, Act::Note(Note::Skipped(at, _)) if *at == step)), "row {row}");
    }
    assert!(desk.has(|act| matches!(act, Act::Stable { step: Step(2), checkpoint: true, hold: true, .. })));
    desk.on(Fact::Saved(Step(3)));
    assert!(desk.has(|act| matches!(act, Act::Over(Outcome::Unusable, because) if because.contains("3 steps in a row were bad"))));
}

#[test]
fn good_steps_between_bad_ones_keep_the_run_going() {
    let mut desk = Desk::stepping();
    desk.machine.rules.care = Care { audit_every: 0, ..AUDIT };
    for step in 0..12 {
        if step % 3 != 0 {
            desk.on(Fact::Bad { epoch: desk.epoch(), step: desk.step(), because: "a test says so".into() });
        }
        desk.run_step();
    }
    assert!(!desk.has(|act| matches!(act, Act::Over(..))) && desk.step() == Step(12));
}

#[test]
fn a_bad_step_is_checked_by_others_before_it_is_skipped() {
    let mut desk = Desk::careful(Care { audit_every: 0, on_bad_step: OnBadStep::Recheck, bad_steps_max: 3 });
    desk.on(Fact::Bad { epoch: desk.epoch(), step: desk.step(), because: "its loss is 99".into() });
    desk.compute(8, [99, 11, 12, 13]);
    assert!(!desk.is_stable());
    // It comes out otherwise, and well: nothing is skipped once two others agree.
    for _ in 0..2 {
        desk.begin_again();
        desk.compute(7, RIGHT);
    }
    assert!(desk.is_stable());
    assert!(!desk.has(|act| matches!(act, Act::Note(Note::Skipped(..)))));
    assert_eq!(desk.audited(), Some((3, vec![node(0)])));
}
