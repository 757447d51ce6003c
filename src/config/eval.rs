//! `[eval]`: how the trunk is examined during the run.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[eval]`: kNN of the trunk's features on `data.test` (weighted vote of the nearest by cosine, Wu et al. 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Steps between examinations, each of the next checkpoint; 0 examines at the end only. Default 0.
    pub every: u64,
    /// Neighbours that vote. Default 20.
    pub k: u32,
    /// A neighbour's vote weighs exp(similarity / temperature). Default 0.07.
    pub temperature: f64,
    /// Side of the images in pixels; that of the first crops when left out.
    pub size: Option<u32>,
}

impl Default for Eval {
    fn default() -> Self {
        Self { every: 0, k: 20, temperature: 0.07, size: None }
    }
}

impl Eval {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("eval.k", self.k, 1, 10_000)?;
        check::positive("eval.temperature", self.temperature)?;
        self.size.map_or(Ok(()), |size| check::within("eval.size", size, 8, 2048))
    }
}
