//! The differentiable operations that the network is made of.
//!
//! What Burn does well enough is called through [`burn::tensor`]. Batch norm is ours, because its moments are sums
//! over lanes; convolution is ours, because Burn's gradient of a grouped one is several times slower; squeeze-and-excitation and the end of a block are,
//! because a map that is read or written once more than needed is time. Maps lie with their channels innermost.

pub mod batch_norm;
pub mod conv;
mod maps;
mod product;
pub mod seed;
pub mod squeeze;

use burn::tensor::Tensor;

pub use batch_norm::{batch_norm, batch_norm_onto};
pub use conv::{conv, laid_out};
pub use seed::seed;
pub use squeeze::squeeze;

/// The calling thread is about to compute: libtorch is told to do so on this thread alone, since parallelism comes from lanes.
pub fn about_to_compute() {
    #[cfg(feature = "tch")]
    crate::libtorch::one_thread();
}

/// Mean over height and width: `[n, c, h, w]` to `[n, c]`.
pub fn pool(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c])
}

/// x·Wᵀ + b: x `[n, i]`, weight `[o, i]`, bias `[o]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight.transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// Rows divided by their Euclidean norm (at least 1e-12, as PyTorch's `normalize`).
pub fn normalize(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
