//! `[device]`: what the ranks compute on.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// The devices that this build offers.
const DEVICES: [&str; 1] = ["flex"];

/// `[device]`: what the ranks compute on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// The backend. Default `"flex"`: the processor, nothing to install.
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
        check::require(DEVICES.contains(&self.name.as_str()), "device.name", || {
            (format!("is \"{}\", which this build does not offer", self.name), format!("use \"{}\"", DEVICES.join("\" or \"")))
        })?;
        check::within("device.loader_threads", self.loader_threads, 1, 1024)
    }
}
