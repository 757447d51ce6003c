//! Squeeze-and-excitation as one operation: by itself each of its ways back through a map would be a map of its own.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor, TensorData};

use super::maps::{laid_out, like, slice};

#[cfg(feature = "tch")]
mod libtorch;
mod loops;

/// The two layers between a map's means and its channels' weights.
#[derive(Debug, Clone)]
pub struct Layers {
    /// `[squeezed, c]`.
    pub first: Tensor<2>,
    /// `[squeezed]`.
    pub first_bias: Tensor<1>,
    /// `[c, squeezed]`.
    pub second: Tensor<2>,
    /// `[c]`.
    pub second_bias: Tensor<1>,
}

/// Each channel of each image times a weight from 0 to 1 that two layers make of the means of all channels: x `[n, c, h, w]`.
pub fn squeeze(x: Tensor<4>, layers: Layers) -> Tensor<4> {
    let Layers { first, first_bias, second, second_bias } = layers;
    let (first, first_bias) = (first.into_dispatch(), first_bias.into_dispatch());
    let (second, second_bias) = (second.into_dispatch(), second_bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Squeeze>::squeeze(x.into_dispatch(), first, first_bias, second, second_bias))
}

/// Squeeze-and-excitation of one backend. Gradients are not differentiated again.
#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "tch"))]
pub trait Squeeze: Backend {
    /// The whole.
    fn squeeze(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Mean over height and width: `[n, c]`.
    fn sq_means(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// x times a weight for each channel of each image `[n, c]`.
    fn sq_weigh(x: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Σ x·dy over height and width: `[n, c]`.
    fn sq_products(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
    /// d loss / dx from dy, the weights, and d loss / d means.
    fn sq_gradient(dy: FloatTensor<Self>, weights: FloatTensor<Self>, d_means: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    means: FloatTensor<B>,
    hidden: FloatTensor<B>,
    weights: FloatTensor<B>,
}

fn transposed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(x, 0, 1)
}

/// x·Wᵀ + b.
fn linear<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let width = bias.shape().num_elements();
    B::float_add(B::float_matmul(x, transposed::<B>(weight)), B::float_reshape(bias, Shape::from([1, width])))
}

/// The sum of all rows.
fn rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [_, width] = x.shape().dims();
    B::float_reshape(B::float_sum_dim(x, 0), Shape::from([width]))
}

fn forward<B: Squeeze>(x: FloatTensor<B>, layers: [FloatTensor<B>; 4]) -> (FloatTensor<B>, Saved<B>) {
    let [first, first_bias, second, second_bias] = layers;
    let means = B::sq_means(x.clone());
    let hidden = B::relu(linear::<B>(means.clone(), first.clone(), first_bias));
    let weights = B::sigmoid(linear::<B>(hidden.clone(), second.clone(), second_bias));
    let y = B::sq_weigh(x.clone(), weights.clone());
    (y, Saved { x, first, second, means, hidden, weights })
}

/// The op's step of the backward pass.
#[derive(Debug)]
struct Step;

impl<B: Squeeze> Backward<B, 5> for Step {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, first, second, means, hidden, weights } = ops.state;
        let d_second = B::sigmoid_backward(weights.clone(), B::sq_products(x, dy.clone()));
        let d_first = B::relu_backward(hidden.clone(), B::float_matmul(d_second.clone(), second));
        let d_means = B::float_matmul(d_first.clone(), first);
        let [at_x, at_first, at_first_bias, at_second, at_second_bias] = ops.parents;
        if let Some(node) = at_x {
            grads.register::<B>(node.id, B::sq_gradient(dy, weights, d_means));
        }
        if let Some(node) = at_first {
            grads.register::<B>(node.id, B::float_matmul(transposed::<B>(d_first.clone()), means));
        }
        if let Some(node) = at_first_bias {
            grads.register::<B>(node.id, rows::<B>(d_first));
        }
        if let Some(node) = at_second {
            grads.register::<B>(node.id, B::float_matmul(transposed::<B>(d_second.clone()), hidden));
        }
        if let Some(node) = at_second_bias {
            grads.register::<B>(node.id, rows::<B>(d_second));
        }
    }
}

type Flat = FloatTensor<Flex>;

/// `[n, c]` and the values of each image's channel.
fn sizes(x: &Flat) -> [usize; 3] {
    let [n, c, h, w] = x.shape().dims();
    [n, c, h * w]
}

impl Squeeze for Flex {
    fn squeeze(x: Flat, first: Flat, first_bias: Flat, second: Flat, second_bias: Flat) -> Flat {
        forward::<Self>(x, [first, first_bias, second, second_bias]).0
    }
    fn sq_means(x: Flat) -> Flat {
        let [n, c, pixels] = sizes(&x);
        Flat::from_data(TensorData::new(loops::means(slice(&laid_out(&x)), c, pixels), [n, c]))
    }
    fn sq_weigh(x: Flat, weights: Flat) -> Flat {
        let [_, c, pixels] = sizes(&x);
        like(&x, |y| loops::weigh(slice(&laid_out(&x)), slice(&weights.to_contiguous()), y, c, pixels))
    }
    fn sq_products(x: Flat, dy: Flat) -> Flat {
        let [n, c, pixels] = sizes(&x);
        let sums = loops::products(slice(&laid_out(&x)), slice(&laid_out(&dy)), c, pixels);
        Flat::from_data(TensorData::new(sums, [n, c]))
    }
    fn sq_gradient(dy: Flat, weights: Flat, d_means: Flat) -> Flat {
        let [_, c, pixels] = sizes(&dy);
        let (weights, d_means) = (weights.to_contiguous(), d_means.to_contiguous());
        like(&dy, |dx| loops::gradient(slice(&laid_out(&dy)), slice(&weights), slice(&d_means), dx, c, pixels))
    }
}

impl<B: Squeeze, C: CheckpointStrategy> Squeeze for Autodiff<B, C> {
    fn squeeze(
        x: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_bias: FloatTensor<Self>,
        second: FloatTensor<Self>,
        second_bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), first.node(), first_bias.node(), second.node(), second_bias.node()];
        let layers = [first, first_bias, second, second_bias].map(|layer| layer.into_primitive());
        let (y, saved) = forward::<B>(x.into_primitive(), layers);
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(saved, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
    fn sq_means(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::sq_means(x.into_primitive()))
    }
    fn sq_weigh(x: FloatTensor<Self>, weights: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::sq_weigh(x.into_primitive(), weights.into_primitive()))
    }
    fn sq_products(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::sq_products(x.into_primitive(), dy.into_primitive()))
    }
    fn sq_gradient(dy: FloatTensor<Self>, weights: FloatTensor<Self>, d_means: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::sq_gradient(dy.into_primitive(), weights.into_primitive(), d_means.into_primitive()))
    }
}

#[cfg(test)]
mod tests;
