//! Nodes, raw peers that speak badly on purpose, and a relay that loses packets.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ClientConfig, Connection, RecvStream, SendStream, UdpPoller};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::net::endpoint::{Endpoint, Options, Socket};
use crate::net::link::{Link, LinkDown, TAG_CONTROL, TAG_HEARTBEAT};
use crate::net::tls::identity::SERVER_NAME;
use crate::net::tls::{Identity, Peer, Role, RunCa};
use crate::net::{Reject, Router};
use crate::protocol::ids::{Epoch, NodeId, Step, UnitId};
use crate::wire::message::{DataHeader, DataKind};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const SOON: Duration = Duration::from_secs(10);

/// What a router got.
#[derive(Debug)]
pub(super) enum Got {
    Control(NodeId, String),
    Data(NodeId, DataHeader, Vec<f32>),
    Down(NodeId, LinkDown),
}

/// A router that reports all it gets, wants no [`DataKind::Rows`] and panics at `panic`.
pub(super) struct Recorder(pub(super) mpsc::UnboundedSender<Got>);

impl Router for Recorder {
    type Control = String;
    fn up(&self, peer: &Peer) -> Result<(), Reject> {
        if peer.role == Role::Viewer { Err(Reject("viewers are not served here".into())) } else { Ok(()) }
    }
    fn control(&self, from: NodeId, message: String) {
        assert_ne!(message, "panic");
        let _ = self.0.send(Got::Control(from, message));
    }
    fn admit(&self, _: NodeId, header: &DataHeader) -> Result<(), Reject> {
        if header.kind == DataKind::Rows { Err(Reject("rows are not summed here".into())) } else { Ok(()) }
    }
    fn data(&self, from: NodeId, header: DataHeader, values: Vec<f32>) {
        let _ = self.0.send(Got::Data(from, header, values));
    }
    fn down(&self, peer: NodeId, cause: LinkDown) {
        let _ = self.0.send(Got::Down(peer, cause));
    }
}

pub(super) struct Node {
    pub(super) endpoint: Arc<Endpoint<Recorder>>,
    pub(super) got: mpsc::UnboundedReceiver<Got>,
}

impl Node {
    pub(super) fn with(identity: Identity, options: Options) -> Self {
        let (sender, got) = mpsc::unbounded_channel();
        let endpoint = Endpoint::bind(loopback(), identity, options, Arc::new(Recorder(sender)), None).unwrap();
        Self { endpoint: Arc::new(endpoint), got }
    }
    /// A node that sees all others at another address, and the largest packet that it sends.
    pub(super) fn abroad(ca: &RunCa) -> (Self, Arc<AtomicUsize>) {
        let (sender, got) = mpsc::unbounded_channel();
        let (socket, largest) = (Socket::bind(loopback()).unwrap(), Arc::default());
        let payload = socket.max_payload();
        let socket = Socket::from_inner(Arc::new(Abroad { inner: socket.into_inner(), largest: Arc::clone(&largest) }), payload).unwrap();
        let identity = Identity::issue(ca, Role::Node, HOUR).unwrap();
        let endpoint = Endpoint::over(socket, identity, Options::default(), Arc::new(Recorder(sender)), None).unwrap();
        (Self { endpoint: Arc::new(endpoint), got }, largest)
    }
    pub(super) fn new(ca: &RunCa) -> Self {
        Self::with(Identity::issue(ca, Role::Node, HOUR).unwrap(), Options::default())
    }
    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }
    pub(super) async fn accept(&self) -> Link<String> {
        timeout(SOON, self.endpoint.accept()).await.unwrap().unwrap()
    }
    pub(super) async fn next(&mut self) -> Got {
        timeout(SOON, self.got.recv()).await.unwrap().unwrap()
    }
    pub(super) async fn next_control(&mut self) -> (NodeId, String) {
        match self.next().await {
            Got::Control(from, text) => (from, text),
            other => panic!("no control message but {other:?}"),
        }
    }
    pub(super) async fn next_data(&mut self) -> (NodeId, DataHeader, Vec<f32>) {
        match self.next().await {
            Got::Data(from, header, values) => (from, header, values),
            other => panic!("no data but {other:?}"),
        }
    }
    pub(super) async fn next_down(&mut self) -> (NodeId, LinkDown) {
        match self.next().await {
            Got::Down(peer, cause) => (peer, cause),
            other => panic!("no end but {other:?}"),
        }
    }
}

/// Where others seem to be: an address that nobody has, somewhere behind this machine's usual way out.
pub(super) const ABROAD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

#[derive(Debug)]
struct Abroad {
    inner: Arc<dyn AsyncUdpSocket>,
    largest: Arc<AtomicUsize>,
}

impl AsyncUdpSocket for Abroad {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Transmit { destination, ecn, contents, segment_size, .. } = *transmit;
        self.largest.fetch_max(segment_size.unwrap_or(contents.len()), Ordering::SeqCst);
        let destination = (Ipv4Addr::LOCALHOST, destination.port()).into();
        self.inner.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip: None })
    }
    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        meta.iter_mut().for_each(|meta| meta.addr.set_ip(ABROAD));
        received
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

pub(super) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Two nodes of one run with a link that `a` dialled.
pub(super) async fn pair() -> (Node, Node, Link<String>, Link<String>) {
    let ca = RunCa::generate("pair").unwrap();
    let (a, b) = (Node::new(&ca), Node::new(&ca));
    let (ab, ba) = linked(&a, &b, b.address()).await;
    (a, b, ab, ba)
}

