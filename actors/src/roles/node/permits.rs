//! Who may say what: one table over roles and messages.
//!
//! The role comes from the certificate that the handshake has checked. A kind of message that has no place here does not compile.

use crate::net::tls::Role;
use crate::wire::message::Control;

/// What a message is, whoever it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// What nodes say to each other, answers to operators among it.
    Member,
    /// A question; answering it changes nothing.
    Question,
    /// It changes what the run does.
    Order,
}

fn sort(message: &Control) -> Sort {
    match message {
        Control::Word(_)
        | Control::Reduced { .. }
        | Control::Sums { .. }
        | Control::Prepared { .. }
        | Control::Stable { .. }
        | Control::Snapshot { .. }
        | Control::Lines { .. }
        | Control::Logged { .. }
        | Control::Parts { .. }
        | Control::PartsFailed { .. }
        | Control::Published { .. }
        | Control::SaveFailed { .. }
        | Control::Told { .. }
        | Control::Denied { .. }
        | Control::Answered { .. }
        | Control::Obeyed { .. } => Sort::Member,
        Control::Ask { .. } => Sort::Question,
        Control::Order { .. } => Sort::Order,
    }
}

/// Whether a peer of this role may send this message.
pub(super) fn permits(role: Role, message: &Control) -> bool {
    match (role, sort(message)) {
        (_, Sort::Question) | (Role::Node, Sort::Member) | (Role::Admin, Sort::Order) => true,
        // A node obeys operators and not other nodes: whoever takes one over cannot order the others about.
        (Role::Node, Sort::Order) | (Role::Admin | Role::Viewer, Sort::Member) | (Role::Viewer, Sort::Order) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Epoch, Step};
    use crate::protocol::word::{Outcome, Word};

    fn text() -> String {
        "because".into()
    }

    fn of_members() -> Vec<Control> {
        let (epoch, step) = (Epoch(1), Step(2));
        vec![
            Control::Word(Word::Stop { because: text() }),
            Control::Word(Word::Leave { because: text(), deadline_ms: None }),
            Control::Word(Word::Bye { outcome: Outcome::Done, because: text() }),
            Control::Reduced { epoch, step, partials: vec![], lanes: vec![], computed_s: 0.0, traces: vec![], phases: vec![] },
            Control::Sums {
                epoch,
                step,
                norms: vec![],
                nonfinite: 0,
                metrics: vec![],
                wait: 0.0,
                samples: 0,
                samples_hash: 0,
                phases: vec![],
            },
            Control::Prepared { epoch, step, digests: vec![] },
            Control::Stable { epoch, step, checkpoint: true, hold: false },
            Control::Snapshot { epoch, step },
            Control::Lines { lines: vec![] },
            Control::Logged { from: step, step },
            Control::Parts { epoch, step, records: text(), stall_ms: 0.0 },
            Control::PartsFailed { epoch, step, because: text() },
            Control::Published { step, bytes: 0, seconds: 0.0, stall_ms: 0.0 },
            Control::SaveFailed { step, because: text() },
            Control::Told { event: text() },
            Control::Denied { keys: vec![text()] },
            Control::Answered { number: 1, view: Vec::new() },
            Control::Obeyed { number: 1, answer: text() },
        ]
    }

    #[test]
    fn who_may_look_may_not_order_and_who_may_order_is_no_member() {
        let said = |role: Role, message: &Control| permits(role, message);
        for message in of_members() {
            let who = [Role::Node, Role::Admin, Role::Viewer].map(|role| said(role, &message));
            assert_eq!(who, [true, false, false], "{message:?}");
        }
        let who = [Role::Node, Role::Admin, Role::Viewer].map(|role| said(role, &Control::Order { number: 1, order: text() }));
        assert_eq!(who, [false, true, false]);
        let who = [Role::Node, Role::Admin, Role::Viewer].map(|role| said(role, &Control::Ask { number: 1, question: text() }));
        assert_eq!(who, [true; 3]);
    }
}
