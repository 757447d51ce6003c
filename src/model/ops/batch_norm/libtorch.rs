//! Batch norm of libtorch: our loops on the processor in f32, the library's operations everywhere else. Moments and sums are f32 whatever x is.

use std::sync::Arc;

use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;
use tch::{Kind, Tensor};

use super::{BatchNorm, EPSILON, Moments, Norm, PerChannel, loops};
use crate::libtorch::host::{empty_like, fresh, laid_out, ours, slice};

type Torch = FloatTensor<LibTorch>;

/// All dimensions of a feature map but the channels.
const OVER: [i64; 3] = [0, 2, 3];

/// A vector of a channel each as `[1, c, 1, 1]` beside x.
fn broadcast(values: &Tensor) -> Tensor {
    values.reshape([1, -1, 1, 1])
}

/// What batch norm knows of each channel, on x's device and shaped like it.
struct Broadcast {
    mean: Tensor,
    inv: Tensor,
    a: Tensor,
    b: Tensor,
}

impl Broadcast {
    fn new(x: &Tensor, gamma: &Tensor, beta: &Tensor, moments: &Moments) -> Self {
        let there = |values: &[f32]| broadcast(&Tensor::from_slice(values).to_device(x.device()));
        let mean = there(&moments.mean);
        let inv = (there(&moments.var) + f64::from(EPSILON)).rsqrt();
        let a = broadcast(gamma) * &inv;
        let b = broadcast(beta) - &mean * &a;
        Self { mean, inv, a, b }
    }

    /// dy in f32, zero where the ReLU cut off.
    fn cut(&self, x: &Tensor, dy: &Tensor, relu: bool) -> Tensor {
        if !relu {
            return dy.to_kind(Kind::Float);
        }
        let mut y = x * &self.a;
        let _ = y.g_add_(&self.b);
        (dy * y.gt(0.0)).to_kind(Kind::Float)
    }
}

fn vector(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).contiguous()
}

fn per_channel(gamma: &Torch, beta: &Torch, norm: &Norm) -> PerChannel {
    PerChannel::new(slice(&vector(&gamma.tensor)), slice(&vector(&beta.tensor)), &norm.moments)
}

impl BatchNorm for LibTorch {
    fn bn_moments(x: Torch) -> Torch {
        let channels = x.tensor.size()[1];
        if ours(&x.tensor) {
            let x = laid_out(&x.tensor);
            return Torch::new(Tensor::from_slice(&loops::moments(slice(&x), channels as usize)).reshape([2, channels]));
        }
        let x = x.tensor.to_kind(Kind::Float);
        let mean = x.mean_dim(OVER.as_slice(), true, Kind::Float);
        let squares = (x - &mean).square().sum_dim_intlist(OVER.as_slice(), false, Kind::Float);
        Torch::new(Tensor::stack(&[mean.reshape([-1]), squares], 0))
    }

    fn bn_apply(x: Torch, gamma: Torch, beta: Torch, norm: Arc<Norm>) -> Torch {
        if ours(&x.tensor) {
            let x = laid_out(&x.tensor);
            let y = empty_like(&x);
            loops::apply(slice(&x), fresh(&y), &per_channel(&gamma, &beta, &norm), norm.relu);
            return Torch::new(y);
        }
        let kind = x.tensor.kind();
        let x = x.tensor.to_kind(Kind::Float);
        let per = Broadcast::new(&x, &gamma.tensor, &beta.tensor, &norm.moments);
        let y = x * per.a + per.b;
        Torch::new(if norm.relu { y.relu() } else { y }.to_kind(kind))
    }

    fn bn_onto(shortcut: Torch, x: Torch, gamma: Torch, beta: Torch, norm: Arc<Norm>) -> Torch {
        if ours(&x.tensor) {
            let (shortcut, x) = (laid_out(&shortcut.tensor), laid_out(&x.tensor));
            let y = empty_like(&x);
            loops::onto(slice(&shortcut), slice(&x), fresh(&y), &per_channel(&gamma, &beta, &norm));
            return Torch::new(y);
        }
        let y = Self::bn_apply(x, gamma, beta, norm);
        Torch::new((shortcut.tensor + y.tensor).relu())
    }

    fn bn_cut(y: Torch, dy: Torch) -> Torch {
        if ours(&y.tensor) {
            let (y, dy) = (laid_out(&y.tensor), laid_out(&dy.tensor));
            let cut = empty_like(&dy);
            loops::cut(slice(&y), slice(&dy), fresh(&cut));
            return Torch::new(cut);
        }
        Torch::new(dy.tensor * y.tensor.gt(0.0))
    }

    fn bn_gradient_sums(x: Torch, dy: Torch, gamma: Torch, beta: Torch, norm: Arc<Norm>) -> Torch {
        let channels = x.tensor.size()[1];
        if ours(&x.tensor) {
            let (x, dy) = (laid_out(&x.tensor), laid_out(&dy.tensor));
            let per = per_channel(&gamma, &beta, &norm);
            let sums = loops::gradient_sums(slice(&x), slice(&dy), &per, norm.relu);
            return Torch::new(Tensor::from_slice(&sums).reshape([2, channels]));
        }
        let x = x.tensor.to_kind(Kind::Float);
        let per = Broadcast::new(&x, &gamma.tensor, &beta.tensor, &norm.moments);
        let dy = per.cut(&x, &dy.tensor, norm.relu);
        let total = |values: &Tensor| values.sum_dim_intlist(OVER.as_slice(), false, Kind::Float);
        let second = total(&(&dy * ((x - per.mean) * per.inv)));
        Torch::new(Tensor::stack(&[total(&dy), second], 0))
    }

    fn bn_gradient(x: Torch, dy: Torch, gamma: Torch, beta: Torch, means: Torch, norm: Arc<Norm>) -> Torch {
        if ours(&x.tensor) {
            let (x, dy, means) = (laid_out(&x.tensor), laid_out(&dy.tensor), vector(&means.tensor));
            let per = per_channel(&gamma, &beta, &norm);
            let dx = empty_like(&x);
            loops::gradient(slice(&x), slice(&dy), fresh(&dx), &per, slice(&means), norm.relu);
            return Torch::new(dx);
        }
        let kind = x.tensor.kind();
        let x = x.tensor.to_kind(Kind::Float);
        let per = Broadcast::new(&x, &gamma.tensor, &beta.tensor, &norm.moments);
        let dy = per.cut(&x, &dy.tensor, norm.relu);
        // a (dy − mean(dy) − x̂ mean(dy x̂)) in as little memory as it takes: in 16 bits these maps are the largest of all.
        let mut dx = dy - broadcast(&means.tensor.get(0));
        let mut x_hat = x - &per.mean;
        let _ = x_hat.g_mul_(&per.inv).g_mul_(&broadcast(&means.tensor.get(1)));
        let _ = dx.g_sub_(&x_hat);
        drop(x_hat);
        let _ = dx.g_mul_(&per.a);
        Torch::new(dx.to_kind(kind))
    }
}
