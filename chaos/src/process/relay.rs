//! A bump in a host's wire: frames of faulty paths wait, overtake each other, come twice or never.
//!
//! The kernel's own `netem` and queues of nftables are modules that many machines lack; sockets of packets are everywhere. A relay
//! carries every frame between the host's port and the bridge. Only datagrams of IPv4 are held up, so that addresses are found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, setsockopt, socket};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Frames that are under way at most; more are lost, as in a queue of the network.
const UNDER_WAY_MAX: usize = 1 << 14;
/// How long it takes at most to see that it is over.
const LOOK: Duration = Duration::from_millis(20);
/// Larger than any frame.
const FRAME_MAX: usize = 1 << 16;
/// What the kernel keeps for a relay that does not get to run: it is not to lose what it was not told to.
const BACKLOG: usize = 32 << 20;
/// The header of a frame without tags, the type of IPv4 in it, and the number of UDP in the header of IPv4.
const HEADER: usize = 14;
const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const UDP: u8 = 17;

/// What happens to datagrams of a path.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Harm {
    /// The share that is lost.
    pub(super) loss: f64,
    /// Added to each passage.
    pub(super) delay: Duration,
    /// The share that comes twice.
    pub(super) duplicate: f64,
    /// Up to so much more is added to each, drawn anew.
    pub(super) reorder: Duration,
}

/// A trouble of a host's wire.
#[derive(Debug)]
pub(super) struct Way {
    /// Which strike laid it.
    pub(super) strike: u32,
    /// To whom datagrams of the host suffer it.
    pub(super) there: BTreeSet<Ipv4Addr>,
    /// Whose datagrams to the host suffer it.
    pub(super) back: BTreeSet<Ipv4Addr>,
    /// What happens to them.
    pub(super) harm: Harm,
    /// Datagrams that it met.
    pub(super) met: u64,
}

