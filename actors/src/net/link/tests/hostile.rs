//! What an attacker could try who can send packets, who has a certificate, or who was a member.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_free::Numbers;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::harness::*;
use crate::net::endpoint::{ConnectError, Options};
use crate::net::link::receive::{TAG_BULK, TAG_SMALL};
use crate::net::link::{LinkDown, TAG_CONTROL};
use crate::net::tls::{Identity, Role, RunCa};
use crate::wire::frame;
use crate::wire::message::{DataHeader, DataKind};

/// Numbers that look random and are the same each time.
mod rand_free {
    pub(super) struct Numbers(pub(super) u64);
    impl Numbers {
        pub(super) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }
        pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
            (0..length).map(|_| self.next() as u8).collect()
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_opens_nothing() {
    let ca = RunCa::generate("run").unwrap();
    let (mut node, victim) = (Node::new(&ca), Identity::issue(&ca, Role::Admin, HOUR).unwrap());
    let thief = Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (_endpoint, connection) = raw_connection(thief.posing_as(&victim), node.address()).await;
    let closed = timeout(SOON, connection.closed()).await.unwrap().to_string();
    assert!(closed.contains("51") || closed.contains("signature"), "decrypt_error is alert 51: {closed}");
    assert!(node.got.try_recv().is_err());
}

#[tokio::test]
async fn nothing_is_said_before_both_have_proved_who_they_are() {
    let ca = RunCa::generate("run").unwrap();
    let node = Node::new(&ca);
    let config = quinn::ClientConfig::new(Arc::new(Identity::issue(&ca, Role::Node, HOUR).unwrap().eager()));
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    for _ in 0..2 {
        let connecting = endpoint.connect_with(config.clone(), node.address(), crate::net::tls::identity::SERVER_NAME).unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("the node gave a ticket for data that anyone can send again") };
        let connection = connecting.await.unwrap();
        // Long enough for a ticket, had there been one.
        let mut control = connection.open_bi().await.unwrap();
        control.0.write_all(&[TAG_CONTROL]).await.unwrap();
        let mut heartbeat = connection.open_bi().await.unwrap();
        heartbeat.0.write_all(&[2]).await.unwrap();
        timeout(SOON, heartbeat.1.read_exact(&mut [0])).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn nobody_can_speak_for_another() {
    let ca = RunCa::generate("run").unwrap();
    let (mut node, member) = (Node::new(&ca), Node::new(&ca));
    let (_link, _held) = linked(&member, &node, node.address()).await;
    // No frame has a field for its sender: whatever a peer writes arrives as its own.
    let mut raw = Raw::dial(&ca, node.address()).await;
    let held = node.accept().await;
    let claim = format!("I am {}", member.endpoint.id());
    raw.control.0.write_all(&frame::control(&claim, 1024).unwrap().concat()).await.unwrap();
    let mut stream = raw.connection.open_uni().await.unwrap();
    let header = header(DataKind::Gradient, 1);
    let head = frame::data(&header, 0, 10).unwrap();
    stream.write_all(&[&[TAG_BULK], &head[..]].concat()).await.unwrap();
    stream.finish().unwrap();
    for _ in 0..2 {
        let from = match node.next().await {
            Got::Control(from, text) => {
                assert_eq!(text, claim);
                from
            }
            Got::Data(from, ..) => from,
            Got::Down(..) => panic!("the link went down"),
        };
        assert_eq!(from, held.peer());
        assert_ne!(from, member.endpoint.id());
    }
}

/// A relay that keeps what the client sends and sends each packet three times.
async fn echoing(server: std::net::SocketAddr) -> (Arc<Mutex<Vec<Vec<u8>>>>, std::net::SocketAddr) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (front, back) = (UdpSocket::bind(loopback()).await.unwrap(), UdpSocket::bind(loopback()).await.unwrap());
    back.connect(server).await.unwrap();
    let (address, keep) = (front.local_addr().unwrap(), seen.clone());
    tokio::spawn(async move {
        let (mut there, mut here) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut client = address;
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut there) => {
                    client = from;
                    keep.lock().unwrap().push(there[..length].to_vec());
                    for _ in 0..3 {
                        let _ = back.send(&there[..length]).await;
                    }
                }
                Ok(length) = back.recv(&mut here) => drop(front.send_to(&here[..length], client).await),
            }
        }
    });
    (seen, address)
}

