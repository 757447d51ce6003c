//! Who is let in, and what a peer's misbehaviour costs: its own link and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::harness::*;
use crate::net::endpoint::{BindError, ConnectError, Endpoint, Options};
use crate::net::link::receive::{TAG_BULK, TAG_SMALL};
use crate::net::link::{Heartbeat, LinkDown, Payload, SendError};
use crate::net::tls::{ALPN, Identity, Role, RunCa};
use crate::wire::frame;
use crate::wire::message::DataKind;

fn refusal(error: ConnectError) -> String {
    match error {
        ConnectError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// Nobody has come in by now.
async fn nobody(node: &Node) {
    assert!(timeout(Duration::from_millis(100), node.endpoint.accept()).await.is_err());
}

#[tokio::test]
async fn both_ends_know_each_other_by_certificate() {
    let (a, b, ab, ba) = pair().await;
    assert_eq!((ab.peer(), ba.peer()), (b.endpoint.id(), a.endpoint.id()));
    assert_eq!((ab.certificate().role, ab.certificate().run.as_str()), (Role::Node, "pair"));
    assert!(ab.dialled() && !ba.dialled());
    assert_eq!(ab.preferred(), ba.preferred());
    assert_eq!(ab.preferred(), a.endpoint.dials(b.endpoint.id()));
}

#[tokio::test]
async fn two_that_dial_at_once_agree_on_one_link() {
    let ca = RunCa::generate("pair").unwrap();
    let (mut a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (ab, ba) = tokio::join!(linked(&a, &b, b.address()), linked(&b, &a, a.address()));
    let (at_a, at_b) = ([ab.0, ba.1], [ba.0, ab.1]);
    let kept_at = |links: &[crate::net::link::Link<String>; 2]| links.iter().filter(|l| l.preferred()).cloned().collect::<Vec<_>>();
    let (kept_a, kept_b) = (kept_at(&at_a), kept_at(&at_b));
    assert_eq!((kept_a.len(), kept_b.len()), (1, 1));
    kept_a[0].control(&"to b".into()).await.unwrap();
    kept_b[0].control(&"to a".into()).await.unwrap();
    assert_eq!(b.next_control().await.1, "to b");
    assert_eq!(a.next_control().await.1, "to a");
    at_a.iter().find(|link| !link.preferred()).unwrap().close("we have another").await;
    assert_eq!(b.next_down().await.1, LinkDown::Closed { reason: "we have another".into() });
    assert_eq!(kept_b[0].is_down(), None);
}

#[tokio::test]
async fn who_is_refused_is_heard_no_more_and_told_why() {
    let (mut a, mut b, ab, ba) = pair().await;
    let talk = tokio::spawn(async move { while ab.control(&"again".into()).await.is_ok() {} });
    assert_eq!(b.next_control().await.1, "again");
    ba.refuse("you were put out");
    let down = loop {
        if let Got::Down(_, cause) = b.next().await {
            break cause;
        }
    };
    assert_eq!(down, LinkDown::Unwanted { reason: "you were put out".into() });
    assert_eq!(a.next_down().await.1, LinkDown::Refused { reason: "you were put out".into() });
    talk.await.unwrap();
    assert!(b.got.try_recv().is_err(), "nothing comes after the end");
}

/// Comes back when it is so; a machine that is busy may take its time.
async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap();
}

/// A busy machine hears late that it is refused. What it has said meanwhile came when nobody knew its link any more, and an answer
/// to that lies behind the refusal.
#[tokio::test]
async fn who_hears_late_that_it_is_refused_hears_why() {
    let ca = RunCa::generate("run").unwrap();
    let patient = Options { heartbeat: Heartbeat { floor: SOON, ..Heartbeat::default() }, ..Options::default() };
    let (mut a, b) = (Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), patient), Node::new(&ca));
    let (path, address) = Path::to(b.address()).await;
    let (_ab, ba) = linked(&a, &b, address).await;
    path.hold();
    ba.refuse("you were put out");
    until(|| b.endpoint.connections() == 0).await;
    let passed = path.passed();
    until(|| path.passed() > passed).await;
    // The packets of a new link come behind that one: when it is up, whatever is said to it has been said.
    linked(&Node::new(&ca), &b, b.address()).await;
    path.let_go();
    assert_eq!(a.next_down().await.1, LinkDown::Refused { reason: "you were put out".into() });
}

