//! What a coordinator makes of what it is told, in an office that only takes notes.

use std::sync::Mutex;

use super::*;
use crate::net::mailbox::ActorTable;
use crate::protocol::coordinator::Care;
use crate::protocol::record::Claim;
use crate::protocol::terms::Terms;

#[derive(Default)]
struct Notes(Mutex<Vec<Event>>);

impl Office for Notes {
    fn send(&self, _: NodeId, _: Control) {}
    fn create(&self, _: EpochRecord) {}
    fn look_for_checkpoint(&self) {}
    fn look_for_newer(&self) {}
    fn publish(&self, _: Epoch, _: Step, _: Vec<PartRecord>) {}
    fn lease(&self, _: Option<Epoch>) {}
    fn leads(&self, _: Epoch) {}
    fn deposed(&self) {}
    fn over(&self, _: Outcome, _: String) {}
    fn save_ledger(&self) {}
    fn share_ledger(&self) {}
    fn wake(&self, _: Duration) {}
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

fn orders() -> Orders {
    let rules = Rules {
        terms: Terms::default(),
        mixed: false,
        lanes: 4,
        replicas: 1,
        shards: Vec::new().into(),
        steps: Step(100),
        ranks_start: 3,
        ranks_min: 1,
        ranks_max: 8,
        checkpoint_every: 10,
        grace: Duration::from_secs(5),
        quiet: Duration::from_millis(300),
        attempts: 4,
        care: Care::default(),
    };
    Orders { rules, tensors: Vec::new(), loss_max: f64::INFINITY }
}

fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

/// A leader of three, and what it notes.
fn leading() -> (CoordinatorActor, State, Arc<Notes>) {
    let (notes, stats) = (Arc::new(Notes::default()), ActorTable::default().register("coordinator", 4));
    let actor = CoordinatorActor { stats, me: node(0), orders: orders(), office: notes.clone() };
    let mut state = State::new();
    actor.lead(&mut state, record(1), None);
    (actor, state, notes)
}

fn record(epoch: u64) -> EpochRecord {
    let members = (0..3).map(|n| Member::new(node(n), "", "box", u32::from(n))).collect();
    let (leader, claim, because) = (node(0), Claim::Fresh, String::new());
    EpochRecord { epoch: Epoch(epoch), nonce: "x".into(), leader, claim, members, others: Vec::new(), because }
}

#[tokio::test]
async fn which_actor_failed_and_why_are_fields_of_the_loss_of_its_node() {
    let ((actor, mut state, notes), epoch) = (leading(), Epoch(1));
    let fault = Some(("actor/n01010101/rank".to_owned(), "no lane of this number".to_owned()));
    // The leader's own actor comes last: with it the leader goes.
    for (n, fault) in [(1, fault.clone()), (2, None), (0, fault)] {
        let word = Word::Failed { epoch, outcome: Outcome::Lost, because: "its actor rank failed".into(), fault };
        actor.said(&mut state, node(n), Control::Word(word));
    }
    let notes = notes.0.lock().unwrap();
    let lost = notes.iter().filter_map(|event| match event {
        Event::NodeLost { node, fault, .. } => Some((*node, fault.clone())),
        _ => None,
    });
    let fault = Fault { actor: "actor/n01010101/rank".into(), root_cause: "no lane of this number".into() };
    assert_eq!(lost.collect::<Vec<_>>(), [(node(1), Some(fault.clone())), (node(2), None), (node(0), Some(fault))]);
}

#[tokio::test]
async fn a_checkpoint_that_is_being_published_has_not_failed_when_members_change() {
    let (actor, mut state, notes) = leading();
    for (step, from) in [(Step(10), 0..3), (Step(20), 0..2)] {
        actor.begin_saving(&mut state, step);
        from.for_each(|n| actor.parts(&mut state, node(n), step, "[]", 0.0));
    }
    actor.lead(&mut state, record(2), Some(&record(1)));
    actor.published(&mut state, Step(10), Ok(5));
    let notes = notes.0.lock().unwrap();
    let failed = notes.iter().filter_map(|event| match event {
        Event::CheckpointFailed { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), [Step(20)], "its parts were not all there");
}
