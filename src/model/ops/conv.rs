//! Grouped 2-D convolution: Burn's backward loops over groups and takes the batch for channels; here all three
//! products are one matrix product for each group over a tile of images.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::im2col::{self, Shape};

#[cfg(feature = "tch")]
mod libtorch;

/// How a convolution walks: its padding is k / 2, so that a stride of 1 keeps the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Step in both directions.
    pub stride: usize,
    /// Groups of channels that see only each other.
    pub groups: usize,
}

/// Convolution without a bias: x `[n, i, h, w]`, weight `[o, i / groups, k, k]`.
pub fn conv(x: Tensor<4>, weight: Tensor<4>, stride: usize, groups: usize) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Conv>::conv(x.into_dispatch(), weight.into_dispatch(), Walk { stride, groups }))
}

/// Convolution of one backend. Gradients are not differentiated again.
#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "tch"))]
pub trait Conv: Backend {
    /// The output.
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
    /// d loss / dx.
    fn conv_dx(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
    /// d loss / d weight.
    fn conv_dw(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
}

type Flat = FloatTensor<Flex>;

fn shape(x: &Flat, weight: &Flat, walk: Walk) -> Shape {
    let [n, input, h, w] = x.shape().dims();
    let [output, _, k, _] = weight.shape().dims();
    Shape { n, input, output, h, w, k, stride: walk.stride, groups: walk.groups }
}

fn slice(x: &Flat) -> &[f32] {
    x.as_slice().expect("made contiguous, in f32")
}

impl Conv for Flex {
    fn conv(x: Flat, weight: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let y = im2col::forward(slice(&x), slice(&weight), shape);
        Flat::from_data(TensorData::new(y, [shape.n, shape.output, shape.h_out(), shape.w_out()]))
    }
    fn conv_dx(x: Flat, weight: Flat, dy: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let (weight, dy) = (weight.to_contiguous(), dy.to_contiguous());
        let dx = im2col::backward_input(slice(&weight), slice(&dy), shape);
        Flat::from_data(TensorData::new(dx, [shape.n, shape.input, shape.h, shape.w]))
    }
    fn conv_dw(x: Flat, weight: Flat, dy: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let (x, dy) = (x.to_contiguous(), dy.to_contiguous());
        let dw = im2col::backward_weight(slice(&x), slice(&dy), shape);
        Flat::from_data(TensorData::new(dw, weight.shape()))
    }
}

/// The op's step of the backward pass.
#[derive(Debug)]
struct Step;

impl<B: Conv> Backward<B, 2> for Step {
    type State = (FloatTensor<B>, FloatTensor<B>, Walk);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [at_x, at_weight] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight, walk) = ops.state;
        if let Some(node) = at_x {
            grads.register::<B>(node.id, B::conv_dx(x.clone(), weight.clone(), dy.clone(), walk));
        }
        if let Some(node) = at_weight {
            grads.register::<B>(node.id, B::conv_dw(x, weight, dy, walk));
        }
    }
}

impl<B: Conv, C: CheckpointStrategy> Conv for Autodiff<B, C> {
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        match Step.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::conv(x.clone(), weight.clone(), walk);
                prep.finish((x, weight, walk), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::conv(x, weight, walk)),
        }
    }
    fn conv_dx(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::conv_dx(x.into_primitive(), weight.into_primitive(), dy.into_primitive(), walk))
    }
    fn conv_dw(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::conv_dw(x.into_primitive(), weight.into_primitive(), dy.into_primitive(), walk))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::module;
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::model::filler::{self, distance, fill};
    use crate::model::ops::batch_norm::values;

    #[test]
    fn agrees_with_burns_own_convolution_and_its_gradients() {
        // n, input, output, h, w, k, stride, groups
        for case in [
            [2, 3, 8, 9, 9, 3, 2, 1],
            [3, 8, 8, 4, 4, 3, 1, 4],
            [2, 8, 4, 5, 7, 1, 2, 1],
            [70, 4, 6, 2, 2, 1, 1, 1],
            [65, 6, 4, 1, 1, 3, 2, 2],
            [1, 2, 2, 40, 40, 3, 1, 1],
        ] {
            let [n, i, o, h, w, k, stride, groups] = case;
            let device = filler::device().autodiff();
            let tensor = |name: &str, shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(fill(name, &shape), shape), &device);
            let run = |ours: bool| {
                let x = tensor("input.x", [n, i, h, w]).require_grad();
                let weight = tensor("input.w", [o, i / groups, k, k]).require_grad();
                let y = match ours {
                    true => conv(x.clone(), weight.clone(), stride, groups),
                    false => {
                        let options = ConvOptions::new([stride; 2], [k / 2; 2], [1, 1], groups);
                        module::conv2d(x.clone(), weight.clone(), None, options)
                    }
                };
                let dy = tensor("input.dy", y.dims());
                let mut gradients = (y.clone() * dy).sum().backward();
                let gradient = |t: &Tensor<4>, g: &mut _| values(t.grad_remove(g).unwrap());
                let (dx, dw) = (gradient(&x, &mut gradients), gradient(&weight, &mut gradients));
                [values(y.inner()), dx, dw]
            };
            for (ours, burns) in run(true).iter().zip(run(false)) {
                assert!(distance(ours, &burns) < 1e-5, "{case:?}: {:e}", distance(ours, &burns));
            }
        }
    }
}
