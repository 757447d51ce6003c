//! The leader's lease: an object in the store that moves as long as the leader lives.
//!
//! Watchers judge it by their own monotonic clock, never by a time written in it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::ids::Epoch;
use crate::store::{Store, StoreError};

/// How often a leader moves its lease.
pub const BEAT: Duration = Duration::from_millis(500);
/// A lease that has not moved for this long by the watcher's clock has no leader: six beats missed.
pub const SILENCE: Duration = Duration::from_secs(3);

const KEY: &str = "lease";
const BYTES_MAX: u64 = 4 << 10;

/// What the lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The epoch that its writer leads.
    pub epoch: Epoch,
    /// Goes up with every beat.
    pub beat: u64,
    /// The leader has left in good order: nobody needs to wait.
    pub released: bool,
}

impl Lease {
    /// The lease as it lies in the store, if there is one that can be read.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn read(store: &Store) -> Result<Option<Self>, StoreError> {
        match store.get(KEY, BYTES_MAX).await {
            // A torn lease is one that has not moved.
            Ok(body) => Ok(serde_json::from_slice(&body).ok()),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves the lease.
    ///
    /// # Errors
    /// The store cannot be written. Training goes on without.
    pub async fn write(self, store: &Store) -> Result<(), StoreError> {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        store.put(KEY, Bytes::from(body)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::endpoint::Options;
    use crate::roles::watchdog::Patience;

    /// No deadline can be set from outside, so no run can turn their order round.
    #[test]
    fn deadlines_nest_with_room_between_them() {
        let Options { heartbeat, idle, .. } = Options::default();
        let Patience { turn, handler, lane, first, end } = Patience::default();
        let table = [
            ("several beats within the least silence that ends a link", 4 * heartbeat.interval, heartbeat.floor),
            ("the least silence within the longest", heartbeat.floor, heartbeat.ceiling),
            ("heartbeats before QUIC's own limit", heartbeat.ceiling, idle),
            ("several beats of the lease within its silence", 4 * BEAT, SILENCE),
            ("members notice a dead leader before those who watch its lease", 2 * heartbeat.floor, SILENCE),
            ("links notice a dead process before it counts as hanging", idle, handler),
            ("several looks before a node that hangs is ended", 4 * turn, end),
            ("a first lane has longer than later ones", lane, first),
        ];
        for (what, inner, outer) in table {
            assert!(inner < outer, "{what}: {inner:?} and {outer:?}");
        }
    }
}
