//! One link per peer: its connection, its streams, heartbeats and liveness.
//!
//! | stream | direction | priority | carries |
//! |---|---|---|---|
//! | heartbeat | both | 30 | beats and their acknowledgements between nodes, farewells |
//! | control | both | 20 | control frames, in order |
//! | small | one each way | 10 | data frames up to [`SMALL`] bytes, in order |
//! | bulk | one for each large frame, or for some that wait | 0 | larger data frames |
//!
//! Senders never touch the network: they put into a bounded queue and wait for room there, or are
//! told [`SendError::Full`].

mod actor;
mod heartbeat;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::net::endpoint::Options;
use crate::net::link::actor::LinkMessage;
use crate::net::link::heartbeat::Liveness;
use crate::net::link::send::{Outgoing, Queues};
use crate::net::mailbox::{ActorReport, ActorStats, Mailbox};
use crate::net::tls::Peer;
use crate::protocol::ids::NodeId;
use crate::wire::frame::{self, Frame, FrameError};
use crate::wire::message::DataHeader;

pub(crate) use actor::{Established, start};
pub use heartbeat::Heartbeat;
pub(crate) use receive::{TAG_CONTROL, TAG_HEARTBEAT};
pub use send::{Payload, SMALL};

/// Close codes: how the other end tells an orderly end from a refusal.
pub(crate) const CLOSED: u32 = 0;
pub(crate) const REFUSED: u32 = 1;
pub(crate) const SILENT: u32 = 2;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkDown {
    /// This end does not want the peer any more.
    #[error("this node refused the peer: {reason}")]
    Unwanted {
        /// The sentence that the peer was given.
        reason: String,
    },
    /// One of the two ends closed it on purpose.
    #[error("the link was closed: {reason}")]
    Closed {
        /// The sentence that was given.
        reason: String,
    },
    /// The peer did not want to go on with us.
    #[error("the peer refused: {reason}")]
    Refused {
        /// The peer's sentence.
        reason: String,
    },
    /// No sign of life.
    #[error("the peer fell silent: {reason}")]
    TimedOut {
        /// What was missing and for how long.
        reason: String,
    },
    /// The peer sent what no peer should.
    #[error("the peer broke the protocol: {reason}")]
    Violation {
        /// What it sent.
        reason: String,
    },
    /// The connection broke in another way.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What QUIC said.
        reason: String,
    },
}

impl From<quinn::ConnectionError> for LinkDown {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                match u32::try_from(close.error_code.into_inner()) {
                    Ok(CLOSED) => Self::Closed { reason },
                    Ok(SILENT) => Self::TimedOut { reason: format!("it gave us up first, {reason}") },
                    _ => Self::Refused { reason },
                }
            }
            E::LocallyClosed => Self::Closed { reason: "this node closed its endpoint".into() },
            E::TimedOut => Self::TimedOut { reason: "QUIC's idle timeout passed".into() },
            other => Self::Broken { reason: other.to_string() },
        }
    }
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is full: wait, or try again later.
    #[error("the queue of the link to {0} is full")]
    Full(NodeId),
    /// The link has ended or is about to.
    #[error("the link to {peer} is down: {cause}")]
    Down {
        /// Its other end.
        peer: NodeId,
        /// Why.
        cause: LinkDown,
    },
    /// The message itself cannot be sent: it will never fit.
    #[error("a message to {peer} cannot be sent: {reason}")]
    Unsendable {
        /// For whom it was.
        peer: NodeId,
        /// What is wrong with it.
        reason: String,
    },
}

/// The depth of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueStats {
    /// Frames that wait.
    pub depth: usize,
    /// The most that ever waited.
    pub high_water: usize,
    /// The most that may wait.
    pub capacity: usize,
}

