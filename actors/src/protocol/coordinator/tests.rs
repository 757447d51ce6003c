//! Tables of facts and the acts that must follow.

use std::time::Duration;

use super::*;
use crate::protocol::ids::UnitId;

mod care;
mod end;

const MS: Duration = Duration::from_millis(1);

fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}
fn member(n: u8) -> Member {
    Member::new(node(n), "", &format!("h{n}"), u32::from(n))
}
fn shard(n: u32) -> ShardId {
    ShardId { unit: UnitId(n), index: 0 }
}
fn record(epoch: u64, claim: Claim, members: &[u8]) -> EpochRecord {
    let members: Vec<Member> = members.iter().map(|n| member(*n)).collect();
    EpochRecord {
        epoch: Epoch(epoch),
        nonce: format!("x{epoch}"),
        leader: node(0),
        claim,
        members,
        others: Vec::new(),
        because: String::new(),
    }
}
fn rules() -> Rules {
    Rules {
        terms: Terms::default(),
        mixed: false,
        lanes: 4,
        replicas: 1,
        shards: (0..4).map(|n| Shard { id: shard(n), range: 0..10 }).collect(),
        steps: Step(100),
        ranks_start: 4,
        ranks_min: 1,
        ranks_max: 8,
        checkpoint_every: 10,
        grace: Duration::from_secs(5),
        quiet: 300 * MS,
        attempts: 4,
        care: Care::default(),
    }
}

/// A coordinator whose members do what is asked of them.
struct Desk {
    machine: Coordinator,
    now: Duration,
    acts: Vec<Act>,
}

impl Desk {
    fn new(rules: Rules, record: EpochRecord, before: Option<&EpochRecord>) -> Self {
        let (machine, acts) = Coordinator::new(rules, node(0), record, before, Duration::ZERO);
        Self { machine, now: Duration::ZERO, acts }
    }

    /// Four ranks that run step 0 of epoch 2, from the seed.
    fn stepping() -> Self {
        let mut desk = Self::new(rules(), record(1, Claim::Fresh, &[0]), None);
        desk.holdings(0, &[]);
        (1..4).for_each(|n| desk.join(n));
        desk.on(Fact::Created(Creation::Mine));
        (0..4).for_each(|n| desk.holdings(n, &[]));
        desk.on(Fact::Checkpoint(None));
        (0..4).for_each(|n| desk.ready(n));
        desk.acts.clear();
        desk
    }

    fn on(&mut self, fact: Fact) {
        let acts = self.machine.on(self.now, fact);
        self.acts.extend(acts);
    }
    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.on(Fact::Tick);
        self
    }
    fn said(&mut self, n: u8, word: Word) {
        self.on(Fact::Said { from: node(n), word });
    }
    fn join(&mut self, n: u8) {
        self.said(n, Word::Join { member: member(n), terms: Terms::default() });
    }
    fn holdings(&mut self, n: u8, held: &[Held]) {
        let epoch = self.machine.record().epoch;
        self.said(n, Word::Holdings { epoch, held: held.to_vec() });
    }
    fn ready(&mut self, n: u8) {
        let epoch = self.machine.record().epoch;
        self.said(n, Word::Ready { epoch });
    }
    fn lost(&mut self, n: u8, proven: bool) {
        self.on(Fact::Lost { node: node(n), proven, because: "test".into() });
    }
    fn epoch(&self) -> Epoch {
        self.machine.record().epoch
    }
    fn step(&self) -> Step {
        self.machine.flight().map(|(step, _)| step).unwrap()
    }
    fn vote(&mut self, n: u8, digests: Vec<(ShardId, u64)>) {
        let (epoch, step) = (self.epoch(), self.step());
        self.on(Fact::Prepared { from: node(n), epoch, step, digests });
    }
    fn reduce_all(&mut self) {
        let (epoch, step) = (self.epoch(), self.step());
        let members: Vec<NodeId> = self.machine.record().members.iter().map(|member| member.node).collect();
        members.into_iter().for_each(|from| self.on(Fact::Reduced { from, epoch, step }));
    }
    /// All members run a step.
    fn run_step(&mut self) {
        self.reduce_all();
        let members: Vec<u8> = self.machine.record().members.iter().map(|member| member.node.0[0]).collect();
        members.into_iter().for_each(|n| self.vote(n, Vec::new()));
    }
    /// What a member holds at a version by the plan of the epoch.
    fn held(&self, n: u8, step: u64, epoch: u64) -> Vec<Held> {
        let (plan, _) = self.machine.begun().unwrap();
        let rank = self.machine.record().rank_of(node(n)).unwrap();
        let version = Version { step: Step(step), epoch: Epoch(epoch) };
        plan.shards_of(rank).map(|shard| Held { shard, version, digest: 7 }).collect()
    }
    fn created(&self) -> Vec<(u64, Vec<u8>)> {
        let of = |record: &EpochRecord| (record.epoch.0, record.members.iter().map(|member| member.node.0[0]).collect());
        self.acts.iter().filter_map(|act| if let Act::Create(record) = act { Some(of(record)) } else { None }).collect()
    }
    fn begins(&self) -> Option<(u64, Origin)> {
        self.acts.iter().rev().find_map(|act| match act {
            Act::Note(Note::Begun { origin, version, .. }) => Some((version.step.0, *origin)),
            _ => None,
        })
    }
    fn has(&self, what: impl Fn(&Act) -> bool) -> bool {
        self.acts.iter().any(what)
    }
}

