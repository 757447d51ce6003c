//! The differentiable operations that the network is made of.
//!
//! What Burn does well enough is called through [`burn::tensor`]; batch norm is ours, because its
//! moments are sums over lanes.

pub mod batch_norm;
mod kernels;

use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

pub use batch_norm::batch_norm;

/// 2-D convolution without a bias, padded so that a stride of 1 keeps the size: x `[n, i, h, w]`, weight `[o, i / groups, k, k]`.
pub fn conv(x: Tensor<4>, weight: Tensor<4>, stride: usize, groups: usize) -> Tensor<4> {
    let [_, _, k, _] = weight.dims();
    module::conv2d(x, weight, None, ConvOptions::new([stride; 2], [k / 2; 2], [1, 1], groups))
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