/// An interval that cannot be counted four times makes a link's actor panic at its first look at the clock.
#[tokio::test]
async fn a_link_whose_actor_panics_ends_at_both_ends_and_says_why() {
    let ca = RunCa::generate("run").unwrap();
    let endless = Options { heartbeat: Heartbeat { interval: Duration::MAX / 3, ..Heartbeat::default() }, ..Options::default() };
    let mut odd = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), endless);
    let mut node = Node::new(&ca);
    let (link, _) = linked(&odd, &node, node.address()).await;
    let (_, cause) = odd.next_down().await;
    assert!(matches!(&cause, LinkDown::Broken { reason } if reason.contains("panicked: overflow when multiplying")), "{cause}");
    let (_, cause) = node.next_down().await;
    assert!(matches!(&cause, LinkDown::Refused { reason } if reason.contains("panicked: overflow when multiplying")), "{cause}");
    let report = link.report();
    assert!(report.ended && report.failure.is_some_and(|failure| failure.root_cause.contains("overflow")));
}

/// Who looks at a node is silent between two questions: nobody beats, and the link stays up for longer than silence between nodes may
/// last.
#[tokio::test]
async fn nobody_beats_on_a_link_of_somebody_who_only_looks() {
    let ca = RunCa::generate("run").unwrap();
    let hasty = || Options {
        heartbeat: Heartbeat { interval: Duration::from_millis(5), floor: Duration::from_millis(20), ceiling: Duration::from_millis(20) },
        ..Options::default()
    };
    let mut node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), hasty());
    let admin = Node::with(Identity::issue(&ca, Role::Admin, HOUR).unwrap(), hasty());
    let (link, at_node) = linked(&admin, &node, node.address()).await;
    until(|| link.stats().heard_ago > Duration::from_millis(200)).await;
    link.control(&"still there".into()).await.unwrap();
    assert_eq!(node.next_control().await.1, "still there");
    assert_eq!((link.report().handled, at_node.report().handled, link.is_down()), (0, 0, None));
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate_or_with_another_protocol() {
    let ca = RunCa::generate("run").unwrap();
    let node = Node::new(&ca);
    let identity = Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (_endpoint, connection) = raw_connection(identity.stranger(ALPN, false), node.address()).await;
    let error = timeout(SOON, connection.closed()).await.unwrap().to_string();
    assert!(error.contains("116"), "certificate_required is alert 116: {error}");

    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(identity.stranger(b"everstep/0", true)));
    let connecting = endpoint.connect_with(config, node.address(), crate::net::tls::identity::SERVER_NAME).unwrap();
    let error = timeout(SOON, connecting).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("120"), "no_application_protocol is alert 120: {error}");
    nobody(&node).await;

    // The same client with certificate and protocol comes in: it was these that kept it out.
    let (_endpoint, connection) = raw_connection(identity.stranger(ALPN, true), node.address()).await;
    assert!(timeout(Duration::from_millis(200), connection.closed()).await.is_err());
}

#[tokio::test]
async fn another_run_is_refused_by_both() {
    let (ours, theirs) = (RunCa::generate("run").unwrap(), RunCa::generate("run").unwrap());
    let (a, b) = (Node::new(&ours), Node::new(&theirs));
    let reason = refusal(a.endpoint.connect(b.address(), None).await.unwrap_err());
    assert_eq!(reason, "its certificate is of another run; give both nodes the same --run and --secrets");
    nobody(&b).await;
}

