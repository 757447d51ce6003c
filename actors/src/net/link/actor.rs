//! The actor that owns a link: it beats, watches, and ends the link once and for one cause; a panic of its own is one.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::FutureExt;
use quinn::{Connection, RecvStream, SendStream};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::heartbeat::{self, Liveness, Signal};
use super::receive::{self, Received};
use super::send::{self, Receivers};
use super::{CLOSED, Link, LinkDown, REFUSED, SILENT, Shared};
use crate::net::Router;
use crate::net::endpoint::Options;
use crate::net::mailbox::{ActorStats, Mailbox, MailboxError};
use crate::net::tls::{Peer, Role};

/// Messages to the actor of a link are few: more than so many show that it does not come to them.
const MAILBOX: usize = 64;

/// A connection whose two ends have agreed on their first streams.
pub(crate) struct Established {
    pub(crate) me: Peer,
    pub(crate) peer: Peer,
    pub(crate) dialled: bool,
    pub(crate) connection: Connection,
    pub(crate) control: (SendStream, RecvStream),
    pub(crate) heartbeat: (SendStream, RecvStream),
}

/// Starts the actor of a link.
pub(crate) async fn start<R: Router>(
    established: Established,
    router: Arc<R>,
    options: Options,
    supervisor: Option<ActorCell>,
) -> Result<Link<R::Control>, SpawnErr> {
    let Established { me, peer, dialled, connection, control, heartbeat } = established;
    let (queues, receivers) = send::queues(&options);
    let stats = ActorStats::one_of_many("link", format!("link-{}", peer.id), MAILBOX);
    let round_trip = connection.rtt();
    // Who only asks is silent between two questions, and nobody counts on it: QUIC's own limit watches such a link.
    let beats = me.role == Role::Node && peer.role == Role::Node;
    let shared = Arc::new(Shared {
        me: me.id,
        beats,
        actor: stats.clone(),
        peer,
        dialled,
        connection,
        queues,
        liveness: Liveness::new(options.heartbeat, round_trip),
        options,
        rejected_in: AtomicU64::new(0),
        rejected_out: AtomicU64::new(0),
        closing: watch::Sender::new(false),
        leaving: watch::Sender::new(false),
        down: watch::Sender::new(None),
    });
    let begin = Begin { shared: shared.clone(), router, receivers, control, heartbeat };
    let (actor, _) = match supervisor {
        Some(supervisor) => Actor::spawn_linked(None, LinkActor(PhantomData), begin, supervisor).await?,
        None => Actor::spawn(None, LinkActor(PhantomData), begin).await?,
    };
    Ok(Link { shared, actor: Mailbox::new(actor, stats), control: PhantomData })
}

/// What the actor is told. Few and small: frames do not pass through its mailbox.
#[derive(Debug)]
pub(super) enum LinkMessage {
    /// An interval has passed.
    Tick,
    /// Something has ended, and with it the link.
    Ended(LinkDown),
    /// One of the two receivers has come to its end.
    Received,
    /// Close it in good order: queues, then the farewell, then the peer closes.
    Close { reason: String },
    /// There was not enough time for that.
    Overdue,
    /// The peer's farewell: all that it had to send is here.
    Bye { reason: String },
    /// An operator wants it to fail.
    Kill,
}

impl LinkMessage {
    fn name(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Ended(_) => "ended",
            Self::Received => "received",
            Self::Close { .. } => "close",
            Self::Overdue => "overdue",
            Self::Bye { .. } => "bye",
            Self::Kill => "kill",
        }
    }
}

struct LinkActor<R>(PhantomData<fn(R)>);

struct Begin<R> {
    shared: Arc<Shared>,
    router: Arc<R>,
    receivers: Receivers,
    control: (SendStream, RecvStream),
    heartbeat: (SendStream, RecvStream),
}

