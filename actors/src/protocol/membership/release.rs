//! The leader is gone: members release its epoch to one of them, who leads the next when a full copy is among them.

use super::*;
use crate::protocol::ids::Rank;

/// How long the first in line waits for releases of members that it has links to, once it has a full copy.
const STRAGGLERS: Duration = Duration::from_millis(500);
/// How much later than the one before it a member further down the line acts.
const IN_LINE: Duration = Duration::from_millis(400);
/// After this long without a new epoch the store is watched: another one may lead, or nobody does.
const WATCH: Duration = Duration::from_millis(500);

impl Membership {
    pub(super) fn release(&mut self, now: Duration, because: String, acts: &mut Vec<Act>) {
        let Some(current) = self.current.as_ref().filter(|_| self.released.is_none()) else { return };
        acts.push(Act::Fence(current.record.epoch));
        self.released = Some(Released { since: now, held: None, told: None, overtaken: false, resigned: false, because });
        acts.push(Act::WakeAt(now + WATCH));
    }

    /// What the copies of the current epoch are judged by: its own plan, or that of the last one that had begun.
    fn judged_by(&self) -> Option<Basis> {
        let Current { record, begun } = self.current.as_ref()?;
        let members = || record.members.iter().map(|member| member.node);
        match begun {
            Some((plan, version)) => {
                Some(Basis { members: members().collect(), among: members().collect(), plan: plan.clone(), version: *version })
            }
            None => self.basis.clone(),
        }
    }

    /// The basis when the next epoch is entered. An epoch in which this node had no rank, or which it never saw, breaks it.
    pub(super) fn basis_at(&self, next: Epoch) -> Option<Basis> {
        let record = &self.current.as_ref()?.record;
        let whole = record.rank_of(self.settings.me.node).is_some() && next.0 == record.epoch.0 + 1;
        self.judged_by().filter(|_| whole)
    }

    /// Members that may lead next, in the order in which they try: by rank, without the leader and those out of sight. Before an
    /// epoch has begun those that are new to it cannot judge who holds what, and stand back.
    fn line(&self) -> impl Iterator<Item = NodeId> + '_ {
        let me = self.settings.me.node;
        self.current.iter().flat_map(move |Current { record, begun }| {
            let there = move |node: &NodeId| *node != record.leader && (*node == me || self.links.contains(node));
            let judges = move |node: &NodeId| match (&self.basis, begun) {
                (_, Some(_)) => true,
                (Some(basis), None) => basis.among.contains(node),
                (None, None) => *node != me,
            };
            record.members.iter().map(|member| member.node).filter(there).filter(judges)
        })
    }

    /// What is due after a release.
    pub(super) fn release_on(&mut self, now: Duration, acts: &mut Vec<Act>) {
        if self.released.as_ref().is_none_or(|released| released.held.is_none()) {
            return;
        }
        let first = self.line().next();
        let (Some(released), Some(current)) = (&mut self.released, &self.current) else { return };
        let Some(held) = released.held.clone() else { return };
        let me = self.settings.me.node;
        let epoch = current.record.epoch;
        if let Some(first) = first.filter(|first| released.told != Some(*first)) {
            released.told = Some(first);
            if first != me {
                acts.push(Act::Send(first, Word::Release { epoch, held: held.clone() }));
            }
        }
        self.releases.insert(me, held);
        let (since, overtaken, resigned) = (released.since, released.overtaken, released.resigned);
        // A leader that leaves is let go by the next epoch, if it is in it.
        let leader = Some(current.record.leader).filter(|leader| resigned && self.links.contains(leader));
        // How many of the line have had their turn: who stands further back than that is not counted, for lines may be long.
        let turns = (now.saturating_sub(since).as_nanos() / IN_LINE.as_nanos()) as u32 + 1;
        let position = self.line().take(turns as usize).position(|node| node == me);
        match position {
            Some(position) => {
                let all = self.line().chain(leader).all(|node| self.releases.contains_key(&node));
                let due = since + IN_LINE * position as u32 + if all { Duration::ZERO } else { STRAGGLERS };
                if now < due {
                    acts.push(Act::WakeAt(due));
                } else if self.creating.is_none() && !overtaken && self.covered() {
                    return self.lead_on(acts);
                }
            }
            None => acts.push(Act::WakeAt(since + IN_LINE * turns)),
        }
        self.watch(now, since, acts);
    }

    /// Whether those who released hold a full copy of the last stable version: a copy of every shard by the plan of the last epoch
    /// that had begun, for all of them had prepared what was stable. In later epochs no step can have been stable.
    fn covered(&self) -> bool {
        let Some(basis) = self.judged_by() else { return false };
        let released = |rank: Rank| basis.members.get(rank.0 as usize).is_some_and(|node| self.releases.contains_key(node));
        let there = basis.plan.places.iter().all(|place| place.copies().any(released));
        there && newest_covered(&self.settings.shards, &self.releases).is_some_and(|found| found.version.step >= basis.version.step)
    }

    fn lead_on(&mut self, acts: &mut Vec<Act>) {
        let (Some(Current { record, .. }), Some(released)) = (self.current.clone(), self.released.clone()) else { return };
        let me = self.settings.me.node;
        let with = |node: NodeId| node == me || (self.releases.contains_key(&node) && self.links.contains(&node));
        let members: Vec<Member> =
            record.members.iter().filter(|member| member.node != record.leader && with(member.node)).cloned().collect();
        // A leader that resigned is still there and hands its shards over.
        let others = record.everyone().filter(|member| member.node == record.leader && with(member.node)).cloned().collect();
        let claim = Claim::Releases(self.releases.keys().copied().collect());
        self.create(Epoch(record.epoch.0 + 1), claim, members, others, released.because, Some(EpochRecord::clone(&record)), acts);
    }

    /// Looks into the store from time to time: another node may have been first, or the lease stands still.
    fn watch(&mut self, now: Duration, since: Duration, acts: &mut Vec<Act>) {
        if self.search.is_none() && now >= since + WATCH && self.creating.is_none() {
            self.seek(acts);
        } else if self.search.is_none() && now < since + WATCH {
            acts.push(Act::WakeAt(since + WATCH));
        }
    }
}
