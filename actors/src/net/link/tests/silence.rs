//! Peers that fall silent, in both directions or in one, and losses that are no silence.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::harness::*;
use crate::net::link::LinkDown;
use crate::net::tls::RunCa;

/// The floor, an interval to look, an interval that is under way, and room for a busy machine.
const IN_TIME: Duration = Duration::from_millis(1200 + 2 * 150 + 1000);

async fn cut(to_server: u32, to_client: u32) -> (LinkDown, LinkDown) {
    let ca = RunCa::generate("run").unwrap();
    let (mut a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (path, address) = Path::to(b.address()).await;
    let (ab, _ba) = linked(&a, &b, address).await;
    sleep(Duration::from_millis(500)).await;
    assert!(ab.is_down().is_none());
    path.lose(to_server, to_client);
    let at = Instant::now();
    let ends = timeout(IN_TIME, async { (a.next_down().await.1, b.next_down().await.1) }).await;
    let ends = ends.expect("both ends notice in time");
    assert!(at.elapsed() > Duration::from_millis(900), "not before the floor: {:?}", at.elapsed());
    ends
}

#[tokio::test]
async fn a_dead_path_is_noticed_at_both_ends() {
    let (a, b) = cut(ALL, ALL).await;
    assert!(a.to_string().starts_with("the peer fell silent: nothing was heard for "), "{a}");
    assert!(b.to_string().starts_with("the peer fell silent: nothing was heard for "), "{b}");
}

#[tokio::test]
async fn a_path_that_is_dead_one_way_is_noticed_at_both_ends() {
    let ((a, b), (c, d)) = tokio::join!(cut(ALL, 0), cut(0, ALL));
    for cause in [a, b, c, d] {
        assert!(matches!(cause, LinkDown::TimedOut { .. }), "{cause}");
    }
}

#[tokio::test]
async fn every_fifth_packet_lost_is_no_reason_to_give_up() {
    let ca = RunCa::generate("run").unwrap();
    let (a, mut b) = (Node::new(&ca), Node::new(&ca));
    let (path, address) = Path::to(b.address()).await;
    path.lose(5, 5);
    let (ab, ba) = linked(&a, &b, address).await;
    for n in 0..30 {
        ab.control(&n.to_string()).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    for n in 0..30 {
        assert_eq!(b.next_control().await.1, n.to_string());
    }
    assert_eq!((ab.is_down(), ba.is_down()), (None, None));
    assert!(ab.stats().lost_packets > 0, "the path did lose packets");
}

/// The frozen end is a runtime that does not run; the other ends the link, by its own clock.
#[test]
fn a_frozen_process_is_noticed() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (live, frozen) = (runtime(), tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let ca = RunCa::generate("run").unwrap();
    let mut a = live.block_on(async { Node::new(&ca) });
    let b = frozen.block_on(async { Node::new(&ca) });
    let (endpoint, address) = (a.endpoint.clone(), b.address());
    let dialling = live.spawn(async move { endpoint.connect(address, None).await.unwrap() });
    let _ba = frozen.block_on(async {
        let link = b.accept().await;
        while !dialling.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        link
    });
    // From here on nothing drives the frozen runtime.
    let ab = live.block_on(dialling).unwrap();
    let at = std::time::Instant::now();
    let cause = live.block_on(a.next_down()).1;
    assert!(matches!(cause, LinkDown::TimedOut { .. }), "{cause}");
    assert!(at.elapsed() < IN_TIME, "{:?}", at.elapsed());
    drop(ab);
}
