//! Orders of operators. Each is an event with its subject, whatever came of it.

use super::*;
use crate::desk::order::{Answer, Order as Wish};
use crate::net::tls::KeyName;

/// Who ordered that something be killed goes when the answer is read. Who stays has read it within this.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a node that is to be killed waits for the store.
const SAVED_WITHIN: Duration = Duration::from_secs(1);
/// The pace at which a store that is away is told again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// Orders that a role does not allow are recorded at most this often: whoever sends them cannot fill the log.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);
/// The object that says that an operator has paused the run: leaders change, the pause stays.
const PAUSED: &str = "paused";

/// What operators want of this leader: wishes are numbered, and the newest one stands.
#[derive(Debug, Default)]
pub(super) struct Pausing {
    turn: std::sync::atomic::AtomicU64,
    writer: tokio::sync::Mutex<()>,
    refused: Mutex<Option<Instant>>,
}

impl Pausing {
    /// A new wish, or a new leader who has none yet.
    fn wish(&self) -> u64 {
        self.turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1
    }
    fn stands(&self, turn: u64) -> bool {
        self.turn.load(std::sync::atomic::Ordering::SeqCst) == turn
    }
    fn may_tell(&self) -> bool {
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= REFUSALS_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

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
        let (name, by) = (name_of(&wish), format!("admin {from}"));
        if let Wish::Deny { key } = &wish
            && self.leads()
        {
            let (shared, key) = (self.clone(), key.clone());
            return drop(tokio::spawn(async move {
                let answer = shared.deny(&key, by.clone()).await;
                shared.did(from, number, by, name, &answer);
                // A leader may be ordered to put itself out: that is told first.
                shared.leave_if_denied();
            }));
        }
        let kill = wish == Wish::Kill;
        let answer = self.do_as_told(from, wish);
        self.did(from, number, by, name, &answer);
        if kill {
            let shared = self.clone();
            tokio::spawn(async move {
                // The order itself outlives the process.
                drop(tokio::time::timeout(SAVED_WITHIN, save_all(&shared)).await);
                shared.is_read(from).await;
                // As a crash would: nothing of this process gets to say goodbye.
                if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL) {
                    tracing::error!(%error, "this process cannot be killed");
                }
            });
        }
    }

    /// Tells what came of an order: for good, and to who gave it.
    fn did(self: &Arc<Self>, from: NodeId, number: u64, by: String, order: String, answer: &Answer) {
        let words = match answer {
            Answer::Done { what } => what.clone(),
            Answer::Refused { because } => format!("refused: {because}"),
        };
        self.record(Event::Ordered { by, node: self.me, order, answer: words });
        self.obeyed(from, number, answer);
    }

    fn do_as_told(self: &Arc<Self>, from: NodeId, wish: Wish) -> Answer {
        let done = |what: &str| Answer::Done { what: what.to_owned() };
        let node = |order: Order| self.tell(&self.node, "node", NodeMsg::Ordered(order));
        match wish {
            Wish::Drain { because, deadline_ms } => {
                *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = Some(because.clone());
                node(Order::Leave { because, deadline: deadline_ms.map(Duration::from_millis) });
                done("it hands over what it holds at the end of this step, then leaves")
            }
            Wish::Undrain if self.hung.get().is_some() => Answer::Refused { because: "part of it hangs: it has to be started anew".into() },
            Wish::Undrain => {
                *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = None;
                node(Order::Stay);
                done("it stays, if it has not left yet")
            }
            Wish::Kill => done("its process ends at once"),
            Wish::KillActor { name } => self.kill_actor(from, &name),
            _ if !self.leads() => {
                let leader = self.leader().map_or_else(
                    || "nobody leads now: ask again in some seconds".into(),
                    |leader| format!("ask the leader, node/{leader}"),
                );
                Answer::Refused { because: format!("it does not lead the run; {leader}") }
            }
            // Done in a task of its own, where this node leads.
            Wish::Deny { .. } => Answer::Refused { because: "it leads no more: ask again".into() },
            Wish::Stop => {
                // The next start is no part of what was paused.
                self.pause(false);
                node(Order::Stop { because: "stopped by an operator".into() });
                done("the run ends after this step and a checkpoint")
            }
            Wish::StopNow => {
                self.pause(false);
                self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Fact(crate::protocol::coordinator::Fact::GiveUp));
                done("the run ends at once, with the newest checkpoint that it has")
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

    /// What becomes of the node then is the same as when such an actor fails: it goes with those that it supervises, and stays without a link.
    fn kill_actor(self: &Arc<Self>, from: NodeId, name: &str) -> Answer {
        let link = self.links.iter().find(|link| link.report().name == name).map(|link| link.clone());
        let itself = self.node.get().is_some_and(|node| node.stats().name() == name);
        let actor = self.table.named(name).filter(|_| !itself);
        if link.is_none() && actor.is_none() {
            let because = format!("it has no actor {name:?} that can be killed by itself: `everstep get actors` lists them");
            return Answer::Refused { because };
        }
        let shared = self.clone();
        tokio::spawn(async move {
            // Its node may go with it.
            shared.is_read(from).await;
            link.iter().for_each(Link::kill);
            actor.iter().for_each(|actor| actor.kill());
        });
        Answer::Done { what: format!("its actor {name} ends at once, as if it had failed") }
    }

    /// Waits until an operator has read his answer.
    async fn is_read(&self, by: NodeId) {
        if let Some(link) = self.links.get(&by).map(|link| link.clone()) {
            drop(tokio::time::timeout(LAST_WORDS, link.down()).await);
        }
    }

    /// The newest wish goes to the coordinator at once and into the store until it is there: orders keep their order.
    fn pause(self: &Arc<Self>, pause: bool) {
        let turn = self.pausing.wish();
        self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Fact(crate::protocol::coordinator::Fact::Pause(pause)));
        let shared = self.clone();
        tokio::spawn(async move {
            let _one = shared.pausing.writer.lock().await;
            while shared.pausing.stands(turn) && shared.leads() {
                let kept = match pause {
                    true => shared.store.put(PAUSED, bytes::Bytes::from_static(b"by an operator\n")).await,
                    false => shared.store.delete(PAUSED).await,
                };
                let Err(error) = kept else { return };
                tracing::warn!(%error, "the next leader does not know yet of the order to {}", if pause { "pause" } else { "go on" });
                tokio::time::sleep(STORE_AGAIN).await;
            }
        });
    }

    /// A new leader keeps to what operators ordered of the one before.
    pub(super) fn remember_pause(self: &Arc<Self>) {
        let turn = self.pausing.wish();
        let shared = self.clone();
        tokio::spawn(async move {
            while shared.pausing.stands(turn) && shared.leads() {
                match shared.store.head(PAUSED).await {
                    Ok(Some(_)) if shared.pausing.stands(turn) => {
                        let pause = crate::protocol::coordinator::Fact::Pause(true);
                        return shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Fact(pause));
                    }
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(STORE_AGAIN).await,
                }
            }
        });
    }

    /// An order that the certificate's role does not allow.
    pub(super) fn refuse(self: &Arc<Self>, from: NodeId, role: Role, number: u64, order: &str) {
        let because = format!("a {role} may look and not order; use a certificate with the role admin");
        if self.pausing.may_tell() {
            let order = serde_json::from_str::<Wish>(order).map_or_else(|_| "something unreadable".into(), |wish| name_of(&wish));
            let answer = format!("refused: {because}");
            self.record(Event::Ordered { by: format!("{role} {from}"), node: self.me, order, answer });
        }
        self.obeyed(from, number, &Answer::Refused { because });
    }

    /// What becomes of an order.
    pub(super) fn obeyed(self: &Arc<Self>, to: NodeId, number: u64, answer: &Answer) {
        let answer = serde_json::to_string(answer).unwrap_or_default();
        self.offer(to, Control::Obeyed { number, answer });
    }
}

fn name_of(wish: &Wish) -> String {
    match wish {
        Wish::KillActor { name } => format!("kill actor {name}"),
        Wish::Deny { key } => format!("deny {}", KeyName::parse(key).map_or_else(|| key.clone(), |key| key.to_string())),
        other => other.name().into(),
    }
}
