//! When the next epoch is due, and with whom: newcomers, leavers, losses, failures.

use super::*;

/// How long after a member's first complaint about another one the leader waits: who is silent to one is often dead to all.
const COMPLAINT: Duration = Duration::from_millis(400);
/// How often at most a leader looks whether another one leads.
const LOOK: Duration = Duration::from_millis(500);
/// How long after a member went out of sight others may follow: the span in which heartbeats of one moment are missed.
const FOLLOWING: Duration = Duration::from_millis(300);

impl Coordinator {
    pub(super) fn join(&mut self, now: Duration, member: Member, terms: &Terms, acts: &mut Vec<Act>) {
        if let Some(because) = self.rules.terms.refusal(&member, terms, self.rules.mixed) {
            acts.push(Act::Send(member.node, Word::Refused { because }));
            return;
        }
        let node = member.node;
        if self.absent.remove(&node).is_some() || self.record.includes(node) {
            self.returned.insert(node);
        }
        self.arrival = now;
        self.roster.insert(node, Seat { member, since: now, leaving: None });
        if self.roster.len() > self.rules.ranks_max as usize && self.chosen().iter().all(|member| member.node != node) {
            acts.push(Act::Note(Note::StandsBy(node)));
        }
        if self.record.includes(node) {
            // It was in this epoch and has lost its place in it: its copies count again in the next one.
            let because = format!("{} is back", self.record.name(node));
            self.at_once(now, because, acts);
        }
        if self.stage == Stage::Short && self.settle.is_none() {
            self.next_epoch("a node that may hold copies is there".into(), acts);
        }
    }

    /// Why members change at the next step's end, if they do.
    pub(super) fn change_due(&self, now: Duration) -> Option<String> {
        let leaving = self.roster.iter().filter(|(node, seat)| seat.leaving.is_some() && self.record.rank_of(**node).is_some());
        let mut why: Vec<String> = leaving
            .filter_map(|(node, seat)| Some(format!("{} leaves: {}", self.record.name(*node), seat.leaving.as_ref()?.because)))
            .collect();
        if now < self.frozen_until {
            return None;
        }
        let coming = self.comes();
        // A start waits for its ranks, and not a moment longer; a run that goes on waits until no more of them come.
        let time = if self.begun.is_none() { self.enough(now) } else { now >= self.arrival + self.rules.quiet };
        if coming > 0 && time {
            why.push(format!("{coming} {} in", if coming == 1 { "rank comes" } else { "ranks come" }));
        }
        if self.resolved {
            why.push("its record is in the store by now".into());
        }
        if self.uneven {
            why.push("ranks have become unlike in speed: lanes move".into());
        }
        (!why.is_empty()).then(|| why.join("; "))
    }

    /// Who is let in and not in this epoch, and how: for the next one, as a spare, or on its way out.
    pub fn outside(&self) -> Vec<(Member, Outside)> {
        let outside = self.roster.values().filter(|seat| !self.record.includes(seat.member.node));
        let mut outside: Vec<(Member, Outside)> = outside.map(|seat| (seat.member.clone(), Outside::Waits)).collect();
        if outside.is_empty() {
            return outside;
        }
        let chosen: BTreeSet<NodeId> = self.chosen().iter().map(|member| member.node).collect();
        for (member, how) in &mut outside {
            if self.roster.get(&member.node).is_some_and(|seat| seat.leaving.is_some()) {
                *how = Outside::Leaves;
            } else if !chosen.contains(&member.node) {
                *how = Outside::StandsBy;
            }
        }
        outside
    }

    /// How many would compute in a new epoch that do not in this one.
    pub(super) fn comes(&self) -> usize {
        self.chosen().iter().filter(|member| self.record.rank_of(member.node).is_none()).count()
    }

    /// How many are there whose copies have not been told in this epoch.
    pub(super) fn unheard(&self) -> usize {
        let stand_by = self.returned.iter().filter(|node| self.roster.contains_key(*node) && !self.record.includes(**node));
        self.comes().max(stand_by.count())
    }

