//! Tables of facts and the acts that must follow.

use std::time::Duration;

use super::*;
use crate::protocol::ids::{Rank, Step, UnitId};
use crate::protocol::plan::Place;
use crate::protocol::word::Origin;

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
fn record(epoch: u64, leader: u8, members: &[u8]) -> EpochRecord {
    let members = members.iter().map(|n| member(*n)).collect();
    let nonce = format!("x{epoch}");
    EpochRecord {
        epoch: Epoch(epoch),
        nonce,
        leader: node(leader),
        claim: Claim::Leader,
        members,
        others: Vec::new(),
        because: String::new(),
    }
}
fn lease(epoch: u64, beat: u64) -> Option<LeaseView> {
    Some(LeaseView { epoch: Epoch(epoch), beat, released: false })
}
fn held(n: u32, step: u64, epoch: u64) -> Held {
    Held { shard: shard(n), version: Version { step: Step(step), epoch: Epoch(epoch) }, digest: 7 }
}

/// A node's membership and the acts that it asked for since they were looked at last.
struct Seat {
    machine: Membership,
    now: Duration,
    acts: Vec<Act>,
}

impl Seat {
    fn new(me: u8) -> Self {
        let shards = (0..2).map(shard).collect();
        let settings = Settings { me: member(me), terms: Terms::default(), shards, grace: Duration::from_secs(5), pace: 250 * MS };
        let (machine, acts) = Membership::new(settings);
        Self { machine, now: Duration::ZERO, acts }
    }

