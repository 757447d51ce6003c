//! Votes are counted, and a step becomes stable.

use super::*;

impl Coordinator {
    pub(super) fn voted(&mut self, now: Duration, from: NodeId, epoch: Epoch, step: Step, said: Said, acts: &mut Vec<Act>) {
        let Some(rank) = self.record.rank_of(from) else { return };
        let Stage::Stepping(life) = &mut self.stage else { return };
        match life.on(rank, epoch, step, said) {
            Effect::Wait | Effect::Stale => {}
            Effect::SendSums => acts.push(Act::SendSums { epoch, step }),
            // Others may lead where this node stood still: a stopped process finds all votes when it wakes.
            Effect::Stable if now > self.checked + self.rules.grace / 2 => {
                self.voted = Some(step);
                self.look_at = now;
            }
            Effect::Stable => self.stable(now, step, acts),
            Effect::Disagree(disagreements) => self.differ(now, disagreements, acts),
        }
    }

    /// Who leads by the store. While it is away nobody can create a record: training goes on.
    pub(super) fn newest(&mut self, now: Duration, newest: Option<(Epoch, String)>, acts: &mut Vec<Act>) {
        let creating = matches!(self.stage, Stage::Creating { .. });
        if let Some((epoch, nonce)) = newest.filter(|(epoch, _)| *epoch > self.record.epoch && !creating) {
            // This node may have asked for it without an answer.
            if self.unresolved.as_ref().is_none_or(|record| record.nonce != nonce) {
                return self.resign(format!("{epoch} has begun while this node stood still or saw no copies"), acts);
            }
            self.resolved = true;
            self.frozen_until = now;
        }
        self.checked = now;
        if let Some(step) = self.voted.take()
            && matches!(&self.stage, Stage::Stepping(life) if life.step() == step.next())
        {
            self.stable(now, step, acts);
        }
    }

    pub(super) fn stable(&mut self, now: Duration, step: Step, acts: &mut Vec<Act>) {
        if self.computes_again(now, step, acts) {
            return;
        }
        let (epoch, done) = (self.record.epoch, step.next());
        self.count_bad(step, acts);
        self.got_on(now);
        self.known = Some(done);
        self.name_the_odd(acts);
        self.attempts = 0;
        // What is stable now is with this epoch's members: only their copies are missed when they are out of sight.
        self.absent.retain(|node, _| self.record.includes(*node));
        self.placed.drain(..self.placed.len().saturating_sub(1));
        self.fallback = false;
        self.unmet.clear();
        self.rejected.clear();
        self.returned.clear();
        if let Some((_, version)) = &mut self.begun {
            *version = Version { step: done, epoch };
        }
        self.dismiss(acts);
        let last = done >= self.rules.steps || self.stop.is_some();
        let hold = last || self.paused || self.change_due(now).is_some();
        let every = self.rules.checkpoint_every.max(1);
        let due = done.0 / every > self.attempted.0 / every;
        let checkpoint = last || ((due || self.save_now) && self.saving.is_none());
        if checkpoint {
            self.save_now = false;
            self.saving = Some(done);
            self.attempted = done;
        }
        acts.push(Act::Stable { epoch, step, checkpoint, hold });
        if last {
            self.stage = Stage::Finishing(done);
        } else if hold {
            self.stage = Stage::Idle;
            match self.change_due(now) {
                Some(because) => self.next_epoch(because, acts),
                None => self.wait("paused by an operator", acts),
            }
        }
        self.put_out_convicted(now, acts);
    }

    /// Copies are where the plan wants them: who only handed shards over may go.
    pub(super) fn dismiss(&mut self, acts: &mut Vec<Act>) {
        for member in std::mem::take(&mut self.record.others) {
            // Others stand by: they had come with copies that were not needed in the end.
            if self.roster.get(&member.node).is_some_and(|seat| seat.leaving.is_some()) {
                self.roster.remove(&member.node);
                acts.push(Act::Send(member.node, Word::Bye { outcome: Outcome::Left, because: "its shards are with others".into() }));
            }
        }
    }
}
