//! Batch norm whose moments may come from many lanes (Ioffe and Szegedy, 2015; synchronised as in PyTorch's SyncBatchNorm).

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::kernels::{self, Dims, PerChannel};

#[cfg(feature = "tch")]
mod channels_last;
#[cfg(feature = "tch")]
mod libtorch;

/// Added to the variance.
pub const EPSILON: f32 = 1e-5;

/// Adds vectors up over the lanes that share moments. A compute thread waits in it.
pub trait Sums: Send + Sync + Debug {
    /// The canonical sum over the group. Once the epoch has ended: zeros, and the lane program ends with its next call.
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>>;
    /// How many lanes are added.
    fn lanes(&self) -> usize;
}

/// Moments of each channel over all lanes of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: Vec<f32>,
    /// Biased variance: what values are normalised with.
    pub var: Vec<f32>,
    /// Values a channel.
    pub count: usize,
}

impl Moments {
    /// The variance that running statistics take: divided by count − 1.
    pub fn unbiased(&self) -> impl Iterator<Item = f32> + '_ {
        let scale = self.count as f32 / (self.count.max(2) - 1) as f32;
        self.var.iter().map(move |v| v * scale)
    }
}

/// How one batch norm is computed.
#[derive(Debug, Clone)]
pub struct Norm {
    /// What values are normalised with.
    pub moments: Arc<Moments>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// With whom the backward pass sums; `None`: the moments are constants (running statistics).
    pub sums: Option<Arc<dyn Sums>>,
}

/// Moments of x `[n, c, h, w]` over the lanes of `sums`. Not differentiated: [`batch_norm`]'s gradient contains it.
///
/// `shift` is a number for each channel that all lanes know and that lies near the mean (the running mean):
/// sums of squares are taken around it, so that one collective call is enough and nothing cancels.
pub fn moments(x: &Tensor<4>, shift: &[f32], sums: &dyn Sums) -> Moments {
    let [n, c, h, w] = x.dims();
    let local = values(Tensor::<2>::from_dispatch(<Dispatch as BatchNorm>::bn_moments(x.clone().inner().into_dispatch())));
    let count = n * h * w;
    if sums.lanes() == 1 {
        let var = local[c..].iter().map(|s| s / count as f32).collect();
        return Moments { mean: local[..c].to_vec(), var, count };
    }
    let (mean, squares) = local.split_at(c);
    let first = mean.iter().zip(shift).map(|(m, r)| m - r);
    let second = mean.iter().zip(shift).zip(squares).map(|((m, r), s)| s / count as f32 + (m - r).powi(2));
    let total = sums.sum(first.chain(second).collect());
    let scale = 1.0 / sums.lanes() as f32;
    let (first, second) = total.split_at(c);
    let mean = first.iter().zip(shift).map(|(m, r)| m * scale + r).collect();
    let var = first.iter().zip(second).map(|(m, s)| (s * scale - (m * scale).powi(2)).max(0.0)).collect();
    Moments { mean, var, count: count * sums.lanes() }
}

/// γ·(x − mean)/√(var + ε) + β, then ReLU if asked: x `[n, c, h, w]`, γ and β `[c]`.
pub fn batch_norm(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, norm: Norm) -> Tensor<4> {
    let y = <Dispatch as BatchNorm>::bn_apply(x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch(), Arc::new(norm));
    Tensor::from_dispatch(y)
}

/// The values of a tensor in order.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("the network computes in f32")
}

