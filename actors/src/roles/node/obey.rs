//! Orders of operators. Each is an event with its subject, whatever came of it.

use super::*;
use crate::desk::order::{Answer, Order as Wish};

/// How long a node that is to be killed has left, so that its answer is read.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The object that says that an operator has paused the run: leaders change, the pause stays.
const PAUSED: &str = "paused";

impl Shared {
    /// An operator's order to this node.
    pub(super) fn obey(self: &Arc<Self>, from: NodeId, number: u64, order: &str) {
        let wish = match serde_json::from_str::<Wish>(order) {
            Ok(wish) => wish,
            Err(error) => {
                let because = format!("the order cannot be read: {error}; use the run's own build of everstep");
                return self.obeyed(from, number, &Answer::Refused { because });
            }
        };
        let name = name_of(&wish);
        let kill = wish == Wish::Kill;
        let answer = self.do_as_told(wish);
        let words = match &answer {
            Answer::Done { what } => what.clone(),
            Answer::Refused { because } => format!("refused: {because}"),
        };
        self.record(Event::Ordered { by: format!("admin {from}"), node: self.me, order: name.into(), answer: words });
        self.obeyed(from, number, &answer);
        if kill {
            tokio::spawn(async {
                tokio::time::sleep(LAST_WORDS).await;
                // As a crash would: nothing of this process gets to say goodbye.
                if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL) {
                    tracing::error!(%error, "this process cannot be killed");
                }
            });
        }
    }

    fn do_as_told(self: &Arc<Self>, wish: Wish) -> Answer {
        let done = |what: &str| Answer::Done { what: what.to_owned() };
        let node = |order: Order| self.tell(&self.node, "node", NodeMsg::Ordered(order));
        match wish {
            Wish::Drain { because, deadline_ms } => {
                *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = Some(because.clone());
                node(Order::Leave { because, deadline: deadline_ms.map(Duration::from_millis) });
                done("it hands over what it holds at the end of this step, then leaves")
            }
            Wish::Undrain => {
                *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = None;
                node(Order::Stay);
                done("it stays, if it has not left yet")
            }
            Wish::Kill => done("its process ends at once"),
            _ if !self.leads() => {
                let leader = self.leader().map_or_else(|| "nobody leads now: ask again in some seconds".into(), |leader| format!("ask the leader, node/{leader}"));
                Answer::Refused { because: format!("it does not lead the run; {leader}") }
            }
            Wish::Stop => {
                node(Order::Stop { because: "stopped by an operator".into() });
                done("the run ends after this step and a checkpoint")
            }
            Wish::CheckpointNow => {
                self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Fact(crate::protocol::coordinator::Fact::SaveNow));
                done("a checkpoint is taken after the step in flight")
            }
            Wish::Pause => {
                self.pause(true);
                done("no step begins after the one in flight; `everstep resume` lets the run go on")
            }
            Wish::Resume => {
                self.pause(false);
                done("the run goes on")
            }
        }
    }

    fn pause(self: &Arc<Self>, pause: bool) {
        self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Fact(crate::protocol::coordinator::Fact::Pause(pause)));
        let store = self.store.clone();
        tokio::spawn(async move {
            let kept = match pause {
                true => store.put(PAUSED, bytes::Bytes::from_static(b"by an operator\n")).await,
                false => store.delete(PAUSED).await,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "the next leader may not know of the order to {}", if pause { "pause" } else { "go on" });
            }
        });
    }

    /// A new leader keeps to what operators ordered of the one before.
    pub(super) fn remember_pause(self: &Arc<Self>) {
        let shared = self.clone();
        tokio::spawn(async move {
            if matches!(shared.store.head(PAUSED).await, Ok(Some(_))) {
                shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Fact(crate::protocol::coordinator::Fact::Pause(true)));
            }
        });
    }

    /// What becomes of an order.
    pub(super) fn obeyed(self: &Arc<Self>, to: NodeId, number: u64, answer: &Answer) {
        let answer = serde_json::to_string(answer).unwrap_or_default();
        self.send(to, Control::Obeyed { number, answer });
    }
}

fn name_of(wish: &Wish) -> &'static str {
    match wish {
        Wish::Drain { .. } => "drain",
        Wish::Undrain => "undrain",
        Wish::CheckpointNow => "checkpoint now",
        Wish::Pause => "pause",
        Wish::Resume => "resume",
        Wish::Kill => "kill",
        Wish::Stop => "stop",
    }
}