#[test]
fn a_fresh_start_waits_for_its_ranks_and_makes_one_epoch_of_them() {
    let mut desk = Desk::new(rules(), record(1, Claim::Fresh, &[0]), None);
    desk.holdings(0, &[]);
    assert!(desk.has(|act| matches!(act, Act::Note(Note::Waiting(why)) if why.contains("3 more of 4"))));
    desk.join(1);
    desk.join(2);
    assert_eq!(desk.created(), []);
    desk.join(3);
    assert_eq!(desk.created(), [(2, vec![0, 1, 2, 3])]);
    desk.on(Fact::Created(Creation::Mine));
    (0..4).for_each(|n| desk.holdings(n, &[]));
    assert!(desk.has(|act| *act == Act::LookForCheckpoint));
    desk.on(Fact::Checkpoint(None));
    assert_eq!(desk.begins(), Some((0, Origin::Seed)));
    (0..4).for_each(|n| desk.ready(n));
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Go { step: Step(0), .. }) if *to == node(3))));
}

#[test]
fn a_start_goes_on_with_fewer_when_the_rest_does_not_come() {
    let mut desk = Desk::new(rules(), record(1, Claim::Fresh, &[0]), None);
    desk.holdings(0, &[]);
    desk.join(1);
    assert_eq!(desk.after(Duration::from_secs(19)).created(), []);
    assert_eq!(desk.after(Duration::from_secs(2)).created(), [(2, vec![0, 1])]);
}

#[test]
fn a_proven_death_ends_the_epoch_at_once_and_silence_a_moment_later() {
    let mut desk = Desk::stepping();
    desk.run_step();
    desk.lost(2, true);
    assert_eq!(desk.created(), [(3, vec![0, 1, 3])]);
    let mut desk = Desk::stepping();
    desk.run_step();
    desk.lost(2, false);
    assert_eq!(desk.created(), []);
    assert_eq!(desk.after(300 * MS).created(), [(3, vec![0, 1, 3])]);
    desk.on(Fact::Created(Creation::Mine));
    let held: Vec<Vec<Held>> = [0, 1, 3].iter().map(|n| Desk::stepping().held(*n, 1, 2)).collect();
    for (n, held) in [0, 1, 3].into_iter().zip(held) {
        desk.holdings(n, &held);
    }
    assert_eq!(desk.begins(), Some((1, Origin::Copies)));
}

#[test]
fn a_death_that_a_process_of_the_same_host_has_seen_counts_as_proven() {
    let mut desk = Desk::new(rules(), record(1, Claim::Releases(vec![node(0)]), &[0, 1, 2]), None);
    desk.machine.record.members[1].host = "h2".into();
    desk.said(0, Word::Ended { epoch: Epoch(1), node: node(2) });
    assert_eq!(desk.created(), [], "another host cannot know");
    desk.said(1, Word::Ended { epoch: Epoch(1), node: node(2) });
    assert_eq!(desk.created(), [(2, vec![0, 1])]);
}