#[tokio::test]
async fn replayed_packets_are_frames_only_once() {
    let ca = RunCa::generate("run").unwrap();
    let (a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (seen, address) = echoing(b.address()).await;
    let (ab, ba) = linked(&a, &b, address).await;
    for n in 0..50u64 {
        ab.control(&format!("{n}")).await.unwrap();
        ab.send(&header(DataKind::Gradient, n), vec![n as f32].into()).await.unwrap();
    }
    let (mut words, mut sums) = (0, 0);
    while words < 50 || sums < 50 {
        match b.next().await {
            Got::Control(_, text) => {
                assert_eq!(text, format!("{words}"), "in order and once");
                words += 1;
            }
            Got::Data(_, header, _) => {
                assert_eq!(header.call, sums);
                sums += 1;
            }
            Got::Down(_, cause) => panic!("{cause}"),
        }
    }
    // All of it once more, from another address, while the link is up.
    let old = seen.lock().unwrap().clone();
    let elsewhere = UdpSocket::bind(loopback()).await.unwrap();
    for packet in &old {
        let _ = elsewhere.send_to(packet, b.address()).await;
    }
    ab.control(&"after".into()).await.unwrap();
    assert_eq!(b.next_control().await.1, "after");
    ab.close("done").await;
    assert!(matches!(b.next_down().await.1, LinkDown::Closed { .. }));
    assert!(ba.is_down().is_some());
    // And when it is gone: to a node of the same run nothing of it is a beginning.
    for packet in &old {
        let _ = elsewhere.send_to(packet, b.address()).await;
    }
    let late = timeout(Duration::from_millis(300), b.endpoint.accept()).await;
    assert!(late.is_err() && b.got.try_recv().is_err(), "nobody comes in with what somebody else said");
}

#[tokio::test]
async fn garbage_on_the_socket_disturbs_nobody() {
    let (_a, mut b, ab, _ba) = pair().await;
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    let mut numbers = Numbers(1);
    for n in 0..2000u64 {
        let length = numbers.next() as usize % 1400;
        let mut packet = numbers.bytes(length);
        // A third of it looks like QUIC: long header, version 1.
        if n % 3 == 0 && length > 5 {
            let first = packet[0] & 0x3f;
            packet[..5].copy_from_slice(&[0xc0 | first, 0, 0, 0, 1]);
        }
        let _ = stranger.send_to(&packet, b.address()).await;
        if n % 100 == 0 {
            ab.control(&format!("{n}")).await.unwrap();
            assert_eq!(b.next_control().await.1, format!("{n}"));
        }
    }
    assert_eq!(ab.is_down(), None);
}

#[tokio::test]
async fn lengths_of_two_to_the_63_are_refused_or_mean_nothing() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let _link = node.accept().await;
    raw.heartbeat.0.write_all(&[&[2u8][..], &(1u64 << 63).to_le_bytes()].concat()).await.unwrap();
    let (_, cause) = node.next_down().await;
    assert!(matches!(&cause, LinkDown::Violation { reason } if reason.contains("9223372036854775808 bytes")), "{cause}");

    // In a header they are numbers like any other: no memory follows them.
    let raw = Raw::dial(&ca, node.address()).await;
    let _link = node.accept().await;
    let wide = DataHeader { start: 1 << 63, length: 1 << 63, call: u64::MAX, ..header(DataKind::Gradient, 0) };
    let mut stream = raw.connection.open_uni().await.unwrap();
    stream.write_all(&[&[TAG_SMALL], &frame::data(&wide, 0, 10).unwrap()[..]].concat()).await.unwrap();
    let (_, header, values) = node.next_data().await;
    assert_eq!((header, values.len()), (wide, 0));
}

#[tokio::test]
async fn who_begins_a_frame_and_drips_is_dropped() {
    let ca = RunCa::generate("run").unwrap();
    let strict = Options { frame: Duration::from_millis(300), ..Options::default() };
    let mut node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), strict);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let _link = node.accept().await;
    raw.control.0.write_all(&1000u32.to_le_bytes()).await.unwrap();
    let cause = timeout(SOON, async {
        loop {
            // It beats as a good peer does, and sends a byte now and then.
            let _ = raw.control.0.write_all(&[0]).await;
            let _ = raw.heartbeat.0.write_all(&[0; 9]).await;
            match node.got.try_recv() {
                Ok(Got::Down(_, cause)) => break cause,
                Ok(other) => panic!("{other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let cause = cause.await.unwrap();
    assert!(matches!(&cause, LinkDown::Violation { reason } if reason.contains("did not finish it within 0.3 s")), "{cause}");
}

#[tokio::test]
async fn who_shakes_hands_and_says_nothing_is_dropped() {
    let ca = RunCa::generate("run").unwrap();
    let hasty = Options { handshake: Duration::from_millis(300), ..Options::default() };
    let mut node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), hasty);
    let identity = Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (_endpoint, silent) = raw_connection(identity.client().unwrap(), node.address()).await;
    let mut half = {
        let (_endpoint, half) = raw_connection(identity.client().unwrap(), node.address()).await;
        let mut control = half.open_bi().await.unwrap();
        control.0.write_all(&[TAG_CONTROL]).await.unwrap();
        (_endpoint, half, control)
    };
    timeout(SOON, silent.closed()).await.unwrap();
    timeout(SOON, half.1.closed()).await.unwrap();
    assert!(half.2.0.write_all(&[0]).await.is_err());
    assert!(node.got.try_recv().is_err());
}

#[tokio::test]
async fn who_only_looks_says_little() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let admin = Node::with(Identity::issue(&ca, Role::Admin, HOUR).unwrap(), Options::default());
    let (link, _held) = linked(&admin, &node, node.address()).await;
    link.control(&"x".repeat(60_000)).await.unwrap();
    assert_eq!(node.next_control().await.1.len(), 60_000);
    link.control(&"x".repeat(70_000)).await.unwrap();
    let (_, cause) = node.next_down().await;
    assert!(matches!(&cause, LinkDown::Violation { reason } if reason.contains("at most 65536 is allowed")), "{cause}");
}

#[tokio::test]
async fn nobody_takes_all_the_links() {
    let ca = RunCa::generate("run").unwrap();
    let few = Options { links_each: 3, max_guests: 4, ..Options::default() };
    let node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), few);
    let admin = || Node::with(Identity::issue(&ca, Role::Admin, HOUR).unwrap(), Options::default());
    let (greedy, second, third) = (admin(), admin(), admin());
    let refused = |error: ConnectError, because: &str| {
        assert!(matches!(&error, ConnectError::Refused { reason, .. } if reason.contains(because)), "{error}");
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(linked(&greedy, &node, node.address()).await);
    }
    refused(greedy.endpoint.connect(node.address(), None).await.unwrap_err(), "you have 3 links to this node already");
    held.push(linked(&second, &node, node.address()).await);
    refused(third.endpoint.connect(node.address(), None).await.unwrap_err(), "4 others look at this node already");
    linked(&Node::new(&ca), &node, node.address()).await;

    // A link that ends makes room.
    held[0].0.close("enough").await;
    held[0].1.down().await;
    linked(&third, &node, node.address()).await;
}