/// Batch norm of one backend. Gradients are not differentiated again.
#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "tch"))]
pub trait BatchNorm: Backend {
    /// Mean and sum of squared deviations of each channel of this lane: `[2, c]`.
    fn bn_moments(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Normalised, scaled, shifted, cut off.
    fn bn_apply(x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>, norm: Arc<Norm>) -> FloatTensor<Self>;
    /// Σ dy and Σ dy·x̂ of each channel of this lane: `[2, c]`.
    fn bn_gradient_sums(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self>;
    /// d loss / dx from the means of dy and dy·x̂ over the group.
    fn bn_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        means: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self>;
}

fn per_channel(gamma: &[f32], beta: &[f32], moments: &Moments) -> PerChannel {
    let inv: Vec<f32> = moments.var.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let a: Vec<f32> = gamma.iter().zip(&inv).map(|(g, i)| g * i).collect();
    let b = beta.iter().zip(&moments.mean).zip(&a).map(|((b, m), a)| b - m * a).collect();
    PerChannel { mean: moments.mean.clone(), inv, a, b }
}

type Flat = FloatTensor<Flex>;

fn dims(x: &Flat) -> Dims {
    let [n, c, h, w] = x.shape().dims();
    Dims { n, c, hw: h * w }
}

fn slice(x: &Flat) -> &[f32] {
    x.as_slice().expect("made contiguous, in f32")
}

impl BatchNorm for Flex {
    fn bn_moments(x: Flat) -> Flat {
        let dims = dims(&x);
        let x = x.to_contiguous();
        Flat::from_data(TensorData::new(kernels::moments(slice(&x), dims), [2, dims.c]))
    }

    fn bn_apply(x: Flat, gamma: Flat, beta: Flat, norm: Arc<Norm>) -> Flat {
        let (shape, dims) = (x.shape(), dims(&x));
        let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
        Flat::from_data(TensorData::new(kernels::apply(slice(&x), dims, &per.a, &per.b, norm.relu), shape))
    }

    fn bn_gradient_sums(x: Flat, dy: Flat, gamma: Flat, beta: Flat, norm: Arc<Norm>) -> Flat {
        let dims = dims(&x);
        let (x, dy, gamma, beta) = (x.to_contiguous(), dy.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
        Flat::from_data(TensorData::new(kernels::gradient_sums(slice(&x), slice(&dy), dims, &per, norm.relu), [2, dims.c]))
    }

    fn bn_gradient(x: Flat, dy: Flat, gamma: Flat, beta: Flat, means: Flat, norm: Arc<Norm>) -> Flat {
        let (shape, dims) = (x.shape(), dims(&x));
        let (x, dy, means) = (x.to_contiguous(), dy.to_contiguous(), means.to_contiguous());
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let per = per_channel(slice(&gamma), slice(&beta), &norm.moments);
        Flat::from_data(TensorData::new(kernels::gradient(slice(&x), slice(&dy), dims, &per, slice(&means), norm.relu), shape))
    }
}

/// Host values of a small tensor.
fn host<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let data = burn::tensor::try_read_sync(B::float_into_data(x)).expect("backends of the host answer at once");
    data.expect("a tensor that was just computed can be read").try_into_vec().expect("the network computes in f32")
}

/// The op's step of the backward pass.
#[derive(Debug)]
struct Step;

impl<B: BatchNorm> Backward<B, 3> for Step {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Arc<Norm>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [at_x, at_gamma, at_beta] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, gamma, beta, norm) = ops.state;
        let device = dy.device();
        let local = host::<B>(B::bn_gradient_sums(x.clone(), dy.clone(), gamma.clone(), beta.clone(), norm.clone()));
        let c = local.len() / 2;
        let means = match &norm.sums {
            None => vec![0.0; 2 * c],
            Some(sums) => {
                let scale = 1.0 / norm.moments.count as f32;
                let total = if sums.lanes() == 1 { Arc::new(local.clone()) } else { sums.sum(local.clone()) };
                total.iter().map(|v| v * scale).collect()
            }
        };
        let tensor = |values: Vec<f32>, shape: &[usize]| B::float_from_data(TensorData::new(values, shape), &device);
        if let Some(node) = at_x {
            let means = tensor(means, &[2, c]);
            grads.register::<B>(node.id, B::bn_gradient(x, dy, gamma, beta, means, norm));
        }
        if let Some(node) = at_gamma {
            grads.register::<B>(node.id, tensor(local[c..].to_vec(), &[c]));
        }
        if let Some(node) = at_beta {
            grads.register::<B>(node.id, tensor(local[..c].to_vec(), &[c]));
        }
    }
}

impl<B: BatchNorm, C: CheckpointStrategy> BatchNorm for Autodiff<B, C> {
    fn bn_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::bn_moments(x.into_primitive()))
    }

    fn bn_apply(x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>, norm: Arc<Norm>) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::bn_apply(x.clone(), gamma.clone(), beta.clone(), norm.clone());
                prep.finish((x, gamma, beta, norm), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::bn_apply(x, gamma, beta, norm)),
        }
    }

    fn bn_gradient_sums(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self> {
        let (x, dy, gamma, beta) = (x.into_primitive(), dy.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        <Self as AutodiffBackend>::from_inner(B::bn_gradient_sums(x, dy, gamma, beta, norm))
    }

    fn bn_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        means: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self> {
        let (x, dy, means) = (x.into_primitive(), dy.into_primitive(), means.into_primitive());
        let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
        <Self as AutodiffBackend>::from_inner(B::bn_gradient(x, dy, gamma, beta, means, norm))
    }
}
