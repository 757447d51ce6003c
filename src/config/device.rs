//! `[device]`: what the ranks compute on.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

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
    /// Threads of a rank that decode and augment. Default 1.
    pub loader_threads: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self { name: "flex".into(), loader_threads: 1 }
    }
}

impl Device {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::require(named(&self.name).is_some(), "device.name", || {
            (format!("is \"{}\", which is no device", self.name), "use \"flex\", \"libtorch:cpu\", \"libtorch:cuda\" or \"libtorch:cuda:N\"".into())
        })?;
        check::within("device.loader_threads", self.loader_threads, 1, 1024)
    }
}
