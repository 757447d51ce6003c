//! `[device]`: what the ranks compute on.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// A kind of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32 and 8 bits of precision.
    Bf16,
    /// 16 bits with 11 bits of precision, up to 65,504.
    F16,
}

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `flex`: the processor, by Burn's own backend.
    Flex,
    /// `libtorch:cpu`: the processor, by libtorch.
    LibtorchCpu,
    /// `libtorch:cuda:N`: the N-th CUDA device; without a number each rank of a machine takes the next one.
    LibtorchCuda(Option<usize>),
}

/// The device of a name.
pub fn named(name: &str) -> Option<Named> {
    Some(match name {
        "flex" => Named::Flex,
        "libtorch:cpu" => Named::LibtorchCpu,
        "libtorch:cuda" => Named::LibtorchCuda(None),
        other => Named::LibtorchCuda(Some(other.strip_prefix("libtorch:cuda:")?.parse().ok()?)),
    })
}

/// `[device]`: what the ranks compute on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// What computes. Default `"flex"`: the processor, nothing to install. With a build that has the feature `tch`: `"libtorch:cpu"`,
    /// `"libtorch:cuda:N"`, or `"libtorch:cuda"`, which gives the k-th rank of a machine its k-th CUDA device.
    pub name: String,
    /// What lanes compute in: `"f32"`, `"bf16"` or `"f16"`; the last two need libtorch. Master weights, batch norm, prototypes and codes stay f32.
    /// With `"f16"` the loss is scaled, and a step that overflows is skipped by all ranks. Default `"f32"`.
    pub precision: Precision,
    /// In what weights of trunk and head travel to the lanes: `"f32"`, `"bf16"` or `"f16"`. Default `"f32"`.
    pub gather: Precision,
    /// In what gradients of trunk and head are summed over lanes: `"f32"` or `"bf16"`. Default `"f32"`.
    pub reduce: Precision,
    /// Threads of a rank that decode and augment. Default 1.
    pub loader_threads: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self { name: "flex".into(), precision: Precision::F32, gather: Precision::F32, reduce: Precision::F32, loader_threads: 1 }
    }
}

impl Device {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::require(named(&self.name).is_some(), "device.name", || {
            (
                format!("is \"{}\", which is no device", self.name),
                "use \"flex\", \"libtorch:cpu\", \"libtorch:cuda\" or \"libtorch:cuda:N\"".into(),
            )
        })?;
        let half = self.precision != Precision::F32;
        check::require(!half || named(&self.name) != Some(Named::Flex), "device.precision", || {
            ("is not \"f32\", which flex computes in alone".into(), "use \"f32\", or a libtorch device".into())
        })?;
        check::require(self.reduce != Precision::F16, "device.reduce", || {
            ("is \"f16\", in which small gradients vanish".into(), "use \"bf16\" or \"f32\"".into())
        })?;
        check::within("device.loader_threads", self.loader_threads, 1, 1024)
    }
}
