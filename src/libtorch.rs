//! libtorch as a device: opened once, set so that its results repeat.

pub(crate) mod host;
pub mod shim;

use std::sync::OnceLock;

use burn::tensor::Device;

/// Why a libtorch device cannot be used: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No CUDA in the library, or no driver.
    #[error(
        "this libtorch sees no CUDA device: install the driver and build against a libtorch with CUDA (LIBTORCH_USE_PYTORCH=1), or use libtorch:cpu"
    )]
    NoCuda,
    /// Fewer devices than named.
    #[error("there is no CUDA device {asked}: this machine has {there}, counted from 0")]
    NoSuchDevice {
        /// The number asked for.
        asked: usize,
        /// How many there are.
        there: usize,
    },
    /// The library refuses to be deterministic.
    #[error(transparent)]
    Library(#[from] shim::Error),
}

/// The processor.
///
/// # Errors
/// The library cannot be made deterministic.
pub fn cpu() -> Result<Device, DeviceError> {
    open()?;
    Ok(Device::libtorch())
}

/// A CUDA device by its number.
///
/// # Errors
/// No such device, or no CUDA at all.
pub fn cuda(index: usize) -> Result<Device, DeviceError> {
    let there = cuda_devices();
    if there == 0 {
        return Err(DeviceError::NoCuda);
    }
    if index >= there {
        return Err(DeviceError::NoSuchDevice { asked: index, there });
    }
    open()?;
    Ok(Device::libtorch_cuda(index))
}

/// CUDA devices that the library sees.
pub fn cuda_devices() -> usize {
    if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or_default() } else { 0 }
}

/// Sets the library once for the process.
fn open() -> Result<(), DeviceError> {
    static OPENED: OnceLock<Result<(), shim::Error>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            tch::set_num_interop_threads(1);
            shim::repeatable()
        })
        .clone()?;
    one_thread();
    Ok(())
}

/// Makes libtorch compute on the calling thread alone. OpenMP keeps the number for each thread: a thread that begins to compute says it again.
pub fn one_thread() {
    tch::set_num_threads(1);
}