#[test]
fn a_leader_that_is_cut_off_creates_nothing_lets_its_lease_stand_still_and_looks_for_another_one() {
    let mut desk = Desk::stepping();
    desk.run_step();
    (1..4).for_each(|n| desk.lost(n, false));
    desk.after(300 * MS);
    assert_eq!(desk.created(), []);
    assert!(desk.has(|act| *act == Act::Lease(false)));
    assert!(desk.after(700 * MS).has(|act| *act == Act::LookForNewer));
    // It waits twice as long as those who watch its lease.
    assert_eq!(desk.after(Duration::from_millis(8_900)).created(), []);
    desk.on(Fact::Newest(Some((Epoch(3), "another".into()))));
    assert!(desk.has(|act| *act == Act::Deposed) && desk.has(|act| matches!(act, Act::Send(to, Word::Resign { .. }) if *to == node(2))));
    let mut desk = Desk::stepping();
    (1..4).for_each(|n| desk.lost(n, false));
    assert_eq!(desk.after(300 * MS).after(Duration::from_millis(9_800)).created(), [(3, vec![0])]);
}

#[test]
fn a_member_that_comes_back_ends_the_wait_for_copies() {
    let mut desk = Desk::stepping();
    (1..4).for_each(|n| desk.lost(n, false));
    desk.after(300 * MS);
    desk.join(2);
    assert_eq!(desk.created(), [(3, vec![0, 2])]);
}

#[test]
fn a_leader_that_was_overtaken_says_so_to_members_and_to_who_waits() {
    let mut desk = Desk::stepping();
    desk.join(5);
    desk.lost(2, true);
    desk.on(Fact::Created(Creation::Taken));
    assert!(desk.has(|act| *act == Act::Deposed));
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Resign { .. }) if *to == node(1))));
    assert!(desk.has(|act| *act == Act::Send(node(5), Word::NotLeading)));
}

#[test]
fn a_leader_that_stood_still_commits_nothing_before_the_store_has_been_asked() {
    let table = [(None, true), (Some((Epoch(2), "mine".to_owned())), true), (Some((Epoch(3), "another".to_owned())), false)];
    for (newest, commits) in table {
        let mut desk = Desk::stepping();
        desk.reduce_all();
        (0..3).for_each(|n| desk.vote(n, Vec::new()));
        desk.now += Duration::from_secs(7);
        desk.vote(3, Vec::new());
        assert!(!desk.has(|act| matches!(act, Act::Stable { .. })) && desk.has(|act| *act == Act::LookForNewer));
        desk.on(Fact::Newest(newest.clone()));
        assert_eq!(desk.has(|act| matches!(act, Act::Stable { .. })), commits, "{newest:?}");
        assert_eq!(desk.has(|act| *act == Act::Deposed), !commits, "{newest:?}");
    }
}

#[test]
fn newcomers_wait_for_a_steps_end_and_for_each_other() {
    let mut desk = Desk::stepping();
    desk.join(4);
    desk.now += 200 * MS;
    desk.join(5);
    desk.now += 200 * MS;
    desk.run_step();
    assert_eq!(desk.created(), [], "the last one came a moment ago");
    desk.now += 200 * MS;
    desk.run_step();
    assert_eq!(desk.created(), [(3, vec![0, 1, 2, 3, 4, 5])]);
    assert!(desk.has(|act| matches!(act, Act::Stable { step: Step(1), hold: true, .. })));
}