struct State<R> {
    shared: Arc<Shared>,
    router: Arc<R>,
    signals: mpsc::Sender<Signal>,
    tasks: JoinSet<()>,
    /// The tasks that empty the queues; taken by the first close.
    writers: Option<JoinSet<()>>,
    /// Why the link is being closed, here or there.
    farewell: Option<String>,
    /// Receivers that have not come to their end.
    receiving: u8,
}

impl<R: Router> Actor for LinkActor<R> {
    type Msg = LinkMessage;
    type State = State<R>;
    type Arguments = Begin<R>;

    async fn pre_start(&self, myself: ActorRef<LinkMessage>, begin: Begin<R>) -> Result<State<R>, ActorProcessingErr> {
        let Begin { shared, router, receivers, control, heartbeat } = begin;
        let myself = Mailbox::new(myself, shared.actor.clone());
        router.linked(Link { shared: shared.clone(), actor: myself.clone(), control: PhantomData });
        let (signals, signals_out) = mpsc::channel(16);

        let mut writers = JoinSet::new();
        writers.spawn(send::in_order(receivers.control, control.0, shared.closing.subscribe()));
        writers.spawn(send::small(shared.clone(), receivers.small));
        writers.spawn(send::bulk(shared.clone(), receivers.bulk));

        let mut tasks = JoinSet::new();
        tasks.spawn(heartbeat::sending(shared.clone(), signals_out, heartbeat.0));
        let actor = myself.clone();
        let bye = move |reason| drop(actor.insist(LinkMessage::Bye { reason }));
        tasks.spawn(reported(myself.clone(), None, heartbeat::receiving(shared.clone(), signals.clone(), bye, heartbeat.1)));
        let done = || Some(LinkMessage::Received);
        tasks.spawn(reported(myself.clone(), done(), receive::control(shared.clone(), router.clone(), control.1)));
        tasks.spawn(reported(myself.clone(), done(), receive::data(shared.clone(), router.clone())));
        tasks.spawn(watching(myself.clone(), shared.connection.clone()));
        if shared.beats {
            tasks.spawn(ticking(myself, shared.options.heartbeat.interval));
        }
        Ok(State { shared, router, signals, tasks, writers: Some(writers), farewell: None, receiving: 2 })
    }

    async fn handle(&self, myself: ActorRef<LinkMessage>, message: LinkMessage, state: &mut State<R>) -> Result<(), ActorProcessingErr> {
        let stats = state.shared.actor.clone();
        let _at_work = stats.handling(message.name());
        let failed = match message {
            LinkMessage::Kill => Some("it was killed by an operator".to_owned()),
            message => {
                let handled = AssertUnwindSafe(state.obey(&myself, message)).catch_unwind().await;
                handled.err().map(|panic| format!("it panicked: {}", in_words(&*panic)))
            }
        };
        if let Some(because) = failed {
            // Whoever relies on the link hears of its end and why, as of any other end.
            tracing::error!(peer = %state.shared.peer.id, %because, "the actor of a link failed");
            stats.died("the link has ended".into(), because.clone());
            state.end(LinkDown::Broken { reason: format!("the actor of its link failed: {because}") }).await;
        }
        if state.shared.down.borrow().is_some() {
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<LinkMessage>, state: &mut State<R>) -> Result<(), ActorProcessingErr> {
        state.end(LinkDown::Closed { reason: "the link's actor was stopped".into() }).await;
        Ok(())
    }
}

impl<R: Router> State<R> {
    async fn obey(&mut self, myself: &ActorRef<LinkMessage>, message: LinkMessage) {
        match message {
            LinkMessage::Tick => {
                // A full queue means that the stream does not move; that shows as silence.
                let _ = self.signals.try_send(Signal::Beat);
                if let Some(reason) = self.shared.liveness.check(self.shared.connection.stats().udp_rx.datagrams) {
                    self.end(LinkDown::TimedOut { reason }).await;
                }
            }
            LinkMessage::Ended(cause @ (LinkDown::Violation { .. } | LinkDown::Unwanted { .. })) => self.end(cause).await,
            LinkMessage::Ended(cause) => self.end(self.farewell.clone().map_or(cause, |reason| LinkDown::Closed { reason })).await,
            LinkMessage::Received => {
                self.receiving -= 1;
                self.leave().await;
            }
            LinkMessage::Close { reason } => self.close(Mailbox::new(myself.clone(), self.shared.actor.clone()), reason),
            LinkMessage::Overdue => self.end(LinkDown::Closed { reason: self.farewell.clone().unwrap_or_default() }).await,
            // Done before.
            LinkMessage::Kill => {}
            LinkMessage::Bye { reason } => {
                self.farewell.get_or_insert(reason);
                self.shared.closing.send_replace(true);
                self.shared.leaving.send_replace(true);
                self.leave().await;
            }
        }
    }

