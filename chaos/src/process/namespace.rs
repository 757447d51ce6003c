//! A network of namespaces: one for each host of a run, joined by a bridge in a namespace of its own.
//!
//! Everything lies in namespaces that are named after this process, and goes with its owner.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

/// Where filters of faults lie.
const TABLE: &str = "chaos";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    hosts: BTreeSet<u32>,
    /// Rules that lie: which strike, and at which host.
    rules: Vec<(u32, u32)>,
}

/// What is done to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Filter {
    /// All are dropped.
    Cut,
    /// This share is dropped.
    Loss(f64),
}

impl Network {
    /// A network without hosts, where this machine allows it.
    ///
    /// # Errors
    /// One sentence: what it lacks.
    pub(super) fn new(number: u64) -> Result<Self, String> {
        let network = Self { name: format!("evs{}x{number}", std::process::id()), hosts: BTreeSet::new(), rules: Vec::new() };
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
        let share = match filter {
            Filter::Cut => String::new(),
            Filter::Loss(share) => format!("numgen random mod 10000 < {} ", (share * 10_000.0) as u32),
        };
        let directions: &[(&str, &str, &str)] =
            if one_way { &[("o", "output", "daddr")] } else { &[("o", "output", "daddr"), ("i", "input", "saddr")] };
        for (short, hook, side) in directions {
            let chain = format!("add chain inet {TABLE} s{strike}{short} {{ type filter hook {hook} priority 0; }}");
            let rule = format!("add rule inet {TABLE} s{strike}{short} ip {side} {{ {others} }} {share}counter drop");
            self.inside(&name, &["nft", &format!("{chain}; {rule}")])?;
        }
        self.rules.push((strike, from));
        Ok(())
    }

    /// Takes the filters of a strike away; how many packets they dropped.
    pub(super) fn lift(&mut self, strike: u32) -> u64 {
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

impl Drop for Network {
    fn drop(&mut self) {
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
mod tests {
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
        network.lift(3);
        network.lay(4, 1, &[0].into(), true, Filter::Loss(0.999_9)).unwrap();
        assert!(!reaches(&network));
        network.lift(4);
        assert!(reaches(&network));
    }
}
