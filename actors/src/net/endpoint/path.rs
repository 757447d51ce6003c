//! How large packets can be on the way to a peer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Headers of IP and UDP.
const HEADERS: [u32; 2] = [28, 48];
/// What every way carries that is worth trying: Ethernet's.
pub(super) const USUAL: u16 = 1_452;

/// The largest packet that the interface towards `address` sends, in bytes. A larger one is lost for certain; a probe for it fills
/// QUIC's first window where that is not made for it, and until its loss is known, which takes three round trips, nothing else leaves.
pub(super) fn largest_to(address: SocketAddr) -> u16 {
    mtu(address).map_or(USUAL, |mtu| {
        let payload = mtu.saturating_sub(HEADERS[usize::from(address.is_ipv6())]);
        u16::try_from(payload).unwrap_or(u16::MAX).max(USUAL)
    })
}

/// What the system knows of the route; nothing is sent.
#[cfg(target_os = "linux")]
fn mtu(address: SocketAddr) -> io::Result<u32> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
    let any = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)) };
    let towards = UdpSocket::bind(any)?;
    towards.connect(address)?;
    Ok(if address.is_ipv4() { ip_mtu(&towards) } else { ipv6_mtu(&towards) }?)
}

#[cfg(not(target_os = "linux"))]
fn mtu(_: SocketAddr) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_the_interface_allows() {
        let loopback: u32 = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().unwrap();
        // No packet of IP is longer than 65,535 bytes.
        assert_eq!(u32::from(largest_to("127.0.0.1:9".parse().unwrap())), (loopback.min(65_535) - 28).max(1_452));
    }
}
