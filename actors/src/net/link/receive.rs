//! The receiving half of a link: one task for each stream, each length checked before memory is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::RecvStream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::timeout;

use super::{LinkDown, REFUSED, Shared};
use crate::net::Router;
use crate::net::tls::Role;
use crate::wire::frame::{self, FrameError};
use crate::wire::message::DataHeader;

/// The first byte of every stream says what it is for.
pub(crate) const TAG_CONTROL: u8 = 1;
pub(crate) const TAG_HEARTBEAT: u8 = 2;
pub(super) const TAG_SMALL: u8 = 3;
pub(super) const TAG_BULK: u8 = 4;
pub(super) const TAG_BATCH: u8 = 5;

/// Bytes that are asked of QUIC at once where a frame begins: its head, or some small frames. Each time its connection is locked, which
/// sends and decrypts under the same lock.
const HEAD: usize = 512;

type Reader = BufReader<RecvStream>;

/// `Ok`: the stream came to its end, or its connection did and says why itself.
pub(super) type Received = Result<(), LinkDown>;

/// Control frames to the router, until the stream ends. Who is no node says little, and who has begun a frame finishes it in
/// time: nobody makes this node keep memory for what never comes.
pub(super) async fn control<R: Router>(shared: Arc<Shared>, router: Arc<R>, mut stream: RecvStream) -> Received {
    let options = &shared.options;
    let cap = if shared.peer.role == Role::Node { options.max_control } else { options.max_control.min(options.max_question) };
    loop {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) => return violation(&shared, "control", FrameError::Broken(error.into())),
        }
        let mut rest = first.as_slice().chain(&mut stream);
        match timeout(options.frame, frame::read_control(&mut rest, cap)).await {
            Ok(Ok(Some(message))) => {
                shared.liveness.heard();
                router.control(shared.peer.id, message);
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return violation(&shared, "control", error),
            Err(_) => {
                let reason = format!("it began a control frame and did not finish it within {:.1} s", options.frame.as_secs_f32());
                return Err(LinkDown::Violation { reason });
            }
        }
    }
}

/// Unidirectional streams: the small one and those of bulk transfers. All in one task, so that
/// nothing is delivered any more once it has ended.
pub(super) async fn data<R: Router>(shared: Arc<Shared>, router: Arc<R>) -> Received {
    let small_taken = AtomicBool::new(false);
    let mut streams = FuturesUnordered::new();
    let mut leaving = shared.leaving.subscribe();
    loop {
        tokio::select! {
            biased;
            Some(received) = streams.next() => received?,
            stream = shared.connection.accept_uni() => match stream {
                Ok(stream) => streams.push(one(&shared, &*router, &small_taken, stream)),
                Err(_) => return Ok(()),
            },
            // All that the peer has sent is here before its farewell: when nothing is being read, nothing is left.
            _ = leaving.wait_for(|leaving| *leaving), if streams.is_empty() => return Ok(()),
        }
    }
}

async fn one<R: Router>(shared: &Shared, router: &R, small_taken: &AtomicBool, stream: RecvStream) -> Received {
    if shared.peer.role != Role::Node {
        return Err(LinkDown::Violation { reason: format!("it is no node but a {} and sent data", shared.peer.role) });
    }
    let mut stream = BufReader::with_capacity(HEAD, stream);
    match stream.read_u8().await {
        Ok(TAG_SMALL) if !small_taken.swap(true, Ordering::Relaxed) => {
            each(shared, router, &mut stream).await.or_else(|error| violation(shared, "small", error))
        }
        Ok(TAG_BULK) => bulk(shared, router, &mut stream).await,
        Ok(TAG_BATCH) => batch(shared, router, &mut stream).await,
        Ok(tag) => Err(LinkDown::Violation { reason: format!("it opened a stream of kind {tag} out of turn") }),
        Err(_) => Ok(()),
    }
}

/// Frame after frame, a rejected one is skipped.
async fn each<R: Router>(shared: &Shared, router: &R, stream: &mut Reader) -> Result<(), FrameError> {
    while let Some(next) = next(shared, router, stream).await? {
        if let Next::Rejected(values) = next {
            frame::skip_values(stream, values).await?;
        }
    }
    Ok(())
}

/// Some frames that were sent at once.
async fn batch<R: Router>(shared: &Shared, router: &R, stream: &mut Reader) -> Received {
    match each(shared, router, stream).await {
        // As in `bulk`.
        Ok(()) | Err(FrameError::Broken(_)) => Ok(()),
        Err(error) => violation(shared, "bulk", error),
    }
}

/// One frame of a stream of its own; when it is rejected the sender is told to stop.
async fn bulk<R: Router>(shared: &Shared, router: &R, stream: &mut Reader) -> Received {
    match next(shared, router, stream).await {
        Ok(Some(Next::Delivered) | None) => {}
        Ok(Some(Next::Rejected(_))) => drop(stream.get_mut().stop(REFUSED.into())),
        // The sender has given this transfer up; its link goes on.
        Err(FrameError::Broken(_)) => {}
        Err(error) => return violation(shared, "bulk", error),
    }
    Ok(())
}

enum Next {
    Delivered,
    Rejected(usize),
}

async fn next<R: Router>(shared: &Shared, router: &R, stream: &mut Reader) -> Result<Option<Next>, FrameError> {
    let Some((header, values)) = frame::read_data(stream, shared.options.max_values).await? else { return Ok(None) };
    shared.liveness.heard();
    if let Err(reject) = router.admit(shared.peer.id, &header) {
        shared.rejected_in.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(peer = %shared.peer.id, kind = ?header.kind, epoch = %header.epoch, step = %header.step, %reject, "data frame rejected");
        return Ok(Some(Next::Rejected(values)));
    }
    if router.lands(shared.peer.id, &header, values) {
        land(shared, router, stream, &header, values).await?;
        shared.liveness.heard();
        return Ok(Some(Next::Delivered));
    }
    let payload = frame::read_values(stream, router.buffer(values), values).await?;
    shared.liveness.heard();
    router.data(shared.peer.id, header, payload);
    Ok(Some(Next::Delivered))
}

/// A payload piece by piece, as QUIC holds it: it is copied once, to where it stays.
async fn land<R: Router>(shared: &Shared, router: &R, stream: &mut Reader, header: &DataHeader, values: usize) -> Result<(), FrameError> {
    let whole = values * size_of::<f32>();
    let mut at = stream.buffer().len().min(whole);
    router.land(shared.peer.id, header, 0, &stream.buffer()[..at]);
    stream.consume(at);
    while at < whole {
        let piece = stream.get_mut().read_chunk(whole - at, true).await.map_err(broken)?;
        let piece = piece.ok_or_else(|| broken(std::io::ErrorKind::UnexpectedEof))?.bytes;
        router.land(shared.peer.id, header, at, &piece);
        at += piece.len();
    }
    Ok(())
}

fn broken(because: impl Into<std::io::Error>) -> FrameError {
    FrameError::Broken(because.into())
}

/// When the connection has ended, its end is the cause; else the peer is at fault.
fn violation(shared: &Shared, stream: &str, error: FrameError) -> Received {
    match (error, shared.connection.close_reason()) {
        (FrameError::Broken(_), Some(_)) => Ok(()),
        (error, _) => Err(LinkDown::Violation { reason: format!("on its {stream} stream, {error}") }),
    }
}
