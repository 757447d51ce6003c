//! Copies that differ: the step runs again, a third rank computes the shard too, and the odd one is named.

use super::*;

impl Coordinator {
    /// All have voted and copies differ. The step must not become stable: every copy is read again and the step computed again.
    pub(super) fn differ(&mut self, now: Duration, disagreements: Vec<Disagreement>, acts: &mut Vec<Act>) {
        let node = |rank: Rank| self.record.members.get(rank.0 as usize).map(|member| member.node);
        let named = |found: Disagreement| {
            let digests: Vec<(NodeId, u64)> = found.digests.into_iter().filter_map(|(rank, digest)| Some((node(rank)?, digest))).collect();
            (found.shard, digests)
        };
        let found: Vec<(ShardId, Vec<(NodeId, u64)>)> = disagreements.into_iter().map(named).collect();
        let who = |digests: &[(NodeId, u64)]| digests.iter().map(|(node, _)| *node).collect::<Vec<_>>();
        acts.push(Act::Note(Note::Differ(found.iter().map(|(shard, digests)| (*shard, who(digests))).collect())));
        self.attempts += 1;
        self.reject_next(acts);
        // Whatever a copy at rest has become shows when it is read again.
        self.rehash = true;
        let odd = found.iter().find_map(|(_, digests)| outvoted(digests));
        if let Some(odd) = odd {
            self.suspects.clear();
            acts.push(Act::Note(Note::Odd(odd, "two others computed the same shard alike, and it another".into())));
            return self.put_out(now, odd, "its computations differ from those of two others: have the machine checked".into(), acts);
        }
        if self.attempts >= self.rules.attempts {
            let names: Vec<String> = found.iter().flat_map(|(_, digests)| who(digests)).map(|node| self.record.name(node)).collect();
            let because = format!(
                "copies of {} shards differ each time they are computed, and no third rank can tell which of {} is wrong: have the machines checked",
                found.len(),
                names.join(", ")
            );
            return self.over(Outcome::Lost, because, acts);
        }
        self.suspects = found.into_iter().collect();
        self.next_epoch("copies of shards differ: the step is computed again".into(), acts);
    }

    /// Shards under suspicion get one more copy, on a rank that had none, where there is one.
    pub(super) fn add_judges(&self, plan: &mut Plan) {
        let ranks = plan.ranks();
        for place in plan.places.iter_mut().filter(|place| self.suspects.contains_key(&place.shard)) {
            if let Some(judge) = (0..ranks).map(Rank).find(|rank| place.copies().all(|copy| copy != *rank)) {
                place.replicas.push(judge);
                place.replicas.sort_unstable();
            }
        }
    }

    /// A step that was in doubt is stable now: whose first digest was another one is named.
    pub(super) fn name_the_odd(&mut self, acts: &mut Vec<Act>) {
        let Stage::Stepping(life) = &self.stage else { return };
        let agreed = life.agreed();
        let odd: BTreeSet<NodeId> = std::mem::take(&mut self.suspects)
            .into_iter()
            .flat_map(|(shard, first)| {
                let right = agreed.get(&shard).copied();
                first.into_iter().filter(move |(_, digest)| Some(*digest) != right).map(|(node, _)| node)
            })
            .collect();
        acts.extend(
            odd.into_iter()
                .map(|node| Act::Note(Note::Odd(node, "it computed another result the first time, and the right one the second".into()))),
        );
    }
}

/// Who stands alone against two that agree.
fn outvoted(digests: &[(NodeId, u64)]) -> Option<NodeId> {
    let count = |digest: u64| digests.iter().filter(|(_, other)| *other == digest).count();
    digests.iter().find(|(_, digest)| count(*digest) == 1 && digests.len() >= 3).map(|(node, _)| *node)
}