#[tokio::test]
async fn expired_certificates_are_refused_at_either_end() {
    let ca = RunCa::generate("run").unwrap();
    let day = |n: u64| Duration::from_secs(86_400 * n);
    let old = Node::with(Identity::issue_between(&ca, Role::Node, day(100), day(200)).unwrap(), Options::default());
    let node = Node::new(&ca);
    let reason = refusal(old.endpoint.connect(node.address(), None).await.unwrap_err());
    assert!(reason.starts_with("our certificate has expired"), "{reason}");
    let reason = refusal(node.endpoint.connect(old.address(), None).await.unwrap_err());
    assert!(reason.starts_with("its certificate has expired"), "{reason}");
    nobody(&node).await;
}

#[tokio::test]
async fn only_nodes_are_dialled_and_the_router_sees_roles() {
    let ca = RunCa::generate("run").unwrap();
    let node = Node::new(&ca);
    let viewer = Node::with(Identity::issue(&ca, Role::Viewer, HOUR).unwrap(), Options::default());
    let reason = refusal(viewer.endpoint.connect(node.address(), None).await.unwrap_err());
    assert_eq!(reason, "the peer refused: viewers are not served here");
    let hasty = Options { handshake: Duration::from_millis(300), ..Options::default() };
    let node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), hasty);
    assert!(node.endpoint.connect(viewer.address(), None).await.is_err());
}

#[tokio::test]
async fn one_certificate_in_two_places_has_two_ids_of_one_name() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let identity = Identity::issue(&ca, Role::Admin, HOUR).unwrap();
    let (one, two) = (Node::with(identity.clone(), Options::default()), Node::with(identity.clone(), Options::default()));
    let (first, at_first) = linked(&one, &node, node.address()).await;
    let (second, at_second) = linked(&two, &node, node.address()).await;
    assert_ne!(at_first.peer(), at_second.peer());
    assert_eq!([at_first.peer().to_string(), at_second.peer().to_string()], [identity.id().to_string(), identity.id().to_string()]);
    for (link, held) in [(&first, &at_first), (&second, &at_second)] {
        link.control(&"mine".into()).await.unwrap();
        assert_eq!(node.next_control().await, (held.peer(), "mine".into()), "what comes by a link can be answered there");
    }
}

#[tokio::test]
async fn data_from_an_admin_ends_its_link() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let admin = Node::with(Identity::issue(&ca, Role::Admin, HOUR).unwrap(), Options::default());
    let (link, _held) = linked(&admin, &node, node.address()).await;
    link.control(&"status".into()).await.unwrap();
    assert_eq!(node.next_control().await.1, "status");
    link.send(&header(DataKind::Gradient, 0), vec![1.0].into()).await.unwrap();
    let cause = node.next_down().await.1;
    assert_eq!(cause.to_string(), "the peer broke the protocol: it is no node but a admin and sent data");
    assert!(matches!(link.down().await, LinkDown::Refused { .. }));
}

