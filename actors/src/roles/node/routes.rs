//! The ways messages take in a node: what its links, actors and tasks share, and the one translator
//! between the words of the wire and those of mailboxes.

use super::permits::permits;
use super::*;

/// What links, actors and tasks of a node share.
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) host: String,
    /// The process id by which its launcher speaks of it.
    pub(super) pid: u32,
    /// Nonces that it has given out.
    pub(super) nonces: std::sync::atomic::AtomicU64,
    pub(super) links: DashMap<NodeId, Link<Control>>,
    pub(super) dials: Dials,
    /// Moves when a link comes up and when the epoch changes.
    pub(super) linked: watch::Sender<u64>,
    pub(super) node: OnceLock<Mailbox<NodeMsg>>,
    pub(super) rank: OnceLock<Mailbox<RankMsg>>,
    pub(super) aggregator: OnceLock<Mailbox<AggregatorMsg>>,
    pub(super) coordinator: OnceLock<Mailbox<CoordinatorMsg>>,
    pub(super) desk: OnceLock<Mailbox<DeskMsg>>,
    pub(super) epoch: RwLock<Option<Arc<EpochView>>>,
    pub(super) term: RwLock<Option<Arc<TermView>>>,
    /// The epoch that this node leads.
    pub(super) leading: watch::Sender<Option<Epoch>>,
    /// The epoch whose lease this node moves.
    pub(super) lease: watch::Sender<Option<Epoch>>,
    pub(super) vault: Arc<Vault>,
    pub(super) transfers: Transfers,
    pub(super) shards: Arc<Vec<Shard>>,
    /// Optimizer slots of a value.
    pub(super) slots: usize,
    pub(super) tail: Tail,
    /// What is told of the step in flight once it is stable.
    pub(super) report: Mutex<Option<Report>>,
    pub(super) images: u64,
    pub(super) committed_at: Mutex<Instant>,
    pub(super) events: mpsc::Sender<Recorded>,
    pub(super) log: Log,
    pub(super) store: Store,
    /// What of this node hangs.
    pub(super) hung: OnceLock<String>,
    /// What operators are told of this node.
    pub(super) table: Arc<ActorTable>,
    pub(super) board: Arc<LaneBoard>,
    pub(super) phases: Arc<PhaseBoard>,
    pub(super) run: String,
    pub(super) build: String,
    pub(super) steps: Step,
    pub(super) member: OnceLock<Member>,
    pub(super) started_ms: u64,
    pub(super) endpoint: OnceLock<Weak<Endpoint<NodeRouter>>>,
    pub(super) restarts: u32,
    pub(super) draining: Mutex<Option<String>>,
    /// The checkpoints in the store, until there is another one.
    pub(super) listed: Mutex<Option<(u64, Arc<Vec<checkpoint::Listing>>)>>,
    /// Checkpoints that were published as far as this node has heard.
    pub(super) published: std::sync::atomic::AtomicU64,
    /// What an operator wants of this leader, and the one who writes it into the store.
    pub(super) pausing: Pausing,
    /// Whose certificates open nothing any more.
    pub(super) denied: Denied,
    pub(super) asked: Asked,
    pub(super) given: Given,
    pub(super) answering: Arc<Answering>,
    pub(super) moments: Moments,
}

/// Moments of events, no two of them the same: an event is known by who recorded it and when.
#[derive(Debug, Default)]
pub(super) struct Moments(std::sync::atomic::AtomicU64);

impl Moments {
    /// Now, or a millisecond after the last one where that is not later.
    fn next(&self, now_ms: u64) -> u64 {
        use std::sync::atomic::Ordering::SeqCst;
        let later = |last: u64| now_ms.max(last.saturating_add(1));
        self.0.fetch_update(SeqCst, SeqCst, |last| Some(later(last))).map_or(now_ms, later)
    }
}

/// What a leader says of a step before it is stable.
pub(super) struct Report {
    line: Line,
    metrics: Vec<(String, f64)>,
    wait: f64,
    phases: Vec<f32>,
}

