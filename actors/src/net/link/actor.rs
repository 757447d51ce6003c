//! The actor that owns a link: it beats, watches, and ends the link once and for one cause.

use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::FutureExt;
use quinn::{Connection, RecvStream, SendStream};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::heartbeat::{self, Liveness, Signal};
use super::receive::{self, Received};
use super::send::{self, Receivers};
use super::{CLOSED, Link, LinkDown, REFUSED, SILENT, Shared};
use crate::net::Router;
use crate::net::endpoint::Options;
use crate::net::tls::Peer;
use crate::protocol::ids::NodeId;

/// A connection whose two ends have agreed on their first streams.
pub(crate) struct Established {
    pub(crate) me: NodeId,
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
    let shared = Arc::new(Shared {
        me,
        peer,
        dialled,
        connection,
        queues,
        liveness: Liveness::new(options.heartbeat),
        options,
        rejected_in: AtomicU64::new(0),
        rejected_out: AtomicU64::new(0),
        closing: watch::Sender::new(false),
        down: watch::Sender::new(None),
    });
    let begin = Begin { shared: shared.clone(), router, receivers, control, heartbeat };
    let (actor, _) = match supervisor {
        Some(supervisor) => Actor::spawn_linked(None, LinkActor(PhantomData), begin, supervisor).await?,
        None => Actor::spawn(None, LinkActor(PhantomData), begin).await?,
    };
    Ok(Link { shared, actor, control: PhantomData })
}

/// What the actor is told. Few and small: frames do not pass through its mailbox.
#[derive(Debug)]
pub(super) enum LinkMessage {
    /// An interval has passed.
    Tick,
    /// Something has ended, and with it the link.
    Ended(LinkDown),
    /// Close it in good order.
    Close { reason: String, done: oneshot::Sender<()> },
    /// What was queued has gone out.
    Drained { reason: String, done: oneshot::Sender<()> },
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
}

impl<R: Router> Actor for LinkActor<R> {
    type Msg = LinkMessage;
    type State = State<R>;
    type Arguments = Begin<R>;

    async fn pre_start(&self, myself: ActorRef<LinkMessage>, begin: Begin<R>) -> Result<State<R>, ActorProcessingErr> {
        let Begin { shared, router, receivers, control, heartbeat } = begin;
        let (signals, signals_out) = mpsc::channel(16);

        let mut writers = JoinSet::new();
        writers.spawn(send::in_order(receivers.control, control.0, shared.closing.subscribe()));
        writers.spawn(send::small(shared.clone(), receivers.small));
        writers.spawn(send::bulk(shared.clone(), receivers.bulk));

        let mut tasks = JoinSet::new();
        tasks.spawn(heartbeat::sending(shared.clone(), signals_out, heartbeat.0));
        tasks.spawn(reported(myself.clone(), heartbeat::receiving(shared.clone(), signals.clone(), heartbeat.1)));
        tasks.spawn(reported(myself.clone(), receive::control(shared.clone(), router.clone(), control.1)));
        tasks.spawn(reported(myself.clone(), receive::data(shared.clone(), router.clone())));
        tasks.spawn(watching(myself.clone(), shared.connection.clone()));
        tasks.spawn(ticking(myself, shared.options.heartbeat.interval));
        Ok(State { shared, router, signals, tasks, writers: Some(writers) })
    }

    async fn handle(&self, myself: ActorRef<LinkMessage>, message: LinkMessage, state: &mut State<R>) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Tick => {
                // A full queue means that the stream does not move; that shows as silence.
                let _ = state.signals.try_send(Signal::Beat);
                if let Some(reason) = state.shared.liveness.check() {
                    state.end(LinkDown::TimedOut { reason }).await;
                }
            }
            LinkMessage::Ended(cause) => state.end(cause).await,
            LinkMessage::Close { reason, done } => {
                let Some(mut writers) = state.writers.take() else { return Ok(()) };
                state.shared.closing.send_replace(true);
                let patience = state.shared.options.drain;
                state.tasks.spawn(async move {
                    let _ = timeout(patience, async { while writers.join_next().await.is_some() {} }).await;
                    let _ = myself.cast(LinkMessage::Drained { reason, done });
                });
                return Ok(());
            }
            LinkMessage::Drained { reason, done } => {
                state.end(LinkDown::Closed { reason }).await;
                let _ = done.send(());
            }
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
    /// Ends the link; only the first cause counts.
    async fn end(&mut self, cause: LinkDown) {
        if self.shared.down.borrow().is_some() {
            return;
        }
        let (code, reason) = match &cause {
            LinkDown::Closed { reason } => (CLOSED, reason.clone()),
            LinkDown::TimedOut { reason } => (SILENT, reason.clone()),
            other => (REFUSED, other.to_string()),
        };
        self.shared.connection.close(code.into(), reason.as_bytes());
        // Waits for them: nothing may reach the router after `down`.
        self.tasks.shutdown().await;
        self.writers = None;
        self.shared.closing.send_replace(true);
        tracing::debug!(peer = %self.shared.peer.id, %cause, "link down");
        self.shared.down.send_replace(Some(cause.clone()));
        self.router.down(self.shared.peer.id, cause);
    }
}

async fn reported(actor: ActorRef<LinkMessage>, task: impl Future<Output = Received>) {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    let panicked = |_| Err(LinkDown::Broken { reason: "the receiver of its messages panicked".into() });
    if let Err(cause) = ended.unwrap_or_else(panicked) {
        // A link that has ended needs no second cause.
        let _ = actor.cast(LinkMessage::Ended(cause));
    }
}

async fn watching(actor: ActorRef<LinkMessage>, connection: Connection) {
    let cause = connection.closed().await.into();
    let _ = actor.cast(LinkMessage::Ended(cause));
}

async fn ticking(actor: ActorRef<LinkMessage>, every: std::time::Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if actor.cast(LinkMessage::Tick).is_err() {
            return;
        }
    }
}
