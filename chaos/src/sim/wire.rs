//! How words travel, and how links begin and end.

use std::sync::Arc;
use std::time::Duration;

use everstep_actors::protocol::ids::Epoch;
use everstep_actors::protocol::word::Word;
use everstep_actors::protocol::{coordinator, membership};

use super::Bug;
use super::dice::{chance, up_to};
use super::event::{Event, Said};
use super::network::{BEAT, CEILING, FLOOR, PASSAGE, pair};
use super::world::World;
use crate::history::Who;

/// Who dials a leader looks for another one after this, while the handshake goes on.
const DIAL_MAX: Duration = Duration::from_secs(1);
/// No handshake takes longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Round trips of a handshake, and those that members wait longer for each other.
const HANDSHAKE: u32 = 3;
const PATIENCE: u32 = 6;
/// Beats on lossy paths that are drawn together.
const BEATS: u32 = 8;
/// How long who has got a packet may wait before it says so (RFC 9000, 18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);
/// How long members that do not meet try before they tell the leader.
const MEETING: Duration = Duration::from_secs(2);

impl World<'_> {
    /// Sends over the link, if there is one; a node also speaks to itself.
    pub(super) fn send(&mut self, from: Who, to: Who, said: Said) {
        if from == to {
            let at = self.now + Duration::from_micros(2);
            return self.queue.push(at, Event::Said { from, to, made: 0, said, arrived: true });
        }
        let (Some(sender), Some(receiver)) = (self.nodes.get(from as usize), self.nodes.get(to as usize)) else { return };
        let places = (sender.slot, receiver.slot);
        let path = self.network.path(places.0, places.1);
        let mut delay = PASSAGE + path.delay + up_to(&mut self.rng, PASSAGE / 2);
        let mut timeout = Duration::from_millis(25) + 2 * (PASSAGE + path.delay);
        let mut touched = path.cut || !path.delay.is_zero();
        while chance(&mut self.rng, path.loss) && timeout < CEILING {
            delay += timeout;
            timeout *= 2;
            touched = true;
        }
        let Some(link) = self.network.link_mut(from, to) else { return };
        if path.cut {
            link.parked.push((from, to, said));
            return self.network.feel(places.0, places.1);
        }
        let made = link.made;
        let overtaken = said.is_bulk() && !path.reorder.is_zero();
        let at = if overtaken {
            self.now + delay + up_to(&mut self.rng, path.reorder)
        } else {
            let last = &mut link.last[usize::from(from > to)];
            *last = (self.now + delay).max(*last + Duration::from_nanos(100));
            *last
        };
        let twice = said.is_bulk() && chance(&mut self.rng, path.duplicate);
        if touched || overtaken || twice {
            self.network.feel(places.0, places.1);
        }
        if twice {
            let again = at + up_to(&mut self.rng, path.reorder.max(Duration::from_millis(200)));
            self.queue.push(again, Event::Said { from, to, made, said: said.clone(), arrived: false });
        }
        self.queue.push(at, Event::Said { from, to, made, said, arrived: false });
    }

    pub(super) fn arrive(&mut self, from: Who, to: Who, made: u64, said: Said, arrived: bool) {
        if !arrived && self.network.link(from, to).is_none_or(|link| link.made != made) {
            return;
        }
        let id = self.nodes[from as usize].member.node;
        let unchecked = self.bug == Some(Bug::EpochUnchecked);
        let office = self.nodes[to as usize].office.as_ref();
        let led = office.map(|office| office.machine.record().epoch);
        match said {
            Said::Word(word) => match *word {
                Word::Go { epoch, step } => self.go(to, epoch, step),
                Word::Join { .. }
                | Word::Holdings { .. }
                | Word::Ready { .. }
                | Word::Unmet { .. }
                | Word::Ended { .. }
                | Word::Leave { .. }
                | Word::Stay
                | Word::Failed { .. }
                | Word::Stop { .. }
                    if led.is_some() =>
                {
                    self.leader(to, coordinator::Fact::Said { from: id, word: *word });
                }
                word => self.member(to, membership::Fact::Said { from: id, word }),
            },
            Said::Reduced { epoch, step, partial, used } => {
                let (epoch, step) = self.taken_for(to, epoch, step);
                if let Some(ledger) = self.ledger(to, epoch, step) {
                    ledger.partials.entry(from).or_insert_with(|| {
                        ledger.used.push((from, used.0, used.1));
                        partial
                    });
                }
                self.leader(to, coordinator::Fact::Reduced { from: id, epoch, step });
            }
            Said::Prepared { epoch, step, digests } => {
                let (epoch, step) = self.taken_for(to, epoch, step);
                if let Some(ledger) = self.ledger(to, epoch, step) {
                    for (shard, digest) in &digests {
                        ledger.digests.entry(*shard).or_insert(*digest);
                    }
                }
                self.leader(to, coordinator::Fact::Prepared { from: id, epoch, step, digests });
            }
            Said::Sums { epoch, step, sums } => self.sums(to, epoch, step, sums, unchecked),
            Said::Stable { epoch, step, checkpoint, hold } => self.stable(to, epoch, step, checkpoint, hold, unchecked),
            Said::Save { epoch, step } => self.save(to, epoch, step),
            Said::Parts { epoch, step, parts } => self.parts(to, epoch, step, parts),
        }
    }

    /// What a vote counts for: what it says, unless a deliberate bug takes it for something else.
    fn taken_for(
        &self,
        leader: Who,
        epoch: Epoch,
        step: everstep_actors::protocol::ids::Step,
    ) -> (Epoch, everstep_actors::protocol::ids::Step) {
        let Some(office) = &self.nodes[leader as usize].office else { return (epoch, step) };
        let flight = office.machine.step().unwrap_or(step);
        match self.bug {
            Some(Bug::EpochUnchecked) => (office.machine.record().epoch, step),
            Some(Bug::VoteUntied) => (epoch, flight),
            _ => (epoch, step),
        }
    }

    // ---- links --------------------------------------------------------------------------------

    fn reachable(&self, a: Who, b: Who) -> bool {
        let (a, b) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        let cut = || self.network.path(a.slot, b.slot).cut || self.network.path(b.slot, a.slot).cut;
        a.alive && b.alive && a.frozen == 0 && b.frozen == 0 && !cut()
    }

    pub(super) fn dial(&mut self, from: Who, to: Who, meeting: Option<Epoch>) {
        let reachable = self.reachable(from, to);
        let takes = if reachable { self.handshake(from, to) + up_to(&mut self.rng, 2 * PASSAGE) } else { DIAL_MAX };
        if takes > DIAL_MAX && meeting.is_none() {
            self.queue.push(self.now + DIAL_MAX, Event::Undialled { from, to });
        }
        self.queue.push(self.now + takes.min(HANDSHAKE_MAX), Event::Dialled { from, to, since: self.now, meeting });
    }

    /// There and back.
    fn round_trip(&self, a: Who, b: Who) -> Duration {
        let (a, b) = (self.nodes[a as usize].slot, self.nodes[b as usize].slot);
        2 * PASSAGE + self.network.path(a, b).delay + self.network.path(b, a).delay
    }

    fn handshake(&self, from: Who, to: Who) -> Duration {
        HANDSHAKE * self.round_trip(from, to)
    }

    /// A handshake is still on its way.
    pub(super) fn undialled(&mut self, from: Who, to: Who) {
        if !self.network.linked(from, to) {
            let id = self.nodes[to as usize].member.node;
            self.member(from, membership::Fact::Unreachable(id));
        }
    }

    pub(super) fn dialled(&mut self, from: Who, to: Who, since: Duration, meeting: Option<Epoch>) {
        if !self.nodes[from as usize].alive {
            return;
        }
        let id = self.nodes[to as usize].member.node;
        if self.network.linked(from, to) {
            if meeting.is_none() {
                self.queue.push(self.now, Event::Linked(from, to));
            }
        } else if self.reachable(from, to) && self.now >= since + self.handshake(from, to) {
            self.connect(from, to);
        } else if self.now < since + DIAL_MAX {
            self.queue.push(since + DIAL_MAX, Event::Dialled { from, to, since, meeting });
        } else if meeting.is_none() {
            if self.now == since + DIAL_MAX {
                self.queue.push(self.now, Event::Member(from, Box::new(membership::Fact::Unreachable(id))));
            }
        } else if meeting == Some(self.nodes[from as usize].rank.epoch) {
            self.dial(from, to, meeting);
        }
    }

    fn connect(&mut self, a: Who, b: Who) {
        if !self.network.connect(a, b, self.now) {
            return;
        }
        for (me, other) in [(a, b), (b, a)] {
            self.queue.push(self.now, Event::Linked(me, other));
        }
        self.look_at_pair(a, b);
        self.try_ready(a);
        self.try_ready(b);
    }

    /// Members that have not met after a while are named to the leader.
    pub(super) fn meet(&mut self, who: Who, epoch: Epoch) {
        let others: Vec<Who> = self.nodes[who as usize].rank.everyone.clone();
        for other in others.into_iter().filter(|other| *other < who) {
            if !self.network.linked(who, other) {
                self.dial(who, other, Some(epoch));
            }
        }
        self.queue.push(self.now + MEETING + self.slowness(who), Event::Meeting { who, epoch });
    }

    /// How much longer than on quick paths a member waits for the others: by the slowest link that it has.
    fn slowness(&self, who: Who) -> Duration {
        if self.network.troubles.is_empty() {
            return Duration::ZERO;
        }
        let others = self.nodes[who as usize].rank.everyone.iter().filter(|other| self.network.linked(who, **other));
        PATIENCE * others.map(|other| self.round_trip(who, *other)).max().unwrap_or_default()
    }

    pub(super) fn meeting(&mut self, who: Who, epoch: Epoch) {
        let rank = &self.nodes[who as usize].rank;
        if rank.epoch != epoch || rank.rank.is_none() {
            return;
        }
        let leader = rank.leader;
        let unmet: Vec<Who> = rank.members.iter().copied().filter(|other| *other != who && !self.network.linked(who, *other)).collect();
        if !unmet.is_empty() {
            let nodes = unmet.iter().map(|other| self.nodes[*other as usize].member.node).collect();
            self.send(who, leader, Said::Word(Box::new(Word::Unmet { epoch, nodes })));
            self.queue.push(self.now + MEETING + self.slowness(who), Event::Meeting { who, epoch });
        }
    }

    /// Something may have changed for the links of a node, or for all links.
    pub(super) fn look_at(&mut self, who: Option<Who>) {
        let mut mended = false;
        for (a, b) in self.network.pairs(who) {
            mended |= self.look_at_pair(a, b);
        }
        if mended {
            self.reduce_all();
        }
    }

    /// Whether the link works again.
    fn look_at_pair(&mut self, a: Who, b: Who) -> bool {
        let works = self.reachable(a, b);
        let (slot_a, slot_b) = (self.nodes[a as usize].slot, self.nodes[b as usize].slot);
        let loss = self.network.path(slot_a, slot_b).loss.max(self.network.path(slot_b, slot_a).loss);
        let now = self.now;
        let jitter = up_to(&mut self.rng, BEAT);
        let Some(link) = self.network.link_mut(a, b) else { return false };
        let made = link.made;
        let mended = works && link.broken.is_some();
        if mended {
            link.broken = None;
            (link.heard, link.came, link.doomed) = (now, now, false);
            let parked = std::mem::take(&mut link.parked);
            self.network.broken.remove(&pair(a, b));
            parked.into_iter().for_each(|(from, to, said)| self.send(from, to, said));
        } else if !works && link.broken.is_none() {
            link.broken = Some(now);
            let limit = (link.gap * 4).clamp(FLOOR, CEILING);
            self.network.broken.insert(pair(a, b));
            self.network.feel(slot_a, slot_b);
            self.network.feel(slot_b, slot_a);
            self.queue.push(now + limit + jitter, Event::Silent { a, b, made, since: now });
        }
        if loss == 0.0 {
            return mended;
        }
        let Some(link) = self.network.link_mut(a, b) else { return mended };
        if !link.probed {
            link.probed = true;
            (link.heard, link.came) = (now, now);
            self.queue.push(now + BEAT, Event::Beat { a, b, made });
        }
        mended
    }

    pub(super) fn silent(&mut self, a: Who, b: Who, made: u64, since: Duration) {
        if self.network.link(a, b).is_some_and(|link| link.made == made && link.broken == Some(since)) {
            self.end_link(a, b, &format!("nothing was heard for {:.1} s", (self.now - since).as_secs_f32()));
        }
    }

    /// A beat on a lossy link counts once it and all before it are there and the word of it is back: where one of two tries does both
    /// ways. Packets that arrive out of order show that the path lives. Several beats are drawn at a time.
    pub(super) fn beat(&mut self, a: Who, b: Who, made: u64) {
        let (slot_a, slot_b) = (self.nodes[a as usize].slot, self.nodes[b as usize].slot);
        let (there, back) = (self.network.path(slot_a, slot_b).loss, self.network.path(slot_b, slot_a).loss);
        let (now, round_trip) = (self.now, self.round_trip(a, b));
        let Some(link) = self.network.link_mut(a, b).filter(|link| link.made == made) else { return };
        if there == 0.0 && back == 0.0 {
            (link.probed, link.doomed) = (false, false);
            return;
        }
        if link.doomed {
            return self.end_link(a, b, "nothing was heard on a lossy path");
        }
        let both = (1.0 - there) * (1.0 - back);
        let in_order = 1.0 - (1.0 - both) * (1.0 - both);
        let mut at = now;
        for _ in 0..BEATS {
            let unheard = at.saturating_sub(link.came + BEAT).as_millis() / BEAT.as_millis();
            let arrives = |loss: f64| 1.0 - loss.powi(packets(round_trip, unheard as u32));
            let works = link.broken.is_none();
            if works && chance(&mut self.rng, arrives(there) * arrives(back)) {
                link.came = at;
            }
            let limit = (link.gap * 4).clamp(FLOOR, CEILING);
            let patience = if at.saturating_sub(link.came) <= limit { CEILING } else { limit };
            if works && chance(&mut self.rng, in_order) {
                link.gap = at.saturating_sub(link.heard).max(link.gap.mul_f32(0.99));
                link.heard = at;
            } else if at.saturating_sub(link.heard) > patience {
                link.doomed = true;
                break;
            }
            at += BEAT;
        }
        self.queue.push(at, Event::Beat { a, b, made });
    }

    fn end_link(&mut self, a: Who, b: Who, because: &str) {
        self.network.end(a, b);
        let later = up_to(&mut self.rng, BEAT);
        let because: Arc<str> = because.into();
        self.down(a, b, false, because.clone(), Duration::ZERO);
        self.down(b, a, false, because, later);
    }

    /// A node learns that its link to another one has ended.
    fn down(&mut self, who: Who, other: Who, proven: bool, because: Arc<str>, later: Duration) {
        let node = &mut self.nodes[who as usize];
        if !node.alive {
            return;
        }
        node.rank.cut.insert(other);
        self.queue.push(self.now + later, Event::Down { who, other, proven, because });
    }

    /// It tells its membership, and its coordinator where it leads.
    pub(super) fn told_down(&mut self, who: Who, other: Who, proven: bool, because: &str) {
        let node = self.nodes[other as usize].member.node;
        let led = self.nodes[who as usize].office.is_some();
        self.member(who, membership::Fact::Down { node, proven, because: because.into() });
        if led {
            self.leader(who, coordinator::Fact::Lost { node, proven, because: because.into() });
        }
    }

    pub(super) fn closed(&mut self, a: Who, b: Who, made: u64, by: Who) {
        if self.network.link(a, b).is_some_and(|link| link.made == made) {
            self.network.end(a, b);
            let other = if by == a { b } else { a };
            self.down(other, by, true, "it said farewell".into(), Duration::ZERO);
        }
    }

    pub(super) fn exited(&mut self, to: Who, dead: Who) {
        self.network.end(to, dead);
        self.down(to, dead, true, "its process has ended".into(), Duration::ZERO);
    }
}

/// In how many packets a direction of a link says again what was not heard, in the interval between two beats after `unheard` of them:
/// the beat itself, and two for each probe, whose distance doubles and which a new beat puts off (RFC 9002, 6.2).
fn packets(round_trip: Duration, unheard: u32) -> i32 {
    let (mut packets, mut wait) = (0, round_trip + ACK_DELAY);
    for _ in 0..=unheard {
        packets = 1;
        let mut at = wait;
        while at < BEAT {
            packets += 2;
            wait *= 2;
            at += wait;
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_heard_is_said_again_often_at_first_and_with_each_beat_from_then_on() {
        let said = |round_trip| [0, 1, 2, 3, 4].map(|unheard| packets(Duration::from_millis(round_trip), unheard));
        assert_eq!(said(1), [7, 3, 1, 1, 1]);
        assert_eq!(said(61), [3, 3, 1, 1, 1]);
        assert_eq!(said(300), [1, 1, 1, 1, 1]);
    }
}
