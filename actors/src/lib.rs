//! The elastic runtime of Everstep: it knows ranks, lanes, shards and bytes, and nothing of images.
//!
//! Imports run one way: `roles → net → wire → protocol`, and `protocol` imports std (and rkyv
//! derives) alone. `ARCHITECTURE.md` at the root of the repository walks through it.

pub mod alone;
mod aside;
pub mod checkpoint;
pub mod clock;
pub mod desk;
pub mod event;
pub mod net;
pub mod protocol;
pub mod roles;
pub mod store;
pub mod untrusted;
pub mod wire;
pub mod workload;