/// A link in numbers, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LinkStats {
    /// Bytes sent, everything included.
    pub bytes_out: u64,
    /// Bytes received, everything included.
    pub bytes_in: u64,
    /// QUIC's estimate of the round trip.
    pub rtt: Duration,
    /// The largest packet that the path carries, in bytes.
    pub mtu: u16,
    /// Packets that were lost.
    pub lost_packets: u64,
    /// How long ago the peer was heard.
    pub heard_ago: Duration,
    /// How long ago that was sent of which the peer has confirmed that it heard it.
    pub confirmed_ago: Duration,
    /// The silence that would end the link now.
    pub silence_limit: Duration,
    /// Data frames that our router rejected.
    pub rejected_in: u64,
    /// Bulk frames that the peer's router rejected.
    pub rejected_out: u64,
    /// Control frames that wait to be sent.
    pub control: QueueStats,
    /// Small data frames that wait to be sent.
    pub small: QueueStats,
    /// Large data frames that wait to be sent.
    pub bulk: QueueStats,
}

/// What the parts of a link share.
#[derive(Debug)]
struct Shared {
    me: NodeId,
    /// Whether both ends are nodes, whose silence is noticed at once.
    beats: bool,
    peer: Peer,
    dialled: bool,
    options: Options,
    /// The counters of its actor.
    actor: Arc<ActorStats>,
    connection: quinn::Connection,
    queues: Queues,
    liveness: Liveness,
    rejected_in: AtomicU64,
    rejected_out: AtomicU64,
    /// True once nothing more is taken from callers.
    closing: watch::Sender<bool>,
    /// True once nothing more comes from the peer.
    leaving: watch::Sender<bool>,
    down: watch::Sender<Option<LinkDown>>,
}

/// A handle to a link; clones share it. Dropping all of them does not close the link.
pub struct Link<C> {
    shared: Arc<Shared>,
    actor: Mailbox<LinkMessage>,
    control: PhantomData<fn(C)>,
}

impl<C> Clone for Link<C> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), actor: self.actor.clone(), control: PhantomData }
    }
}

impl<C> fmt::Debug for Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("peer", &self.shared.peer).field("dialled", &self.shared.dialled).finish_non_exhaustive()
    }
}

impl<C: Frame> Link<C> {
    /// Who is at the other end, by its certificate.
    pub fn peer(&self) -> NodeId {
        self.shared.peer.id
    }

    /// Id, role and run of the other end, by its certificate.
    pub fn certificate(&self) -> &Peer {
        &self.shared.peer
    }

    /// Where the peer's packets come from now.
    pub fn remote_address(&self) -> SocketAddr {
        self.shared.connection.remote_address()
    }

    /// Whether this end dialled.
    pub fn dialled(&self) -> bool {
        self.shared.dialled
    }

    /// Two nodes that dial each other at once have two links, both usable. This is true for one of
    /// them, the same at both ends: the one that the lower node id dialled.
    pub fn preferred(&self) -> bool {
        self.shared.dialled == (self.shared.me < self.shared.peer.id)
    }

    /// The actor that owns the link, to supervise or list it.
    pub fn cell(&self) -> ractor::ActorCell {
        self.actor.actor().get_cell()
    }

    /// What that actor is doing.
    pub fn report(&self) -> ActorReport {
        self.shared.actor.report()
    }

    /// Ends the link as a failure of its actor would.
    pub fn kill(&self) {
        // An actor that is gone has ended its link.
        let _ = self.actor.insist(LinkMessage::Kill);
    }

    /// Sends a control message; waits while the queue is full. Order is kept.
    ///
    /// # Errors
    /// [`SendError::Down`] or [`SendError::Unsendable`].
    pub async fn control(&self, message: &C) -> Result<(), SendError> {
        let frame = self.control_frame(message)?;
        self.shared.queues.control.put(frame).await.map_err(|()| self.gone())
    }

    /// As [`Link::control`], without waiting.
    ///
    /// # Errors
    /// As [`Link::control`], and [`SendError::Full`].
    pub fn try_control(&self, message: &C) -> Result<(), SendError> {
        let frame = self.control_frame(message)?;
        self.shared.queues.control.try_put(frame).map_err(|full| if full { SendError::Full(self.peer()) } else { self.gone() })
    }

