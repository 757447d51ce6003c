//! A node's one door: a UDP socket on which it dials and is dialled.

mod error;
mod ids;
mod options;
mod path;
mod socket;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{ClientConfig, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, ValidationTokenConfig};
use ractor::ActorCell;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::net::endpoint::error::{explain, not_connected};
use crate::net::link::{CLOSED, Established, Link, REFUSED, TAG_CONTROL, TAG_HEARTBEAT, start};
use crate::net::tls::identity::SERVER_NAME;
use crate::net::tls::{Identity, Peer, Role, TlsError};
use crate::net::{Reject, Router};
use crate::protocol::ids::NodeId;

pub use error::{BindError, ConnectError};
pub use options::{CONTROL_BYTES_MAX, Options};
pub use socket::Socket;

/// Longer than QUIC keeps a connection that failed before it knew the path: three times its first guess, of 1.02 s, at a probe.
const LINGERING: Duration = Duration::from_secs(4);

/// A node's socket, its identity, and the links that come in by it.
pub struct Endpoint<R: Router> {
    inner: Arc<Inner<R>>,
    accepted: Mutex<mpsc::Receiver<Link<R::Control>>>,
}

struct Inner<R: Router> {
    quic: quinn::Endpoint,
    /// The largest packet that the socket carries, in bytes.
    max_payload: u16,
    doors: std::sync::Mutex<Doors>,
    me: Peer,
    router: Arc<R>,
    options: Options,
    supervisor: Option<ActorCell>,
    /// The links that live, and some that have ended since the last one began.
    links: std::sync::Mutex<Vec<Link<R::Control>>>,
    /// Links that came in, for the ids of guests.
    guests: AtomicU64,
    /// Peers that are known by their certificate and have no link yet.
    arriving: std::sync::Mutex<Vec<Peer>>,
}

/// The certificate that handshakes show, and how.
struct Doors {
    until_ms: u64,
    client: ClientConfig,
    /// Only nodes have a certificate that a dialler accepts.
    server: Option<ServerConfig>,
}

impl<R: Router> fmt::Debug for Endpoint<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("me", &self.inner.me).field("quic", &self.inner.quic).finish_non_exhaustive()
    }
}