#[tokio::test]
async fn another_node_at_the_address_is_told() {
    let ca = RunCa::generate("run").unwrap();
    let (a, b, c) = (Node::new(&ca), Node::new(&ca), Node::new(&ca));
    let error = a.endpoint.connect(b.address(), Some(c.endpoint.id())).await.unwrap_err();
    assert!(matches!(error, ConnectError::OtherNode { found, .. } if found == b.endpoint.id()), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence() {
    let ca = RunCa::generate("run").unwrap();
    let node = Node::new(&ca);
    let identity = Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (sender, _got) = tokio::sync::mpsc::unbounded_channel();
    let error = Endpoint::bind(node.address(), identity, Options::default(), Arc::new(Recorder(sender)), None).unwrap_err();
    let port = node.address().port();
    assert!(matches!(error, BindError::InUse(_)));
    let want =
        format!("UDP port {port} on 127.0.0.1 is in use by another process; stop that one, or choose another port (0 takes a free one)");
    assert_eq!(error.to_string(), want);
}

#[tokio::test]
async fn nobody_home_is_told_in_time() {
    let ca = RunCa::generate("run").unwrap();
    let hasty = Options { handshake: Duration::from_millis(300), ..Options::default() };
    let node = Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), hasty);
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let error = node.endpoint.connect(silent.local_addr().unwrap(), None).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

/// What a raw peer writes, and where; how the link must end.
async fn ends(control: bool, bytes: &[u8], because: &str) {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let link = node.accept().await;
    if control {
        raw.control.0.write_all(bytes).await.unwrap();
    } else {
        raw.connection.open_uni().await.unwrap().write_all(bytes).await.unwrap();
    }
    let (_, cause) = node.next_down().await;
    assert!(matches!(&cause, LinkDown::Violation { reason } if reason.contains(because)), "{cause}");
    let closed = timeout(SOON, raw.connection.closed()).await.unwrap().to_string();
    assert!(closed.contains(because), "the peer is told as well: {closed}");
    assert!(matches!(link.control(&"late".into()).await, Err(SendError::Down { .. })));
}

#[tokio::test]
async fn what_no_peer_should_send_ends_its_link() {
    let garbage = [&5u32.to_le_bytes()[..], &[0xff; 5]].concat();
    let huge = [&[TAG_BULK][..], &8u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
    let head = |tag: u8| [&[tag][..], &frame::MAX_HEADER.to_le_bytes(), &4u32.to_le_bytes(), &[0xff; frame::MAX_HEADER as usize]].concat();
    let long = u32::MAX.to_le_bytes();
    let (bulk, small) = (head(TAG_BULK), head(TAG_SMALL));
    tokio::join!(
        ends(true, &long, "4294967295 was announced"),
        ends(true, &garbage, "do not check"),
        ends(false, &huge, "4294967295 was announced"),
        ends(false, &bulk, "on its bulk stream, the bytes of a frame do not check"),
        ends(false, &small, "on its small stream, the bytes of a frame do not check"),
        ends(false, &[99], "a stream of kind 99"),
    );
}

#[tokio::test]
async fn a_control_stream_that_breaks_off_ends_the_link() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let _link = node.accept().await;
    raw.control.0.write_all(&[100, 0, 0, 0, 1, 2]).await.unwrap();
    raw.control.0.finish().unwrap();
    let (_, cause) = node.next_down().await;
    assert!(matches!(&cause, LinkDown::Violation { reason } if reason.contains("broke off")), "{cause}");
}

#[tokio::test]
async fn a_router_that_panics_ends_the_link_and_not_the_node() {
    let (_a, mut b, ab, _ba) = pair().await;
    ab.control(&"panic".into()).await.unwrap();
    assert!(matches!(b.next_down().await.1, LinkDown::Broken { .. }));
}

#[tokio::test]
async fn what_is_too_long_is_not_sent() {
    let (_a, mut b, ab, _ba) = pair().await;
    let error = ab.control(&"x".repeat(5 << 20)).await.unwrap_err();
    assert!(matches!(error, SendError::Unsendable { .. }), "{error}");
    assert!(Payload::shared(Arc::new(vec![0.0; 4]), 2..5).is_err());
    ab.control(&"short".into()).await.unwrap();
    assert_eq!(b.next_control().await.1, "short");
}

#[tokio::test]
async fn a_crowd_gets_in_through_a_narrow_door() {
    let ca = RunCa::generate("run").unwrap();
    let narrow = Options { handshakes: 4, ..Options::default() };
    let node = Arc::new(Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), narrow));
    let accepting = node.endpoint.clone();
    let door = tokio::spawn(async move {
        let mut links = Vec::new();
        while links.len() < 24 {
            links.push(accepting.accept().await.unwrap());
        }
        links
    });
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (guest, address) = (Node::new(&ca), node.address());
        crowd.spawn(async move {
            loop {
                match guest.endpoint.connect(address, None).await {
                    Ok(link) => break (guest, link),
                    Err(ConnectError::Unreachable { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
    let links = timeout(SOON, door).await.unwrap().unwrap();
    let guests = timeout(SOON, crowd.join_all()).await.unwrap();
    assert_eq!((links.len(), guests.len()), (24, 24));
}
