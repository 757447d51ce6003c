//! Dialling. Who waits for a node gives up soon, for a leader that does not answer may be dead; the handshake itself goes on, for
//! the path may be slow. What it leads to counts whenever it comes: a link announces itself.

use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::Entry;
use futures::future::Shared as Many;

use super::*;

/// A node that lives answers within this, where the path is a quick one.
const DIAL_MAX: Duration = Duration::from_secs(1);
/// Round trips of the path to others that members wait longer for each other: two make a handshake, one its second half, one may
/// be lost on the way, and they do not begin at the same time.
const ROUND_TRIPS: u32 = 6;

/// A handshake under way.
#[derive(Debug, Clone)]
struct Dial {
    began: Instant,
    /// Whether anything has come back.
    answered: Arc<AtomicBool>,
    linked: Many<BoxFuture<'static, bool>>,
}

impl Dial {
    /// Whether it is still good enough to be waited for: one that nobody has answered may have met a path that was cut.
    fn is_promising(&self) -> bool {
        self.answered.load(Ordering::Acquire) || self.began.elapsed() < DIAL_MAX
    }
}

/// The newest handshake with each node that is being dialled.
#[derive(Debug, Default)]
pub(super) struct Dials(DashMap<NodeId, Dial>);

impl Shared {
    /// Dials a node, or joins in where it is dialled already; whether a link came of it.
    pub(super) fn dial(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint<NodeRouter>>,
        node: NodeId,
        address: SocketAddr,
    ) -> impl Future<Output = bool> {
        let open = self.dials.0.entry(node);
        if let Entry::Occupied(open) = &open
            && open.get().is_promising()
        {
            return open.get().linked.clone();
        }
        let (began, answered) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let (shared, endpoint, heard) = (self.clone(), endpoint.clone(), answered.clone());
        let task = tokio::spawn(async move {
            let linked = endpoint.connect_watched(address, Some(node), &heard).await.is_ok();
            shared.dials.0.remove_if(&node, |_, dial| Arc::ptr_eq(&dial.answered, &heard));
            linked
        });
        let linked = task.map(|linked| linked.unwrap_or(false)).boxed().shared();
        open.insert(Dial { began, answered, linked: linked.clone() });
        linked
    }

    /// How much longer than on quick paths members wait for each other's connections: by the slowest path that is known.
    pub(super) fn slowness(&self) -> Duration {
        let slowest = self.links.iter().map(|link| link.stats().rtt).max();
        ROUND_TRIPS * slowest.unwrap_or_default()
    }
}

/// Opens a link to a node, or says soon that it does not answer.
pub(super) async fn dial(shared: Arc<Shared>, endpoint: Arc<Endpoint<NodeRouter>>, member: Member) {
    let linked = match member.address.parse() {
        Ok(address) => tokio::time::timeout(DIAL_MAX, shared.dial(&endpoint, member.node, address)).await == Ok(true),
        Err(_) => false,
    };
    if !linked {
        shared.tell(&shared.node, "node", NodeMsg::Fact(Fact::Unreachable(member.node)));
    }
}
