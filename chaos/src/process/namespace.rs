//! A network of namespaces: one for each host of a run, joined by a bridge in a namespace of its own.
//!
//! Everything lies in namespaces that are named after this process, and goes with its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

use super::relay::{Harm, Relay, Way};

/// Where filters of faults lie.
const TABLE: &str = "chaos";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    hosts: BTreeSet<u32>,
    /// Rules that lie: which strike, and at which host.
    rules: Vec<(u32, u32)>,
    /// Hosts whose interface is down: by which strike, and how many datagrams found no route before.
    down: Vec<(u32, u32, u64)>,
    /// Hosts that have another address, and by which strike.
    moved: Vec<(u32, u32)>,
    /// Bumps in the wires of hosts.
    relays: BTreeMap<u32, Relay>,
}

/// What is done to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Filter {
    /// All are dropped.
    Cut,
    /// This share is dropped.
    Loss(f64),
    /// None: they are counted.
    Count,
}

impl Network {
    /// A network without hosts, where this machine allows it.
    ///
    /// # Errors
    /// One sentence: what it lacks.
    pub(super) fn new(number: u64) -> Result<Self, String> {
        let network = Self {
            name: format!("evs{}x{number}", std::process::id()),
            hosts: BTreeSet::new(),
            rules: Vec::new(),
            down: Vec::new(),
            moved: Vec::new(),
            relays: BTreeMap::new(),
        };
        let hub = network.hub();
        run("nft", &["--version"]).map_err(|error| format!("{error}: install nftables"))?;
        run("ip", &["netns", "add", &hub]).map_err(|error| format!("network namespaces are not allowed here ({error}): run as root"))?;
        network.inside(&hub, &["ip", "link", "add", "br0", "type", "bridge"])?;
        network.inside(&hub, &["ip", "link", "set", "br0", "up"])?;
        Ok(network)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn host_name(&self, host: u32) -> String {
        format!("{}h{host}", self.name)
    }

    fn inside(&self, namespace: &str, command: &[&str]) -> Result<Output, String> {
        run("ip", &[&["netns", "exec", namespace], command].concat())
    }

    /// A host's address.
    pub(super) fn address(host: u32) -> Ipv4Addr {
        let number = host + 1;
        Ipv4Addr::new(10, 77, (number >> 8) as u8, number as u8)
    }

    /// The one that it has while it is moved.
    fn other_address(host: u32) -> Ipv4Addr {
        let [a, b, c, d] = Self::address(host).octets();
        Ipv4Addr::new(a, b, c | 0x80, d)
    }

    /// A host of the network; made when it is not there yet.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn host(&mut self, host: u32) -> Result<(), String> {
        if !self.hosts.insert(host) {
            return Ok(());
        }
        let (name, hub, port) = (self.host_name(host), self.hub(), format!("p{host}"));
        let address = format!("{}/16", Self::address(host));
        run("ip", &["netns", "add", &name])?;
        run("ip", &["link", "add", "eth0", "netns", &name, "type", "veth", "peer", "name", &port, "netns", &hub])?;
        self.inside(&hub, &["ip", "link", "set", &port, "master", "br0", "up"])?;
        self.inside(&name, &["ip", "addr", "add", &address, "dev", "eth0"])?;
        self.inside(&name, &["ip", "link", "set", "eth0", "up"])?;
        self.inside(&name, &["ip", "link", "set", "lo", "up"])?;
        self.inside(&name, &["nft", "add", "table", "inet", TABLE]).map(drop)
    }

