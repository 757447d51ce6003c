//! Paths that change under a link: another sender's address, and packets that are too large all at once.

use std::sync::atomic::Ordering;

use super::harness::*;
use crate::net::tls::RunCa;
use crate::wire::message::DataKind;

/// Values of a frame that takes hundreds of packets.
const VALUES: usize = 1 << 16;

#[tokio::test]
async fn a_link_survives_a_nat_that_gives_it_another_port() {
    let ca = RunCa::generate("run").unwrap();
    let (mut a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (path, address) = Path::to(b.address()).await;
    let (ab, ba) = linked(&a, &b, address).await;
    let before = ba.remote_address();
    ab.control(&"before".to_owned()).await.unwrap();
    assert_eq!(b.next_control().await.1, "before");
    for turn in 0..3 {
        path.rebind();
        ab.control(&format!("there {turn}")).await.unwrap();
        assert_eq!(b.next_control().await.1, format!("there {turn}"));
        ba.control(&format!("back {turn}")).await.unwrap();
        assert_eq!(a.next_control().await.1, format!("back {turn}"));
    }
    assert_ne!(ba.remote_address(), before, "the server did see another address");
    assert_eq!((ab.is_down(), ba.is_down()), (None, None));
}

#[tokio::test]
async fn a_link_survives_a_path_that_begins_to_swallow_large_packets() {
    let ca = RunCa::generate("run").unwrap();
    let (a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (path, address) = Path::to(b.address()).await;
    let (ab, ba) = linked(&a, &b, address).await;
    let values = |seed: usize| (0..VALUES).map(|at| (at ^ seed) as f32).collect::<Vec<f32>>();
    for turn in 0..4 {
        if turn == 1 {
            path.swallow(1252);
        }
        ab.send(&header(DataKind::Gathered, turn as u64), values(turn).into()).await.unwrap();
        assert_eq!(b.next_data().await.2, values(turn), "frame {turn}");
    }
    assert!(path.swallowed() > 0, "the path did swallow packets");
    assert_eq!((ab.is_down(), ba.is_down()), (None, None));
}

/// A probe that is too large for the interface is lost, and nothing leaves until that is known: heartbeats over slow paths stood still.
#[tokio::test]
async fn no_packet_is_larger_than_the_way_to_its_peer_allows() {
    let ca = RunCa::generate("run").unwrap();
    let mut largest = Vec::new();
    for dials in [true, false] {
        let ((mut a, most), mut b) = (Node::abroad(&ca), Node::new(&ca));
        let (ab, _ba) = if dials {
            linked(&a, &b, (ABROAD, b.address().port()).into()).await
        } else {
            let (ba, ab) = linked(&b, &a, a.address()).await;
            (ab, ba)
        };
        for turn in 0..4 {
            let values: Vec<f32> = (0..VALUES).map(|at| at as f32).collect();
            ab.send(&header(DataKind::Gathered, turn), values.clone().into()).await.unwrap();
            assert_eq!(b.next_data().await.2, values, "frame {turn}");
        }
        assert!(a.got.try_recv().is_err());
        largest.push(most.load(Ordering::SeqCst));
    }
    // The way out of a machine is Ethernet, at most with jumbo frames; loopback, where these go, takes more.
    assert!(largest.iter().all(|largest| (1_200..=9_000).contains(largest)), "{largest:?}");
}
