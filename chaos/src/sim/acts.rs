//! What machines ask for is done: words are sent, the store is asked, epochs are entered and led.

use std::collections::BTreeMap;
use std::time::Duration;

use everstep_actors::protocol::coordinator::{self, Coordinator, Creation, Note};
use everstep_actors::protocol::ids::{Epoch, Rank, Step, Version};
use everstep_actors::protocol::membership::{self, LeaseView};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::protocol::word::{Origin, Outcome, Word};

use super::Bug;
use super::content;
use super::dice::up_to;
use super::event::{Ask, Event, Said, who_of};
use super::node::{Ledger, Office, who};
use super::store::{Request, Saved};
use super::world::World;
use crate::history::{Happening, Source, Who};

/// How often the lease moves.
const LEASE: Duration = Duration::from_millis(500);
/// How often the leader looks for members that do not get on.
const WATCH: Duration = Duration::from_millis(500);
/// A request that is not answered for this long has no known result.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Bytes of one value of a shard.
const VALUE: u64 = 4;
/// Checkpoints that are kept.
const KEPT: usize = 3;

impl World<'_> {
    pub(super) fn member_acts(&mut self, me: Who, acts: Vec<membership::Act>) {
        use membership::Act;
        for act in acts {
            if !self.nodes[me as usize].alive {
                return;
            }
            match act {
                Act::Look => self.ask(me, Ask::Look),
                Act::Dial(member) => self.dial(me, who_of(&member), None),
                Act::Send(node, word) => self.send(me, who(node), Said::Word(Box::new(word))),
                Act::Create(record) => self.ask(me, Ask::CreateAsMember(record)),
                Act::Lead(record, before) => self.lead(me, record, before.as_ref()),
                Act::Enter { record, rehash } => self.enter(me, &record, rehash),
                Act::Begin(epoch, beginning) => self.begin(me, epoch, *beginning),
                Act::Fence(_) => {
                    let held = self.fence(me);
                    self.member(me, membership::Fact::Held(held));
                }
                Act::Reject(version) => self.nodes[me as usize].shelf.reject(version),
                Act::Waiting(text) => self.say(me, Happening::Note { text }),
                Act::WakeAt(at) => self.wake_at(me, at),
                Act::End(outcome, because) => self.ended(me, outcome, because),
            }
        }
    }

    pub(super) fn leader_acts(&mut self, me: Who, acts: Vec<coordinator::Act>) {
        use coordinator::Act;
        for act in acts {
            if !self.nodes[me as usize].alive {
                return;
            }
            match act {
                Act::Create(record) => self.ask(me, Ask::CreateAsLeader(record)),
                Act::Send(node, word) => self.send(me, who(node), Said::Word(Box::new(word))),
                Act::SendSums { epoch, step } => self.send_sums(me, epoch, step),
                Act::Stable { epoch, step, checkpoint, hold } => self.call_stable(me, epoch, step, checkpoint, hold),
                Act::Save(epoch, step) => {
                    if let Some(office) = &mut self.nodes[me as usize].office {
                        office.saving = Some((step, BTreeMap::new()));
                    }
                    self.tell_members(me, &Said::Save { epoch, step });
                }
                Act::LookForCheckpoint => self.ask(me, Ask::Find),
                Act::LookForNewer => self.ask(me, Ask::Newest),
                Act::Lease(on) => {
                    if let Some(office) = &mut self.nodes[me as usize].office {
                        office.leases = on;
                    }
                }
                Act::Deposed => {
                    self.nodes[me as usize].office = None;
                    self.member(me, membership::Fact::Deposed);
                }
                Act::Note(note) => self.note(me, note),
                Act::WakeAt(at) => self.wake_at(me, at),
                Act::Over(outcome, because) => {
                    if let Some((epoch, beat)) =
                        self.nodes[me as usize].office.as_ref().map(|office| (office.machine.record().epoch, office.beat))
                    {
                        self.ask(me, Ask::Lease { epoch, beat: beat + 1, released: true });
                    }
                    self.ended(me, outcome, because);
                }
            }
        }
    }

    pub(super) fn tell_members(&mut self, me: Who, said: &Said) {
        let Some(office) = &self.nodes[me as usize].office else { return };
        let members: Vec<Who> = office.machine.record().members.iter().map(who_of).collect();
        members.into_iter().for_each(|member| self.send(me, member, said.clone()));
    }

    fn lead(&mut self, me: Who, record: EpochRecord, before: Option<&EpochRecord>) {
        let id = self.nodes[me as usize].member.node;
        let epoch = record.epoch;
        let everyone: Vec<Who> = record.everyone().map(who_of).collect();
        let (machine, acts) = Coordinator::new(self.rules.clone(), id, record, before, self.now);
        let office =
            Office { machine, leases: true, beat: 0, ledger: Ledger::default(), saving: None, progress: (0, self.now), term: epoch };
        self.nodes[me as usize].office = Some(office);
        self.leader_acts(me, acts);
        self.queue.push(self.now, Event::Lease { who: me, epoch });
        self.queue.push(self.now + WATCH, Event::Watch { who: me, epoch });
        // Who was lost while the record was being created is lost to the new leader too.
        for other in everyone.into_iter().filter(|other| *other != me) {
            if !self.network.linked(me, other) {
                let node = self.nodes[other as usize].member.node;
                self.leader(me, coordinator::Fact::Lost { node, proven: false, because: "its link has ended".into() });
            }
        }
    }

    fn note(&mut self, me: Who, note: Note) {
        let happening = match note {
            Note::Waiting(text) => Happening::Note { text },
            Note::Lost(node, because) => Happening::Lost { whom: who(node), because },
            Note::Begun { origin, version, moved } => return self.begun(me, origin, version, moved),
            Note::Differ(shards) => Happening::Note { text: format!("copies of {} shards differ", shards.len()) },
            Note::Audited { step, computations, .. } => {
                Happening::Note { text: format!("step {} was computed {computations} times", step.0) }
            }
            Note::Skipped(step, because) => Happening::Note { text: format!("step {} was skipped: {because}", step.0) },
            Note::StandsBy(node) => Happening::Note { text: format!("node {} stands by", who(node)) },
            Note::Odd(node, because) => Happening::Note { text: format!("node {} is the odd one: {because}", who(node)) },
        };
        self.say(me, happening);
    }

    fn begun(&mut self, me: Who, origin: Origin, version: Version, moved: u64) {
        let Some(office) = &self.nodes[me as usize].office else { return };
        let Some((plan, _)) = office.machine.begun() else { return };
        let record = office.machine.record();
        let at = |rank: Rank| record.members.get(rank.0 as usize).map_or(Who::MAX, who_of);
        let mut holders: Vec<Vec<Who>> = plan
            .places
            .iter()
            .map(|place| {
                let mut holders: Vec<Who> = place.copies().map(at).collect();
                holders.sort_unstable();
                holders
            })
            .collect();
        let digest = |sum: u64, (holders, place): (&Vec<Who>, &everstep_actors::protocol::plan::Place)| {
            content::mix(sum, holders.iter().fold(u64::from(place.owner.0), |sum, who| content::mix(sum, u64::from(*who))))
        };
        let plan = holders.iter().zip(&plan.places).fold(moved, digest);
        holders.sort_unstable();
        holders.dedup();
        let source = match origin {
            Origin::Seed => Source::Seed,
            Origin::Checkpoint { .. } => Source::Checkpoint,
            Origin::Copies => Source::Copies,
        };
        let epoch = record.epoch.0;
        // The last leader of that epoch may have gone before it called the step stable.
        let last = version.step.0.checked_sub(1).map(|step| (version.epoch, Step(step)));
        let unsaid = |of| self.exchanges.get(&of).map(|exchange| &exchange.used).or_else(|| self.unsaid.get(&of)).cloned();
        let used = last.and_then(unsaid).unwrap_or_default();
        self.say(me, Happening::Begun { epoch, step: version.step.0, of: version.epoch.0, source, plan, holders, used });
        self.say(me, Happening::Moved { epoch, bytes: moved * VALUE });
    }

    /// A node's part is over, by its own decision.
    fn ended(&mut self, me: Who, outcome: Outcome, because: String) {
        let slot = self.nodes[me as usize].slot;
        let again = self.faults.restarts.remove(&slot);
        let comes_back = match outcome {
            Outcome::Lost => self.scenario.cluster.relaunch,
            Outcome::Left => again.is_some(),
            _ => false,
        };
        if outcome == Outcome::Done && !self.done {
            self.say(me, Happening::Done);
            self.done = true;
        }
        self.say(me, Happening::Ended { comes_back, because: format!("{outcome:?}: {because}") });
        self.bury(me);
        for (a, b) in self.network.pairs(Some(me)) {
            if let Some(link) = self.network.link(a, b) {
                let at = link.last[usize::from(me == b)].max(self.now) + Duration::from_millis(1);
                let made = link.made;
                self.queue.push(at, Event::Closed { a, b, made, by: me });
            }
        }
        if comes_back {
            let wait = again.unwrap_or(Duration::from_millis(500));
            let at = self.now + wait + up_to(&mut self.rng, Duration::from_millis(500));
            self.queue.push(at, Event::Start { slot });
        }
    }

    /// Takes a node out of the world. Its copies stay readable for the last digest.
    pub(super) fn bury(&mut self, me: Who) {
        let node = &mut self.nodes[me as usize];
        node.alive = false;
        node.membership = None;
        node.office = None;
        node.deferred = Vec::new();
        if self.places.get(&node.slot) == Some(&me) {
            self.places.remove(&node.slot);
        }
    }

    // ---- lease and progress -------------------------------------------------------------------

    pub(super) fn lease(&mut self, me: Who, term: Epoch) {
        let Some(office) = self.nodes[me as usize].office.as_mut().filter(|office| office.term == term) else { return };
        if office.leases {
            office.beat += 1;
            let ask = Ask::Lease { epoch: office.machine.record().epoch, beat: office.beat, released: false };
            self.ask(me, ask);
        }
        self.queue.push(self.now + LEASE, Event::Lease { who: me, epoch: term });
    }

    /// A node whose rank hangs finds that by itself, and says so to the leader.
    pub(super) fn watch(&mut self, me: Who, term: Epoch) {
        let now = self.now;
        let limit = Duration::from_secs(4) + 6 * self.scenario.workload.step_time.0;
        let Some(office) = self.nodes[me as usize].office.as_mut().filter(|office| office.term == term) else { return };
        let awaited = office.machine.awaited();
        let step = office.machine.step().map_or(0, |step| step.0);
        let key = content::mix(content::mix(office.machine.record().epoch.0, step), awaited.len() as u64);
        if office.progress.0 != key {
            office.progress = (key, now);
        }
        let overdue = now > office.progress.1 + limit;
        self.queue.push(now + WATCH, Event::Watch { who: me, epoch: term });
        if overdue {
            let stuck = awaited.into_iter().find(|node| self.nodes[who(*node) as usize].hung > 0);
            if let Some(node) = stuck {
                let epoch = self.nodes[me as usize].office.as_ref().map_or(term, |office| office.machine.record().epoch);
                let word = Word::Failed { epoch, outcome: Outcome::Lost, because: "its rank hangs".into(), fault: None };
                self.leader(me, coordinator::Fact::Said { from: node, word });
            }
        }
    }

    // ---- the store ----------------------------------------------------------------------------

    pub(super) fn ask(&mut self, me: Who, ask: Ask) {
        let request = match ask {
            Ask::Look | Ask::Newest | Ask::Find | Ask::Restore { .. } => Request::Read,
            Ask::Parts { .. } => Request::WritePart,
            _ => Request::Write,
        };
        let fate = self.store.fate(self.nodes[me as usize].slot, request, &mut self.rng);
        let told_at = self.now + fate.told_in;
        match fate.done_in {
            Some(done_in) if fate.told_in > ANSWER_MAX => {
                self.queue.push(self.now + ANSWER_MAX, Event::Unanswered { who: me, ask: Box::new(ask.clone()) });
                self.queue.push(self.now + done_in, Event::Asked { who: me, ask: Box::new(ask), told_at: None, answered: false });
            }
            Some(done_in) => self
                .queue
                .push(self.now + done_in, Event::Asked { who: me, ask: Box::new(ask), told_at: Some(told_at), answered: fate.answered }),
            None => self.queue.push(told_at, Event::Unanswered { who: me, ask: Box::new(ask) }),
        }
    }

    pub(super) fn asked(&mut self, me: Who, ask: Ask, told_at: Option<Duration>, answered: bool) {
        let answer = match &ask {
            Ask::Look => {
                let (record, lease) = self.store.look();
                Some(Event::Member(me, Box::new(membership::Fact::Seen(record, lease))))
            }
            Ask::Newest => {
                let newest = self.store.records.values().next_back().map(|record| (record.epoch, record.nonce.clone()));
                Some(Event::Leader(me, Box::new(coordinator::Fact::Newest(newest))))
            }
            Ask::CreateAsMember(record) => {
                let creation = self.create(me, record);
                Some(Event::Member(me, Box::new(membership::Fact::Created(creation))))
            }
            Ask::CreateAsLeader(record) => {
                let creation = self.create(me, record);
                Some(Event::Leader(me, Box::new(coordinator::Fact::Created(creation))))
            }
            Ask::Lease { epoch, beat, released } => {
                self.store.lease = Some(LeaseView { epoch: *epoch, beat: *beat, released: *released });
                None
            }
            Ask::Find => {
                let (step, aside) = self.store.find();
                aside.into_iter().for_each(|step| self.say(me, Happening::SetAside { step }));
                Some(Event::Leader(me, Box::new(coordinator::Fact::Checkpoint(step.map(Step)))))
            }
            Ask::Restore { epoch, step } => {
                let mine = &self.nodes[me as usize].rank.mine;
                let read = self.store.checkpoints.get(step).map(|saved| saved.contents.clone());
                let contents = read.as_ref().map(|all| mine.iter().filter_map(|shard| Some((*shard, *all.get(shard)?))).collect());
                if let Some(all) = read {
                    let digest =
                        all.iter().fold(0u64, |sum, (shard, value)| sum.wrapping_add(content::of_state(*shard, content::digest(*value))));
                    self.say(me, Happening::Restored { step: *step, digest });
                }
                Some(Event::Restored { who: me, epoch: *epoch, step: *step, contents })
            }
            Ask::Parts { epoch, step, leader, parts } => {
                if self.bug == Some(Bug::PartDeletedEarly)
                    && let Some((_, saved)) = self.store.checkpoints.range_mut(..step.0).next_back()
                {
                    saved.damaged = true;
                }
                Some(Event::PartsWritten { who: me, epoch: *epoch, step: *step, leader: *leader, parts: parts.clone() })
            }
            Ask::Manifest { step, contents } => {
                self.publish(me, *step, contents.clone());
                Some(Event::Leader(me, Box::new(coordinator::Fact::Saved(Step(*step)))))
            }
        };
        let Some(told_at) = told_at.map(|at| at.max(self.now)) else { return };
        match answer {
            Some(answer) if answered => self.queue.push(told_at, answer),
            _ => self.queue.push(told_at, Event::Unanswered { who: me, ask: Box::new(ask) }),
        }
    }

    pub(super) fn unanswered(&mut self, me: Who, ask: Ask) {
        let because = || "the store does not answer".to_owned();
        match ask {
            Ask::Look => self.member(me, membership::Fact::Unseen(because())),
            Ask::CreateAsMember(_) => self.member(me, membership::Fact::Created(Creation::Unknown(because()))),
            Ask::CreateAsLeader(_) => self.leader(me, coordinator::Fact::Created(Creation::Unknown(because()))),
            Ask::Lease { .. } => {}
            Ask::Newest => self.leader(me, coordinator::Fact::Newest(None)),
            Ask::Find | Ask::Restore { .. } => self.ask(me, ask),
            Ask::Parts { epoch, step, leader, .. } => self.parts_written(me, epoch, step, leader, Vec::new()),
            Ask::Manifest { step, .. } => self.leader(me, coordinator::Fact::SaveFailed(Step(step), because())),
        }
    }

    fn create(&mut self, me: Who, record: &EpochRecord) -> Creation {
        let (creation, new) = self.store.create(record);
        if new {
            let members: Vec<Who> = record.members.iter().map(who_of).collect();
            self.newest = (record.epoch.0, me, members.clone());
            self.well = None;
            self.say(me, Happening::Recorded { epoch: record.epoch.0, nonce: record.nonce.clone(), leader: me, members });
        }
        creation
    }

    fn publish(&mut self, me: Who, step: u64, contents: BTreeMap<everstep_actors::protocol::ids::ShardId, u64>) {
        let digest = contents.iter().fold(0u64, |sum, (shard, value)| sum.wrapping_add(content::of_state(*shard, content::digest(*value))));
        self.store.checkpoints.insert(step, Saved { contents, damaged: false });
        while self.store.checkpoints.len() > KEPT {
            self.store.checkpoints.pop_first();
        }
        self.say(me, Happening::Published { step, digest });
    }
}
