//! `[cluster]`: the ranks that share the work. Nothing here but `shard_values` reaches the mathematics.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// Ranks of a run at most.
const RANKS_MAX: u32 = 65_536;

/// `[cluster]`: the ranks that share the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Ranks that are started on this machine, each a process of its own. Default 2.
    pub ranks: u32,
    /// Ranks of the whole run below which nothing is computed: the state is kept twice, saved, and the run waits. Default 1.
    pub ranks_min: u32,
    /// Ranks of the whole run that compute at most; more stand by and take the place of lost ones. Default 65536.
    pub ranks_max: u32,
    /// Copies of the state besides the owners', on other ranks and, where there are several, on other hosts. Default 1: no single loss
    /// costs a step.
    pub replicas: u32,
    /// Lets machines in that compute other bits. The run then claims statistical, not bitwise, equality. Default false.
    pub mixed_hardware: bool,
    /// Starts a rank of this machine anew when its process dies. Default true.
    pub restart: bool,
    /// Name of this machine as a failure domain; its host name when left out.
    pub host: Option<String>,
    /// Failure domain around the machine (a rack, a cloud's zone), for the placement of copies. Default none.
    pub zone: String,
    /// Values of a shard; chosen from the size of the model when left out. Fixed for the life of a run.
    pub shard_values: Option<u64>,
    /// Address that the ranks listen on. Default `127.0.0.1`: ranks of other machines need one that they can reach.
    pub bind: String,
    /// Address under which other machines reach this one, where it differs from `bind` (NAT, several interfaces, `0.0.0.0`).
    pub advertise: Option<String>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            ranks: 2,
            ranks_min: 1,
            ranks_max: RANKS_MAX,
            replicas: 1,
            mixed_hardware: false,
            restart: true,
            host: None,
            zone: String::new(),
            shard_values: None,
            bind: "127.0.0.1".into(),
            advertise: None,
        }
    }
}

impl Cluster {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("cluster.ranks", self.ranks, 1, RANKS_MAX)?;
        check::within("cluster.ranks_max", self.ranks_max, 1, RANKS_MAX)?;
        check::within("cluster.ranks_min", self.ranks_min, 1, self.ranks_max)?;
        check::within("cluster.replicas", self.replicas, 0, 7)?;
        if let Some(values) = self.shard_values {
            check::within("cluster.shard_values", values, 64, 1 << 31)?;
        }
        if let Some(advertise) = &self.advertise {
            check::require(advertise.parse::<IpAddr>().is_ok(), "cluster.advertise", || {
                (format!("is \"{advertise}\", which is no IP address"), "use the one under which others reach this machine".into())
            })?;
        }
        check::require(self.bind.parse::<IpAddr>().is_ok(), "cluster.bind", || {
            (format!("is \"{}\", which is no IP address", self.bind), "use one of this machine, such as \"127.0.0.1\"".into())
        })
    }
}
