//! Batch norm of libtorch: our loops on the processor in f32, the library's operations everywhere else. Moments and sums are f32 whatever x is.

use std::sync::Arc;

use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;
use tch::{Device, Kind, Tensor};

use super::{BatchNorm, EPSILON, Moments, Norm, channels_last, per_channel};
use crate::libtorch::shim;

type Torch = FloatTensor<LibTorch>;

/// All dimensions of a feature map but the channels.
const OVER: [i64; 3] = [0, 2, 3];

/// The tensor with its channels innermost.
fn laid_out(x: &Tensor) -> Tensor {
    shim::channels_last(x).unwrap_or_else(|error| panic!("batch norm failed: {error}"))
}

fn empty_like(x: &Tensor) -> Tensor {
    shim::empty_channels_last(x).unwrap_or_else(|error| panic!("batch norm failed: {error}"))
}

/// Whether our own loops may read it.
fn ours(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float && x.dim() == 4
}

/// The values of a dense tensor on the processor.
fn slice(x: &Tensor) -> &[f32] {
    assert!(x.device() == Device::Cpu && x.kind() == Kind::Float, "values in f32 on the processor");
    // SAFETY: callers pass tensors that `laid_out`, `empty_like` or `contiguous` made: dense, in f32, alive as long as the borrow.
    #[expect(unsafe_code, reason = "reads a C++ tensor in place")]
    unsafe {
        std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), x.numel())
    }
}

/// The values of a new tensor, to be written.
#[expect(clippy::mut_from_ref, reason = "the tensor was made by the caller and is not shared yet")]
fn fresh(x: &Tensor) -> &mut [f32] {
    assert!(x.device() == Device::Cpu && x.kind() == Kind::Float, "values in f32 on the processor");
    // SAFETY: as in `slice`; nobody else holds the memory of a tensor that has just been made.
    #[expect(unsafe_code, reason = "writes a C++ tensor in place")]
    unsafe {
        std::slice::from_raw_parts_mut(x.data_ptr().cast::<f32>(), x.numel())
    }
}

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
        let dy = dy.to_kind(Kind::Float);
        if relu { dy * (x * &self.a + &self.b).gt(0.0) } else { dy }
    }
}

fn vector(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).contiguous()
}

impl BatchNorm for LibTorch {
    fn bn_moments(x: Torch) -> Torch {
        let channels = x.tensor.size()[1];
        if ours(&x.tensor) {
            let x = laid_out(&x.tensor);
            return Torch::new(Tensor::from_slice(&channels_last::moments(slice(&x), channels as usize)).reshape([2, channels]));
        }
        let x = x.tensor.to_kind(Kind::Float);
        let mean = x.mean_dim(OVER.as_slice(), true, Kind::Float);
        let squares = (x - &mean).square().sum_dim_intlist(OVER.as_slice(), false, Kind::Float);
        Torch::new(Tensor::stack(&[mean.reshape([-1]), squares], 0))
    }

    fn bn_apply(x: Torch, gamma: Torch, beta: Torch, norm: Arc<Norm>) -> Torch {
        if ours(&x.tensor) {
            let (x, gamma, beta) = (laid_out(&x.tensor), vector(&gamma.tensor), vector(&beta.tensor));
            let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
            let y = empty_like(&x);
            channels_last::apply(slice(&x), fresh(&y), &per.a, &per.b, norm.relu);
            return Torch::new(y);
        }
        let kind = x.tensor.kind();
        let x = x.tensor.to_kind(Kind::Float);
        let per = Broadcast::new(&x, &gamma.tensor, &beta.tensor, &norm.moments);
        let y = x * per.a + per.b;
        Torch::new(if norm.relu { y.relu() } else { y }.to_kind(kind))
    }

    fn bn_gradient_sums(x: Torch, dy: Torch, gamma: Torch, beta: Torch, norm: Arc<Norm>) -> Torch {
        let channels = x.tensor.size()[1];
        if ours(&x.tensor) {
            let (x, dy) = (laid_out(&x.tensor), laid_out(&dy.tensor));
            let (gamma, beta) = (vector(&gamma.tensor), vector(&beta.tensor));
            let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
            let sums = channels_last::gradient_sums(slice(&x), slice(&dy), &per, norm.relu);
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
            let (gamma, beta) = (vector(&gamma.tensor), vector(&beta.tensor));
            let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
            let dx = empty_like(&x);
            channels_last::gradient(slice(&x), slice(&dy), fresh(&dx), &per, slice(&means), norm.relu);
            return Torch::new(dx);
        }
        let kind = x.tensor.kind();
        let x = x.tensor.to_kind(Kind::Float);
        let per = Broadcast::new(&x, &gamma.tensor, &beta.tensor, &norm.moments);
        let dy = per.cut(&x, &dy.tensor, norm.relu);
        let dx = &per.a * (dy - broadcast(&means.tensor.get(0)) - (x - &per.mean) * &per.inv * broadcast(&means.tensor.get(1)));
        Torch::new(dx.to_kind(kind))
    }
}
