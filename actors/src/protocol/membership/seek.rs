//! Looking for the run's leader, or becoming it: every node is started by the same command.

use super::*;

/// After this long without an answer who has asked to be let in looks whether the same node still leads.
pub(super) const ASKED: Duration = Duration::from_secs(3);
/// How long a leader with a link to this node may take to open an epoch that its record says this node is in.
const OPEN_MAX: Duration = Duration::from_secs(1);

impl Membership {
    pub(super) fn seek(&mut self, acts: &mut Vec<Act>) {
        if self.search.is_none() {
            self.search = Some(Search::default());
            acts.push(Act::Look);
        }
    }

    pub(super) fn look_again(&mut self, now: Duration) {
        let at = now + self.settings.pace;
        let search = self.search.get_or_insert_default();
        search.asked = None;
        search.look_at = Some(at);
    }

    pub(super) fn unseen(&mut self, now: Duration, because: String, acts: &mut Vec<Act>) {
        self.wait(format!("the store is away, membership is frozen: {because}"), acts);
        self.look_again(now);
    }

    pub(super) fn unreachable(&mut self, now: Duration, node: NodeId, acts: &mut Vec<Act>) {
        if self.search.as_ref().is_some_and(|search| search.asked == Some(node)) {
            self.wait("the leader of the newest epoch does not answer; taking over if its lease stays still".into(), acts);
            self.look_again(now);
        }
    }

    pub(super) fn seen(&mut self, now: Duration, newest: Option<EpochRecord>, lease: Option<LeaseView>, acts: &mut Vec<Act>) {
        if self.search.is_none() || self.creating.is_some() {
            return;
        }
        // A lease of an older epoch says nothing about the leader of the newest.
        let lease = lease.filter(|lease| newest.as_ref().is_none_or(|newest| lease.epoch >= newest.epoch));
        let Some(newest) = newest else {
            return self.create(Epoch(1), Claim::Fresh, vec![self.settings.me.clone()], Vec::new(), "the run begins".into(), None, acts);
        };
        let next = Epoch(newest.epoch.0 + 1);
        if lease.is_some_and(|lease| lease.released && lease.epoch == newest.epoch) {
            return self.lead_alone(next, Claim::Fresh, "the run goes on".into(), newest, acts);
        }
        let me = self.settings.me.node;
        let search = self.search.get_or_insert_default();
        let silent_since = match &search.silent {
            Some((epoch, seen, since)) if *epoch == newest.epoch && *seen == lease => *since,
            _ => {
                search.silent = Some((newest.epoch, lease, now));
                now
            }
        };
        if now >= silent_since + self.settings.grace && !search.asked.is_some_and(|asked| self.links.contains(&asked)) {
            let because = format!("the leader of {} has been silent for {} s", newest.epoch, self.settings.grace.as_secs());
            return self.lead_alone(next, Claim::Silence, because, newest, acts);
        }
        let linked = self.links.contains(&newest.leader);
        if linked && newest.includes(me) && self.current.as_ref().is_none_or(|current| current.record.epoch < newest.epoch) {
            let (_, since) = *search.expected.get_or_insert((newest.epoch, now));
            if now < since + OPEN_MAX {
                search.look_at = Some(now + self.settings.pace);
                return;
            }
        }
        match newest.leading().filter(|leader| leader.node != me) {
            Some(leader) if self.links.contains(&leader.node) && search.asked == Some(leader.node) => search.look_at = Some(now + ASKED),
            Some(leader) if self.links.contains(&leader.node) => {
                search.asked = Some(leader.node);
                search.look_at = Some(now + ASKED);
                acts.push(Act::Send(leader.node, Word::Join { member: self.settings.me.clone(), terms: self.settings.terms.clone() }));
            }
            Some(leader) => {
                search.asked = Some(leader.node);
                acts.push(Act::Dial(leader.clone()));
            }
            None => search.look_at = Some(now + self.settings.pace),
        }
    }

    /// Leads with who has released to this node, or alone: the others find the record and come.
    fn lead_alone(&mut self, epoch: Epoch, claim: Claim, because: String, before: EpochRecord, acts: &mut Vec<Act>) {
        self.create(epoch, claim, self.with_me(), Vec::new(), because, Some(before), acts);
    }

    fn with_me(&self) -> Vec<Member> {
        let released = |member: &&Member| self.releases.contains_key(&member.node) && self.links.contains(&member.node);
        let record = self.current.as_ref().filter(|_| self.released.is_some()).map(|current| &current.record);
        let mut members: Vec<Member> = record.into_iter().flat_map(|record| record.members.iter().filter(released)).cloned().collect();
        members.push(self.settings.me.clone());
        members.sort();
        members.dedup();
        members
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a record, and what came before it")]
    pub(super) fn create(
        &mut self,
        epoch: Epoch,
        claim: Claim,
        members: Vec<Member>,
        others: Vec<Member>,
        because: String,
        before: Option<EpochRecord>,
        acts: &mut Vec<Act>,
    ) {
        self.created += 1;
        let me = self.settings.me.node;
        let record = EpochRecord { epoch, nonce: format!("{me}+{}", self.created), leader: me, claim, members, others, because };
        self.creating = Some((record.clone(), before));
        acts.push(Act::Create(record));
    }

    pub(super) fn created(&mut self, now: Duration, creation: Creation, acts: &mut Vec<Act>) {
        let Some((record, before)) = self.creating.take() else { return };
        match creation {
            Creation::Mine => acts.push(Act::Lead(record, before)),
            Creation::Taken => {
                if let Some(released) = &mut self.released {
                    released.overtaken = true;
                }
                self.search.get_or_insert_default().silent = None;
                acts.push(Act::Look);
            }
            Creation::Unknown(because) => {
                self.creating = Some((record, before));
                self.retry_at = Some(now + self.settings.pace);
                self.wait(format!("the store is away, membership is frozen: {because}"), acts);
            }
        }
    }
}
