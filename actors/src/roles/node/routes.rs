//! The ways messages take in a node: what its links, actors and tasks share, and the one translator
//! between the words of the wire and those of mailboxes.

use super::*;

/// What links, actors and tasks of a node share.
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) host: String,
    pub(super) links: DashMap<NodeId, Link<Control>>,
    pub(super) linked: watch::Sender<u64>,
    pub(super) node: OnceLock<Mailbox<NodeMsg>>,
    pub(super) rank: OnceLock<Mailbox<RankMsg>>,
    pub(super) aggregator: OnceLock<Mailbox<AggregatorMsg>>,
    pub(super) coordinator: OnceLock<Mailbox<CoordinatorMsg>>,
    pub(super) desk: OnceLock<Mailbox<DeskMsg>>,
    pub(super) term: RwLock<Option<Arc<TermView>>>,
    pub(super) leader: RwLock<Option<NodeId>>,
    pub(super) events: mpsc::Sender<Recorded>,
    pub(super) unsaved: Mutex<Vec<Recorded>>,
    pub(super) store: Store,
}

/// The epoch as links see it.
pub(super) struct TermView {
    pub(super) exchange: Arc<Exchange>,
    pub(super) ranks: BTreeMap<NodeId, Rank>,
}

impl Shared {
    pub(super) fn tell<M: Send + std::fmt::Debug + 'static>(&self, mailbox: &OnceLock<Mailbox<M>>, what: &'static str, message: M) {
        let Some(mailbox) = mailbox.get() else { return };
        if let Err(error) = mailbox.try_send(message) {
            let because = format!("the {what} cannot take a message: {error}");
            if let Some(node) = self.node.get().filter(|_| what != "node") {
                // If the node is gone too there is nobody left to tell.
                let _ = node.try_send(NodeMsg::Broken(because));
            } else {
                tracing::error!("{because}");
            }
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        *self.leader.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn term(&self) -> Option<Arc<TermView>> {
        self.term.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, event: Event) {
        let recorded = Recorded { at_ms: crate::clock::wall_ms(), recorded_by: self.me, event };
        self.tell(&self.desk, "desk", DeskMsg::Happened(recorded.clone()));
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).push(recorded.clone());
        if self.events.try_send(recorded).is_err() {
            tracing::warn!("an event was not shown: its reader does not keep up");
        }
    }

    /// Sends to a node, or delivers here when it is this one.
    pub(super) fn send(self: &Arc<Self>, to: NodeId, message: Control) {
        if to == self.me {
            return self.route(to, message);
        }
        let Some(link) = self.links.get(&to).map(|link| link.clone()) else { return };
        if let Err(error) = link.try_control(&message) {
            let because = format!("its link takes no more control messages: {error}");
            self.tell(&self.node, "node", NodeMsg::Down { peer: to, because });
        }
    }

    /// The one translator from wire words to mailbox words.
    pub(super) fn route(self: &Arc<Self>, from: NodeId, message: Control) {
        match message {
            Control::Join(_)
            | Control::Ready { .. }
            | Control::Reduced { .. }
            | Control::Prepared { .. }
            | Control::Parts { .. }
            | Control::PartsFailed { .. }
            | Control::Stop { .. }
            | Control::Failed { .. } => self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Said { node: from, message }),
            Control::Go { epoch, step } if self.leader() == Some(from) => self.tell(&self.rank, "rank", RankMsg::Go { epoch, step }),
            Control::Sums { epoch, step, norms, nonfinite } if self.leader() == Some(from) => {
                self.tell(&self.rank, "rank", RankMsg::Sums { epoch, step, sums: Sums { norms, nonfinite } });
            }
            Control::Stable { epoch, step, checkpoint, last, .. } if self.leader() == Some(from) => {
                self.tell(&self.rank, "rank", RankMsg::Stable { epoch, step, checkpoint, last });
            }
            Control::Refused { .. }
            | Control::Begin { .. }
            | Control::Published { .. }
            | Control::SaveFailed { .. }
            | Control::Bye { .. } => {
                self.tell(&self.node, "node", NodeMsg::Said { from, message });
            }
            Control::AskStatus => self.answer_status(from),
            Control::Go { .. } | Control::Sums { .. } | Control::Stable { .. } | Control::Status { .. } => {
                tracing::warn!(%from, "a message from a node that does not lead was turned away");
            }
        }
    }

    pub(super) fn answer_status(self: &Arc<Self>, to: NodeId) {
        let (reply, view) = oneshot::channel();
        self.tell(&self.desk, "desk", DeskMsg::Ask { reply });
        let shared = self.clone();
        tokio::spawn(async move {
            if let Ok(view) = view.await
                && let Ok(json) = serde_json::to_string(&view)
            {
                shared.send(to, Control::Status { json });
            }
        });
    }
}

