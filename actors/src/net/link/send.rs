//! The sending half of a link: bounded queues, and the tasks that empty them into streams.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::receive::{TAG_BATCH, TAG_BULK, TAG_SMALL};
use super::{QueueStats, Shared};

/// Payloads up to this many bytes ride on the small stream.
pub const SMALL: usize = 64 * 1024;

/// Frames that are handed to QUIC in one go.
const BATCH: usize = 32;

/// Bytes of large frames that share a stream, where so many wait: a stream of its own for each costs more than what is in a small model's
/// shards, and the peer allows only so many at once.
const STREAM: usize = 4 << 20;

/// The values of a data frame. Neither form is copied on its way to the socket.
#[derive(Debug, Clone, Default)]
pub struct Payload(Bytes);

impl Payload {
    /// No values.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The values of `range`.
    ///
    /// # Errors
    /// `InvalidInput` when the range does not lie in the vector.
    pub fn shared(values: Arc<Vec<f32>>, range: Range<usize>) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{range:?} does not lie in a vector of {}", values.len()));
        if range.start > range.end || range.end > values.len() {
            return Err(bad());
        }
        Ok(Self(Bytes::from_owner(Values(values)).slice(range.start * 4..range.end * 4)))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Vec<f32>> for Payload {
    fn from(values: Vec<f32>) -> Self {
        Self::from(Arc::new(values))
    }
}
impl From<Arc<Vec<f32>>> for Payload {
    fn from(values: Arc<Vec<f32>>) -> Self {
        Self(Bytes::from_owner(Values(values)))
    }
}

struct Values(Arc<Vec<f32>>);

impl AsRef<[u8]> for Values {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// A frame, ready to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}

/// A bounded queue that knows its depth. Frames are boxed because room for 32 of what it holds is taken at once: of hundreds of links
/// most are quiet.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Box<Outgoing>>,
    high_water: AtomicUsize,
}

impl Queue {
    fn new(capacity: usize) -> (Self, mpsc::Receiver<Box<Outgoing>>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, high_water: AtomicUsize::new(0) }, receiver)
    }

    pub(super) async fn put(&self, frame: Outgoing) -> Result<(), ()> {
        self.sender.send(Box::new(frame)).await.map_err(drop)?;
        self.mark();
        Ok(())
    }

    /// `Err(true)` when it is full, `Err(false)` when it is closed.
    pub(super) fn try_put(&self, frame: Outgoing) -> Result<(), bool> {
        self.sender.try_send(Box::new(frame)).map_err(|error| matches!(error, TrySendError::Full(_)))?;
        self.mark();
        Ok(())
    }

    pub(super) fn stats(&self) -> QueueStats {
        QueueStats { depth: self.depth(), high_water: self.high_water.load(Ordering::Relaxed), capacity: self.sender.max_capacity() }
    }

    fn mark(&self) {
        self.high_water.fetch_max(self.depth(), Ordering::Relaxed);
    }

    fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// The queues of a link.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) control: Queue,
    pub(super) small: Queue,
    pub(super) bulk: Queue,
}

/// Their other ends.
#[derive(Debug)]
pub(super) struct Receivers {
    pub(super) control: mpsc::Receiver<Box<Outgoing>>,
    pub(super) small: mpsc::Receiver<Box<Outgoing>>,
    pub(super) bulk: mpsc::Receiver<Box<Outgoing>>,
}

pub(super) fn queues(options: &super::Options) -> (Queues, Receivers) {
    let (control, control_receiver) = Queue::new(options.control_queue);
    let (small, small_receiver) = Queue::new(options.small_queue);
    let (bulk, bulk_receiver) = Queue::new(options.bulk_queue);
    (Queues { control, small, bulk }, Receivers { control: control_receiver, small: small_receiver, bulk: bulk_receiver })
}

/// The next frames; empty once the link is closing and the queue has run dry.
#[expect(clippy::vec_box, reason = "a queue hands over what it holds")]
async fn next(
    queue: &mut mpsc::Receiver<Box<Outgoing>>,
    closing: &mut watch::Receiver<bool>,
    batch: &mut Vec<Box<Outgoing>>,
    most: usize,
) -> usize {
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(batch, most) => return count,
            _ = closing.wait_for(|closing| *closing), if !queue.is_closed() => queue.close(),
        }
    }
}