    /// Who would compute in a new epoch: members first, then who waits longest; ordered by host and slot.
    fn chosen(&self) -> Vec<Member> {
        let mut seats: Vec<(bool, Duration, &Member)> = self
            .roster
            .iter()
            .filter(|(_, seat)| seat.leaving.is_none())
            .map(|(node, seat)| (self.record.rank_of(*node).is_none(), seat.since, &seat.member))
            .collect();
        seats.sort();
        let mut members: Vec<Member> = seats.into_iter().take(self.rules.ranks_max as usize).map(|(_, _, member)| member.clone()).collect();
        members.sort();
        members
    }

    /// Begins the next epoch with who is there. The leader itself may be leaving: then another one leads.
    pub(super) fn next_epoch(&mut self, because: String, acts: &mut Vec<Act>) {
        self.losing = None;
        let mut members = self.chosen();
        let leaves = self.roster.get(&self.me).is_some_and(|seat| seat.leaving.is_some());
        if members.is_empty() {
            return self.all_leave(because, acts);
        }
        // Others in this epoch lead next; where there are none, newcomers come in first.
        let heir = members.iter().any(|member| member.node != self.me && self.record.rank_of(member.node).is_some());
        if leaves && heir {
            return self.resign(because, acts);
        }
        if leaves {
            members.extend(self.record.everyone().find(|member| member.node == self.me).cloned());
            members.sort();
        }
        let hands_over =
            |member: &&Member| member.node != self.me && self.roster.get(&member.node).is_some_and(|seat| seat.leaving.is_some());
        let mut others: Vec<Member> = self.record.everyone().filter(hands_over).cloned().collect();
        let among = |node: &NodeId| members.iter().chain(&others).any(|member| member.node == *node);
        let stand_by: Vec<NodeId> = self.returned.iter().copied().filter(|node| !among(node)).collect();
        others.extend(stand_by.iter().filter_map(|node| self.roster.get(node)).map(|seat| seat.member.clone()));
        self.created += 1;
        let record = EpochRecord {
            epoch: Epoch(self.record.epoch.0 + 1),
            nonce: format!("{}-{}", self.me, self.created),
            leader: self.me,
            claim: Claim::Leader,
            members,
            others,
            because,
        };
        let (record, lost) = match self.unresolved.take() {
            Some(older) if older.everyone().ne(record.everyone()) => (older, Some(record.because)),
            Some(older) => (older, None),
            None => (record, None),
        };
        let between = self.stage == Stage::Idle;
        self.stage = Stage::Creating { record: record.clone(), between, retry_at: None, lost };
        acts.push(Act::Lease(true));
        if !self.resolved {
            acts.push(Act::Create(record));
        }
    }

    fn all_leave(&mut self, because: String, acts: &mut Vec<Act>) {
        self.stop.get_or_insert(because);
        match &self.begun {
            Some((_, version)) if self.stage == Stage::Idle => self.save_last(version.step, acts),
            Some(_) | None => {
                self.over(Outcome::Lost, "every node is leaving; starting the same command again resumes the run".into(), acts)
            }
        }
    }

    pub(super) fn resign(&mut self, because: String, acts: &mut Vec<Act>) {
        self.stage = Stage::Over;
        let epoch = self.record.epoch;
        for member in self.record.everyone() {
            acts.push(Act::Send(member.node, Word::Resign { epoch, because: because.clone() }));
        }
        // Who waits to be let in has to ask somebody else.
        let waiting = self.roster.keys().filter(|node| **node != self.me && !self.record.includes(**node));
        acts.extend(waiting.map(|node| Act::Send(*node, Word::NotLeading)));
        acts.push(Act::Deposed);
    }

    /// The epoch cannot go on. Without a full copy in sight and without proof that the rest is dead, others may have one: they get
    /// their time, and the lease stands still so that they may lead.
    pub(super) fn at_once(&mut self, now: Duration, because: String, acts: &mut Vec<Act>) {
        if let Stage::Creating { lost, .. } = &mut self.stage {
            *lost = Some(because);
            return;
        }
        self.losing = None;
        let there = |members: &[NodeId], rank: Rank| members.get(rank.0 as usize).is_some_and(|node| self.roster.contains_key(node));
        let whole =
            |(plan, members): &(Arc<Plan>, Vec<NodeId>)| plan.places.iter().all(|place| place.copies().any(|rank| there(members, rank)));
        // Before shards have been placed under this leader, half of the members stand for a full copy.
        let most =
            || self.record.members.iter().filter(|member| self.roster.contains_key(&member.node)).count() * 2 >= self.record.members.len();
        let covered = if self.placed.is_empty() { !self.led || most() } else { self.placed.iter().any(whole) };
        if covered || self.nobody_left(now) {
            self.next_epoch(because, acts);
        } else {
            self.run_short(acts);
        }
    }

