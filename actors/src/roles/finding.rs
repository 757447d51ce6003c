//! Finding the run's leader, or becoming it: every node is started by the same command.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::lease::{Lease, SILENCE};
use crate::net::Router;
use crate::net::endpoint::Endpoint;
use crate::protocol::ids::{Epoch, NodeId};
use crate::protocol::record::{EpochRecord, Member, Phase};
use crate::store::{Created, Store, StoreError};

/// The newest record may be large: one entry per member, lane range and shard.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// The pace at which a store is asked again whether a silent leader has moved.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A leader that lives answers a handshake within this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What came of the search.
#[derive(Debug)]
pub enum Found {
    /// This node has created a gathering epoch and leads it.
    Lead(Epoch),
    /// Another node leads, and a link to it is up.
    Follow(NodeId),
}

/// Reads the newest epoch record.
///
/// # Errors
/// The store cannot be reached, or the record is not one.
pub async fn newest_record(store: &Store) -> Result<Option<EpochRecord>, StoreError> {
    let newest = store.list("epochs").await?.into_iter().filter_map(|entry| EpochRecord::epoch_of(&entry.key)).max();
    let Some(epoch) = newest else { return Ok(None) };
    let key = EpochRecord::key(epoch);
    let body = store.get(&key, RECORD_BYTES_MAX).await?;
    let record =
        serde_json::from_slice(&body).map_err(|error| StoreError::Unavailable { place: store.at(&key), because: error.to_string() })?;
    Ok(Some(record))
}

/// Creates an epoch's record, once.
///
/// # Errors
/// The store cannot be written.
pub async fn create_record(store: &Store, record: &EpochRecord) -> Result<bool, StoreError> {
    let key = EpochRecord::key(record.epoch);
    let body = serde_json::to_vec(record).map_err(|error| StoreError::Unavailable { place: store.at(&key), because: error.to_string() })?;
    Ok(matches!(store.create(&key, Bytes::from(body)).await?, Created::Mine))
}

/// Follows the newest record to its leader. Where there is none, or its lease has stood still for
/// [`SILENCE`] by this node's clock, creates the next epoch and leads it.
///
/// # Errors
/// The store cannot be used.
pub async fn find_or_lead<R: Router>(
    store: &Store,
    endpoint: &Endpoint<R>,
    me: &Member,
    nonce: impl Fn() -> String,
    mut waiting: impl FnMut(String),
) -> Result<Found, StoreError> {
    let mut silent: Option<(Option<Lease>, Instant)> = None;
    let mut said = false;
    loop {
        let newest = newest_record(store).await?;
        let Some(record) = newest else {
            if lead(store, me, Epoch(1), nonce(), "the run begins").await? {
                return Ok(Found::Lead(Epoch(1)));
            }
            continue;
        };
        let lease = Lease::read(store).await?;
        let next = Epoch(record.epoch.0 + 1);
        if lease.is_some_and(|lease| lease.released && lease.epoch == record.epoch) {
            if lead(store, me, next, nonce(), "the run goes on").await? {
                return Ok(Found::Lead(next));
            }
            continue;
        }
        if let Some(leader) = record.leading()
            && leader.node != me.node
            && let Ok(address) = leader.address.parse::<SocketAddr>()
        {
            let dialled = tokio::time::timeout(DIAL_TIMEOUT, endpoint.connect(address, Some(leader.node))).await;
            if let Ok(Ok(_)) = dialled {
                return Ok(Found::Follow(leader.node));
            }
        }
        let now = Instant::now();
        match &silent {
            Some((seen, since)) if *seen == lease => {
                if now.duration_since(*since) >= SILENCE {
                    let because = format!("the leader of {} has been silent for {} s", record.epoch, SILENCE.as_secs());
                    if lead(store, me, next, nonce(), &because).await? {
                        return Ok(Found::Lead(next));
                    }
                    silent = None;
                    continue;
                }
            }
            _ => silent = Some((lease, now)),
        }
        if !said {
            said = true;
            waiting(format!("the leader of {} does not answer; taking over if it stays silent for {} s", record.epoch, SILENCE.as_secs()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn lead(store: &Store, me: &Member, epoch: Epoch, nonce: String, because: &str) -> Result<bool, StoreError> {
    let record =
        EpochRecord { epoch, nonce, leader: me.node, members: vec![me.clone()], phase: Phase::Gathering, because: because.to_owned() };
    if !create_record(store, &record).await? {
        return Ok(false);
    }
    Lease { epoch, beat: 0, released: false }.write(store).await?;
    Ok(true)
}
