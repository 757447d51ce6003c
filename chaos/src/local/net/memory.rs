//! Sockets in memory: a datagram arrives so many milliseconds after it was sent, by tokio's clock, in the order in which those of that
//! moment were sent. How long a path takes follows from the seed; every datagram is counted and hashed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everstep_actors::net::endpoint::Socket;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Paths;

/// The largest datagrams that sockets take, in bytes: what QUIC begins with, so that no connection looks for more; Ethernet's, those
/// of jumbo frames, and loopback's. The large ones are rare, for a connection keeps a buffer that takes one.
const PAYLOADS: [u16; 8] = [1_200, 1_452, 1_200, 1_452, 1_200, 1_452, 8_952, 65_507];
/// Datagrams that quinn hands over at once, as it does where the system cuts them.
const SEGMENTS: usize = 10;
/// Datagrams that wait in a socket at most; more are lost, as with the buffers of a system.
const WAITING_MAX: usize = 1 << 13;
/// Datagrams that are under way at most; more are lost, as in a queue of the network.
const UNDER_WAY_MAX: usize = 1 << 20;
/// A sound path takes one to so many milliseconds.
const PATH_MAX_MS: u64 = 4;

/// What has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Datagrams.
    pub(crate) datagrams: u64,
    /// The same for the same datagrams (when, from whom, to whom, of what length) in the same order.
    pub(crate) hash: u64,
}

/// A datagram on its way.
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    contents: Vec<u8>,
}

struct State {
    ports: BTreeMap<SocketAddr, Weak<Port>>,
    opened: u32,
    /// By the millisecond in which it arrives.
    under_way: BTreeMap<u64, Vec<Datagram>>,
    count: usize,
    trace: Trace,
}

/// See the module's text.
pub(super) struct Memory {
    seed: u64,
    began: Instant,
    state: Mutex<State>,
    /// Something arrives sooner than all that was under way.
    sooner: Notify,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.trace())
    }
}

impl Memory {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let trace = Trace::default();
        let state = State { ports: BTreeMap::new(), opened: 0, under_way: BTreeMap::new(), count: 0, trace };
        let memory = Arc::new(Self { seed, began: Instant::now(), state: Mutex::new(state), sooner: Notify::new() });
        tokio::spawn(carry(memory.clone()));
        memory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn trace(&self) -> Trace {
        self.lock().trace
    }

    /// A socket at an address that nobody had before.
    pub(super) fn socket(self: &Arc<Self>, slot: u32, mute: Arc<AtomicBool>, paths: &Arc<Paths>) -> io::Result<Socket> {
        let mut state = self.lock();
        state.opened += 1;
        let [_, a, b, c] = state.opened.to_be_bytes();
        // Loopback, as far as the system is asked what its paths carry: all.
        let address: SocketAddr = ([127, a, b, c], 7_000).into();
        let port = Port { address, slot, mute, paths: paths.clone(), memory: self.clone(), inbox: Mutex::default() };
        let port = Arc::new(port);
        state.ports.insert(address, Arc::downgrade(&port));
        drop(state);
        paths.listens(address, slot);
        Socket::from_inner(port, PAYLOADS[(self.chosen(address) % PAYLOADS.len() as u64) as usize])
    }

    /// What the seed has chosen for something.
    fn chosen(&self, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, of).hash(&mut hasher);
        hasher.finish()
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// How long a datagram takes where nothing is wrong.
    fn path_ms(&self, from: SocketAddr, to: SocketAddr) -> u64 {
        1 + self.chosen((from, to)) % PATH_MAX_MS
    }

    fn send(&self, after: Duration, datagram: Datagram) {
        let now = self.now_ms();
        let at = now + self.path_ms(datagram.from, datagram.to) + after.as_millis() as u64;
        let mut state = self.lock();
        let mut hasher = DefaultHasher::new();
        (state.trace.hash, now, datagram.from, datagram.to, datagram.contents.len()).hash(&mut hasher);
        state.trace = Trace { datagrams: state.trace.datagrams + 1, hash: hasher.finish() };
        if state.count >= UNDER_WAY_MAX {
            return;
        }
        state.count += 1;
        if state.under_way.keys().next().is_none_or(|first| at < *first) {
            self.sooner.notify_one();
        }
        state.under_way.entry(at).or_default().push(datagram);
    }

    /// What arrives now, or when something does.
    fn arriving(&self) -> Result<Vec<Datagram>, Option<u64>> {
        let now = self.now_ms();
        let mut state = self.lock();
        let Some(first) = state.under_way.first_entry() else { return Err(None) };
        if *first.key() > now {
            return Err(Some(*first.key()));
        }
        let arrived = first.remove();
        state.count -= arrived.len();
        Ok(arrived)
    }

    fn deliver(&self, datagram: Datagram) {
        // Whoever is gone, or killed, gets nothing any more.
        let port = self.lock().ports.get(&datagram.to).and_then(Weak::upgrade);
        if let Some(port) = port.filter(|port| !port.mute.load(Ordering::Acquire)) {
            port.take(datagram);
        }
    }
}

/// Delivers as long as the runtime lives.
async fn carry(memory: Arc<Memory>) {
    loop {
        match memory.arriving() {
            Ok(arrived) => arrived.into_iter().for_each(|datagram| memory.deliver(datagram)),
            Err(None) => memory.sooner.notified().await,
            Err(Some(at)) => tokio::select! {
                biased;
                () = memory.sooner.notified() => {}
                () = tokio::time::sleep_until(memory.began + Duration::from_millis(at)) => {}
            },
        }
    }
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagram>,
    reader: Option<Waker>,
}

/// A node's socket.
struct Port {
    address: SocketAddr,
    slot: u32,
    mute: Arc<AtomicBool>,
    paths: Arc<Paths>,
    memory: Arc<Memory>,
    inbox: Mutex<Inbox>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({}, {})", self.slot, self.address)
    }
}

impl Port {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, datagram: Datagram) {
        let mut inbox = self.inbox();
        if inbox.datagrams.len() < WAITING_MAX {
            inbox.datagrams.push_back(datagram);
        }
        let reader = inbox.reader.take();
        drop(inbox);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.memory.lock().ports.remove(&self.address);
    }
}

/// There is always room: what is too much is lost on its way.
#[derive(Debug)]
struct Room;

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.load(Ordering::Acquire) {
            return Ok(());
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            let fate = if self.paths.is_troubled() { self.paths.fate(self.slot, transmit.destination) } else { None };
            for after in fate.unwrap_or_else(|| vec![Duration::ZERO]) {
                let datagram = Datagram { from: self.address, to: transmit.destination, contents: contents.to_vec() };
                self.memory.send(after, datagram);
            }
        }
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox();
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(datagram) = inbox.datagrams.pop_front() else { break };
            let length = datagram.contents.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram.contents[..length]);
            *meta = RecvMeta { addr: datagram.from, len: length, stride: length, ecn: None, dst_ip: None };
            received += 1;
        }
        if received == 0 {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