    /// A command that runs on a host.
    pub(super) fn command(&self, host: u32, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host_name(host)]).arg(program);
        command
    }

    /// Lays a filter on what passes from a host to others, and back unless `one_way`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn lay(&mut self, strike: u32, from: u32, to: &BTreeSet<u32>, one_way: bool, filter: Filter) -> Result<(), String> {
        let others: Vec<String> = to.iter().filter(|other| **other != from).map(|other| Self::address(*other).to_string()).collect();
        if others.is_empty() {
            return Ok(());
        }
        let name = self.host_name(from);
        let others = others.join(", ");
        let what = match filter {
            Filter::Cut => "counter drop".into(),
            Filter::Loss(share) => format!("numgen random mod 10000 < {} counter drop", (share * 10_000.0) as u32),
            Filter::Count => "counter".into(),
        };
        let directions: &[(&str, &str, &str)] =
            if one_way { &[("o", "output", "daddr")] } else { &[("o", "output", "daddr"), ("i", "input", "saddr")] };
        for (short, hook, side) in directions {
            let chain = format!("add chain inet {TABLE} s{strike}{short} {{ type filter hook {hook} priority 0; }}");
            let rule = format!("add rule inet {TABLE} s{strike}{short} ip {side} {{ {others} }} {what}");
            self.inside(&name, &["nft", &format!("{chain}; {rule}")])?;
        }
        self.rules.push((strike, from));
        Ok(())
    }

    /// Takes a host's interface down.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take_down(&mut self, strike: u32, host: u32) -> Result<(), String> {
        let before = self.without_route(host);
        self.inside(&self.host_name(host), &["ip", "link", "set", "eth0", "down"])?;
        self.down.push((strike, host, before));
        Ok(())
    }

    /// Datagrams of a host for which there was no route.
    fn without_route(&self, host: u32) -> u64 {
        let listed = self.inside(&self.host_name(host), &["cat", "/proc/net/snmp"]);
        listed.map_or(0, |listed| no_routes(&String::from_utf8_lossy(&listed.stdout)))
    }

    /// Gives a host another address instead of its own, and counts who uses either.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn shift(&mut self, strike: u32, host: u32) -> Result<(), String> {
        let others: Vec<u32> = self.hosts.iter().copied().filter(|other| *other != host).collect();
        // Those who know the old one go on speaking to it.
        others.into_iter().try_for_each(|other| self.lay(strike, other, &[host].into(), true, Filter::Count))?;
        let (name, new) = (self.host_name(host), Self::other_address(host));
        let chain = format!("add chain inet {TABLE} s{strike}o {{ type filter hook output priority 0; }}");
        let rule = format!("add rule inet {TABLE} s{strike}o ip saddr {new} counter");
        self.inside(&name, &["nft", &format!("{chain}; {rule}")])?;
        self.rules.push((strike, host));
        if !self.moved.iter().any(|(_, moved)| *moved == host) {
            self.readdress(host, Self::address(host), new)?;
        }
        self.moved.push((strike, host));
        Ok(())
    }

    fn readdress(&self, host: u32, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), String> {
        let name = self.host_name(host);
        // In this order: the second address of a network goes with the first.
        self.inside(&name, &["ip", "addr", "del", &format!("{from}/16"), "dev", "eth0"])?;
        self.inside(&name, &["ip", "addr", "add", &format!("{to}/16"), "dev", "eth0"]).map(drop)
    }

    /// Has datagrams between hosts wait, come twice and overtake each other.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn harm(&mut self, strike: u32, from: &BTreeSet<u32>, to: &BTreeSet<u32>, one_way: bool, harm: Harm) -> Result<(), String> {
        for host in from.iter().copied().filter(|host| self.hosts.contains(host)).collect::<Vec<_>>() {
            self.open_wire(host)?;
            let others: BTreeSet<u32> = to.iter().copied().filter(|other| *other != host).collect();
            // A path between two such hosts is one path, and suffers once in each direction.
            let theirs = |other: &&u32| !(one_way || from.contains(other) && to.contains(&host));
            let there = others.iter().map(|other| Self::address(*other)).collect();
            let back = others.iter().filter(theirs).map(|other| Self::address(*other)).collect();
            if let Some(relay) = self.relays.get(&host) {
                relay.lay(Way { strike, there, back, harm, met: 0 });
            }
        }
        Ok(())
    }

    /// Puts a relay between a host and the bridge.
    fn open_wire(&mut self, host: u32) -> Result<(), String> {
        if self.relays.contains_key(&host) {
            return Ok(());
        }
        let (hub, port, near, far) = (self.hub(), format!("p{host}"), format!("m{host}"), format!("q{host}"));
        // Sockets of packets take no bundles of datagrams.
        self.inside(&self.host_name(host), &["ip", "link", "set", "eth0", "gso_max_segs", "1"])?;
        self.inside(&hub, &["ip", "link", "add", &far, "type", "veth", "peer", "name", &near])?;
        self.inside(&hub, &["ip", "link", "set", &far, "gso_max_segs", "1", "master", "br0", "up"])?;
        self.inside(&hub, &["ip", "link", "set", &near, "up"])?;
        // First out of the bridge: a relay takes all that the port carries for words of its host.
        self.inside(&hub, &["ip", "link", "set", &port, "nomaster"])?;
        let relay = Relay::start(&hub, &port, &near, u64::from(host)).inspect_err(|_| {
            let _ = self.inside(&hub, &["ip", "link", "del", &far]);
            let _ = self.inside(&hub, &["ip", "link", "set", &port, "master", "br0"]);
        })?;
        self.relays.insert(host, relay);
        Ok(())
    }

    fn close_wire(&mut self, host: u32) {
        // It gives out what it still has.
        drop(self.relays.remove(&host));
        let _ = self.inside(&self.hub(), &["ip", "link", "set", &format!("p{host}"), "master", "br0"]);
        let _ = self.inside(&self.hub(), &["ip", "link", "del", &format!("q{host}")]);
        let _ = self.inside(&self.host_name(host), &["ip", "link", "set", "eth0", "gso_max_segs", "65535"]);
    }

    /// Takes away what a strike did; how many datagrams it met.
    ///
    /// # Errors
    /// A host cannot be given back what it had.
    pub(super) fn lift(&mut self, strike: u32) -> Result<u64, String> {
        let mut met = self.lift_rules(strike);
        let (down, rest): (Vec<_>, Vec<_>) = self.down.iter().copied().partition(|(of, ..)| *of == strike);
        self.down = rest;
        for (_, host, before) in down {
            met += self.without_route(host).saturating_sub(before);
            if !self.down.iter().any(|(_, down, _)| *down == host) {
                self.inside(&self.host_name(host), &["ip", "link", "set", "eth0", "up"])?;
            }
        }
        let (moved, rest): (Vec<_>, Vec<_>) = self.moved.iter().copied().partition(|(of, _)| *of == strike);
        self.moved = rest;
        for (_, host) in moved {
            if !self.moved.iter().any(|(_, moved)| *moved == host) {
                self.readdress(host, Self::other_address(host), Self::address(host))?;
            }
        }
        met += self.relays.values().map(|relay| relay.lift(strike)).sum::<u64>();
        let idle: Vec<u32> = self.relays.iter().filter(|(_, relay)| relay.is_idle()).map(|(host, _)| *host).collect();
        idle.into_iter().for_each(|host| self.close_wire(host));
        Ok(met)
    }

    fn lift_rules(&mut self, strike: u32) -> u64 {
        let mut dropped = 0;
        let (lifted, rest): (Vec<_>, Vec<_>) = self.rules.iter().copied().partition(|(of, _)| *of == strike);
        self.rules = rest;
        for (strike, host) in lifted {
            for short in ["o", "i"] {
                let (name, chain) = (self.host_name(host), format!("chain inet {TABLE} s{strike}{short}"));
                // One way has no second chain.
                if let Ok(listed) = self.inside(&name, &["nft", &format!("list {chain}")]) {
                    dropped += packets(&String::from_utf8_lossy(&listed.stdout));
                }
                let _ = self.inside(&name, &["nft", &format!("delete {chain}")]);
            }
        }
        dropped
    }
}

/// The packets that the counters of a listed chain have counted.
fn packets(listed: &str) -> u64 {
    let words: Vec<&str> = listed.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == "packets").filter_map(|pair| pair[1].parse::<u64>().ok()).sum()
}

/// Of what `/proc/net/snmp` says of IP: datagrams without a route.
fn no_routes(listed: &str) -> u64 {
    let mut rows = listed.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (Some(names), Some(numbers)) = (rows.next(), rows.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    pairs.find(|(name, _)| *name == "OutNoRoutes").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

impl Drop for Network {
    fn drop(&mut self) {
        self.relays.clear();
        for name in self.hosts.iter().map(|host| self.host_name(*host)).chain([self.hub()]) {
            // Its links go with it.
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

/// Runs a command to its end.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{}` cannot be run: {error}", line()))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("`{}` failed: {}", line(), String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests;
