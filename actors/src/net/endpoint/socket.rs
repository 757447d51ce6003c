//! The UDP socket below an endpoint: large buffers, and packets as large as they allow.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Type};

/// What is asked of the kernel; it may give less.
const BUFFER: usize = 8 << 20;
/// Below this many packets in the receive buffer bursts are lost.
const BURST: usize = 48;
/// The most that one `sendmsg` takes, over IPv4.
const MAX_SEND: usize = 65_507;
/// Packet sizes worth having: loopback, jumbo frames, Ethernet. The largest were 2.5 and 1.9 times as fast as the last.
const PAYLOADS: [u16; 3] = [65_000, 8_952, 1_452];

/// A UDP socket for an endpoint.
#[derive(Debug)]
pub struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    local: SocketAddr,
    max_payload: u16,
}

impl Socket {
    /// Binds `address` and asks for large buffers.
    ///
    /// # Errors
    /// What the system says, `AddrInUse` for instance.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Refusals only cost speed: the size of the packets follows what was granted.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        let granted = socket.recv_buffer_size()?;
        socket.bind(&address.into())?;
        let socket = TokioRuntime.wrap_udp_socket(socket.into())?;
        let max_payload = PAYLOADS.into_iter().find(|payload| granted / usize::from(*payload) >= BURST);
        Self::from_inner(Arc::new(Splitting { inner: socket, partial: Mutex::default() }), max_payload.unwrap_or(PAYLOADS[2]))
    }

    /// A socket of another make that carries packets of up to `max_payload` bytes (1200 to 65527).
    ///
    /// # Errors
    /// What its `local_addr` says.
    pub fn from_inner(inner: Arc<dyn AsyncUdpSocket>, max_payload: u16) -> io::Result<Self> {
        Ok(Self { local: inner.local_addr()?, inner, max_payload: max_payload.clamp(1200, 65_527) })
    }

    /// The largest packet that it should carry, in bytes.
    pub fn max_payload(&self) -> u16 {
        self.max_payload
    }

    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What quinn works with, to be wrapped.
    pub fn into_inner(self) -> Arc<dyn AsyncUdpSocket> {
        self.inner
    }
}

/// quinn hands over up to ten packets at once. Where they are large together they exceed what one `sendmsg`
/// takes, and the error would be swallowed and look like total loss. So larger batches are cut, and packets
/// of any size keep the offload that suits them.
struct Splitting {
    inner: Arc<dyn AsyncUdpSocket>,
    /// How far the batch got that the socket had no more room for.
    partial: Mutex<Option<Partial>>,
}

#[derive(PartialEq)]
struct Partial {
    destination: SocketAddr,
    /// The batch's first bytes: encrypted, so no other batch has them.
    begin: Vec<u8>,
    sent: usize,
}

impl fmt::Debug for Splitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Splitting {
    fn send_split(&self, transmit: &Transmit<'_>, segment: usize) -> io::Result<()> {
        let begin = &transmit.contents[..segment.min(64)];
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let resumed = partial.take().filter(|p| p.destination == transmit.destination && p.begin == begin);
        let mut sent = resumed.map_or(0, |p| p.sent);
        let step = (MAX_SEND / segment).max(1) * segment;
        while let Some(rest) = transmit.contents.get(sent..).filter(|rest| !rest.is_empty()) {
            let contents = &rest[..rest.len().min(step)];
            let segment_size = (contents.len() > segment).then_some(segment);
            let part = Transmit { destination: transmit.destination, ecn: transmit.ecn, contents, segment_size, src_ip: transmit.src_ip };
            if let Err(error) = self.inner.try_send(&part) {
                *partial = Some(Partial { destination: transmit.destination, begin: begin.to_vec(), sent });
                return Err(error);
            }
            sent += contents.len();
        }
        Ok(())
    }
}

impl AsyncUdpSocket for Splitting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match transmit.segment_size {
            Some(segment) if transmit.contents.len() > MAX_SEND => self.send_split(transmit, segment),
            _ => self.inner.try_send(transmit),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes datagrams until it is full.
    #[derive(Debug)]
    struct Sink {
        room: Mutex<usize>,
        taken: Mutex<Vec<(usize, Option<usize>)>>,
    }

    impl AsyncUdpSocket for Sink {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nobody waits in this test")
        }
        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let mut room = self.room.lock().unwrap();
            *room = room.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
            self.taken.lock().unwrap().push((transmit.contents.len(), transmit.segment_size));
            Ok(())
        }
        fn poll_recv(&self, _: &mut Context<'_>, _: &mut [IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }
    }

    fn send(socket: &Splitting, contents: &[u8], segment: usize) -> io::Result<()> {
        let destination = ([127, 0, 0, 1], 2).into();
        socket.try_send(&Transmit { destination, ecn: None, contents, segment_size: Some(segment), src_ip: None })
    }

    #[test]
    fn batches_are_cut_to_what_the_kernel_takes_and_go_on_where_they_stopped() {
        let sink = Arc::new(Sink { room: Mutex::new(100), taken: Mutex::default() });
        let socket = Splitting { inner: sink.clone(), partial: Mutex::default() };
        let taken = || std::mem::take(&mut *sink.taken.lock().unwrap());
        let bytes: Vec<u8> = (0..650_000u32).map(|n| (n % 251) as u8).collect();

        send(&socket, &bytes[..14_520], 1452).unwrap();
        assert_eq!(taken(), [(14_520, Some(1452))]);
        send(&socket, &bytes[..85_000], 8952).unwrap();
        assert_eq!(taken(), [(62_664, Some(8952)), (22_336, Some(8952))]);
        send(&socket, &bytes[..190_000], 65_000).unwrap();
        assert_eq!(taken(), [(65_000, None), (65_000, None), (60_000, None)]);

        *sink.room.lock().unwrap() = 1;
        assert_eq!(send(&socket, &bytes[..190_000], 65_000).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        *sink.room.lock().unwrap() = 100;
        send(&socket, &bytes[..190_000], 65_000).unwrap();
        assert_eq!(taken(), [(65_000, None), (65_000, None), (60_000, None)], "nothing twice, nothing missing");
        send(&socket, &bytes[..190_000], 65_000).unwrap();
        assert_eq!(taken().len(), 3, "the next batch is whole");
    }
}
