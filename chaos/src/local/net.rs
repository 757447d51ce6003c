//! The network between nodes of one process: their sockets, with troubles between them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Datagrams that are under way at most; more are lost, as in a queue of the network.
const UNDER_WAY_MAX: usize = 1 << 14;

/// What is wrong with paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    pub(super) from: BTreeSet<u32>,
    pub(super) to: BTreeSet<u32>,
    pub(super) one_way: bool,
    pub(super) cut: bool,
    pub(super) loss: f64,
    pub(super) delay: Duration,
    pub(super) duplicate: f64,
    pub(super) reorder: Duration,
    /// Datagrams that it met.
    pub(super) met: Cell<u64>,
}

impl Trouble {
    fn covers(&self, from: u32, to: u32) -> bool {
        let there = self.from.contains(&from) && self.to.contains(&to);
        there || (!self.one_way && self.from.contains(&to) && self.to.contains(&from))
    }
}

/// A datagram on its way.
struct Late {
    socket: Arc<dyn AsyncUdpSocket>,
    destination: SocketAddr,
    contents: Vec<u8>,
}

struct State {
    places: HashMap<SocketAddr, u32>,
    troubles: BTreeMap<u32, Trouble>,
    late: BTreeMap<(Instant, u64), Late>,
    sent: u64,
    rng: ChaCha8Rng,
    over: bool,
}

/// See the module's text.
pub(super) struct Net {
    state: Mutex<State>,
    troubled: AtomicBool,
    due: Condvar,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({:?})", self.lock().troubles)
    }
}

impl Net {
    /// A sound network, and the thread that delivers what is late.
    pub(super) fn new(seed: u64) -> io::Result<Arc<Self>> {
        let state = State {
            places: HashMap::new(),
            troubles: BTreeMap::new(),
            late: BTreeMap::new(),
            sent: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            over: false,
        };
        let net = Arc::new(Self { state: Mutex::new(state), troubled: AtomicBool::new(false), due: Condvar::new() });
        let postman = net.clone();
        std::thread::Builder::new().name("late datagrams".into()).spawn(move || postman.deliver())?;
        Ok(net)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.lock().over = true;
        self.due.notify_all();
    }

    /// Lays a trouble on paths.
    pub(super) fn lay(&self, number: u32, trouble: Trouble) {
        self.lock().troubles.insert(number, trouble);
        self.troubled.store(true, Ordering::Release);
    }

    /// Takes it back; how many datagrams it met.
    pub(super) fn lift(&self, number: u32) -> u64 {
        let mut state = self.lock();
        let lifted = state.troubles.remove(&number);
        self.troubled.store(!state.troubles.is_empty(), Ordering::Release);
        lifted.map_or(0, |trouble| trouble.met.get())
    }

    /// A socket of the node at a place; once `mute` is set nothing leaves it.
    pub(super) fn socket(self: &Arc<Self>, slot: u32, mute: Arc<AtomicBool>) -> io::Result<Socket> {
        let socket = Socket::bind(([127, 0, 0, 1], 0).into())?;
        let (address, payload) = (socket.local_addr(), socket.max_payload());
        self.lock().places.insert(address, slot);
        Socket::from_inner(Arc::new(Wire { inner: socket.into_inner(), slot, mute, net: self.clone() }), payload)
    }

    /// When the copies of a datagram arrive: none, one or two times. `None` where no trouble lies on the path.
    fn fate(&self, from: u32, destination: SocketAddr) -> Option<Vec<Duration>> {
        let mut state = self.lock();
        let to = *state.places.get(&destination)?;
        let State { troubles, rng, .. } = &mut *state;
        let on_path: Vec<&Trouble> = troubles.values().filter(|trouble| trouble.covers(from, to)).collect();
        if on_path.is_empty() {
            return None;
        }
        let mut chance = |share: f64| share > 0.0 && f64::from(rng.next_u32()) < share * f64::from(u32::MAX);
        let mut copies = 1;
        for trouble in &on_path {
            trouble.met.set(trouble.met.get() + 1);
            if trouble.cut || chance(trouble.loss) {
                return Some(Vec::new());
            }
            copies += u32::from(chance(trouble.duplicate));
        }
        let delay: Duration = on_path.iter().map(|trouble| trouble.delay).sum();
        let spread: Duration = on_path.iter().map(|trouble| trouble.reorder).sum();
        Some((0..copies).map(|_| delay + spread.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))).collect())
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
    net: Arc<Net>,
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
        if !self.net.troubled.load(Ordering::Acquire) {
            return self.inner.try_send(transmit);
        }
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(segment) {
            let Some(arrivals) = self.net.fate(self.slot, transmit.destination) else {
                return self.inner.try_send(transmit);
            };
            for after in arrivals {
                if after.is_zero() {
                    // The path is a bad one: what finds no room is lost.
                    let _ = self.inner.try_send(&plain(transmit.destination, contents));
                } else {
                    let late = Late { socket: self.inner.clone(), destination: transmit.destination, contents: contents.to_vec() };
                    self.net.send_later(after, late);
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
