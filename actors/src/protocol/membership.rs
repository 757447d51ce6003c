//! Who is in: newcomers are taken in until the run has its ranks, or are turned away with a reason.

use std::collections::BTreeMap;

use super::ids::NodeId;
use super::record::Member;

/// What every member of a run must share, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Version and build of the program.
    pub build: String,
    /// Digest of the part of the recipe that decides the weights.
    pub recipe: String,
    /// Digest of the start-up probe: equal on like hardware.
    pub hardware: String,
}

/// What comes of a request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Taken in; so many are still missing.
    Wait {
        /// Ranks that are still missing.
        missing: u32,
    },
    /// Everyone is there: begin with these members, by rank.
    Begin(Vec<Member>),
    /// Turned away: one sentence.
    Refuse(String),
}

/// The leader's list while it gathers.
#[derive(Debug, Clone)]
pub struct Gathering {
    terms: Terms,
    want: u32,
    members: BTreeMap<NodeId, Member>,
    begun: bool,
}

impl Gathering {
    /// A gathering of `want` ranks on the leader's terms.
    pub fn new(terms: Terms, want: u32) -> Self {
        Self { terms, want, members: BTreeMap::new(), begun: false }
    }

    /// A node asks to be in.
    pub fn join(&mut self, member: Member, terms: &Terms) -> Verdict {
        let who = format!("{} ({}, pid {})", member.node, member.host, member.pid);
        if terms.build != self.terms.build {
            return Verdict::Refuse(format!(
                "{who} runs everstep {} and the run {}: start the same build on every host",
                terms.build, self.terms.build
            ));
        }
        if terms.recipe != self.terms.recipe {
            return Verdict::Refuse(format!(
                "{who} was started with another recipe: start every node of a run with the same file and flags"
            ));
        }
        if terms.hardware != self.terms.hardware {
            return Verdict::Refuse(format!(
                "{who} computes other bits than the run (unlike processor or library): use like machines for one run"
            ));
        }
        if self.begun || self.members.len() as u32 >= self.want {
            return Verdict::Refuse(format!(
                "the run has its {} ranks already: wait until it ends, or stop it and start it again with more --ranks",
                self.want
            ));
        }
        self.members.insert(member.node, member);
        let missing = self.want - self.members.len() as u32;
        if missing > 0 {
            return Verdict::Wait { missing };
        }
        self.begun = true;
        let mut members: Vec<Member> = self.members.values().cloned().collect();
        members.sort_by(|a, b| (&a.host, a.slot, a.node).cmp(&(&b.host, b.slot, b.node)));
        Verdict::Begin(members)
    }

    /// A node that was taken in has gone before the run began.
    pub fn leave(&mut self, node: NodeId) {
        if !self.begun {
            self.members.remove(&node);
        }
    }

    /// Ranks that are still missing.
    pub fn missing(&self) -> u32 {
        self.want.saturating_sub(self.members.len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms { build: "0.1.0".into(), recipe: "r".into(), hardware: "h".into() }
    }
    fn member(id: u8, slot: u32) -> Member {
        Member { node: NodeId([id; 16]), address: "127.0.0.1:1".into(), host: "a".into(), pid: u32::from(id), slot }
    }

    #[test]
    fn begins_when_all_are_there_ordered_by_slot() {
        let mut gathering = Gathering::new(terms(), 2);
        assert_eq!(gathering.join(member(1, 1), &terms()), Verdict::Wait { missing: 1 });
        gathering.leave(NodeId([1; 16]));
        assert_eq!(gathering.join(member(2, 1), &terms()), Verdict::Wait { missing: 1 });
        assert_eq!(gathering.join(member(3, 0), &terms()), Verdict::Begin(vec![member(3, 0), member(2, 1)]));
        assert!(matches!(gathering.join(member(4, 2), &terms()), Verdict::Refuse(why) if why.contains("2 ranks already")));
    }

    #[test]
    fn unlike_nodes_are_refused_with_the_reason() {
        let table = [
            (Terms { build: "0.2.0".into(), ..terms() }, "same build"),
            (Terms { recipe: "x".into(), ..terms() }, "another recipe"),
            (Terms { hardware: "x".into(), ..terms() }, "like machines"),
        ];
        for (theirs, reason) in table {
            let verdict = Gathering::new(terms(), 2).join(member(1, 0), &theirs);
            assert!(matches!(&verdict, Verdict::Refuse(why) if why.contains(reason)), "{verdict:?}");
        }
    }
}