    /// A member of epoch 2, led by node 0, with links to all; shard 0 is with nodes 1 and 2, shard 1 with 2 and 3.
    fn following(me: u8) -> Self {
        let mut seat = Self::new(me);
        (0..4).filter(|n| *n != me).for_each(|n| seat.on(Fact::Linked(node(n))));
        seat.said(0, Word::Open { record: record(2, 0, &[0, 1, 2, 3]).into(), rehash: false });
        seat.begin(0, 2);
        seat.acts.clear();
        seat
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
    fn said(&mut self, from: u8, word: Word) {
        self.on(Fact::Said { from: node(from), word });
    }
    fn begin(&mut self, leader: u8, epoch: u64) {
        let places = vec![
            Place { shard: shard(0), owner: Rank(1), replicas: vec![Rank(2)] },
            Place { shard: shard(1), owner: Rank(2), replicas: vec![Rank(3)] },
        ];
        let plan = Plan { lanes: vec![(0, 1); 4], places };
        let beginning = Box::new(Beginning { version: Version::default(), origin: Origin::Seed, plan: plan.into(), moves: Vec::new() });
        self.said(leader, Word::Begin { epoch: Epoch(epoch), beginning });
    }
    fn down(&mut self, n: u8) {
        self.on(Fact::Down { node: node(n), proven: false, because: "test".into() });
    }
    fn has(&self, what: impl Fn(&Act) -> bool) -> bool {
        self.acts.iter().any(what)
    }
    fn created(&self) -> Vec<(u64, Vec<u8>)> {
        let of = |record: &EpochRecord| (record.epoch.0, record.members.iter().map(|member| member.node.0[0]).collect());
        self.acts.iter().filter_map(|act| if let Act::Create(record) = act { Some(of(record)) } else { None }).collect()
    }
}

#[test]
fn the_first_node_creates_the_run_and_the_next_one_joins_it() {
    let mut seat = Seat::new(1);
    assert_eq!(seat.acts, [Act::Look]);
    seat.on(Fact::Seen(None, None));
    assert_eq!(seat.created(), [(1, vec![1])]);
    seat.on(Fact::Created(Creation::Mine));
    assert!(seat.has(|act| matches!(act, Act::Lead(record, None) if record.epoch == Epoch(1))));
    let mut seat = Seat::new(2);
    seat.on(Fact::Seen(Some(record(1, 0, &[0])), lease(1, 1)));
    assert!(seat.has(|act| *act == Act::Dial(member(0))));
    seat.on(Fact::Linked(node(0)));
    assert!(seat.has(|act| matches!(act, Act::Send(to, Word::Join { .. }) if *to == node(0))));
}

#[test]
fn an_unknown_result_of_a_create_is_asked_for_with_the_same_record() {
    let mut seat = Seat::new(1);
    seat.on(Fact::Seen(None, None));
    let Some(Act::Create(first)) = seat.acts.last().cloned() else { panic!("{:?}", seat.acts) };
    seat.on(Fact::Created(Creation::Unknown("away".into())));
    seat.acts.clear();
    assert!(seat.after(250 * MS).has(|act| *act == Act::Create(first.clone())));
}

#[test]
fn who_asks_and_hears_nothing_looks_again_and_asks_the_new_leader() {
    let mut seat = Seat::new(5);
    seat.on(Fact::Seen(Some(record(3, 0, &[0])), lease(3, 1)));
    seat.on(Fact::Linked(node(0)));
    seat.acts.clear();
    assert!(seat.after(Duration::from_secs(3)).has(|act| *act == Act::Look));
    seat.on(Fact::Seen(Some(record(3, 0, &[0])), lease(3, 9)));
    assert!(!seat.has(|act| matches!(act, Act::Send(..))), "it still leads: asking twice helps nobody");
    seat.after(Duration::from_secs(3));
    seat.on(Fact::Seen(Some(record(4, 1, &[1])), lease(4, 1)));
    assert!(seat.has(|act| *act == Act::Dial(member(1))));
    seat.said(0, Word::NotLeading);
}

#[test]
fn a_silent_lease_is_taken_over_after_the_grace_and_a_released_one_at_once() {
    let mut seat = Seat::new(5);
    let newest = || Some(record(7, 0, &[0, 1]));
    for beat in [1, 2] {
        seat.on(Fact::Seen(newest(), lease(7, beat)));
        seat.on(Fact::Unreachable(node(0)));
        seat.now += Duration::from_secs(4);
    }
    seat.on(Fact::Seen(newest(), lease(7, 2)));
    assert_eq!(seat.created(), [], "it moved four seconds ago");
    seat.now += Duration::from_secs(1);
    seat.on(Fact::Seen(newest(), lease(7, 2)));
    assert_eq!(seat.created(), [(8, vec![5])]);
    let mut seat = Seat::new(5);
    seat.on(Fact::Seen(newest(), Some(LeaseView { epoch: Epoch(7), beat: 3, released: true })));
    assert_eq!(seat.created(), [(8, vec![5])]);
}

#[test]
fn a_lost_leader_is_followed_by_the_first_in_line_with_a_full_copy() {
    let mut first = Seat::following(1);
    first.down(0);
    assert_eq!(first.acts[0], Act::Fence(Epoch(2)));
    first.on(Fact::Held(vec![held(0, 4, 2)]));
    assert_eq!(first.after(500 * MS).created(), [], "shard 1 is with others");
    first.said(3, Word::Release { epoch: Epoch(2), held: vec![held(1, 4, 2)] });
    assert_eq!(first.created(), [(3, vec![1, 3])]);
    let mut second = Seat::following(2);
    second.down(0);
    second.on(Fact::Held(vec![held(0, 4, 2), held(1, 4, 2)]));
    assert!(second.has(|act| matches!(act, Act::Send(to, Word::Release { .. }) if *to == node(1))), "it releases to the first");
    assert_eq!(second.after(500 * MS).created(), [], "the first in line has its turn");
    assert_eq!(second.after(400 * MS).created(), [(3, vec![2])], "and has not come");
}

#[test]
fn who_was_overtaken_leads_on_no_more_and_looks_for_the_new_leader() {
    let mut seat = Seat::following(2);
    seat.down(0);
    seat.down(1);
    seat.on(Fact::Held(vec![held(0, 4, 2), held(1, 4, 2)]));
    assert_eq!(seat.after(500 * MS).created().len(), 1);
    seat.acts.clear();
    seat.on(Fact::Created(Creation::Taken));
    assert!(seat.has(|act| *act == Act::Look));
    seat.after(Duration::from_secs(1));
    assert_eq!(seat.created(), []);
    seat.on(Fact::Linked(node(1)));
    seat.on(Fact::Seen(Some(record(3, 1, &[1, 3])), lease(3, 1)));
    assert!(seat.has(|act| matches!(act, Act::Send(to, Word::Join { .. }) if *to == node(1))));
}

#[test]
fn who_released_an_epoch_enters_only_a_newer_one() {
    let mut seat = Seat::following(1);
    seat.down(0);
    seat.acts.clear();
    seat.on(Fact::Linked(node(0)));
    seat.said(0, Word::Open { record: record(2, 0, &[0, 1, 2, 3]).into(), rehash: false });
    assert!(!seat.has(|act| matches!(act, Act::Enter { .. })));
    seat.said(0, Word::Open { record: record(3, 0, &[0, 1]).into(), rehash: false });
    assert!(seat.has(|act| matches!(act, Act::Enter { .. })));
}

/// It was left out of an epoch in which steps may have become stable: its copies prove nothing.
#[test]
fn a_newcomer_does_not_lead_on_from_old_copies_before_its_epoch_has_begun() {
    let whole = || vec![held(0, 4, 2), held(1, 4, 2)];
    for (next, leads) in [(3, true), (4, false)] {
        let mut seat = Seat::following(2);
        seat.said(0, Word::Open { record: record(next, 0, &[0, 1, 2]).into(), rehash: false });
        seat.down(0);
        seat.down(1);
        seat.on(Fact::Held(whole()));
        assert_eq!(seat.after(500 * MS).created().len(), usize::from(leads), "epoch {next} follows epoch 2");
    }
}

#[test]
fn a_leader_that_resigns_hands_over_as_one_of_the_others() {
    let mut seat = Seat::following(1);
    seat.said(0, Word::Resign { epoch: Epoch(2), because: "notice".into() });
    seat.on(Fact::Held(vec![held(0, 4, 2)]));
    // Its own release may come last.
    for n in [2, 3, 0] {
        seat.said(n, Word::Release { epoch: Epoch(2), held: vec![held(1, 4, 2)] });
    }
    let Some(Act::Create(record)) = seat.acts.iter().find(|act| matches!(act, Act::Create(_))) else { panic!("{:?}", seat.acts) };
    assert_eq!(record.members, [member(1), member(2), member(3)]);
    assert_eq!(record.others, [member(0)]);
}

#[test]
fn a_notice_is_told_to_every_new_leader_until_it_is_taken_back() {
    let mut seat = Seat::following(1);
    let told = |seat: &Seat| seat.has(|act| matches!(act, Act::Send(_, Word::Leave { .. })));
    seat.on(Fact::Leave("notice".into(), Some(Duration::from_secs(30))));
    assert!(told(&seat));
    seat.acts.clear();
    seat.said(0, Word::Open { record: record(3, 0, &[0, 1]).into(), rehash: false });
    assert!(told(&seat));
    seat.on(Fact::Stay);
    seat.acts.clear();
    seat.said(0, Word::Open { record: record(4, 0, &[0, 1]).into(), rehash: false });
    assert!(!told(&seat));
    let mut alone = Seat::new(1);
    alone.on(Fact::Leave("notice".into(), None));
    assert!(alone.has(|act| matches!(act, Act::End(Outcome::Left, _))), "it holds nothing");
}

#[test]
fn a_version_of_which_copies_differ_is_erased_at_its_leaders_word_alone() {
    let version = Version { step: Step(5), epoch: Epoch(2) };
    for (from, epoch, erased) in [(0, 2, true), (1, 2, false), (0, 1, false)] {
        let mut seat = Seat::following(2);
        seat.said(from, Word::Reject { epoch: Epoch(epoch), version });
        assert_eq!(seat.has(|act| *act == Act::Reject(version)), erased);
    }
}

#[test]
fn a_proven_death_on_the_same_host_is_told_to_the_leader_at_once() {
    let mut seat = Seat::following(1);
    let dead = |n: u8| Fact::Down { node: node(n), proven: true, because: "exit".into() };
    seat.on(dead(3));
    assert_eq!(seat.acts, [], "it is on another host");
    let mut beside = record(3, 0, &[0, 1, 2]);
    beside.members[2].host = "h1".into();
    seat.said(0, Word::Open { record: beside.into(), rehash: false });
    seat.acts.clear();
    seat.on(dead(2));
    assert_eq!(seat.acts, [Act::Send(node(0), Word::Ended { epoch: Epoch(3), node: node(2) })]);
}

#[test]
fn members_out_of_sight_are_named_to_the_leader() {
    let mut seat = Seat::following(1);
    seat.down(2);
    assert_eq!(seat.acts, [Act::Send(node(0), Word::Unmet { epoch: Epoch(2), nodes: vec![node(2)] })]);
}
