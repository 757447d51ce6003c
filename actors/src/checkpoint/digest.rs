//! Digests of state: BLAKE3 over values as little-endian f32.

use std::fmt;

use super::manifest::PartRecord;

/// A BLAKE3 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Its first 16 digits: enough for a name.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let digest = blake3::Hash::from_hex(&hex).map_err(serde::de::Error::custom)?;
        Ok(Self(*digest.as_bytes()))
    }
}

/// The digest of a shard: BLAKE3 over its values, then each slot, all as little-endian f32.
pub fn digest(values: &[f32], slots: &[Vec<f32>]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes_of(values));
    slots.iter().for_each(|slot| {
        hasher.update(bytes_of(slot));
    });
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of a whole state: BLAKE3 over the shards in the order of (unit, index), each as unit and index
/// (u32), start and length (u64), all little-endian, and digest. Who wrote which part does not enter.
pub fn state_digest(parts: &[PartRecord]) -> Digest {
    let mut order: Vec<&PartRecord> = parts.iter().collect();
    order.sort_by_key(|part| part.shard);
    let mut hasher = blake3::Hasher::new();
    for part in order {
        hasher.update(&part.shard.unit.0.to_le_bytes());
        hasher.update(&part.shard.index.to_le_bytes());
        hasher.update(&part.start.to_le_bytes());
        hasher.update(&part.len.to_le_bytes());
        hasher.update(&part.digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(target_endian = "big")]
compile_error!("parts hold little-endian f32 as they lie in memory: this machine would need a conversion");

/// Values as the bytes that parts hold.
pub(super) fn bytes_of(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}
