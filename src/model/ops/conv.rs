//! Grouped 2-D convolution. Burn's backward loops over groups and takes the batch for channels; ours works on maps whose channels lie innermost.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::maps::{self, made, slice};
use grid::Shape;

mod grid;
mod host;
#[cfg(feature = "tch")]
mod libtorch;
mod tile;
mod unfold;

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

/// The same map with its channels innermost, as all operations here want it. Not differentiated.
pub fn laid_out(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Conv>::conv_layout(x.into_dispatch()))
}

/// Convolution of one backend. Gradients are not differentiated again.
#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "tch"))]
pub trait Conv: Backend {
    /// The same map, channels innermost.
    fn conv_layout(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The output.
    fn conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
    /// d loss / dx.
    fn conv_dx(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
    /// d loss / d weight.
    fn conv_dw(x: FloatTensor<Self>, weight: FloatTensor<Self>, dy: FloatTensor<Self>, walk: Walk) -> FloatTensor<Self>;
}

type Flat = FloatTensor<Flex>;

fn shape(x: &Flat, weight: &Flat, walk: Walk) -> Shape {
    sizes(x.shape().dims(), weight.shape().dims(), walk)
}

fn sizes([n, input, h, w]: [usize; 4], [output, _, k, _]: [usize; 4], walk: Walk) -> Shape {
    Shape { n, input, output, h, w, k, stride: walk.stride, groups: walk.groups }
}

impl Conv for Flex {
    fn conv_layout(x: Flat) -> Flat {
        let map = maps::laid_out(&x);
        let layout = map.layout().permute(&[0, 3, 1, 2]);
        map.with_layout(layout)
    }
    fn conv(x: Flat, weight: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let weight = weight.to_contiguous();
        made(shape.out(), |y| host::forward(slice(&maps::laid_out(&x)), slice(&weight), y, shape))
    }
    fn conv_dx(x: Flat, weight: Flat, dy: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let weight = weight.to_contiguous();
        made([shape.n, shape.input, shape.h, shape.w], |dx| host::backward_input(slice(&weight), slice(&maps::laid_out(&dy)), dx, shape))
    }
    fn conv_dw(x: Flat, weight: Flat, dy: Flat, walk: Walk) -> Flat {
        let shape = shape(&x, &weight, walk);
        let dw = host::backward_weight(slice(&maps::laid_out(&x)), slice(&maps::laid_out(&dy)), shape);
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
    fn conv_layout(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::conv_layout(x.into_primitive()))
    }
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
            [3, 16, 16, 12, 11, 3, 1, 2],
            [2, 32, 32, 9, 10, 3, 2, 2],
            [5, 24, 24, 3, 3, 3, 1, 3],
            [4, 48, 48, 1, 1, 3, 2, 2],
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
