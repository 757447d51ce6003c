//! `[memory]`: what a rank keeps between forward and backward.

use serde::{Deserialize, Serialize};

/// `[memory]`: what a rank keeps between forward and backward. The results are the same either way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// `"always"` computes a unit's forward again in its backward; `"never"` keeps all activations. Default `"always"`.
    pub recompute: Recompute,
}

/// When a unit's forward is computed again in its backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// In every unit: least memory.
    #[default]
    Always,
    /// In none: least work.
    Never,
}