/// The epoch that this node is in.
pub(super) struct EpochView {
    pub(super) record: EpochRecord,
    /// Where shards lie, once it has begun.
    pub(super) plan: OnceLock<Arc<Plan>>,
}

/// The collectives of the epoch as links see them, once it has begun.
pub(super) struct TermView {
    pub(super) exchange: Arc<Exchange>,
    pub(super) ranks: BTreeMap<NodeId, Rank>,
}

impl Shared {
    pub(super) fn tell<M: Send + std::fmt::Debug + 'static>(&self, mailbox: &OnceLock<Mailbox<M>>, what: &'static str, message: M) {
        let Some(mailbox) = mailbox.get() else { return };
        if let Err(error) = mailbox.try_send(message) {
            let because = format!("the {what} cannot take a message: {error}");
            if what == "desk" {
                return tracing::warn!("{because}; operators see less");
            }
            if let Some(node) = self.node.get().filter(|_| what != "node") {
                // If the node is gone too there is nobody left to tell.
                let _ = node.try_send(NodeMsg::Broken(because));
            } else {
                tracing::error!("{because}");
            }
        }
    }

    pub(super) fn epoch(&self) -> Option<Arc<EpochView>> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where shards lie by this epoch's plan.
    pub(super) fn placed(&self) -> Option<Arc<Plan>> {
        self.epoch()?.plan.get().cloned()
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.epoch().map(|epoch| epoch.record.leader)
    }

    pub(super) fn leads(&self) -> bool {
        self.leading.borrow().is_some()
    }

    pub(super) fn term(&self) -> Option<Arc<TermView>> {
        self.term.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An epoch is entered: everything of the one before it is over.
    pub(super) fn open_epoch(&self, record: EpochRecord) {
        self.close_epoch();
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(EpochView { record, plan: OnceLock::new() }));
        self.linked.send_modify(|count| *count += 1);
    }

    pub(super) fn close_epoch(&self) {
        if let Some(term) = self.term.write().unwrap_or_else(PoisonError::into_inner).take() {
            term.exchange.abort();
        }
        self.epoch.write().unwrap_or_else(PoisonError::into_inner).take();
        self.transfers.abort();
        self.linked.send_modify(|count| *count += 1);
    }

    pub(super) fn set_term(&self, term: TermView) {
        *self.term.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(term));
    }

    /// The link to a node of this epoch, when it is up; `None` once the epoch has changed.
    pub(super) async fn link_to(&self, node: NodeId) -> Option<Link<Control>> {
        let mut linked = self.linked.subscribe();
        let here = self.epoch()?.record.epoch;
        loop {
            if self.epoch().is_none_or(|epoch| epoch.record.epoch != here) {
                return None;
            }
            if let Some(link) = self.links.get(&node).map(|link| link.clone()) {
                return Some(link);
            }
            linked.changed().await.ok()?;
        }
    }

    pub(super) fn lead(self: &Arc<Self>, record: EpochRecord, before: Option<EpochRecord>) {
        self.log.close();
        self.leading.send_replace(Some(record.epoch));
        self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Lead { record, before });
        self.remember_pause();
        tokio::spawn(office::tell_as_written(self.clone(), crate::clock::wall_ms()));
    }

    pub(super) fn record(&self, event: Event) {
        let recorded = Recorded { at_ms: self.moments.next(crate::clock::wall_ms()), recorded_by: self.me, event };
        self.tell(&self.desk, "desk", DeskMsg::Happened(recorded.clone()));
        if !matches!(recorded.event, Event::StepCommitted { .. }) {
            self.given.outdate();
        }
        if matches!(recorded.event, Event::CheckpointSaved { .. }) {
            self.published.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        if self.leads() {
            self.log.push(recorded.clone());
        } else if own_news(&recorded.event) {
            self.tell_leader(&recorded);
        }
        if self.events.try_send(recorded).is_err() {
            tracing::warn!("an event was not shown: its reader does not keep up");
        }
    }

    /// What only this node saw becomes durable with the leader's log.
    fn tell_leader(&self, recorded: &Recorded) {
        let Some(link) = self.leader().and_then(|leader| self.links.get(&leader).map(|link| link.clone())) else { return };
        let event = serde_json::to_string(recorded).unwrap_or_default();
        if let Err(error) = link.try_control(&Control::Told { event }) {
            tracing::warn!(%error, "the leader was not told of an event; it is in this node's memory alone");
        }
    }

    /// A member tells of something that only it saw.
    fn told(&self, from: NodeId, event: &str) {
        match serde_json::from_str::<Recorded>(event) {
            Ok(recorded) if recorded.recorded_by == from && own_news(&recorded.event) => {
                self.tell(&self.desk, "desk", DeskMsg::Happened(recorded.clone()));
                self.given.outdate();
                if self.leads() {
                    self.log.push(recorded);
                }
            }
            _ => tracing::warn!(%from, "a member's event was turned away: it is not its own"),
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
            self.tell(&self.node, "node", NodeMsg::Down { peer: to, proven: false, because });
        }
    }

    /// The one translator from wire words to mailbox words.
    pub(super) fn route(self: &Arc<Self>, from: NodeId, message: Control) {
        let from_leader = self.leader() == Some(from);
        match message {
            Control::Word(word) => self.route_word(from, word),
            Control::Reduced { .. } | Control::Prepared { .. } | Control::Parts { .. } | Control::PartsFailed { .. } => {
                self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Said { node: from, message });
            }
            Control::Sums { epoch, step, norms, nonfinite, metrics, wait, samples, samples_hash, phases } if from_leader => {
                let report = Report { line: Line { step, epoch, samples, samples_hash }, metrics, wait, phases };
                *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
                self.tell(&self.rank, "rank", RankMsg::Sums { epoch, step, sums: Sums { norms, nonfinite } });
            }
            Control::Stable { epoch, step, checkpoint, hold } if from_leader => {
                self.committed(epoch, step);
                self.tell(&self.rank, "rank", RankMsg::Stable { epoch, step, checkpoint, hold });
            }
            Control::Snapshot { epoch, step } if from_leader => self.tell(&self.rank, "rank", RankMsg::Snapshot { epoch, step }),
            Control::Published { .. } | Control::SaveFailed { .. } | Control::Lines { .. } | Control::Logged { .. } => {
                self.tell(&self.node, "node", NodeMsg::Told(from, message));
            }
            Control::Told { event } => self.told(from, &event),
            Control::Denied { keys } if from_leader => self.told_denied(&keys),
            Control::Ask { number, question } => self.answer(from, number, question),
            Control::Answered { number, view } => self.asked.answered(from, number, view),
            Control::Sums { .. }
            | Control::Stable { .. }
            | Control::Snapshot { .. }
            | Control::Denied { .. }
            | Control::Order { .. }
            | Control::Obeyed { .. } => {
                tracing::debug!(%from, "a message from a node that does not lead was turned away");
            }
        }
    }

    fn route_word(self: &Arc<Self>, from: NodeId, word: Word) {
        match word {
            Word::Holdings { .. }
            | Word::Ready { .. }
            | Word::Unmet { .. }
            | Word::BadCopy { .. }
            | Word::Ended { .. }
            | Word::Failed { .. }
            | Word::Leave { .. }
            | Word::Stay
            | Word::Stop { .. } => self.to_coordinator(from, word),
            Word::Join { .. } if self.leads() => self.to_coordinator(from, word),
            Word::Go { epoch, step } => {
                if self.leader() == Some(from) {
                    *self.committed_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    self.tell(&self.desk, "desk", DeskMsg::Goes);
                    self.tell(&self.rank, "rank", RankMsg::Go { epoch, step });
                }
            }
            Word::Join { .. }
            | Word::Refused { .. }
            | Word::NotLeading
            | Word::Open { .. }
            | Word::Begin { .. }
            | Word::Reject { .. }
            | Word::Release { .. }
            | Word::Resign { .. }
            | Word::Bye { .. } => self.tell(&self.node, "node", NodeMsg::Fact(Fact::Said { from, word })),
        }
    }

    fn to_coordinator(&self, from: NodeId, word: Word) {
        self.tell(&self.coordinator, "coordinator", CoordinatorMsg::Said { node: from, message: Control::Word(word) });
    }

    /// A step has become stable, by its leader's word or because an epoch goes on from it: every member keeps its line for the
    /// ledger and shows it, once.
    pub(super) fn committed(&self, epoch: Epoch, step: Step) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Report { line, metrics, wait, phases }) = report.take_if(|report| report.line.step == step && report.line.epoch == epoch)
        else {
            return;
        };
        drop(report);
        self.tail.push(line);
        let Line { samples, samples_hash, .. } = line;
        let metrics = metrics.into_iter().collect();
        let phases = phases::NAMES.iter().map(|name| (*name).to_owned()).zip(phases.into_iter().map(f64::from)).collect();
        let seconds = {
            let mut last = self.committed_at.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *last, Instant::now()).elapsed().as_secs_f64()
        };
        self.record(Event::StepCommitted { step, epoch, metrics, seconds, images: self.images, wait, samples, samples_hash, phases });
    }
}