impl<R: Router> Endpoint<R> {
    /// Opens UDP `address`. Links are supervised by `supervisor` where there is one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        address: SocketAddr,
        identity: Identity,
        options: Options,
        router: Arc<R>,
        supervisor: Option<ActorCell>,
    ) -> Result<Self, BindError> {
        let socket = Socket::bind(address).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Io { address, error },
        })?;
        Self::over(socket, identity, options, router, supervisor)
    }

    /// As [`Endpoint::bind`], over a socket that is already there: a faulty or a simulated one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn over(
        socket: Socket,
        identity: Identity,
        options: Options,
        router: Arc<R>,
        supervisor: Option<ActorCell>,
    ) -> Result<Self, BindError> {
        let max_payload = socket.max_payload().min(options.max_payload);
        let mut server = ServerConfig::with_crypto(Arc::new(identity.server()?));
        // NEW_TOKEN makes reconnects at high MTU hang; nodes dial too seldom to need it.
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        server.validation_token_config(tokens);
        server.max_incoming(options.handshakes * 4).incoming_buffer_size(64 << 10).incoming_buffer_size_total(8 << 20);
        let client = ClientConfig::new(Arc::new(identity.client()?));

        let mut config = EndpointConfig::default();
        config.max_udp_payload_size(max_payload).expect("Socket keeps it within QUIC's limits").rng_seed(options.seed);
        config.cid_generator(ids::Ids::boxed);
        let address = socket.local_addr();
        let server = (identity.peer().role == Role::Node).then_some(server);
        let doors = std::sync::Mutex::new(Doors { until_ms: identity.until_ms(), client, server: server.clone() });
        let quic = quinn::Endpoint::new_with_abstract_socket(config, server, socket.into_inner(), Arc::new(TokioRuntime))
            .map_err(|error| BindError::Io { address, error })?;
        let me = identity.peer().clone();
        let inner = Arc::new(Inner {
            quic,
            max_payload,
            doors,
            me,
            router,
            options,
            supervisor,
            links: Default::default(),
            guests: AtomicU64::new(1),
            arriving: Default::default(),
        });
        let (arrived, accepted) = mpsc::channel(inner.options.handshakes);
        tokio::spawn(listen(inner.clone(), arrived));
        Ok(Self { inner, accepted: Mutex::new(accepted) })
    }

    /// The address that the socket has.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.quic.local_addr()
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.inner.me.id
    }

    /// From now on handshakes show this certificate; links that are up stay up. It must be for the same key, role and run.
    ///
    /// # Errors
    /// [`TlsError::OtherKey`] when it is not, [`TlsError::Make`] when the library cannot use it.
    pub fn renew(&self, identity: &Identity) -> Result<(), TlsError> {
        if *identity.peer() != self.inner.me {
            return Err(TlsError::OtherKey(format!("{:?} is not {:?}", identity.peer(), self.inner.me)));
        }
        let (client, crypto) = (Arc::new(identity.client()?), Arc::new(identity.server()?));
        let mut doors = self.inner.doors();
        doors.client = ClientConfig::new(client);
        doors.until_ms = identity.until_ms();
        if let Some(server) = &mut doors.server {
            // All else stays, the key of retry tokens too: handshakes that have begun go on.
            server.crypto = crypto;
            self.inner.quic.set_server_config(Some(server.clone()));
        }
        Ok(())
    }

    /// The last moment in which handshakes succeed with the certificate that is shown now, milliseconds since the Unix epoch.
    pub fn certificate_until_ms(&self) -> u64 {
        self.inner.doors().until_ms
    }

    /// Whether this node should be the one that dials `peer`, where either could: the lower id does.
    pub fn dials(&self, peer: NodeId) -> bool {
        self.id() < peer
    }

    /// Dials a node, which must be `expected` where that is given. Takes at most [`Options::handshake`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, address: SocketAddr, expected: Option<NodeId>) -> Result<Link<R::Control>, ConnectError> {
        self.connect_watched(address, expected, &AtomicBool::new(false)).await
    }

    /// As [`Endpoint::connect`]; `answered` becomes true when the first word comes back.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect_watched(
        &self,
        address: SocketAddr,
        expected: Option<NodeId>,
        answered: &AtomicBool,
    ) -> Result<Link<R::Control>, ConnectError> {
        match timeout(self.inner.options.handshake, self.inner.dial(address, expected, answered)).await {
            Ok(link) => link,
            Err(_) => {
                let reason = format!("no answer within {:.1} s", self.inner.options.handshake.as_secs_f32());
                Err(ConnectError::Unreachable { address, reason })
            }
        }
    }

    /// The next link that a peer has dialled; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Link<R::Control>> {
        self.accepted.lock().await.recv().await
    }

    /// Connections that QUIC keeps, handshakes among them.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.inner.quic.open_connections()
    }

    /// Closes all links as [`Link::close`] does, then the socket.
    pub async fn close(&self, reason: &str) {
        let links = std::mem::take(&mut *self.inner.links());
        futures::future::join_all(links.iter().map(|link| link.close(reason))).await;
        self.inner.quic.close(CLOSED.into(), reason.as_bytes());
        // Peers that are gone do not answer.
        let _ = timeout(self.inner.options.drain, self.inner.quic.wait_idle()).await;
    }
}

impl<R: Router> Drop for Endpoint<R> {
    fn drop(&mut self) {
        self.inner.quic.close(CLOSED.into(), b"the node is going away");
    }
}

