//! Batch norm whose moments may come from many lanes (Ioffe and Szegedy, 2015; synchronised as in PyTorch's SyncBatchNorm).

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::maps::{laid_out, like, slice};
use loops::PerChannel;

#[cfg(feature = "tch")]
mod libtorch;
mod loops;

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

/// The end of a residual block in one go: [`batch_norm`] of x, plus `shortcut`, then ReLU.
pub fn batch_norm_onto(shortcut: Tensor<4>, x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, norm: Norm) -> Tensor<4> {
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let norm = Arc::new(Norm { relu: false, ..norm });
    Tensor::from_dispatch(<Dispatch as BatchNorm>::bn_onto(shortcut.into_dispatch(), x.into_dispatch(), gamma, beta, norm))
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
    /// Normalised, scaled, shifted, added to the shortcut, cut off below zero.
    fn bn_onto(
        shortcut: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self>;
    /// dy where y has not been cut off.
    fn bn_cut(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
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

type Flat = FloatTensor<Flex>;

fn per_channel(gamma: &Flat, beta: &Flat, norm: &Norm) -> PerChannel {
    PerChannel::new(slice(&gamma.to_contiguous()), slice(&beta.to_contiguous()), &norm.moments)
}

fn two(values: Vec<f32>) -> Flat {
    let channels = values.len() / 2;
    Flat::from_data(TensorData::new(values, [2, channels]))
}

impl BatchNorm for Flex {
    fn bn_moments(x: Flat) -> Flat {
        let channels = x.shape().dims::<4>()[1];
        two(loops::moments(slice(&laid_out(&x)), channels))
    }

    fn bn_apply(x: Flat, gamma: Flat, beta: Flat, norm: Arc<Norm>) -> Flat {
        let per = per_channel(&gamma, &beta, &norm);
        like(&x, |y| loops::apply(slice(&laid_out(&x)), y, &per, norm.relu))
    }

    fn bn_onto(shortcut: Flat, x: Flat, gamma: Flat, beta: Flat, norm: Arc<Norm>) -> Flat {
        let per = per_channel(&gamma, &beta, &norm);
        like(&x, |y| loops::onto(slice(&laid_out(&shortcut)), slice(&laid_out(&x)), y, &per))
    }

    fn bn_cut(y: Flat, dy: Flat) -> Flat {
        like(&dy, |cut| loops::cut(slice(&laid_out(&y)), slice(&laid_out(&dy)), cut))
    }

    fn bn_gradient_sums(x: Flat, dy: Flat, gamma: Flat, beta: Flat, norm: Arc<Norm>) -> Flat {
        let per = per_channel(&gamma, &beta, &norm);
        two(loops::gradient_sums(slice(&laid_out(&x)), slice(&laid_out(&dy)), &per, norm.relu))
    }

    fn bn_gradient(x: Flat, dy: Flat, gamma: Flat, beta: Flat, means: Flat, norm: Arc<Norm>) -> Flat {
        let per = per_channel(&gamma, &beta, &norm);
        let means = means.to_contiguous();
        like(&x, |dx| loops::gradient(slice(&laid_out(&x)), slice(&laid_out(&dy)), dx, &per, slice(&means), norm.relu))
    }
}

/// Host values of a small tensor.
fn host<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let data = burn::tensor::try_read_sync(B::float_into_data(x)).expect("backends of the host answer at once");
    data.expect("a tensor that was just computed can be read").try_into_vec().expect("the network computes in f32")
}

/// What the backward pass of a batch norm needs.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    norm: Arc<Norm>,
}

impl<B: BatchNorm> Saved<B> {
    /// Gives the nodes of x, γ and β their gradients.
    fn backward(self, dy: FloatTensor<B>, [at_x, at_gamma, at_beta]: [Option<NodeId>; 3], grads: &mut Gradients) {
        let Self { x, gamma, beta, norm } = self;
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
        if let Some(id) = at_x {
            let means = tensor(means, &[2, c]);
            grads.register::<B>(id, B::bn_gradient(x, dy, gamma, beta, means, norm));
        }
        if let Some(id) = at_gamma {
            grads.register::<B>(id, tensor(local[c..].to_vec(), &[c]));
        }
        if let Some(id) = at_beta {
            grads.register::<B>(id, tensor(local[..c].to_vec(), &[c]));
        }
    }
}

/// The backward step of a batch norm.
#[derive(Debug)]
struct Apply;

impl<B: BatchNorm> Backward<B, 3> for Apply {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        ops.state.backward(dy, ops.parents.map(|node| node.map(|node| node.id)), grads);
    }
}

/// The backward step of a batch norm onto a shortcut, whose output is known.
#[derive(Debug)]
struct Onto;

impl<B: BatchNorm> Backward<B, 4> for Onto {
    type State = (Saved<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [at_shortcut, at_x, at_gamma, at_beta] = ops.parents.map(|node| node.map(|node| node.id));
        let (saved, y) = ops.state;
        let dy = B::bn_cut(y, grads.consume::<B>(&ops.node));
        saved.backward(dy.clone(), [at_x, at_gamma, at_beta], grads);
        if let Some(id) = at_shortcut {
            grads.register::<B>(id, dy);
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
        let y = B::bn_apply(x.clone(), gamma.clone(), beta.clone(), norm.clone());
        match Apply.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(Saved { x, gamma, beta, norm }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn bn_onto(
        shortcut: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Arc<Norm>,
    ) -> FloatTensor<Self> {
        let nodes = [shortcut.node(), x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        let y = B::bn_onto(shortcut.into_primitive(), x.clone(), gamma.clone(), beta.clone(), norm.clone());
        match Onto.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((Saved { x, gamma, beta, norm }, y.clone()), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn bn_cut(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::bn_cut(y.into_primitive(), dy.into_primitive()))
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