/// Whether only the node that recorded an event saw it: all others are told of by every member.
fn own_news(event: &Event) -> bool {
    matches!(event, Event::Hung { .. } | Event::Ordered { .. } | Event::SampleReplaced { .. } | Event::NodeOdd { .. })
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

    fn up(&self, peer: &Peer) -> Result<(), Reject> {
        if self.0.denied.denies_peer(peer) { Err(Reject(deny::DENIED.into())) } else { Ok(()) }
    }

    fn linked(&self, link: Link<Control>) {
        let peer = link.peer();
        let node = link.certificate().role == Role::Node;
        self.0.links.insert(peer, link.clone());
        if self.0.denied.denies_peer(link.certificate()) {
            return link.refuse(deny::DENIED);
        }
        self.0.linked.send_modify(|count| *count += 1);
        if node {
            self.0.tell(&self.0.node, "node", NodeMsg::Fact(Fact::Linked(peer)));
        }
    }

    fn control(&self, from: NodeId, message: Control) {
        let Some(role) = self.0.links.get(&from).map(|link| link.certificate().role) else { return };
        if !permits(role, &message) {
            tracing::debug!(%from, %role, "a message that its sender's certificate does not allow was turned away");
            if let Control::Order { number, order } = message {
                self.0.refuse(from, role, number, &order);
            }
            return;
        }
        match message {
            Control::Order { number, order } => self.0.obey(from, number, &order),
            message => self.0.route(from, message),
        }
    }

    fn admit(&self, from: NodeId, header: &DataHeader) -> Result<(), Reject> {
        let epoch = self.0.epoch().ok_or_else(|| Reject("this node is in no epoch".into()))?;
        if !epoch.record.includes(from) {
            return Err(Reject("its sender is not in the epoch".into()));
        }
        if matches!(header.kind, DataKind::WantCopy | DataKind::Copy) {
            let admitted = header.epoch == epoch.record.epoch && self.0.transfers.admits(header);
            return if admitted { Ok(()) } else { Err(Reject("a copy that nobody waits for, or of another epoch".into())) };
        }
        let term = self.0.term().ok_or_else(|| Reject("no epoch is being run".into()))?;
        if !term.ranks.contains_key(&from) {
            return Err(Reject("its sender has no rank in the epoch".into()));
        }
        term.exchange.admit(header).map_err(|rejected| Reject(rejected.to_string()))
    }

    fn lands(&self, from: NodeId, header: &DataHeader, values: usize) -> bool {
        self.0.term().is_some_and(|term| term.ranks.contains_key(&from) && term.exchange.lands(header, values))
    }

    fn land(&self, _: NodeId, header: &DataHeader, at: usize, piece: &[u8]) {
        if let Some(term) = self.0.term() {
            term.exchange.land(header, at, piece);
        }
    }

    fn data(&self, from: NodeId, header: DataHeader, values: Vec<f32>) {
        match header.kind {
            DataKind::WantCopy => self.0.answer_copy(from, header),
            DataKind::Copy => self.0.transfers.arrived(&header, values),
            _ => {
                if let Some(term) = self.0.term()
                    && let Some(rank) = term.ranks.get(&from)
                {
                    term.exchange.on_data(*rank, header, values);
                }
            }
        }
    }

    fn down(&self, peer: NodeId, cause: LinkDown) {
        // A newer link to the same node lives on.
        let ended = self.0.links.remove_if(&peer, |_, link| link.is_down().is_some());
        let Some((_, link)) = ended else { return };
        if let Some(failure) = link.report().failure {
            let because = format!("the actor of its link to {peer} failed: {}", failure.root_cause);
            self.0.record(Event::NodeOdd { node: self.0.me, because });
        }
        if link.certificate().role == Role::Node {
            // Whoever is denied is as good as dead: nobody listens to it any more, whatever it holds.
            let proven = self.0.denied.denies_peer(link.certificate());
            self.0.tell(&self.0.node, "node", NodeMsg::Down { peer, proven, because: cause.to_string() });
        }
    }
}

