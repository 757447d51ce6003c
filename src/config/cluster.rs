//! `[cluster]`: the ranks that share the work. Nothing here but `shard_values` reaches the mathematics.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[cluster]`: the ranks that share the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Ranks that are started on this machine, each a process of its own. Default 2.
    pub ranks: u32,
    /// Values of a shard; chosen from the size of the model when left out. Fixed for the life of a run.
    pub shard_values: Option<u64>,
    /// Address that the ranks listen on. Default `127.0.0.1`.
    pub bind: String,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { ranks: 2, shard_values: None, bind: "127.0.0.1".into() }
    }
}

impl Cluster {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("cluster.ranks", self.ranks, 1, 65_536)?;
        if let Some(values) = self.shard_values {
            check::within("cluster.shard_values", values, 64, 1 << 31)?;
        }
        check::require(self.bind.parse::<IpAddr>().is_ok(), "cluster.bind", || {
            (format!("is \"{}\", which is no IP address", self.bind), "use one of this machine, such as \"127.0.0.1\"".into())
        })
    }
}
