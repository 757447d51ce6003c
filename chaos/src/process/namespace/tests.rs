//! Hosts, filters, interfaces and wires, where this machine allows namespaces.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn hosts_reach_each_other_until_a_filter_lies_between_them() {
    let mut network = match Network::new(u64::from(u16::MAX)) {
        Ok(network) => network,
        Err(because) => return println!("skipped: {because}"),
    };
    (0..2).for_each(|host| network.host(host).unwrap());
    let reaches = |network: &Network| {
        let other = Network::address(1).to_string();
        let script = format!("echo hello > /dev/tcp/{other}/9");
        // Nobody listens: a refusal that comes back shows that both ways are open.
        let command = ["timeout", "1", "bash", "-c", &script];
        network.inside(&network.host_name(0), &command).unwrap_err().contains("refused")
    };
    assert!(reaches(&network));
    network.lay(3, 0, &[1].into(), true, Filter::Cut).unwrap();
    assert!(!reaches(&network));
    network.lift(3).unwrap();
    network.lay(4, 1, &[0].into(), true, Filter::Loss(0.999_9)).unwrap();
    assert!(!reaches(&network));
    network.lift(4).unwrap();
    assert!(reaches(&network));
    // An interface that two strikes take down is up again when both are over.
    network.take_down(5, 0).unwrap();
    network.take_down(6, 0).unwrap();
    assert!(!reaches(&network));
    assert!(network.lift(5).unwrap() > 0 && !reaches(&network));
    network.lift(6).unwrap();
    assert!(reaches(&network));
    network.shift(7, 1).unwrap();
    assert!(!reaches(&network));
    assert!(network.lift(7).unwrap() > 0);
    assert!(reaches(&network));
}
/// A socket of a host; it stays where it was made.
fn socket(network: &Network, host: u32) -> UdpSocket {
    let place = format!("/run/netns/{}", network.host_name(host));
    let made = std::thread::spawn(move || {
        let file = std::fs::File::open(place).unwrap();
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
        UdpSocket::bind((Network::address(host), 0)).unwrap()
    });
    let socket = made.join().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn hear(socket: &UdpSocket) -> u8 {
    let mut buffer = [0; 16];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
    buffer[0]
}

#[test]
fn a_relay_delays_doubles_and_reorders_one_direction_of_one_path() {
    let mut network = match Network::new(u64::from(u16::MAX) + 1) {
        Ok(network) => network,
        Err(because) => return println!("skipped: {because}"),
    };
    (0..3).for_each(|host| network.host(host).unwrap());
    let [first, second, third] = [0, 1, 2].map(|host| socket(&network, host));
    let send = |from: &UdpSocket, number: u8, to: &UdpSocket| {
        assert_eq!(from.send_to(&[number], to.local_addr().unwrap()).unwrap(), 1);
    };
    let delay = Duration::from_millis(300);
    let harm = Harm { delay, duplicate: 0.999_999, ..Harm::default() };
    network.harm(8, &[0].into(), &[1].into(), true, harm).unwrap();
    let began = Instant::now();
    send(&first, 1, &second);
    assert_eq!((hear(&second), hear(&second)), (1, 1));
    assert!(began.elapsed() >= delay);
    // The other direction and other hosts know nothing of it.
    send(&second, 2, &first);
    send(&third, 3, &first);
    assert_eq!((hear(&first), hear(&first)), (2, 3));
    assert_eq!(network.lift(8).unwrap(), 1);
    let all: BTreeSet<u32> = (0..3).collect();
    let harm = Harm { reorder: Duration::from_millis(300), ..Harm::default() };
    network.harm(9, &all, &all, false, harm).unwrap();
    (0..20).for_each(|number| send(&first, number, &third));
    let heard: Vec<u8> = (0..20).map(|_| hear(&third)).collect();
    let mut sorted = heard.clone();
    sorted.sort_unstable();
    assert!(heard != sorted && sorted == (0..20).collect::<Vec<u8>>(), "{heard:?}");
    // A path between two of them is met once in each direction.
    assert_eq!(network.lift(9).unwrap(), 20);
    assert!(network.relays.is_empty());
    send(&first, 4, &third);
    assert_eq!(hear(&third), 4);
}
