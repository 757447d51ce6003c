//! Certificates that are denied: whom an operator has put out stays out, at every node and after every start.
//!
//! The store remembers the list. The leader reads it again and again, for it may be written while nobody leads, and tells it to all.

use super::*;
use crate::desk::order::Answer;
use crate::desk::question::{Kind, Question};
use crate::net::tls::{DENIED_MAX, KeyName};
use crate::roles::denials::{self, Denial};

/// How often a leader reads the list.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How long an order waits for the store.
const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// How long nodes have to show that they know the list.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// What the other end of a link that is denied is told.
pub(super) const DENIED: &str = "your certificate was denied by an operator; ask whoever holds the run's authority for another one";

impl Shared {
    /// Learns what the store says is denied.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn read_denied(self: &Arc<Self>) -> Result<(), StoreError> {
        let keys = denials::read(&self.store).await?;
        self.shut_out(keys);
        Ok(())
    }

    /// Ends the links of these keys and lets no new one begin; a node whose own key is among them leaves the run.
    pub(super) fn shut_out(self: &Arc<Self>, keys: Vec<KeyName>) {
        if self.denied.add(keys) {
            self.end_denied();
            self.leave_if_denied();
        }
    }

    /// A link that comes up meanwhile looks into the list itself.
    fn end_denied(&self) {
        for link in self.links.iter().filter(|link| self.denied.denies_peer(link.certificate())) {
            link.refuse(DENIED);
        }
    }

    pub(super) fn leave_if_denied(&self) {
        if self.is_denied() {
            let because = "its certificate was denied by an operator: nobody of the run listens to it any more".into();
            self.tell(&self.node, "node", NodeMsg::Over(Outcome::Left, because));
        }
    }

    /// Whether nobody of the run listens to this node any more.
    pub(super) fn is_denied(&self) -> bool {
        self.denied.denies(self.me, Role::Node)
    }

    /// A leader's word.
    pub(super) fn told_denied(self: &Arc<Self>, keys: &[String]) {
        self.shut_out(keys.iter().take(DENIED_MAX).filter_map(|key| KeyName::parse(key)).collect());
    }

    /// Tells all nodes whom the list names; which of them have not shown in time that they know it.
    async fn tell_denied(self: &Arc<Self>) -> Vec<NodeId> {
        let keys: Vec<String> = self.denied.keys().iter().map(|key| key.digits().to_owned()).collect();
        let question = serde_json::to_string(&Question { own: true, kinds: vec![Kind::Node], ..Question::default() }).unwrap_or_default();
        self.asked.clear();
        let links: Vec<Link<Control>> =
            self.links.iter().filter(|link| link.certificate().role == Role::Node).map(|link| link.value().clone()).collect();
        let (keys, question) = (&keys, &question);
        let told = links.iter().map(|link| async move {
            let (number, answer) = self.asked.put(link.peer())?;
            link.control(&Control::Denied { keys: keys.clone() }).await.ok()?;
            // What is asked behind the list is answered by who has read the list.
            link.control(&Control::Ask { number, question: question.clone() }).await.ok()?;
            tokio::select! {
                answer = answer => answer.ok(),
                _ = link.down() => None,
            }
        });
        let told = futures::future::join_all(told.map(|told| tokio::time::timeout(TOLD_WITHIN, told))).await;
        links
            .iter()
            .zip(told)
            .filter(|(link, told)| link.is_down().is_none() && !matches!(told, Ok(Some(_))))
            .map(|(link, _)| link.peer())
            .collect()
    }

    /// An operator's order to this leader: it holds at once and is answered when the store remembers it.
    pub(super) async fn deny(self: &Arc<Self>, key: &str, by: String) -> Answer {
        let Some(key) = KeyName::parse(key) else {
            return Answer::Refused { because: format!("{key:?} is no certificate's id: give 8 to 32 of its digits") };
        };
        if self.denied.keys().len() >= DENIED_MAX {
            let because = format!("{DENIED_MAX} certificates are denied already: make a new authority and restart every node");
            return Answer::Refused { because };
        }
        let denial = Denial { by, at_ms: crate::clock::wall_ms() };
        self.denied.add([key.clone()]);
        self.end_denied();
        let written = tokio::time::timeout(KEPT_WITHIN, denials::write(&self.store, &key, &denial));
        // Whoever is told that it is done finds it done, at every node.
        let (silent, written) = tokio::join!(self.tell_denied(), written);
        let away = match written {
            Ok(Ok(())) => {
                let names: Vec<String> = silent.iter().map(|node| look::node_reference(*node)).collect();
                let but = if names.is_empty() { String::new() } else { format!("; {} will know it within seconds", names.join(", ")) };
                return Answer::Done { what: format!("{key} is denied: its links end at all nodes, and it opens no new one{but}") };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".into(),
        };
        Answer::Refused {
            because: format!("nodes that start do not know that {key} is denied, for the store is away ({away}): order it again"),
        }
    }
}

/// Keeps all members at what the store says is denied, while this node leads.
pub(super) async fn keep_out(shared: Arc<Shared>) {
    let mut turn = tokio::time::interval(READ_EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        turn.tick().await;
        let Some(epoch) = *shared.leading.borrow() else { continue };
        if let Err(error) = shared.read_denied().await {
            tracing::debug!(%error, "the list of denied certificates could not be read");
        }
        let known = shared.denied.keys().len();
        // Whoever came with a new epoch may have read the list before the newest entry was there.
        if known > 0 && told != Some((epoch, known)) {
            // Who has not shown that it knows it is told again.
            told = shared.tell_denied().await.is_empty().then_some((epoch, known));
        }
    }
}