impl Shared {
    fn answer_copy(self: &Arc<Self>, from: NodeId, want: DataHeader) {
        let Some(link) = self.links.get(&from).map(|link| link.clone()) else { return };
        let shared = self.clone();
        tokio::spawn(async move {
            let answer = aside(move || shared.transfers.answer(&want)).await;
            if let Ok((header, payload)) = answer {
                // A peer that is gone wants nothing any more.
                let _ = link.send(&header, payload.into()).await;
            }
        });
    }
}

/// The wires of an exchange. What the node holds does not hold the node: one that is dropped without a word leaves nothing behind.
pub(super) struct Wires {
    pub(super) shared: Weak<Shared>,
    pub(super) members: Vec<NodeId>,
}

impl Outbound for Wires {
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        let shared = self.shared.upgrade();
        let link = self.members.get(frame.to.0 as usize).and_then(|node| shared?.links.get(node).map(|link| link.clone()));
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

/// The node's other actors, for the exchange and the rank; as [`Wires`] are.
pub(super) struct Desks(pub(super) Weak<Shared>);

impl Inward for Desks {
    fn reduced(&self, step: Step) {
        let Some(shared) = self.0.upgrade() else { return };
        if let Some(term) = shared.term() {
            shared.tell(&shared.rank, "rank", RankMsg::Reduced { epoch: term.exchange.epoch(), step });
        }
    }
    fn partial(&self, header: DataHeader, values: Vec<f32>) {
        let Some(shared) = self.0.upgrade() else { return };
        if let Some(term) = shared.term() {
            let exchange = term.exchange.clone();
            shared.tell(&shared.aggregator, "Sinkhorn aggregator", AggregatorMsg::Partial { exchange, header, values });
        }
    }
    fn broken(&self, because: String) {
        if let Some(shared) = self.0.upgrade() {
            shared.tell(&shared.node, "node", NodeMsg::Broken(because));
        }
    }
}

impl Superior for Desks {
    fn tell_leader(&self, message: Control) {
        if let Some(shared) = self.0.upgrade()
            && let Some(leader) = shared.leader()
        {
            shared.send(leader, message);
        }
    }
    fn snapshot(&self, epoch: Epoch, step: Step, shards: Shards, stall_ms: f64) {
        if let Some(shared) = self.0.upgrade() {
            shared.tell(&shared.node, "node", NodeMsg::Snapshot { epoch, step, shards, stall_ms });
        }
    }
    fn corrupt(&self, copies: Vec<Held>) {
        let shards: Vec<String> = copies.iter().map(|held| held.shard.to_string()).collect();
        let because = format!("bits of its copies of shards {} had changed in its memory; they were dropped", shards.join(", "));
        if let Some(shared) = self.0.upgrade() {
            shared.record(Event::NodeOdd { node: shared.me, because });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_events_of_a_node_are_of_one_moment() {
        let moments = Moments::default();
        assert_eq!([5, 5, 3, 9].map(|now| moments.next(now)), [5, 6, 7, 9]);
    }
}
