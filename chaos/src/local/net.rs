//! The network between nodes of one process: their sockets, with troubles between them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everstep_actors::net::endpoint::Socket;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

mod loopback;
mod memory;

use loopback::Loopback;
use memory::Memory;
pub(super) use memory::Trace;

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

/// Who sits where, and what is wrong between them.
#[derive(Debug)]
struct Paths {
    state: Mutex<State>,
    troubled: AtomicBool,
}

#[derive(Debug)]
struct State {
    places: BTreeMap<SocketAddr, u32>,
    troubles: BTreeMap<u32, Trouble>,
    rng: ChaCha8Rng,
}

impl Paths {
    fn new(seed: u64) -> Arc<Self> {
        let state = State { places: BTreeMap::new(), troubles: BTreeMap::new(), rng: ChaCha8Rng::seed_from_u64(seed) };
        Arc::new(Self { state: Mutex::new(state), troubled: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node at a place listens at an address.
    fn listens(&self, address: SocketAddr, slot: u32) {
        self.lock().places.insert(address, slot);
    }

    fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// How much later than on a sound path the copies of a datagram arrive: none, one or two times. `None` where no trouble lies on
    /// the path.
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
}

/// What carries datagrams.
#[derive(Debug)]
enum Carrier {
    Loopback(Arc<Loopback>),
    Memory(Arc<Memory>),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Net {
    paths: Arc<Paths>,
    carrier: Carrier,
}

impl Net {
    /// A sound network over this machine's loopback, and the thread that delivers what is late.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn loopback(seed: u64) -> io::Result<Self> {
        Ok(Self { paths: Paths::new(seed), carrier: Carrier::Loopback(Loopback::new()?) })
    }

    /// A sound network in memory, whose datagrams a task of this runtime delivers by tokio's clock.
    pub(super) fn in_memory(seed: u64) -> Self {
        let paths = Paths::new(seed);
        Self { carrier: Carrier::Memory(Memory::new(seed)), paths }
    }

    /// Ends what delivers.
    pub(super) fn close(&self) {
        if let Carrier::Loopback(loopback) = &self.carrier {
            loopback.close();
        }
    }

    /// Lays a trouble on paths.
    pub(super) fn lay(&self, number: u32, trouble: Trouble) {
        self.paths.lock().troubles.insert(number, trouble);
        self.paths.troubled.store(true, Ordering::Release);
    }

    /// Takes it back; how many datagrams it met.
    pub(super) fn lift(&self, number: u32) -> u64 {
        let mut state = self.paths.lock();
        let lifted = state.troubles.remove(&number);
        self.paths.troubled.store(!state.troubles.is_empty(), Ordering::Release);
        lifted.map_or(0, |trouble| trouble.met.get())
    }

    /// A socket of the node at a place; once `mute` is set nothing leaves it.
    ///
    /// # Errors
    /// The system gives none.
    pub(super) fn socket(&self, slot: u32, mute: Arc<AtomicBool>) -> io::Result<Socket> {
        match &self.carrier {
            Carrier::Loopback(loopback) => loopback.socket(slot, mute, &self.paths),
            Carrier::Memory(memory) => memory.socket(slot, mute, &self.paths),
        }
    }

    /// What has been sent; nothing where the system carries it.
    pub(super) fn trace(&self) -> Trace {
        match &self.carrier {
            Carrier::Loopback(_) => Trace::default(),
            Carrier::Memory(memory) => memory.trace(),
        }
    }
}
