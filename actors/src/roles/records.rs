//! Epoch records in the store: reading the newest, creating the next.

use bytes::Bytes;

use crate::protocol::coordinator::Creation;
use crate::protocol::record::EpochRecord;
use crate::store::{Created, Store, StoreError};

/// The newest record may be large: one entry per member.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Reads the newest epoch record.
///
/// # Errors
/// The store cannot be reached, or the record is not one.
pub async fn newest(store: &Store) -> Result<Option<EpochRecord>, StoreError> {
    let newest = store.list("epochs").await?.into_iter().filter_map(|entry| EpochRecord::epoch_of(&entry.key)).max();
    let Some(epoch) = newest else { return Ok(None) };
    let key = EpochRecord::key(epoch);
    let body = store.get(&key, RECORD_BYTES_MAX).await?;
    let record =
        serde_json::from_slice(&body).map_err(|error| StoreError::Unavailable { place: store.at(&key), because: error.to_string() })?;
    Ok(Some(record))
}

/// Reads every epoch record, oldest first.
///
/// # Errors
/// As [`newest`].
pub async fn all(store: &Store) -> Result<Vec<EpochRecord>, StoreError> {
    let mut records = Vec::new();
    for entry in store.list("epochs").await? {
        if EpochRecord::epoch_of(&entry.key).is_some() {
            let body = store.get(&entry.key, RECORD_BYTES_MAX).await?;
            records.push(
                serde_json::from_slice(&body)
                    .map_err(|error| StoreError::Unavailable { place: store.at(&entry.key), because: error.to_string() })?,
            );
        }
    }
    Ok(records)
}

/// Creates an epoch's record, if its number is free.
pub async fn create(store: &Store, record: &EpochRecord) -> Creation {
    let key = EpochRecord::key(record.epoch);
    let body = match serde_json::to_vec(record) {
        Ok(body) => Bytes::from(body),
        Err(error) => return Creation::Unknown(error.to_string()),
    };
    match store.create(&key, body).await {
        Ok(Created::Mine) => Creation::Mine,
        Ok(Created::Exists(_)) => Creation::Taken,
        Err(error) => Creation::Unknown(error.to_string()),
    }
}
