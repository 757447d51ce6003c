//! The state of a run at a step, in its store.
//!
//! A checkpoint is a set of *parts* and one *manifest*. A part is a safetensors file with one shard:
//! its values and its optimizer slots. Its name holds step, shard and digest, so any holder of the shard may
//! write it, twice does no harm, and a later epoch can use it. The manifest names the parts; it is published
//! last and by create-if-absent: a checkpoint exists when its manifest does.
//!
//! ```text
//! checkpoints/0000000040/manifest.json             the checkpoint of step 40
//! checkpoints/parts/40/3.0-1f0a…safetensors        unit 3, shard 0, first 16 digits of its digest
//! checkpoints/0000000020/set-aside-1f0a…json       a manifest found torn or corrupt, with the reason
//! ```
//!
//! What is guaranteed:
//!
//! - A manifest is published only when each part it names is in the store with its full length. Whoever
//!   wrote the part fsynced it and then read back its length, its header, its end and one block of 4 KiB
//!   in each MiB ([`part::write`] says what that finds).
//! - A reader never takes a wrong byte for a right one: every part's digest is checked as it is read,
//!   the manifest carries its own.
//! - [`newest_intact`] uses the newest checkpoint that verifies from end to end, and names the others.

mod catalogue;
mod digest;
mod error;
mod manifest;
pub mod part;
#[cfg(test)]
mod tests;
pub mod writer;

pub use catalogue::{Condition, Found, Listing, OnBad, PassedOver, list, load, newest_intact, prune, publish, verify};
pub use digest::{Digest, digest, state_digest};
pub use error::{CheckpointError, Damage};
pub use manifest::{Draft, Incomplete, Manifest, PartRecord, assemble};
pub(crate) use manifest::{read_any, sample};
pub use part::{Shard, SnapshotShard, read_part};