pub(super) async fn linked(a: &Node, b: &Node, address: SocketAddr) -> (Link<String>, Link<String>) {
    let (ab, ba) = tokio::join!(a.endpoint.connect(address, Some(b.endpoint.id())), b.accept());
    (ab.unwrap(), ba)
}

pub(super) fn header(kind: DataKind, call: u64) -> DataHeader {
    let (epoch, step, unit) = (Epoch(1), Step(2), UnitId(3));
    DataHeader { epoch, step, kind, call, unit, start: 0, length: 0, lanes_start: 0, lanes_end: 1, group_start: 0, group_end: 1 }
}

/// A peer without our link layer: it can say anything.
pub(super) struct Raw {
    pub(super) connection: Connection,
    pub(super) control: (SendStream, RecvStream),
    pub(super) heartbeat: (SendStream, RecvStream),
    pub(super) _endpoint: quinn::Endpoint,
}

pub(super) async fn raw_connection(config: quinn::crypto::rustls::QuicClientConfig, address: SocketAddr) -> (quinn::Endpoint, Connection) {
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let mut config = ClientConfig::new(Arc::new(config));
    config.transport_config(Arc::new(Options::default().transport(1452)));
    let connecting = endpoint.connect_with(config, address, SERVER_NAME).unwrap();
    let connection = connecting.await.unwrap();
    (endpoint, connection)
}

impl Raw {
    pub(super) async fn dial(ca: &RunCa, address: SocketAddr) -> Self {
        let identity = Identity::issue(ca, Role::Node, HOUR).unwrap();
        let (endpoint, connection) = raw_connection(identity.client().unwrap(), address).await;
        let mut control = connection.open_bi().await.unwrap();
        let mut heartbeat = connection.open_bi().await.unwrap();
        control.0.write_all(&[TAG_CONTROL]).await.unwrap();
        heartbeat.0.write_all(&[TAG_HEARTBEAT]).await.unwrap();
        heartbeat.1.read_exact(&mut [0]).await.unwrap();
        Self { connection, control, heartbeat, _endpoint: endpoint }
    }

    /// Acknowledges heartbeats and beats back, for ever.
    pub(super) async fn live(&mut self) {
        let mut record = [0; 9];
        while self.heartbeat.1.read_exact(&mut record).await.is_ok() {
            if record[0] == 0 {
                record[0] = 1;
                self.heartbeat.0.write_all(&record).await.unwrap();
            }
        }
    }
}

/// A path between two nodes that can be cut in each direction, lose one packet in some or all that are large, and change its sender.
#[derive(Default)]
pub(super) struct Path {
    to_server: AtomicU32,
    to_client: AtomicU32,
    /// Larger packets are lost, 0: none are.
    longest: AtomicUsize,
    swallowed: AtomicUsize,
    passed: AtomicUsize,
    held: AtomicBool,
    rebind: Notify,
    let_go: Notify,
}

/// Loses every packet.
pub(super) const ALL: u32 = 1;

impl Path {
    /// Starts a relay to `server`; of `n` packets each way the last is lost (0: none).
    pub(super) async fn to(server: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let path = Arc::new(Self::default());
        let (front, mut back) = (UdpSocket::bind(loopback()).await.unwrap(), towards(server).await);
        let address = front.local_addr().unwrap();
        let relay = path.clone();
        tokio::spawn(async move {
            let (mut there, mut here) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            let mut late: Vec<Vec<u8>> = Vec::new();
            let mut client = address;
            for count in 1u32.. {
                tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut there) => {
                        client = from;
                        if passes(&relay.to_server, count) && relay.fits(length) {
                            let _ = back.send(&there[..length]).await;
                            relay.passed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    Ok(length) = back.recv(&mut here) => {
                        if relay.held.load(Ordering::SeqCst) {
                            late.push(here[..length].to_vec());
                        } else if passes(&relay.to_client, count) && relay.fits(length) { let _ = front.send_to(&here[..length], client).await; }
                    }
                    () = relay.rebind.notified() => back = towards(server).await,
                    () = relay.let_go.notified() => {
                        relay.held.store(false, Ordering::SeqCst);
                        for packet in late.drain(..) {
                            let _ = front.send_to(&packet, client).await;
                        }
                    }
                }
            }
        });
        (path, address)
    }
    pub(super) fn lose(&self, to_server: u32, to_client: u32) {
        self.to_server.store(to_server, Ordering::Relaxed);
        self.to_client.store(to_client, Ordering::Relaxed);
    }
    /// From now on the server sees the client's packets come from another port.
    pub(super) fn rebind(&self) {
        self.rebind.notify_one();
    }
    /// From now on what the server says comes late: all at once, when it is let go.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }
    pub(super) fn let_go(&self) {
        self.let_go.notify_one();
    }
    /// Packets that the server was sent.
    pub(super) fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }
    /// From now on packets of more than so many bytes vanish, both ways.
    pub(super) fn swallow(&self, longest: usize) {
        self.longest.store(longest, Ordering::Relaxed);
    }
    /// Packets that vanished because they were large.
    pub(super) fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::Relaxed)
    }
    fn fits(&self, length: usize) -> bool {
        let longest = self.longest.load(Ordering::Relaxed);
        let fits = longest == 0 || length <= longest;
        self.swallowed.fetch_add(usize::from(!fits), Ordering::Relaxed);
        fits
    }
}

async fn towards(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

fn passes(lost: &AtomicU32, count: u32) -> bool {
    count.checked_rem(lost.load(Ordering::Relaxed)).is_none_or(|rest| rest != 0)
}