#[test]
fn a_drained_member_hands_over_and_leaves_and_a_drained_leader_resigns() {
    let mut desk = Desk::stepping();
    desk.said(3, Word::Leave { because: "notice".into(), deadline_ms: None });
    desk.run_step();
    assert_eq!(desk.created(), [(3, vec![0, 1, 2])]);
    desk.on(Fact::Created(Creation::Mine));
    for n in 0..4 {
        let held = Desk::stepping().held(n, 1, 2);
        desk.holdings(n, &held);
    }
    (0..3).for_each(|n| desk.ready(n));
    assert!(!desk.has(|act| matches!(act, Act::Send(_, Word::Bye { .. }))));
    desk.run_step();
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { outcome: Outcome::Left, .. }) if *to == node(3))));
    let mut desk = Desk::stepping();
    desk.said(0, Word::Leave { because: "notice".into(), deadline_ms: None });
    desk.run_step();
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Resign { .. }) if *to == node(1))) && desk.has(|act| *act == Act::Deposed));
}

#[test]
fn a_notice_that_runs_out_does_not_wait_for_the_steps_end() {
    let mut desk = Desk::stepping();
    desk.said(3, Word::Leave { because: "notice".into(), deadline_ms: Some(4_000) });
    assert_eq!(desk.after(Duration::from_secs(1)).created(), []);
    assert_eq!(desk.after(Duration::from_millis(1_100)).created(), [(3, vec![0, 1, 2])]);
}

#[test]
fn training_goes_on_while_the_store_is_away_on_a_join_and_the_record_is_found_again() {
    let away = || Creation::Unknown("away".into());
    let mut desk = Desk::stepping();
    desk.join(4);
    desk.now += 400 * MS;
    desk.run_step();
    let Some(Act::Create(asked)) = desk.acts.iter().find(|act| matches!(act, Act::Create(_))).cloned() else { panic!() };
    desk.acts.clear();
    desk.on(Fact::Created(away()));
    assert!(desk.has(|act| matches!(act, Act::Send(_, Word::Go { step: Step(1), .. }))));
    desk.run_step();
    assert_eq!((desk.created(), desk.step()), (vec![], Step(2)), "membership is frozen");
    desk.on(Fact::Newest(Some((Epoch(3), asked.nonce))));
    desk.run_step();
    assert_eq!((desk.created(), desk.epoch()), (vec![], Epoch(3)), "it had been written: nobody asks twice");
}

#[test]
fn a_loss_while_the_store_is_away_waits_for_the_store() {
    let mut desk = Desk::stepping();
    desk.lost(2, true);
    desk.acts.clear();
    desk.on(Fact::Created(Creation::Unknown("away".into())));
    assert!(!desk.has(|act| matches!(act, Act::Send(_, Word::Go { .. }))));
    assert_eq!(desk.after(250 * MS).created(), [(3, vec![0, 1, 3])]);
}

#[test]
fn the_store_counts_only_after_proof_or_patience() {
    for proven in [true, false] {
        let mut desk = Desk::stepping();
        (1..4).for_each(|n| desk.lost(n, proven));
        desk.after(300 * MS);
        if proven {
            // Two of them died while the record without the first was being created.
            assert_eq!(desk.created(), [(3, vec![0, 2, 3])]);
            desk.on(Fact::Created(Creation::Mine));
        } else {
            assert_eq!(desk.created(), []);
            desk.after(Duration::from_secs(10));
        }
        assert_eq!(desk.created().last().map(|(_, members)| members.clone()), Some(vec![0]));
        desk.on(Fact::Created(Creation::Mine));
        let version = Version { step: Step(3), epoch: Epoch(2) };
        desk.holdings(0, &[Held { shard: shard(0), version, digest: 7 }]);
        assert!(desk.has(|act| *act == Act::LookForCheckpoint), "proven: {proven}");
        desk.on(Fact::Checkpoint(Some(Step(20))));
        assert_eq!(desk.begins(), Some((20, Origin::Checkpoint { step: Step(20) })));
    }
}

#[test]
fn a_leader_by_silence_waits_for_who_lives_and_takes_the_newer_of_copies_and_checkpoint() {
    let whole = |step: u64| {
        (0..4).map(|n| Held { shard: shard(n), version: Version { step: Step(step), epoch: Epoch(2) }, digest: 7 }).collect::<Vec<_>>()
    };
    for (copies, saved, begins) in [(5, Some(20), 20), (25, Some(20), 25), (5, None, 5)] {
        let mut desk = Desk::new(rules(), record(9, Claim::Silence, &[0]), Some(&record(8, Claim::Leader, &[1, 2])));
        desk.holdings(0, &whole(copies));
        assert_eq!(desk.begins(), None, "others may hold newer ones");
        desk.after(Duration::from_millis(1_500));
        desk.on(Fact::Created(Creation::Mine));
        desk.holdings(0, &whole(copies));
        desk.on(Fact::Checkpoint(saved.map(Step)));
        assert_eq!(desk.begins().map(|(step, _)| step), Some(begins));
    }
}