/// Takes connections in, a bounded number at a time.
async fn listen<R: Router>(inner: Arc<Inner<R>>, arrived: mpsc::Sender<Link<R::Control>>) {
    let handshakes = Arc::new(Semaphore::new(inner.options.handshakes));
    let failed = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = inner.quic.accept().await {
        let busy = handshakes.available_permits().saturating_sub(failed.load(Ordering::Relaxed)) < inner.options.handshakes / 2;
        if busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Whoever forges addresses never comes back with the token.
            let _ = incoming.retry();
            continue;
        }
        if inner.quic.open_connections() >= inner.options.max_links {
            incoming.refuse();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (inner, arrived, failed) = (inner.clone(), arrived.clone(), failed.clone());
        tokio::spawn(async move {
            let address = incoming.remote_address();
            let reason = match timeout(inner.options.handshake, inner.welcome(incoming)).await {
                Ok(Ok(link)) => {
                    drop(arrived.send(link).await);
                    return drop(permit);
                }
                Ok(Err(reason)) => reason,
                Err(_) => "it did not finish its handshake in time".into(),
            };
            tracing::warn!(%address, %reason, "a peer was not let in");
            // QUIC keeps what has failed for a while. Addresses must be proved meanwhile; who does is not kept out by it.
            failed.fetch_add(1, Ordering::Relaxed);
            drop(permit);
            sleep(LINGERING).await;
            failed.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl<R: Router> Inner<R> {
    async fn dial(&self, address: SocketAddr, expected: Option<NodeId>, answered: &AtomicBool) -> Result<Link<R::Control>, ConnectError> {
        let local = |error: &dyn fmt::Display| ConnectError::Local { address, reason: error.to_string() };
        let refused = |reason: String| ConnectError::Refused { address, reason };
        let mut client = self.doors().client.clone();
        client.transport_config(self.transport_to(address));
        let mut connecting = self.quic.connect_with(client, address, SERVER_NAME).map_err(|error| local(&error))?;
        connecting.handshake_data().await.map_err(|error| not_connected(address, error))?;
        answered.store(true, Ordering::Release);
        let connection = connecting.await.map_err(|error| not_connected(address, error))?;
        let peer = Peer::of_connection(&connection).map_err(|error| refused(error.to_string()))?;
        if let Some(expected) = expected.filter(|expected| *expected != peer.id) {
            connection.close(REFUSED.into(), b"you are not the node that was dialled");
            return Err(ConnectError::OtherNode { address, expected, found: peer.id });
        }
        let opened = async {
            let mut control = connection.open_bi().await?;
            let mut heartbeat = connection.open_bi().await?;
            prioritise(&control.0, &heartbeat.0);
            control.0.write_all(&[TAG_CONTROL]).await?;
            heartbeat.0.write_all(&[TAG_HEARTBEAT]).await?;
            // TLS 1.3 lets us begin before the peer has looked at our certificate: only its word shows that we are in.
            heartbeat.1.read_exact(&mut [0]).await.map_err(std::io::Error::other)?;
            std::io::Result::Ok((control, heartbeat))
        };
        let (control, heartbeat) = match opened.await {
            Ok(streams) => streams,
            Err(error) => {
                return Err(match connection.close_reason() {
                    Some(reason) => not_connected(address, reason),
                    None => refused(error.to_string()),
                });
            }
        };
        self.router.up(&peer).map_err(|reject| refused(turned_away(&connection, &reject)))?;
        let established = Established { me: self.me.clone(), peer, dialled: true, connection, control, heartbeat };
        self.start(established).await.map_err(|error| local(&error))
    }

    /// The other side of [`Inner::dial`]; an error is one sentence.
    async fn welcome(&self, incoming: Incoming) -> Result<Link<R::Control>, String> {
        let mut server = self.doors().server.clone().ok_or("this endpoint only dials")?;
        server.transport_config(self.transport_to(incoming.remote_address()));
        let connection = incoming.accept_with(Arc::new(server)).map_err(explain)?.await.map_err(explain)?;
        let peer = Peer::of_connection(&connection).map_err(|error| error.to_string())?;
        let who = peer;
        let arriving = self.arrive(&who).map_err(|reject| turned_away(&connection, &reject))?;
        let peer = who.on_link(self.guests.fetch_add(1, Ordering::Relaxed));
        let (mut control, mut heartbeat) = (None, None);
        while control.is_none() || heartbeat.is_none() {
            let mut stream = connection.accept_bi().await.map_err(explain)?;
            let mut tag = [0];
            stream.1.read_exact(&mut tag).await.map_err(|error| error.to_string())?;
            match tag {
                [TAG_CONTROL] if control.is_none() => control = Some(stream),
                [TAG_HEARTBEAT] if heartbeat.is_none() => heartbeat = Some(stream),
                [tag] => {
                    let reason = format!("a stream of kind {tag} came out of turn");
                    connection.close(REFUSED.into(), reason.as_bytes());
                    return Err(reason);
                }
            }
        }
        let (Some(control), Some(mut heartbeat)) = (control, heartbeat) else { return Err("its streams are missing".into()) };
        prioritise(&control.0, &heartbeat.0);
        self.router.up(&peer).map_err(|reject| turned_away(&connection, &reject))?;
        heartbeat.0.write_all(&[TAG_HEARTBEAT]).await.map_err(|error| error.to_string())?;
        let established = Established { me: self.me.clone(), peer, dialled: false, connection, control, heartbeat };
        let link = self.start(established).await;
        drop(arriving);
        link
    }

    /// Counts a peer among those that arrive, unless it has or there are too many links of its kind.
    fn arrive<'a>(&'a self, peer: &'a Peer) -> Result<impl Drop + 'a, Reject> {
        struct Arriving<'a>(&'a std::sync::Mutex<Vec<Peer>>, &'a Peer);
        impl Drop for Arriving<'_> {
            fn drop(&mut self) {
                let mut arriving = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(at) = arriving.iter().position(|peer| peer == self.1) {
                    arriving.swap_remove(at);
                }
            }
        }
        let mut arriving = self.arriving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let links = self.links();
        let live = links.iter().filter(|link| link.is_down().is_none()).map(Link::certificate);
        let (mut same, mut guests) = (0, 0);
        for other in live.chain(arriving.iter()) {
            same += usize::from(other.is_same_as(peer));
            guests += usize::from(other.role != Role::Node);
        }
        if same >= self.options.links_each {
            return Err(Reject(format!("you have {same} links to this node already; close some")));
        }
        if peer.role != Role::Node && guests >= self.options.max_guests {
            return Err(Reject(format!("{guests} others look at this node already; ask another node, or later")));
        }
        arriving.push(peer.clone());
        Ok(Arriving(&self.arriving, peer))
    }

    async fn start(&self, established: Established) -> Result<Link<R::Control>, String> {
        let started = start(established, self.router.clone(), self.options.clone(), self.supervisor.clone()).await;
        let link = started.map_err(|error| format!("its actor did not start: {error}"))?;
        let mut links = self.links();
        links.retain(|link| link.is_down().is_none());
        links.push(link.clone());
        Ok(link)
    }

    /// QUIC's settings for the way to a peer.
    fn transport_to(&self, address: SocketAddr) -> Arc<TransportConfig> {
        // Where every way carries what the socket does, the system is not asked.
        let largest = if self.max_payload <= path::USUAL { self.max_payload } else { self.max_payload.min(path::largest_to(address)) };
        Arc::new(self.options.transport(largest))
    }

    fn doors(&self) -> std::sync::MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Vec<Link<R::Control>>> {
        self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn prioritise(control: &quinn::SendStream, heartbeat: &quinn::SendStream) {
    // Fails only on a stream that has ended, which its first use reports.
    let _ = heartbeat.set_priority(30);
    let _ = control.set_priority(20);
}

/// Tells the peer why its link is not wanted.
fn turned_away(connection: &quinn::Connection, reject: &Reject) -> String {
    connection.close(REFUSED.into(), reject.0.as_bytes());
    reject.0.clone()
}
