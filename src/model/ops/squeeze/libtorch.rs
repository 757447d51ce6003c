//! Squeeze-and-excitation of libtorch: our loops on the processor in f32, the library's operations everywhere else.

use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;
use tch::Tensor;

use super::{Squeeze, forward, loops};
use crate::libtorch::host::{empty_like, fresh, laid_out, ours, slice};

type Torch = FloatTensor<LibTorch>;

/// Height and width.
const OVER: [i64; 2] = [2, 3];

/// Channels, and pixels of an image.
fn sizes(x: &Tensor) -> (usize, usize) {
    let [_, c, h, w] = x.size()[..] else { panic!("a map has four dimensions") };
    (c as usize, (h * w) as usize)
}

/// `[n, c]` of sums for each channel of each image of x.
fn per_image(x: &Tensor, sums: &[f32]) -> Torch {
    Torch::new(Tensor::from_slice(sums).reshape([x.size()[0], x.size()[1]]))
}

/// `[n, c]` beside a map.
fn broadcast(x: &Tensor) -> Tensor {
    x.unsqueeze(-1).unsqueeze(-1)
}

impl Squeeze for LibTorch {
    fn squeeze(x: Torch, first: Torch, first_bias: Torch, second: Torch, second_bias: Torch) -> Torch {
        forward::<Self>(x, [first, first_bias, second, second_bias]).0
    }
    fn sq_means(x: Torch) -> Torch {
        let kind = x.tensor.kind();
        if !ours(&x.tensor) {
            return Torch::new(x.tensor.mean_dim(OVER.as_slice(), false, kind));
        }
        let (c, pixels) = sizes(&x.tensor);
        per_image(&x.tensor, &loops::means(slice(&laid_out(&x.tensor)), c, pixels))
    }
    fn sq_weigh(x: Torch, weights: Torch) -> Torch {
        if !ours(&x.tensor) {
            return Torch::new(x.tensor * broadcast(&weights.tensor));
        }
        let (c, pixels) = sizes(&x.tensor);
        let (x, weights) = (laid_out(&x.tensor), weights.tensor.contiguous());
        let y = empty_like(&x);
        loops::weigh(slice(&x), slice(&weights), fresh(&y), c, pixels);
        Torch::new(y)
    }
    fn sq_products(x: Torch, dy: Torch) -> Torch {
        let kind = x.tensor.kind();
        if !ours(&x.tensor) {
            return Torch::new((x.tensor * dy.tensor).sum_dim_intlist(OVER.as_slice(), false, kind));
        }
        let (c, pixels) = sizes(&x.tensor);
        per_image(&x.tensor, &loops::products(slice(&laid_out(&x.tensor)), slice(&laid_out(&dy.tensor)), c, pixels))
    }
    fn sq_gradient(dy: Torch, weights: Torch, d_means: Torch) -> Torch {
        let (c, pixels) = sizes(&dy.tensor);
        if !ours(&dy.tensor) {
            return Torch::new(dy.tensor * broadcast(&weights.tensor) + broadcast(&(d_means.tensor / pixels as f64)));
        }
        let (dy, weights, d_means) = (laid_out(&dy.tensor), weights.tensor.contiguous(), d_means.tensor.contiguous());
        let dx = empty_like(&dy);
        loops::gradient(slice(&dy), slice(&weights), slice(&d_means), fresh(&dx), c, pixels);
        Torch::new(dx)
    }
}