    pub(super) fn run_short(&mut self, acts: &mut Vec<Act>) {
        self.stage = Stage::Short;
        acts.push(Act::Lease(false));
        let absent: Vec<String> = self.absent.keys().map(|node| self.record.name(*node)).collect();
        self.wait(&format!("copies of some shards are out of sight; waiting a moment for {}", absent.join(", ")), acts);
        let ready = self.absent.values().filter(|absent| !absent.proven).map(|absent| absent.since + self.patience()).max();
        acts.extend(ready.map(Act::WakeAt));
    }

    /// Whether nobody who may hold copies is out of sight any more: all are proven dead or have had their time.
    pub(super) fn nobody_left(&self, now: Duration) -> bool {
        self.absent.values().all(|absent| absent.proven || now >= absent.since + self.patience())
    }

    /// How long copies out of sight are waited for. Who led them before waits twice as long: it may be the one that is cut off,
    /// and by then the others have seen its lease stand still for the grace period and lead with the copies that they have.
    fn patience(&self) -> Duration {
        self.rules.grace * if self.led { 2 } else { 1 }
    }

    pub(super) fn lost(&mut self, now: Duration, node: NodeId, proven: bool, because: String, acts: &mut Vec<Act>) {
        if let Some(absent) = self.absent.get_mut(&node) {
            absent.proven |= proven;
        }
        if self.roster.remove(&node).is_none() {
            return;
        }
        let pending = matches!(&self.stage, Stage::Creating { record, .. } if record.includes(node));
        if !self.record.includes(node) && !pending {
            return;
        }
        self.absent.insert(node, Absent { since: now, proven });
        acts.push(Act::Note(Note::Lost(node, because.clone())));
        let because = format!("{} was lost: {because}", self.record.name(node));
        // A leader that is cut off loses all others within moments: it must not take the next number before it knows that.
        if proven {
            self.at_once(now, because, acts);
        } else if self.losing.is_none() {
            self.losing = Some((now + FOLLOWING, because));
            acts.push(Act::WakeAt(now + FOLLOWING));
        }
    }

    /// Ends a node's part in the run; it may come back as a new one.
    pub(super) fn put_out(&mut self, now: Duration, node: NodeId, because: String, acts: &mut Vec<Act>) {
        if !self.roster.contains_key(&node) {
            return;
        }
        if node == self.me {
            // Nobody else knows yet how this leader came to its end, and which part of it failed.
            acts.push(Act::Note(Note::Lost(node, because.clone())));
        }
        acts.push(Act::Send(node, Word::Bye { outcome: Outcome::Lost, because: because.clone() }));
        if node == self.me {
            // Its own node ends; the others find their next leader among themselves.
            return self.resign(because, acts);
        }
        self.lost(now, node, false, because, acts);
        // It was decided here: nobody follows.
        if let Some((_, because)) = self.losing.take() {
            self.at_once(now, because, acts);
        }
    }

    pub(super) fn failed(&mut self, now: Duration, from: NodeId, outcome: Outcome, because: String, acts: &mut Vec<Act>) {
        if outcome == Outcome::Unusable {
            return self.over(Outcome::Unusable, because, acts);
        }
        self.attempts += 1;
        if self.attempts >= self.rules.attempts {
            let who = self.record.name(from);
            let because = format!("{} attempts at one step have failed, the last one at {who}: {because}", self.attempts);
            return self.over(Outcome::Lost, because, acts);
        }
        self.put_out(now, from, because, acts);
    }

