//! The denied keys as the store remembers them: an object each, named by the key, that is never taken back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::net::tls::KeyName;
use crate::store::{Store, StoreError};

const FOLDER: &str = "denied";
/// A denial is some words.
const BYTES_MAX: u64 = 4096;

/// Who denied a key, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The operator: role and id of the certificate.
    pub by: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// Writes down that a key is denied; one that is denied already stays so.
///
/// # Errors
/// The store cannot be written.
pub async fn write(store: &Store, key: &KeyName, denial: &Denial) -> Result<(), StoreError> {
    let body = serde_json::to_vec(denial).unwrap_or_default();
    store.create(&at(key), Bytes::from(body)).await.map(drop)
}

/// The denied keys.
///
/// # Errors
/// The store cannot be read.
pub async fn read(store: &Store) -> Result<Vec<KeyName>, StoreError> {
    let entries = store.list(FOLDER).await?;
    Ok(entries.iter().filter_map(|entry| KeyName::parse(entry.key.rsplit('/').next()?)).collect())
}

/// The denied keys with who denied them, where that can be read.
///
/// # Errors
/// The store cannot be read.
pub async fn told(store: &Store) -> Result<Vec<(KeyName, Option<Denial>)>, StoreError> {
    let mut told = Vec::new();
    for key in read(store).await? {
        let body = store.get(&at(&key), BYTES_MAX).await?;
        told.push((key, serde_json::from_slice(&body).ok()));
    }
    Ok(told)
}

fn at(key: &KeyName) -> String {
    format!("{FOLDER}/{}", key.digits())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_was_denied_first_stands() {
        let store = Store::with(Arc::new(InMemory::new()), "run");
        assert_eq!(read(&store).await.unwrap(), []);
        let [a, b] = ["3f3f3f3f", "0000000000"].map(|digits| KeyName::parse(digits).unwrap());
        let by = |at_ms: u64| Denial { by: "admin n1".into(), at_ms };
        for (key, at_ms) in [(&a, 1), (&b, 2), (&a, 3)] {
            write(&store, key, &by(at_ms)).await.unwrap();
        }
        store.put("denied/no-key", Bytes::from_static(b"{}")).await.unwrap();
        store.put("denied/11111111", Bytes::from_static(b"torn")).await.unwrap();
        let c = KeyName::parse("11111111").unwrap();
        assert_eq!(told(&store).await.unwrap(), [(b, Some(by(2))), (c, None), (a, Some(by(1)))]);
    }
}
