//! Real sockets of this machine: what meets no trouble goes straight to the system, what is late waits with a thread.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use everstep_actors::net::endpoint::Socket;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::Paths;

/// Datagrams that are under way at most; more are lost, as in a queue of the network.
const UNDER_WAY_MAX: usize = 1 << 14;

/// A datagram on its way.
struct Late {
    socket: Arc<dyn AsyncUdpSocket>,
    destination: SocketAddr,
    contents: Vec<u8>,
}

#[derive(Default)]
struct State {
    late: BTreeMap<(Instant, u64), Late>,
    sent: u64,
    over: bool,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Loopback {
    state: Mutex<State>,
    due: Condvar,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loopback({} late)", self.lock().late.len())
    }
}

impl Loopback {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let loopback = Arc::new(Self::default());
        let postman = loopback.clone();
        std::thread::Builder::new().name("late datagrams".into()).spawn(move || postman.deliver())?;
        Ok(loopback)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.lock().over = true;
        self.due.notify_all();
    }

    pub(super) fn socket(self: &Arc<Self>, slot: u32, mute: Arc<AtomicBool>, paths: &Arc<Paths>) -> io::Result<Socket> {
        let socket = Socket::bind(([127, 0, 0, 1], 0).into())?;
        let (address, payload) = (socket.local_addr(), socket.max_payload());
        paths.listens(address, slot);
        let wire = Wire { inner: socket.into_inner(), slot, mute, paths: paths.clone(), loopback: self.clone() };
        Socket::from_inner(Arc::new(wire), payload)
    }

    fn send_later(&self, after: Duration, late: Late) {
        let mut state = self.lock();
        if state.late.len() < UNDER_WAY_MAX {
            state.sent += 1;
            let key = (Instant::now() + after, state.sent);
            state.late.insert(key, late);
            self.due.notify_all();
        }
    }

    fn deliver(&self) {
        let mut state = self.lock();
        while !state.over {
            let now = Instant::now();
            match state.late.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let late = entry.remove();
                    drop(state);
                    // A full buffer, or a socket that is gone, loses it.
                    let _ = late.socket.try_send(&plain(late.destination, &late.contents));
                    state = self.lock();
                }
                Some(entry) => {
                    let wait = entry.key().0 - now;
                    state = self.due.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => state = self.due.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn plain(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
}

/// A node's socket.
struct Wire {
    inner: Arc<dyn AsyncUdpSocket>,
    slot: u32,
    mute: Arc<AtomicBool>,
    paths: Arc<Paths>,
    loopback: Arc<Loopback>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({}, {:?})", self.slot, self.inner)
    }
}

impl AsyncUdpSocket for Wire {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.load(Ordering::Acquire) {
            return Ok(());
        }
        if !self.paths.is_troubled() {
            return self.inner.try_send(transmit);
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            let Some(arrivals) = self.paths.fate(self.slot, transmit.destination) else {
                return self.inner.try_send(transmit);
            };
            for after in arrivals {
                if after.is_zero() {
                    // The path is a bad one: what finds no room is lost.
                    let _ = self.inner.try_send(&plain(transmit.destination, contents));
                } else {
                    let late = Late { socket: self.inner.clone(), destination: transmit.destination, contents: contents.to_vec() };
                    self.loopback.send_later(after, late);
                }
            }
        }
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