    /// Sends a data frame; waits while the queue is full. Small frames keep their order among themselves.
    ///
    /// # Errors
    /// [`SendError::Down`] or [`SendError::Unsendable`].
    pub async fn send(&self, header: &DataHeader, payload: Payload) -> Result<(), SendError> {
        let frame = self.data_frame(header, payload)?;
        self.queue_of(&frame).put(frame).await.map_err(|()| self.gone())
    }

    /// As [`Link::send`], without waiting.
    ///
    /// # Errors
    /// As [`Link::send`], and [`SendError::Full`].
    pub fn try_send(&self, header: &DataHeader, payload: Payload) -> Result<(), SendError> {
        let frame = self.data_frame(header, payload)?;
        self.queue_of(&frame).try_put(frame).map_err(|full| if full { SendError::Full(self.peer()) } else { self.gone() })
    }

    /// Ends the link at once: nothing that the peer has sent is delivered any more. It gets the sentence.
    pub fn refuse(&self, reason: &str) {
        // An actor that is gone has ended its link.
        let _ = self.actor.insist(LinkMessage::Ended(LinkDown::Unwanted { reason: reason.to_owned() }));
    }

    /// Closes the link: what is queued still goes out and the peer's router gets it all, then it gets
    /// `reason` (up to 1 KiB of it), all that within [`Options::drain`]. Returns when the link is down.
    pub async fn close(&self, reason: &str) {
        // An actor that is gone has ended its link.
        let _ = self.actor.insist(LinkMessage::Close { reason: reason.to_owned() });
        self.down().await;
    }

    /// Waits for the link's end.
    pub async fn down(&self) -> LinkDown {
        let mut down = self.shared.down.subscribe();
        let cause = down.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        cause.unwrap_or_else(|| self.cause())
    }

    /// Why the link has ended; `None` while it has not.
    pub fn is_down(&self) -> Option<LinkDown> {
        self.shared.down.borrow().clone()
    }

    /// The link in numbers.
    pub fn stats(&self) -> LinkStats {
        let shared = &self.shared;
        let quic = shared.connection.stats();
        let silence = shared.liveness.silence();
        LinkStats {
            bytes_out: quic.udp_tx.bytes,
            bytes_in: quic.udp_rx.bytes,
            rtt: quic.path.rtt,
            mtu: quic.path.current_mtu,
            lost_packets: quic.path.lost_packets,
            heard_ago: silence.heard,
            confirmed_ago: silence.confirmed,
            silence_limit: silence.limit,
            rejected_in: shared.rejected_in.load(Ordering::Relaxed),
            rejected_out: shared.rejected_out.load(Ordering::Relaxed),
            control: shared.queues.control.stats(),
            small: shared.queues.small.stats(),
            bulk: shared.queues.bulk.stats(),
        }
    }

    fn control_frame(&self, message: &C) -> Result<Outgoing, SendError> {
        let [head, body] = frame::control(message, self.shared.options.max_control).map_err(|error| self.unsendable(&error))?;
        Ok(Outgoing { head, body })
    }

    fn data_frame(&self, header: &DataHeader, payload: Payload) -> Result<Outgoing, SendError> {
        let head = frame::data(header, payload.len(), self.shared.options.max_values).map_err(|error| self.unsendable(&error))?;
        Ok(Outgoing { head, body: payload.into_bytes() })
    }

    fn queue_of(&self, frame: &Outgoing) -> &send::Queue {
        if frame.body.len() <= SMALL { &self.shared.queues.small } else { &self.shared.queues.bulk }
    }

    fn unsendable(&self, error: &FrameError) -> SendError {
        SendError::Unsendable { peer: self.peer(), reason: error.to_string() }
    }

    fn gone(&self) -> SendError {
        SendError::Down { peer: self.peer(), cause: self.cause() }
    }

    fn cause(&self) -> LinkDown {
        self.is_down().unwrap_or_else(|| LinkDown::Closed { reason: "it is being closed".into() })
    }
}
