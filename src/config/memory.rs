//! `[memory]`: what a rank keeps between forward and backward.

use serde::{Deserialize, Serialize};

use super::check;
use super::error::Invalid;
use super::quantity::bytes;

/// `[memory]`: what a rank keeps between forward and backward. The results are the same whatever is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// `"always"` computes a unit's forward again in its backward; `"never"` keeps all activations; `"auto"` computes as little again
    /// as fits into `budget`; `"segments"` saves the input of `segments` runs of units alone, cut so that the largest is smallest. Default `"always"`.
    pub recompute: Recompute,
    /// With `"auto"`: memory of a rank's device for the lanes that `cluster.ranks` ranks give it and the weights that it gathers, such as `"40GiB"`.
    pub budget: Option<String>,
    /// With `"segments"`: how many runs of units.
    pub segments: Option<u32>,
}

/// When a unit's forward is computed again in its backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// In every unit: little memory.
    #[default]
    Always,
    /// In none: least work.
    Never,
    /// In those that do not fit into a budget.
    Auto,
    /// In all, several units at a time.
    Segments,
}

impl Memory {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::require(self.budget.is_some() || self.recompute != Recompute::Auto, "memory.budget", || {
            ("is missing".into(), "add it for `memory.recompute = \"auto\"`, such as \"40GiB\"".into())
        })?;
        if let Some(budget) = &self.budget {
            check::require(bytes(budget).is_ok_and(|bytes| bytes > 0), "memory.budget", || {
                (format!("is \"{budget}\", which is no size of memory"), "use a number with a unit, such as \"40GiB\"".into())
            })?;
        }
        check::require(self.segments.is_some() || self.recompute != Recompute::Segments, "memory.segments", || {
            ("is missing".into(), "add it for `memory.recompute = \"segments\"`, such as 4".into())
        })?;
        self.segments.map_or(Ok(()), |segments| check::within("memory.segments", segments, 1, 1024))
    }
}