    /// A member has no link to another one. The first time they meet again in a new epoch; who still cannot be reached
    /// then is put out: whom most complain about, of two the one with the higher rank, never the leader. Of two that have not
    /// met yet both complain, which is once.
    pub(super) fn cannot_reach(&mut self, now: Duration, from: NodeId, nodes: Vec<NodeId>, acts: &mut Vec<Act>) {
        let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| self.roster.contains_key(node) && *node != self.me).collect();
        if from == self.me || nodes.is_empty() || !self.roster.contains_key(&from) {
            return;
        }
        let (epoch, meeting) = (self.record.epoch, matches!(self.stage, Stage::Moving(_)));
        let before = |a, b| self.unmet.get(&(a, b)).is_some_and(|of| *of < epoch || !meeting);
        let again = nodes.iter().any(|node| before(from, *node) || before(*node, from));
        for node in &nodes {
            self.unmet.entry((from, *node)).or_insert(epoch);
        }
        if !again {
            self.complaint = Some((now + COMPLAINT, from, nodes[0]));
            return acts.push(Act::WakeAt(now + COMPLAINT));
        }
        let complaints = |node: &NodeId| self.unmet.keys().filter(|(a, b)| a == node || b == node).count();
        let candidates = nodes.iter().chain(std::iter::once(&from)).copied();
        let Some(out) = candidates.max_by_key(|node| (complaints(node), self.record.rank_of(*node))) else { return };
        self.unmet.retain(|(a, b), _| *a != out && *b != out);
        let because = format!("it and other members cannot reach each other ({} complained)", self.record.name(from));
        self.put_out(now, out, because, acts);
    }

    /// What is due by the passing of time.
    pub(super) fn tick(&mut self, now: Duration, acts: &mut Vec<Act>) {
        if self.unresolved.is_none() && std::mem::take(&mut self.resolved) {
            self.created(now, Creation::Mine, acts);
        }
        if let Stage::Creating { record, retry_at, .. } = &mut self.stage
            && retry_at.is_some_and(|at| now >= at)
        {
            *retry_at = None;
            acts.push(Act::Create(record.clone()));
        }
        if let Some((_, because)) = self.losing.take_if(|(at, _)| now >= *at) {
            self.at_once(now, because, acts);
        }
        if let Some((at, from, node)) = self.complaint
            && now >= at
        {
            self.complaint = None;
            if self.roster.contains_key(&from) && self.roster.contains_key(&node) {
                self.at_once(now, format!("{} has lost its link to {}", self.record.name(from), self.record.name(node)), acts);
            }
        }
        if now >= self.look_at && self.stage != Stage::Over {
            self.look_at = now + (self.rules.grace / 8).max(LOOK);
            acts.extend([Act::LookForNewer, Act::WakeAt(self.look_at)]);
            self.look_for_progress(now, acts);
        }
        self.save_again(now, acts);
        let settled = self.settle.take_if(|at| now >= *at).is_some();
        match &self.stage {
            Stage::Short if settled => self.next_epoch("those who live have had time to come".into(), acts),
            Stage::Short if self.settle.is_none() && self.nobody_left(now) => {
                self.next_epoch("nodes that hold copies have stayed out of sight".into(), acts);
            }
            Stage::Idle => {
                if let Some(because) = self.change_due(now) {
                    self.next_epoch(because, acts);
                } else if now < self.arrival + self.rules.quiet {
                    acts.push(Act::WakeAt(self.arrival + self.rules.quiet));
                } else if self.begun.is_none() && self.enough(now) {
                    self.next_epoch(format!("missing ranks did not come in time; {} are there", self.chosen().len()), acts);
                }
            }
            // The last checkpoint waits for the store: who leaves meanwhile hands over to who stays.
            Stage::Finishing(_) if self.saving.is_none() && !self.chosen().is_empty() => {
                if let Some(because) = self.change_due(now) {
                    self.next_epoch(because, acts);
                }
            }
            Stage::Stepping(_) => {
                let overdue = |seat: &Seat| seat.leaving.as_ref().is_some_and(|leaving| leaving.at_once.is_some_and(|at| now >= at));
                if self.roster.values().any(overdue)
                    && let Some(because) = self.change_due(now)
                {
                    self.next_epoch(because, acts);
                }
            }
            _ => {}
        }
    }
}