#[test]
fn a_step_of_which_copies_differ_runs_again_with_a_judge_and_its_version_never_counts() {
    let mut desk = Desk::stepping();
    desk.reduce_all();
    let (plan, _) = desk.machine.begun().unwrap().clone();
    let place = plan.places[0].clone();
    for n in 0..4u8 {
        let rank = desk.machine.record().rank_of(node(n)).unwrap();
        let digest = if rank == place.owner { 1 } else { 2 };
        desk.vote(n, if place.copies().any(|copy| copy == rank) { vec![(place.shard, digest)] } else { Vec::new() });
    }
    assert!(desk.has(|act| matches!(act, Act::Note(Note::Differ(found)) if found.len() == 1)));
    let version = Version { step: Step(1), epoch: Epoch(2) };
    assert!(desk.has(|act| *act == Act::Send(node(3), Word::Reject { epoch: Epoch(2), version })));
    assert!(!desk.has(|act| matches!(act, Act::Stable { .. })));
    assert_eq!(desk.created(), [(3, vec![0, 1, 2, 3])]);
    desk.on(Fact::Created(Creation::Mine));
    assert!(desk.has(|act| matches!(act, Act::Send(_, Word::Open { rehash: true, .. }))));
    for n in 0..4 {
        let mut held = Desk::stepping().held(n, 0, 0);
        held.extend(Desk::stepping().held(n, 1, 2));
        desk.holdings(n, &held);
    }
    assert_eq!(desk.begins().map(|(step, _)| step), Some(0));
    let (plan, _) = desk.machine.begun().unwrap();
    assert_eq!(plan.places[0].copies().count(), 3);
}

#[test]
fn two_members_that_cannot_reach_each_other_meet_again_once_and_then_one_is_put_out() {
    let mut desk = Desk::stepping();
    desk.said(2, Word::Unmet { epoch: Epoch(2), nodes: vec![node(3)] });
    assert_eq!(desk.after(400 * MS).created(), [(3, vec![0, 1, 2, 3])]);
    desk.on(Fact::Created(Creation::Mine));
    desk.said(3, Word::Unmet { epoch: Epoch(3), nodes: vec![node(2)] });
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { outcome: Outcome::Lost, .. }) if *to == node(3))));
    assert_eq!(desk.created().last(), Some(&(4, vec![0, 1, 2])));
}

/// On a slow path neither end has a link in time: that is one complaint, not two.
#[test]
fn two_that_have_not_met_yet_complain_of_each_other_once() {
    let mut desk = Desk::new(rules(), record(1, Claim::Fresh, &[0]), None);
    desk.holdings(0, &[]);
    (1..4).for_each(|n| desk.join(n));
    desk.on(Fact::Created(Creation::Mine));
    (0..4).for_each(|n| desk.holdings(n, &[]));
    desk.on(Fact::Checkpoint(None));
    desk.acts.clear();
    for (from, about) in [(2, 3), (3, 2)] {
        desk.said(from, Word::Unmet { epoch: Epoch(2), nodes: vec![node(about)] });
    }
    assert!(!desk.has(|act| matches!(act, Act::Send(_, Word::Bye { .. }))));
    assert_eq!(desk.after(400 * MS).created(), [(3, vec![0, 1, 2, 3])]);
}

