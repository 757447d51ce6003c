//! Maps of libtorch on the processor, as our own loops read and write them.

use tch::{Device, Kind, Tensor};

use super::shim;

/// The tensor with its channels innermost.
pub(crate) fn laid_out(x: &Tensor) -> Tensor {
    shim::channels_last(x).unwrap_or_else(|error| panic!("a map cannot be laid out: {error}"))
}

/// Memory for a map like `x`, channels innermost.
pub(crate) fn empty_like(x: &Tensor) -> Tensor {
    shim::empty_channels_last(x).unwrap_or_else(|error| panic!("a map cannot be made: {error}"))
}

/// Whether our own loops may read it.
pub(crate) fn ours(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float && x.dim() == 4
}

/// The values of a dense tensor on the processor.
pub(crate) fn slice(x: &Tensor) -> &[f32] {
    assert!(x.device() == Device::Cpu && x.kind() == Kind::Float, "values in f32 on the processor");
    // SAFETY: callers pass tensors that `laid_out`, `empty_like` or `contiguous` made: dense, in f32, alive as long as the borrow.
    #[expect(unsafe_code, reason = "reads a C++ tensor in place")]
    unsafe {
        std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), x.numel())
    }
}

/// The values of a new tensor, to be written.
#[expect(clippy::mut_from_ref, reason = "the tensor was made by the caller and is not shared yet")]
pub(crate) fn fresh(x: &Tensor) -> &mut [f32] {
    assert!(x.device() == Device::Cpu && x.kind() == Kind::Float, "values in f32 on the processor");
    // SAFETY: as in `slice`; nobody else holds the memory of a tensor that has just been made.
    #[expect(unsafe_code, reason = "writes a C++ tensor in place")]
    unsafe {
        std::slice::from_raw_parts_mut(x.data_ptr().cast::<f32>(), x.numel())
    }
}
