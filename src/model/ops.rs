//! The differentiable operations that the network is made of.
//!
//! What Burn does well enough is called through [`burn::tensor`]. Batch norm is ours, because its moments are sums
//! over lanes; convolution is ours, because Burn's gradient of a grouped one is several times slower.

pub mod batch_norm;
pub mod conv;
mod im2col;
mod kernels;

use burn::tensor::Tensor;

pub use batch_norm::batch_norm;
pub use conv::conv;

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

/// Each channel of each image times its own number: x `[n, c, h, w]`, scale `[n, c]`.
pub fn scale(x: Tensor<4>, scale: Tensor<2>) -> Tensor<4> {
    let [n, c] = scale.dims();
    x * scale.reshape([n, c, 1, 1])
}

/// Rows divided by their Euclidean norm (at least 1e-12, as PyTorch's `normalize`).
pub fn normalize(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