/// Writes a queue into one stream, in order, until the link closes; returns when the peer has it all.
/// Errors need no report: the connection's own end says more.
pub(super) async fn in_order(mut queue: mpsc::Receiver<Box<Outgoing>>, mut stream: SendStream, mut closing: watch::Receiver<bool>) {
    // They grow with the first bursts: a quiet link needs next to nothing.
    let (mut batch, mut chunks) = (Vec::new(), Vec::new());
    while next(&mut queue, &mut closing, &mut batch, BATCH).await > 0 {
        for frame in batch.drain(..) {
            let Outgoing { head, body } = *frame;
            chunks.extend([head, body].into_iter().filter(|chunk| !chunk.is_empty()));
        }
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
    }
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

/// Opens the small stream when there is a first frame, then as [`in_order`]: who never sends data opens none.
pub(super) async fn small(shared: Arc<Shared>, mut queue: mpsc::Receiver<Box<Outgoing>>) {
    let mut closing = shared.closing.subscribe();
    let mut batch = Vec::with_capacity(1);
    next(&mut queue, &mut closing, &mut batch, 1).await;
    let Some(first) = batch.pop().map(|first| *first) else { return };
    let Ok(mut stream) = shared.connection.open_uni().await else { return };
    let _ = stream.set_priority(10);
    let mut chunks: Vec<Bytes> =
        [Bytes::from_static(&[TAG_SMALL]), first.head, first.body].into_iter().filter(|chunk| !chunk.is_empty()).collect();
    if stream.write_all_chunks(&mut chunks).await.is_ok() {
        in_order(queue, stream, closing).await;
    }
}

/// Writes the frames of a queue into streams of their own, some at a time: a large one alone, smaller ones with those that wait behind them.
pub(super) async fn bulk(shared: Arc<Shared>, mut queue: mpsc::Receiver<Box<Outgoing>>) {
    let streams = Arc::new(Semaphore::new(shared.options.bulk_streams as usize));
    let mut transfers = JoinSet::new();
    let mut closing = shared.closing.subscribe();
    let mut batch = Vec::new();
    loop {
        // The permit first: what waits for a stream waits in the queue, where it is counted.
        let Ok(permit) = streams.clone().acquire_owned().await else { return };
        if next(&mut queue, &mut closing, &mut batch, 1).await == 0 {
            break;
        }
        while batch.iter().map(|frame| frame.body.len()).sum::<usize>() < STREAM
            && let Ok(frame) = queue.try_recv()
        {
            batch.push(frame);
        }
        let (shared, frames) = (shared.clone(), std::mem::take(&mut batch));
        transfers.spawn(async move {
            let written = write(&shared.connection, frames).await;
            // The next one need not wait for the peer's word: what is under way is bounded by the windows and by the streams that it allows.
            drop(permit);
            let rejected = match written {
                Ok(stream) => matches!(stream.stopped().await, Ok(Some(_))),
                Err(rejected) => rejected,
            };
            if rejected {
                shared.rejected_out.fetch_add(1, Ordering::Relaxed);
            }
        });
        while transfers.try_join_next().is_some() {}
    }
    while transfers.join_next().await.is_some() {}
}

/// Frames on one stream. `Err` when not all of it was written: whether the peer wants none of it.
#[expect(clippy::vec_box, reason = "a queue hands over what it holds")]
async fn write(connection: &quinn::Connection, frames: Vec<Box<Outgoing>>) -> Result<SendStream, bool> {
    let mut stream = connection.open_uni().await.map_err(|_| false)?;
    let mut chunks = vec![Bytes::from_static(if frames.len() == 1 { &[TAG_BULK] } else { &[TAG_BATCH] })];
    chunks.extend(frames.into_iter().flat_map(|frame| [frame.head, frame.body]).filter(|chunk| !chunk.is_empty()));
    let written = stream.write_all_chunks(&mut chunks).await;
    written.map_err(|error| matches!(error, quinn::WriteError::Stopped(_)))?;
    stream.finish().map_err(|_| false)?;
    Ok(stream)
}
