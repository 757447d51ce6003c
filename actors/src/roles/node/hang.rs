//! What a node does about a part of it that hangs.

use super::*;

/// The watchdog's master: the node, as far as it can still be reached.
pub(super) struct Hang {
    pub(super) shared: Arc<Shared>,
    pub(super) finished: Finished,
}

impl Hang {
    fn note(&self, because: &str) {
        // The first word stands.
        let _ = self.shared.hung.set(because.to_owned());
        self.shared.record(Event::Hung { node: self.shared.me, because: because.to_owned() });
    }
}

impl Master for Hang {
    fn lane_hangs(&self, because: String) {
        self.note(&because);
        self.shared.tell(&self.shared.node, "node", NodeMsg::Ordered(Order::Leave { because, deadline: Some(Duration::ZERO) }));
    }

    fn actor_hangs(&self, because: String) {
        self.note(&because);
        self.shared.tell(&self.shared.node, "node", NodeMsg::Broken(because));
    }

    fn end(&self, because: String) {
        if let Some(finished) = self.finished.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // `run` waits for this as long as the node lives.
            let _ = finished.send(Ended { outcome: Outcome::Lost, because });
        }
    }
}