#[derive(Debug, Default)]
struct Shared {
    ways: Mutex<Vec<Way>>,
    over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Carries frames between two interfaces of a namespace: `inner` leads to the host, `outer` to everyone else.
    ///
    /// # Errors
    /// This machine does not allow it.
    pub(super) fn start(namespace: &str, inner: &str, outer: &str, seed: u64) -> Result<Self, String> {
        let shared = Arc::<Shared>::default();
        let (ready, started) = mpsc::channel();
        let (inside, names, ours) = (namespace.to_owned(), [inner.to_owned(), outer.to_owned()], shared.clone());
        let carry = move || match open(&inside, &names) {
            Ok(ends) => {
                let _ = ready.send(Ok(()));
                Carrier { ends, late: BTreeMap::new(), taken: 0, rng: ChaCha8Rng::seed_from_u64(seed) }.carry(&ours);
            }
            // Who started it waits for that.
            Err(because) => drop(ready.send(Err(because))),
        };
        let thread = std::thread::Builder::new().name(format!("relay {inner}")).spawn(carry);
        let thread = thread.map_err(|error| format!("no thread can be started: {error}"))?;
        started.recv().unwrap_or_else(|_| Err("it ended at once".into())).map_err(|because| format!("no relay of frames: {because}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lays a trouble on the wire.
    pub(super) fn lay(&self, way: Way) {
        self.shared.lock().push(way);
    }

    /// Takes those of a strike away; how many datagrams they met.
    pub(super) fn lift(&self, strike: u32) -> u64 {
        let mut ways = self.shared.lock();
        let met = ways.iter().filter(|way| way.strike == strike).map(|way| way.met).sum();
        ways.retain(|way| way.strike != strike);
        met
    }

    /// Whether no trouble lies on it any more.
    pub(super) fn is_idle(&self) -> bool {
        self.shared.lock().is_empty()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sockets that hear and say whole frames on two interfaces. The thread stays in the namespace.
fn open(namespace: &str, names: &[String; 2]) -> Result<[OwnedFd; 2], String> {
    let place = format!("/run/netns/{namespace}");
    let file = File::open(&place).map_err(|error| format!("{place}: {error}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|error| format!("{place}: {error}"))?;
    Ok([end(&names[0])?, end(&names[1])?])
}

fn end(name: &str) -> Result<OwnedFd, String> {
    let failed = |error: nix::errno::Errno| format!("{name}: {error}");
    let mut interfaces = getifaddrs().map_err(failed)?;
    let address = interfaces.find_map(|interface| {
        let named = interface.interface_name == name;
        interface.address.filter(|_| named)?.as_link_addr().copied()
    });
    let address = address.ok_or_else(|| format!("{name}: there is no such interface"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let end = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).map_err(failed)?;
    setsockopt(&end, RcvBufForce, &BACKLOG).map_err(failed)?;
    bind(end.as_raw_fd(), &address).map_err(failed)?;
    // What it heard before it knew its interface.
    while rustix::io::read(&end, &mut [0; 64][..]).is_ok() {}
    Ok(end)
}

struct Carrier {
    /// Towards the host, and away from it.
    ends: [OwnedFd; 2],
    /// Frames on their way, and through which end they leave.
    late: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    taken: u64,
    rng: ChaCha8Rng,
}

impl Carrier {
    fn carry(mut self, shared: &Shared) {
        let mut buffer = vec![0; FRAME_MAX];
        while !shared.over.load(Ordering::Acquire) {
            self.wait();
            for from in 0..2 {
                while let Ok(length) = rustix::io::read(&self.ends[from], &mut buffer[..]) {
                    self.take(shared, from, &mut buffer[..length]);
                }
            }
            self.deliver(Instant::now());
        }
        let last = Instant::now() + Duration::from_secs(3_600);
        self.deliver(last);
    }

    fn wait(&self) {
        let most = self.late.keys().next().map_or(LOOK, |(at, _)| at.saturating_duration_since(Instant::now()).min(LOOK));
        let most = Timespec { tv_sec: 0, tv_nsec: i64::from(most.subsec_nanos()) };
        let mut ends = self.ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
        // A signal only wakes it early.
        let _ = poll(&mut ends, Some(&most));
    }

    fn take(&mut self, shared: &Shared, from: usize, frame: &mut [u8]) {
        if !matches!(frame.get(HEADER - 2..HEADER), Some(kind) if kind == IPV4 || kind == ARP) {
            return;
        }
        complete(frame);
        for after in self.fate(shared, from, frame) {
            if after.is_zero() {
                // What finds no room is lost, as everywhere.
                let _ = rustix::io::write(&self.ends[1 - from], frame);
            } else if self.late.len() < UNDER_WAY_MAX {
                self.taken += 1;
                self.late.insert((Instant::now() + after, self.taken), (1 - from, frame.to_vec()));
            }
        }
    }

    /// When the copies of a frame leave: none, one or two times.
    fn fate(&mut self, shared: &Shared, from: usize, frame: &[u8]) -> Vec<Duration> {
        let Some([source, destination]) = addresses(frame) else { return vec![Duration::ZERO] };
        let rng = &mut self.rng;
        let mut share = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let (mut copies, mut delay, mut spread) = (1, Duration::ZERO, Duration::ZERO);
        for way in shared.lock().iter_mut() {
            let meets = if from == 0 { way.there.contains(&destination) } else { way.back.contains(&source) };
            if !meets {
                continue;
            }
            way.met += 1;
            if share() < way.harm.loss {
                return Vec::new();
            }
            copies += u32::from(share() < way.harm.duplicate);
            delay += way.harm.delay;
            spread += way.harm.reorder;
        }
        (0..copies).map(|_| delay + spread.mul_f64(share())).collect()
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (end, frame) = entry.remove();
            let _ = rustix::io::write(&self.ends[end], &frame);
        }
    }
}

/// From whom and to whom a datagram goes.
fn addresses(frame: &[u8]) -> Option<[Ipv4Addr; 2]> {
    let packet = frame.get(HEADER..)?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    (frame[HEADER - 2..HEADER] == IPV4).then(|| Some([address(12)?, address(16)?]))?
}

/// Between namespaces nobody computes checksums; a datagram that says it has none is as good.
fn complete(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(HEADER..).filter(|packet| packet.len() >= 20 && packet[0] >> 4 == 4 && packet[9] == UDP) else {
        return;
    };
    let header = usize::from(packet[0] & 15) * 4;
    let first = packet[6] & 0x1f == 0 && packet[7] == 0;
    if let Some(checksum) = packet.get_mut(header + 6..header + 8).filter(|_| first) {
        checksum.fill(0);
    }
}