/// What links hand to the node.
#[derive(Clone)]
pub(super) struct NodeRouter(pub(super) Arc<Shared>);

impl std::fmt::Debug for NodeRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeRouter({})", self.0.me)
    }
}

impl Router for NodeRouter {
    type Control = Control;

    fn linked(&self, link: Link<Control>) {
        self.0.links.insert(link.peer(), link);
        self.0.linked.send_modify(|count| *count += 1);
    }

    fn control(&self, from: NodeId, message: Control) {
        let role = self.0.links.get(&from).map(|link| link.certificate().role);
        if role != Some(Role::Node) && message != Control::AskStatus {
            tracing::warn!(%from, "an operator's message that only nodes may send was turned away");
            return;
        }
        self.0.route(from, message);
    }

    fn admit(&self, from: NodeId, header: &DataHeader) -> Result<(), Reject> {
        let term = self.0.term().ok_or_else(|| Reject("no epoch is being run".into()))?;
        if !term.ranks.contains_key(&from) {
            return Err(Reject("its sender is no member of the epoch".into()));
        }
        term.exchange.admit(header).map_err(|rejected| Reject(rejected.to_string()))
    }

    fn data(&self, from: NodeId, header: DataHeader, values: Vec<f32>) {
        if let Some(term) = self.0.term()
            && let Some(rank) = term.ranks.get(&from)
        {
            term.exchange.on_data(*rank, header, values);
        }
    }

    fn down(&self, peer: NodeId, cause: LinkDown) {
        self.0.links.remove(&peer);
        self.0.tell(&self.0.node, "node", NodeMsg::Down { peer, because: cause.to_string() });
    }
}

pub(super) struct Wires {
    pub(super) shared: Arc<Shared>,
    pub(super) members: Vec<NodeId>,
}

impl Outbound for Wires {
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        let link = self.members.get(frame.to.0 as usize).and_then(|node| self.shared.links.get(node).map(|link| link.clone()));
        async move {
            // A peer that is gone ends the epoch through its link; nothing is to be done here.
            if let Some(link) = link {
                let payload = if frame.range.is_empty() { Ok(Payload::empty()) } else { Payload::shared(frame.values, frame.range) };
                if let Ok(payload) = payload {
                    let _ = link.send(&frame.header, payload).await;
                }
            }
        }
        .boxed()
    }
}

pub(super) struct Desks(pub(super) Arc<Shared>);

impl Inward for Desks {
    fn reduced(&self, step: Step) {
        if let Some(term) = self.0.term() {
            self.0.tell(&self.0.rank, "rank", RankMsg::Reduced { epoch: term.exchange.epoch(), step });
        }
    }
    fn partial(&self, header: DataHeader, values: Vec<f32>) {
        if let Some(term) = self.0.term() {
            let exchange = term.exchange.clone();
            self.0.tell(&self.0.aggregator, "Sinkhorn aggregator", AggregatorMsg::Partial { exchange, header, values });
        }
    }
    fn broken(&self, because: String) {
        self.0.tell(&self.0.node, "node", NodeMsg::Broken(because));
    }
}

impl Superior for Desks {
    fn tell_leader(&self, message: Control) {
        if let Some(leader) = self.0.leader() {
            self.0.send(leader, message);
        }
    }
    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64) {
        self.0.tell(&self.0.node, "node", NodeMsg::Snapshot { epoch, step, shards, stall_ms });
    }
}
