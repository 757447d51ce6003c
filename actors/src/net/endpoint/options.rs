//! The bounds of an endpoint and of each of its links.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::net::link::Heartbeat;

/// What one stream may hold that its reader has not taken. All of a link together: 4 MiB, 10 Gbit/s at 3 ms, and half of what the buffer of
/// a socket holds where 4 MiB are allowed. What overflows a buffer is lost, and a burst of large packets that are lost looks to QUIC like a path that
/// carries small ones only: 4 MiB a stream cost one packet in eighty on loopback, and now and then all packets shrank to 1,200 bytes.
const STREAM_WINDOW: u32 = 384 << 10;
/// Bytes that may be under way before any is confirmed, at least; and twice the largest packet that the path may carry (RFC 9002, 7.2).
/// The packets that find out what it carries count too: one that fills the window holds up the handshake, heartbeats, confirmations and
/// the word that a link is closed (quinn#2785) for a round trip, and where it is lost, for as long as that takes to notice.
const INITIAL_WINDOW: u64 = 14_720;
/// How soon large packets are tried again where they seemed not to get through.
const LARGE_AGAIN: Duration = Duration::from_secs(5);
/// The longest control frame by default, in bytes.
pub const CONTROL_BYTES_MAX: usize = 4 << 20;
/// Streams of a link beside those of bulk transfers: heartbeat, control, small.
const OTHER_STREAMS: u32 = 3;

/// Bounds and times. The defaults suit a run of up to some hundred nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Heartbeats and the silence that ends a link.
    pub heartbeat: Heartbeat,
    /// QUIC's own limit on silence: the backstop, should the heartbeats' watch itself be stuck.
    pub idle: Duration,
    /// Time for a handshake, at either end.
    pub handshake: Duration,
    /// Time for what is queued to go out when a link is closed.
    pub drain: Duration,
    /// The longest control frame, in bytes.
    pub max_control: u32,
    /// The longest control frame of those who only ask or order, in bytes.
    pub max_question: u32,
    /// Time for the rest of a control frame once it has begun.
    pub frame: Duration,
    /// The longest payload of a data frame, in values.
    pub max_values: u32,
    /// Control frames that may wait.
    pub control_queue: usize,
    /// Small data frames that may wait.
    pub small_queue: usize,
    /// Large data frames that may wait.
    pub bulk_queue: usize,
    /// Large data frames that are under way at once, each way. The same on all nodes.
    pub bulk_streams: u32,
    /// Handshakes that are under way at once; from half of it on, diallers must prove their address.
    pub handshakes: usize,
    /// Links at once.
    pub max_links: usize,
    /// Links at once with the same peer.
    pub links_each: usize,
    /// Links at once with peers that are no nodes: they never keep nodes out.
    pub max_guests: usize,
    /// The largest packet that is sent or taken, in bytes, where the socket carries larger ones.
    pub max_payload: u16,
    /// Seeds connection ids and the like, for replay; a different one for each endpoint.
    pub seed: Option<[u8; 32]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Heartbeat::default(),
            idle: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            drain: Duration::from_secs(2),
            max_control: CONTROL_BYTES_MAX as u32,
            max_question: 64 << 10,
            frame: Duration::from_secs(30),
            max_values: 64 << 20,
            control_queue: 256,
            small_queue: 256,
            bulk_queue: 16,
            bulk_streams: 8,
            handshakes: 256,
            max_links: 4096,
            links_each: 32,
            max_guests: 256,
            max_payload: u16::MAX,
            seed: None,
        }
    }
}

impl Options {
    /// QUIC's settings for packets of up to `max_payload` bytes.
    pub(crate) fn transport(&self, max_payload: u16) -> TransportConfig {
        let streams = self.bulk_streams + OTHER_STREAMS;
        let window = STREAM_WINDOW * streams;
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(max_payload).black_hole_cooldown(LARGE_AGAIN);
        let mut congestion = CubicConfig::default();
        congestion.initial_window(INITIAL_WINDOW.max(2 * u64::from(max_payload)));
        let mut transport = TransportConfig::default();
        transport
            .mtu_discovery_config(Some(mtu))
            .congestion_controller_factory(Arc::new(congestion))
            .stream_receive_window(STREAM_WINDOW.into())
            // As much as all streams together: a slow reader of one never holds up the heartbeats of the others.
            .receive_window(window.into())
            // Twice that, because bytes that were read and whose acknowledgement is under way count as well.
            .send_window(2 * u64::from(window))
            .max_concurrent_bidi_streams(VarInt::from_u32(2))
            .max_concurrent_uni_streams((self.bulk_streams + 1).into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(self.idle.try_into().ok())
            .keep_alive_interval(Some(self.idle / 5));
        transport
    }
}
