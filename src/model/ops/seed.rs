//! Where a backward pass begins: at a tensor whose gradient is known.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, Shape, Tensor};

/// A number whose gradient with respect to y is `dy`. Burn has no other way to begin a backward pass in the middle, and
/// the sum of y · dy would read and write maps that nobody asks for.
pub fn seed<const D: usize>(y: Tensor<D>, dy: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as Seed>::seed(y.into_dispatch(), dy.autodiff().into_dispatch()))
}

/// The beginning of a backward pass in one backend.
#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "tch"))]
pub trait Seed: Backend {
    /// Zero, as a function of y with the gradient `dy`.
    fn seed(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn zero<B: Backend>(y: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::from([1]), &y.device(), FloatDType::F32)
}

impl Seed for Flex {
    fn seed(y: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        zero::<Self>(&y)
    }
}

#[cfg(feature = "tch")]
impl Seed for burn::backend::LibTorch {
    fn seed(y: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        zero::<Self>(&y)
    }
}

/// The op's step of the backward pass.
#[derive(Debug)]
struct Step;

impl<B: Backend> Backward<B, 1> for Step {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, ops.state);
        }
    }
}

impl<B: Seed, C: CheckpointStrategy> Seed for Autodiff<B, C> {
    fn seed(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = y.node();
        let (y, dy) = (y.into_primitive(), dy.into_primitive());
        match Step.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dy, zero::<B>(&y)),
            OpsKind::UnTracked(prep) => prep.finish(zero::<B>(&y)),
        }
    }
}