    /// Empties the queues and says farewell; the peer closes the connection when it has taken it all.
    fn close(&mut self, actor: Mailbox<LinkMessage>, reason: String) {
        let Some(mut writers) = self.writers.take() else { return };
        self.farewell.get_or_insert_with(|| reason.clone());
        self.shared.closing.send_replace(true);
        let (patience, signals) = (self.shared.options.drain, self.signals.clone());
        self.tasks.spawn(async move {
            let orderly = async {
                while writers.join_next().await.is_some() {}
                let _ = signals.send(Signal::Bye(reason)).await;
                std::future::pending::<()>().await;
            };
            let _ = timeout(patience, orderly).await;
            let _ = actor.insist(LinkMessage::Overdue);
        });
    }

    /// Closes the connection once the peer has said farewell and all that it sent is delivered.
    async fn leave(&mut self) {
        if self.receiving == 0 && *self.shared.leaving.borrow() {
            self.end(LinkDown::Closed { reason: self.farewell.clone().unwrap_or_default() }).await;
        }
    }

    /// Ends the link; only the first cause counts.
    async fn end(&mut self, cause: LinkDown) {
        if self.shared.down.borrow().is_some() {
            return;
        }
        let (code, reason) = match &cause {
            LinkDown::Closed { reason } => (CLOSED, reason.clone()),
            LinkDown::TimedOut { reason } => (SILENT, reason.clone()),
            LinkDown::Unwanted { reason } => (REFUSED, reason.clone()),
            other => (REFUSED, other.to_string()),
        };
        self.shared.connection.close(code.into(), reason.as_bytes());
        // Waits for them: nothing may reach the router after `down`.
        self.tasks.shutdown().await;
        // And for those that empty the queues: who puts something in after `down` is told so.
        if let Some(mut writers) = self.writers.take() {
            writers.shutdown().await;
        }
        self.shared.closing.send_replace(true);
        tracing::debug!(peer = %self.shared.peer.id, %cause, "link down");
        self.shared.down.send_replace(Some(cause.clone()));
        self.router.down(self.shared.peer.id, cause);
    }
}

/// What a panic said.
fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word").to_owned()
}

async fn reported(actor: Mailbox<LinkMessage>, done: Option<LinkMessage>, task: impl Future<Output = Received>) {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    let panicked = |_| Err(LinkDown::Broken { reason: "the receiver of its messages panicked".into() });
    let message = match ended.unwrap_or_else(panicked) {
        Ok(()) => done,
        Err(cause) => Some(LinkMessage::Ended(cause)),
    };
    // A link that has ended needs no second cause.
    let _ = message.map(|message| actor.insist(message));
}

async fn watching(actor: Mailbox<LinkMessage>, connection: Connection) {
    let cause = connection.closed().await.into();
    let _ = actor.insist(LinkMessage::Ended(cause));
}

async fn ticking(actor: Mailbox<LinkMessage>, every: std::time::Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A tick among many that wait would tell nothing new.
        if let Err(MailboxError::Gone(_)) = actor.try_send(LinkMessage::Tick) {
            return;
        }
    }
}
