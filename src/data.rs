//! The data pipeline: from files on disk to normalised crops.
//!
//! ```text
//! folder or tar shards → index (built once, cached) → order (keyed permutation) → bytes
//!   → decode (RGB8, limits first) → augment (multi-crop, colour, blur) → loader (one lane's batch)
//! ```
//!
//! Everything here is a pure function of (files, seed, step, lane): no clock, no shared random state.
//! Evaluation takes the same sources through [`examples`], without augmentation.

pub mod augment;
pub mod decode;
pub mod examples;
pub mod index;
pub mod loader;
pub mod make;
pub mod order;
pub mod random;
pub mod source;

pub use augment::lane::{CropGroup, LaneCrops};
pub use augment::recipe::Crops;
pub use loader::{BadSample, Loader, LoaderOptions};
pub use source::Source;