#[test]
fn whose_word_is_missing_is_named_in_every_stage() {
    let mut desk = Desk::new(rules(), record(5, Claim::Releases(vec![]), &[0, 1]), None);
    assert_eq!(desk.machine.awaited(), [node(0), node(1)]);
    let held: Vec<Held> =
        (0..4).map(|n| Held { shard: shard(n), version: Version { step: Step(7), epoch: Epoch(4) }, digest: 7 }).collect();
    desk.holdings(0, &held);
    assert_eq!(desk.machine.awaited(), [node(1)]);
    desk.holdings(1, &held);
    desk.ready(1);
    assert_eq!(desk.machine.awaited(), [node(0)]);
    desk.ready(0);
    assert_eq!(desk.machine.awaited(), [node(0), node(1)]);
    desk.said(0, Word::Failed { epoch: desk.epoch(), outcome: Outcome::Lost, because: "hangs".into(), fault: None });
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { .. }) if *to == node(0))) && desk.has(|act| *act == Act::Deposed));
}

#[test]
fn who_finds_all_places_taken_stands_by() {
    let mut desk = Desk::stepping();
    desk.machine.rules.ranks_max = 4;
    desk.join(5);
    assert!(desk.has(|act| *act == Act::Note(Note::StandsBy(node(5)))));
    let outside = |desk: &Desk| desk.machine.outside().into_iter().map(|(member, how)| (member.node, how)).collect::<Vec<_>>();
    assert_eq!(outside(&desk), [(node(5), Outside::StandsBy)]);
    assert_eq!(desk.after(Duration::from_secs(1)).created(), []);
    desk.machine.rules.ranks_max = 5;
    assert_eq!(outside(&desk), [(node(5), Outside::Waits)], "there is room for it in the next epoch");
    desk.machine.rules.ranks_max = 4;
    desk.lost(2, true);
    assert_eq!(desk.created(), [(3, vec![0, 1, 3, 5])], "it takes the place that has become free");
}

#[test]
fn what_does_not_get_on_meets_again_and_who_says_nothing_then_is_put_out() {
    let mut desk = Desk::stepping();
    desk.run_step();
    let look = |desk: &mut Desk, seconds: u64| {
        for _ in 0..seconds {
            desk.after(Duration::from_secs(1));
        }
    };
    look(&mut desk, 55);
    assert_eq!(desk.created(), [], "patience");
    look(&mut desk, 10);
    assert_eq!(desk.created(), [(3, vec![0, 1, 2, 3])]);
    desk.on(Fact::Created(Creation::Mine));
    for n in [0, 1, 3] {
        let held = Desk::stepping().held(n, 1, 2);
        desk.holdings(n, &held);
    }
    look(&mut desk, 65);
    assert_eq!(desk.created().last(), Some(&(4, vec![0, 1, 3])));
    assert!(desk.has(|act| matches!(act, Act::Send(to, Word::Bye { .. }) if *to == node(2))));
}

#[test]
fn a_start_with_too_few_ranks_ends_at_once_where_all_steps_are_done() {
    let mut desk = Desk::new(rules(), record(9, Claim::Silence, &[0]), None);
    desk.machine.settle = None;
    desk.holdings(0, &[]);
    assert!(desk.has(|act| *act == Act::LookForCheckpoint));
    desk.on(Fact::Checkpoint(Some(Step(100))));
    assert!(desk.has(|act| matches!(act, Act::Over(Outcome::Done, _))));
    // Where some are left, it waits for its ranks.
    let mut desk = Desk::new(rules(), record(1, Claim::Fresh, &[0]), None);
    desk.holdings(0, &[]);
    desk.on(Fact::Checkpoint(Some(Step(50))));
    assert!(!desk.has(|act| matches!(act, Act::Over(..))) && desk.begins().is_none());
}

#[test]
fn a_leader_with_nothing_after_all_others_died_uses_the_store_at_once() {
    let mut desk = Desk::new(rules(), record(5, Claim::Releases(vec![node(0)]), &[0, 1]), None);
    desk.holdings(0, &[]);
    desk.lost(1, true);
    desk.on(Fact::Created(Creation::Mine));
    desk.holdings(0, &[]);
    assert!(desk.has(|act| *act == Act::LookForCheckpoint), "{:?}", desk.acts);
    desk.on(Fact::Checkpoint(Some(Step(20))));
    assert_eq!(desk.begins(), Some((20, Origin::Checkpoint { step: Step(20) })));
}
