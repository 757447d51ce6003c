//! Who may be in: what every member of a run must share, bit for bit.

use rkyv::{Archive, Deserialize, Serialize};

use super::record::Member;

/// What a node computes with. Equal for all members of a run.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[rkyv(derive(Debug))]
pub struct Terms {
    /// Version and build of the program.
    pub build: String,
    /// Digest of the part of the recipe that decides the weights.
    pub recipe: String,
    /// Digest of the start-up probe: equal on like hardware.
    pub hardware: String,
}

impl Terms {
    /// Why a node on `theirs` cannot be in a run on these terms: one sentence, or `None` when it can.
    /// With `mixed` unlike hardware is let in, and the run claims statistical equality only.
    pub fn refusal(&self, who: &Member, theirs: &Self, mixed: bool) -> Option<String> {
        let who = who.name();
        if theirs.build != self.build {
            Some(format!("{who} runs everstep {} and the run {}: start the same build on every host", theirs.build, self.build))
        } else if theirs.recipe != self.recipe {
            Some(format!("{who} was started with another recipe: start every node of a run with the same file and flags"))
        } else if theirs.hardware != self.hardware && !mixed {
            Some(format!(
                "{who} computes other bits than the run (unlike processor or library): use like machines for one run, or set cluster.mixed_hardware = true and give up bitwise equality"
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::NodeId;
    use super::*;

    #[test]
    fn unlike_nodes_are_refused_with_the_reason() {
        let terms = Terms { build: "0.1.0".into(), recipe: "r".into(), hardware: "h".into() };
        let who = Member::new(NodeId([1; 16]), "127.0.0.1:1", "a", 0);
        assert_eq!(terms.refusal(&who, &terms, false), None);
        let table = [
            (Terms { build: "0.2.0".into(), ..terms.clone() }, "same build"),
            (Terms { recipe: "x".into(), ..terms.clone() }, "another recipe"),
            (Terms { hardware: "x".into(), ..terms.clone() }, "like machines"),
        ];
        for (theirs, reason) in table {
            let refusal = terms.refusal(&who, &theirs, false);
            assert!(refusal.as_ref().is_some_and(|why| why.contains(reason)), "{refusal:?}");
        }
        assert_eq!(terms.refusal(&who, &Terms { hardware: "x".into(), ..terms.clone() }, true), None);
    }
}
