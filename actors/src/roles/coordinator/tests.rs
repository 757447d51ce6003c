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

#[tokio::test]
async fn which_actor_failed_and_why_are_fields_of_the_loss_of_its_node() {
    let node = |n: u8| NodeId([n; 16]);
    let members: Vec<Member> = (0..3).map(|n| Member::new(node(n), "", "box", u32::from(n))).collect();
    let (epoch, leader, claim) = (Epoch(1), node(0), Claim::Fresh);
    let record = EpochRecord { epoch, nonce: "x".into(), leader, claim, members, others: Vec::new(), because: String::new() };
    let (notes, stats) = (Arc::new(Notes::default()), ActorTable::default().register("coordinator", 4));
    let actor = CoordinatorActor { stats, me: leader, orders: orders(), office: notes.clone() };
    let mut state = State::new();
    actor.lead(&mut state, record, None);
    let fault = Some(("actor/n01010101/rank".to_owned(), "no lane of this number".to_owned()));
    for (n, fault) in [(1, fault), (2, None)] {
        let word = Word::Failed { epoch, outcome: Outcome::Lost, because: "its actor rank failed".into(), fault };
        actor.said(&mut state, node(n), Control::Word(word));
    }
    let notes = notes.0.lock().unwrap();
    let lost = notes.iter().filter_map(|event| match event {
        Event::NodeLost { node, fault, .. } => Some((*node, fault.clone())),
        _ => None,
    });
    let fault = Fault { actor: "actor/n01010101/rank".into(), root_cause: "no lane of this number".into() };
    assert_eq!(lost.collect::<Vec<_>>(), [(node(1), Some(fault)), (node(2), None)]);
}
