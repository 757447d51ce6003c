//! Floods, each in a process of its own so that its memory can be read: what they cost, and that members are not disturbed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::harness::*;
use crate::net::endpoint::Options;
use crate::net::link::receive::TAG_BULK;
use crate::net::tls::identity::SERVER_NAME;
use crate::net::tls::{Identity, Role, RunCa};
use crate::wire::frame;
use crate::wire::message::DataKind;

const ALONE: &str = "EVERSTEP_TEST_ALONE";
const MIB: u64 = 1 << 20;

/// Runs a test of this file again in a process of its own; true in that process.
fn alone(name: &str) -> bool {
    if std::env::var(ALONE).is_ok() {
        return true;
    }
    let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let child = Command::new(std::env::current_exe().unwrap()).args([&*name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The first packets of so many handshakes of a client of the run.
async fn beginnings(ca: &RunCa, count: usize) -> Vec<Vec<u8>> {
    let catcher = UdpSocket::bind(loopback()).await.unwrap();
    let address = catcher.local_addr().unwrap();
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let crypto = Arc::new(Identity::issue(ca, Role::Node, HOUR).unwrap().client().unwrap());
    let (mut caught, mut packet) = (Vec::new(), vec![0; 1 << 16]);
    while caught.len() < count {
        let connecting = client.connect_with(quinn::ClientConfig::new(crypto.clone()), address, SERVER_NAME).unwrap();
        let length = timeout(SOON, catcher.recv(&mut packet)).await.unwrap().unwrap();
        drop(connecting);
        // Long header of an Initial: farewells and repetitions are of no use here.
        if length >= 1200 && packet[0] & 0xf0 == 0xc0 {
            caught.push(packet[..length].to_vec());
        }
    }
    caught
}

#[test]
fn a_flood_of_handshakes_is_bounded_and_disturbs_no_member() {
    if !alone("a_flood_of_handshakes_is_bounded_and_disturbs_no_member") {
        return;
    }
    tokio().block_on(async {
        let ca = RunCa::generate("run").unwrap();
        let bounded = Options { handshakes: 64, ..Options::default() };
        let (a, mut b) = (Node::new(&ca), Node::with(Identity::issue(&ca, Role::Node, HOUR).unwrap(), bounded));
        let (ab, _ba) = linked(&a, &b, b.address()).await;
        let packets = beginnings(&ca, 1500).await;
        let before = resident();

        let (over, target) = (Arc::new(AtomicBool::new(false)), b.address());
        let stop = over.clone();
        let attack = tokio::spawn(async move {
            // Each from an address that nobody answers at, again and again.
            let mut sockets = Vec::new();
            for n in 1..=20 {
                sockets.push(UdpSocket::bind(SocketAddr::from((Ipv4Addr::new(127, 0, 9, n), 0))).await.unwrap());
            }
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                for (n, packet) in packets.iter().enumerate() {
                    let _ = sockets[n % sockets.len()].send_to(packet, target).await;
                    sent += 1;
                    if n % 50 == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            sent
        });

        let (mut most, mut slowest, begin) = (0, Duration::ZERO, Instant::now());
        let mut n = 0u64;
        while begin.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            ab.control(&format!("{n}")).await.unwrap();
            assert_eq!(b.next_control().await.1, format!("{n}"));
            slowest = slowest.max(asked.elapsed());
            most = most.max(b.endpoint.connections());
            n += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(ab.is_down(), None);
        // A few that have failed are kept for a moment beside them.
        assert!(most <= 48, "{most} connections were open where forged addresses get 33 handshakes and there is one link");
        assert!(most > 16, "the attack has to reach the node: only {most} connections were open");
        assert!(slowest < Duration::from_millis(1200), "a member waited {slowest:?}, longer than silence may last");

        // While it lasts a new member gets in: it comes back with the token that forged addresses never see.
        let guest = Node::new(&ca);
        let entered = async {
            let dial = async {
                loop {
                    if let Ok(link) = guest.endpoint.connect(target, None).await {
                        break link;
                    }
                }
            };
            tokio::join!(dial, b.accept())
        };
        timeout(2 * SOON, entered).await.expect("a new member gets in");
        over.store(true, Ordering::Relaxed);
        let sent = attack.await.unwrap();
        let grown = resident().saturating_sub(before);
        assert!(sent > 3000, "{sent} packets are no flood");
        assert!(grown < 64 * MIB, "{} MiB for {sent} packets", grown / MIB);
    });
}

#[test]
fn payloads_that_are_announced_take_no_memory_until_they_come() {
    if !alone("payloads_that_are_announced_take_no_memory_until_they_come") {
        return;
    }
    tokio().block_on(async {
        let ca = RunCa::generate("run").unwrap();
        let node = Node::new(&ca);
        let mut raw = Raw::dial(&ca, node.address()).await;
        let link = node.accept().await;
        let before = resident();
        let head = frame::data(&header(DataKind::Gradient, 0), 64 << 20, 64 << 20).unwrap();
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = raw.connection.open_uni().await.unwrap();
            stream.write_all(&[&[TAG_BULK], &head[..], &[0; 100]].concat()).await.unwrap();
            streams.push(stream);
        }
        let _ = timeout(Duration::from_millis(500), raw.live()).await;
        assert_eq!(link.is_down(), None);
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 * MIB, "{} MiB for 2 GiB that were announced", grown / MIB);
    });
}

#[test]
fn streams_full_of_gaps_take_bounded_memory() {
    if !alone("streams_full_of_gaps_take_bounded_memory") {
        return;
    }
    tokio().block_on(async {
        let ca = RunCa::generate("run").unwrap();
        let mut node = Node::new(&ca);
        let (path, address) = Path::to(node.address()).await;
        let raw = Raw::dial(&ca, address).await;
        let _link = node.accept().await;
        let before = resident();
        // Every other packet is lost on its way there, and each has one byte of each of eight streams.
        path.lose(2, 0);
        let Raw { connection, control: _control, heartbeat: (mut beats, mut acks), _endpoint } = raw;
        let beating = tokio::spawn(async move {
            let mut record = [0; 9];
            while acks.read_exact(&mut record).await.is_ok() {
                if record[0] == 0 {
                    record[0] = 1;
                    let _ = beats.write_all(&record).await;
                    let _ = beats.write_all(&[0; 9]).await;
                }
            }
        });
        let values = 1000;
        let mut bytes = vec![TAG_BULK];
        bytes.extend_from_slice(&frame::data(&header(DataKind::Gradient, 0), values, 10_000).unwrap());
        bytes.resize(bytes.len() + 4 * values, 0);
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(connection.open_uni().await.unwrap());
        }
        let mut most = 0;
        for (n, byte) in bytes.iter().enumerate() {
            for stream in &mut streams {
                stream.write_all(std::slice::from_ref(byte)).await.unwrap();
            }
            tokio::task::yield_now().await;
            if n % 64 == 0 {
                most = most.max(resident().saturating_sub(before));
            }
        }
        streams.iter_mut().for_each(|stream| stream.finish().unwrap());
        path.lose(0, 0);
        for _ in 0..8 {
            let (_, _, got) = node.next_data().await;
            assert_eq!(got.len(), values, "the gaps are filled in the end");
        }
        beating.abort();
        most = most.max(resident().saturating_sub(before));
        assert!(most < 64 * MIB, "{} MiB for 32 KiB in pieces", most / MIB);
    });
}
