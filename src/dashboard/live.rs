//! Server-sent events: one message a second, made once for all who listen. Who does not keep up is dropped and may come again.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};

use super::sight::Sight;

/// Messages that may wait for one listener.
const WAITING: usize = 4;

/// Those who listen.
#[derive(Debug)]
pub(super) struct Live {
    most: usize,
    listeners: Mutex<Vec<Sender<Bytes>>>,
}

impl Live {
    pub(super) fn new(most: usize) -> Self {
        Self { most, listeners: Mutex::default() }
    }

    /// A new listener, unless there are as many as may be.
    pub(super) fn listen(&self) -> Option<Listener> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_closed());
        if listeners.len() >= self.most {
            return None;
        }
        let (sender, messages) = channel(WAITING);
        listeners.push(sender);
        Some(Listener { messages })
    }

    /// Looks once a second while somebody listens, for ever.
    pub(super) async fn poll(&self, sight: &Sight) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.any() {
                let message = message(sight).await;
                self.send(&message);
            }
        }
    }

    /// Whether somebody listens.
    pub(super) fn any(&self) -> bool {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_closed());
        !listeners.is_empty()
    }

    /// Drops all listeners.
    #[cfg(test)]
    pub(super) fn clear(&self) {
        self.listeners.lock().unwrap().clear();
    }

    /// Gives a message to all; who has not taken the last few is dropped.
    pub(super) fn send(&self, message: &Bytes) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.try_send(message.clone()).is_ok());
    }
}

/// The run as one message, without actors: the page asks for those that it shows.
pub(super) async fn message(sight: &Sight) -> Bytes {
    let told = sight.overview().await.and_then(|view| serde_json::to_string(&*view).map_err(|error| error.to_string()));
    match told {
        Ok(json) => format!("event: view\ndata: {json}\n\n").into(),
        Err(sentence) => format!("event: trouble\ndata: {}\n\n", serde_json::Value::from(sentence)).into(),
    }
}

/// The body of an answer that goes on until the listener is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    messages: Receiver<Bytes>,
}

impl Body for Listener {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.messages.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_bounded_and_their_places_come_back() {
        let live = Live::new(2);
        let first = live.listen().unwrap();
        let _second = live.listen().unwrap();
        assert!(live.listen().is_none());
        drop(first);
        assert!(live.listen().is_some());
    }

    #[test]
    fn who_does_not_keep_up_is_dropped_and_the_others_are_not() {
        let live = Live::new(2);
        let (mut slow, mut quick) = (live.listen().unwrap(), live.listen().unwrap());
        for _ in 0..=WAITING {
            live.send(&Bytes::from_static(b"m"));
            assert!(quick.messages.try_recv().is_ok());
        }
        let taken = std::iter::from_fn(|| slow.messages.try_recv().ok()).count();
        assert_eq!(taken, WAITING);
        assert!(slow.messages.is_closed() && !quick.messages.is_closed());
    }
}
