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
