//! What is sent arrives: bits, order, bounds, and a farewell that waits for the last frame.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::harness::*;
use crate::net::endpoint::Options;
use crate::net::link::receive::TAG_BULK;
use crate::net::link::{LinkDown, Payload, SMALL, SendError};
use crate::net::tls::{Identity, Role, RunCa};
use crate::wire::frame;
use crate::wire::message::DataKind;

/// Every bit pattern counts, those of NaNs too.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        f32::from_bits((state >> 32) as u32)
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    bytemuck::cast_slice::<f32, u32>(a) == bytemuck::cast_slice::<f32, u32>(b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_arrive_bit_equal() {
    let (a, mut b, ab, _ba) = pair().await;
    let values = Arc::new(noise(16 << 20));
    let part = 5..(16 << 20) - 3;
    ab.send(&header(DataKind::Gathered, 1), values.clone().into()).await.unwrap();
    ab.send(&header(DataKind::Gathered, 2), Payload::shared(values.clone(), part.clone()).unwrap()).await.unwrap();
    for _ in 0..2 {
        let (from, header, got) = b.next_data().await;
        assert_eq!(from, a.endpoint.id());
        let want = if header.call == 1 { &values[..] } else { &values[part.clone()] };
        assert!(same_bits(&got, want), "call {}", header.call);
    }
    let stats = ab.stats();
    assert!(stats.bytes_out > 128 << 20 && stats.mtu > 1200, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_no_larger_than_the_smaller_of_both_ends_wants() {
    const LARGEST: u16 = 1_452;
    let ca = RunCa::generate("run").unwrap();
    let identity = || Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (small, mut large) = (Node::with(identity(), Options { max_payload: LARGEST, ..Options::default() }), Node::new(&ca));
    let (out, back) = linked(&small, &large, large.address()).await;
    // Whoever may look for larger packets has found them by the end of this.
    out.send(&header(DataKind::Gathered, 1), noise(1 << 20).into()).await.unwrap();
    assert_eq!(large.next_data().await.2.len(), 1 << 20);
    assert!(out.stats().mtu <= LARGEST && back.stats().mtu <= LARGEST, "{:?} {:?}", out.stats(), back.stats());
}

#[tokio::test]
async fn small_frames_and_control_messages_keep_their_order() {
    let (_a, mut b, ab, _ba) = pair().await;
    let largest = SMALL / 4;
    for n in 0..1000u64 {
        let length = if n % 100 == 0 { largest } else { n as usize % 50 };
        ab.send(&header(DataKind::Partial, n), vec![n as f32; length].into()).await.unwrap();
        ab.control(&n.to_string()).await.unwrap();
    }
    let (mut data, mut control) = (0, 0);
    while data + control < 2000 {
        match b.next().await {
            Got::Data(_, header, values) => {
                assert_eq!(header.call, data);
                assert!(values.iter().all(|v| *v == data as f32));
                data += 1;
            }
            Got::Control(_, text) => {
                assert_eq!(text, control.to_string());
                control += 1;
            }
            Got::Down(_, cause) => panic!("{cause}"),
        }
    }
    let stats = ab.stats();
    assert!(stats.small.high_water >= 1 && stats.small.high_water <= stats.small.capacity, "{stats:?}");
}

#[tokio::test]
async fn what_the_router_does_not_want_bounces_alone() {
    let (_a, mut b, ab, ba) = pair().await;
    // The second one is longer than what a stream holds that nobody reads.
    for length in [10, 1 << 20] {
        ab.send(&header(DataKind::Rows, 0), vec![0.0; length].into()).await.unwrap();
    }
    let counted = async {
        while ba.stats().rejected_in < 2 || ab.stats().rejected_out < 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, counted).await.unwrap();
    ab.send(&header(DataKind::Partial, 1), vec![1.0].into()).await.unwrap();
    ab.send(&header(DataKind::Partial, 2), vec![2.0; SMALL].into()).await.unwrap();
    let mut calls = [b.next_data().await.1.call, b.next_data().await.1.call];
    calls.sort_unstable();
    assert_eq!(calls, [1, 2]);
    assert_eq!((ab.is_down(), ba.is_down()), (None, None));
}

/// What waits for the same peer shares a stream, and is judged frame by frame all the same.
#[tokio::test]
async fn large_frames_that_wait_for_each_other_share_a_stream() {
    let (_a, mut b, ab, ba) = pair().await;
    let values = Arc::new(noise(SMALL / 4 + 7));
    // Nothing is written before this task waits.
    for call in 0..9 {
        let kind = if call % 3 == 1 { DataKind::Rows } else { DataKind::Gathered };
        ab.send(&header(kind, call), values.clone().into()).await.unwrap();
    }
    for call in [0, 2, 3, 5, 6, 8] {
        let (_, header, got) = b.next_data().await;
        assert!(header.call == call && same_bits(&got, &values), "call {} where {call} is due", header.call);
    }
    assert_eq!((ba.stats().rejected_in, ab.stats().rejected_out), (3, 0), "no stream was stopped for one of its frames");
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_sender_and_nothing_else() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let link = node.accept().await;
    let started = Instant::now();
    // The reader lives and takes nothing.
    let slow = async {
        let payload: Payload = vec![0.0; 2 << 20].into();
        let small: Payload = vec![0.0; SMALL / 4].into();
        let (mut large_taken, mut small_taken) = (0, 0);
        while started.elapsed() < Duration::from_millis(2500) {
            match link.try_send(&header(DataKind::Gathered, 0), payload.clone()) {
                Ok(()) => large_taken += 1,
                Err(error) => assert!(matches!(error, SendError::Full(_)), "{error}"),
            }
            match link.try_send(&header(DataKind::Partial, 0), small.clone()) {
                Ok(()) => small_taken += 1,
                Err(error) => assert!(matches!(error, SendError::Full(_)), "{error}"),
            }
            sleep(Duration::from_millis(1)).await;
        }
        let stats = link.stats();
        assert!(large_taken <= stats.bulk.capacity + 8, "queue and streams: {large_taken}");
        assert!(small_taken <= stats.small.capacity + 32 + (8 << 20) / SMALL, "queue, batch and window: {small_taken}");
        assert_eq!((stats.bulk.depth, stats.bulk.high_water), (stats.bulk.capacity, stats.bulk.capacity));
        let header = header(DataKind::Gathered, 0);
        let waiting = link.send(&header, payload);
        assert!(timeout(Duration::from_millis(50), waiting).await.is_err(), "it waits for room");
        assert_eq!(link.is_down(), None, "heartbeats get through");
        link.control(&"and control too".into()).await.unwrap();
    };
    tokio::select! {
        () = slow => {}
        () = raw.live() => panic!("the link ended"),
    }
    let mut head = [0; 4];
    timeout(SOON, raw.control.1.read_exact(&mut head)).await.unwrap().unwrap();
    assert!(node.got.try_recv().is_err());
}

#[tokio::test]
async fn close_sends_what_is_queued_and_then_the_reason() {
    let (mut a, mut b, ab, ba) = pair().await;
    for n in 0..100 {
        ab.control(&n.to_string()).await.unwrap();
    }
    ab.send(&header(DataKind::Gathered, 0), vec![1.0; 4 << 20].into()).await.unwrap();
    let closing = Instant::now();
    ab.close("the machine is drained").await;
    assert!(closing.elapsed() < Duration::from_millis(1900), "it does not wait for the deadline");
    let want = LinkDown::Closed { reason: "the machine is drained".into() };
    let (mut texts, mut values) = (0, 0);
    loop {
        match b.next().await {
            Got::Control(_, text) => {
                assert_eq!(text, texts.to_string());
                texts += 1;
            }
            Got::Data(_, _, got) => values += got.len(),
            Got::Down(_, cause) => {
                assert_eq!(cause, want);
                break;
            }
        }
    }
    assert_eq!((texts, values), (100, 4 << 20));
    assert_eq!((ab.is_down(), ba.down().await), (Some(want.clone()), want.clone()));
    assert_eq!(a.next_down().await.1, want, "its own end is told the same");
    assert_eq!(ab.try_control(&"late".into()), Err(SendError::Down { peer: ab.peer(), cause: want }));
    timeout(SOON, ab.close("again")).await.expect("closing twice does not hang");
}

#[tokio::test]
async fn a_closed_endpoint_tells_its_peers_and_accepts_nobody() {
    let (a, mut b, _ab, _ba) = pair().await;
    a.endpoint.close("done").await;
    assert_eq!(b.next_down().await.1, LinkDown::Closed { reason: "done".into() });
    assert!(timeout(SOON, a.endpoint.accept()).await.unwrap().is_none());
    assert!(a.endpoint.connect(b.address(), None).await.is_err());
}

#[tokio::test]
async fn a_farewell_waits_for_what_is_still_being_read() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let _link = node.accept().await;
    let mut frame = vec![TAG_BULK];
    frame.extend(frame::data(&header(DataKind::Gathered, 7), 1000, 1000).unwrap());
    frame.extend([0; 4000]);
    let mut bulk = raw.connection.open_uni().await.unwrap();
    bulk.write_all(&frame[..2000]).await.unwrap();
    raw.control.0.finish().unwrap();
    sleep(Duration::from_millis(100)).await;
    raw.heartbeat.0.write_all(&[2, 4, 0, 0, 0, 0, 0, 0, 0, b'd', b'o', b'n', b'e']).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    bulk.write_all(&frame[2000..]).await.unwrap();
    assert_eq!(node.next_data().await.1.call, 7);
    assert_eq!(node.next_down().await.1, LinkDown::Closed { reason: "done".into() });
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_farewell_is_left_after_the_deadline() {
    let ca = RunCa::generate("run").unwrap();
    let mut node = Node::new(&ca);
    let mut raw = Raw::dial(&ca, node.address()).await;
    let link = node.accept().await;
    link.control(&"unread".into()).await.unwrap();
    let closing = Instant::now();
    tokio::select! {
        () = link.close("going") => {}
        () = raw.live() => panic!("the raw peer closes nothing"),
    }
    assert!(closing.elapsed() < Duration::from_secs(3), "{:?}", closing.elapsed());
    assert_eq!(node.next_down().await.1, LinkDown::Closed { reason: "going".into() });
}
