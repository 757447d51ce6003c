//! Identities: newtypes that are ordered, printable and cannot be mixed up.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $vis:vis struct $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        #[rkyv(derive(Debug))]
        $vis struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number!(
    /// A membership period with one leader and one plan, numbered from 1, never reused.
    pub struct Epoch(u64), "e"
);
number!(
    /// An optimizer step, numbered from 0. After step `s` has committed the state is version `s + 1`.
    pub struct Step(u64), "s"
);
number!(
    /// A fixed slice of the global batch: the unit of placement of work.
    pub struct Lane(u32), "l"
);
number!(
    /// An FSDP unit: one flat f32 vector of parameters and buffers.
    pub struct UnitId(u32), "u"
);
number!(
    /// A rank: the actor that drives one device. The index is its place in the epoch's plan.
    pub struct Rank(u32), "r"
);

/// A version of a shard: the steps that are in it, and the epoch that computed the last of them.
///
/// Coverage is counted per version, never per step alone: a step that was computed anew in a later
/// epoch is another version.
#[derive(
    Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[rkyv(derive(Debug))]
pub struct Version {
    /// Steps committed.
    pub step: Step,
    /// The epoch in which the last of them was computed; 0 for what the seed or a checkpoint gave.
    pub epoch: Epoch,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.step, self.epoch)
    }
}

impl Step {
    /// The step after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A fixed slice of a unit's vector with its optimizer state: the unit of placement of state.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[rkyv(derive(Debug))]
pub struct ShardId {
    /// The unit that the shard is a slice of.
    pub unit: UnitId,
    /// Its place among the unit's shards, from 0.
    pub index: u32,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.unit, self.index)
    }
}
impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who a node is: the first 16 bytes of the BLAKE3 hash of its certificate's public key (SPKI, DER).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[rkyv(derive(Debug, PartialEq, Eq))]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl serde::Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}
impl<'de> serde::Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let mut id = [0u8; 16];
        if hex.len() != 32 || !hex.is_ascii() {
            return Err(serde::de::Error::custom("a node id is 32 hexadecimal digits"));
        }
        for (byte, pair) in id.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(serde::de::Error::custom)?;
            *byte = u8::from_str_radix(pair, 16).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(id))
    }
}
